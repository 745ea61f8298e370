"""What is kept beside a mask: sentences, bytes, and records that are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import xxhash

from volseg.masks.record import DrawnLabel, MaskRecord, NamedNote, mask_path, mask_record, record_path, with_mask
from volseg.outcomes import FileDigest, Made, Outcome, Status

if TYPE_CHECKING:
    from pathlib import Path

RECORD = MaskRecord(
    "ct_01",
    Made("f" * 32, "o" * 32, {"ct_01.nii.gz": FileDigest(4, xxhash.xxh3_128_hexdigest(b"mask"))}),
    (DrawnLabel(1, "Leber ł", 7), DrawnLabel(4, "Spleen", 5)),
    {"SEG": 2, "RTSTRUCT": 1},
    3,
    ("labels-resampled", "unheard-of"),
    (NamedNote("contours-cross", 2, ("Spleen",)), NamedNote("unheard-of", 1, ())),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    mask = mask_path(tmp_path, "ct_01")
    mask.parent.mkdir()
    mask.write_bytes(b"mask")
    RECORD.write(record_path(tmp_path, "ct_01"))
    return tmp_path


def test_a_record_comes_back(folder: Path) -> None:
    assert mask_record(folder, "ct_01") == RECORD
    before = record_path(folder, "ct_01").read_bytes()
    RECORD.write(record_path(folder, "ct_01"))
    assert record_path(folder, "ct_01").read_bytes() == before


def test_its_sentences_say_what_a_person_has_to_know() -> None:
    assert RECORD.message == (
        "Mask of 2 structures from 1 RTSTRUCT and 2 SEG: Leber ł (7 voxels), Spleen (5 voxels). "
        "3 times two structures claimed a voxel, and the smaller one got it: --regions writes each of them "
        "whole."
    )
    assert RECORD.warnings == (
        "Structures were drawn on another grid than their image's; each voxel took the label there.",
        "2 pairs of contours of Spleen cross; what lies inside both was left out.",
    )
    many = MaskRecord("x", Made("", ""), tuple(DrawnLabel(n, f"s{n}", 1) for n in range(1, 20)), {"SEG": 1})
    assert many.message.endswith("s12 (1 voxels) and 7 more.")


def test_an_outcome_gets_the_mask_and_the_place_to_which_the_image_moved(folder: Path) -> None:
    (folder / "imagesTr").mkdir()
    (folder / "imagesTr/ct_01.nii.gz").touch()
    outcome = Outcome("ct_01", Status.DONE, "done", "Same grid.", ("imagesTs/ct_01.nii.gz",), ("A head.",))
    told = with_mask(outcome, folder)
    assert told.message == f"Same grid. {RECORD.message}"
    assert told.warnings == ("A head.", *RECORD.warnings)
    assert told.outputs == ("imagesTr/ct_01.nii.gz", "labelsTr/ct_01.nii.gz", "labelsTr/ct_01.json")
    mask_path(folder, "ct_01").write_bytes(b"MASK")
    assert with_mask(outcome, folder).warnings[-1].startswith("Somebody has changed its files")
    mask_path(folder, "ct_01").unlink()
    assert with_mask(outcome, folder) == outcome


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[1]", b'{"format": 2}', b'{"patient": "x"}', b"\xff", b"[" * 100_000, b" " * (2**24 + 1)],
    ids=lambda raw: f"{raw[:12]!r} of {len(raw)}",
)
def test_what_is_no_record_counts_as_none(raw: bytes, folder: Path) -> None:
    record_path(folder, "ct_01").write_bytes(raw)
    assert mask_record(folder, "ct_01") is None


def test_the_record_of_another_case_or_form_is_none(folder: Path) -> None:
    path = record_path(folder, "ct_01")
    text = path.read_text()
    for old, new in (('"case": "ct_01"', '"case": "ct_02"'), ('"format": 1', '"format": 2')):
        assert old in text
        path.write_text(text.replace(old, new))
        assert mask_record(folder, "ct_01") is None

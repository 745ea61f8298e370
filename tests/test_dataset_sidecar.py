"""The sidecar beside an image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from volseg.dataset.sidecar import Origin, Sidecar, read_origin, read_sidecar, sidecar_path, was_resampled
from volseg.errors import FileError, InputError
from volseg.grid import Grid

SOURCE = Grid((10, 11, 12), np.array([[0.4, 0.1, 0, 5], [-0.1, 0.4, 0, 6], [0, 0, 3, 1 / 3], [0, 0, 0, 1]]))
SIDECAR = Sidecar(
    case="mr_abc",
    modality="MR",
    patient="p1",
    study="s1",
    series="r1",
    source_grid=SOURCE,
    target_grid=SOURCE.with_spacing((1.0, 1.0, 1.0)),
    resampled=True,
    changes=("tilt-repaired",),
    notes={"no-preamble": 12},
    acquisition={"repetition_time_ms": 500.5, "echo_train_length": 3, "sequence": "SE", "flip": (1.0, 2.5)},
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "mr_abc.json"
    SIDECAR.write(path)
    found = read_sidecar(path)
    for name in ("case", "modality", "patient", "study", "series", "resampled", "changes", "notes"):
        assert getattr(found, name) == getattr(SIDECAR, name)
    assert dict(found.acquisition) == dict(SIDECAR.acquisition)
    np.testing.assert_array_equal(found.source_grid.affine, SIDECAR.source_grid.affine)
    np.testing.assert_array_equal(found.target_grid.affine, SIDECAR.target_grid.affine)
    assert found.target_grid.shape == SIDECAR.target_grid.shape
    assert read_origin(path) == Origin("p1", "MR", resampled=True)


def test_the_json_is_plain_and_the_same_each_time() -> None:
    content = json.loads(SIDECAR.to_json())
    assert content["patient"] == "p1"
    assert content["source_grid"]["shape"] == [10, 11, 12]
    np.testing.assert_allclose(content["source_grid"]["spacing_mm"], [np.hypot(0.4, 0.1)] * 2 + [3])
    assert SIDECAR.to_json() == SIDECAR.to_json()


def test_it_lies_beside_its_image() -> None:
    assert sidecar_path(Path("a/b.c.nii.gz")) == Path("a/b.c.json")
    assert sidecar_path(Path("a/b.nrrd")) == Path("a/b.json")


def test_others_sidecars_tell_what_they_can(tmp_path: Path) -> None:
    path = tmp_path / "bids.json"
    path.write_text('{"Modality": "MR", "EchoTime": 0.003, "ImageType": ["ORIGINAL"], "patient": "p", "modality": 7}')
    assert read_origin(path) == Origin("p", None, resampled=False)


def test_whether_an_image_was_resampled(tmp_path: Path) -> None:
    image = tmp_path / "mr_abc.nii.gz"
    assert not was_resampled(image)
    SIDECAR.write(sidecar_path(image))
    assert was_resampled(image)
    sidecar_path(image).write_text("{}")
    assert not was_resampled(image)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b'{"patient": 5}', b"[" * 100_000, b"{}" + b" " * 2**21, b"\xff", b"NaN", b'{"PatientName": "X^Y"',
        b'{"Modality": "MR", "modality": ["MR"], "patient": {"id": 4}, "resampled": "yes", "format": 2.5, "case": []}',
    ],
    ids=lambda content: repr(content[:30]),
)  # fmt: skip
def test_whatever_another_program_wrote_says_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert read_origin(path) == Origin()


@pytest.mark.parametrize("length", [40, 200, -2])
def test_a_damaged_one_of_volseg_is_refused(length: int, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(SIDECAR.to_json()[:length])
    for read in (read_origin, read_sidecar):
        with pytest.raises(InputError) as caught:
            read(path)
        assert caught.value.code == "bad-sidecar"


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"resampled": "maybe"},
        {"source_grid": {"shape": [1, 2], "affine": []}},
        {"source_grid": {"shape": [1, 2, 3], "affine": [[0.0] * 4] * 4}},
        {"acquisition": {"x": {"nested": 1}}},
    ],
    ids=str,
)
def test_a_field_that_makes_no_sense_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(json.loads(SIDECAR.to_json()) | change))
    with pytest.raises(InputError) as caught:
        read_sidecar(path)
    assert caught.value.code == "bad-sidecar"


def test_an_absent_one_and_a_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="does not exist"):
        read_sidecar(tmp_path / "none.json")
    with pytest.raises(FileError, match="is a folder, not a file"):
        read_origin(tmp_path)

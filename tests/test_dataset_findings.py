"""What the check found is kept by content: it is used where nothing has changed, and nowhere else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from volseg.dataset import examination, findings
from volseg.dataset.dataset import read_dataset
from volseg.dataset.faults import find_faults, require_measured, require_sound
from volseg.errors import DataSetError

if TYPE_CHECKING:
    from tests.conftest import MakeDataset


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose voxels were read, in order."""
    names: list[str] = []
    read_volume = examination.read_volume

    def noted(path: Path) -> object:
        names.append(path.relative_to(path.parents[1]).as_posix())
        return read_volume(path)

    monkeypatch.setattr(examination, "read_volume", noted)
    return names


def entries() -> list[Path]:
    return sorted((Path(os.environ["VOLSEG_CACHE_DIR"]) / "findings").iterdir())


def changed(path: Path) -> None:
    """Other content of the same size, with the same times: an image that stores its voxels as they are."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_a_second_look_reads_no_voxels_and_finds_the_same(make_dataset: MakeDataset, read: list[str]) -> None:
    root = make_dataset(3)
    first = require_measured(read_dataset(root))
    assert len(read) == 6
    sound, found = require_sound(read_dataset(root)), find_faults(root)
    read.clear()
    assert require_measured(read_dataset(root)) == first
    assert (require_sound(read_dataset(root)), find_faults(root)) == (sound, found)
    assert read == []


def test_other_content_of_the_same_name_size_and_time_is_read(make_dataset: MakeDataset, read: list[str]) -> None:
    import nibabel

    root = make_dataset(2)
    for path in (root / "imagesTr").glob("*.nii.gz"):
        nibabel.save(nibabel.load(path), path.with_name(path.name.removesuffix(".gz")))
        path.unlink()
    (root / "dataset.json").unlink(missing_ok=True)
    before = require_sound(read_dataset(root))
    read.clear()
    changed(root / "imagesTr" / "case_1.nii")
    after = require_sound(read_dataset(root))
    assert read == ["labelsTr/case_1.nii.gz", "imagesTr/case_1.nii"]
    assert after["case_0"] == before["case_0"]
    assert after["case_1"].digest != before["case_1"].digest


@pytest.mark.parametrize("damage", [b"", b"{", b"0" * 32 + b"\n{}"])
def test_a_damaged_entry_is_made_anew(make_dataset: MakeDataset, read: list[str], damage: bytes) -> None:
    root = make_dataset(2)
    first = require_measured(read_dataset(root))
    whole = [path.read_bytes() for path in entries()]
    for path, content in zip(entries(), whole, strict=True):
        path.write_bytes(damage or content.replace(b"RAS", b"LAS"))
    read.clear()
    assert require_measured(read_dataset(root)) == first
    assert len(read) == 4
    assert [path.read_bytes() for path in entries()] == whole


def test_other_labels_are_checked_anew(make_dataset: MakeDataset) -> None:
    root = make_dataset(2)
    require_sound(read_dataset(root))
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1}}))
    with pytest.raises(DataSetError, match="label"):
        require_sound(read_dataset(root))


def test_a_case_with_errors_is_read_each_time(make_dataset: MakeDataset, read: list[str]) -> None:
    import nibabel

    root = make_dataset(1)
    path = root / "imagesTr" / "case_0.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.full(image.shape, np.nan, np.float32), image.affine), path)
    assert "not-finite" in {one.code for one in find_faults(root)}
    read.clear()
    assert "not-finite" in {one.code for one in find_faults(root)}
    assert read


def test_nothing_is_needed_of_the_cache(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_dataset(2)
    expected = require_measured(read_dataset(root))
    place = root / "a file"
    place.write_text("in the way")
    monkeypatch.setenv("VOLSEG_CACHE_DIR", str(place))
    assert require_measured(read_dataset(root)) == expected


def test_what_others_may_have_written_is_not_believed(make_dataset: MakeDataset, read: list[str]) -> None:
    root = make_dataset(1)
    first = require_measured(read_dataset(root))
    read.clear()
    folder = entries()[0].parent
    folder.chmod(0o777)
    assert require_measured(read_dataset(root)) == first
    assert len(read) == 2
    folder.chmod(0o700)
    read.clear()
    assert require_measured(read_dataset(root)) == first
    assert read == []


def test_another_version_of_a_library_finds_anew(
    make_dataset: MakeDataset, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_dataset(1)
    require_measured(read_dataset(root))
    read.clear()
    installed = findings.version
    monkeypatch.setattr(findings, "version", lambda name: "99" if name == "scipy" else installed(name))
    findings._rules.cache_clear()
    try:
        require_measured(read_dataset(root))
    finally:
        findings._rules.cache_clear()
    assert len(read) == 2

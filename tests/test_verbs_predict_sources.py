"""Where the images of a case lie that are written for its mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk

from tests.nifti import voxels
from volseg.dataset.case import Case
from volseg.verbs.predict.sources import FileSource

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, value: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((3, 4, 5), value, np.float32)
    values[0, 0, 0] = 0
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    return path


def test_channels_that_are_called_alike_in_their_folders_stay_apart(tmp_path: Path) -> None:
    images = tuple(write(tmp_path / kind / "001.nrrd", value) for value, kind in enumerate(("flair", "t1"), 1))
    prepared = FileSource(Case("a", images, None)).prepare(tmp_path / "out")
    assert [voxels(image).max() for image in prepared.case.images] == [1, 2]


def test_images_of_cases_that_are_called_alike_stay_apart(tmp_path: Path) -> None:
    sources = [
        FileSource(Case(name, (write(tmp_path / name / "t1.mha", value),), None)) for value, name in enumerate("ab", 1)
    ]
    images = [source.prepare(tmp_path / "out").case.images[0] for source in sources]
    assert [voxels(image).max() for image in images] == [1, 2]
    assert [source.written() for source in sources] == [("images/a.nii.gz",), ("images/b.nii.gz",)]


@pytest.mark.parametrize("suffix", ["nii.gz", "mha"])
def test_of_several_channels_those_are_written_that_are_not_plain(suffix: str, tmp_path: Path) -> None:
    images = (write(tmp_path / f"x_0000.{suffix}", 1), write(tmp_path / "x_0001.mha", 2))
    source = FileSource(Case("x", images, None))
    assert source.written()[-1] == "images/x_0001.nii.gz"
    assert len(source.written()) == (1 if suffix == "nii.gz" else 2)
    assert source.prepare(tmp_path).case.images == source.images(tmp_path)

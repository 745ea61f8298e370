"""Label objects of the wild: real masks that come back voxel by voxel, and files that were made to break their reader."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import contourpy
import numpy as np
import pydicom
import pytest

from tests.dicom_traps.stack import Stack, write_stack
from tests.drawn import Roi, circle, read_images, segmentation, structure_set
from volseg.dicom import scan
from volseg.dicom.file import tags
from volseg.dicom.file.files import LABEL_OBJECTS
from volseg.dicom.file.header import read_header
from volseg.dicom.labels.matching import read_label_object
from volseg.errors import VolsegError
from volseg.resampling import resample
from volseg.volume import read_mask

if TYPE_CHECKING:
    from conftest import RealData

    from volseg.dicom.series.series import Series

MUTATIONS = 400


@pytest.fixture
def abdomen(real_data: RealData, tmp_path: Path) -> tuple[Path, Series, np.ndarray]:
    """A CT with 31 organs, whose files have lost their UIDs and get new ones: folder, series, labels on its slices."""
    folder = real_data("volumes/totalsegmentator")
    (tmp_path / "ct").mkdir()
    for number, path in enumerate(sorted((folder / "example_ct_dicom").iterdir()), start=1):
        ds = pydicom.dcmread(path)
        ds.SOPClassUID, ds.SOPInstanceUID = (
            ds.file_meta.MediaStorageSOPClassUID,
            ds.file_meta.MediaStorageSOPInstanceUID,
        )
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientID, ds.InstanceNumber = "1.2.3", "1.2.3.4", "x", number
        ds.save_as(tmp_path / "ct" / f"{number}")
    (series,) = scan(tmp_path / "ct").series
    mask = resample(read_mask(folder / "example_seg_dicom.nii.gz"), series.grid, interpolation="nearest")
    return tmp_path, series, mask.array.T


def test_real_organs_come_back_from_their_contours_voxel_by_voxel(abdomen: tuple[Path, Series, np.ndarray]) -> None:
    """Contours that contourpy draws half-way between voxels hold the same voxels, holes included."""
    folder, series, planes = abdomen
    geometry = series.geometry
    rois = []
    for index in np.unique(planes)[1:]:
        contours = [
            geometry.positions_mm[k] + (line[:-1] - 1) * geometry.pixel_mm @ geometry.axes[:2]
            for k in np.flatnonzero((planes == index).any(axis=(1, 2)))
            for line in contourpy.contour_generator(z=np.pad(planes[k] == index, 1).astype(float)).lines(0.5)
        ]
        rois.append(Roi(f"organ {index}", contours))
    assert sum(len(roi.contours) for roi in rois) > 500
    path = structure_set(folder / "rs", read_images(folder / "ct"), rois)
    found = read_label_object(read_header(path), "rs")
    drawing = found.draw(series, {one.number: int(one.name.split()[1]) for one in found.structures})
    np.testing.assert_array_equal(drawing.labels, planes)
    assert drawing.overlaps == 0
    assert {note.code for note in drawing.notes} <= {"slices-left-out"}


def test_real_organs_come_back_from_a_segmentation(abdomen: tuple[Path, Series, np.ndarray]) -> None:
    folder, series, planes = abdomen
    images = sorted(read_images(folder / "ct"), key=lambda ds: float(ds.ImagePositionPatient[2]))
    indices = np.unique(planes)[1:]
    for kind in ("BINARY", "LABELMAP"):
        pixels = np.stack([planes == index for index in indices], axis=-1).astype(np.uint8)
        path = segmentation(folder / kind, images, pixels, [f"organ {index}" for index in indices], kind)
        found = read_label_object(read_header(path), kind)
        drawing = found.draw(series, {one.number: int(one.name.split()[1]) for one in found.structures})
        np.testing.assert_array_equal(drawing.labels, planes)


STACK = Stack(size=(13, 11), gaps_mm=(2.5,) * 6)


def _whole_files(folder: Path) -> tuple[list[bytes], Series]:
    write_stack(folder / "ct", STACK)
    images = read_images(folder / "ct")
    noise = (np.random.default_rng(0).random((7, 11, 13, 2)) < 0.4).astype(np.uint8)
    paths = [
        segmentation(folder / "binary", images, noise, ("A", "B")),
        segmentation(folder / "fraction", images, noise.astype(float), ("A", "B"), "FRACTIONAL"),
        segmentation(folder / "map", images, noise[..., 0], ("A",), "LABELMAP"),
        structure_set(folder / "rs", images, [Roi("A", [circle(STACK, k, (4, 3), 2) for k in range(7)])]),
    ]
    (series,) = scan(folder / "ct").series
    return [path.read_bytes() for path in paths], series


def _mutated(raw: bytes, chance: random.Random) -> bytes:
    changed = bytearray(raw)
    how = chance.randrange(5)
    for _ in range(chance.randrange(1, 6)):
        place = chance.randrange(132, len(changed))
        if how == 0:
            changed[place] ^= 1 << chance.randrange(8)
        elif how == 1:
            changed[place] = chance.randrange(256)
        elif how == 2:
            lengths = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0xE000FFFE, 0xE0DDFFFE, 0xE00DFFFE)
            changed[place : place + 4] = chance.choice(lengths).to_bytes(4, "little")
        elif how == 3:
            other, length = chance.randrange(132, len(changed)), chance.randrange(1, 40)
            one, two = bytes(changed[place : place + length]), bytes(changed[other : other + length])
            changed[place : place + length], changed[other : other + length] = two, one
        else:
            del changed[max(200, place) :]
    return bytes(changed)


def test_mutated_label_objects_end_in_an_error_of_volseg_or_in_a_drawing(tmp_path: Path) -> None:
    raws, series = _whole_files(tmp_path)
    chance = random.Random(0)
    path = tmp_path / "mutated"
    drawn = refused = 0
    for number in range(MUTATIONS):
        path.write_bytes(_mutated(raws[number % len(raws)], chance))
        try:
            header = read_header(path)
            if header.uid(tags.SOP_CLASS_UID) not in LABEL_OBJECTS:
                continue
            found = read_label_object(header, "mutated")
            drawing = found.draw(series, {one.number: 1 + place for place, one in enumerate(found.structures)})
        except VolsegError as error:
            assert error.code  # noqa: PT017
            refused += 1
        else:
            assert drawing.labels.max() <= len(found.structures)
            drawn += 1
    assert drawn > MUTATIONS / 20
    assert refused > MUTATIONS / 3

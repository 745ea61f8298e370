"""A real head from a tilted gantry: structures that were marked by eye on its slices lie where the scanner saw them.

The marks were set on enlarged pictures of the slices as they are stored, in the middle of each structure's outline,
and compared with pictures of the converted planes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pydicom
import pytest
from scipy import ndimage

from tests.conftest import SHARED_DATA
from volseg.outcomes import Status
from volseg.verbs.convert import ConvertOptions, convert

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Landmark:
    """A structure seen on one slice.

    Args:
        what: it is.
        instance: the InstanceNumber of the slice.
        pixel: column and row of the middle of its outline, counted from 0.
        lps_mm: that place in the patient, by ImagePositionPatient and ImageOrientationPatient.
        border_hu: between the values of the structure and of what lies around it.
        is_dark: whether it is darker than what lies around it.
        gone_mm: so far to either side along the normal of the slices there is nothing of it; None for a structure
            that goes on, or in what looks alike.
    """

    what: str
    instance: int
    pixel: tuple[float, float]
    lps_mm: tuple[float, float, float]
    border_hu: float
    is_dark: bool = False
    gone_mm: float | None = None

    def __str__(self) -> str:
        return self.what.split(",")[0]

    def offset(self, plane: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """From a place in a plane to the middle of the structure that covers it, in voxels; None where none does."""
        inside = plane < self.border_hu if self.is_dark else plane > self.border_hu
        pieces, _ = ndimage.label(inside)
        piece = pieces[tuple(np.rint(at).astype(int))]
        return np.array(ndimage.center_of_mass(pieces == piece)) - at if piece else None


LANDMARKS = (
    Landmark(
        "right styloid process, cut across: a bright oval behind the jaw and nearer to the middle",
        2, (168, 281), (-42.969, 6.576, -33.480), 500,
    ),
    Landmark(
        "calcified pineal gland, the hindmost and largest of three bright dots behind the third ventricle",
        17, (250, 296), (-2.930, 13.522, 30.736), 70, gone_mm=4,
    ),
    Landmark(
        "calcified choroid plexus of the left side ventricle, a bright bean",
        18, (314, 305), (28.320, 17.689, 36.721), 80, gone_mm=8,
    ),
    Landmark(
        "calcified choroid plexus of the right side ventricle, a bright bean with a tail to the front",
        19, (201, 334), (-26.855, 31.118, 39.608), 80, gone_mm=8,
    ),
    Landmark(
        "dark pit in the skull near the vertex, left and behind, with four corners",
        27, (289.5, 367.5), (16.357, 46.630, 93.458), 200, is_dark=True,
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Path:
    found = SHARED_DATA / "dicom" / "ct-gantry-tilt-ge"
    if not found.is_dir():
        pytest.skip("the third-party data dicom/ct-gantry-tilt-ge is not beside the project")
    return found


@pytest.fixture(scope="module")
def slices(folder: Path) -> list[Dataset]:
    """Ascending along the patient."""
    found = [pydicom.dcmread(path) for path in folder.rglob("*") if path.is_file()]
    return sorted(found, key=lambda data: float(data.ImagePositionPatient[2]))


@pytest.fixture(scope="module", params=[("native",), (1.0,)], ids=["native", "1 mm"])
def image(
    folder: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> nibabel.Nifti1Image:
    out = tmp_path_factory.mktemp("nifti")
    (outcome,) = convert(folder, out, ConvertOptions(spacing=request.param, jobs=1)).outcomes
    assert outcome.status is Status.DONE
    found = nibabel.load(out / outcome.outputs[0])
    assert isinstance(found, nibabel.Nifti1Image)
    return found


def voxel_of(mark: Landmark, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where a mark lies in an image whose affine goes to RAS."""
    x, y, z = mark.lps_mm
    found: NDArray[np.float64] = (np.linalg.inv(affine) @ (-x, -y, z, 1))[:3]
    return found


def plane_at(array: NDArray[np.number], depth: float) -> NDArray[np.float64]:
    """The plane at a depth between two of a volume's, by linear interpolation."""
    below = min(int(depth), array.shape[2] - 2)
    part = depth - below
    return array[:, :, below] * (1 - part) + array[:, :, below + 1] * part


@pytest.mark.parametrize("mark", LANDMARKS, ids=str)
def test_the_marks_are_on_the_structures_as_the_headers_place_them(mark: Landmark, slices: list[Dataset]) -> None:
    (data,) = (data for data in slices if data.InstanceNumber == mark.instance)
    along_row, along_column = np.reshape(np.array(data.ImageOrientationPatient, float), (2, 3))
    (column, row), (row_mm, column_mm) = mark.pixel, map(float, data.PixelSpacing)
    lps_mm = np.array(data.ImagePositionPatient, float) + column * column_mm * along_row + row * row_mm * along_column
    np.testing.assert_allclose(mark.lps_mm, lps_mm, atol=0.001)
    hounsfield = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
    offset = mark.offset(hounsfield.T, np.array(mark.pixel))
    assert offset is not None
    assert np.abs(offset).max() <= 1


@pytest.mark.parametrize("mark", LANDMARKS, ids=str)
def test_each_structure_lies_within_a_voxel_of_its_mark(mark: Landmark, image: nibabel.Nifti1Image) -> None:
    array = np.asanyarray(image.dataobj)
    *at, depth = voxel_of(mark, image.affine)
    offset = mark.offset(plane_at(array, depth), np.array(at))
    assert offset is not None
    assert np.abs(offset).max() <= 1
    if mark.gone_mm is not None:
        step = mark.gone_mm / float(np.linalg.norm(image.affine[:3, 2]))
        for beyond in (depth - step, depth + step):
            assert mark.offset(plane_at(array, beyond), np.array(at)) is None


@pytest.mark.parametrize("mark", LANDMARKS, ids=str)
def test_slices_stacked_as_if_nothing_were_tilted_fail_by_every_mark(mark: Landmark, slices: list[Dataset]) -> None:
    """So the marks would tell a volume that is wrong."""
    array = np.stack([data.pixel_array.T * data.RescaleSlope + data.RescaleIntercept for data in slices], axis=2)
    first, last = slices[0], slices[-1]
    axes = np.reshape(np.array(first.ImageOrientationPatient, float), (2, 3))
    normal = np.cross(*axes)
    origin = np.array(first.ImagePositionPatient, float)
    step_mm = normal @ (np.array(last.ImagePositionPatient, float) - origin) / (len(slices) - 1)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack((*axes, normal)) * (*map(float, first.PixelSpacing), step_mm)
    affine[:3, 3] = origin
    *at, depth = voxel_of(mark, np.diag((-1.0, -1.0, 1.0, 1.0)) @ affine)
    offset = mark.offset(plane_at(array, depth), np.array(at))
    assert offset is None or np.abs(offset).max() > 1

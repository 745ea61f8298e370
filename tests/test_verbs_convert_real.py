"""Convert on real series, compared with SimpleITK, dcm2niix and references that came with the data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from tests.conversions import codes, only_image, the_image
from volseg.dataset.sidecar import read_sidecar
from volseg.outcomes import Status
from volseg.verbs.convert import ConvertOptions, convert
from volseg.volume import read_volume

if TYPE_CHECKING:
    from conftest import RealData
    from numpy.typing import NDArray

NATIVE = ConvertOptions(spacing=("native",), jobs=1)

# Folders of the real data, the outcomes of each, and the files that are passed over; see the README there.
REAL = {
    "mr-t1-head": (Counter({"done": 2}), {}),
    "cbct-with-rtstruct": (Counter({"done": 1, "nothing-to-draw": 1}), {"structure of points or open lines": 3}),
    "ct-gantry-tilt-ge": (Counter({"done": 1}), {}),
    "faulty-series": (
        Counter({"done": 1, "missing-slice": 1, "one-position": 1, "too-few-slices": 3}),
        {},
    ),
    "mr-localizer-three-orientations": (Counter({"done": 3}), {}),
    "mr-4d-nih": (Counter({"done": 48}), {"file that is not DICOM": 26}),
    "one-image-nine-syntaxes": (Counter({"done": 9}), {"file that is not DICOM": 18}),
    "mr-enhanced": (Counter({"done": 6}), {"file that is not DICOM": 13}),
    "mr-pacs-mangled": (Counter({"done": 8}), {"file that is not DICOM": 4}),
    "vendors": (Counter({"done": 6, "siemens-mosaic": 1}), {"secondary capture": 4}),
    "codecs-wg04": (Counter({"one-position": 4}), {}),
    "segmentation-objects": (
        Counter(
            {
                "done": 5, "one-position": 1, "labels-without-series": 11,
                "labels-of-refused-series": 1,
            }
        ),
        {
            "file that is not DICOM": 3, "microscopy annotation": 1, "microscopy image": 8,
            "projection X-ray image": 1, "structured report": 2,
        },
    ),
    "hostile": (
        Counter({"nested-too-deep": 1, "one-position": 1}),
        {"image without pixel data": 3, "secondary capture": 1, "structured report": 1, "unknown object": 2},
    ),
}  # fmt: skip
ROUNDED_POSITIONS_MM = {"12-T1post": 0.1}
"""Series that lean by the rounding of their positions: half the drift from end to end, where the two ways to lay an
affine through them part."""


def assert_same_in_world(
    ours: Path, array: NDArray[np.generic], affine: NDArray[np.float64], tolerance_mm: float, rtol: float = 0
) -> None:
    """Every voxel of ours lies, within the tolerance, on a voxel of the other with the same value, and none is over."""
    mine = nibabel.load(ours)
    assert isinstance(mine, nibabel.Nifti1Image)
    step = np.linalg.inv(affine) @ mine.affine
    turn = np.rint(step[:3, :3]).astype(int)
    np.testing.assert_array_equal(np.abs(turn).sum(axis=0), 1)
    axes = np.abs(turn).argmax(axis=0)
    flips = [axis for axis in range(3) if turn[axes[axis], axis] < 0]
    turned = np.flip(array.transpose(axes), flips)
    assert turned.shape == mine.shape
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(mine.shape) - 1)
    start = np.where(turn.sum(axis=1) < 0, np.array(array.shape) - 1, 0)
    apart = nibabel.affines.apply_affine(mine.affine, corners) - nibabel.affines.apply_affine(
        affine, corners @ turn.T + start
    )
    assert np.linalg.norm(apart, axis=1).max() <= tolerance_mm
    np.testing.assert_allclose(np.asanyarray(mine.dataobj), turned, rtol=rtol, atol=0)


def normal_axis(image: nibabel.Nifti1Image) -> int:
    """Which of x, y, z is nearest to the normal of the slices."""
    return int(np.abs(image.affine[:3, 2] / np.linalg.norm(image.affine[:3, 2])).argmax())


def read_with_itk(files: list[str]) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    image = sitk.ReadImage(files)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine


def dcm2niix() -> str:
    found = shutil.which("dcm2niix", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert found is not None, "dcm2niix is a development dependency"
    return found


@pytest.mark.parametrize("name", REAL)
def test_real_folders_end_as_their_table_says(name: str, real_data: RealData, tmp_path: Path) -> None:
    ledger = convert(real_data(f"dicom/{name}"), tmp_path, NATIVE)
    expected, kinds = REAL[name]
    assert codes(ledger.outcomes) == expected
    assert ledger.skipped_kinds == kinds
    done = [outcome for outcome in ledger.outcomes if outcome.status is Status.DONE]
    assert sorted(the_image(tmp_path, outcome) for outcome in done) == sorted(tmp_path.glob("images*/*.nii.gz"))


PADDED = ("segmentation-objects/dcmqi/ct-3slice",)


@pytest.mark.parametrize(
    "name",
    [
        "cbct-with-rtstruct",
        "mr-t1-head/12-T1post",
        "mr-t1-head/13-hippocampus-crop",
        "vendors/ge-anatomical-001",
        "vendors/siemens-anatomical-001",
        "vendors/philips-anatomical-001",
        "vendors/philips-anatomical-001_implicit",
        "vendors/generic-anatomical-002_non_isotropic",
        "vendors/generic-compressed-001",
        "vendors/generic-compressed_j2k-001",
        "vendors/generic-compressed_jpegls-001",
        "vendors/generic-compressed_rle-001",
        "segmentation-objects/dcmqi/ct-3slice",
        "segmentation-objects/dcmqi/24x38x3/image",
        "segmentation-objects/dcmqi/23x38x3/image",
        "mr-localizer-three-orientations",
    ],
)
def test_real_series_equal_dcm2niix_and_itk_in_world_space(name: str, real_data: RealData, tmp_path: Path) -> None:
    source = real_data(f"dicom/{name}")
    tolerance_mm = ROUNDED_POSITIONS_MM.get(source.name, 0.01)
    rtol = 1e-6 if "non_isotropic" in name else 0  # a slope for each slice: float32 on both sides
    (tmp_path / "peer").mkdir()
    command = [dcm2niix(), "-z", "n", "-b", "n", "-f", "%s_%d", "-o", str(tmp_path / "peer"), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    peers = [nibabel.load(path) for path in (tmp_path / "peer").glob("*.nii")]

    ledger = convert(source, tmp_path / "ours", NATIVE)
    done = [outcome for outcome in ledger.outcomes if outcome.status is Status.DONE]
    assert len(done) == len(peers) > 0
    for outcome in done:
        ours = the_image(tmp_path / "ours", outcome)
        (peer,) = [peer for peer in peers if len(peers) == 1 or normal_axis(peer) == normal_axis(nibabel.load(ours))]
        assert_same_in_world(ours, to_air(name, np.asanyarray(peer.dataobj)), peer.affine, tolerance_mm, rtol)

    if len(done) == 1 and not rtol:
        series = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(source))
        array, affine = read_with_itk(list(series))
        # ITK keeps the lean of a series in its direction, which it reads from the first two slices.
        assert_same_in_world(the_image(tmp_path / "ours", done[0]), to_air(name, array), affine, 2 * tolerance_mm)


def test_real_series_known_by_its_meta_headers_alone_equals_itk(real_data: RealData, tmp_path: Path) -> None:
    """The data sets of these files have an empty SOPClassUID, and an empty SOPInstanceUID."""
    source = real_data("volumes/totalsegmentator/example_ct_dicom")
    (outcome,) = convert(source, tmp_path, NATIVE).outcomes
    ours = the_image(tmp_path, outcome)
    assert outcome.warnings == (
        "20 files lack the class or the identifier of their object; those of their meta headers were taken.",
    )
    assert read_sidecar(ours.with_name(f"{outcome.case}.json")).notes == {"uids-of-meta-header": 20}
    # These files have no series that ITK knows by its UID: ordered by position instead.
    height_mm = {str(path): float(sitk.ReadImage(str(path)).GetOrigin()[2]) for path in source.iterdir()}
    array, affine = read_with_itk(sorted(height_mm, key=height_mm.__getitem__))
    assert array.shape == (512, 512, 20)
    assert_same_in_world(ours, array, affine, 0.001)


def to_air(name: str, voxels: NDArray[np.generic]) -> NDArray[np.generic]:
    """What a peer reads, with padding about the scanner's circle as the air that it stands for."""
    return np.where(voxels == -3024, -1024, voxels) if name in PADDED else voxels


@pytest.mark.parametrize("number", [4, 5, 6, 7])
def test_real_time_series_equal_their_reference(number: int, real_data: RealData, tmp_path: Path) -> None:
    source = real_data(f"dicom/mr-4d-nih/In/20180918GE/mr_000{number}")
    reference = nibabel.load(real_data(f"dicom/mr-4d-nih/Ref/DCM2NIIX_regression_test_{number}.nii"))
    assert isinstance(reference, nibabel.Nifti1Image)
    ledger = convert(source, tmp_path, NATIVE)
    voxels = np.asanyarray(reference.dataobj)
    assert len(ledger.outcomes) == voxels.shape[3] == 10
    for time, outcome in enumerate(ledger.outcomes):
        assert outcome.case.endswith(f"_time{time + 1:02d}")
        assert_same_in_world(the_image(tmp_path, outcome), voxels[..., time], reference.affine, 0.01)


def test_real_lossless_codecs_give_the_same_voxels(real_data: RealData, tmp_path: Path) -> None:
    images = []
    for codec in ("-001", "_j2k-001", "_jpegls-001", "_rle-001"):
        out = tmp_path / codec
        convert(real_data(f"dicom/vendors/generic-compressed{codec}"), out, NATIVE)
        images.append(read_volume(only_image(out)))
    for image in images[1:]:
        np.testing.assert_array_equal(image.array, images[0].array)
        assert image.grid.difference(images[0].grid, 0) is None


def test_real_default_is_1_mm_inside_the_same_outer_box(real_data: RealData, tmp_path: Path) -> None:
    ledger = convert(real_data("dicom/mr-t1-head/12-T1post"), tmp_path)
    (outcome,) = ledger.outcomes
    assert (
        outcome.message
        == "Resampled from 512 x 512 x 22 at 0.4297 x 0.4297 x 6.5 mm to 220 x 220 x 143 at 1 x 1 x 1 mm."
    )
    sidecar = read_sidecar(the_image(tmp_path, outcome).with_name(f"{outcome.case}.json"))
    assert sidecar.resampled
    assert sidecar.target_grid.spacing_mm == pytest.approx((1, 1, 1), abs=1e-6)
    half = np.array([0.5, 0.5, 0.5])
    np.testing.assert_allclose(sidecar.source_grid.to_world(-half), sidecar.target_grid.to_world(-half), atol=1e-4)


def test_a_straightened_series_says_so(real_data: RealData, tmp_path: Path) -> None:
    source = real_data("dicom/ct-gantry-tilt-ge")
    (outcome,) = convert(source, tmp_path, NATIVE).outcomes
    assert "straightened by the positions of the slices" in outcome.message
    assert len(outcome.warnings) >= 2
    sidecar = read_sidecar(the_image(tmp_path, outcome).with_name(f"{outcome.case}.json"))
    assert sidecar.resampled
    assert set(sidecar.changes) == {"tilt-straightened", "spacing-evened", "padding-to-air"}
    (refused,) = convert(source, tmp_path / "strict", ConvertOptions(refuse_tilt=True)).outcomes
    assert (refused.status, refused.code) == (Status.REFUSED, "gantry-tilt")

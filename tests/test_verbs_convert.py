"""Convert, on made series and on real ones; compared with the formula, SimpleITK and dcm2niix."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from volseg.dataset.sidecar import read_sidecar
from volseg.errors import DataSetError, DiskFullError, InputError, UsageError
from volseg.outcomes import Outcome, Status
from volseg.verbs.convert import ConvertOptions, convert, preview
from volseg.volume import Volume, read_volume, write_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import RealData, WriteSeries
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

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


def codes(outcomes: tuple[Outcome, ...]) -> Counter[str]:
    return Counter("done" if outcome.status is Status.DONE else outcome.code for outcome in outcomes)


def the_image(folder: Path, outcome: Outcome) -> Path:
    assert outcome.status is Status.DONE, outcome
    return folder / outcome.outputs[0]


def only_image(folder: Path) -> Path:
    (path,) = (folder / "imagesTs").glob("*.nii.gz")
    return path


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


def test_a_series_lands_where_its_headers_say(write_series: WriteSeries, tmp_path: Path) -> None:
    stored = write_series(tmp_path / "dicom")
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    (outcome,) = ledger.outcomes
    image = nibabel.load(the_image(tmp_path / "out", outcome))
    assert isinstance(image, nibabel.Nifti1Image)
    assert image.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), stored.T.astype(int) - 1024)
    # Column index along x by 0.75 mm, row index along y by 0.5 mm, both to the left and back of LPS.
    expected = [[-0.75, 0, 0, 30], [0, -0.5, 0, 40], [0, 0, 2.5, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(image.affine, expected, atol=1e-6)
    assert image.header["sform_code"] == image.header["qform_code"] == 1


def test_file_names_and_order_do_not_matter(write_series: WriteSeries, tmp_path: Path) -> None:
    order = [3, 0, 4, 1, 2]
    positions = [(-30.0, -40.0, 2.5 * number) for number in order]
    stored = write_series(tmp_path / "dicom", positions=positions, name="deep/{:d}/IMG")
    convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    volume = read_volume(only_image(tmp_path / "out"))
    np.testing.assert_array_equal(volume.array, stored[np.argsort(order)].T.astype(int) - 1024)


def test_a_second_run_changes_no_byte(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom/a", seed=1)
    write_series(tmp_path / "dicom/b", seed=2, positions=[(0, 0, 0), (0, 0, 1)])
    first = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "out").rglob("*.*z")}
    texts = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    second = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert sorted(outcome.code for outcome in first.outcomes) == ["done", "too-few-slices"]
    assert sorted(outcome.code for outcome in second.outcomes) == ["already-done", "too-few-slices"]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == texts


def test_a_second_run_warns_of_the_files_again(write_series: WriteSeries, tmp_path: Path) -> None:
    count = len(write_series(tmp_path / "dicom"))
    for path in (tmp_path / "dicom").iterdir():
        path.write_bytes(path.read_bytes()[132:])
    first, second = (convert(tmp_path / "dicom", tmp_path / "out", NATIVE).outcomes[0] for _ in range(2))
    assert second.code == "already-done"
    assert first.warnings == second.warnings
    (warning,) = first.warnings
    assert warning.startswith(f"{count} files lack the preamble")
    (recorded,) = json.loads((tmp_path / "out" / "conversion.json").read_text())["outcomes"]
    assert recorded["warnings"] == [warning]


def test_the_same_input_gives_the_same_image_bytes(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    for name in ("a", "b"):
        convert(tmp_path / "dicom", tmp_path / name)
    first, second = (only_image(tmp_path / name) for name in ("a", "b"))
    assert first.name != second.name, "each folder has a key of its own"
    assert first.read_bytes() == second.read_bytes()


def test_other_options_are_refused_until_overwrite(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    before = only_image(tmp_path / "out").read_bytes()
    ledger = convert(tmp_path / "dicom", tmp_path / "out")
    assert [(outcome.status, outcome.code) for outcome in ledger.outcomes] == [(Status.REFUSED, "exists")]
    assert only_image(tmp_path / "out").read_bytes() == before
    ledger = convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(overwrite=True))
    assert codes(ledger.outcomes) == {"done": 1}
    assert read_volume(only_image(tmp_path / "out")).grid.spacing_mm == pytest.approx((1, 1, 1))


def test_dataset_json_keeps_what_a_person_wrote(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom/a", seed=1)
    convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    path = tmp_path / "out/dataset.json"
    content = json.loads(path.read_text())
    assert content["modality"] == {"0": "CT"}
    assert content["numTest"] == 1
    (image,) = content["test"]
    assert (tmp_path / "out" / image).is_file()
    content["labels"] = {"0": "background", "1": "liver"}
    content["licence"] = "ours"
    content["training"] = [{"image": image, "label": "./labelsTr/x.nii.gz"}]
    content["test"] = []
    path.write_text(json.dumps(content))
    write_series(tmp_path / "dicom/b", seed=2)
    convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    merged = json.loads(path.read_text())
    assert merged["labels"] == content["labels"]
    assert merged["licence"] == "ours"
    assert merged["training"] == content["training"]
    assert len(merged["test"]) == merged["numTest"] == 1
    assert merged["test"] != [image]


def test_a_broken_dataset_json_stops_before_any_work(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/dataset.json").write_text("{")
    with pytest.raises(DataSetError):
        convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["dataset.json"]
    assert (tmp_path / "out/dataset.json").read_text() == "{"


def test_the_ledger_keeps_what_earlier_folders_gave(write_series: WriteSeries, tmp_path: Path) -> None:
    for seed in (1, 2):
        write_series(tmp_path / f"dicom{seed}", seed=seed)
        convert(tmp_path / f"dicom{seed}", tmp_path / "out", NATIVE)
    content = json.loads((tmp_path / "out/conversion.json").read_text())
    assert [outcome["status"] for outcome in content["outcomes"]] == ["done", "done"]
    assert len(json.loads((tmp_path / "out/dataset.json").read_text())["test"]) == 2


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


def test_gaps_are_filled_when_asked(write_series: WriteSeries, tmp_path: Path) -> None:
    positions = [(0.0, 0.0, 2.0 * place) for place in (0, 1, 2, 4, 5, 6)]
    array = np.stack([np.full((12, 10), 100 * place, np.uint16) for place in (0, 1, 2, 4, 5, 6)])
    write_series(tmp_path / "dicom", positions=positions, array=array)
    assert codes(convert(tmp_path / "dicom", tmp_path / "a", NATIVE).outcomes) == {"missing-slice": 1}
    (outcome,) = convert(
        tmp_path / "dicom", tmp_path / "b", ConvertOptions(spacing=("native",), fill_gaps=True)
    ).outcomes
    assert any("--fill-gaps" in warning for warning in outcome.warnings)
    volume = read_volume(the_image(tmp_path / "b", outcome))
    np.testing.assert_array_equal(volume.array[3, 4] + 1024, np.arange(7) * 100)


def test_a_truncated_file_refuses_its_series_alone(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom/good", seed=1)
    write_series(tmp_path / "dicom/cut", seed=2, name="canary{:d}.dcm")
    path = tmp_path / "dicom/cut/canary2.dcm"
    path.write_bytes(path.read_bytes()[:-20])
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert codes(ledger.outcomes) == {"done": 1, "truncated-pixels": 1}
    assert ledger.exit_code == 1
    (refused,) = [outcome for outcome in ledger.outcomes if outcome.status is Status.REFUSED]
    assert refused.private == "cut/canary2.dcm"
    assert "canary" not in (tmp_path / "out/conversion.json").read_text()


def test_a_file_cut_off_in_its_header_refuses_its_series(write_series: WriteSeries, tmp_path: Path) -> None:
    # The last slice: without it the others would pass for a whole volume.
    write_series(tmp_path / "dicom/good", seed=1)
    write_series(tmp_path / "dicom/cut", seed=2)
    path = tmp_path / "dicom/cut/004.dcm"
    path.write_bytes(path.read_bytes().partition(struct.pack("<HH", 0x28, 0x10))[0] + b"\x28\0\x10\0US")
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert codes(ledger.outcomes) == {"done": 1, "truncated-file": 1}
    (refused,) = [outcome for outcome in ledger.outcomes if outcome.status is Status.REFUSED]
    assert refused.private == "cut/004.dcm"
    # Cut before its series is named, it stands for itself, and the exit code still tells.
    path.write_bytes(path.read_bytes()[:300])
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert codes(ledger.outcomes) == {"done": 2, "truncated-file": 1}
    assert ledger.exit_code == 1


def test_a_slice_without_its_pixels_refuses_its_series(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        if number == 4:
            del ds.PixelData

    write_series(tmp_path / "dicom", edit=edit)
    (outcome,) = convert(tmp_path / "dicom", tmp_path / "out", NATIVE).outcomes
    assert (outcome.status, outcome.code, outcome.private) == (Status.REFUSED, "incomplete-image", "004.dcm")


def test_gaps_that_lie_do_not_exhaust_the_memory(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(
        tmp_path / "dicom",
        positions=[(0, 0, 4e5 * number) for number in range(3)],
        array=np.zeros((3, 500, 400), np.uint16),
    )
    (outcome,) = convert(tmp_path / "dicom", tmp_path / "out").outcomes
    assert (outcome.status, outcome.code) == (Status.REFUSED, "too-large")


def test_an_image_that_moved_to_the_drawn_ones_is_known(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    (tmp_path / "out/imagesTs").rename(tmp_path / "out/imagesTr")
    (outcome,) = convert(tmp_path / "dicom", tmp_path / "out", NATIVE).outcomes
    assert outcome.code == "already-done"
    assert outcome.outputs[0].startswith("imagesTr/")
    assert not (tmp_path / "out/imagesTs").exists()


def test_a_study_that_grows_keeps_its_names(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit_of(number: int) -> Callable[[Dataset, int], None]:
        def edit(ds: Dataset, _: int) -> None:
            ds.StudyInstanceUID, ds.SeriesNumber = "1.2.3", number

        return edit

    write_series(tmp_path / "dicom/late", seed=1, edit=edit_of(7))
    (first,) = convert(tmp_path / "dicom", tmp_path / "out", NATIVE).outcomes
    assert first.case.startswith("ct_01_")
    write_series(tmp_path / "dicom/early", seed=2, edit=edit_of(2))
    both = convert(tmp_path / "dicom", tmp_path / "out", NATIVE).outcomes
    assert {outcome.case: outcome.code for outcome in both}[first.case] == "already-done"
    assert codes(both) == {"done": 2}
    # Another way to the same files is the same input.
    (again,) = convert(tmp_path / "dicom/late", tmp_path / "out", NATIVE).outcomes
    assert (again.case, again.code) == (first.case, "already-done")


def test_nothing_of_the_patient_is_written(write_series: WriteSeries, tmp_path: Path) -> None:
    def with_canaries(ds: Dataset, number: int) -> None:
        for keyword in (
            "PatientID", "PatientName", "PatientComments", "InstitutionName", "OperatorsName", "StudyDescription",
            "SeriesDescription", "ProtocolName", "StationName", "AccessionNumber", "StudyID", "ReferringPhysicianName",
            "Manufacturer", "ManufacturerModelName", "BodyPartExamined", "ScanningSequence", "PatientPosition",
            "FrameOfReferenceUID", "ConvolutionKernel", "ImageComments", "IssuerOfPatientID", "RescaleType",
        ):  # fmt: skip
            value = "1.2.826.99.4711" if keyword.endswith("UID") else "CANARY 4711"
            setattr(ds, keyword, value)
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.99.4711.1", "1.2.826.99.4711.2"
        ds.SOPInstanceUID = f"1.2.826.99.4711.3.{number}"
        ds.StudyDate = ds.SeriesDate = ds.PatientBirthDate = "19474711"[:8].replace("4711", "0711")
        ds.KVP = 19470711

    write_series(tmp_path / "dicom", edit=with_canaries, name="canary-{}.dcm")
    convert(tmp_path / "dicom", tmp_path / "out")
    image = only_image(tmp_path / "out")
    written = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    written[image] = nibabel.load(image).header.binaryblock
    assert len(written) == 5
    for path, content in written.items():
        text = content.lower()
        assert not any(word in text for word in (b"canary", b"4711", b"19470711", b"1.2.826")), path
        assert "canary" not in path.name.lower()


def test_the_key_is_for_its_owner_alone(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    (key,) = (path for path in (tmp_path / "out").iterdir() if path.name.startswith(".volseg-key"))
    assert key.stat().st_mode & 0o777 == 0o600
    key.write_text("no key")
    with pytest.raises(InputError):
        convert(tmp_path / "dicom", tmp_path / "out", NATIVE)


def test_worker_processes_give_the_same_as_one(write_series: WriteSeries, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_series(tmp_path / f"dicom/{seed}", seed=seed)
    convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(jobs=1))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out/imagesTs").iterdir()}
    shutil.rmtree(tmp_path / "out/imagesTs")
    ledger = convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(jobs=2))
    assert codes(ledger.outcomes) == {"done": 3}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out/imagesTs").iterdir()} == before


@pytest.mark.parametrize("error", [DiskFullError("No space is left."), KeyboardInterrupt()])
def test_what_ends_the_run_leaves_nothing_half_written(
    error: BaseException, write_series: WriteSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2):
        write_series(tmp_path / f"dicom/{seed}", seed=seed)
    calls = []

    def failing(path: Path, volume: Volume) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise error
        write_image(path, volume)

    with monkeypatch.context() as patched:
        patched.setattr("volseg.verbs.convert.conversion.write_image", failing)
        with pytest.raises(type(error)):
            convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert len(list((tmp_path / "out/imagesTs").iterdir())) == 2, "one image with its sidecar"
    outcomes = convert(tmp_path / "dicom", tmp_path / "out", NATIVE).outcomes
    assert sorted(outcome.code for outcome in outcomes) == ["already-done", "done"]
    assert len(list((tmp_path / "out/imagesTs").iterdir())) == 4


def test_preview_writes_nothing(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom/a", seed=1)
    write_series(tmp_path / "dicom/b", seed=2, positions=[(0, 0, 0), (0, 0, 1), (0, 0, 3)])
    rows, _ = preview(tmp_path / "dicom", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert sorted(row.action.split(" ")[0] for row in rows) == ["Resampled", "refused"]
    convert(tmp_path / "dicom", tmp_path / "out")
    rows, _ = preview(tmp_path / "dicom", tmp_path / "out")
    assert any("already-done" in row.action for row in rows)


@pytest.mark.parametrize("spacing", [(0.0,), (1.0, 2.0), ("native", 1.0), (-1.0,), (float("nan"),), ()])
def test_senseless_spacings_are_refused(spacing: tuple[float, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        convert(tmp_path, tmp_path / "out", ConvertOptions(spacing=spacing))


def test_bad_places_give_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.txt").write_text("no DICOM")
    for folder, kind, code in (
        ("absent", UsageError, "missing-folder"),
        ("text/a.txt", UsageError, "not-a-folder"),
        ("empty", InputError, "empty-folder"),
        ("text", InputError, "no-dicom"),
    ):
        with pytest.raises(kind) as caught:
            convert(tmp_path / folder, tmp_path / "out")
        assert caught.value.code == code
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError):
        convert(tmp_path / "text", tmp_path / "text/a.txt")


def two_studies(write_series: WriteSeries, folder: Path) -> None:
    write_series(folder / "a", seed=1)
    write_series(folder / "b", seed=2)
    write_series(folder / "c", seed=3, positions=[(0, 0, z) for z in (0, 1, 2, 4, 5, 6)])


def test_orientation_turns_without_interpolation(write_series: WriteSeries, tmp_path: Path) -> None:
    oblique = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    positions = [(3.0 * number, -20.0, 30.0) for number in range(5)]
    write_series(tmp_path / "dicom", positions=positions, orientation=oblique)
    (plain,) = convert(tmp_path / "dicom", tmp_path / "a", NATIVE).outcomes
    (turned,) = convert(
        tmp_path / "dicom", tmp_path / "b", ConvertOptions(spacing=("native",), orientation="ras")
    ).outcomes
    ours, peer = the_image(tmp_path / "b", turned), nibabel.load(the_image(tmp_path / "a", plain))
    expected = nibabel.as_closest_canonical(peer)
    np.testing.assert_array_equal(np.asanyarray(nibabel.load(ours).dataobj), np.asanyarray(expected.dataobj))
    np.testing.assert_allclose(nibabel.load(ours).affine, expected.affine, atol=1e-5)
    assert "turned from" in turned.message
    assert "to RAS" in turned.message
    sidecar = read_sidecar(ours.with_name(f"{turned.case}.json"))
    assert not sidecar.resampled
    assert (
        sidecar.target_grid.orientation,
        sidecar.source_grid.difference(read_volume(the_image(tmp_path / "a", plain)).grid),
    ) == ("RAS", None)


def test_spacings_are_those_of_the_turned_axes(write_series: WriteSeries, tmp_path: Path) -> None:
    sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    write_series(tmp_path / "dicom", positions=[(3.0 * number, 0.0, 0.0) for number in range(5)], orientation=sagittal)
    options = ConvertOptions(spacing=(1.0, 2.0, 1.5), orientation="LAS", interpolation="nearest")
    (outcome,) = convert(tmp_path / "dicom", tmp_path / "out", options).outcomes
    volume = read_volume(the_image(tmp_path / "out", outcome))
    assert volume.grid.orientation == "LAS"
    assert volume.grid.spacing_mm == pytest.approx((1.0, 2.0, 1.5))
    sidecar = read_sidecar(the_image(tmp_path / "out", outcome).with_name(f"{outcome.case}.json"))
    assert sidecar.resampled
    assert "3 mm to" not in outcome.message  # both grids are told in the turned order


@pytest.mark.parametrize("word", ["RAX", "RASL", "RRS", "1"])
def test_an_orientation_that_is_none_is_refused(word: str, write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    with pytest.raises(UsageError):
        convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(orientation=word))
    assert not (tmp_path / "out").exists()


def test_series_are_chosen_by_number_name_and_modality(write_series: WriteSeries, tmp_path: Path) -> None:
    two_studies(write_series, tmp_path / "dicom")
    rows, _ = preview(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert sorted(row.number for row in rows) == [1, 2, 3]
    good = [row for row in rows if "refused" not in row.action]
    options = ConvertOptions(spacing=("native",), series=(str(good[0].number),))
    first = convert(tmp_path / "dicom", tmp_path / "out", options)
    assert codes(first.outcomes) == {"done": 1}
    assert first.skipped_kinds == {"image of a series that was not chosen": 11}
    named, _ = preview(tmp_path / "dicom", tmp_path / "out", options)
    assert {row.number: row.source for row in named} == {row.number: row.source for row in rows}
    (left,) = [row for row in named if row.source == good[1].source]
    assert "not-chosen" in left.action
    second = convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(spacing=("native",), series=(left.case,)))
    assert [outcome.case for outcome in second.outcomes] == [left.case]
    done = json.loads((tmp_path / "out/conversion.json").read_text())["outcomes"]
    assert [outcome["status"] for outcome in done] == ["done", "done"]
    both = ConvertOptions(spacing=("native",), series=("ct_01",), modality=("ct",))
    assert codes(convert(tmp_path / "dicom", tmp_path / "out", both).outcomes) == {
        "done": 2,
        "missing-slice": 1,
    }


@pytest.mark.parametrize("options", [{"series": ("9",)}, {"series": ("ct_09",)}, {"modality": ("MR",)}])
def test_a_choice_of_nothing_is_bad_usage(options: dict[str, Any], write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    with pytest.raises(UsageError, match="--dry-run"):
        convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(**options))
    assert not (tmp_path / "out").exists()

"""What is measured of a data set, against what it was made with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from volseg.dataset import faults as module
from volseg.dataset.dataset import read_dataset
from volseg.planning.fingerprint import measure

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeDataset, WriteImage


def spheres(shape: tuple[int, int, int], centres: list[tuple[int, int, int]], radius: float) -> np.ndarray:
    places = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    return np.any([np.linalg.norm(places - centre, axis=-1) <= radius for centre in centres], axis=0)


def test_axes_are_brought_to_ras_order(tmp_path: Path, write_image: WriteImage) -> None:
    # One volume stored in three voxel orders: the same shape and spacing along R, A and S.
    values = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    mask = np.zeros((5, 6, 7), np.uint8)
    mask[1:4, 2:5, 3:6] = 1
    affine = np.diag([0.5, 1.0, 3.0, 1.0])
    orders = {
        "ras": ((0, 1, 2), affine),
        "sar": ((2, 1, 0), affine[:, [2, 1, 0, 3]]),
        "ars": ((1, 0, 2), affine[:, [1, 0, 2, 3]] @ np.diag([1, -1, 1, 1.0])),
    }
    for name, (order, stored) in orders.items():
        write_image(tmp_path / "imagesTr" / f"{name}.nii.gz", values.transpose(order) + len(name), stored)
        write_image(tmp_path / "labelsTr" / f"{name}.nii.gz", mask.transpose(order), stored)
    found = measure(read_dataset(tmp_path))
    assert {case.shape for case in found.cases} == {(5, 6, 7)}
    np.testing.assert_allclose(found.spacings_mm, [(0.5, 1.0, 3.0)] * 3, rtol=1e-6)


def test_a_sheared_and_rotated_grid_is_measured_along_its_nearest_axes(tmp_path: Path) -> None:
    angle = np.radians(20)
    affine = np.eye(4)
    # k runs mostly to the right, i mostly to the front, j mostly up; k leans by 10 degrees.
    affine[:3, 0] = 0.8 * np.array([-np.sin(angle), np.cos(angle), 0])
    affine[:3, 1] = 1.1 * np.array([0, 0, 1])
    affine[:3, 2] = 4.0 * np.array([np.cos(angle), np.sin(angle), np.tan(np.radians(10))])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    for folder, voxels in (("imagesTr", np.ones((3, 4, 5), np.float32)), ("labelsTr", np.ones((3, 4, 5), np.uint8))):
        (tmp_path / folder).mkdir()
        image = nibabel.Nifti1Image(voxels, affine)
        image.set_sform(affine, code=1)
        image.set_qform(None, code=0)
        nibabel.save(image, tmp_path / folder / "a.nii.gz")
    (case,) = measure(read_dataset(tmp_path)).cases
    assert case.shape == (5, 3, 4)
    np.testing.assert_allclose(case.spacing_mm, spacing[[2, 0, 1]], rtol=1e-6)


def test_foreground_and_zeros_are_those_of_each_channel(tmp_path: Path, write_image: WriteImage) -> None:
    random = np.random.default_rng(1)
    images = random.normal(50, 10, (2, 8, 8, 8)).astype(np.float32)
    images[1, :, :, :3] = 0
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[2:6, 2:6, 2:6] = 3
    for channel in range(2):
        write_image(tmp_path / "imagesTr" / f"a_{channel:04d}.nii.gz", images[channel])
    write_image(tmp_path / "labelsTr" / "a.nii.gz", mask)
    found = measure(read_dataset(tmp_path))
    assert not found.channels_in_one_file
    for channel in range(2):
        np.testing.assert_array_equal(np.sort(found.foreground(channel)), np.sort(images[channel][mask > 0]))
        assert found.zero_share(channel) == pytest.approx(np.mean(images[channel] == 0))


def test_channels_on_the_fourth_axis_are_channels(tmp_path: Path, write_image: WriteImage) -> None:
    values = np.random.default_rng(2).normal(size=(6, 6, 6, 2)).astype(np.float32)
    write_image(tmp_path / "imagesTr" / "a.nii.gz", values)
    write_image(tmp_path / "labelsTr" / "a.nii.gz", np.ones((6, 6, 6), np.uint8))
    found = measure(read_dataset(tmp_path))
    assert found.channels_in_one_file
    assert len(found.channels) == 2
    np.testing.assert_array_equal(np.sort(found.foreground(1)), np.sort(values[..., 1].ravel()))


def test_label_volumes_and_pieces(tmp_path: Path, write_image: WriteImage) -> None:
    shape, affine = (30, 30, 30), np.diag([2.0, 1.0, 0.5, 1.0])
    whole = spheres(shape, [(9, 15, 15)], 6)
    twins = spheres(shape, [(22, 8, 8), (22, 22, 22)], 4)
    mask = whole.astype(np.uint8) + 7 * twins.astype(np.uint8)
    mask[0, 0, 0] = 1  # a speck that an annotator left
    write_image(tmp_path / "imagesTr" / "a.nii.gz", np.random.default_rng(3).normal(size=shape), affine)
    write_image(tmp_path / "labelsTr" / "a.nii.gz", mask, affine)
    found = measure(read_dataset(tmp_path))
    assert found.label_volumes_mm3(1) == pytest.approx([whole.sum() + 1])  # 2 x 1 x 0.5 mm is one mm3
    assert found.label_volumes_mm3(7) == pytest.approx([twins.sum()])
    assert found.is_single_piece(1, share_of_cases=1.0)
    assert not found.is_single_piece(7, share_of_cases=0.01)
    assert not found.is_single_piece(5, share_of_cases=0.0)
    assert len(found.label_volumes_mm3(5)) == 0


def test_shapes_at_another_spacing_keep_the_extent(make_dataset: MakeDataset) -> None:
    found = measure(read_dataset(make_dataset()))
    extents = np.array([case.shape for case in found.cases]) * found.spacings_mm
    for spacing in ((1.0, 1.0, 1.0), (0.3, 2.0, 0.7)):
        np.testing.assert_allclose(found.shapes_at(spacing) * spacing, extents, atol=np.max(spacing) / 2 + 1e-9)
    assert found.shapes_at((1e3, 1e3, 1e3)).tolist() == [[1, 1, 1]] * 3


def test_a_large_foreground_is_sampled_evenly(
    tmp_path: Path, write_image: WriteImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLED_VOXELS", 500)
    values = np.random.default_rng(4).gamma(2, 50, (20, 20, 20)).astype(np.float32)
    write_image(tmp_path / "imagesTr" / "a.nii.gz", values)
    write_image(tmp_path / "labelsTr" / "a.nii.gz", np.ones((20, 20, 20), np.uint8))
    sample = measure(read_dataset(tmp_path)).foreground(0)
    assert 400 <= len(sample) <= 500
    assert np.percentile(sample, [10, 50, 90]) == pytest.approx(np.percentile(values, [10, 50, 90]), rel=0.15)


def test_the_samples_of_a_large_cohort_are_bounded(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALL_SAMPLED_VOXELS", 30)
    assert len(measure(read_dataset(make_dataset(3))).foreground(0)) <= 30


def test_images_that_were_resampled_are_known_by_their_sidecars(make_dataset: MakeDataset) -> None:
    from volseg.dataset.sidecar import Sidecar
    from volseg.volume import read_header

    root = make_dataset(2)
    for name, resampled in (("case_0", True), ("case_1", False)):
        grid = read_header(root / "imagesTr" / f"{name}.nii.gz").grid
        Sidecar(name, "MR", "p", "s", "r", grid, grid, resampled).write(root / "imagesTr" / f"{name}.json")
    assert [case.resampled for case in measure(read_dataset(root)).cases] == [True, False]


def test_a_case_that_is_damaged_meanwhile_is_named(make_dataset: MakeDataset) -> None:
    from volseg.errors import VolsegError

    root = make_dataset(2)
    dataset = read_dataset(root)
    path = root / "imagesTr" / "case_1.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(VolsegError, match=r"case_1\.nii\.gz"):
        measure(dataset)


def test_declared_channels_are_kept_by_name(make_dataset: MakeDataset) -> None:
    root = make_dataset(2, channels=2)
    (root / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "FLAIR", "1": "T1c"}, "labels": {"a": 1, "b": 2}, "file_ending": ".nii.gz"})
    )
    assert measure(read_dataset(root)).channels == ("FLAIR", "T1c")

"""A quicker preprocessing gives MONAI's numbers, and remembers what MONAI does for the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    Spacingd,
)

from tests.conftest import OBLIQUE
from volseg.inference.reading import QuickReader, Spacing, in_rows, quick

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteImage


def loading(**spacing: Any) -> Compose:
    options = {"pixdim": (1.3, 0.6, 1.1), "mode": "bilinear"} | spacing
    return Compose(
        [
            LoadImaged("image", reader="NibabelReader", image_only=True),
            EnsureChannelFirstd("image"),
            Orientationd("image", "RAS", labels=None),
            Spacingd("image", **options),
            NormalizeIntensityd("image"),
        ]
    )


@pytest.mark.parametrize(
    "spacing", [{}, {"align_corners": True}, {"mode": "nearest"}, {"pixdim": (0.8, 0.8, 2.5)}, {"scale_extent": True, "align_corners": True}]
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2])
def test_the_image_is_the_one_that_monai_makes(
    tmp_path: Path, write_image: WriteImage, spacing: dict[str, Any], channels: int
) -> None:
    values = np.random.default_rng(0).normal(0, 900, (13, 12, 9, channels)).astype(np.int16).squeeze()
    path = str(write_image(tmp_path / "image.nii.gz", values, OBLIQUE))
    plain = loading(**spacing)
    swapped = quick(plain)
    assert [type(step) for step in swapped.transforms[3:4]] == [Spacing]
    found, expected = swapped({"image": path})["image"], plain({"image": path})["image"]
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=2e-5)
    np.testing.assert_array_equal(found.affine, expected.affine)
    assert found.pending_operations == []
    assert repr(found.applied_operations) == repr(expected.applied_operations)


@pytest.mark.parametrize("shape", [(2, 9, 7), (9, 2, 7), (9, 7, 2)])
def test_two_voxels_may_become_one(tmp_path: Path, write_image: WriteImage, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(0, 900, shape).astype(np.int16)
    path = str(write_image(tmp_path / "image.nii.gz", values, np.diag([0.3, 0.3, 0.3, 1])))
    plain = loading(pixdim=(1.2, 1.2, 1.2))
    found, expected = quick(plain)({"image": path})["image"], plain({"image": path})["image"]
    assert 1 in expected.shape[1:]
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=2e-5)


@pytest.mark.parametrize("slope", [1.0, 0.5])
def test_voxels_are_read_as_nibabel_reads_them(tmp_path: Path, slope: float) -> None:
    values = np.random.default_rng(0).integers(-999, 999, (30, 31, 32)).astype(np.int16)
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.header.set_slope_inter(slope, 0)
    nibabel.save(image, tmp_path / "image.nii.gz")
    plain = Compose([LoadImaged("image", reader="NibabelReader", image_only=True)])
    swapped = quick(plain)
    assert type(swapped.transforms[0]._loader.readers[-1]) is QuickReader
    assert type(plain.transforms[0]._loader.readers[-1]) is not QuickReader
    path = {"image": str(tmp_path / "image.nii.gz")}
    np.testing.assert_array_equal(swapped(path)["image"], plain(path)["image"])
    whole = (tmp_path / "image.nii.gz").read_bytes()
    (tmp_path / "image.nii.gz").write_bytes(whole[: len(whole) // 2])
    for one in (swapped, plain):
        with pytest.raises((RuntimeError, OSError, EOFError)):
            one(path)


@pytest.mark.parametrize("kind", [np.uint8, np.dtype(">i2"), np.float32, np.float64, np.int32])
@pytest.mark.parametrize("shape", [(17, 5, 9), (1, 1, 1), (6, 7, 3, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_hold_the_same_numbers(kind: Any, shape: tuple[int, ...], order: Any) -> None:
    values = np.random.default_rng(0).normal(0, 1e4, shape).astype(kind)
    found = in_rows(np.asarray(values, order=order))
    assert found.flags.c_contiguous
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.astype(np.float32))

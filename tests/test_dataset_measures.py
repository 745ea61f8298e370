"""What is measured of a case, against numpy and scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from volseg.dataset.dataset import read_dataset
from volseg.dataset.faults import require_measured

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteImage

AFFINE = np.diag([-0.5, -1.0, 3.0, 1.0])


@pytest.mark.parametrize("channels", [1, 2])
def test_sizes_pieces_and_orientation_of_a_case(tmp_path: Path, write_image: WriteImage, channels: int) -> None:
    random = np.random.default_rng(3)
    shape = (24, 20, 16)
    image = np.zeros((*shape, channels), np.int16)
    image[2:19, 5:11, 3:15, 0] = random.integers(1, 900, (17, 6, 12))
    if channels == 2:
        image[20, 19, 1, 1] = 5  # the box is of all channels
    mask = (ndimage.gaussian_filter(random.normal(size=shape), 1.2) > 0.1).astype(np.uint8)
    mask[::2] *= 4
    write_image(tmp_path / "imagesTr" / "a.nii.gz", np.squeeze(image), AFFINE)
    write_image(tmp_path / "labelsTr" / "a.nii.gz", mask, AFFINE)
    [found] = require_measured(read_dataset(tmp_path))
    filled = np.argwhere(image.any(axis=3))
    assert found.cropped == tuple(np.ptp(filled, axis=0) + 1)
    assert found.orientation == "".join(nibabel.aff2axcodes(AFFINE)) == "LPS"
    corners = np.ones((3, 3, 3))
    assert found.components == {int(one): ndimage.label(mask == one, corners)[1] for one in np.unique(mask)[1:]}
    for channel in range(channels):
        values = image[..., channel][mask > 0]
        assert sorted(found.foreground(channel)) == sorted(values)
        assert found.zero_share[channel] == pytest.approx(np.mean(image[..., channel] == 0))


def test_an_image_of_zeros_has_no_box(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "imagesTr" / "a.nii.gz", np.zeros((6, 6, 6), np.int16))
    write_image(tmp_path / "labelsTr" / "a.nii.gz", np.ones((6, 6, 6), np.uint8))
    [found] = require_measured(read_dataset(tmp_path))
    assert (found.cropped, found.shape) == (None, (6, 6, 6))

"""Smoothing, against shares of a Gaussian added up in float64 over the whole image."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.surgery import SPACING, applied, organs
from volseg.postprocessing import Smoothing


def share(region: np.ndarray, sigma_mm: float) -> np.ndarray:
    """The share of a Gaussian, cut at four standard deviations, that a region has around each voxel."""
    found = region.astype(float)
    for axis, step in enumerate(SPACING):
        reach = int(4 * sigma_mm / step + 0.5)
        weights = np.exp([-0.5 * (n * step / sigma_mm) ** 2 for n in range(-reach, reach + 1)])
        widths = [(reach, reach) if one == axis else (0, 0) for one in range(3)]
        padded = np.pad(found, widths, mode="edge")
        found = np.apply_along_axis(np.convolve, axis, padded, weights / weights.sum(), mode="valid")
    return found


def plain(mask: np.ndarray, groups: list[tuple[int, ...]], sigma_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Which group each voxel is of, 0 for the background, and which voxels are beyond doubt."""
    shares = np.stack([share(region, sigma_mm) for region in (mask == 0, *(np.isin(mask, one) for one in groups))])
    first, second = np.sort(shares, axis=0)[:-3:-1]
    return np.argmax(shares, axis=0), first - second > 3e-5


@pytest.mark.parametrize("sigma_mm", [0.9, 1.3])
@pytest.mark.parametrize("groups", [[(1,), (2,), (3,)], [(2,)], [(1, 3), (2,)]])
def test_each_voxel_gets_what_most_of_a_gaussian_is(groups: list[tuple[int, ...]], sigma_mm: float) -> None:
    changed = 0
    labels = tuple(group if len(group) > 1 else group[0] for group in groups)
    for seed in range(2):
        mask = organs(seed)
        mask[12:] = 0
        found = applied(Smoothing(labels=labels, sigma_mm=sigma_mm), mask)
        expected, is_sure = plain(mask, groups, sigma_mm)
        ours = np.isin(mask, [0, *(label for group in groups for label in group)])
        group_of = np.zeros(4, int)
        for number, group in enumerate(groups, 1):
            group_of[list(group)] = number
        assert np.array_equal(group_of[found][ours & is_sure], expected[ours & is_sure])
        assert np.array_equal(found[~ours], mask[~ours])
        changed += int((found != mask).sum())
    assert changed > 10


def test_no_gap_opens_between_labels_and_a_flat_surface_stays() -> None:
    mask = np.zeros((20, 12, 12), np.uint8)
    mask[:8], mask[8:14] = 1, 2
    mask[6, 5:7, 5:7] = 2  # a bump
    found = applied(Smoothing(sigma_mm=1.5), mask, (1.0, 1.0, 1.0))
    mask[6, 5:7, 5:7] = 1
    assert np.array_equal(found, mask)
    tilted = np.where(np.indices((16, 16, 16)).sum(axis=0) < 24, 1, 2).astype(np.uint8)
    assert applied(Smoothing(sigma_mm=2), tilted).all()


def test_a_ball_keeps_its_volume_and_loses_its_steps() -> None:
    axes = np.indices((40, 40, 40)) - 19.5
    ball = (np.sqrt((axes**2).sum(axis=0)) < 12).astype(np.uint8)
    coarse = np.repeat(ball[:, :, 2::4], 4, axis=2)  # steps of four slices
    found = applied(Smoothing(sigma_mm=2), coarse, (1.0, 1.0, 1.0))
    assert abs(int(found.sum()) / (4 / 3 * math.pi * 12**3) - 1) < 0.1
    assert int((found != ball).sum()) < 0.75 * int((coarse != ball).sum())

"""Masks for rules with a length, and slow, plain answers to compare with."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from volseg.grid import Grid
from volseg.postprocessing import PostprocessingRules, Rule

SPACING = (0.7, 1.1, 2.5)


def grid_of(mask: np.ndarray, spacing: tuple[float, float, float] = SPACING) -> Grid:
    """A grid of that spacing, as float32 headers have it."""
    return Grid(mask.shape, np.diag([*np.float32(spacing).astype(float), 1.0]))


def organs(seed: int, labels: int = 3) -> np.ndarray:
    """(18, 14, 10) blobs of several labels that touch each other and the border, with holes."""
    random = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(random.normal(size=(18, 14, 10)), 1.2) for _ in range(labels + 1)]
    mask = np.argmax(fields, axis=0).astype(np.uint8)
    mask[random.random(mask.shape) < 0.03] = 0
    return np.asarray(mask, order="CF"[seed % 2])


def ball(radius_mm: float, spacing: tuple[float, float, float] = SPACING) -> np.ndarray:
    """The steps to the voxels of a ball, as a structuring element."""
    reach = [int(radius_mm / step + 1e-6) for step in spacing]
    axes = np.meshgrid(*(np.arange(-n, n + 1) * step for n, step in zip(reach, spacing, strict=True)), indexing="ij")
    return sum(axis**2 for axis in axes) <= (radius_mm * (1 + 1e-6)) ** 2


def applied(rule: Rule, mask: np.ndarray, spacing: tuple[float, float, float] = SPACING) -> np.ndarray:
    """What a rule makes of a mask, whose record has to tell what is there."""
    before = mask.copy()
    found, changes = PostprocessingRules((rule,)).apply(mask, grid_of(mask, spacing))
    assert np.array_equal(mask, before)
    assert {one.label: one.voxels for one in changes.labels if one.voxels} == voxels(found)
    took = sum(one.removed_voxels + one.trimmed_voxels for one in changes.labels)
    gave = sum(one.filled_voxels + one.added_voxels for one in changes.labels)
    if not changes.split:
        assert took >= int(((mask > 0) & (found != mask)).sum())
        assert gave - took == int((found > 0).sum()) - int((mask > 0).sum())
    return found


def voxels(mask: np.ndarray) -> dict[int, int]:
    """The voxels of each label."""
    labels, counts = np.unique(mask[mask > 0], return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))

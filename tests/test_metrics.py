from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from volseg.errors import GeometryError, InputError
from volseg.grid import Grid
from volseg.metrics import LabelScore, compare, overlaps, surface_distances

SHAPE = (34, 28, 22)
SPACING_MM = (0.7, 1.0, 3.1)
LABELS = (1, 2, 3)


def rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q


def oblique(shape: tuple[int, int, int] = SHAPE, spacing_mm: tuple[float, ...] = SPACING_MM) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = rotation(3) * spacing_mm
    affine[:3, 3] = (12, -40, 7)
    return Grid(shape, affine)


def pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A reference of three labels in several pieces, some at the border, and a prediction that strays from it."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2.0)
    strayed = field + 0.5 * ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5) * field.std()
    levels = np.quantile(field, (0.6, 0.8, 0.93))
    return np.digitize(strayed, levels).astype(np.uint8), np.digitize(field, levels).astype(np.uint8)


def one_hot(mask: np.ndarray) -> object:
    import torch

    return torch.from_numpy(np.stack([mask == label for label in (0, *LABELS)])).float()[None]


def ball(
    shape: tuple[int, int, int], centre: tuple[float, ...], radius: float, spacing: tuple[float, ...]
) -> np.ndarray:
    axes = np.ogrid[tuple(slice(size) for size in shape)]
    return sum(((x - c) * s) ** 2 for x, c, s in zip(axes, centre, spacing, strict=True)) <= radius**2


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI calling itself
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", ["C", "F"])
def test_scores_are_monais(seed: int, order: str) -> None:
    from monai.metrics import (
        compute_confusion_matrix_metric,
        compute_dice,
        compute_hausdorff_distance,
        compute_iou,
        get_confusion_matrix,
    )

    predicted, reference = pair(seed)
    scores = compare(np.asarray(predicted, order=order), reference, oblique())
    p, r = one_hot(predicted), one_hot(reference)
    assert [score.label for score in scores] == list(LABELS)
    matrix = get_confusion_matrix(p, r, include_background=False)
    expected = {
        "dice": compute_dice(p, r, include_background=False),
        "iou": compute_iou(p, r, include_background=False),
        "sensitivity": compute_confusion_matrix_metric("sensitivity", matrix),
        "specificity": compute_confusion_matrix_metric("specificity", matrix),
        "precision": compute_confusion_matrix_metric("precision", matrix),
        "hd95_mm": compute_hausdorff_distance(p, r, percentile=95, spacing=SPACING_MM),
    }
    for name, values in expected.items():
        found = [getattr(score, name) for score in scores]
        np.testing.assert_allclose(found, values[0].numpy(), rtol=2e-6, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_overlap_is_simpleitks(seed: int) -> None:
    import SimpleITK as sitk

    predicted, reference = pair(seed)
    images = []
    for mask in (predicted, reference):
        image = sitk.GetImageFromArray(mask.T)
        image.SetSpacing(SPACING_MM)
        images.append(image)
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(images[0], images[1])  # its target is the reference
    scores = compare(predicted, reference, oblique())
    for score in scores:
        label = score.label
        assert score.dice == pytest.approx(measure.GetDiceCoefficient(label), rel=1e-12)
        assert score.iou == pytest.approx(measure.GetJaccardCoefficient(label), rel=1e-12)
        assert score.sensitivity == pytest.approx(1 - measure.GetFalseNegativeError(label), rel=1e-12)
        assert score.precision == pytest.approx(1 - measure.GetFalseDiscoveryRate(label), rel=1e-12)


def test_the_hausdorff_distance_of_contours_is_simpleitks() -> None:
    import SimpleITK as sitk

    spacing = (0.8, 1.1, 2.5)
    shape = (60, 48, 26)
    masks = [ball(shape, centre, radius, spacing) for centre, radius in (((28, 22, 12), 14.0), ((33, 25, 13), 12.0))]
    contours = []
    for mask in masks:
        image = sitk.GetImageFromArray(mask.T.astype(np.uint8))
        image.SetSpacing(spacing)
        contours.append(sitk.LabelContour(image, False))
    oracle = sitk.HausdorffDistanceImageFilter()
    oracle.Execute(*contours)
    (surfaces,) = surface_distances(masks[0], masks[1], Grid(shape, np.diag([*spacing, 1.0])))
    assert surfaces.hausdorff_mm(100) == pytest.approx(oracle.GetHausdorffDistance(), rel=1e-5)


def test_spheres_of_one_centre_lie_as_far_apart_as_their_radii() -> None:
    shape, spacing = (64, 64, 64), (1.0, 1.0, 1.0)
    small, large = (ball(shape, (32, 32, 32), radius, spacing) for radius in (15.0, 25.0))
    (score,) = compare(small, large, Grid(shape, np.eye(4)))
    assert score.hd95_mm == pytest.approx(10, abs=math.sqrt(3) / 2)
    assert score.predicted_ml == pytest.approx(4 / 3 * math.pi * 15**3 / 1000, rel=0.01)
    assert score.dice == pytest.approx(2 * 15**3 / (15**3 + 25**3), rel=0.01)
    assert score.relative_volume_difference == pytest.approx((15 / 25) ** 3 - 1, rel=0.01)
    assert (score.precision, score.sensitivity) == (1.0, pytest.approx((15 / 25) ** 3, rel=0.01))


@pytest.mark.parametrize("axis", range(3))
def test_a_box_moved_along_an_axis_is_as_far_away_as_it_was_moved(axis: int) -> None:
    reference = np.zeros((20, 20, 20), np.uint8)
    reference[5:11, 5:11, 5:11] = 4
    predicted = np.roll(reference, 3, axis)
    (score,) = compare(predicted, reference, oblique((20, 20, 20), SPACING_MM))
    (surfaces,) = surface_distances(predicted, reference, oblique((20, 20, 20), SPACING_MM))
    # The far face has 36 of 152 surface voxels, more than a twentieth, and nothing is nearer than the move.
    assert score.hd95_mm == pytest.approx(3 * SPACING_MM[axis], rel=1e-9)
    assert surfaces.hausdorff_mm(100) == pytest.approx(3 * SPACING_MM[axis], rel=1e-9)
    assert (score.dice, score.iou) == (0.5, pytest.approx(1 / 3))
    assert score.volume_difference_ml == 0


def test_distances_are_in_the_world_also_on_a_sheared_grid() -> None:
    affine = np.eye(4)
    affine[:3, 2] = (0.0, 0.75, 2.0)  # a tilted gantry
    grid = Grid((9, 9, 9), affine)
    one, other = np.zeros((9, 9, 9), np.uint8), np.zeros((9, 9, 9), np.uint8)
    one[4, 2, 1], other[4, 3, 5] = 1, 1
    (score,) = compare(one, other, grid)
    assert score.hd95_mm == pytest.approx(float(np.linalg.norm(grid.to_world((4, 3, 5)) - grid.to_world((4, 2, 1)))))
    assert score.predicted_ml == pytest.approx(0.002)


def test_the_percentile_is_taken_in_each_direction() -> None:
    """A stray voxel is in the Hausdorff distance, not in HD95; the poorer direction decides."""
    reference = np.zeros((40, 40, 40), np.uint8)
    reference[5:20, 5:20, 5:20] = 1
    predicted = reference.copy()
    predicted[38, 12, 12] = 1
    (surfaces,) = surface_distances(predicted, reference, Grid((40, 40, 40), np.eye(4)))
    assert surfaces.hausdorff_mm(100) == 19
    assert surfaces.hausdorff_mm() == 0
    half = reference.copy()
    half[12:] = 0
    (surfaces,) = surface_distances(half, reference, Grid((40, 40, 40), np.eye(4)))
    assert surfaces.hausdorff_mm() == np.percentile(surfaces.to_predicted_mm, 95)
    assert surfaces.hausdorff_mm() > np.percentile(surfaces.to_reference_mm, 95)


def test_what_can_not_be_said_is_not_a_number() -> None:
    empty, some = np.zeros((5, 5, 5), np.uint8), np.zeros((5, 5, 5), np.uint8)
    some[1:4, 1:4, 1:4] = 2
    grid = Grid((5, 5, 5), np.eye(4))

    (neither,) = compare(empty, empty, grid, [2])
    assert all(
        math.isnan(value)
        for value in (neither.dice, neither.iou, neither.sensitivity, neither.precision, neither.hd95_mm)
    )
    assert neither.specificity == 1
    assert math.isnan(neither.relative_volume_difference)
    assert neither.volume_difference_ml == 0

    (missed,) = compare(empty, some, grid)
    assert (missed.dice, missed.iou, missed.sensitivity, missed.hd95_mm) == (0, 0, 0, math.inf)
    assert missed.relative_volume_difference == -1
    assert math.isnan(missed.precision)

    (invented,) = compare(some, empty, grid)
    assert (invented.dice, invented.iou, invented.precision, invented.hd95_mm) == (0, 0, 0, math.inf)
    assert math.isnan(invented.sensitivity)
    assert math.isnan(invented.relative_volume_difference)

    (full,) = compare(np.ones_like(empty), np.ones_like(empty), grid)
    assert (full.dice, full.hd95_mm) == (1, 0)
    assert math.isnan(full.specificity)
    assert compare(empty, empty, grid) == ()


def test_only_the_labels_asked_for_are_scored_and_each_alone() -> None:
    predicted, reference = pair(9)
    grid = oblique()
    every = {score.label: score for score in compare(predicted, reference, grid)}
    chosen = compare(predicted, reference, grid, (3, 1))
    assert chosen == (every[1], every[3])
    (alone,) = compare(predicted == 2, reference == 2, grid)
    assert [getattr(alone, name) for name in LabelScore.__dataclass_fields__ if name != "label"] == [
        getattr(every[2], name) for name in LabelScore.__dataclass_fields__ if name != "label"
    ]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int64])
def test_types_and_large_labels_don_t_matter(dtype: type) -> None:
    predicted, reference = pair(2)
    table = np.array([0, 7, 300, 32000], dtype)
    scores = compare(table[predicted], table[reference], oblique())
    assert [score.label for score in scores] == [7, 300, 32000]
    assert [s.hd95_mm for s in scores] == [s.hd95_mm for s in compare(predicted, reference, oblique())]
    assert [s.dice for s in scores] == [s.dice for s in compare(predicted, reference, oblique())]


def test_counting_in_slabs_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    predicted, reference = pair(4)
    whole = overlaps(predicted, reference)
    monkeypatch.setattr("volseg.voxels.SLAB_VOXELS", 1)
    assert overlaps(predicted, reference) == whole
    for overlap in whole:
        assert overlap.both == ((predicted == overlap.label) & (reference == overlap.label)).sum()
        assert overlap.total == predicted.size


def test_masks_that_don_t_fit_are_refused() -> None:
    mask = np.zeros((4, 4, 4), np.uint8)
    grid = Grid((4, 4, 4), np.eye(4))
    with pytest.raises(GeometryError, match="different shapes"):
        compare(mask, mask[:3], grid)
    with pytest.raises(GeometryError, match="its grid's"):
        compare(mask, mask, Grid((4, 4, 5), np.eye(4)))
    for wrong in (mask.astype(float), mask.astype(np.int16) - 1, mask.astype(np.int32) + 70000):
        with pytest.raises(InputError) as caught:
            compare(wrong, mask, grid)
        assert caught.value.code == "mask-values"


def by_definition(mask: np.ndarray, ignored: np.ndarray, label: int) -> np.ndarray:
    """(n, 3) surface voxels of a label, one after the other: a judged neighbour of another label, or the image's end."""
    found = []
    for voxel in np.argwhere((mask == label) & ~ignored):
        for step in (*np.eye(3, dtype=int), *-np.eye(3, dtype=int)):
            beside = voxel + step
            if (beside < 0).any() or (beside >= mask.shape).any():
                found.append(voxel)
                break
            if not ignored[tuple(beside)] and mask[tuple(beside)] != label:
                found.append(voxel)
                break
    return np.array(found).reshape(-1, 3)


@pytest.mark.parametrize("seed", range(4))
def test_what_nobody_judged_counts_nowhere(seed: int) -> None:
    random = np.random.default_rng(seed)
    grid = Grid((9, 8, 7), np.diag([1.0, 2.0, 0.5, 1.0]))
    predicted, reference = (
        random.integers(0, 3, (3, 4, 4)).repeat(3, 0).repeat(2, 1).repeat(2, 2)[..., :7] for _ in "ab"
    )
    predicted, reference = predicted.astype(np.uint8), reference.astype(np.uint8)
    ignored = random.random((3, 4, 4)).repeat(3, 0).repeat(2, 1).repeat(2, 2)[..., :7] < 0.3
    found = compare(predicted, reference, grid, (1, 2), ignored)
    changed = compare(
        np.where(ignored, random.integers(0, 3, ignored.shape), predicted),
        np.where(ignored, 3, reference),
        grid,
        (1, 2),
        ignored,
    )
    assert found == changed  # whatever stands there
    judged = ~ignored
    for score in found:
        p, r = predicted[judged] == score.label, reference[judged] == score.label
        assert score.dice == pytest.approx(2 * (p & r).sum() / (p.sum() + r.sum()))
        assert score.specificity == pytest.approx((~p & ~r).sum() / (~r).sum())
        assert score.reference_ml == pytest.approx(r.sum() * 1e-3)
        one, other = (by_definition(mask, ignored, score.label) * [1.0, 2.0, 0.5] for mask in (predicted, reference))
        apart = np.linalg.norm(one[:, None] - other[None], axis=2)
        wanted = max(np.percentile(apart.min(1), 95), np.percentile(apart.min(0), 95))
        assert score.hd95_mm == pytest.approx(wanted)


def test_a_stroke_that_nothing_judged_is_around_has_no_surface() -> None:
    grid = Grid((6, 6, 6), np.eye(4))
    reference = np.zeros(grid.shape, np.uint8)
    reference[2:4, 2:4, 2:4] = 1
    ignored = ndimage.binary_dilation(reference, iterations=2) & (reference == 0)
    predicted = reference.copy()
    predicted[2, 2, 2] = 0
    (score,) = compare(predicted, reference, grid, (1,), ignored)
    assert score.dice == pytest.approx(14 / 15)
    assert math.isnan(score.hd95_mm)  # not infinite: both have it


def test_a_case_that_nobody_judged_has_no_score() -> None:
    grid = Grid((4, 4, 4), np.eye(4))
    mask = np.ones(grid.shape, np.uint8)
    (score,) = compare(mask, mask, grid, (1,), np.ones(grid.shape, bool))
    assert all(math.isnan(value) for value in (score.dice, score.specificity, score.hd95_mm))

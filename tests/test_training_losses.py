"""Losses against formulas written down in numpy and scipy, with what may go wrong: empty labels, huge logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.losses.cldice import soft_skel
from scipy import ndimage, special

from volseg.errors import UsageError
from volseg.planning.losses import LOSSES, parse_loss
from volseg.training.losses import BoundaryLoss, ClDice, CrossEntropy, SumOfLosses
from volseg.training.losses.boundary import signed_distances
from volseg.training.losses.cldice import soft_skeleton

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

NAMES = [f"dice+0.1*{name}" if term.refines else name for name, term in LOSSES.items()]
SHAPE = (2, 3, 6, 7, 5)
"""Batch, classes, voxels."""


def built(text: str, *, sigmoid: bool = False, heads: int = 0) -> Any:
    described = parse_loss(text).over_heads(heads, sigmoid=sigmoid)
    return ConfigParser({"it": described}).get_parsed_content("it")


@pytest.fixture
def drawn() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits and labels, of which the second item of the batch lacks label 2."""
    random = np.random.default_rng(3)
    logits, labels = random.normal(0, 2, SHAPE), random.integers(0, 3, (2, *SHAPE[2:]))
    labels[1][labels[1] == 2] = 0
    return logits, labels


def one_hot(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.stack([labels == index for index in range(SHAPE[1])], axis=1).astype(float)


def _dice(found: Any, labels: Any, missed: float = 0.5, too_much: float = 0.5) -> float:
    """One less soft Dice or Tversky index of each channel over the whole batch, their mean."""
    axes = (0, 2, 3, 4)
    both = (found * labels).sum(axes)
    rest = missed * ((1 - found) * labels).sum(axes) + too_much * (found * (1 - labels)).sum(axes)
    return float(np.mean(1 - both / (both + rest)))


def _crossed(logits: Any, labels: Any, sigmoid: bool) -> Any:
    """Cross-entropy of each voxel."""
    if sigmoid:
        return -(labels * special.log_expit(logits) + (1 - labels) * special.log_expit(-logits))
    return -(labels * special.log_softmax(logits, axis=1)).sum(axis=1)


def _focal(logits: Any, labels: Any, sigmoid: bool) -> float:
    if sigmoid:
        right = np.where(labels == 1, special.expit(logits), special.expit(-logits))
    else:
        right = np.where(labels == 1, special.softmax(logits, axis=1), 1)
    return float(np.mean(-((1 - right) ** 2) * np.log(right)))


def _topk(values: Any) -> float:
    return float(np.mean(np.sort(values.ravel())[-(values.size // 10) :]))


FORMULAS: dict[str, Callable[[Any, Any, Any, Any], float]] = {
    "dice": lambda _, labels, found, start: _dice(found[:, start:], labels[:, start:]),
    "ce": lambda logits, labels, _, start: float(np.mean(_crossed(logits, labels, start == 0))),
    "dice-ce": lambda *them: FORMULAS["dice"](*them) + FORMULAS["ce"](*them),
    "dice-topk": lambda logits, labels, found, start: (
        FORMULAS["dice"](logits, labels, found, start) + _topk(_crossed(logits, labels, start == 0))
    ),
    "focal": lambda logits, labels, _, start: _focal(logits, labels, start == 0),
    "tversky": lambda _, labels, found, start: _dice(found[:, start:], labels[:, start:], 0.7, 0.3),
    "2*dice+0.25*ce": lambda *them: 2 * FORMULAS["dice"](*them) + 0.25 * FORMULAS["ce"](*them),
}


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_a_loss_is_what_its_formula_says(name: str, sigmoid: bool, drawn: Any) -> None:
    logits, labels = drawn
    channels = one_hot(labels)
    if sigmoid:
        channels[:, 1] = np.maximum(channels[:, 1], channels[:, 2])  # one region inside the other
        found, target = special.expit(logits), channels
    else:
        found, target = special.softmax(logits, axis=1), labels[:, None]
    expected = FORMULAS[name](logits, channels, found, 0 if sigmoid else 1)
    value = built(name, sigmoid=sigmoid)(torch.tensor(logits, dtype=torch.float32), torch.tensor(target).float())
    assert float(value) == pytest.approx(expected, rel=1e-4)


def test_every_term_has_a_formula_here() -> None:
    assert set(LOSSES) == (set(FORMULAS) & set(LOSSES)) | {"boundary", "cldice"}


@pytest.mark.parametrize("sigmoid", [False, True])
def test_the_boundary_loss_is_the_mean_of_probability_times_distance(sigmoid: bool) -> None:
    random = np.random.default_rng(5)
    labels = np.zeros((2, 20, 18, 16), np.int64)
    labels[0, 3:12, 4:13, 2:11], labels[0, 14:18, 3:9, 4:12] = 1, 2
    labels[1, 5:9, 5:9, 5:9] = 2  # label 1 is not there
    logits = random.normal(size=(2, 3, *labels.shape[1:]))
    channels = one_hot(labels)[:, 0 if sigmoid else 1 :]
    found = special.expit(logits) if sigmoid else special.softmax(logits, axis=1)[:, 1:]
    distances = np.zeros_like(channels)
    for place in np.ndindex(channels.shape[:2]):
        mask = channels[place] > 0
        if mask.any():
            surface = mask & ~ndimage.binary_erosion(mask, np.ones((3, 3, 3)), border_value=1)
            outside, inside = ndimage.distance_transform_edt(~mask), ndimage.distance_transform_edt(~surface)
            distances[place] = np.where(mask, -inside, outside)
    np.testing.assert_allclose(signed_distances(torch.tensor(channels)).numpy(), distances, atol=1e-5)
    target = torch.tensor(channels if sigmoid else labels[:, None])
    value = BoundaryLoss(sigmoid)(torch.tensor(logits), target.float())
    assert float(value) == pytest.approx(float(np.mean(found * distances)), rel=1e-4)


def _tube(radius: float) -> NDArray[np.bool_]:
    """A bent tube."""
    mask = np.zeros((40, 36, 24), bool)
    places = np.stack(np.meshgrid(*[np.arange(n) for n in mask.shape], indexing="ij"), axis=-1)
    for x in np.linspace(8, 32, 200):
        mask |= np.linalg.norm(places - (x, 18 + 8 * np.sin(x / 6), 12), axis=-1) <= radius
    return mask


@pytest.mark.parametrize("radius", [1.5, 2.5])
def test_the_soft_skeleton_of_a_tube_runs_along_its_centre_line(radius: float) -> None:
    from skimage.morphology import skeletonize

    tube = _tube(radius)
    found = soft_skeleton(torch.tensor(tube[None, None], dtype=torch.float32), 3)[0, 0].numpy() > 0.5
    line = skeletonize(tube)
    # Every voxel of either lies within two of the other.
    assert ndimage.distance_transform_edt(~line)[found].max() <= 2
    assert ndimage.distance_transform_edt(~found)[line].max() <= 2
    assert found.sum() < 0.4 * tube.sum()


def test_the_soft_skeleton_is_the_one_of_the_original() -> None:
    image = torch.rand(2, 2, 9, 8, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(soft_skeleton(image, 3), soft_skel(image, 3))


def test_cldice_sees_a_gap_in_a_tube_and_each_label_alike() -> None:
    tube = _tube(1.5)
    broken = tube.copy()
    broken[18:22] = False
    labels = np.zeros((1, 1, *tube.shape))
    labels[0, 0][tube] = 1
    labels[0, 0, 2:30, 1:4, 1:4] = 2  # of much more voxels, found as it is
    loss = ClDice()

    def of(found: NDArray[np.bool_]) -> float:
        other = labels[0, 0] == 2
        channels = np.stack([~found & ~other, found, other])[None]
        return float(loss(torch.tensor(channels * 40.0 - 20.0), torch.tensor(labels)))

    line = soft_skeleton(torch.tensor(tube[None, None], dtype=torch.float32), 3)[0, 0].numpy()
    covered = ((line * broken).sum() + 1) / (line.sum() + 1)
    whole, gap = of(tube), of(broken)
    assert whole == pytest.approx(0, abs=0.01)
    # All that was found is right; of the centre line some is missing; and the other label is whole.
    assert gap == pytest.approx((1 - 2 * covered / (1 + covered)) / 2, abs=0.01)


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_are_finite_whatever_comes(name: str, sigmoid: bool) -> None:
    loss = built(name, sigmoid=sigmoid)
    channels = SHAPE[1] if sigmoid else 1
    for scale in (0.0, 1.0, 1e4, 1e6):
        for label in (0, 1):
            logits = (scale * torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))).requires_grad_()
            value = loss(logits, torch.full((2, channels, *SHAPE[2:]), float(label)))
            value.backward()
            assert value.dtype == torch.float32
            assert torch.isfinite(value), (scale, label)
            assert torch.isfinite(logits.grad).all(), (scale, label)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_right_costs_less_and_gradients_lead_there(name: str) -> None:
    labels = torch.zeros(1, 1, 12, 12, 12)
    labels[..., 2:8, 3:9, 2:7], labels[..., 8:11, 8:11, 3:9] = 1, 2
    right = torch.nn.functional.one_hot(labels[:, 0].long(), 3).movedim(-1, 1).float()
    loss = built(name)
    logits = torch.zeros_like(right).requires_grad_()
    loss(logits, labels).backward()
    assert logits.grad is not None
    with torch.no_grad():
        begun = loss(logits, labels)
        assert loss(20 * right, labels) < begun < loss(20 * right.roll(1, dims=1), labels)
        assert loss(logits - 0.5 * logits.grad / logits.grad.abs().max(), labels) < begun


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_heads_count_half_as_much_from_one_to_the_next(name: str, sigmoid: bool, drawn: Any) -> None:
    """Labels of smaller heads are those of the nearest voxels."""
    logits = torch.tensor(drawn[0]).float()
    labels = torch.tensor(one_hot(drawn[1]) if sigmoid else drawn[1][:, None]).float()
    whole, half = torch.nn.functional.pad(logits, (0, 1, 0, 1)), torch.randn(2, 3, 3, 4, 3)
    labels = torch.nn.functional.pad(labels, (0, 1, 0, 1))
    nearest = labels[:, :, 1::2, 1::2, 1::2]  # the middle of two voxels lies between them: the upper one
    loss = built(name, sigmoid=sigmoid)
    value = built(name, sigmoid=sigmoid, heads=1)([whole, half], labels)
    assert float(value) == pytest.approx(float(loss(whole, labels)) + float(loss(half, nearest)) / 2, rel=1e-5)


def test_numbers_that_make_no_sense_are_refused() -> None:
    for share in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="hardest_share"):
            CrossEntropy(hardest_share=share)
    with pytest.raises(UsageError, match="as many weights"):
        SumOfLosses([CrossEntropy()], [1.0, 2.0])

"""No loss and no metric counts a voxel that nobody judged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.losses import DeepSupervisionLoss

from volseg.planning.losses import parse_loss
from volseg.training import ClearIgnoredd

IGNORE = 3
SHAPE = (2, 3, 4, 5, 6)


def drawn(seed: int, *, sigmoid: bool = False, share: float = 0.5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, a label, and where it was judged."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(SHAPE, generator=random)
    judged = torch.rand((2, 1, 4, 5, 6), generator=random) >= share
    size = SHAPE if sigmoid else (2, 1, 4, 5, 6)
    label = torch.randint(0, 2 if sigmoid else 3, size, generator=random).float()
    return logits.requires_grad_(), torch.where(judged, label, IGNORE), judged


def softmax_dice_ce(logits: np.ndarray, label: np.ndarray, judged: np.ndarray) -> float:
    """Soft Dice over the batch without background, plus cross-entropy, of the judged voxels alone."""
    p = np.exp(logits - logits.max(1, keepdims=True))
    p = np.moveaxis(p / p.sum(1, keepdims=True), 1, -1)[judged[:, 0]]
    y = label[judged].astype(int)
    one_hot = np.eye(3)[y]
    dice = (2 * (p * one_hot).sum(0) + 1e-5) / (p.sum(0) + one_hot.sum(0) + 1e-5)
    return float((1 - dice[1:]).mean() - np.log(p[np.arange(len(y)), y]).mean())


def built(text: str, *, sigmoid: bool = False) -> torch.nn.Module:
    """A loss as a plan writes it."""
    described = parse_loss(text).component(sigmoid=sigmoid, ignore=IGNORE)
    loss: torch.nn.Module = ConfigParser({"loss": described}).get_parsed_content("loss")
    return loss


@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_the_mean_is_over_the_judged_voxels(share: float) -> None:
    logits, label, judged = drawn(1, share=share)
    wanted = softmax_dice_ce(*(one.detach().numpy() for one in (logits, label, judged)))
    assert float(built("dice-ce")(logits, label).detach()) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_binary_cross_entropy_of_regions(share: float) -> None:
    logits, label, judged = drawn(2, sigmoid=True, share=share)
    z, y = (np.moveaxis(one.detach().numpy(), 1, -1)[judged[:, 0].numpy()] for one in (logits, label))
    wanted = (np.log1p(np.exp(z)) - z * y).mean()
    assert float(built("ce", sigmoid=True)(logits, label).detach()) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("text", ["focal", "tversky", "dice-topk", "dice+0.5*ce"])
@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.98])
def test_any_loss_is_that_of_the_judged_voxels_alone(text: str, sigmoid: bool, share: float) -> None:
    """The loss without an ignore label, of a volume that holds the judged voxels and no others."""
    logits, label, judged = drawn(5, sigmoid=sigmoid, share=share)
    alone = (one.movedim(1, -1)[judged[:, 0]].T[None, :, :, None, None] for one in (logits, label))
    plain = ConfigParser({"loss": parse_loss(text).component(sigmoid=sigmoid)}).get_parsed_content("loss")
    found = built(text, sigmoid=sigmoid)(logits, label)
    assert float(found.detach()) == pytest.approx(float(plain(*alone).detach()), rel=1e-5)


LOSSES = ["dice-ce", "ce", "focal", "tversky", "dice-topk", "dice+cldice"]


@pytest.mark.parametrize("text", LOSSES)
@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("heads", [False, True])
def test_ignored_voxels_have_no_gradient_and_no_say(text: str, sigmoid: bool, heads: bool) -> None:
    loss = built(text, sigmoid=sigmoid)
    logits, label, judged = drawn(3, sigmoid=sigmoid)
    everywhere = judged.expand(SHAPE)

    coarse = torch.randn((2, 3, 2, 3, 3), requires_grad=True)
    small = torch.nn.functional.interpolate(label, coarse.shape[2:], mode="nearest-exact")[:, :1] != IGNORE

    def counted(fine: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        return DeepSupervisionLoss(loss)([fine, low], label) if heads else loss(fine, label)

    value = counted(logits, coarse)
    value.backward()
    parts = [(logits, everywhere), (coarse, small.expand(coarse.shape))][: 1 + heads]
    for part, there in parts:
        assert part.grad is not None
        assert not part.grad[~there].any()
        assert bool(part.grad[there].any())
    for other in (50 * torch.randn(()), torch.tensor(float("inf")), torch.tensor(float("nan"))):
        changed = [torch.where(there, part.detach(), other) for part, there in parts]
        assert float(counted(*changed, *[coarse] * (not heads)).detach()) == float(value.detach())


@pytest.mark.parametrize("text", LOSSES)
def test_nothing_judged_is_no_loss(text: str) -> None:
    logits, label, _ = drawn(4, share=1.1)
    value = built(text)(logits, label)
    value.backward()
    assert float(value.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("text", LOSSES)
@pytest.mark.parametrize("sigmoid", [False, True])
def test_no_number_is_waited_for(text: str, sigmoid: bool) -> None:
    """Tensors of the device meta have no values: what would ask for one, as for a GPU's, is an error."""
    logits, label, _ = (one.detach().to("meta") for one in drawn(6, sigmoid=sigmoid))
    assert built(text, sigmoid=sigmoid)(logits.requires_grad_(), label).shape == ()


def test_predictions_are_cleared_where_nobody_judged() -> None:
    label = torch.tensor([[[[0.0, 1, 3], [3, 2, 1]]]])
    found = ClearIgnoredd(keys=["pred", "label"], label_key="label", ignore=3)(
        {"pred": torch.ones(2, 1, 2, 3), "label": label}
    )
    assert found["label"].tolist() == [[[[0, 1, 0], [0, 2, 1]]]]
    assert found["pred"].tolist() == [[[[1, 1, 0], [0, 1, 1]]]] * 2

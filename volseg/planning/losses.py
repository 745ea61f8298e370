"""The losses that a plan may choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from volseg.planning.component import Built, Component, by_name, component, pick


class Loss(Built):
    """A loss over logits and whole-number labels."""

    def over_heads(self, heads: int) -> Component:
        """The loss over the main output and so many deep-supervision outputs, whose weight halves from one to the next."""
        loss = self.component()
        return component("monai.losses.DeepSupervisionLoss", loss=loss) if heads else loss


@dataclass(frozen=True)
class DiceCrossEntropy(Loss):
    """nnU-Net's sum of soft Dice, over the whole batch and without the background, and cross-entropy."""

    name: ClassVar[str] = "dice-ce"
    words: ClassVar[str] = "soft Dice over the batch plus cross-entropy"

    def component(self) -> Component:
        """Its target and arguments."""
        return component(
            "monai.losses.DiceCELoss", include_background=False, to_onehot_y=True, softmax=True, batch=True
        )


LOSSES: dict[str, type[Loss]] = by_name(DiceCrossEntropy)


def parse_loss(text: str) -> Loss:
    """The loss that a person named.

    Raises:
        UsageError: there is none of that name.
    """
    return pick(LOSSES, text, "loss")()

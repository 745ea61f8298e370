"""The losses that a plan may choose: weighted sums of terms."""

from __future__ import annotations

import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from volseg.errors import UsageError
from volseg.planning.component import Built, Component, by_name, component, pick

MOST_TERMS = 4
LARGEST_WEIGHT = 1000.0
TERM = re.compile(r"(?:([0-9]{1,4}(?:\.[0-9]{1,6})?) ?\* ?)?([a-z][a-z-]{0,30})")
"""Such as ``dice`` or ``0.5*ce``."""


class Term(Built):
    """One term of a loss over logits."""

    is_mean: ClassVar[bool] = False
    """Whether it is a mean over voxels, and not made of sums to which certain background adds nothing."""
    refines: ClassVar[bool] = False
    """Whether it is of use beside another term alone."""

    @abstractmethod
    def component(self, *, sigmoid: bool = False) -> Component:
        """Its target and arguments.

        Args:
            sigmoid: whether the channels are independent regions and the label has a 0 or 1 for each. Else they are
                classes, the first the background, and the label is (batch, 1, i, j, k) of whole numbers.
        """

    def ignoring(self, ignore: int, *, sigmoid: bool = False) -> Component:
        """The same over the voxels that were judged.

        Args:
            ignore: the number of a label where nobody judged, in all channels.
            sigmoid: as in ``component``.
        """
        loss = self.component(sigmoid=sigmoid)
        mean: Component = {"mean": True} if self.is_mean else {}
        return component("volseg.training.IgnoringLoss", loss=loss, ignore=ignore, sigmoid=sigmoid, **mean)


@dataclass(frozen=True)
class Loss(Built):
    """A weighted sum of terms, of logits and labels as ``Term`` takes them.

    Args:
        terms: weights and what they weigh.
    """

    terms: tuple[tuple[float, Term], ...]

    @property
    def name(self) -> str:  # type: ignore[override]
        """As ``parse_loss`` takes it."""
        return "+".join((f"{weight:g}*" if weight != 1 else "") + term.name for weight, term in self.terms)

    @property
    def words(self) -> str:  # type: ignore[override]
        """The words of its terms."""
        return ", plus ".join((f"{weight:g} times " if weight != 1 else "") + term.words for weight, term in self.terms)

    def component(self, *, sigmoid: bool = False, ignore: int | None = None) -> Component:
        """Its target and arguments.

        Args:
            sigmoid: as ``Term`` takes it.
            ignore: the number of a label where nobody judged, in all channels; None where every voxel was.
        """
        terms = [
            (weight, term.component(sigmoid=sigmoid) if ignore is None else term.ignoring(ignore, sigmoid=sigmoid))
            for weight, term in self.terms
        ]
        return terms[0][1] if len(terms) == 1 and terms[0][0] == 1 else _sum(*terms)

    def over_heads(self, heads: int, *, sigmoid: bool = False, ignore: int | None = None) -> Component:
        """The loss over the main output and so many deep-supervision outputs, whose weight halves from one to the next.

        Labels are brought to smaller outputs by their nearest voxels. Arguments as ``component``.
        """
        loss = self.component(sigmoid=sigmoid, ignore=ignore)
        return component("monai.losses.DeepSupervisionLoss", loss=loss) if heads else loss


@dataclass(frozen=True)
class Dice(Term):
    """Soft Dice over the whole batch and without the background."""

    name: ClassVar[str] = "dice"
    words: ClassVar[str] = "soft Dice over the batch"

    def component(self, *, sigmoid: bool = False) -> Component:
        """Its target and arguments."""
        return _overlap("monai.losses.DiceLoss", sigmoid)


@dataclass(frozen=True)
class CrossEntropy(Term):
    """Cross-entropy, binary for regions."""

    name: ClassVar[str] = "ce"
    words: ClassVar[str] = "cross-entropy"

    def component(self, *, sigmoid: bool = False) -> Component:
        """Its target and arguments."""
        return component("volseg.training.CrossEntropy", sigmoid=sigmoid)

    def ignoring(self, ignore: int, *, sigmoid: bool = False) -> Component:
        """The same over the voxels that were judged."""
        return self.component(sigmoid=sigmoid) | {"ignore": ignore}


@dataclass(frozen=True)
class DiceCrossEntropy(Term):
    """nnU-Net's sum of soft Dice, over the whole batch and without the background, and cross-entropy."""

    name: ClassVar[str] = "dice-ce"
    words: ClassVar[str] = "soft Dice over the batch plus cross-entropy"

    def component(self, *, sigmoid: bool = False) -> Component:
        """Its target and arguments."""
        if sigmoid:  # MONAI's sum takes several channels for classes all the same, in its cross-entropy
            return _sum((1.0, Dice().component(sigmoid=True)), (1.0, CrossEntropy().component(sigmoid=True)))
        return _overlap("monai.losses.DiceCELoss", sigmoid)

    def ignoring(self, ignore: int, *, sigmoid: bool = False) -> Component:
        """The same over the voxels that were judged."""
        return _sum(*((1.0, term.ignoring(ignore, sigmoid=sigmoid)) for term in (Dice(), CrossEntropy())))


@dataclass(frozen=True)
class DiceTopK(Term):
    """nnU-Net's ``DC_and_topk_loss``."""

    name: ClassVar[str] = "dice-topk"
    words: ClassVar[str] = "soft Dice over the batch plus the cross-entropy of the hardest tenth of the voxels"

    def component(self, *, sigmoid: bool = False) -> Component:
        """Its target and arguments."""
        return _sum((1.0, Dice().component(sigmoid=sigmoid)), (1.0, self._hardest(sigmoid)))

    def ignoring(self, ignore: int, *, sigmoid: bool = False) -> Component:
        """The same over the voxels that were judged."""
        hardest = self._hardest(sigmoid) | {"ignore": ignore}
        return _sum((1.0, Dice().ignoring(ignore, sigmoid=sigmoid)), (1.0, hardest))

    @staticmethod
    def _hardest(sigmoid: bool) -> Component:
        return component("volseg.training.CrossEntropy", sigmoid=sigmoid, hardest_share=0.1)


@dataclass(frozen=True)
class Focal(Term):
    """The focal loss (Lin et al., ICCV 2017) with the exponent 2."""

    name: ClassVar[str] = "focal"
    words: ClassVar[str] = "focal loss: cross-entropy in which voxels that are right count little"
    is_mean: ClassVar[bool] = True

    def component(self, *, sigmoid: bool = False) -> Component:
        """Its target and arguments."""
        classes: Component = {} if sigmoid else {"to_onehot_y": True, "use_softmax": True}
        return component("monai.losses.FocalLoss", gamma=2.0, **classes)


@dataclass(frozen=True)
class Tversky(Term):
    """The Tversky loss (Salehi et al., MLMI 2017) with its weights for lesions."""

    name: ClassVar[str] = "tversky"
    words: ClassVar[str] = "Tversky loss: Dice in which what is missed costs more than what is too much (0.7 to 0.3)"

    def component(self, *, sigmoid: bool = False) -> Component:
        """Its target and arguments."""
        return _overlap("monai.losses.TverskyLoss", sigmoid) | {"alpha": 0.3, "beta": 0.7}


@dataclass(frozen=True)
class Boundary(Term):
    """The boundary loss (Kervadec et al., MIDL 2019)."""

    name: ClassVar[str] = "boundary"
    words: ClassVar[str] = "distance from the labels' surfaces in voxels, only beside another loss"
    refines: ClassVar[bool] = True

    def component(self, *, sigmoid: bool = False) -> Component:
        """Its target and arguments."""
        return component("volseg.training.BoundaryLoss", sigmoid=sigmoid)


@dataclass(frozen=True)
class CentreLineDice(Term):
    """Soft clDice (Shit et al., CVPR 2021)."""

    name: ClassVar[str] = "cldice"
    words: ClassVar[str] = "Dice of centre lines for thin tubes, only beside another loss"
    refines: ClassVar[bool] = True

    def component(self, *, sigmoid: bool = False) -> Component:
        """Its target and arguments."""
        return component("volseg.training.ClDice", sigmoid=sigmoid)


LOSSES: dict[str, type[Term]] = by_name(
    DiceCrossEntropy, Dice, CrossEntropy, Focal, Tversky, DiceTopK, Boundary, CentreLineDice
)


def parse_loss(text: str) -> Loss:
    """The loss that a person named: terms with weights, such as ``dice-ce`` or ``dice+0.5*ce``.

    Raises:
        UsageError: it is no such sum of terms that there are.
    """
    terms: list[tuple[float, Term]] = []
    for part in text.split("+"):
        found = TERM.fullmatch(part.strip())
        if found is None:
            raise UsageError(f"A loss is a name or a sum such as dice+0.5*ce, not {text!r}.")
        terms.append((float(found[1] or 1), pick(LOSSES, found[2], "loss")()))
    names = [term.name for _, term in terms]
    if len(set(names)) < len(names) or len(names) > MOST_TERMS:
        raise UsageError(f"A loss has up to {MOST_TERMS} terms, each once, not {text!r}.")
    if not all(0 < weight <= LARGEST_WEIGHT for weight, _ in terms):
        raise UsageError(f"The weights of a loss lie above 0 and up to {LARGEST_WEIGHT:g}, not as in {text!r}.")
    if all(term.refines for _, term in terms):
        raise UsageError(f"{' and '.join(names)} can't train alone. Add another loss: dice-ce+{text.strip()}.")
    return Loss(tuple(terms))


def _overlap(target: str, sigmoid: bool) -> Component:
    """A loss of MONAI's over the whole batch; classes without the background, of regions all."""
    if sigmoid:
        return component(target, include_background=True, sigmoid=True, batch=True)
    return component(target, include_background=False, to_onehot_y=True, softmax=True, batch=True)


def _sum(*terms: tuple[float, Component]) -> Component:
    weights = [weight for weight, _ in terms]
    return component("volseg.training.SumOfLosses", losses=[loss for _, loss in terms], weights=list(weights))

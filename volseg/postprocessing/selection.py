"""Rules for labels chosen by the Dice that they give held-out cases.

A rule is kept for a label where the label's mean over all held-out cases rises, as nnU-Net's
``find_best_configuration`` does (Isensee et al., 2021), and no rule where a label's mean falls.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from volseg.metrics import overlaps
from volseg.postprocessing.fill_holes import FillHoles
from volseg.postprocessing.keep_largest import KeepLargest
from volseg.postprocessing.remove_small import RemoveSmall
from volseg.postprocessing.rule import Rule
from volseg.postprocessing.rules import PostprocessingRules

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from volseg.grid import Grid

SHARES = (0.01, 0.03, 0.1)
"""Of a label's median volume: components below such a share are tried to be removed."""
LEAST_GAIN = 1e-4
"""In mean Dice: less doesn't show in a table, and may be chance in any."""
LEAST_LOSS = 1e-9
"""Less is rounding."""
SIGNIFICANT = 2
"""Digits of a smallest volume."""

NONE, LARGEST = "", "largest"


@dataclass(frozen=True)
class Tried:
    """A rule for one label, and the label's mean Dice without and with it."""

    label: int
    rule: Rule
    before: float
    after: float
    kept: bool


@dataclass(frozen=True)
class Selection:
    """The rules that were chosen, and what was tried."""

    rules: PostprocessingRules
    tried: tuple[Tried, ...]


@dataclass
class Trial:
    """Candidates of rules on one held-out case after the other; keeps their Dice alone.

    Args:
        labels: those that rules are chosen for.
        volumes_mm3: the median volume of each label in the references; a label without one gets no smallest size.
        largest_before: the labels whose largest component the bundle keeps now; it stays where it costs nothing.
        ignored: the value of voxels in references that nobody judged, which don't count.
    """

    labels: tuple[int, ...]
    volumes_mm3: Mapping[int, float]
    largest_before: Collection[int] = ()
    ignored: int | None = None
    _dice: dict[tuple[str, bool], list[list[float]]] = field(default_factory=lambda: defaultdict(list), init=False)

    @property
    def removals(self) -> dict[str, tuple[Rule, ...]]:
        """What is tried of removing components, by a name; each on all labels at once, which don't touch each other."""
        by_share = {
            f"{share:g}": tuple(
                RemoveSmall(labels=(label,), minimum_mm3=_rounded(share * self.volumes_mm3[label]))
                for label in self.labels
                if self.volumes_mm3.get(label, 0) > 0
            )
            for share in SHARES
        }
        return {NONE: (), LARGEST: (KeepLargest(labels=self.labels),), **by_share}

    def add(self, mask: NDArray[np.generic], reference: NDArray[np.generic], grid: Grid) -> None:
        """Try all candidates on a case.

        Args:
            mask: (i, j, k) as predicted, before any rule.
            reference: the same, on the same grid.
            grid: where the voxels lie.
        """
        for name, rules in self.removals.items():
            for fill in (False, True):
                found = mask
                if rules or fill:
                    chosen = PostprocessingRules((*rules, *((FillHoles(labels=self.labels),) if fill else ())))
                    found, _ = chosen.apply(mask, grid)
                self._dice[name, fill].append(self.dice_of(found, reference))

    def choose(self, without: Collection[int] = ()) -> Selection:
        """The rules by all cases so far.

        Args:
            without: labels that get none.
        """
        means = {key: _means(rows) for key, rows in self._dice.items()}
        tried: list[Tried] = []
        largest, filled, small = [], [], list[Rule]()
        for place, label in enumerate(self.labels):
            free = label not in without
            plain = means[NONE, False][place]
            scores = {name: means[name, False][place] for name in self.removals if name not in (NONE, LARGEST)}
            best = max(scores, key=lambda name: scores[name], default=NONE)
            after = means[LARGEST, False][place]
            had = label in self.largest_before
            # Where no case has the label, nobody knows better than before.
            keeps = had if math.isnan(plain) else after - plain >= (-LEAST_LOSS if had else LEAST_GAIN)
            beats = not keeps or scores.get(best, plain) - max(after, plain) >= LEAST_GAIN
            removes = best != NONE and scores[best] - plain >= LEAST_GAIN and beats
            keeps = keeps and not removes and free
            removes = removes and free
            name = best if removes else LARGEST if keeps else NONE
            tried.append(Tried(label, KeepLargest(labels=(label,)), plain, after, keeps))
            rule = next((one for one in self.removals.get(best, ()) if label in one.labels), None)
            if rule is not None:
                tried.append(Tried(label, rule, plain, scores[best], removes))
            with_fill, before = means[name, True][place], means[name, False][place]
            fills = free and with_fill - before >= LEAST_GAIN
            tried.append(Tried(label, FillHoles(labels=(label,)), before, with_fill, fills))
            largest += [label] * keeps
            filled += [label] * fills
            if removes and rule is not None:
                small.append(rule)
        rules: list[Rule] = [KeepLargest(labels=tuple(largest))] if largest else []
        rules += small
        rules += [FillHoles(labels=tuple(filled))] if filled else []
        return Selection(PostprocessingRules(tuple(rules)), tuple(tried))

    def counted(self, mask: NDArray[np.generic], reference: NDArray[np.generic]) -> NDArray[np.generic]:
        """The mask without what lies where the reference says nothing."""
        return mask if self.ignored is None else np.where(reference == self.ignored, mask.dtype.type(0), mask)

    def dice_of(self, mask: NDArray[np.generic], reference: NDArray[np.generic]) -> list[float]:
        """The Dice of each label; NaN where neither mask has it."""
        return [overlap.dice for overlap in overlaps(self.counted(mask, reference), reference, self.labels)]

    def plain_means(self) -> list[float]:
        """The mean Dice of each label without any rule."""
        return _means(self._dice[NONE, False])


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    """Of each column, without what is not defined; NaN where nothing is."""
    columns = zip(*rows, strict=True)
    return [
        float(np.mean(found)) if (found := [one for one in column if not math.isnan(one)]) else math.nan
        for column in columns
    ]


def _rounded(volume: float) -> float:
    return float(f"{volume:.{SIGNIFICANT}g}")

"""Leave voxels of a label out of which the network was too little sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from volseg.errors import UsageError
from volseg.postprocessing.rule import ALL, UNNAMED, Group, Rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volseg.labels import LabelTable
    from volseg.postprocessing.edit import MaskEdit

NO_PROBABILITIES = (
    "A threshold goes by the network's probabilities, and a mask has none. Give it to volseg predict, which knows them."
)


@dataclass(frozen=True, kw_only=True)
class Threshold(Rule):
    """A voxel whose label has less than this probability becomes background, and never another label.

    It is applied where the mask is made of probabilities, so before all other rules, wherever it stands among them. Of
    regions, which may overlap, it takes the place of the threshold that the bundle cuts them at, mostly 0.5; ``labels``
    are then the network's outputs, counted from 1.

    Raises:
        UsageError: as ``Rule``, or the probability is not above 0 and up to 1.
    """

    key: ClassVar[str] = "threshold"

    minimum: float
    """The probability that a voxel needs; of a group that of its labels together."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.minimum <= 1:
            raise UsageError(
                f"{self.key}: minimum is a probability above 0 and up to 1, not {self.minimum}.", code="rule"
            )

    @property
    def each(self) -> tuple[Group, ...] | None:
        """The labels that count together, mostly one; None where each label counts by itself."""
        if self.labels == ALL:
            return None
        return tuple(part if isinstance(part, tuple) else (part,) for part in self.labels)

    def option(self, names: Mapping[int, str]) -> tuple[str, ...]:
        """What a person would give to ``--threshold`` for the same, such as ``1+2:0.7``.

        Args:
            names: how each label is called.
        """
        parts = [(label,) for label in names] if self.each is None else self.each
        return tuple(f"{'+'.join(names[label] for label in part)}:{self.minimum}" for part in parts)

    def apply(self, edit: MaskEdit) -> None:
        """A mask alone has no probabilities.

        Raises:
            UsageError: always.
        """
        del edit
        raise UsageError(NO_PROBABILITIES, code="no-probabilities")

    def words(self, table: LabelTable = UNNAMED) -> str:
        """The rule in words."""
        return self.of_labels(f"only voxels with a probability of at least {self.minimum:g}", table)

"""What rules with a ball have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.postprocessing.rule import UNNAMED, Rule

if TYPE_CHECKING:
    from volseg.labels import LabelTable


@dataclass(frozen=True, kw_only=True)
class BallRule(Rule):
    """A rule that moves a ball along a label. Beyond the image's border a label goes on as it is on it.

    Raises:
        UsageError: as ``Rule``, or the radius is not above 0 and up to 100 mm.
    """

    radius_mm: float
    """Of the ball."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_mm("radius_mm")

    def words(self, table: LabelTable = UNNAMED) -> str:
        """The rule in words."""
        return self.of_labels(f"{self.key} with a ball of {self.radius_mm:g} mm", table)

"""``labels.txt`` beside the masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.labels import LABELS_NAME
from volseg.outcomes import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from volseg.labels import LabelTable, Region
    from volseg.outcomes import Outcome
    from volseg.verbs.predict.model import Model


class Described:
    """``labels.txt`` for ITK-SNAP beside the masks: on the disk before them, with each value that turns up in one."""

    def __init__(
        self,
        out_dir: Path,
        model: Model,
        regions: Mapping[str, Region],
        earlier: Iterable[Outcome],
        say: Callable[[str], object],
    ) -> None:
        self._path, self._table, self._rules = out_dir / LABELS_NAME, model.table, model.rules
        self._say = say
        for folder, region in regions.items():
            self._describe(region.table, out_dir / folder / LABELS_NAME)
        self._is_one = not regions
        for outcome in earlier:
            self._take(outcome)
        if self._is_one:
            self._describe(self._table, self._path)

    def _describe(self, table: LabelTable, path: Path) -> None:
        if not table.describe(path):
            self._say(
                f"warning: {path} is no label description that volseg reads, and stays: it may name other labels."
            )

    def _take(self, outcome: Outcome) -> None:
        if outcome.status is Status.DONE:
            self._table = self._rules.table_of(self._table, outcome.values_outside)

    def add(self, outcome: Outcome) -> None:
        """Take in what became of a case."""
        before = self._table
        self._take(outcome)
        if self._is_one and self._table != before:
            self._table.describe(self._path)  # told already

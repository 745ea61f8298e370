"""What cross-validation came to: ``runs/cross_validation.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from volseg.atomic import write_text
from volseg.errors import InputError
from volseg.files import read_bounded
from volseg.metrics import Summary, summarise
from volseg.outcomes import sha256_of
from volseg.training.checkpoint import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NAME = "cross_validation.json"
PICTURE = "cross_validation.png"
RECORD_FORMAT = 1
MAX_BYTES = 2**27


@dataclass(frozen=True)
class HeldOut:
    """A case as the fold scored it that held it out.

    Args:
        case: its name.
        fold: the fold's number.
        dice: of each label; None where neither mask has it.
        hd95_mm: of each label; None where neither mask has it, or one of them lacks it.
    """

    case: str
    fold: int
    dice: tuple[float | None, ...]
    hd95_mm: tuple[float | None, ...]


@dataclass(frozen=True)
class RuleGain:
    """A rule for one label that was tried on all held-out cases.

    Args:
        label: the label's number.
        rule: in words.
        before: the label's mean Dice without the rule.
        after: with it.
        kept: whether the bundle has it now.
    """

    label: int
    rule: str
    before: float
    after: float
    kept: bool

    @property
    def gain(self) -> float:
        """In Dice."""
        return self.after - self.before


@dataclass(frozen=True)
class CrossValidation:
    """Every case once, scored by the fold that held it out.

    Args:
        labels: the names of the labels, or regions.
        cases: by fold and name.
        rules: what was tried of rules for labels; empty where none were chosen by these cases.
        weights: the SHA-256 of the weights that each fold predicted with, by its run's name.
        key: of all that the scores depend on, but for the rules.
        bundle_rules: the rules of the bundle that the scores are with, as plain data.
        chosen: whether volseg chose them, so that it may choose anew, and not a person.
    """

    labels: tuple[str, ...]
    cases: tuple[HeldOut, ...]
    rules: tuple[RuleGain, ...]
    weights: Mapping[str, str]
    key: str
    bundle_rules: tuple[Mapping[str, object], ...] = ()
    chosen: bool = False
    format: int = RECORD_FORMAT

    @property
    def folds(self) -> tuple[int, ...]:
        """Their numbers."""
        return tuple(sorted({case.fold for case in self.cases}))

    def dice(self, label: int, fold: int | None = None) -> Summary:
        """The Dice of a label by its place, over the cases of a fold, or over all."""
        return summarise(_number(case.dice[label]) for case in self.cases if fold in (None, case.fold))

    def hd95_mm(self, label: int) -> Summary:
        """The HD95 of a label by its place, over all cases."""
        return summarise(_number(case.hd95_mm[label]) for case in self.cases)

    def mean(self, fold: int | None = None) -> float:
        """The mean over the labels of their mean Dice."""
        return summarise(self.dice(label, fold).mean for label in range(len(self.labels))).mean

    @property
    def spread(self) -> float:
        """The standard deviation over the folds of that mean."""
        return summarise(self.mean(fold) for fold in self.folds).standard_deviation

    def is_current(self, runs: Path) -> bool:
        """Whether the folds still have the weights that were scored.

        Raises:
            FileError: they can't be read.
        """
        files = {run: RunFolder(runs / run).best for run in self.weights}
        return all(file.is_file() and sha256_of(file) == self.weights[run] for run, file in files.items())

    def write(self, runs: Path) -> None:
        """Write the record atomically, with the summary that follows from it for whoever reads the file.

        Raises:
            FileError: it can't be written.
        """
        summary = {
            "mean": self.mean(),
            "spread_over_folds": self.spread,
            "labels": [
                {
                    "name": name,
                    "dice": asdict(self.dice(place)),
                    "dice_by_fold": [self.dice(place, fold).mean for fold in self.folds],
                    "hd95_mm": asdict(self.hd95_mm(place)),
                }
                for place, name in enumerate(self.labels)
            ],
        }
        content = {"summary": summary} | TypeAdapter(CrossValidation).dump_python(self, mode="json")
        write_text(runs / NAME, json.dumps(_writable(content), indent=1, allow_nan=False) + "\n")

    @classmethod
    def read(cls, runs: Path) -> CrossValidation | None:
        """Read the record of a bundle's runs; None where there is none.

        Raises:
            InputError: it is damaged, or of another version of volseg.
            FileError: it can't be read.
        """
        path = runs / NAME
        if not path.exists():
            return None
        try:
            plain = json.loads(read_bounded(path, MAX_BYTES, "record of a cross-validation"))
            found = TypeAdapter(cls).validate_python(
                {name: value for name, value in plain.items() if name != "summary"}
            )
            if found.format != RECORD_FORMAT or any(
                len(figures) != len(found.labels) for case in found.cases for figures in (case.dice, case.hd95_mm)
            ):
                raise ValueError("another format")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{path} can't be read. Remove it; volseg train --cv makes it anew.", code="bad-record", path=path
            ) from error
        return found


def figures(values: Iterable[float]) -> tuple[float | None, ...]:
    """Figures as the record keeps them: None where one is not defined or not finite."""
    return tuple(value if math.isfinite(value) else None for value in values)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _writable(value: object) -> object:
    """The same data, with null for what JSON has no number for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _writable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_writable(item) for item in value]
    return value

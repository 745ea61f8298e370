"""How masks are compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from volseg.errors import OutputExistsError, UsageError
from volseg.evaluation import CSV_NAME, JSON_NAME
from volseg.options import Many, PathOption, each


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How to compare."""

    out: PathOption | None = None
    """Folder for evaluation.csv and evaluation.json."""

    labels: Many[str | int] = ()
    """Labels to score instead of all: numbers such as 1,2, or names such as liver, as labels.txt or dataset.json beside
    the masks has them. A number is never taken for a name."""

    regions: Many[str] = ()
    """Structures to score in place of the labels, as unions of labels: "whole tumor=1,2,4; tumor core=1,4". A
    dataset.json of nnU-Net's beside the reference may name them, and so may folders that predict --regions wrote."""

    require_all: bool = False
    """Count a reference without a prediction as a refused case, so that the exit code is 1."""

    overwrite: bool = False
    """Replace an evaluation that is there already."""

    jobs: int = 0
    """How many cases are compared at once; 0 takes all cores."""


DEFAULTS = EvaluateOptions()


def names_labels(options: EvaluateOptions) -> bool:
    """Whether labels are to be scored by what a person named."""
    given: tuple[int | str, ...] = each(options.labels)
    return bool(given)


def require_no_labels(options: EvaluateOptions) -> None:
    """Refuse labels beside regions.

    Raises:
        UsageError: labels are named.
    """
    if names_labels(options):
        raise UsageError("These masks are scored by regions: leave --labels out, or name the regions by --regions.")


def require_usable(predicted: Path, reference: Path, options: EvaluateOptions) -> None:
    """Refuse paths that can't be compared, before anything is read.

    Raises:
        UsageError: one is absent, both are the same, or the results have no folder to go to.
        OutputExistsError: an evaluation is there already.
    """
    for path in (predicted, reference):
        if not path.exists():
            raise UsageError(f"{path} does not exist.", code="missing-file")
    if predicted.resolve() == reference.resolve():
        raise UsageError(f"{predicted} would be compared with itself. Name the reference.", code="same-folder")
    if options.out is None:
        return
    out = Path(options.out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file, and the results need a folder.", code="not-a-folder")
    there = [name for name in (CSV_NAME, JSON_NAME) if (out / name).exists()]
    if there and not options.overwrite:
        raise OutputExistsError(f"{out} has {' and '.join(there)} already. Name another folder, or add --overwrite.")

"""Which labels are scored, and what they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.errors import UsageError
from volseg.evaluation import ScoredCase
from volseg.labels import MAX_INDEX, Label, LabelTable, is_name
from volseg.nomenclature import key_of
from volseg.options import Many, each

if TYPE_CHECKING:
    from collections.abc import Iterable

    from volseg.outcomes import Outcome


def wanted_labels(
    asked: Many[int | str], predicted: LabelTable | None, reference: LabelTable | None
) -> tuple[int, ...]:
    """The labels to score by their numbers; none for all."""
    given: tuple[int | str, ...] = each(asked)
    table = reference or predicted or LabelTable(())
    labels = table.each(given)
    found = table.find(labels)
    if any(not 1 <= label <= MAX_INDEX for label in found):
        raise UsageError(f"Labels are numbers from 1 to {MAX_INDEX}, not {list(labels)}.")
    theirs = {label.name.casefold(): label.index for label in predicted.labels} if predicted else {}
    for label, index in zip(labels, found, strict=True):
        if is_name(label) and theirs.get(label.casefold(), index) != index:
            raise UsageError(
                f"{label} is {index} in the reference and {theirs[label.casefold()]} in the prediction. "
                "Make the labels of both the same first."
            )
    return found


def labels_to_show(
    predicted: LabelTable | None, reference: LabelTable | None, outcomes: Iterable[Outcome], chosen: tuple[int, ...]
) -> tuple[LabelTable, tuple[str, ...]]:
    """The labels to show: those of the table, and those that were met beyond it."""
    met = {score.label for outcome in outcomes if isinstance(outcome, ScoredCase) for score in outcome.scores}
    table = reference or predicted
    names = {label.index: label for label in table.labels} if table else {}
    wanted = set(chosen) or (met | set(names))
    warnings = []
    beyond = sorted(label for label in wanted if label not in names)
    if table and beyond:
        warnings.append(f"The label table has no label {', '.join(map(str, beyond))}, and masks have it.")
    warnings += named_apart(predicted, reference)
    taken = {label.name for label in names.values()}
    labels = [names[index] for index in wanted if index in names]
    labels += [Label(index, _free_name(index, taken)) for index in beyond]
    return LabelTable(tuple(labels)), tuple(warnings)


def _free_name(index: int, taken: set[str]) -> str:
    name = f"label_{index}"
    return name if name not in taken else f"label_{index} (not in the table)"


def named_apart(
    predicted: LabelTable | None, reference: LabelTable | None, used: Iterable[int] | None = None
) -> tuple[str, ...]:
    """A sentence for each number, or each of those used, that has another name in the prediction."""
    theirs = {label.index: label.name for label in predicted.labels} if predicted else {}
    return tuple(
        f"Label {label.index} is {label.name!r} in the reference and {theirs[label.index]!r} in the prediction: "
        "is it the same thing?"
        for label in (reference.labels if reference else ())
        if (used is None or label.index in used)
        and label.index in theirs
        and key_of(theirs[label.index]) != key_of(label.name)
    )

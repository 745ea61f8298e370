"""Folds for cross-validation: which cases are held out together."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from volseg.errors import DataSetError, InputError, UsageError
from volseg.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from volseg.dataset.case import Case

MAX_FOLDS_BYTES = 2**24
"""Ten folds of ten thousand cases take 3 MB."""
NAMED_CASES = 10


class _Fold(BaseModel):
    model_config = ConfigDict(extra="ignore")

    train: list[str]
    val: list[str]


def split_folds(cases: Sequence[Case], count: int = 5, seed: int = 0) -> tuple[tuple[str, ...], ...]:
    """Deal the cases into folds of nearly equal size; all cases of a patient go into one.

    The same cases and seed give the same folds on every machine: patients are ordered by the SHA-256 of seed and
    pseudonym, those with most cases first, and each goes to the smallest fold.

    Returns:
        For each fold the names held out, sorted. With fewer patients than folds, the last folds hold out none.

    Raises:
        UsageError: fewer than two folds are asked for, with the code ``bad-fold-count``.
    """
    if count < 2:
        raise UsageError(f"Cross-validation needs at least 2 folds, not {count}.", code="bad-fold-count")
    patients = _by_patient(cases)

    def order(patient: tuple[str, str]) -> tuple[int, str]:
        return -len(patients[patient]), hashlib.sha256(f"{seed}:{patient[0]}:{patient[1]}".encode()).hexdigest()

    folds: list[list[str]] = [[] for _ in range(count)]
    for patient in sorted(patients, key=order):
        min(folds, key=len).extend(patients[patient])
    return tuple(tuple(sorted(fold)) for fold in folds)


def count_patients(cases: Sequence[Case]) -> int:
    """How many patients the cases come from; a case without a known patient counts as one."""
    return len(_by_patient(cases))


def read_folds(path: Path) -> tuple[tuple[str, ...], ...]:
    """Import folds from a JSON list of ``{"train": [names], "val": [names]}``, as nnU-Net's ``splits_final.json``.

    Returns:
        For each fold the names held out, sorted.

    Raises:
        FileError: the file is absent or can't be read.
        InputError: it is not such a list, or its folds don't share one set of cases, each held out at most once.
    """
    raw = read_bounded(path, MAX_FOLDS_BYTES, "list of folds")
    try:
        folds = TypeAdapter(list[_Fold]).validate_json(raw)
    except ValidationError as error:
        raise _bad(
            f'{path} is not a JSON list of folds, each {{"train": [names], "val": [names]}}.', path=path
        ) from error
    if not folds or not all(fold.val and fold.train for fold in folds):
        raise _bad(f"{path} has no fold, or one that trains on nothing or holds nothing out.", path=path)
    everything = {*folds[0].train, *folds[0].val}
    held_out: set[str] = set()
    for number, fold in enumerate(folds):
        # A fold is kept by what it holds out, so the rest has to be what it trains on.
        both, again = set(fold.train) & set(fold.val), set(fold.val) & held_out
        if both:
            raise _bad(f"{path}: fold {number} trains on what it holds out: {_named(both)}.", path=path)
        if again:
            raise _bad(f"{path}: fold {number} holds out what another one does: {_named(again)}.", path=path)
        if {*fold.train, *fold.val} != everything:
            raise _bad(f"{path}: fold {number} does not have the same cases as fold 0.", path=path)
        held_out.update(fold.val)
    return tuple(tuple(sorted(set(fold.val))) for fold in folds)


def require_fitting(folds: Sequence[Sequence[str]], cases: Sequence[Case]) -> None:
    """Refuse folds that name cases which are not there, or that part a patient's cases.

    Raises:
        DataSetError: with the code ``folds-unknown-case`` or ``folds-part-patient``.
    """
    unknown = {name for fold in folds for name in fold} - {case.name for case in cases}
    if unknown:
        raise DataSetError(
            f"The folds name cases that the data set does not have with a mask: {_named(unknown)}. Correct the list.",
            code="folds-unknown-case",
        )
    fold_of = {name: number for number, fold in enumerate(folds) for name in fold}
    for names in _by_patient(cases).values():
        # A case that no fold holds out is trained on in all of them.
        if len({fold_of.get(name) for name in names}) > 1:
            raise DataSetError(
                f"The folds part cases of one patient, so a score would be too good: {_named(set(names))}. "
                "Hold them out together.",
                code="folds-part-patient",
            )


def _by_patient(cases: Sequence[Case]) -> dict[tuple[str, str], list[str]]:
    """The names of each patient's cases. A case of nobody known is a patient that no pseudonym can equal."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for case in cases:
        key = ("patient", case.patient) if case.patient is not None else ("case", case.name)
        found[key].append(case.name)
    return found


def _named(names: set[str]) -> str:
    shown = ", ".join(repr(name) for name in sorted(names)[:NAMED_CASES])
    return shown + (f" and {len(names) - NAMED_CASES} more" if len(names) > NAMED_CASES else "")


def _bad(message: str, path: Path) -> InputError:
    return InputError(message, path=path, code="bad-folds")

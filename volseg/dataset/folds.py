"""Folds for cross-validation: which cases are held out together."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from volseg.atomic import write_text
from volseg.errors import DataSetError, InputError, UsageError
from volseg.files import read_bounded
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from volseg.dataset.case import Case

FOLDS = 5
"""As many as nnU-Net and most of the field take."""
MAX_FOLDS_BYTES = 2**24
"""Ten folds of ten thousand cases take 3 MB."""
MAX_FOLDS = 1000


class _Fold(BaseModel):
    model_config = ConfigDict(extra="ignore")

    train: list[str]
    val: list[str]


def split_folds(
    cases: Sequence[Case],
    count: int = FOLDS,
    seed: int = 0,
    labels_of: Mapping[str, Collection[int]] | None = None,
) -> tuple[tuple[str, ...], ...]:
    """Deal the cases into folds of nearly equal size; all cases of a patient go into one.

    The same cases, labels and seed give the same folds on every machine. Labels that only some cases have are spread
    evenly, the rarest first, each patient to the fold with the fewest cases of that label (iterative stratification,
    Sechidis et al., ECML PKDD 2011). Whoever has none of these goes to the smallest fold. Patients with most cases
    come first, then the SHA-256 of seed and pseudonym decides.

    Args:
        cases: the labelled cases.
        count: how many folds.
        seed: another one gives other folds.
        labels_of: the labels in the mask of each case, by its name; without it the folds are not stratified.

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

    having: dict[int, set[str]] = defaultdict(set)
    for case in cases:
        for label in (labels_of or {}).get(case.name, ()):
            having[label].add(case.name)
    rare = {label: names for label, names in having.items() if len(names) < len(cases)}
    folds: list[list[str]] = [[] for _ in range(count)]
    left = sorted(patients, key=order)
    while left:
        undealt = {name for patient in left for name in patients[patient]}
        counts = {label: len(names & undealt) for label, names in rare.items() if names & undealt}
        rarest = min(counts, key=lambda label: (counts[label], label), default=None)
        wanted = set() if rarest is None else rare[rarest]
        dealt = [patient for patient in left if rarest is None or wanted.intersection(patients[patient])]
        for patient in dealt:
            min(folds, key=lambda fold: (len(wanted.intersection(fold)), len(fold))).extend(patients[patient])
        left = [patient for patient in left if patient not in set(dealt)]
    return tuple(tuple(sorted(fold)) for fold in folds)


@dataclass(frozen=True)
class Split:
    """The folds of a data set.

    Args:
        cases: all cases that it was made of; one that no fold holds out is trained on in each.
        folds: for each fold the names held out, sorted.
    """

    cases: frozenset[str]
    folds: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, cases: Sequence[Case], labels_of: Mapping[str, Collection[int]]) -> Split:
        """Deal the labelled cases into ``FOLDS`` folds, or as many as patients, by their labels; see ``split_folds``."""
        return cls(frozenset(case.name for case in cases), _without_last(split_folds(cases, labels_of=labels_of)))

    @classmethod
    def read(cls, path: Path) -> Split:
        """Read a JSON list of ``{"train": [names], "val": [names]}``, as nnU-Net's ``splits_final.json`` is, or a CSV.

        The CSV has the columns ``case`` and ``fold``, the number from 0 of the fold that holds the case out; a case
        without a number is held out by none. Last folds that hold out none are left out.

        Raises:
            FileError: the file is absent or can't be read.
            InputError: it is neither, or its folds don't share one set of cases, each held out at most once.
        """
        raw = read_bounded(path, MAX_FOLDS_BYTES, "list of folds")
        return _from_csv(path, raw) if path.suffix.lower() == ".csv" else _from_json(path, raw)

    def write(self, path: Path) -> None:
        """Write the folds atomically as nnU-Net's ``splits_final.json``.

        Raises:
            FileError: the file can't be written.
        """
        content = [{"train": sorted(self.cases.difference(fold)), "val": list(fold)} for fold in self.folds]
        write_text(path, json.dumps(content, indent=1) + "\n")

    def require_fitting(self, cases: Sequence[Case]) -> None:
        """Refuse folds that name cases which are not there, or that part a patient's cases.

        Raises:
            DataSetError: with the code ``folds-unknown-case`` or ``folds-part-patient``.
        """
        unknown = self.cases - {case.name for case in cases}
        if unknown:
            raise DataSetError(
                f"The folds name cases that the data set does not have with a mask: {_named(unknown)}. "
                "Correct the list.",
                code="folds-unknown-case",
            )
        parted = self.parted(cases)
        if parted:
            raise DataSetError(
                f"The folds part cases of one patient, so a score would be too good: {_named(parted)}. "
                "Hold them out together.",
                code="folds-part-patient",
            )

    def parted(self, cases: Sequence[Case]) -> set[str]:
        """The cases of the first patient whom the folds part; empty where each patient's cases are together."""
        fold_of = {name: number for number, fold in enumerate(self.folds) for name in fold}
        for names in _by_patient(cases).values():
            # A case that no fold holds out is trained on in all of them.
            ours = self.cases.intersection(names)
            if len({fold_of.get(name) for name in ours}) > 1:
                return set(ours)
        return set()


def _from_json(path: Path, raw: bytes) -> Split:
    try:
        folds = TypeAdapter(list[_Fold]).validate_json(raw)
    except ValidationError as error:
        raise _bad(path, ' is not a JSON list of folds, each {"train": [names], "val": [names]}.') from error
    if not any(fold.val for fold in folds):
        raise _bad(path, " holds nothing out.")
    everything = {*folds[0].train, *folds[0].val}
    held_out: set[str] = set()
    for number, fold in enumerate(folds):
        # A fold is kept by what it holds out, so the rest has to be what it trains on.
        both, again = set(fold.train) & set(fold.val), set(fold.val) & held_out
        if both:
            raise _bad(path, f": fold {number} trains on what it holds out: {_named(both)}.")
        if again:
            raise _bad(path, f": fold {number} holds out what another one does: {_named(again)}.")
        if {*fold.train, *fold.val} != everything:
            raise _bad(path, f": fold {number} does not have the same cases as fold 0.")
        held_out.update(fold.val)
    return Split(frozenset(everything), _without_last(tuple(sorted(set(fold.val))) for fold in folds))


def _without_last(folds: Iterable[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """The folds up to the last that holds out a case."""
    found = list(folds)
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def _from_csv(path: Path, raw: bytes) -> Split:
    try:
        rows = list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _bad(path, " is not a UTF-8 table of comma-separated values.") from error
    fold_of: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        case, fold = ((row.get(column) or "").strip() for column in ("case", "fold"))
        if not case or (fold and not (fold.isascii() and fold.isdigit() and len(fold) < 9 and int(fold) < MAX_FOLDS)):
            raise _bad(
                path,
                f", line {line}: a case and the number of its fold from 0 are needed, under the headings case "
                "and fold.",
            )
        if fold_of.setdefault(case, fold) != fold:
            raise _bad(path, f", line {line}: the case {case[:200]!r} has two folds. Keep one.")
    numbers = [int(fold) for fold in fold_of.values() if fold]
    if not numbers:
        raise _bad(path, " holds nothing out.")
    folds = ({case for case, fold in fold_of.items() if fold and int(fold) == n} for n in range(max(numbers) + 1))
    return Split(frozenset(fold_of), tuple(tuple(sorted(fold)) for fold in folds))


def _by_patient(cases: Sequence[Case]) -> dict[tuple[str, str], list[str]]:
    """The names of each patient's cases. A case of nobody known is a patient that no pseudonym can equal."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for case in cases:
        key = ("patient", case.patient) if case.patient is not None else ("case", case.name)
        found[key].append(case.name)
    return found


def _named(names: Collection[str]) -> str:
    return listed([repr(name) for name in sorted(names)])


def _bad(path: Path, what: str) -> InputError:
    return InputError(f"{path}{what}", code="bad-folds", path=path)

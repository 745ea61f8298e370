"""Which patient each case is from, by pseudonym, so that a patient's cases stay together in a fold."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from volseg.errors import DataSetError

if TYPE_CHECKING:
    from pathlib import Path

PATIENTS_CSV = "patients.csv"
MAX_PATIENTS_BYTES = 2**24
"""A hundred thousand cases take 4 MB."""


def read_patients(path: Path) -> dict[str, str]:
    """Read a table with the columns ``case`` and ``patient``; others are passed over.

    Raises:
        DataSetError: the file can't be read, lacks a column or names a case twice; with the code ``bad-patients``.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_PATIENTS_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(f"{path} can't be read as a UTF-8 table.") from error
    if len(raw) > MAX_PATIENTS_BYTES:
        raise _bad(f"{path} is larger than {MAX_PATIENTS_BYTES // 2**20} MiB, far above any list of cases.")
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise _bad(f"{path} is not a table of comma-separated values.") from error
    found: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        case, patient = (row.get("case") or "").strip(), (row.get("patient") or "").strip()
        if not case or not patient:
            raise _bad(f"{path}, line {number}: a case and a patient are needed, under the headings case and patient.")
        if found.setdefault(case, patient) != patient:
            raise _bad(f"{path}, line {number}: the case {case[:200]!r} has two patients. Keep one.")
    return found


def _bad(message: str) -> DataSetError:
    return DataSetError(message, code="bad-patients")

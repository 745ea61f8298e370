"""Which patient each case is from, by pseudonym, so that a patient's cases stay together in a fold."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from volseg.errors import DataSetError, VolsegError
from volseg.files import read_bounded

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
        text = read_bounded(path, MAX_PATIENTS_BYTES, "list of cases").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _bad(f"{path} can't be read as a UTF-8 table.", path=path) from error
    except VolsegError as error:
        raise _bad(error.message, path=path) from error
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise _bad(f"{path} is not a table of comma-separated values.", path=path) from error
    found: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        case, patient = (row.get("case") or "").strip(), (row.get("patient") or "").strip()
        if not case or not patient:
            raise _bad(
                f"{path}, line {number}: a case and a patient are needed, under the headings case and patient.",
                path=path,
            )
        if found.setdefault(case, patient) != patient:
            raise _bad(f"{path}, line {number}: the case {case[:200]!r} has two patients. Keep one.", path=path)
    return found


def _bad(message: str, path: Path) -> DataSetError:
    return DataSetError(message, path=path, code="bad-patients")

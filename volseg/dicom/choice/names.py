"""Case names that a person makes of header elements, and the private table from cases to patients."""

from __future__ import annotations

import csv
import os
import re
import string
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.atomic import atomic_path
from volseg.dicom.file import tags
from volseg.dicom.labels.label_object import decoded_text
from volseg.errors import OutputExistsError, UsageError
from volseg.volume.naming import split_channel
from volseg.words import harmless

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from volseg.dicom import Series

FIELDS = {
    "PatientID": tags.PATIENT_ID,
    "PatientName": tags.PATIENT_NAME,
    "AccessionNumber": tags.ACCESSION_NUMBER,
    "StudyDate": tags.STUDY_DATE,
    "StudyID": tags.STUDY_ID,
    "StudyInstanceUID": tags.STUDY_INSTANCE_UID,
    "SeriesNumber": tags.SERIES_NUMBER,
    "SeriesDescription": tags.SERIES_DESCRIPTION,
    "SeriesInstanceUID": tags.SERIES_INSTANCE_UID,
    "ProtocolName": tags.PROTOCOL_NAME,
    "Modality": tags.MODALITY,
}
"""What a name may be made of."""
MAX_NAME_LENGTH = 150
"""File systems take 255 bytes, and suffixes and the marks of unfinished files need some."""
_UNSAFE = re.compile(r"[^A-Za-z0-9-]+")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)
"""Names that Windows gives to devices."""
NAME_WARNING = (
    "warning: --name puts what it takes from the headers into file names, the ledger and the sidecars. Whoever sees "
    "them may know the patients."
)


@dataclass(frozen=True)
class NameFault:
    """Why a series gets no name."""

    code: str
    message: str


def require_template(template: str) -> None:
    """Refuse a template that makes no name.

    Raises:
        UsageError: it names no known element, or is malformed.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"The name {template!r} is no template such as {{PatientID}}_{{SeriesNumber}}.") from error
    fields = [(name, form, conversion) for _, name, form, conversion in parts if name is not None]
    unknown = [name for name, form, conversion in fields if name not in FIELDS or form or conversion]
    if unknown or not fields:
        raise UsageError(f"A name is made of {', '.join(f'{{{field}}}' for field in FIELDS)} and plain characters.")


def header_text(series: Series, tag: int) -> str:
    """A text of a series' first image, decoded; private."""
    header = series.slices[0].header
    return decoded_text(header.values.get(tag, b""), header.text(tags.SPECIFIC_CHARACTER_SET)).strip(" \0")


def case_names(series: Sequence[Series], template: str) -> list[str | NameFault]:
    """The name of each series: letters, digits, hyphens and underscores alone, so that it stays in its folder.

    Returns:
        One for each series; a fault where an element is absent, or where names meet, upper and lower case being the
        same to some file systems.
    """
    names = [_name(one, template) for one in series]
    counts = Counter(name.lower() for name in names if isinstance(name, str))
    message = "Another series would get the same name. Choose a --name that tells them apart."
    return [
        NameFault("name-collision", message) if isinstance(name, str) and counts[name.lower()] > 1 else name
        for name in names
    ]


def _name(series: Series, template: str) -> str | NameFault:
    made = []
    for literal, field, _, _ in string.Formatter().parse(template):
        made.append(literal)
        if field is not None:
            value = _safe(header_text(series, FIELDS[field]))
            if not value:
                return NameFault("name-incomplete", f"Its header has no {field} to make a name of.")
            made.append(value)
    if series.identity.part:
        made.append(f"_{series.identity.part}")
    name = _safe("".join(made))
    # Four digits at the end would be the number of a channel.
    case, channel = split_channel(name)
    if channel is not None:
        name = f"{case}-{name[-4:]}"
    if _RESERVED.fullmatch(name):
        name = f"case_{name}"
    if len(name) > MAX_NAME_LENGTH:
        return NameFault("name-too-long", f"Its name would be longer than {MAX_NAME_LENGTH} characters.")
    return name


def _safe(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii") if text else ""
    return _UNSAFE.sub("_", plain).strip("_-")


def require_linkage(path: Path, nifti_dir: Path, *, overwrite: bool) -> None:
    """Refuse a place for the private table that is none.

    Raises:
        UsageError: it lies in the output folder, or is a folder.
        OutputExistsError: it is there already.
    """
    if path.resolve().is_relative_to(nifti_dir.resolve()):
        raise UsageError(
            f"{path} lies in the output folder, which may be shared. Keep the table of patients somewhere else.",
            code="linkage-inside",
        )
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Name a file for the table of patients.")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} is there already. Give another name, or --overwrite to replace it.")


def write_linkage(path: Path, rows: Iterable[tuple[str, str, str]]) -> None:
    """Write which patient each case is of, as CSV that its owner alone can read.

    A value that a spreadsheet would take for a formula gets an apostrophe in front.

    Args:
        path: of the file.
        rows: case, pseudonym of the patient, PatientID.

    Raises:
        FileError: it can't be written.
    """
    with atomic_path(path) as partial:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            table = csv.writer(file)
            table.writerow(("case", "patient", "PatientID"))
            table.writerows([harmless(cell) for cell in row] for row in sorted(rows))
            file.flush()
            os.fsync(file.fileno())

"""Scan a folder: every DICOM file's header read, its series built and verified."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.dicom.files import find_files, skipped_kind
from volseg.dicom.header import Header, NotDicomError, read_header
from volseg.dicom.series import Rejected, Series, build_series
from volseg.errors import InputError, VolsegError
from volseg.progress import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NOT_DICOM = "file that is not DICOM"


@dataclass(frozen=True, slots=True)
class BadFile:
    """A DICOM file whose header can't be read; ``name``, relative to the folder that was given, is private."""

    name: str
    error: VolsegError


@dataclass(frozen=True, eq=False)
class Scan:
    """What a folder of DICOM holds.

    Args:
        series: the volumes, verified, ordered by study and series.
        rejected: series that are no volume, skipped or refused.
        bad_files: files whose header can't be read.
        skipped_kinds: files that are no image of a volume, counted by kind.
    """

    series: tuple[Series, ...]
    rejected: tuple[Rejected, ...]
    bad_files: tuple[BadFile, ...]
    skipped_kinds: Mapping[str, int]


def scan(folder: Path, progress: Progress = SILENT, *, localizers: bool = False) -> Scan:
    """Find every DICOM file under a folder and build its series; headers are read, no pixel is decoded.

    Args:
        folder: searched with all folders in it; file names don't matter.
        progress: told of each file.
        localizers: whether images that call themselves localizers are series too.

    Raises:
        UsageError: the folder is absent or a file.
        InputError: it holds no DICOM file.
        FileError: it can't be listed.
    """
    found = find_files(folder)
    if not found:
        raise InputError(f"{folder} is empty. Give the folder that holds the DICOM files.", code="empty-folder")
    kinds: Counter[str] = Counter()
    images: list[tuple[Header, str]] = []
    bad: list[BadFile] = []
    with progress.task("reading headers", len(found), "files") as task:
        for file in found:
            task.advance()
            if file.skipped:
                kinds[file.skipped] += 1
                continue
            try:
                header = read_header(file.path)
            except NotDicomError:
                kinds[NOT_DICOM] += 1
                continue
            except VolsegError as error:
                bad.append(BadFile(file.name, error))
                continue
            kind = skipped_kind(header, localizers=localizers)
            if kind is None:
                images.append((header, file.name))
            else:
                kinds[kind] += 1
    if not images and not bad and not kinds.keys() - {NOT_DICOM, "symbolic link", "special file"}:
        raise InputError(
            f"{folder} holds no DICOM file among {len(found)}. Give the folder that holds them.", code="no-dicom"
        )
    built = build_series(images)
    return Scan(
        series=tuple(one for one in built if isinstance(one, Series)),
        rejected=tuple(one for one in built if isinstance(one, Rejected)),
        bad_files=tuple(bad),
        skipped_kinds=kinds,
    )

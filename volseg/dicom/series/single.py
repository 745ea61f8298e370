"""One series out of a folder, straight into memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from volseg.dicom.file.archives import private_folder
from volseg.dicom.series.loading import Loaded, load_values
from volseg.dicom.series.repair import DEFAULT_REPAIRS
from volseg.dicom.series.scan import Scan, numbered, scan, short_name
from volseg.dicom.series.series import Rejected, Series
from volseg.errors import InputError, UsageError
from volseg.outcomes import Status
from volseg.progress import SILENT, Progress
from volseg.words import listed

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.dicom.series.repair import Repairs


def read_series(
    source: Path,
    series: str | None = None,
    *,
    repairs: Repairs = DEFAULT_REPAIRS,
    suv: bool = False,
    progress: Progress = SILENT,
) -> Loaded:
    """Read the voxels of one series, placed by the positions in its headers alone.

    Args:
        source: a folder with all its folders and the zip and tar archives in them, or an archive.
        series: the number or short name of a series, as ``volseg convert --dry-run`` shows them; None where the folder
            has only one.
        repairs: which faults of geometry are put right.
        suv: whether PET becomes uptake by body weight.
        progress: told of each file.

    Raises:
        UsageError: the folder is absent, it has several series and none is named, or none of that name.
        InputError: there is no DICOM, or the series is no certain volume, with the reason.
        FileError: a file can't be read.
    """
    with private_folder() as scratch:
        found = scan(source, progress, repairs=repairs, scratch=scratch)
        one = _chosen(source, found, series)
        if isinstance(one, Rejected):
            raise InputError(f"{source}: {one.message}", code=one.code)
        loaded = load_values(one, suv=suv)
        return replace(loaded, changes=(*one.changes, *loaded.changes), notes=one.notes)


def _chosen(source: Path, found: Scan, series: str | None) -> Series | Rejected:
    known = numbered(found)
    if series is None:
        wanted = [one for _, one in known if isinstance(one, Series) or one.status is not Status.SKIPPED]
    else:
        wanted = [one for number, one in known if series in (str(number), short_name(one))]
    if len(wanted) == 1:
        return wanted[0]
    shown = [f"{number} ({short_name(one)})" for number, one in known if not wanted or one in wanted]
    names = listed(shown)
    if not wanted and series is None:
        raise InputError(f"{source} holds no series that is a volume{': ' * bool(known)}{names}.", code="no-series")
    count = f"{len(wanted) or 'no'} series" + (f" called {series!r}" if series else "")
    raise UsageError(f"{source} holds {count}. Name one by its number: {names}.", code="which-series")

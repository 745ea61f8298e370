"""Check a data set or a bundle: every fault at once, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.dataset.case import Fault
from volseg.errors import DataSetError, FileError, InputError
from volseg.progress import SILENT, Progress
from volseg.words import counted

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """How a check works."""

    jobs: int = 0
    """How many cases are read at once; 0 takes as many as pay: all cores, or 1 for a small data set."""


DEFAULTS = CheckOptions()


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Args:
        path: what was checked.
        summary: what it holds, in a few words, such as ``200 cases with a mask, 0 without``.
        faults: all that is wrong, errors and warnings.
    """

    path: Path
    summary: str
    faults: tuple[Fault, ...]

    @property
    def errors(self) -> tuple[Fault, ...]:
        """The faults that planning and training refuse."""
        return tuple(fault for fault in self.faults if fault.is_error)

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """What is worth a look and stops nothing."""
        return tuple(fault for fault in self.faults if not fault.is_error)

    @property
    def exit_code(self) -> int:
        """0 clean or warnings only, 1 faults found."""
        return 1 if self.errors else 0


def check(path: Path, options: CheckOptions = DEFAULTS, progress: Progress = SILENT) -> CheckReport:
    """Find every fault of a data set or a bundle.

    A bundle's networks are built, to see whether its weights fit, only when it may run; see ``volseg trust``.

    Raises:
        UsageError: the path is absent or a file, the folder holds neither, or an option makes no sense.
        DataSetError: the data set's folders are empty, with the code ``no-cases``.
    """
    from volseg.bundle.folder import is_bundle

    return _check_bundle(path) if is_bundle(path) else _check_dataset(path, options, progress)


def _check_bundle(folder: Path) -> CheckReport:
    from volseg.bundle.faults import find_faults, summary
    from volseg.bundle.folder import Bundle

    bundle = Bundle(folder)
    return CheckReport(folder, summary(bundle), find_faults(bundle))


def _check_dataset(folder: Path, options: CheckOptions, progress: Progress) -> CheckReport:
    from volseg.dataset.dataset import read_dataset, require_cases
    from volseg.dataset.faults import find_faults

    try:
        dataset = read_dataset(folder)
    except DataSetError as error:
        return CheckReport(folder, "no case could be read", (Fault.of_error(error, folder),))
    require_cases(dataset)
    faults = (*find_faults(dataset, jobs=options.jobs, progress=progress), *_told_since(folder))
    with_mask = counted(len(dataset.training), "case")
    return CheckReport(folder, f"{with_mask} with a mask, {len(dataset.test)} without", faults)


def _told_since(folder: Path) -> list[Fault]:
    """What ``convert`` has said of series whose images it made, when it was called for them again."""
    from volseg.dataset.pairing import CONVERSION_JSON
    from volseg.outcomes import Ledger

    try:
        ledger = Ledger.read(folder / CONVERSION_JSON)
    except (InputError, FileError):  # some other program's
        return []
    return [
        Fault("converted-since", one.case, f"convert last said of its series: {one.since}", is_error=False)
        for one in (ledger.outcomes if ledger else ())
        if one.since and all((folder / name).is_file() for name in one.outputs)
    ]

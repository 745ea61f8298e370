"""Check a data set: every fault at once, before anything is trained on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.batch import available_cores
from volseg.dataset.case import Fault
from volseg.errors import DataSetError, UsageError
from volseg.progress import SILENT, Progress

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.dataset.dataset import Dataset

SMALL_DATA_SET_BYTES = 2**26
"""Below this, starting workers takes longer than they save."""


@dataclass(frozen=True)
class CheckOptions:
    """How a check works."""

    jobs: int = 0
    """How many cases are read at once; 0 takes all cores."""


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
    """Find every fault of a data set.

    Raises:
        UsageError: the path is absent or a file, the folder holds no data set, or an option makes no sense.
        DataSetError: the data set's folders are empty, with the code ``no-cases``.
    """
    if options.jobs < 0:
        raise UsageError(f"--jobs {options.jobs} makes no sense; 0 takes all cores.")
    return _check_dataset(path, options, progress)


def _check_dataset(folder: Path, options: CheckOptions, progress: Progress) -> CheckReport:
    from volseg.dataset.dataset import read_dataset, require_cases
    from volseg.dataset.faults import find_faults

    try:
        dataset = read_dataset(folder)
    except DataSetError as error:
        return CheckReport(folder, "no case could be read", (Fault(error.code, "", error.message),))
    require_cases(dataset)
    faults = find_faults(dataset, jobs=options.jobs or _paying_jobs(dataset), progress=progress)
    with_mask = "1 case" if len(dataset.training) == 1 else f"{len(dataset.training)} cases"
    return CheckReport(folder, f"{with_mask} with a mask, {len(dataset.test)} without", faults)


def _paying_jobs(dataset: Dataset) -> int:
    size = 0
    for case in dataset.cases:
        for path in (*case.images, *((case.label,) if case.label else ())):
            size += path.stat().st_size
            if size > SMALL_DATA_SET_BYTES:
                return available_cores()
    return 1

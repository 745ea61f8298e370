"""``volseg check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from volseg.console import ConsoleProgress
from volseg.dataset.case import summed_up
from volseg.verbs.check import DEFAULTS, CheckOptions, CheckReport
from volseg.verbs.check import check as run_check
from volseg.words import counted, printable


def check(
    path: Path,
    /,
    *,
    options: Annotated[CheckOptions, Parameter(name="*")] = DEFAULTS,
) -> int:
    """List every fault of a data set or a bundle before anything is trained.

    Of a data set: pairs of image and mask, their grids, labels outside the table, voxels that are no numbers, empty
    masks, duplicates, damaged files. Of a bundle: metadata, missing parts, code that nobody has trusted, weights that
    are damaged or another network's. One line each. Exit codes: 0 clean, 1 faults found, 2 nothing to check.

    Examples:
        volseg check nifti
        volseg check bundle

    Args:
        path: The folder with imagesTr and labelsTr (dataset.json may be there or not), or the bundle's folder.
        options: How the check works.
    """
    report = run_check(path, options, ConsoleProgress())
    show(report)
    return report.exit_code


def show(report: CheckReport) -> None:
    """Print one line for each fault, then the sum."""
    for fault in summed_up(report.faults):
        kind = "error" if fault.is_error else "warning"
        print(printable(f"{kind} [{fault.code}] {fault}"))
    counts = [counted(len(report.errors), "fault") if report.errors else "no faults"]
    if report.warnings:
        counts.append(counted(len(report.warnings), "warning"))
    print(printable(f"{report.summary}: {', '.join(counts)}"))

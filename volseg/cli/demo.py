"""``volseg demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from volseg.console import ConsoleProgress
from volseg.words import printable
from volseg.workflows.demo import DEFAULTS, DemoOptions
from volseg.workflows.demo import demo as run_demo

FOLDER = Path("volseg-demo")


def demo(
    folder: Path = FOLDER,
    /,
    *,
    options: Annotated[DemoOptions, Parameter(name="*")] = DEFAULTS,
) -> int:
    """Run the whole chain on phantoms made here as DICOM.

    Makes a cohort of abdomens from formulas, each with a liver, kidneys, a spleen and a gallbladder, scans them as CT
    series, and takes them through convert, check, plan, train, predict and evaluate. Interrupted and called again, it
    goes on where it stopped.

    Examples:
        volseg demo
        volseg demo my-demo --minutes 10

    Args:
        folder: Where everything goes.
        options: How many phantoms, and how long to train.
    """
    from volseg.cli.evaluate import show

    result = run_demo(folder, options, ConsoleProgress())
    show(result.evaluation, is_written=True)
    first = result.cases[0]
    print()
    print("To look at a case in ITK-SNAP:")
    print(printable(f"  itksnap -g {first.image} -s {first.mask} -l {result.label_descriptions}"))
    print("Pictures:")
    for view in result.cases:
        print(printable(f"  {view.picture}"))
    return 0

"""``volseg postprocess``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from volseg.cli.results import print_ledger, print_table
from volseg.console import ConsoleProgress
from volseg.verbs.postprocess import DEFAULTS, CleanedMask, PostprocessOptions
from volseg.verbs.postprocess import postprocess as run_postprocess


def postprocess(
    masks: Path,
    out_dir: Path,
    /,
    *,
    options: Annotated[PostprocessOptions, Parameter(name="*")] = DEFAULTS,
) -> int:
    """Clean masks: largest component, small pieces, holes.

    Components are removed first, holes filled afterwards. A hole that several labels enclose stays. The results keep
    the names and the header geometry of the masks; what was changed stands in OUT_DIR/postprocessing.json.

    Args:
        masks: A mask, or a folder of masks.
        out_dir: Where the results go; never the folder of the masks.
        options: What to do.

    Examples:
        volseg postprocess predicted clean --keep-largest all
        volseg postprocess predicted clean --keep-largest liver spleen --fill-holes liver
        volseg postprocess predicted clean --keep-largest 1 2 --minimum-size-mm3 50
    """
    ledger = run_postprocess(masks, out_dir, options, ConsoleProgress())
    cleaned = [outcome for outcome in ledger.outcomes if isinstance(outcome, CleanedMask)]
    rows = [
        (
            outcome.case,
            str(change.label),
            str(change.removed_components),
            str(change.removed_voxels),
            str(change.filled_cavities),
            str(change.filled_voxels),
            str(change.voxels),
        )
        for outcome in cleaned
        for change in outcome.changes.labels
        if change.removed_voxels or change.filled_voxels
    ]
    if rows:
        print_table(("case", "label", "pieces removed", "voxels", "holes filled", "voxels", "voxels left"), rows)
    elif cleaned:
        print("No mask had anything to change.")
    print_ledger(ledger)
    return ledger.exit_code

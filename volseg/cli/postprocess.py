"""``volseg postprocess``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from volseg.cli.results import print_ledger, print_table
from volseg.console import ConsoleProgress
from volseg.labels import LabelTable
from volseg.verbs.postprocess import DEFAULTS, CleanedMask, PostprocessOptions, table_beside
from volseg.verbs.postprocess import postprocess as run_postprocess
from volseg.words import counted

COLUMNS = {
    "removed_components": "pieces removed",
    "removed_voxels": "voxels",
    "filled_cavities": "holes filled",
    "filled_voxels": "voxels",
    "trimmed_voxels": "trimmed",
    "added_voxels": "added",
    "voxels": "voxels left",
}
"""What the table tells of a label, and its title."""
ALWAYS = ("removed_components", "removed_voxels", "filled_cavities", "filled_voxels", "voxels")


def postprocess(
    masks: Path,
    out_dir: Path,
    /,
    *,
    options: Annotated[PostprocessOptions, Parameter(name="*")] = DEFAULTS,
) -> int:
    """Clean masks: components, holes, surfaces, gaps, instances.

    Rules are applied in the order of their options. A hole that several labels enclose stays. The results keep the names
    and the header geometry of the masks; what was changed stands in OUT_DIR/postprocessing.json.

    Args:
        masks: A mask, or a folder of masks.
        out_dir: Where the results go; never the folder of the masks.
        options: What to do.

    Examples:
        volseg postprocess predicted clean --keep-largest all
        volseg postprocess predicted clean --keep-largest liver spleen --fill-holes liver
        volseg postprocess predicted clean --keep-largest 1 2 --minimum-size-mm3 50
        volseg postprocess predicted clean --opening liver:3 --keep-largest liver+tumour --keep-inside tumour:liver
        volseg postprocess predicted clean --smooth all:1 --instances tumour:1
    """
    ledger = run_postprocess(masks, out_dir, options, ConsoleProgress())
    cleaned = [outcome for outcome in ledger.outcomes if isinstance(outcome, CleanedMask)]
    table = table_beside(masks, options) or LabelTable(())
    changes = [(one.case, change) for one in cleaned for change in one.changes.labels]
    changed = [(case, one) for case, one in changes if any(getattr(one, name) for name in COLUMNS if name != "voxels")]
    columns = [name for name in COLUMNS if name in ALWAYS or any(getattr(one, name) for _, one in changed)]
    if changed:
        print_table(
            ("case", "label", *(COLUMNS[name] for name in columns)),
            [(case, table.told(one.label), *(str(getattr(one, name)) for name in columns)) for case, one in changed],
        )
    for outcome in cleaned:
        for label, count in outcome.changes.instances.items():
            print(f"{outcome.case}: {counted(count, 'instance')} of {table.told(label)}")
    if cleaned and not changed and not any(outcome.changes.split for outcome in cleaned):
        print("No mask had anything to change.")
    print_ledger(ledger)
    return ledger.exit_code

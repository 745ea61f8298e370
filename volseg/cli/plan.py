"""``volseg plan``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from volseg.console import ConsoleProgress
from volseg.planning.presets import REGISTRIES
from volseg.planning.table import HEADER, aligned, measured_rows
from volseg.verbs.plan import PlanOptions
from volseg.verbs.plan import plan as verb
from volseg.words import counted, listed, printable

DEFAULTS = PlanOptions()
NAMED_LABELS = 20
OPTIONS = {
    "network": "--network",
    "loss": "--loss, also as weighted sums",
    "optimizer": "--optimizer",
    "schedule": "--schedule",
    "augmentation": "--augment",
}
"""What each kind of choice is asked for by."""
EPILOGUE = "".join(
    f"\n\n**{OPTIONS[kind]}**\n\n" + "".join(f"- `{name}`: {choice.words}\n" for name, choice in registry.items())
    for kind, registry in REGISTRIES.items()
)


def plan(
    dataset_dir: Path,
    bundle_dir: Path,
    /,
    *,
    options: Annotated[PlanOptions, Parameter(name="*")] = DEFAULTS,
) -> int:
    """Measure a data set and write a MONAI bundle that fits it.

    Chooses target spacing, patch, network and normalisation, and says why in the bundle's docs/README.md.

    Args:
        dataset_dir: A data set: imagesTr, labelsTr, dataset.json.
        bundle_dir: Where the bundle goes; must not hold anything.

    Examples:
        volseg plan hippocampus/ bundle/
        volseg plan liver/ bundle/ --preset full --memory 10GB
        volseg plan liver/ bundle/ --network segresnet --loss dice+0.5*ce
        volseg plan brain/ bundle/ --regions "whole tumor=1,2,3; tumor core=2,3"
    """
    chosen = verb(dataset_dir, bundle_dir, options, ConsoleProgress())
    names = chosen.target.names
    cases, what = counted(chosen.training_cases, "case"), "region" if chosen.target.sigmoid else "label"
    print(printable(f"{cases}, {counted(len(names), what)}: {listed(names, NAMED_LABELS)}"))
    if chosen.fingerprint is not None:
        for line in aligned([HEADER, *measured_rows(chosen.fingerprint, chosen.labels)]):
            print(printable(f"  {line}"))
        print()
    for choice, reason in chosen.reasons:
        print(printable(f"  {choice}: {reason}"))
    for warning in chosen.warnings:
        print(printable(f"warning: {warning}"))
    print(printable(f"Wrote {bundle_dir}. Next: volseg train {shlex.quote(str(bundle_dir))}"))
    return 0

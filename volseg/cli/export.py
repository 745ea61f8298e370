"""``volseg export``."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from volseg.console import ConsoleProgress
from volseg.verbs.export import ExportOptions
from volseg.verbs.export import export as verb
from volseg.words import printable

DEFAULTS = ExportOptions()


def export(
    bundle_dir: Path,
    /,
    *,
    options: Annotated[ExportOptions, Parameter(name="*")] = DEFAULTS,
) -> int:
    """Write a bundle's network in the formats of other programs.

    Each goes to the bundle's models/ and is compared with the network on a patch of a real image first; one that differs
    by more than rounding is not written. It takes preprocessed windows and gives logits: what comes before and after
    stays in configs/inference.yaml, which is kept inside the file together with the metadata.

    Args:
        bundle_dir: The bundle's folder.

    Examples:
        volseg export bundle/ --onnx --torchscript
        volseg export bundle/ --onnx --image image.nii.gz
    """
    with redirect_stdout(sys.stderr):  # what a bundle builds may print; stdout is for results
        found = verb(bundle_dir, options, ConsoleProgress())
    for one in found:
        size = " x ".join(map(str, one.patch))
        batches = "batches of any size" if one.any_batch else "batches of one alone"
        print(printable(f"{one.path}: windows of {size} voxels, {batches}"))
        print(
            f"  logits at most {one.difference:.2g} from the network's ({one.tolerance:.2g} would be refused), "
            f"{one.relabelled:,} of {one.voxels:,} voxels with another label; compared on {one.of}"
        )
    return 0

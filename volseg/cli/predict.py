"""``volseg predict``."""

from __future__ import annotations

import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from volseg.cli.results import print_ledger, print_table
from volseg.console import ConsoleProgress
from volseg.labels import LABELS_NAME
from volseg.outcomes import Status
from volseg.verbs.predict import IMAGES, PredictOptions, preview
from volseg.verbs.predict import predict as verb
from volseg.volume import nifti_name
from volseg.words import printable
from volseg.writers.statistics import TABLE

DEFAULTS = PredictOptions()


def predict(
    bundle_dir: Path,
    source: Path,
    out_dir: Path,
    /,
    *,
    options: Annotated[PredictOptions, Parameter(name="*", consume_multiple=True)] = DEFAULTS,
    dry_run: bool = False,
) -> int:
    """Segment images or DICOM with a trained bundle.

    Writes one mask for each case on the image's own grid, labels.txt for ITK-SNAP, and prediction.json. From DICOM
    the images go to OUT_DIR/images, since the masks are opened on them.

    Args:
        bundle_dir: The bundle's folder, or the name of one that comes with volseg (volseg bundles).
        source: An image, a folder of images, a list of them (.txt, .csv or .json: a path or case,channel0,channel1 on each
            line, relative to the list), a data set, or a folder or a zip or tar archive of DICOM.
        out_dir: Where the masks go.
        options: How to predict.
        dry_run: Show what would become of each input, and write nothing.

    Examples:
        volseg predict bundle/ image.nii.gz masks/
        volseg predict bundle/ dicom/ masks/
        volseg predict bundle/ dicom/ masks/ --dry-run
        volseg predict bundle/ cases.csv masks/
        volseg predict nodules/ ct.nii.gz masks/ --roi lungs/ --roi-margin 5
        volseg predict hippocampus_mr dicom/ masks/
        volseg predict bundle/ hippocampus/ masks/ --fold 0
        volseg predict bundle/ dicom/ masks/ --folds all
        volseg predict brats_mri_segmentation/ images/ masks/ --regions
    """
    if dry_run:
        return _show(bundle_dir, source, out_dir, options)
    with redirect_stdout(sys.stderr):  # transforms of a bundle may print; stdout is for results
        ledger = verb(bundle_dir, source, out_dir, options, ConsoleProgress())
    print_ledger(ledger)
    if ledger.count(Status.DONE):
        mask = nifti_name("<case>")
        image = out_dir / IMAGES / mask if (out_dir / IMAGES).is_dir() else "each image"
        folder = out_dir / "<region>" if options.regions else out_dir
        labels = folder / LABELS_NAME
        print(printable(f"Open {image} with {folder / mask} as its segmentation and {labels} as its labels."))
        if options.statistics:
            print(printable(f"Wrote what the labels measure to {out_dir / TABLE}"))
    return ledger.exit_code


def _show(bundle_dir: Path, source: Path, out_dir: Path, options: PredictOptions) -> int:
    progress = ConsoleProgress()
    with redirect_stdout(sys.stderr):
        rows, ledger = preview(bundle_dir, source, out_dir, options, progress)
    print_table(
        ("no", "case", "kind", "images", "what would happen"),
        [(str(row.number or ""), row.case, row.kind, str(row.images or ""), row.action) for row in rows],
        left=(1, 2, 4),
        width=shutil.get_terminal_size().columns if sys.stdout.isatty() else None,
    )
    sys.stdout.flush()
    for row in rows:
        if row.source:
            # Free text is shown to those alone who choose channels by it.
            described = f", {row.description!r}" if options.channels and row.description else ""
            number = f"{row.number} " if row.number else ""
            progress.say(f"{number}{row.case} is {row.source}{described}")
    for kind, count in sorted(ledger.skipped_kinds.items()):
        print(printable(f"passed over: {count} x {kind}"))
    return ledger.exit_code

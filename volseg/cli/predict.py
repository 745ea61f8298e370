"""``volseg predict``."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from volseg.cli.results import print_ledger
from volseg.console import ConsoleProgress
from volseg.labels import LABELS_NAME
from volseg.outcomes import Status
from volseg.verbs.predict import IMAGES, PredictOptions
from volseg.verbs.predict import predict as verb
from volseg.volume import nifti_name
from volseg.words import printable

DEFAULTS = PredictOptions()


def predict(
    bundle_dir: Path,
    source: Path,
    out_dir: Path,
    /,
    *,
    options: Annotated[PredictOptions, Parameter(name="*")] = DEFAULTS,
) -> int:
    """Segment images or DICOM with a trained bundle.

    Writes one mask for each case on the image's own grid, labels.txt for ITK-SNAP, and prediction.json. From DICOM
    the images go to OUT_DIR/images, since the masks are opened on them.

    Args:
        bundle_dir: The bundle's folder, or the name of one that comes with volseg (volseg bundles).
        source: An image, a folder of images, a data set, or a folder or a zip or tar archive of DICOM.
        out_dir: Where the masks go.

    Examples:
        volseg predict bundle/ image.nii.gz masks/
        volseg predict bundle/ dicom/ masks/
        volseg predict hippocampus_mr dicom/ masks/
        volseg predict bundle/ hippocampus/ masks/ --fold 0
        volseg predict bundle/ dicom/ masks/ --folds all
        volseg predict brats_mri_segmentation/ images/ masks/ --regions
    """
    with redirect_stdout(sys.stderr):  # transforms of a bundle may print; stdout is for results
        ledger = verb(bundle_dir, source, out_dir, options, ConsoleProgress())
    print_ledger(ledger)
    if ledger.count(Status.DONE):
        mask = nifti_name("<case>")
        image = out_dir / IMAGES / mask if (out_dir / IMAGES).is_dir() else "each image"
        folder = out_dir / "<region>" if options.regions else out_dir
        labels = folder / LABELS_NAME
        print(printable(f"Open {image} with {folder / mask} as its segmentation and {labels} as its labels."))
    return ledger.exit_code

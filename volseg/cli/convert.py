"""``volseg convert``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from volseg.cli.results import print_ledger, print_table
from volseg.console import ConsoleProgress
from volseg.outcomes import ALREADY_DONE, Ledger, Outcome, Provenance, Status
from volseg.verbs.convert import DEFAULTS, ConvertOptions, PreviewRow, preview
from volseg.verbs.convert import convert as run_convert
from volseg.verbs.convert.conversion import images_there
from volseg.words import printable


def convert(
    dicom_dir: Path,
    nifti_dir: Path,
    /,
    *,
    options: Annotated[ConvertOptions, Parameter(name="*", consume_multiple=True)] = DEFAULTS,
    dry_run: bool = False,
) -> int:
    """Turn a folder of DICOM into NIfTI images.

    Finds every series under DICOM_DIR, whatever its files are called, and places its voxels by the positions in the
    headers alone. What can't be placed with certainty is refused, with the reason. Series that an earlier run
    finished stay as they are. Segmentations and structure sets of a converted series become its mask, with one
    label table for all. Case names come from a keyed hash, the same in every folder; the key is yours and stays in
    your configuration folder (docs/names.md), and nothing of the patient leaves the DICOM files. The one free text
    that is kept are the names of structures, and of folders where --masks-from asks for them: look at them before you
    pass the data on.

    Examples:
        volseg convert dicom nifti
        volseg convert dicom nifti --spacing native
        volseg convert dicom nifti --spacing 0.8 0.8 3
        volseg convert dicom nifti --labels "Liver=liver,LIVER_1; Spleen=spleen"

    Args:
        dicom_dir: The folder with the DICOM files.
        nifti_dir: The folder for images, sidecars, dataset.json and conversion.json.
        options: How the conversion works.
        dry_run: Show what would become of each series, and write nothing.
    """
    import_nibabel_alone()
    if dry_run:
        return _show(dicom_dir, nifti_dir, options)
    ledger = run_convert(dicom_dir, nifti_dir, options, ConsoleProgress())
    for outcome in ledger.outcomes:
        if outcome.status is Status.DONE:
            again = " (already done)" if outcome.code == ALREADY_DONE else ""
            print(printable(f"{outcome.case}{again}: {outcome.message}"))
    print_ledger(ledger)
    return ledger.exit_code


def import_nibabel_alone() -> None:
    """Import nibabel without pydicom, which it would import for ``nibabel.nicom`` alone: a tenth of a second less.

    On the command line only, where no other thread imports anything yet. Whatever becomes of the import, pydicom can be
    imported afterwards.
    """
    if {"nibabel", "pydicom"} & sys.modules.keys():
        return
    sys.modules["pydicom"] = None  # type: ignore[assignment]  # Python's mark for a module that can't be imported
    try:
        import nibabel  # noqa: F401
    finally:
        del sys.modules["pydicom"]


def _show(dicom_dir: Path, nifti_dir: Path, options: ConvertOptions) -> int:
    progress = ConsoleProgress()
    rows, found = preview(dicom_dir, nifti_dir, options, progress)
    print_table(
        ("no", "case", "kind", "images", "what would happen"),
        [(str(row.number or ""), row.case, row.modality, str(row.images or ""), _told(row)) for row in rows],
        left=(1, 2, 4),
        width=shutil.get_terminal_size().columns if sys.stdout.isatty() else None,
    )
    sys.stdout.flush()
    for row in rows:
        # Free text is shown to those alone who choose channels by it.
        described = f", {row.description!r}" if options.channels and row.description else ""
        number = f"{row.number} " if row.number else ""
        progress.say(f"{number}{row.case} is {row.source}{described}")
    for bad in found.bad_files:
        progress.say(f"{bad.name}: {bad.error.message}")
    for kind, count in sorted(found.skipped_kinds.items()):
        print(printable(f"passed over: {count} x {kind}"))
    outcomes = [Outcome(row.case, row.status, "") for row in rows]
    outcomes += [Outcome.of_error("", bad.error) for bad in found.bad_files]
    there = len(images_there(nifti_dir))
    return Ledger(tuple(outcomes), Provenance("convert", {}, {}), done_before=there).exit_code


def _told(row: PreviewRow) -> str:
    """The grid of a series and what would become of it; a refusal alone, which a narrow terminal would cut off."""
    words = [row.grid, row.action] if row.grid and row.status is Status.DONE else [row.action]
    return ", ".join(words).replace(" x ", "x")

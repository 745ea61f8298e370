"""What there is to segment: images, folders of them, data sets, DICOM."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from volseg.dataset.dataset import is_dataset, read_dataset
from volseg.dataset.images import cases_in
from volseg.dicom.file.archives import is_archive
from volseg.errors import BundleError, InputError, OutputExistsError, UsageError
from volseg.files import open_plain
from volseg.outcomes import Outcome, Status
from volseg.verbs.predict.sources import FileSource, SeriesSource
from volseg.volume import is_image, list_images

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from volseg.bundle.folder import Bundle
    from volseg.dataset.case import Case
    from volseg.dataset.dataset import Dataset
    from volseg.progress import Progress
    from volseg.pseudonyms import Naming


@dataclass(frozen=True)
class Inputs:
    """What to segment, and what can't be.

    Args:
        sources: the images as cases, or the series that become images.
        outcomes: cases that ended before they had an image, such as refused series.
        skipped_kinds: files that are no volume, counted by kind.
        naming: by which series were named; None where the images are named by their files.
    """

    sources: tuple[FileSource | SeriesSource, ...]
    outcomes: tuple[Outcome, ...] = ()
    skipped_kinds: dict[str, int] = field(default_factory=dict)
    naming: Naming | None = None


def find_inputs(
    bundle: Bundle,
    source: Path,
    out_dir: Path,
    fold: int | None,
    channels: int,
    progress: Progress,
    scratch: Path,
    earlier: Collection[str] = (),
) -> Inputs:
    """Find what there is to segment.

    Args:
        bundle: knows which cases a fold held out.
        source: an image, a folder of images, a data set, or DICOM: a folder with all folders and archives in it, or a
            zip or tar archive.
        out_dir: where the masks go; for DICOM it may have a key of its own for the names.
        fold: of a data set, the cases that this fold held out.
        channels: how many the network takes.
        progress: receives the progress.
        scratch: a private folder that archives are unpacked into, to be kept until the last case is done.
        earlier: the cases whose masks earlier runs made.

    Raises:
        UsageError, InputError: there is nothing to segment.
        DataSetError: the data set can't be read, or channels of a case are missing.
        BundleError: it is not known what the fold held out.
        OutputExistsError: the masks would go where the images are.
    """
    if source.is_dir() and is_dataset(source):
        return _of_dataset(bundle, read_dataset(source, discover_labels=False), fold, out_dir)
    if source.is_file() and not is_image(source):
        if is_archive(source, source.name):
            return _from_dicom(source, out_dir, progress, scratch, earlier)
        raise UsageError(
            f"{source} is no image that volseg reads: it has to be .nii.gz, .nii, .nrrd, .mha or .mhd, or a zip or tar "
            "archive of DICOM."
        )
    if not source.is_dir():
        open_plain(source).close()  # says what it is instead of a file
    if source.is_file() or list_images(source):
        return _of_cases(cases_in(source, channels), out_dir)
    if not any(source.iterdir()):
        raise UsageError(
            f"{source} is empty. Name an image, a folder of images, a data set or a folder of DICOM.", code="no-images"
        )
    return _from_dicom(source, out_dir, progress, scratch, earlier)


def _of_dataset(bundle: Bundle, dataset: Dataset, fold: int | None, out_dir: Path) -> Inputs:
    """The images without a mask; with ``fold`` the cases that it held out. What is broken or gone is told.

    Raises:
        UsageError: there is no such case.
        BundleError: it is not known what the fold held out.
        OutputExistsError: the masks would go where the images are.
    """
    from volseg.training.checkpoint import RunFolder
    from volseg.training.record import RunRecord

    # A mask without an image is nothing to predict; any other case that could not be put together is.
    broken = {
        fault.case: Outcome(fault.case, Status.REFUSED, fault.code, fault.message)
        for fault in reversed(dataset.faults)
        if fault.is_error and fault.code != "label-without-image"
    }
    for case in dataset.cases:
        broken.pop(case.name, None)
    broken.pop("", None)
    if fold is None:
        cases = dataset.test
        if not cases and not broken:
            raise UsageError(
                f"{dataset.folder} has no images without a mask. For the cases that a fold held out give --fold K; "
                f"for all images name the folder {dataset.folder / 'imagesTr'}."
            )
    else:
        record = RunFolder(bundle.runs / f"fold_{fold}").record
        if not record.exists():
            raise BundleError(f"{bundle.root} keeps no record of the cases that fold {fold} held out. Train it again.")
        held_out = RunRecord.read(record).cases.validation
        cases = tuple(case for case in dataset.training if case.name in held_out)
        if not cases:
            raise UsageError(f"{dataset.folder} has none of the {len(held_out)} cases that fold {fold} held out.")
        gone = {name: broken.get(name) for name in held_out if name not in {case.name for case in cases}}
        message = "The fold held this case out, and the data set no longer has it with a mask."
        broken = {name: told or Outcome(name, Status.REFUSED, "case-gone", message) for name, told in gone.items()}
    return replace(_of_cases(cases, out_dir), outcomes=tuple(broken[name] for name in sorted(broken)))


def _from_dicom(source: Path, out_dir: Path, progress: Progress, scratch: Path, earlier: Collection[str]) -> Inputs:
    """The series of a folder or an archive of DICOM as sources: each is read, and its image written, when its turn comes."""
    from volseg.dicom import scan
    from volseg.pseudonyms import Naming, series_in

    try:
        found = scan(source, progress, scratch=scratch)
    except InputError as error:
        if error.code != "no-dicom":
            raise
        message = (
            f"{source} holds neither an image (.nii.gz, .nii, .nrrd, .mha or .mhd) nor a DICOM file. Name another."
        )
        raise InputError(message, code="no-images") from error
    naming = Naming.of_folder(out_dir)
    outcomes = found.outcomes(naming)
    sources = tuple(SeriesSource(naming.case(one.identity, one.modality), one, naming) for one in found.series)
    if not sources and not any(outcome.status in (Status.REFUSED, Status.FAILED) for outcome in outcomes):
        raise InputError(f"{source} holds no image and no DICOM series that is a volume.", code="no-images")
    outcomes += found.outdated(naming, {case: series_in(case) for case in earlier})
    return Inputs(sources, outcomes, dict(found.skipped_kinds), naming)


def _of_cases(cases: tuple[Case, ...], out_dir: Path) -> Inputs:
    """Sources of cases on the disk, none of whose images a mask would overwrite.

    Raises:
        OutputExistsError: the masks would go where the images are.
    """
    target = os.path.realpath(out_dir)
    if any(os.path.realpath(image.parent) == target for case in cases for image in case.images):
        raise OutputExistsError(f"{out_dir} holds the images themselves. Name another folder for the masks.")
    return Inputs(tuple(FileSource(case) for case in cases))

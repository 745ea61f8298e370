"""What there is to segment: images, folders of them, data sets, DICOM."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from volseg.dataset.case import Case
from volseg.dataset.dataset import is_dataset, read_dataset
from volseg.dataset.images import cases_in
from volseg.dataset.sidecar import read_origin, sidecar_path
from volseg.dicom.file.archives import is_archive
from volseg.errors import BundleError, InputError, OutputExistsError, UsageError, VolsegError
from volseg.outcomes import Outcome, Status
from volseg.volume import is_image, is_nifti, list_images, read_header, read_volume, stem_of, write_image

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.bundle.folder import Bundle
    from volseg.dataset.dataset import Dataset
    from volseg.dicom import Series
    from volseg.progress import Progress

IMAGES = "images"
"""Where images made from DICOM go, for the masks to be opened on."""


@dataclass(frozen=True)
class Inputs:
    """What to segment, and what can't be.

    Args:
        jobs: the images as cases, or the series that become images.
        outcomes: cases that ended before they had an image, such as refused series.
        skipped_kinds: files that are no volume, counted by kind.
    """

    jobs: tuple[CaseJob | SeriesJob, ...]
    outcomes: tuple[Outcome, ...] = ()
    skipped_kinds: dict[str, int] = field(default_factory=dict)


def find_inputs(
    bundle: Bundle, source: Path, out_dir: Path, fold: int | None, channels: int, progress: Progress, scratch: Path
) -> Inputs:
    """Find what there is to segment.

    Args:
        bundle: knows which cases a fold held out.
        source: an image, a folder of images, a data set, or DICOM: a folder with all folders and archives in it, or a
            zip or tar archive.
        out_dir: where the masks go; for DICOM it keeps the key of the pseudonyms.
        fold: of a data set, the cases that this fold held out.
        channels: how many the network takes.
        progress: who listens.
        scratch: a private folder that archives are unpacked into, to be kept until the last case is done.

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
            return _from_dicom(source, out_dir, progress, scratch)
        raise UsageError(
            f"{source} is no image that volseg reads: it has to be .nii.gz, .nii, .nrrd, .mha or .mhd, or a zip or tar "
            "archive of DICOM."
        )
    if source.is_file() or list_images(source):
        return _of_cases(cases_in(source, channels), out_dir)
    if not any(source.iterdir()):
        raise UsageError(
            f"{source} is empty. Name an image, a folder of images, a data set or a folder of DICOM.", code="no-images"
        )
    return _from_dicom(source, out_dir, progress, scratch)


def _of_dataset(bundle: Bundle, dataset: Dataset, fold: int | None, out_dir: Path) -> Inputs:
    """The images without a mask; with ``fold`` the cases that it held out. What is broken or gone is told.

    Raises:
        UsageError: there is no such case.
        BundleError: it is not known what the fold held out.
        OutputExistsError: the masks would go where the images are.
    """
    from volseg.training.cases import FoldCases
    from volseg.training.checkpoint import RunFolder

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
        record = RunFolder(bundle.runs / f"fold_{fold}").cases
        if not record.is_file():
            raise BundleError(f"{bundle.root} keeps no record of the cases that fold {fold} held out. Train it again.")
        held_out = FoldCases.read(record).validation
        cases = tuple(case for case in dataset.training if case.name in held_out)
        if not cases:
            raise UsageError(f"{dataset.folder} has none of the {len(held_out)} cases that fold {fold} held out.")
        gone = {name: broken.get(name) for name in held_out if name not in {case.name for case in cases}}
        message = "The fold held this case out, and the data set no longer has it with a mask."
        broken = {name: told or Outcome(name, Status.REFUSED, "case-gone", message) for name, told in gone.items()}
    return replace(_of_cases(cases, out_dir), outcomes=tuple(broken[name] for name in sorted(broken)))


def _from_dicom(source: Path, out_dir: Path, progress: Progress, scratch: Path) -> Inputs:
    """The series of a folder or an archive of DICOM as jobs: each is read, and its image written, when its turn comes."""
    from volseg.dicom import scan
    from volseg.pseudonyms import Naming

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
    jobs = [SeriesJob(naming.case(one.identity, one.modality, one.order), one) for one in found.series]
    if not jobs and not any(outcome.status in (Status.REFUSED, Status.FAILED) for outcome in outcomes):
        raise InputError(f"{source} holds no image and no DICOM series that is a volume.", code="no-images")
    return Inputs(tuple(jobs), outcomes, dict(found.skipped_kinds))


@dataclass(frozen=True)
class Prepared:
    """A case with its images on the disk, and what a person has to know of how they came there."""

    case: Case
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseJob:
    """A case whose images are on the disk.

    Images of other formats than NIfTI, and NIfTI that others read in another way, are written as plain NIfTI first:
    those are what a bundle reads, and what the mask is opened on, since NRRD and MetaImage keep their geometry in
    another precision.
    """

    case: Case

    @property
    def name(self) -> str:
        """The case's."""
        return self.case.name

    @property
    def modality(self) -> str | None:
        """As the sidecar beside the first image names it; None without one."""
        path = sidecar_path(self.case.images[0])
        try:
            return read_origin(path).modality if path.is_file() else None
        except InputError:  # some other program's JSON, which says nothing of the modality
            return None

    def has_image(self, out_dir: Path) -> bool:
        """Whether the image that the mask is opened on is there."""
        return self._image(self.case.images[0], out_dir).is_file()

    def prepare(self, out_dir: Path) -> Prepared:
        """The case, all of its images NIfTI.

        Raises:
            InputError: an image can't be read.
            FileError: an image can't be written.
        """
        images = tuple(self._image(image, out_dir) for image in self.case.images)
        for image, nifti in zip(self.case.images, images, strict=True):
            if nifti is not image:
                write_image(nifti, read_volume(image))
        return Prepared(replace(self.case, images=images))

    def failed(self, error: VolsegError) -> Outcome:
        """What an error comes to."""
        return Outcome.of_error(self.name, error)

    @staticmethod
    def _image(image: Path, out_dir: Path) -> Path:
        return (
            image
            if is_nifti(image) and not read_header(image).oddity
            else out_dir / IMAGES / f"{stem_of(image)}.nii.gz"
        )


@dataclass(frozen=True)
class SeriesJob:
    """A DICOM series, whose image is made first, at the scanner's own grid."""

    name: str
    series: Series

    @property
    def modality(self) -> str | None:
        """As DICOM names it."""
        return self.series.modality

    def has_image(self, out_dir: Path) -> bool:
        """Whether the image that the mask is opened on is there."""
        return self._image(out_dir).is_file()

    def prepare(self, out_dir: Path) -> Prepared:
        """The case, its image read from DICOM and written.

        Raises:
            InputError: the pixels can't be read.
            FileError: the image can't be written.
        """
        from volseg.dicom import load_values
        from volseg.dicom.series.notes import sentences

        path = self._image(out_dir)
        loaded = load_values(self.series)
        write_image(path, loaded.volume)
        changes = ", ".join((*self.series.changes, *loaded.changes))
        warnings = (f"On the way from DICOM this was changed: {changes}.",) if changes else ()
        return Prepared(Case(self.name, (path,), None), (*warnings, *sentences(self.series.notes)))

    def failed(self, error: VolsegError) -> Outcome:
        """What an error comes to; which file it was is for this person's eyes alone."""
        from volseg.dicom import SliceFault

        private = error.name if isinstance(error, SliceFault) else self.series.source
        return Outcome.of_error(self.name, error, private=private)

    def _image(self, out_dir: Path) -> Path:
        return out_dir / IMAGES / f"{self.name}.nii.gz"


def _of_cases(cases: tuple[Case, ...], out_dir: Path) -> Inputs:
    """Jobs of cases on the disk, none of whose images a mask would overwrite.

    Raises:
        OutputExistsError: the masks would go where the images are.
    """
    target = os.path.realpath(out_dir)
    if any(os.path.realpath(image.parent) == target for case in cases for image in case.images):
        raise OutputExistsError(f"{out_dir} holds the images themselves. Name another folder for the masks.")
    return Inputs(tuple(CaseJob(case) for case in cases))

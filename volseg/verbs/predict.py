"""Predict: one mask for each case, on the image's own grid."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from volseg.atomic import write_text
from volseg.batch import run_cases
from volseg.errors import BundleError, InputError, OutputExistsError, UsageError
from volseg.labels import Label, LabelTable
from volseg.outcomes import Ledger, Outcome, Provenance, Status, sha256_of
from volseg.postprocessing import PostprocessingRules, apply
from volseg.progress import SILENT, Progress
from volseg.volume import is_image, read_header, read_volume, write_image, write_mask

if TYPE_CHECKING:
    from volseg.bundle.folder import Bundle
    from volseg.dataset.case import Case
    from volseg.dataset.dataset import Dataset
    from volseg.dicom import Series
    from volseg.inference.segmenter import Segmenter

LEDGER = "prediction.json"
LABELS = "labels.txt"
IMAGES = "images"
"""Where images made from DICOM go, for the masks to be opened on."""


@dataclass(frozen=True)
class PredictOptions:
    """How to predict."""

    fold: int | None = None
    """Use the model of this fold; a data set as input then means the cases that the fold held out."""

    device: Literal["cpu", "cuda"] | None = None
    """cpu or cuda; a GPU where there is one unless told otherwise."""

    overwrite: bool = False
    """Make masks anew that are there already."""

    raw: bool = False
    """Leave out the bundle's rules for labels, such as the largest component."""


@dataclass(frozen=True)
class _Inputs:
    """What to segment, and what can't be.

    Args:
        jobs: the images as cases, or the series that become images.
        outcomes: cases that ended before they had an image, such as refused series.
        skipped_kinds: files that are no volume, counted by kind.
    """

    jobs: tuple[_CaseJob | _SeriesJob, ...]
    outcomes: tuple[Outcome, ...] = ()
    skipped_kinds: dict[str, int] = field(default_factory=dict)


def predict(
    bundle_dir: Path,
    source: Path,
    out_dir: Path,
    options: PredictOptions | None = None,
    progress: Progress = SILENT,
) -> Ledger:
    """Segment images with a trained bundle, which is loaded once.

    Writes ``<case>.nii.gz`` with the header geometry of its image byte for byte, ``labels.txt`` for ITK-SNAP and the
    ledger ``prediction.json``. From DICOM the images go to ``images/``, since masks are opened on them. Masks that
    are there already are kept, so that an interrupted cohort goes on where it stopped.

    Args:
        bundle_dir: the bundle.
        source: an image, a folder of images, a data set (its ``imagesTs``; the held-out cases with ``fold``), or a
            folder of DICOM.
        out_dir: where the masks go.
        options: how to predict.
        progress: who listens.

    Raises:
        UsageError: an input is missing or of the wrong kind.
        TrustError: the bundle would run code that nobody has trusted.
        BundleError: the bundle is incomplete or has no weights.
        DiskFullError: no space is left.
    """
    from volseg.bundle.folder import open_bundle

    options = options or PredictOptions()
    bundle = open_bundle(bundle_dir)
    if not source.exists():
        raise UsageError(
            f"{source} does not exist. Name an image, a folder of images, a data set or a folder of DICOM."
        )
    if out_dir.exists() and not out_dir.is_dir():
        raise UsageError(f"{out_dir} is a file. Name a folder for the masks.")
    weights = _weights(bundle, options.fold)
    segmenter, rules = _segmenter(bundle, weights, options)
    table = _label_table(bundle)
    provenance = Provenance.of(
        "predict", options, checksums=_checksums(bundle, weights), device=str(segmenter.device.type)
    )
    inputs = _inputs(bundle, source, out_dir, options, progress)
    channels = _channels(bundle)

    def work(job: _CaseJob | _SeriesJob) -> Outcome:
        return _predict_case(job, segmenter, rules, out_dir, channels, overwrite=options.overwrite)

    outcomes = run_cases(work, inputs.jobs, name_of=lambda job: job.name, title="Predicting", progress=progress)
    ledger = Ledger(inputs.outcomes + outcomes, provenance, inputs.skipped_kinds)
    if ledger.count(Status.DONE):
        write_text(out_dir / LABELS, table.to_itksnap())
    ledger.write(out_dir / LEDGER)
    return ledger


def _weights(bundle: Bundle, fold: int | None) -> Path:
    from volseg.training.checkpoint import RunFolder

    if fold is None:
        return bundle.model_path
    best = RunFolder(bundle.runs / f"fold_{fold}").best
    if not best.is_file():
        raise BundleError(
            f"{bundle.root} has no model of fold {fold}. Train it with volseg train --fold {fold}.", code="no-weights"
        )
    return best


def _segmenter(bundle: Bundle, weights: Path, options: PredictOptions) -> tuple[Segmenter, PostprocessingRules]:
    """Build the parts of ``inference.yaml`` that are needed, and no other: not its evaluator, nor its data."""
    import torch

    from volseg.bundle.parser import BundleParser
    from volseg.bundle.weights import load_into
    from volseg.device import choose_device
    from volseg.inference.segmenter import Segmenter, without_saving

    device = torch.device(choose_device(options.device))
    parser = BundleParser(bundle, "inference", {"device": device})
    network = load_into(parser.build("network_def"), weights).to(device).eval()
    rules = PostprocessingRules()
    named = parser.plain("volseg_postprocessing")
    if named is not None and not options.raw:
        if not isinstance(named, dict):
            raise BundleError(f"{bundle.root}: volseg_postprocessing in inference.yaml has to be a mapping of rules.")
        rules = PostprocessingRules.from_config(named)
    segmenter = Segmenter(
        preprocessing=parser.build("preprocessing"),
        network=network,
        inferer=parser.build("inferer"),
        postprocessing=without_saving(parser.build("postprocessing")),
        device=device,
    )
    return segmenter, rules


def _checksums(bundle: Bundle, weights: Path) -> dict[str, str]:
    return {
        "configs/inference": sha256_of(bundle.config_path("inference")),
        "weights": sha256_of(weights),
    }


def _channels(bundle: Bundle) -> int:
    """How many channels the network takes, by the metadata.

    Raises:
        BundleError: the metadata doesn't say.
    """
    formats: Any = bundle.metadata.get("network_data_format")
    try:
        channels = int(formats["inputs"]["image"]["num_channels"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{bundle.config_path('metadata')} doesn't say how many channels the input image has "
            "(network_data_format, inputs, image, num_channels)."
        ) from error
    if channels < 1:
        raise BundleError(f"{bundle.config_path('metadata')}: an image with {channels} channels can't be.")
    return channels


def _label_table(bundle: Bundle) -> LabelTable:
    """The labels by the metadata: volseg's own table, or the output's channels."""
    table: Any = bundle.metadata.get("label_table")
    if table is None:
        formats: Any = bundle.metadata.get("network_data_format")
        try:
            table = formats["outputs"]["pred"]["channel_def"]
        except (KeyError, TypeError):
            table = {}
    try:
        labels = [Label(int(index), str(name)) for index, name in table.items() if int(index) > 0]
        return LabelTable(tuple(labels))
    except (AttributeError, ValueError) as error:
        raise BundleError(f"{bundle.config_path('metadata')} has a table of labels that makes no sense.") from error


def _inputs(bundle: Bundle, source: Path, out_dir: Path, options: PredictOptions, progress: Progress) -> _Inputs:
    from volseg.dataset.dataset import is_dataset, read_dataset
    from volseg.dataset.images import cases_in
    from volseg.volume import list_images

    if source.is_dir() and is_dataset(source):
        return _of_cases(_dataset_cases(bundle, read_dataset(source), options.fold), out_dir)
    if source.is_file() and not is_image(source):
        raise UsageError(f"{source} is no image that volseg reads: it has to be .nii.gz, .nii, .nrrd, .mha or .mhd.")
    if source.is_file() or list_images(source):
        return _of_cases(cases_in(source, _channels(bundle)), out_dir)
    return _from_dicom(source, out_dir, progress)


def _dataset_cases(bundle: Bundle, dataset: Dataset, fold: int | None) -> tuple[Case, ...]:
    from volseg.training.cases import FoldCases
    from volseg.training.checkpoint import RunFolder

    if fold is None:
        if dataset.test:
            return dataset.test
        raise UsageError(
            f"{dataset.folder} has no images without a mask. For the cases that a fold held out give --fold K; "
            f"for all images name the folder {dataset.folder / 'imagesTr'}."
        )
    record = RunFolder(bundle.runs / f"fold_{fold}").cases
    if not record.is_file():
        raise BundleError(f"{bundle.root} keeps no record of the cases that fold {fold} held out. Train it again.")
    held_out = set(FoldCases.read(record).validation)
    cases = tuple(case for case in dataset.training if case.name in held_out)
    if not cases:
        raise UsageError(f"{dataset.folder} has none of the {len(held_out)} cases that fold {fold} held out.")
    return cases


def _from_dicom(source: Path, out_dir: Path, progress: Progress) -> _Inputs:
    """The series of a DICOM folder as jobs: each is read, and its image written, when its turn comes."""
    from volseg.dicom import Naming, scan

    found = scan(source, progress)
    naming = Naming.of_folder(out_dir)
    outcomes = [
        Outcome(
            naming.case(one.identity, one.modality, one.order), one.status, one.code, one.message, private=one.source
        )
        for one in found.rejected
    ]
    outcomes += [Outcome.of_error(naming.file(bad.name), bad.error, private=bad.name) for bad in found.bad_files]
    jobs = [_SeriesJob(naming.case(one.identity, one.modality, one.order), one) for one in found.series]
    if not jobs and not any(outcome.status in (Status.REFUSED, Status.FAILED) for outcome in outcomes):
        raise InputError(f"{source} holds no image and no DICOM series that is a volume.", code="no-images")
    return _Inputs(tuple(jobs), tuple(outcomes), dict(found.skipped_kinds))


@dataclass(frozen=True)
class _CaseJob:
    """A case whose images are on the disk."""

    case: Case

    @property
    def name(self) -> str:
        return self.case.name

    def prepare(self, out_dir: Path) -> Case:
        del out_dir
        return self.case


@dataclass(frozen=True)
class _SeriesJob:
    """A DICOM series, whose image is made first, at the scanner's own grid."""

    name: str
    series: Series

    def prepare(self, out_dir: Path) -> Case:
        from volseg.dataset.case import Case
        from volseg.dicom import load

        path = out_dir / IMAGES / f"{self.name}.nii.gz"
        write_image(path, load(self.series))
        return Case(self.name, (path,), None)


def _of_cases(cases: tuple[Case, ...], out_dir: Path) -> _Inputs:
    """Jobs of cases on the disk, none of whose images a mask would overwrite.

    Raises:
        OutputExistsError: the masks would go where the images are.
    """
    target = os.path.realpath(out_dir)
    if any(os.path.realpath(image.parent) == target for case in cases for image in case.images):
        raise OutputExistsError(f"{out_dir} holds the images themselves. Name another folder for the masks.")
    return _Inputs(tuple(_CaseJob(case) for case in cases))


def _predict_case(
    job: _CaseJob | _SeriesJob,
    segmenter: Segmenter,
    rules: PostprocessingRules,
    out_dir: Path,
    channels: int,
    *,
    overwrite: bool,
) -> Outcome:
    path = out_dir / f"{job.name}.nii.gz"
    if path.is_file() and not overwrite:
        return Outcome(job.name, Status.DONE, "already-done", outputs=(path.name,))
    case = job.prepare(out_dir)
    headers = [read_header(image) for image in case.images]
    found = headers[0].channels if len(headers) == 1 else len(headers)
    if found != channels:
        raise InputError(f"The image has {found} channels, and the bundle takes {channels}.", code="channels")
    for header in headers[1:]:
        apart = header.grid.difference(headers[0].grid)
        if apart is not None:
            raise InputError(
                f"Its channels lie on different grids: {apart}. Resample them to one.", code="grids-differ"
            )
    with ExitStack() as stack:
        images = [_as_nifti(image, stack) for image in case.images]
        mask = segmenter.segment(images, headers[0].grid)
    warnings: tuple[str, ...] = ()
    if not rules.is_empty:
        cleaned, changes = apply(mask, headers[0].grid, rules)
        mask = cleaned.astype(mask.dtype)
        if changes.vanished:
            warnings = (f"The rules removed all of the labels {', '.join(map(str, changes.vanished))}.",)
    if not mask.any():
        warnings += ("The mask is empty: the network found none of the labels.",)
    write_mask(path, mask, case.images[0])
    return Outcome(case.name, Status.DONE, "done", outputs=(path.name,), warnings=warnings)


def _as_nifti(image: Path, stack: ExitStack) -> Path:
    """The image as NIfTI, which is all that a bundle has to read; other formats are rewritten for the while."""
    if image.name.lower().endswith((".nii", ".nii.gz")):
        return image
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="volseg-")))
    path = folder / "image.nii"
    write_image(path, read_volume(image))
    return path

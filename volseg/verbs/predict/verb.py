"""The verb: the bundle loaded once, the cases in turn, the ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from volseg.atomic import write_text
from volseg.batch import run_cases
from volseg.dicom.file.archives import private_folder
from volseg.errors import BundleError, DiskFullError, InputError, OutputExistsError, UsageError, VolsegError
from volseg.labels import LABELS_NAME, LabelTable
from volseg.outcomes import Ledger, Outcome, Provenance, Status, sha256_of
from volseg.postprocessing import PostprocessingRules
from volseg.progress import SILENT, Progress
from volseg.volume import read_header, write_mask

if TYPE_CHECKING:
    from monai.inferers import Inferer

    from volseg.bundle.folder import Bundle
    from volseg.bundle.parser import BundleParser
    from volseg.inference.segmenter import Segmenter
    from volseg.verbs.predict.inputs import CaseJob, SeriesJob

LEDGER = "prediction.json"
ALREADY_DONE = "already-done"
MODALITIES = ("CT", "MR", "PT")
"""Those that convert makes images of; what else a channel may be called tells nothing for certain."""


@dataclass(frozen=True, kw_only=True)
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
            folder of DICOM, with the zip and tar archives in it or one in its place.
        out_dir: where the masks go.
        options: how to predict.
        progress: who listens.

    Raises:
        UsageError: an input is missing or of the wrong kind.
        TrustError: the bundle would run code that nobody has trusted.
        BundleError: the bundle is incomplete or has no weights.
        DiskFullError: no space is left.
    """
    # Archives stay unpacked until the last case is done: pixels are read when its turn comes.
    with private_folder() as scratch:
        return _predict(bundle_dir, source, out_dir, options or PredictOptions(), progress, scratch)


def _predict(
    bundle_dir: Path, source: Path, out_dir: Path, options: PredictOptions, progress: Progress, scratch: Path
) -> Ledger:
    from volseg.bundle.folder import open_bundle
    from volseg.bundle.metadata import label_table
    from volseg.verbs.predict.inputs import find_inputs

    bundle = open_bundle(bundle_dir)
    if not source.exists():
        raise UsageError(
            f"{source} does not exist. Name an image, a folder of images, a data set or a folder of DICOM."
        )
    if out_dir.exists() and not out_dir.is_dir():
        raise UsageError(f"{out_dir} is a file. Name a folder for the masks.")
    weights = _weights(bundle, options.fold)
    table = label_table(bundle.metadata) or LabelTable(())
    segmenter, rules = _segmenter(bundle, weights, table, options)
    provenance = Provenance.of(
        "predict", options, checksums=_checksums(bundle, weights), device=_device_words(segmenter)
    )
    earlier = _earlier(out_dir, provenance, options)
    channels = _channels(bundle)
    modality = _modality(bundle)
    inputs = find_inputs(bundle, source, out_dir, options.fold, channels, progress, scratch)

    def work(job: CaseJob | SeriesJob) -> Outcome:
        try:
            return _predict_case(job, segmenter, rules, out_dir, channels, modality, overwrite=options.overwrite)
        except DiskFullError:
            raise
        except VolsegError as error:
            return job.failed(error)

    # Before the work, so that masks of a run that is interrupted don't lie there without a word on their origin.
    before = Ledger(inputs.outcomes, provenance, inputs.skipped_kinds)
    _record(before, earlier, out_dir)
    outcomes = run_cases(work, inputs.jobs, name_of=lambda job: job.name, title="Predicting", progress=progress)
    ledger = replace(before, outcomes=inputs.outcomes + outcomes)
    if ledger.count(Status.DONE):
        write_text(out_dir / LABELS_NAME, table.to_itksnap())
    _record(ledger, earlier, out_dir)
    return ledger


def _earlier(out_dir: Path, provenance: Provenance, options: PredictOptions) -> Ledger | None:
    """What this very model made in the folder before; None where there is nothing of it.

    Raises:
        OutputExistsError: masks of another model are there, and would pass for this one's.
    """
    if options.overwrite:
        return None
    found = Ledger.read(out_dir / LEDGER)
    if found is None:
        return None
    same = found.provenance.checksums == provenance.checksums and found.provenance.options.get("raw") == options.raw
    if not same and any((out_dir / name).is_file() for outcome in found.outcomes for name in outcome.outputs):
        raise OutputExistsError(
            f"{out_dir} holds masks of another model, of other weights, or made with other rules. "
            "Name another folder, or replace them with --overwrite."
        )
    return found if same else None


def _record(ledger: Ledger, earlier: Ledger | None, out_dir: Path) -> None:
    """Write the ledger; work of earlier runs stays in it as it was, so that a second run changes no byte."""
    kept = {
        outcome.case: outcome
        for outcome in (earlier.outcomes if earlier else ())
        if outcome.status is Status.DONE and all((out_dir / name).is_file() for name in outcome.outputs)
    }
    for outcome in ledger.outcomes:
        if outcome.code == ALREADY_DONE:
            kept.setdefault(outcome.case, replace(outcome, code="done"))
        else:
            kept[outcome.case] = outcome
    replace(ledger, outcomes=tuple(kept[case] for case in sorted(kept))).write(out_dir / LEDGER)


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


def _inferer(parser: BundleParser) -> Inferer:
    """The bundle's inferer; in a bundle of ours with bfloat16 where the processor is made for it, as it was validated.

    Networks of others may need float32: they run as they are described.
    """
    from volseg.training import AutocastInferer

    inferer: Inferer = parser.build("inferer")
    return inferer if parser.verdict.findings else AutocastInferer(inferer)


def _device_words(segmenter: Segmenter) -> str:
    """The device and, where it is not float32, the precision."""
    from volseg.training.autocast import AutocastInferer, use_bfloat16

    lower = isinstance(segmenter.inferer, AutocastInferer) and use_bfloat16(segmenter.device)
    return f"{segmenter.device.type} bfloat16" if lower else segmenter.device.type


def _segmenter(
    bundle: Bundle, weights: Path, table: LabelTable, options: PredictOptions
) -> tuple[Segmenter, PostprocessingRules]:
    """Build the parts of ``inference.yaml`` that are needed, and no other: not its evaluator, nor its data.

    The transforms of its postprocessing that say the same as rules are done as rules, before those that it names.
    """
    import torch

    from volseg.bundle.parser import BundleParser
    from volseg.bundle.weights import load_into
    from volseg.device import choose_device
    from volseg.inference.segmenter import Segmenter, without_saving
    from volseg.postprocessing.transforms import without_rules

    device = torch.device(choose_device(options.device))
    parser = BundleParser(bundle, "inference", {"device": device})
    network = load_into(parser.build("network_def"), weights).to(device).eval()
    named = parser.plain("volseg_postprocessing")
    postprocessing, rules = without_rules(without_saving(parser.build("postprocessing")), table.indices)
    if named is not None:
        rules += PostprocessingRules.from_config(named)
    segmenter = Segmenter(
        preprocessing=parser.build("preprocessing"),
        network=network,
        inferer=_inferer(parser),
        postprocessing=postprocessing,
        device=device,
    )
    return segmenter, PostprocessingRules() if options.raw else rules


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
    from volseg.bundle.metadata import input_channels

    channels = input_channels(bundle.metadata)
    if channels is None:
        raise BundleError(
            f"{bundle.config_path('metadata')} doesn't say how many channels the input image has "
            "(network_data_format, inputs, image, num_channels)."
        )
    return channels


def _modality(bundle: Bundle) -> str | None:
    """What the bundle's first channel is, as DICOM names it; None where its name doesn't tell."""
    from volseg.bundle.metadata import first_channel
    from volseg.dataset.dataset import modality_of

    name = first_channel(bundle.metadata)
    known = None if name is None else modality_of(name)
    return known if known in MODALITIES else None


def _predict_case(
    job: CaseJob | SeriesJob,
    segmenter: Segmenter,
    rules: PostprocessingRules,
    out_dir: Path,
    channels: int,
    modality: str | None,
    *,
    overwrite: bool,
) -> Outcome:
    path = out_dir / f"{job.name}.nii.gz"
    if path.is_file() and job.has_image(out_dir) and not overwrite:
        return Outcome(job.name, Status.DONE, ALREADY_DONE, outputs=(path.name,))
    prepared = job.prepare(out_dir)
    case, warnings = prepared.case, prepared.warnings
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
    if modality is not None and job.modality in MODALITIES and job.modality != modality:
        warnings += (f"The image is {job.modality}, and the bundle was made for {modality}: don't rely on the mask.",)
    mask = segmenter.segment(case.images, headers[0].grid)
    if rules:
        cleaned, changes = rules.apply(mask, headers[0].grid)
        mask = cleaned.astype(mask.dtype)
        if changes.vanished:
            warnings += (f"The rules removed all of the labels {', '.join(map(str, changes.vanished))}.",)
    if not mask.any():
        warnings += ("The mask is empty: the network found none of the labels.",)
    write_mask(path, mask, case.images[0])
    return Outcome(case.name, Status.DONE, "done", outputs=(path.name,), warnings=warnings)

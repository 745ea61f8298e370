"""What a run begins with: the bundle, its model, what lies in the folder of masks, and the cases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.atomic import require_no_links
from volseg.errors import OutputExistsError, UsageError, VolsegError
from volseg.files import readable
from volseg.labels import LABELS_NAME, LabelTable, regions_table
from volseg.options import words_of
from volseg.outcomes import Ledger, Status
from volseg.postprocessing.rule import MAX_MM
from volseg.pseudonyms import without_order
from volseg.verbs.predict.options import DECIDING
from volseg.volume import is_image, list_images
from volseg.words import counted, listed
from volseg.writers import FOLDERS, writers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from volseg.bundle.folder import Bundle
    from volseg.labels import Region
    from volseg.progress import Progress
    from volseg.pseudonyms import Naming
    from volseg.verbs.predict.case import CaseToPredict, Prediction
    from volseg.verbs.predict.inputs import Inputs
    from volseg.verbs.predict.model import Model
    from volseg.verbs.predict.model_file import AnyRoi, ModelFile
    from volseg.verbs.predict.options import PredictOptions
    from volseg.verbs.predict.window import WindowWishes

LEDGER = "prediction.json"


@dataclass(frozen=True, eq=False)
class Opened:
    """What a person asked for.

    Args:
        bundle: what predicts.
        file: its model.
        options: as they come out with it, for the record.
        out_dir: where the masks go.
    """

    bundle: Bundle
    file: ModelFile
    options: PredictOptions
    out_dir: Path


@dataclass(frozen=True, eq=False)
class Gathered:
    """What there is before the first case.

    Args:
        regions: by the folders that their masks go to; none where there is one mask of labels.
        found: the ledger of earlier runs.
        there: cases whose masks earlier runs made.
        inputs: what was found of the input.
        cases: those to predict, each under the name that an earlier run gave it.
        work: how they are predicted.
    """

    regions: Mapping[str, Region]
    found: Ledger | None
    there: tuple[str, ...]
    inputs: Inputs
    cases: tuple[CaseToPredict, ...]
    work: Prediction


def opened(bundle_dir: Path, source: Path, out_dir: Path, options: PredictOptions) -> Opened:
    """Look at what a person asked for.

    Raises:
        UsageError: an option, the input or the output folder makes no sense.
        TrustError, BundleError, FileError: as ``predict``.
    """
    from volseg.bundle.folder import open_bundle
    from volseg.bundle.scope import require_segmentation
    from volseg.bundle.shipped import find_bundle
    from volseg.verbs.predict.model_file import RoiBundle
    from volseg.verbs.predict.roi import RoiMask

    options.require_sense()
    if options.accept_edited and options.overwrite:
        raise UsageError(
            "--overwrite makes all masks anew, and --accept-edited keeps those that somebody edited. Choose one of them."
        )
    writers_of(options.writers)
    bundle = open_bundle(find_bundle(bundle_dir))
    require_segmentation(bundle)
    with readable(source):
        is_there = source.exists()
    if not is_there:
        raise UsageError(
            f"{source} does not exist. Name an image, a folder of images, a data set or a folder of DICOM."
        )
    if out_dir.exists() and not out_dir.is_dir():
        raise UsageError(f"{out_dir} is a file. Name a folder for the masks.")
    if out_dir.resolve() == bundle.root.resolve():
        raise UsageError(f"{out_dir} is the bundle itself. Name another folder for the masks.")
    file = file_of(bundle, options, out_dir)
    roi = file.roi
    if isinstance(roi, RoiMask) and roi.place.is_dir() and roi.place.resolve() == out_dir.resolve():
        raise UsageError("--roi is the folder that the masks go to. Name another folder for them.")
    # The record says what it came to, and names no file or folder.
    options = replace(options, precision=file.precision, folds=file.named_folds)
    if isinstance(roi, (RoiMask, RoiBundle)):
        told = "a mask" if isinstance(roi, RoiMask) else "a bundle"
        options = replace(options, roi=told, roi_margin=roi.around.margin_mm)
    return Opened(bundle, file, options, out_dir)


def file_of(bundle: Bundle, options: PredictOptions, scratch: Path) -> ModelFile:
    """The model that options ask for.

    Args:
        bundle: what predicts.
        options: how.
        scratch: where a file of class values may lie.

    Raises:
        UsageError: an option makes no sense.
        TrustError, BundleError, FileError: as ``predict``.
    """
    from volseg.bundle.outputs import Outputs
    from volseg.device import choose_device
    from volseg.verbs.predict.model_file import ModelFile

    overlap = bundle.meaning.outputs is Outputs.REGIONS
    rules = options.rules(bundle.labels, regions_table(bundle.meaning.regions) if overlap else None)
    unknown = (rules.on_masks if overlap else rules).labels.difference(bundle.labels.indices)
    if unknown and bundle.labels and not bundle.meaning.why:
        known = ", ".join(map(bundle.labels.told, bundle.labels.indices))
        raise UsageError(
            f"Rules name the labels {', '.join(map(str, sorted(unknown)))}, which the bundle doesn't have. It has {known}.",
            code="no-label",
        )
    if rules.on_masks and options.regions:
        raise UsageError(
            "Rules are for masks whose labels exclude each other, and regions may overlap. Leave --regions or the rules "
            "out."
        )
    device, wishes = choose_device(options.device), options.window(scratch)
    return ModelFile.of(
        bundle,
        options.fold,
        device,
        raw=options.raw,
        regions=options.regions,
        precision=options.precision,
        folds=options.folds,
        window=wishes,
        rules=rules,
        roi=roi_of(options, device, wishes),
    )


def roi_of(options: PredictOptions, device: str, wishes: WindowWishes) -> AnyRoi | None:
    """The part of each image that a person asks for.

    What looks like a box is one. Else it is a bundle, by its folder or the name of one that comes with volseg, or a mask or
    a folder of masks.

    Args:
        options: what was asked.
        device: that the other bundle runs on.
        wishes: what is asked of the sliding window.

    Raises:
        UsageError: it is none of these, or an option makes no sense.
        TrustError: the other bundle would run code that nobody has trusted.
        BundleError: the other bundle is incomplete or has no weights.
    """
    from volseg.bundle.folder import is_bundle, open_bundle
    from volseg.bundle.scope import require_segmentation
    from volseg.bundle.shipped import find_bundle
    from volseg.verbs.predict.model_file import ModelFile, RoiBundle
    from volseg.verbs.predict.roi import FORMS, LIKE_A_BOX, MARGIN_MM, Around, RoiMask, parse_roi

    text, labels = options.roi, words_of(options.roi_labels)
    if text is None or not text.strip() or LIKE_A_BOX.fullmatch(text.strip()):
        if options.roi_margin is not None or labels or options.roi_whole_box:
            raise UsageError(
                "--roi-margin, --roi-labels and --roi-whole-box are for a --roi that is a mask or a bundle."
            )
        return None if text is None else parse_roi(text)
    margin_mm = MARGIN_MM if options.roi_margin is None else options.roi_margin
    if not 0 <= margin_mm <= MAX_MM:  # not a number is neither
        raise UsageError(f"--roi-margin takes 0 to {MAX_MM:g} mm, not {margin_mm:g}.")
    around, place = Around(float(margin_mm), options.roi_whole_box), find_bundle(Path(text))
    if is_bundle(place):
        bundle = open_bundle(place)
        require_segmentation(bundle)
        window = replace(wishes, tta=False, overlap=None, labels=labels)
        return RoiBundle(
            ModelFile.of(bundle, None, device, raw=False, precision=options.precision, window=window), around
        )
    if not (is_image(place) if place.is_file() else list_images(place)):
        raise UsageError(f"{FORMS} {place} is none.")
    return RoiMask(place.absolute(), labels, around)


def gather(
    asked: Opened, model: Model, source: Path, naming: Callable[[Path], Naming], progress: Progress, scratch: Path
) -> Gathered:
    """Find the cases, and what earlier runs made of them.

    Args:
        asked: for what.
        model: that predicts.
        source: the input.
        naming: of cases that come from DICOM, called at the first of them.
        progress: receives the progress.
        scratch: a private folder that archives are unpacked into, to be kept until the last case is done.

    Raises:
        UsageError, InputError, DataSetError, BundleError: as ``Search.find``.
        OutputExistsError: the folder holds masks of another model, or the images themselves.
    """
    from volseg.verbs.predict.case import CaseToPredict, Prediction
    from volseg.verbs.predict.inputs import Search
    from volseg.verbs.predict.model import require_regions
    from volseg.verbs.predict.outputs import Outputs
    from volseg.verbs.predict.probabilities import probability_writer
    from volseg.verbs.predict.roi import RoiMask
    from volseg.verbs.predict.sources import SeriesSource

    options, out_dir = asked.options, asked.out_dir
    regions = require_regions(model) if options.regions else {}
    require_no_links(out_dir, [*regions, *(f"{region}/{name}" for region in regions for name in FOLDERS)])
    found = Ledger.read(out_dir / LEDGER)
    is_same = is_same_model(found, asked.file, options)
    if not is_same and not options.overwrite:
        require_no_others(found, out_dir)
    before = {outcome.case: outcome for outcome in found.outcomes} if found else {}
    there = tuple(
        one.case
        for one in before.values()
        if one.status is Status.DONE and any((out_dir / name).is_file() for name in one.outputs)
    )
    inputs = Search(
        bundle=asked.bundle,
        out_dir=out_dir,
        naming=naming,
        channels=model.channels,
        names=model.channel_names,
        modality=model.modality,
        fold=options.fold,
        choice=options,
        progress=progress,
        scratch=scratch,
        earlier=there,
    ).find(source)
    roi = asked.file.roi
    if isinstance(roi, RoiMask) and not roi.place.is_dir() and len(inputs.sources) > 1:
        raise UsageError(
            f"--roi is one mask, and there are {len(inputs.sources)} cases. Name a folder that has a mask named as each."
        )
    known = {without_order(case): case for case in before}
    sources = [
        replace(one, name=known.get(one.name, one.name)) if isinstance(one, SeriesSource) else one
        for one in inputs.sources
    ]
    cases = tuple(CaseToPredict(one, before.get(one.name)) for one in sources)
    staying = {*there}.difference(case.name for case in cases)
    otherwise = _called_otherwise(out_dir, model.table) if staying and not is_same and not regions else ()
    if otherwise:
        raise OutputExistsError(
            f"{out_dir} holds {counted(len(staying), 'mask')} that this run would leave, and in their {LABELS_NAME} is "
            f"{listed(otherwise)}, which the masks of this run don't have by that name. Name another folder."
        )
    chances = probability_writer(model, options)
    outputs = Outputs(out_dir, options.writers, tuple(regions), chances)
    work = Prediction(asked.file, outputs, options.overwrite, options.accept_edited)
    return Gathered(regions, found, there, inputs, cases, work)


def is_same_model(found: Ledger | None, file: ModelFile, options: PredictOptions) -> bool:
    """Whether masks of the last run are of the same model, rules and options."""
    from volseg.verbs.predict.model_file import RULES

    if found is None:
        return True
    theirs = found.provenance
    rules_alike = theirs.checksums.get(RULES) == file.checksums.get(RULES)
    return (rules_alike and file.checksums.items() <= theirs.checksums.items()) and all(
        _plainly(theirs.options.get(name)) == _plainly(getattr(options, name)) for name in DECIDING
    )


def require_no_others(found: Ledger | None, out_dir: Path) -> None:
    """Refuse a folder with masks of another model, which would pass for this one's.

    Raises:
        OutputExistsError: it has some.
    """
    if any((out_dir / name).is_file() for outcome in (found.outcomes if found else ()) for name in outcome.outputs):
        raise OutputExistsError(
            f"{out_dir} holds masks of another model or of other weights, or made with other rules or options, in another "
            "precision or for each region. Name another folder, or replace them with --overwrite."
        )


def _called_otherwise(out_dir: Path, table: LabelTable) -> tuple[str, ...]:
    """The labels that ``labels.txt`` names and a table calls otherwise or lacks."""
    try:
        there = LabelTable.read(out_dir / LABELS_NAME)
    except VolsegError:  # none, or somebody's notes
        return ()
    ours = LabelTable.from_itksnap(table.to_itksnap())
    return tuple(there.told(index) for index in there.indices if ours.told(index) != there.told(index))


def _plainly(option: object) -> object:
    """An option as the record has it; one that is not set is none, as in records from before there was one."""
    return (list(option) if isinstance(option, tuple) else option) or None

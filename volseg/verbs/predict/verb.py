"""The verb: the bundle loaded once, the cases in turn, the ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from volseg.atomic import exclusive, require_no_links
from volseg.batch import SERIAL, Executor, run_cases, run_overlapping
from volseg.device import available_bytes
from volseg.dicom.choice.options import SeriesChoice
from volseg.dicom.file.archives import private_folder
from volseg.errors import OutputExistsError, UsageError
from volseg.kept import RunningLedger
from volseg.labels import LABELS_NAME
from volseg.options import Many, words_of
from volseg.outcomes import Ledger, Provenance, Status
from volseg.postprocessing.options import RuleOptions
from volseg.progress import SILENT, Progress
from volseg.pseudonyms import NAMES, Naming, without_order
from volseg.writers import (
    DICOM_FORMATS,
    DICOM_LABELMAP,
    DICOM_SEG,
    FOLDERS,
    ITKSNAP,
    NIFTI,
    NO_SOURCE,
    PREVIEW,
    RTSTRUCT,
    STATISTICS,
    SURFACES,
    writers_of,
)
from volseg.writers.statistics import require_own_table, write_statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from volseg.bundle.folder import Bundle
    from volseg.labels import Region
    from volseg.outcomes import Outcome
    from volseg.verbs.predict.inputs import Search
    from volseg.verbs.predict.model import Model, ModelFile
    from volseg.verbs.predict.window import WindowWishes

LEDGER = "prediction.json"
DECIDING = ("raw", "regions", "precision", "tta", "overlap", "labels", "roi")
"""The options that a mask depends on."""
CARRIES_PATIENT = (
    "DICOM segmentations and structure sets carry the patient's name, identifiers and dates, as the standard asks. Give "
    "them to nobody who may not have the images."
)
BYTES_AHEAD = 32
"""Of each voxel of a case that is read while another is computed: its stored and its real values, and copies of both."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions(RuleOptions, SeriesChoice):
    """How to predict."""

    fold: int | None = None
    """Use the model of this fold; a data set as input then means the cases that the fold held out."""

    folds: str | None = None
    """Let the models of several folds predict together, by the mean of their probabilities: all, or numbers such as
    0,2; volseg train --cv makes them."""

    device: Literal["cpu", "cuda"] | None = None
    """cpu or cuda; a GPU where there is one unless told otherwise."""

    overwrite: bool = False
    """Make masks anew that are there already, also those of another model or that somebody edited."""

    formats: Many[str] = (NIFTI,)
    """Formats that the masks are written in: nifti, and slicer for 3D Slicer's .seg.nrrd."""

    statistics: bool = False
    """Write statistics.csv: volume, surface, diameter, place and the image's values of each label of each case."""

    workspace: bool = False
    """Write a workspace of ITK-SNAP for each case, which opens image, mask, names and colours together."""

    preview: bool = False
    """Write a picture of each case: three planes with the labels' colours."""

    surface: Many[str] = ()
    """Write the surface of each label as a mesh, in the patient's millimetres: stl or obj."""

    dicom_seg: bool = False
    """Write a DICOM segmentation of each mask too, on the original slices; for DICOM alone. It carries the patient's name,
    identifiers and dates, as the images do."""

    dicom_labelmap: bool = False
    """Write a DICOM label map too: a segmentation with the labels' own numbers, which newer programs read."""

    rtstruct: bool = False
    """Write an RT structure set of each mask too, with contours on the original slices; for DICOM alone, and with the
    patient's name as well."""

    regions: bool = False
    """Write one mask for each region, in a folder of its own, where a bundle's structures may overlap."""

    raw: bool = False
    """Leave out the bundle's rules for labels, such as the largest component."""

    precision: Literal["float32", "bfloat16", "auto"] = "auto"
    """What the network computes in: float32 as MONAI's own runner does, or bfloat16, which is quicker on processors made
    for it and changes a few voxels; auto takes bfloat16 there, for bundles that volseg plan wrote."""

    memory: str | None = None
    """How much memory predict may take, such as 3GB: class values that it doesn't hold are kept in a file meanwhile, and an image
    that needs more is refused; by default what is free."""

    tta: bool = False
    """Let the network see each window mirrored as well, along the axes that its training mirrored, and take the mean; up to
    eight times the work."""

    overlap: float | None = None
    """Of neighbouring windows, a share from 0 to 0.9, in place of the bundle's own; less is quicker."""

    labels: Many[str] = ()
    """Labels that are written, by name or number; all unless named."""

    roi: str | None = None
    """A box outside which nothing is segmented, and inside which the mask is as without: 100:300,80:260,20:90 in voxels i, j and
    k, or -80:60,-40:90,-1100:-900mm in millimetres to the patient's right, front and head."""

    def window(self, out_dir: Path) -> WindowWishes:
        """What is asked of the sliding window.

        Args:
            out_dir: where a file of class values may lie.

        Raises:
            UsageError: an option makes no sense.
        """
        from volseg.planning.wishes import parse_memory
        from volseg.verbs.predict.window import WindowWishes, parse_roi

        return WindowWishes(
            tta=self.tta,
            overlap=self.overlap,
            labels=words_of(self.labels),
            roi=None if self.roi is None else parse_roi(self.roi),
            memory=None if self.memory is None else parse_memory(self.memory),
            scratch=out_dir,
        )

    @property
    def writers(self) -> tuple[str, ...]:
        """All that is written of a mask, by the names of the writers.

        Raises:
            UsageError: there is no such kind of surface.
        """
        surfaces = words_of(self.surface)
        unknown = [word for word in surfaces if word not in SURFACES]
        if unknown:
            raise UsageError(f"--surface is {' or '.join(SURFACES)}, not {unknown[0]!r}.")
        asked = {
            STATISTICS: self.statistics,
            ITKSNAP: self.workspace,
            PREVIEW: self.preview,
            DICOM_SEG: self.dicom_seg,
            DICOM_LABELMAP: self.dicom_labelmap,
            RTSTRUCT: self.rtstruct,
        }
        return (*words_of(self.formats), *(name for name in asked if asked[name]), *surfaces)


def predict(
    bundle_dir: Path,
    source: Path,
    out_dir: Path,
    options: PredictOptions | None = None,
    progress: Progress = SILENT,
    executor: Executor = SERIAL,
) -> Ledger:
    """Segment images with a trained bundle, which is loaded once.

    Writes ``<case>.nii.gz`` with the header geometry of its image byte for byte, ``labels.txt`` for ITK-SNAP and the
    ledger ``prediction.json``; for regions that may overlap both in a folder of each region's name. From DICOM the images go to ``images/``, since masks are opened on them. Masks that
    are there already stay where image, model and options are the same, so that an interrupted cohort goes on where it
    stopped; where the image has changed they are made anew. One that somebody edited is never replaced unasked.

    Args:
        bundle_dir: the bundle, or the bare name of one that comes with volseg.
        source: an image, a folder of images, a list of them (a text, CSV or JSON file), a data set (its ``imagesTs``;
            the held-out cases with ``fold``), or a folder of DICOM, with the zip and tar archives in it or one in its
            place.
        out_dir: where the masks go.
        options: how to predict.
        progress: receives the progress.
        executor: where the cases are worked on; each worker loads the model once.

    Raises:
        UsageError: an input is missing or of the wrong kind.
        TrustError: the bundle would run code that nobody has trusted.
        BundleError: the bundle is incomplete or has no weights.
        DiskFullError: no space is left.
    """
    # Archives stay unpacked until the last case is done: pixels are read when its turn comes.
    with private_folder() as scratch:
        return _predict(bundle_dir, source, out_dir, options or PredictOptions(), progress, executor, scratch)


def _predict(
    bundle_dir: Path,
    source: Path,
    out_dir: Path,
    options: PredictOptions,
    progress: Progress,
    executor: Executor,
    scratch: Path,
) -> Ledger:
    from volseg.bundle.ensemble import outdated_words
    from volseg.dicom.choice.names import NAME_WARNING, header_text, require_linkage, write_linkage
    from volseg.dicom.file import tags
    from volseg.verbs.predict.case import CaseToPredict, Prediction
    from volseg.verbs.predict.model import load_model, require_regions
    from volseg.verbs.predict.sources import IMAGES, SeriesSource

    bundle, file, options = opened(bundle_dir, source, out_dir, options)
    linkage = None if options.linkage is None else Path(options.linkage)
    if linkage is not None:
        require_linkage(linkage, out_dir, overwrite=options.overwrite)
    if options.name:
        progress.say(NAME_WARNING)
    if file.folds:
        for line in outdated_words(bundle):
            progress.say(f"warning: {line}")
    try:
        with exclusive(out_dir):
            require_no_links(out_dir, [IMAGES, *FOLDERS])
            if STATISTICS in options.writers:
                require_own_table(out_dir)
            model = load_model(file)
            if model.step_by_step:
                progress.say(f"note: {model.step_by_step}")
            for used in model.bridged:
                progress.say(f"warning: {used.config} config: {used}")
            regions = require_regions(model) if options.regions else {}
            require_no_links(out_dir, [*regions, *(f"{region}/{name}" for region in regions for name in FOLDERS)])
            found = Ledger.read(out_dir / LEDGER)
            require_same_model(found, file, out_dir, options)
            earlier = {outcome.case: outcome for outcome in found.outcomes} if found else {}
            there = made_before(found, out_dir)
            inputs = search(bundle, model, out_dir, options, Naming.of_folder, progress, scratch, there).find(source)
            work = Prediction(file, out_dir, options.writers, options.overwrite, tuple(regions))
            if DICOM_FORMATS.intersection(options.writers):
                if inputs.sources and all(one.series is None for one in inputs.sources):
                    raise UsageError(NO_SOURCE, code="no-dicom-source")
                progress.say(f"warning: {CARRIES_PATIENT}")
            if inputs.naming:
                inputs.naming.require_names_of(found, out_dir)
            named = inputs.naming.mark if inputs.naming else found.provenance.checksums.get(NAMES) if found else None
            checksums = file.checksums | ({NAMES: named} if named else {})
            provenance = Provenance.of(
                "predict",
                options,
                checksums=checksums,
                device=model.device,
                shims=tuple(used.name for used in model.bridged),
            )
            known = {without_order(case): case for case in earlier}
            named_before = [
                replace(one, name=known.get(one.name, one.name)) if isinstance(one, SeriesSource) else one
                for one in inputs.sources
            ]
            cases = [CaseToPredict(one, earlier.get(one.name)) for one in named_before]
            # Both before the work: masks of a run that is interrupted are not to lie there without a word on them.
            ledger = Ledger(inputs.outcomes, provenance, inputs.skipped_kinds)
            origin = inputs.naming.origin(source) if inputs.naming else ""
            with RunningLedger(out_dir / LEDGER, ledger, found, origin, inputs.aside) as running:
                described = Described(out_dir, model, regions, found.outcomes if found else ())

                def add(outcome: Outcome) -> None:
                    running.add(outcome)
                    described.add(outcome)

                if executor.is_here and len(cases) > 1:
                    outcomes = run_overlapping(
                        work.steps,
                        cases,
                        name_of=lambda case: case.name,
                        private_of=lambda case: case.source.private,
                        may_overlap=lambda case: BYTES_AHEAD * case.source.voxels < available_bytes() / 2,
                        title="Predicting",
                        progress=progress,
                        on_outcome=add,
                    )
                else:
                    outcomes = run_cases(
                        work,
                        cases,
                        name_of=lambda case: case.name,
                        private_of=lambda case: case.source.private,
                        title="Predicting",
                        executor=executor,
                        progress=progress,
                        on_outcome=add,
                    )
            if linkage is not None:
                done = {one.case for one in outcomes if one.status is Status.DONE}
                rows = [
                    (one.name, one.naming.patient(one.series.identity), header_text(one.series, tags.PATIENT_ID))
                    for one in named_before
                    if isinstance(one, SeriesSource) and one.name in done
                ]
                write_linkage(linkage, rows)
            whole = Ledger.read(out_dir / LEDGER)
            for case in write_statistics(out_dir, whole.outcomes) if whole else ():
                progress.say(
                    f"warning: the table of {case} can't be read, so statistics.csv lacks it. Add --overwrite."
                )
            return replace(running.ledger, outcomes=inputs.outcomes + outcomes)
    finally:
        load_model.cache_clear()


def opened(
    bundle_dir: Path, source: Path, out_dir: Path, options: PredictOptions
) -> tuple[Bundle, ModelFile, PredictOptions]:
    """The bundle, its model and the options as they come out with it.

    Raises:
        UsageError: an option, the input or the output folder makes no sense.
        TrustError, BundleError, FileError: as ``predict``.
    """
    from volseg.bundle.folder import open_bundle
    from volseg.bundle.scope import require_segmentation
    from volseg.bundle.shipped import find_bundle
    from volseg.device import choose_device
    from volseg.verbs.predict.model import ModelFile

    options.require_sense()
    writers_of(options.writers)
    bundle = open_bundle(find_bundle(bundle_dir))
    require_segmentation(bundle)
    if not source.exists():
        raise UsageError(
            f"{source} does not exist. Name an image, a folder of images, a data set or a folder of DICOM."
        )
    if out_dir.exists() and not out_dir.is_dir():
        raise UsageError(f"{out_dir} is a file. Name a folder for the masks.")
    if out_dir.resolve() == bundle.root.resolve():
        raise UsageError(f"{out_dir} is the bundle itself. Name another folder for the masks.")
    rules = options.rules(bundle.labels)
    if rules and options.regions:
        raise UsageError(
            "Rules are for masks whose labels exclude each other, and regions may overlap. Leave --regions or the rules out."
        )
    file = ModelFile.of(
        bundle,
        options.fold,
        choose_device(options.device),
        raw=options.raw,
        regions=options.regions,
        precision=options.precision,
        folds=options.folds,
        window=options.window(out_dir),
        rules=rules,
    )
    # The record says what it came to.
    return bundle, file, replace(options, precision=file.precision, folds=file.named_folds)


def search(
    bundle: Bundle,
    model: Model,
    out_dir: Path,
    options: PredictOptions,
    naming: Callable[[Path], Naming],
    progress: Progress,
    scratch: Path,
    earlier: Collection[str],
) -> Search:
    """How the inputs of a run are found; see ``Search``."""
    from volseg.bundle.metadata import channel_names
    from volseg.verbs.predict.inputs import Search

    return Search(
        bundle=bundle,
        out_dir=out_dir,
        naming=naming,
        channels=model.channels,
        names=model.order or channel_names(bundle.metadata),
        modality=model.modality,
        fold=options.fold,
        choice=options,
        progress=progress,
        scratch=scratch,
        earlier=earlier,
    )


def made_before(found: Ledger | None, out_dir: Path) -> list[str]:
    """The cases of which masks of earlier runs are there."""
    return [
        one.case
        for one in (found.outcomes if found else ())
        if one.status is Status.DONE and any((out_dir / name).is_file() for name in one.outputs)
    ]


class Described:
    """``labels.txt`` for ITK-SNAP beside the masks: on the disk before them, with each value that turns up in one."""

    def __init__(self, out_dir: Path, model: Model, regions: Mapping[str, Region], earlier: Iterable[Outcome]) -> None:
        self._path, self._table, self._rules = out_dir / LABELS_NAME, model.table, model.rules
        for folder, region in regions.items():
            region.table.describe(out_dir / folder / LABELS_NAME)
        self._is_one = not regions
        for outcome in earlier:
            self._take(outcome)
        if self._is_one:
            self._table.describe(self._path)

    def _take(self, outcome: Outcome) -> None:
        if outcome.status is Status.DONE:
            named = self._rules.named(self._table, outcome.values_outside)
            self._table = named.with_values(outcome.values_outside)

    def add(self, outcome: Outcome) -> None:
        """Take in what became of a case."""
        before = self._table
        self._take(outcome)
        if self._is_one and self._table != before:
            self._table.describe(self._path)


def require_same_model(found: Ledger | None, file: ModelFile, out_dir: Path, options: PredictOptions) -> None:
    """Refuse a folder with masks of another model, which would pass for this one's.

    Raises:
        OutputExistsError: it has some.
    """
    from volseg.verbs.predict.model import RULES

    if found is None or options.overwrite:
        return
    theirs = found.provenance
    rules_alike = theirs.checksums.get(RULES) == file.checksums.get(RULES)
    same = (rules_alike and file.checksums.items() <= theirs.checksums.items()) and all(
        _plainly(theirs.options.get(name)) == _plainly(getattr(options, name)) for name in DECIDING
    )
    there = any((out_dir / name).is_file() for outcome in found.outcomes for name in outcome.outputs)
    if not same and there:
        raise OutputExistsError(
            f"{out_dir} holds masks of another model or of other weights, or made with other rules or options, in another "
            "precision or for each region. Name another folder, or replace them with --overwrite."
        )


def _plainly(option: object) -> object:
    """An option as the record has it; one that is not set is none, as in records from before there was one."""
    return (list(option) if isinstance(option, tuple) else option) or None

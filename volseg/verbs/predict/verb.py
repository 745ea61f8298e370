"""The verb: the bundle loaded once, the cases in turn, the ledger."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.atomic import exclusive, require_no_links
from volseg.batch import SERIAL, Executor, run_cases, run_overlapping
from volseg.dicom.file.archives import private_folder
from volseg.errors import UsageError
from volseg.kept import RunningLedger
from volseg.outcomes import Ledger, Provenance, Status
from volseg.progress import SILENT, Progress
from volseg.pseudonyms import NAMES, Naming
from volseg.verbs.predict.described import Described
from volseg.verbs.predict.gathering import LEDGER, gather, opened
from volseg.verbs.predict.options import PredictOptions
from volseg.verbs.predict.places import forget_placed
from volseg.writers import DICOM_FORMATS, FOLDERS, NO_SOURCE, STATISTICS
from volseg.writers.statistics import require_own_table, write_statistics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volseg.outcomes import Outcome

CARRIES_PATIENT = (
    "DICOM segmentations and structure sets carry the patient's name, identifiers and dates, as the standard asks. Give "
    "them to nobody who may not have the images."
)


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
    ledger ``prediction.json``; for regions that may overlap both in a folder of each region's name. From DICOM the
    images go to ``images/``, since masks are opened on them. Masks that are there already stay where image, model and
    options are the same, so that an interrupted cohort goes on where it stopped; where the image has changed they are
    made anew. One that somebody edited is never replaced unasked.

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
    from volseg.verbs.predict.model import load_model
    from volseg.verbs.predict.sources import IMAGES, SeriesSource

    asked = opened(bundle_dir, source, out_dir, options)
    file, options = asked.file, asked.options
    linkage = None if options.linkage is None else Path(options.linkage)
    if linkage is not None:
        require_linkage(linkage, out_dir, overwrite=options.overwrite)
    if options.name:
        progress.say(NAME_WARNING)
    if file.folds:
        for line in outdated_words(asked.bundle):
            progress.say(f"warning: {line}")
    try:
        with exclusive(out_dir):
            require_no_links(out_dir, [IMAGES, *FOLDERS])
            if STATISTICS in options.writers:
                require_own_table(out_dir)
            model = load_model(file)
            if model.step_by_step:
                progress.say(f"note: {model.step_by_step}")
            bridged = (*model.bridged, *(model.roi_model.bridged if model.roi_model else ()))
            for used in bridged:
                progress.say(f"warning: {used.config} config: {used}")
            gathered = gather(asked, model, source, Naming.of_folder, progress, scratch)
            inputs, found, cases, work = gathered.inputs, gathered.found, gathered.cases, gathered.work
            if DICOM_FORMATS.intersection(options.writers):
                if inputs.sources and all(one.series is None for one in inputs.sources):
                    raise UsageError(NO_SOURCE, code="no-dicom-source")
                progress.say(f"warning: {CARRIES_PATIENT}")
            if inputs.naming:
                inputs.naming.require_names_of(found, out_dir)
            if options.overwrite or not all(case.earlier and case.earlier.made for case in cases):
                model.load_weights()
            named = inputs.naming.mark if inputs.naming else found.provenance.checksums.get(NAMES) if found else None
            checksums = file.checksums | ({NAMES: named} if named else {})
            provenance = Provenance.of(
                "predict",
                options,
                checksums=checksums,
                device=model.device,
                shims=tuple(used.name for used in bridged),
            )
            # Both before the work: masks of a run that is interrupted are not to lie there without a word on them.
            ledger = Ledger(inputs.outcomes, provenance, inputs.skipped_kinds)
            origin = inputs.naming.origin(source) if inputs.naming else ""
            under_way = {case.name for case in cases}
            with (
                _forgetting_placed(out_dir) as ended,
                RunningLedger(out_dir / LEDGER, ledger, found, origin, inputs.aside, under_way) as running,
            ):
                described = Described(out_dir, model, gathered.regions, found.outcomes if found else (), progress.say)

                def add(outcome: Outcome) -> None:
                    running.add(outcome)
                    described.add(outcome)
                    ended.append(outcome)

                if executor.is_here and len(cases) > 1:
                    outcomes = run_overlapping(
                        work.steps,
                        cases,
                        name_of=lambda case: case.name,
                        private_of=lambda case: case.source.private,
                        may_overlap=work.has_room,
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
                    for one in (case.source for case in cases)
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


@contextmanager
def _forgetting_placed(out_dir: Path) -> Iterator[list[Outcome]]:
    """Take the outcomes of a run; at its end, an interrupted one's too, forget what was placed of cases that the ledger tells."""
    ended: list[Outcome] = []
    try:
        yield ended
    finally:
        ledger = Ledger.read(out_dir / LEDGER)
        made = {one.case: one.made for one in ledger.outcomes} if ledger else {}
        forget_placed(out_dir, [one.case for one in ended if one.made and one.made == made.get(one.case)])

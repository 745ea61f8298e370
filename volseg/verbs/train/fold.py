"""Training of one fold, from its start or from its checkpoint."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from volseg.atomic import exclusive, remove_partials
from volseg.batch.strays import strays_ended
from volseg.bundle.checkpoints import damaged_checkpoint
from volseg.bundle.serving import serve_cases
from volseg.bundle.vocabulary import MODEL_KEY
from volseg.causes import cause_of
from volseg.device import memory_short
from volseg.errors import BundleError, UsageError, VolsegError
from volseg.outcomes import Provenance, sha256_of
from volseg.training.autocast import AutocastInferer, use_bfloat16
from volseg.training.budget import LEAST_STEPS
from volseg.training.cases import FoldCases
from volseg.training.checkpoint import RunFolder, RunState
from volseg.training.preparing import watched_caches
from volseg.training.record import RunRecord
from volseg.training.run import Run
from volseg.verbs.train.options import FoldResult, TrainOptions
from volseg.verbs.train.parts import average_of, budget_of
from volseg.verbs.train.publishing import Publisher, published_run
from volseg.verbs.train.split import split_path
from volseg.volume import read_header
from volseg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import torch
    from torch.nn import Module

    from volseg.bundle.folder import Bundle
    from volseg.bundle.parser import BundleParser
    from volseg.dataset.dataset import Dataset
    from volseg.dataset.faults import CaseContent
    from volseg.dataset.folds import Split
    from volseg.progress import Progress

ENDLESS_EPOCHS = 10**9
"""Where minutes decide, epochs must not."""
RECORD_KEY = "cases_record"
"""The key under which a config takes the file that names a run's cases."""
SHORT_REMEDY = (
    "Give batch_size in configs/train.yaml a smaller value, or plan another bundle with --preset fast or a coarser "
    "--spacing."
)


@dataclass(frozen=True)
class Data:
    """The data set of a training, found to be sound.

    Args:
        dataset: its cases.
        contents: what is in each case with a mask, by its name.
        split: its folds; None where none is needed.
    """

    dataset: Dataset
    contents: Mapping[str, CaseContent]
    split: Split | None


@dataclass(frozen=True)
class Fold:
    """One fold to train.

    Args:
        bundle: the bundle.
        number: which fold is held out; None holds out none.
        options: with the length that the run was begun with, where no other was asked for.
        device: where to compute.
        known: the bundle's train config as it lies on the disk.
        complete: whether there is nothing left to do.
        served: whether a config of others gets its cases from the data set that a person named.
    """

    bundle: Bundle
    number: int | None
    options: TrainOptions
    device: torch.device
    known: Mapping[str, object]
    complete: bool
    served: bool = False

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        number: int | None,
        options: TrainOptions,
        device: torch.device,
        known: Mapping[str, object],
        *,
        served: bool = False,
    ) -> Fold:
        """Look at what an earlier run left of a fold.

        Raises:
            BundleError: its checkpoint can't be read.
        """
        state = None if options.fresh else _read_state(_run_folder(bundle, number))
        options = _with_recorded_length(options, state)
        complete = state is not None and _is_complete(state, options)
        return cls(bundle, number, options, device, known, complete, served)

    @property
    def name(self) -> str:
        """Of its run."""
        return self.folder.folder.name

    @property
    def folder(self) -> RunFolder:
        """Of its run."""
        return _run_folder(self.bundle, self.number)

    @property
    def records_cases(self) -> bool:
        """Whether volseg splits the data; any other config brings a split of its own, of which we know nothing."""
        return RECORD_KEY in self.known or self.served

    def require_same_source(self) -> None:
        """Refuse to go on by other cases than a run of a bundle of others was begun with.

        Raises:
            UsageError: it was begun with a data set of ``--data`` and goes on without, or the other way round.
        """
        begun = not self.options.fresh and self.folder.last.is_file()
        if not begun or RECORD_KEY in self.known or self.served == self.folder.record.is_file():
            return
        remedy = (
            "the bundle's own list of data. Leave --data out"
            if self.served
            else "a data set. Name it again with --data"
        )
        raise UsageError(f"{self.name} was begun with {remedy}, or start over with --fresh.")

    def state(self) -> RunState | None:
        """What an earlier run left, unless it is to be forgotten."""
        return None if self.options.fresh else _read_state(self.folder)

    def record(self, data: Data | None) -> RunRecord:
        """The cases that are trained on and held out: those that the run was begun with, or those of the split.

        Raises:
            DataSetError: a recorded case is gone, or the fold would hold out none.
        """
        if data is None or not self.records_cases:
            return RunRecord(self.name)
        if not self.options.fresh and self.folder.last.exists():
            recorded = RunRecord.read(self.folder.record)
            recorded.cases.require_present(data.dataset)
            return recorded
        cases = FoldCases.of(data.dataset, data.split, self.number)
        names = (*cases.training, *cases.validation)
        return RunRecord(self.name, cases, {name: data.contents[name].digest for name in names})

    def config(self, data: Path | None) -> BundleParser:
        """The bundle's train config with what the command line decides, read and judged, nothing of it run.

        Raises:
            TrustError, BundleError: the bundle may not run.
        """
        from volseg.bundle.parser import BundleParser

        return BundleParser(self.bundle, "train", _overrides(self, data))

    def publish(self) -> FoldResult:
        """Make the model of a run that was complete before the one in ``models/``.

        Raises:
            BundleError: it doesn't fit the bundle's inference network, or is gone.
            FileError: it can't be written.
        """
        from volseg.bundle.published import publish
        from volseg.bundle.weights import inference_network, read_state_dict

        best = self.finished().best
        score = None if best is None or best.validation is None else best.validation.score
        publish(self.bundle, inference_network(self.bundle), read_state_dict(self.folder.best), self.name, score)
        return self.finished()

    def finished(self) -> FoldResult:
        """The result of a run that was complete before."""
        state = self.state()
        cases = RunRecord.read(self.folder.record).cases if self.records_cases else FoldCases((), ())
        return FoldResult(
            self.name,
            self.folder.folder,
            () if state is None else state.history,
            self.bundle.labels.names,
            complete=state is None or state.minutes is None or state.step >= LEAST_STEPS,
            already=True,
            training=len(cases.training),
            validation=len(cases.validation),
            published=published_run(self.bundle),
        )


def _run_folder(bundle: Bundle, number: int | None) -> RunFolder:
    return RunFolder(bundle.runs / ("all_cases" if number is None else f"fold_{number}"))


def _read_state(folder: RunFolder) -> RunState | None:
    from volseg.bundle.parser import load_weights

    return RunState.read(folder.last, load_weights(folder.last)) if folder.last.exists() else None


def train_fold(
    fold: Fold, parser: BundleParser, data: Data | None, network: Module | None, started: float, progress: Progress
) -> FoldResult:
    """Train one fold, or go on with it.

    Args:
        fold: which.
        parser: its config; what it builds, caches of volumes among it, lives as long as this.
        data: the data set; None where only the bundle knows it.
        network: the network of inference, that the trained weights have to fit; None where it is not known.
        started: ``time.monotonic()`` of when the work on this fold began.
        progress: receives the progress.

    Raises:
        BundleError: the bundle is incomplete, or its checkpoint doesn't fit.
        DataSetError: the data set lost cases of the run.
        FileError: a checkpoint can't be written, or another run trains this fold.
        MemoryShortError: memory ran out.
    """
    with exclusive(fold.folder.folder):
        state = fold.state()
        record = fold.record(data)
        if fold.options.fresh:
            fold.folder.remove()
        remove_partials(fold.folder.folder)
        if state is not None:
            progress.say(f"Going on after {state.seconds / 60:.1f} minutes")
        if data is not None and fold.records_cases:
            _tell_changes(record, data, progress)
            record = record.with_digests({name: content.digest for name, content in data.contents.items()})
            record = record.with_session(_session(fold, record, parser))
            record.write(fold.folder.record)
            if fold.served:
                cases = {case.name: case for case in data.dataset.training}
                parts = (record.cases.training, record.cases.validation)
                serve_cases(parser, *([cases[name] for name in names] for names in parts))
        try:
            if parser.verdict.findings and data is not None:
                from volseg.bundle.training_memory import require_memory

                images = [read_header(image).grid for case in data.dataset.training for image in case.images[:1]]
                require_memory(parser, images, fold.device.type)
            with _seeded(fold.options.seed, state), strays_ended(), _threads_heard():
                return _run(fold, parser, state, network, started, progress)
        except Exception as error:
            told = memory_short(error, SHORT_REMEDY) or damaged_checkpoint(error, fold.bundle.root)
            if told is not None:
                raise told from error
            cause = None if isinstance(error, VolsegError) else cause_of(error)
            if cause is None or not cause.known:
                raise
            raise BundleError(
                f"{fold.bundle.root}: training ended: {cause.clause}. --debug shows where.",
                code="missing-package" if cause.module else "cannot-train",
                path=fold.bundle.root,
            ) from error


def _tell_changes(record: RunRecord, data: Data, progress: Progress) -> None:
    """Say what became of the data set since the run was begun."""
    changed = record.changed({name: content.digest for name, content in data.contents.items()})
    if changed:
        cases = counted(len(changed), "case")
        progress.say(
            f"The voxels of {cases} changed after this run was begun ({changed[0]} for one); it goes on with them."
        )
    added = {case.name for case in data.dataset.training}.difference(record.digests) if data.split is None else ()
    if added:
        cases = counted(len(added), "case")
        progress.say(f"{cases} came to the data set after this run was begun; it goes on without. --fresh starts over.")


def _session(fold: Fold, record: RunRecord, parser: BundleParser) -> Provenance:
    """How this call trains."""
    device = fold.device
    inferer = parser.plain("train#inferer")
    casts = isinstance(inferer, dict) and str(inferer.get("_target_")).endswith(AutocastInferer.__name__)
    precision = " bfloat16" if casts and use_bfloat16(device) else ""
    checksums = {"data": record.data_sha256, "configs/train": parser.verdict.configs["train"].sha256}
    if fold.number is not None:
        checksums["split"] = sha256_of(split_path(fold.bundle))
    return Provenance.of(
        "train",
        fold.options,
        checksums=checksums,
        device=f"{device.type}{precision}",
        seed=fold.options.seed,
        shims=tuple(dict.fromkeys(used.name for used in parser.bridged)),
    )


def _run(
    fold: Fold,
    parser: BundleParser,
    state: RunState | None,
    network: Module | None,
    started: float,
    progress: Progress,
) -> FoldResult:
    from ignite.engine import Events

    from volseg.bundle.weights import require_fit

    with watched_caches(progress):
        trainer = parser.build("train#trainer")
        evaluator = parser.build("validate#evaluator") if parser.has("validate#evaluator") else None
    for engine in (trainer, evaluator):
        # MONAI's handlers log an exception whole, which may quote a file; it is told as a sentence.
        getattr(engine, "_event_handlers", {}).pop(Events.EXCEPTION_RAISED, None)
    for part in ("network", "optimizer"):
        if not hasattr(trainer, part):
            raise BundleError(
                f"{fold.bundle.root}: train#trainer has no {part}, so it is no SupervisedTrainer. "
                "volseg can't train it."
            )
    require_fit(fold.bundle, network, trainer.network.state_dict())
    if evaluator is not None and not len(evaluator.data_loader):
        evaluator = None  # no case is held out
    budget = budget_of(parser, trainer, fold.options)
    if fold.options.minutes is not None:
        trainer.state.max_epochs = ENDLESS_EPOCHS
    run = Run(
        folder=fold.folder,
        trainer=trainer,
        evaluator=evaluator,
        budget=budget,
        labels=fold.bundle.labels.names,
        listeners=(Publisher(fold.bundle, fold.name, network, fold.options, progress),),
        scheduler=parser.build("lr_scheduler") if parser.has("lr_scheduler") else None,
        average=average_of(parser),
        progress=progress,
    )
    if state is not None:
        run.resume(state)
    budget.start(
        before_seconds=0.0 if state is None else state.seconds,
        setup_seconds=0.0 if state is None else state.setup_seconds,
        steps=0 if state is None else state.step,
        started=started,
    )
    complete = run.go()
    return FoldResult(
        fold.name,
        fold.folder.folder,
        tuple(run.history),
        tuple(run.labels),
        complete=complete,
        already=False,
        training=len(trainer.data_loader.dataset),
        validation=0 if evaluator is None else len(evaluator.data_loader.dataset),
        published=published_run(fold.bundle),
    )


def _overrides(fold: Fold, data: Path | None) -> dict[str, object]:
    """What the command line decides, for the keys that the config has; ``dataset_dir`` and ``device`` by convention."""
    wanted: dict[str, object] = {
        "device": fold.device,
        "fold": fold.number,
        RECORD_KEY: str(fold.folder.record.resolve()),
        "minutes": fold.options.minutes,
        MODEL_KEY: None,
    }
    if data is not None:
        wanted["dataset_dir"] = str(data.resolve())
    if fold.options.epochs is not None:
        wanted["max_epochs"] = fold.options.epochs
        wanted["epochs"] = fold.options.epochs
    return {key: value for key, value in wanted.items() if key in fold.known}


def _with_recorded_length(options: TrainOptions, state: RunState | None) -> TrainOptions:
    """A run that goes on keeps its length unless told otherwise."""
    if state is None or options.minutes is not None or options.epochs is not None:
        return options
    if state.minutes is not None:
        return replace(options, minutes=state.minutes)
    return replace(options, epochs=state.epochs)


def _is_complete(state: RunState, options: TrainOptions) -> bool:
    if not state.complete:
        return False
    if options.minutes is not None:
        # What was kept back for the last validation counts as used.
        return options.minutes * 60 <= max(state.seconds, (state.minutes or 0.0) * 60)
    return options.epochs is not None and state.epoch >= options.epochs


@contextmanager
def _threads_heard() -> Iterator[None]:
    """Raise here what ended a thread that makes batches: MONAI takes the end of such a thread for the data's end."""
    heard: list[BaseException] = []
    before = threading.excepthook

    def hear(told: threading.ExceptHookArgs) -> None:
        if isinstance(told.exc_value, Exception):
            heard.append(told.exc_value)

    threading.excepthook = hear
    failed: BaseException | None = None
    try:
        yield
    except Exception as error:  # noqa: BLE001  raised below
        failed = error
    finally:
        threading.excepthook = before
    first = heard[0] if heard else failed
    if first is not None:
        raise first


@contextmanager
def _seeded(seed: int, state: RunState | None) -> Iterator[None]:
    """Seed every random draw; a resumed run must not repeat the draws of its beginning."""
    from monai.utils import set_determinism

    set_determinism(seed=seed + (0 if state is None else state.step))
    try:
        yield
    finally:
        set_determinism(seed=None)

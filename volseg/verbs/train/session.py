"""Training of one fold, from its start or from its checkpoint."""

from __future__ import annotations

import inspect
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from volseg.atomic import exclusive, remove_partials
from volseg.batch.strays import strays_ended
from volseg.bundle.checkpoints import damaged_checkpoint
from volseg.bundle.model_digest import MODEL, model_digest
from volseg.bundle.own_runs import remember_made
from volseg.bundle.serving import serve_cases
from volseg.bundle.training_memory import smaller_step
from volseg.causes import cause_of
from volseg.device import memory_short
from volseg.errors import BundleError, VolsegError
from volseg.outcomes import Provenance, sha256_of
from volseg.training.autocast import AutocastInferer, use_bfloat16
from volseg.training.checkpoint import RunState
from volseg.training.listeners import Listener
from volseg.training.precision import measure_change, seconds_to_measure
from volseg.training.prepared import opened
from volseg.training.preparing import watched_caches
from volseg.training.record import RunRecord
from volseg.training.run import Run
from volseg.verbs.train.fold import TRAIN_CONFIG, Data, Fold
from volseg.verbs.train.following import follow_message
from volseg.verbs.train.initial import begin, freeze
from volseg.verbs.train.options import DEFAULT_SEED, FoldResult
from volseg.verbs.train.parts import average_of, budget_of
from volseg.verbs.train.publishing import Publisher, published_run
from volseg.verbs.train.split import split_path
from volseg.verbs.train.tracking import trackers_of
from volseg.volume import read_header
from volseg.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch.nn import Module

    from volseg.bundle.parser import BundleParser
    from volseg.progress import Progress
    from volseg.training.budget import Budget
    from volseg.training.ranks import Followers

ENDLESS_EPOCHS = 10**9
"""Where minutes decide, epochs must not."""


def train_fold(
    fold: Fold,
    parser: BundleParser,
    data: Data | None,
    network: Module | None,
    started: float | None,
    progress: Progress,
    followers: Followers | None = None,
    listeners: Sequence[Listener] = (),
) -> FoldResult:
    """Train one fold, or go on with it.

    Args:
        fold: which.
        parser: its config; what it builds, caches of volumes among it, lives as long as this.
        data: the data set; None where only the bundle knows it.
        network: the network of inference, that the trained weights have to fit; None where it is not known.
        started: ``time.monotonic()`` of when the work on this fold began; None where minutes count from when the cases
            are prepared.
        progress: receives the progress.
        followers: other processes that share each batch.
        listeners: hear the results, beside those of every run.

    Raises:
        BundleError: the bundle is incomplete, or its checkpoint doesn't fit.
        DataSetError: the data set lost cases of the run.
        FileError: a checkpoint can't be written, or another run trains this fold.
        MemoryShortError: memory ran out.
    """
    with exclusive(fold.folder.folder):
        fold.drop_damaged(progress)
        state = fold.state()
        record = fold.record(data)
        if fold.options.fresh:
            fold.folder.remove()
        remove_partials(fold.folder.folder)
        remember_made(fold.folder.folder, progress)  # after what a stranger left was removed
        if state is not None:
            progress.say(f"Going on after {state.seconds / 60:.1f} minutes")
            if fold.options.seed not in (DEFAULT_SEED, state.seed):
                progress.say(f"It was begun with --seed {state.seed} and keeps it; --fresh starts over with another.")
        if data is not None and fold.records_cases:
            _tell_changes(record, data, progress)
            record = record.with_digests({name: content.digest for name, content in data.contents.items()})
            session = _session(fold, record, parser)
            what = fold.changed_config(record, session.checksums[TRAIN_CONFIG]) if state is not None else None
            if what is not None:
                progress.say(
                    f"warning: the train config {what} since this run last went on; it goes on by the one of now. "
                    "--fresh starts over."
                )
            record = replace(record.with_session(session), bfloat16_change=None)
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
            with (
                _seeded(fold, state),
                strays_ended(),
                _threads_heard(),
                opened(fold.options.store(progress, fold.beside)),
            ):
                return _run(fold, parser, state, record, network, started, progress, followers, listeners)
        except KeyboardInterrupt:
            if fold.options.fresh and fold.folder.is_begun:
                progress.say("Leave --fresh out then: it starts over again.")
            raise
        except Exception as error:
            short = memory_short(error)
            told = (
                damaged_checkpoint(error, fold.bundle.root)
                if short is None
                else memory_short(error, smaller_step(parser, fold.device.type))
            )
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
    checksums = {"data": record.data_sha256, TRAIN_CONFIG: parser.verdict.configs["train"].sha256}
    checksums[MODEL] = model_digest(fold.known)
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


def _saves(handler: Callable[..., object]) -> bool:
    """Whether it is a config's own saver of weights: a model that is there stays unless its replacement was asked for."""
    from monai.handlers import CheckpointSaver

    return isinstance(getattr(inspect.unwrap(handler), "__self__", None), CheckpointSaver)


def _run(
    fold: Fold,
    parser: BundleParser,
    state: RunState | None,
    record: RunRecord,
    network: Module | None,
    started: float | None,
    progress: Progress,
    followers: Followers | None,
    listeners: Sequence[Listener],
) -> FoldResult:
    from ignite.engine import Events

    from volseg.bundle.weights import require_fit

    initial = begin(fold, parser, record, progress, goes_on=state is not None)
    with watched_caches(progress):
        trainer = parser.build("train#trainer")
        evaluator = parser.build("validate#evaluator") if parser.has("validate#evaluator") else None
    for engine in (trainer, evaluator):
        handlers = getattr(engine, "_event_handlers", {})
        # MONAI's handlers log an exception whole, which may quote a file; it is told as a sentence.
        handlers.pop(Events.EXCEPTION_RAISED, None)
        for event, attached in handlers.items():
            handlers[event] = [one for one in attached if not _saves(one[0])]
    for part in ("network", "optimizer"):
        if not hasattr(trainer, part):
            raise BundleError(
                f"{fold.bundle.root}: train#trainer has no {part}, so it is no SupervisedTrainer. "
                "volseg can't train it."
            )
    require_fit(fold.bundle, network, trainer.network.state_dict())
    if evaluator is not None and not len(evaluator.data_loader):
        evaluator = None  # no case is held out
    if fold.device.type == "cuda":
        trainer.non_blocking = True  # batches come from pinned memory
    budget = budget_of(parser, trainer, fold.options)
    if fold.options.minutes is not None:
        trainer.state.max_epochs = ENDLESS_EPOCHS
    freeze(initial, parser, trainer, budget)
    trackers = trackers_of(fold, trainer, evaluator, progress)
    run = Run(
        folder=fold.folder,
        trainer=trainer,
        evaluator=evaluator,
        budget=budget,
        labels=fold.bundle.structures,
        listeners=(
            *((Publisher(fold.bundle, fold.name, network, fold.options, progress),) if fold.publishes else ()),
            _Recorder(fold),
            *trackers,
            *listeners,
        ),
        scheduler=parser.build("lr_scheduler") if parser.has("lr_scheduler") else None,
        average=average_of(parser),
        progress=progress,
        seed=fold.options.seed,
        patience=fold.options.patience,
    )
    if state is not None:
        run.resume(state)
    budget.start(
        before_seconds=0.0 if state is None else state.seconds,
        setup_seconds=0.0 if state is None else state.setup_seconds,
        steps=0 if state is None else state.step,
        started=started,
    )
    may_measure = fold.records_cases and not fold.served
    budget.measuring_seconds = seconds_to_measure(evaluator, budget, fold.device) if may_measure else 0.0
    if followers is not None:
        followers.attach(trainer)
        followers.call(follow_message(fold, parser, run.seed))
    complete = False
    try:
        complete = run.go()
    finally:
        for tracker in trackers:
            tracker.end(complete=complete)
    if complete and may_measure and budget.validates:
        _measure(fold, evaluator, budget, progress)
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
        validated=run.validated,
    )


class _Recorder(Listener):
    """Records at how many of the cases held out each validation looks."""

    def __init__(self, fold: Fold) -> None:
        self._path = fold.folder.record

    def timed(self, overrun_seconds: float, validated: int | None, enough_minutes: float) -> None:
        """Record it before there is a score."""
        del overrun_seconds, enough_minutes
        record = RunRecord.read(self._path) if self._path.is_file() else None  # a bundle's own list of data has none
        if record is not None and record.validated != validated:
            replace(record, validated=validated).write(self._path)


def _measure(fold: Fold, evaluator: Any, budget: Budget, progress: Progress) -> None:
    """Record what bfloat16 changes in the labels of the best model, where that takes only seconds."""
    from volseg.bundle.outputs import Outputs
    from volseg.bundle.weights import read_state_dict

    seconds = seconds_to_measure(evaluator, budget, fold.device)
    if not seconds:
        return
    try:
        evaluator.network.load_state_dict(read_state_dict(fold.folder.best))
        overlap = fold.bundle.meaning.outputs is Outputs.REGIONS
        all_take = budget.validation_seconds * len(evaluator.data_loader) / evaluator.state.epoch_length
        change = measure_change(evaluator, seconds, all_take, overlap=overlap)
    except Exception as error:
        if memory_short(error) is None:
            raise
        progress.say("There is no memory to compute a held-out case in float32, so what bfloat16 changes is not known.")
        return
    if change is not None:
        replace(RunRecord.read(fold.folder.record), bfloat16_change=change).write(fold.folder.record)


@contextmanager
def _threads_heard() -> Iterator[None]:
    """Raise here what ended a thread that makes batches: MONAI takes the end of such a thread for the data's end."""
    heard: list[BaseException] = []
    before = threading.excepthook

    def hear(told: threading.ExceptHookArgs) -> None:
        of_tracker = type(told.thread).__module__.startswith("tensorboard.")  # its writer tells of it itself
        if isinstance(told.exc_value, Exception) and not of_tracker:
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
def _seeded(fold: Fold, state: RunState | None) -> Iterator[None]:
    """Seed every random draw; a resumed run must not repeat the draws of its beginning.

    The loader of volseg's own bundles and the network are seeded anew at every step (``Run``).
    """
    import torch
    from monai.utils import set_determinism

    set_determinism(seed=fold.options.seed if state is None else state.seed + state.step)
    if fold.device.type == "cuda" and not fold.options.deterministic:
        torch.backends.cudnn.deterministic = False
        torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        set_determinism(seed=None)

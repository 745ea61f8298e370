"""Train a bundle's network, or go on where it stopped."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from volseg.errors import BundleError, UsageError
from volseg.progress import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volseg.bundle.folder import Bundle
    from volseg.bundle.parser import BundleParser
    from volseg.dataset.dataset import Dataset
    from volseg.training.budget import Budget
    from volseg.training.history import Epoch
    from volseg.training.run import RunFolder, RunState

ENDLESS_EPOCHS = 10**9
"""Where minutes decide, epochs must not."""
DEFAULT_SEED = 0
PUBLISHING_FOLD = 0
"""Its model becomes models/model.pt; other folds fill that place only when it is empty."""


@dataclass(frozen=True)
class TrainOptions:
    """How to train."""

    data: Path | None = None
    """The data set, instead of the one that the bundle names."""

    fold: int = PUBLISHING_FOLD
    """The fold of five that is held out, 0 to 4."""

    cv: bool = False
    """Train all five folds, one after the other, and sum them up."""

    all_cases: bool = False
    """Hold out no case."""

    minutes: float | None = None
    """Stop after so many minutes of wall time, resumed runs included; the schedule is fitted to it."""

    epochs: int | None = None
    """Stop after so many epochs instead of the plan's."""

    device: Literal["cpu", "cuda"] | None = None
    """cpu or cuda; a GPU where there is one unless told otherwise."""

    fresh: bool = False
    """Start over, and remove what an earlier run of this fold left."""

    seed: int = DEFAULT_SEED
    """Of all random draws."""


@dataclass(frozen=True)
class FoldResult:
    """What training one fold came to.

    Args:
        name: ``fold_0``, or ``all_cases``.
        folder: where its checkpoints, CSV and curve lie.
        history: one row for each epoch.
        labels: names of the labels above background.
        complete: whether the budget is spent.
        already: whether it was complete before, so that nothing was done.
        training: how many cases it trained on; ``validation``: how many it held out.
    """

    name: str
    folder: Path
    history: tuple[Epoch, ...]
    labels: tuple[str, ...]
    complete: bool
    already: bool
    training: int
    validation: int

    @property
    def best(self) -> Epoch | None:
        """The epoch of the best validation; None without any."""
        validated = [row for row in self.history if row.validation is not None]
        scored = [
            row for row in validated if row.validation is not None and row.validation.score == row.validation.score
        ]
        return max(scored, key=lambda row: row.validation.score if row.validation else 0.0, default=None)


def train(bundle_dir: Path, options: TrainOptions | None = None, progress: Progress = SILENT) -> tuple[FoldResult, ...]:
    """Train what ``train.yaml`` describes, through MONAI's ``SupervisedTrainer``.

    Runs any trusted MONAI bundle that has ``train#trainer`` (and ``validate#evaluator``). Checkpoints are written
    atomically; called again, it goes on from the last. A run that is complete is left alone.

    Args:
        bundle_dir: the bundle.
        options: how to train.
        progress: who listens.

    Returns:
        One result for each fold that was asked for.

    Raises:
        UsageError: options that contradict each other, or no bundle.
        TrustError: the bundle would run code that nobody has trusted.
        BundleError: the bundle is incomplete, or its checkpoint doesn't fit.
        DataSetError: the data set has faults; the message lists all of them.
        FileError: a checkpoint can't be written.
    """
    from volseg.bundle.folder import open_bundle
    from volseg.bundle.trust import require_trust, trust_kept
    from volseg.device import choose_device

    started = time.monotonic()
    options = options or TrainOptions()
    _require_sense(options)
    bundle = open_bundle(bundle_dir)
    verdict = require_trust(bundle)
    device = choose_device(options.device)
    dataset = _dataset(bundle, options, progress)
    folds: tuple[int | None, ...] = (None,) if options.all_cases else (options.fold,)
    if options.cv:
        folds = tuple(range(_fold_count()))
    results = []
    with trust_kept(bundle, verdict):
        for fold in folds:
            if len(folds) > 1:
                progress.say(f"Fold {fold} of {len(folds)}")
            results.append(_train_fold(bundle, dataset, fold, options, device, started, progress))
            started = time.monotonic()
    return tuple(results)


def _require_sense(options: TrainOptions) -> None:
    if options.cv and options.all_cases:
        raise UsageError("--cv holds out every case once and --all-cases none. Choose one of them.")
    if options.minutes is not None and options.epochs is not None:
        raise UsageError("--minutes and --epochs both say how long to train. Choose one of them.")
    if options.minutes is not None and not options.minutes > 0:
        raise UsageError("--minutes must be above 0.")
    if options.epochs is not None and options.epochs < 1:
        raise UsageError("--epochs must be at least 1.")
    if not 0 <= options.fold < _fold_count():
        raise UsageError(f"There is no fold {options.fold}: the folds are 0 to {_fold_count() - 1}.")


def _fold_count() -> int:
    from volseg.training.cases import FOLDS

    return FOLDS


def _dataset(bundle: Bundle, options: TrainOptions, progress: Progress) -> Dataset | None:
    """The data set, checked; None where a bundle of another make brings its data in its own way."""
    from volseg.dataset.dataset import is_dataset, read_dataset, require_cases
    from volseg.dataset.faults import require_sound

    folder = options.data
    if folder is None:
        named = bundle.read_config("train").get("dataset_dir")
        if not isinstance(named, str) or named.startswith(("$", "@", "%")):
            return None
        folder = bundle.root / named
    if not folder.is_dir():
        raise UsageError(f"The data set {folder} does not exist. Name it with --data.")
    if not is_dataset(folder):
        if options.data is None:
            return None
        raise UsageError(f"{folder} is no data set: it has no dataset.json, imagesTr or imagesTs.")
    dataset = read_dataset(folder)
    require_cases(dataset)
    require_sound(dataset, progress=progress)
    return dataset


def _train_fold(
    bundle: Bundle,
    dataset: Dataset | None,
    fold: int | None,
    options: TrainOptions,
    device: str,
    started: float,
    progress: Progress,
) -> FoldResult:
    from volseg.bundle.parser import load_weights
    from volseg.training.cases import FoldCases
    from volseg.training.run import RunFolder, RunState

    name = "all_cases" if fold is None else f"fold_{fold}"
    folder = RunFolder(bundle.runs / name)
    if options.fresh:
        folder.remove()
    state = RunState.read(folder.last, load_weights(folder.last)) if folder.last.is_file() else None
    options = _with_recorded_length(options, state)
    if dataset is not None and not folder.cases.is_file():
        FoldCases.of(dataset, fold).write(folder.cases)
    if state is not None and _is_complete(state, options):
        cases = FoldCases.read(folder.cases) if folder.cases.is_file() else FoldCases((), ())
        return FoldResult(
            name, folder.folder, state.history, _labels(bundle), complete=True, already=True,
            training=len(cases.training), validation=len(cases.validation),
        )  # fmt: skip
    progress.say("Preparing the cases" if state is None else f"Going on after {state.seconds / 60:.1f} minutes")
    with _seeded(options.seed, state):
        return _run(bundle, dataset, fold, folder, state, options, device, started, progress)


def _run(
    bundle: Bundle,
    dataset: Dataset | None,
    fold: int | None,
    folder: RunFolder,
    state: RunState | None,
    options: TrainOptions,
    device: str,
    started: float,
    progress: Progress,
) -> FoldResult:
    from volseg.bundle.parser import BundleParser
    from volseg.training.run import Run

    parser = BundleParser(bundle, "train", _overrides(bundle, dataset, fold, folder, options, device))
    trainer = parser.build("train#trainer")
    for part in ("network", "optimizer"):
        if not hasattr(trainer, part):
            raise BundleError(
                f"{bundle.root}: train#trainer has no {part}, so it is no SupervisedTrainer. volseg can't train it."
            )
    evaluator = parser.build("validate#evaluator") if parser.has("validate#evaluator") else None
    if evaluator is not None and not len(evaluator.data_loader):
        evaluator = None  # no case is held out
    budget = _budget(parser, trainer, options)
    if options.minutes is not None:
        trainer.state.max_epochs = ENDLESS_EPOCHS
    run = Run(
        folder=folder,
        trainer=trainer,
        evaluator=evaluator,
        budget=budget,
        labels=_labels(bundle),
        publish=lambda path: _publish(path, bundle, fold),
        scheduler=parser.build("lr_scheduler") if parser.has("lr_scheduler") else None,
        progress=progress,
    )
    if state is not None:
        run.resume(state)
    budget.start(
        before_seconds=0.0 if state is None else state.seconds,
        steps=0 if state is None else state.step,
        started=started,
    )
    complete = run.go()
    return FoldResult(
        folder.folder.name, folder.folder, tuple(run.history), tuple(run.labels), complete=complete, already=False,
        training=len(trainer.data_loader.dataset), validation=0 if evaluator is None else len(evaluator.data_loader.dataset),
    )  # fmt: skip


def _overrides(
    bundle: Bundle, dataset: Dataset | None, fold: int | None, folder: RunFolder, options: TrainOptions, device: str
) -> dict[str, object]:
    """What the command line decides, for the keys that the config has; ``dataset_dir`` and ``device`` by convention."""
    known = bundle.read_config("train")
    wanted: dict[str, object] = {
        "device": f"$torch.device('{device}')" if "$import torch" in _imports(known) else device,
        "fold": fold,
        "cases_record": str(folder.cases.resolve()),
        "minutes": options.minutes,
    }
    if dataset is not None:
        wanted["dataset_dir"] = str(dataset.folder.resolve())
    if options.epochs is not None:
        wanted["max_epochs"] = options.epochs
        wanted["epochs"] = options.epochs
    return {key: value for key, value in wanted.items() if key in known}


def _imports(config: dict[str, Any]) -> list[Any]:
    found = config.get("imports")
    return found if isinstance(found, list) else []


def _budget(parser: BundleParser, trainer: Any, options: TrainOptions) -> Budget:
    """The budget that the bundle's handlers share; one of our own for bundles that know nothing of it."""
    from volseg.training.budget import Budget

    if parser.has("budget"):
        found = parser.build("budget")
        if isinstance(found, Budget):
            return found
    epochs = options.epochs or trainer.state.max_epochs
    trainer.state.max_epochs = epochs
    return Budget(epochs, len(trainer.data_loader), options.minutes)


def _with_recorded_length(options: TrainOptions, state: RunState | None) -> TrainOptions:
    """A run that goes on keeps its length unless told otherwise."""
    if state is None or options.minutes is not None or options.epochs is not None:
        return options
    if state.minutes is not None:
        return replace(options, minutes=state.minutes)
    return replace(options, epochs=state.epochs)


def _is_complete(state: RunState, options: TrainOptions) -> bool:
    if options.minutes is not None:
        # The seconds kept back for the last validation count as used.
        return options.minutes * 60 <= state.seconds or (state.complete and state.minutes == options.minutes)
    return options.epochs is not None and state.epoch >= options.epochs


def _labels(bundle: Bundle) -> tuple[str, ...]:
    """Names of the outputs above background, from the metadata; empty when it has none."""
    outputs: Any = bundle.metadata.get("network_data_format", {})
    try:
        names = outputs["outputs"]["pred"]["channel_def"]
        return tuple(str(names[key]) for key in sorted(names, key=int) if int(key) > 0)
    except (KeyError, TypeError, ValueError):
        return ()


def _publish(weights: Path, bundle: Bundle, fold: int | None) -> None:
    """Make the weights those that inference loads, without what inference's network lacks."""
    from volseg.bundle.weights import publish

    if fold in (None, PUBLISHING_FOLD) or not bundle.model_path.is_file():
        publish(weights, bundle)


@contextmanager
def _seeded(seed: int, state: RunState | None) -> Iterator[None]:
    """Seed every random draw; a resumed run must not repeat the draws of its beginning."""
    from monai.utils import set_determinism

    set_determinism(seed=seed + (0 if state is None else state.step))
    try:
        yield
    finally:
        set_determinism(seed=None)

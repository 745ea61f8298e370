"""A fold to train: its run on the disk, its cases, and its config as the command line has it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from volseg.bundle.model_digest import MODEL, model_digest
from volseg.bundle.vocabulary import MODEL_KEY
from volseg.errors import BundleError, FileError, UsageError
from volseg.training.cases import FoldCases
from volseg.training.checkpoint import RunFolder, RunState, go_back, is_whole
from volseg.training.history import steps_of_model
from volseg.training.record import RunRecord
from volseg.training.transfer import Initial
from volseg.verbs.train.options import DEFAULT_SEED, FoldResult, TrainOptions
from volseg.verbs.train.publishing import published_run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from volseg.bundle.folder import Bundle
    from volseg.bundle.initial import Source
    from volseg.bundle.parser import BundleParser
    from volseg.dataset.dataset import Dataset
    from volseg.dataset.faults import CaseContent
    from volseg.dataset.folds import Split
    from volseg.progress import Progress

RECORD_KEY = "cases_record"
"""The key under which a config takes the file that names a run's cases."""
TRAIN_CONFIG = "configs/train"
"""Under which a run records the checksum of the config that it trains by."""


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
        source: other weights to begin with; None where none were asked for.
        publishes: whether its model may become the bundle's.
        beside: how many folds are trained at once, this one included, and share the machine's memory.
    """

    bundle: Bundle
    number: int | None
    options: TrainOptions
    device: torch.device
    known: Mapping[str, object]
    complete: bool
    served: bool = False
    source: Source | None = None
    publishes: bool = True
    beside: int = 1

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
        source: Source | None = None,
        publishes: bool = True,
    ) -> Fold:
        """Look at what an earlier run left of a fold.

        Raises:
            BundleError: its checkpoint can't be read.
            UsageError: it was begun with other weights than are asked for.
        """
        state = None if options.fresh else _read_state(run_folder(bundle, number))[0]
        options = _with_recorded_length(options, state)
        complete = state is not None and _is_complete(state, options)
        fold = cls(bundle, number, options, device, known, complete, served, source, publishes)
        fold.require_same_start()
        return fold

    @property
    def name(self) -> str:
        """Of its run."""
        return self.folder.folder.name

    @property
    def folder(self) -> RunFolder:
        """Of its run."""
        return run_folder(self.bundle, self.number)

    @property
    def records_cases(self) -> bool:
        """Whether volseg splits the data; any other config brings a split of its own, of which we know nothing."""
        return RECORD_KEY in self.known or self.served

    def require_same_source(self) -> None:
        """Refuse to go on by other cases than a run of a bundle of others was begun with.

        Raises:
            UsageError: it was begun with a data set of ``--data`` and goes on without, or the other way round.
        """
        begun = not self.options.fresh and self.folder.is_begun
        if not begun or RECORD_KEY in self.known or self.served == self.folder.record.is_file():
            return
        remedy = (
            "the bundle's own list of data. Leave --data out"
            if self.served
            else "a data set. Name it again with --data"
        )
        raise UsageError(f"{self.name} was begun with {remedy}, or start over with --fresh.")

    def require_same_start(self) -> None:
        """Refuse to go on with a run that was begun with other weights than are asked for now.

        Raises:
            UsageError: it was.
            BundleError: the record of what it was begun with is damaged.
        """
        initial = None if self.options.fresh else Initial.read(self.folder.initial)
        begun = not self.options.fresh and self.folder.is_begun
        freezing, rate = self.options.freezing, self.options.taken_rate
        again = "Leave the option out, or start over with --fresh."
        if begun and self.source is not None and (initial is None or initial.sha256 != self.source.sha256):
            there = "as they were drawn" if initial is None else f"of another file (SHA-256 {initial.sha256[:12]})"
            raise UsageError(f"--init-from: {self.name} was begun with weights {there}. {again}")
        if not begun and initial is not None and self.source is None:
            raise UsageError(
                f"{self.name} was begun with other weights and stopped before its first checkpoint. Name them again "
                "with --init-from, or start over with --fresh."
            )
        if initial is None and self.source is None and (freezing is not None or rate is not None):
            option = "--taken-rate" if freezing is None else "--freeze"
            raise UsageError(f"{option} is for a run that begins with other weights. Name them with --init-from.")
        if begun and initial is not None:
            if freezing is not None and (not initial.frozen or freezing.epochs != initial.frozen_epochs):
                raise UsageError(f"--freeze: {self.name} was begun otherwise. {again}")
            if rate is not None and rate != initial.taken_rate:
                raise UsageError(f"--taken-rate: {self.name} was begun with {initial.taken_rate:g}. {again}")

    def state(self) -> RunState | None:
        """What an earlier run left, unless it is to be forgotten."""
        return None if self.options.fresh else _read_state(self.folder)[0]

    def drop_damaged(self, progress: Progress) -> None:
        """Put the checkpoint before in the place of a damaged one, which is said; nobody else may be writing there.

        Raises:
            BundleError: both are damaged.
        """
        state, damaged = (None, None) if self.options.fresh else _read_state(self.folder)
        if state is not None and damaged is not None:
            progress.say(f"{damaged} The checkpoint before it is whole; training goes on from there.")
            go_back(self.folder, state)

    def record(self, data: Data | None) -> RunRecord:
        """The cases that are trained on and held out: those that the run was begun with, or those of the split.

        Raises:
            DataSetError: a recorded case is gone, or the fold would hold out none.
        """
        if data is None or not self.records_cases:
            return RunRecord(self.name)
        if not self.options.fresh and self.folder.is_begun:
            recorded = RunRecord.read(self.folder.record)
            recorded.cases.require_present(data.dataset)
            return recorded
        cases = FoldCases.of(data.dataset, data.split, self.number)
        names = (*cases.training, *cases.validation)
        return RunRecord(self.name, cases, {name: data.contents[name].digest for name in names})

    def changed_config(self, record: RunRecord, sha256: str) -> str | None:
        """What became of the train config since the run last went on, in words; None where it is the same.

        Args:
            record: of the run.
            sha256: of the config of now.
        """
        before = record.sessions[-1].checksums if record.sessions else {}
        if before.get(TRAIN_CONFIG, sha256) == sha256:
            return None
        model = model_digest(self.known)
        return "was changed" if before.get(MODEL, model) == model else "has another network or preprocessing"

    def tell_changed(self, sha256: str, progress: Progress) -> None:
        """Say of a run that is complete that it was trained by another config or seed than are asked for now."""
        what = self.changed_config(RunRecord.read(self.folder.record), sha256) if self.records_cases else None
        if what is not None:
            progress.say(
                f"warning: the train config {what} since {self.name} was trained, which stays as it is. --fresh trains "
                "it anew; more --minutes or --epochs go on by the config of now."
            )
        state = self.state()
        if state is not None and self.options.seed not in (DEFAULT_SEED, state.seed):
            progress.say(
                f"{self.name} was trained with --seed {state.seed} and keeps it; --fresh starts over with another."
            )

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

        found = self.finished()
        score = None if found.best is None or found.best.validation is None else found.best.validation.score
        weights = read_state_dict(self.folder.best)
        publish(self.bundle, inference_network(self.bundle), weights, self.name, score, steps_of_model(found.history))
        return self.finished()

    def finished(self) -> FoldResult:
        """The result of a run that was complete before."""
        state = self.state()
        cases = RunRecord.read(self.folder.record).cases if self.records_cases else FoldCases((), ())
        return FoldResult(
            self.name,
            self.folder.folder,
            () if state is None else state.history,
            self.bundle.structures,
            complete=True,
            already=True,
            training=len(cases.training),
            validation=len(cases.validation),
            published=published_run(self.bundle),
            validated=None if state is None else state.validated,
        )


def run_folder(bundle: Bundle, number: int | None) -> RunFolder:
    """Where the run lies that holds out a fold, or none."""
    return RunFolder(bundle.runs / ("all_cases" if number is None else f"fold_{number}"))


def _read_state(folder: RunFolder) -> tuple[RunState | None, str | None]:
    """The last state that can be read, and what is wrong with the last one where that is another.

    Raises:
        BundleError: there are checkpoints, and none can be read.
    """
    if not folder.is_begun:
        return None, None
    try:
        return _read_whole(folder.last), None
    except (BundleError, FileError) as error:
        try:
            return _read_whole(folder.previous), error.message
        except (BundleError, FileError):
            raise error from None


def _read_whole(path: Path) -> RunState:
    from volseg.bundle.parser import load_weights

    if not is_whole(path):
        raise BundleError(
            f"{path} is damaged: its checksum is another one. Start the fold over with --fresh.",
            code="bad-checkpoint",
            path=path,
        )
    return RunState.read(path, load_weights(path))


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
    """A run that goes on keeps its length and patience unless told otherwise."""
    if state is not None and options.patience is None:
        options = replace(options, patience=state.patience)
    if state is None or options.minutes is not None or options.epochs is not None:
        return options
    if state.minutes is not None:
        return replace(options, minutes=state.minutes)
    return replace(options, epochs=state.epochs)


def _is_complete(state: RunState, options: TrainOptions) -> bool:
    if not state.complete:
        return False
    if state.is_early and options.patience is not None:
        return options.patience <= (state.patience or 0)
    if options.minutes is not None:
        # What was kept back for the last validation counts as used.
        return options.minutes * 60 <= max(state.seconds, (state.minutes or 0.0) * 60)
    return options.epochs is not None and state.epoch >= options.epochs

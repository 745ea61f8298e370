"""The search: trials one after the other within the time, and its result in the bundle."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.atomic import exclusive, remove_partials, write_error
from volseg.batch.children import safe_children
from volseg.bundle.folder import CONFIGS, Bundle, open_bundle
from volseg.bundle.own_runs import is_own_run
from volseg.bundle.trust import require_trust
from volseg.device import choose_device
from volseg.errors import BundleError, UsageError, VolsegError
from volseg.planning.fingerprint import measure
from volseg.training.cross_validation import NAME, CrossValidation
from volseg.verbs.train import TrainOptions
from volseg.verbs.train.fold import RECORD_KEY, Data
from volseg.verbs.train.split import known_split, write_split
from volseg.verbs.train.verb import data_folder, read_data
from volseg.words import counted, listed
from volseg.workflows.tune.budget import Budget
from volseg.workflows.tune.options import Length, Tuned, TuneOptions
from volseg.workflows.tune.record import FOLDER, PLANNED, SearchRecord, Stamps, digest_of, forget, trial_folder
from volseg.workflows.tune.results import draw, shown, write_table
from volseg.workflows.tune.space import Configs, Space, has_chosen_rules
from volseg.workflows.tune.study import Study, Trial, require_optuna
from volseg.workflows.tune.trial import Ended, TrialRunner
from volseg.workflows.tune.verdict import REPEATING_TRIALS, Verdict, to_repeat
from volseg.workflows.tune.writing import MADE_READY, finish_writing, write_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volseg.bundle.trust import Verdict as Trust
    from volseg.progress import Progress
    from volseg.workflows.tune.options import TuneTrial

MOST_FAILURES = 5
"""So many trials that fail one after the other end the search: something else than their settings is wrong."""
DRAWING_SECONDS = 30.0
"""The picture, which takes a second, is drawn anew when it is older."""
MOST_BEGINNINGS = 3
"""A trial that ended with its process so often, as where memory ran out, is not begun again."""


def search(bundle_dir: Path, options: TuneOptions, progress: Progress) -> Tuned:
    """Search, and write the best into the bundle; arguments and errors as ``volseg.workflows.tune.tune``."""
    started = time.monotonic()
    options.require_sense()
    require_optuna()
    if (bundle_dir / MADE_READY).is_dir():
        with exclusive(bundle_dir / "runs" / FOLDER):  # another search may be writing it now
            if finish_writing(bundle_dir):
                progress.say(f"Ended what was interrupted: {bundle_dir / CONFIGS} holds what the search found.")
    bundle = open_bundle(bundle_dir)
    verdict = require_trust(bundle)
    known = bundle.read_config("train")
    if verdict.findings or RECORD_KEY not in known:
        raise BundleError(
            f"{bundle.root} is not as volseg plan writes bundles, so its settings can't be searched. Plan one for its "
            "data set.",
            code="not-planned",
            path=bundle.root,
        )
    with exclusive(bundle.runs / FOLDER), safe_children():
        remove_partials(bundle.runs / FOLDER)
        begun = _Search.begin(bundle, verdict, options, started, progress)
        try:
            return begun.run()
        finally:
            begun.study.close()


@dataclass
class _Search:
    """A search under way.

    Args:
        bundle: the bundle.
        record: of the search.
        space: what is searched.
        study: its trials.
        runner: trains them.
        budget: what it may use.
        progress: receives the progress.
        drawn_at: ``time.monotonic()`` of when the picture was drawn.
    """

    bundle: Bundle
    record: SearchRecord
    space: Space
    study: Study
    runner: TrialRunner
    budget: Budget
    progress: Progress
    drawn_at: float

    @classmethod
    def begin(cls, bundle: Bundle, trust: Trust, options: TuneOptions, started: float, progress: Progress) -> _Search:
        """Read the data set, and what an earlier call left.

        Raises:
            VolsegError: as ``tune``.
        """
        import torch

        folder, now = bundle.runs / FOLDER, Configs.read(bundle)
        record = None if options.fresh else SearchRecord.read(folder)
        if record is None:
            length = Length.of(options)
            forget(folder)  # trials that lie there without a record would be gone on with
        else:
            options, length = _as_begun(record, options), record.length
        held_out, seed = options.fold or 0, options.seed or 0
        training = TrainOptions(data=options.data, fold=held_out, seed=seed)
        place = data_folder(bundle, bundle.read_config("train"), training)
        split = known_split(bundle, training)
        data = read_data(bundle, trust, now.train, place, split, training, [], progress)
        if data is None or data.split is None or place is None:
            raise UsageError(f"The data set of {bundle.root} is not there. Name it with --data.")
        training.numbers(len(data.split.folds))
        write_split(bundle, data.split, training, progress)
        fingerprint = measure(data.dataset, progress)
        if record is None:
            _copy_configs(bundle, folder / PLANNED)
        space = Space(Bundle(folder / PLANNED), data.dataset, fingerprint)
        device = torch.device(choose_device(options.device))
        search_text = repr((space.parameters, length, held_out, seed, device.type))
        stamps = Stamps.of(_data_text(data), space.configs.texts(), search_text)
        if record is None:
            record = SearchRecord.begin(folder, stamps, length, held_out, seed)
        else:
            _require_same(folder, record, stamps, now)
        if not space.parameters:
            raise BundleError(f"{bundle.root}: nothing can be searched. {'; '.join(space.left_out)}", code="edited")
        runner = TrialRunner(place, data, options, held_out, length, device, progress)
        study = Study(folder, space.parameters, seed)
        budget = Budget.of(options, length, space.parameters, started, study.trials)
        return cls(bundle, record, space, study, runner, budget, progress, drawn_at=started)

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return self.bundle.runs / FOLDER

    def run(self) -> Tuned:
        """Try what time allows, and write the best.

        Raises:
            VolsegError: as ``tune``.
        """
        before, failed = self.study.trials, ""
        if before:
            minutes = f"{self.budget.before_minutes:.1f} minutes"
            self.progress.say(f"Going on after {counted(len(before), 'trial')} and {minutes}")
        else:
            names = listed([one.name for one in self.space.parameters])
            self.progress.say(f"Searching {names}; each trial is trained for {self.record.length}")
        total, shown = self.budget.total, self.budget.used(before)
        with self.progress.task("Search", total, "", done=min(total, shown)) as task:
            while (trial := self._next()) is not None:
                try:
                    self._try(trial)
                except KeyboardInterrupt:
                    self.progress.say(f"Stopped in trial {trial.number}; the same command goes on with it.")
                    raise
                self._write(self.study.trials)
                used = self.budget.used(self.study.trials)
                task.advance(used - shown)
                shown = used
                latest = self.study.trials[-MOST_FAILURES:]
                if len(latest) == MOST_FAILURES and all(one.state == "failed" for one in latest):
                    failed = f"{MOST_FAILURES} trials failed one after the other ({latest[-1].reason})."
                    break
        trials = self.study.trials
        already = len(trials) == len(before) and all(one.state != "unfinished" for one in before)
        return self._end(trials, already=already, failed=failed)

    def _next(self) -> Trial | None:
        """The next trial; None where no other fits into the time or their number."""
        trials = self.study.trials
        room = self.budget.room(trials)
        if room < 1 and Verdict.of(trials) is not None:  # without the plan there is nothing to compare with
            return None
        trial = self.study.unfinished()
        if trial is not None:
            return trial
        if not trials:
            return self.study.next(self.space.planned)
        wanted = to_repeat(trials)
        if wanted and room < len(wanted) + 1 and len(trials) + room >= REPEATING_TRIALS:
            (settings,) = (one.settings for one in trials if one.number == wanted[0])
            return self.study.next(settings, repeats=wanted[0])
        return self.study.next()

    def _try(self, trial: Trial) -> None:
        """Train a trial and keep what became of it.

        Raises:
            VolsegError: the plan itself can't be trained, or a file can't be written.
        """
        (told,) = (one for one in self.study.trials if one.number == trial.number)
        begun = trial.noted("begun") + 1
        trial.note(begun=begun)
        self.progress.say(f"Trial {trial.number}: {describe(self.space, told)}")
        began, earlier = time.monotonic(), trial.noted("seconds")
        ended = Ended("failed", error=VolsegError("It ended with its process.", code="ended"))
        try:
            if begun <= MOST_BEGINNINGS:
                ended = self._train(trial, told)
        except KeyboardInterrupt:
            trial.note(begun=begun - 1)
            raise
        finally:
            trial.note(seconds=earlier + time.monotonic() - began)
        trial.note(steps=ended.steps)
        if ended.error is not None:
            if trial.number == 0:
                trial.note(begun=0.0)  # the same command tries it again
                raise ended.error
            trial.note(reason=ended.error.code)
            self.progress.say(f"Trial {trial.number} failed: {ended.error}")
        trial.end(ended.state, ended.score)

    def _train(self, trial: Trial, told: TuneTrial) -> Ended:
        lacking = self.space.lacks_memory(told.settings)
        if lacking:
            return Ended("failed", error=VolsegError(f"Memory lacks {lacking}.", code="out-of-memory"))
        root = trial_folder(self.folder, trial.number)
        may_prune = trial.number != 0 and told.repeats is None
        return self.runner.run(root, self.space.of(told.settings), told.seed, trial, may_prune=may_prune)

    def _end(self, trials: Sequence[TuneTrial], *, already: bool, failed: str) -> Tuned:
        verdict = Verdict.of(trials)
        assert verdict is not None, "a plan that can't be trained ends the search"
        best = next(one for one in trials if one.number == verdict.best)
        now, found = Configs.read(self.bundle), self.space.of(best.settings)
        kept, written = None, []
        if now.texts() != found.texts():
            entry = digest_of(found.texts())
            self.record = replace(self.record, written=tuple(dict.fromkeys((*self.record.written, entry))))
            self.record.write(self.folder)
            if self.space.has_chosen_rules and has_chosen_rules(self.bundle):
                those = "stay" if now.inference == found.inference else "give way to the plan's"
                self.progress.say(
                    "The rules for labels, which cross-validation chose by masks of the network before, "
                    f"{those}; volseg train --cv chooses them anew."
                )
            kept = write_result(self.bundle, now, found, self.space.record_of(best.settings), self.progress)
            written = [
                f"{name}{self.bundle.config_path(name).suffix}"
                for name in ("train", "inference", "metadata")
                if getattr(now, name) != getattr(found, name)
            ]
        self._write(trials, drawn=True)
        return Tuned(
            self.folder,
            tuple(one.name for one in self.space.parameters),
            tuple(trials),
            best.number,
            verdict.gain,
            verdict.spread,
            tuple(written),
            kept,
            self.space.left_out,
            already,
            failed,
        )

    def _write(self, trials: Sequence[TuneTrial], *, drawn: bool = False) -> None:
        """Write the table, and the picture where that is asked for or the last is old.

        Raises:
            FileError: one can't be written.
        """
        write_table(self.folder, trials, self.space.parameters)
        if drawn or time.monotonic() - self.drawn_at > DRAWING_SECONDS:
            self.drawn_at = time.monotonic()
            draw(self.folder, trials, self.space.parameters)


def describe(space: Space, trial: TuneTrial) -> str:
    """What a trial tries, in words: all that is not as in the plan."""
    if trial.repeats is not None:
        return f"trial {trial.repeats} again, with another seed"
    planned = space.planned
    told = [f"{name} {shown(value)}" for name, value in trial.settings.items() if value != planned[name]]
    return ", ".join(told) or "the plan as it is"


def _as_begun(record: SearchRecord, options: TuneOptions) -> TuneOptions:
    """The options of a search that goes on: what it was begun with stays where nothing else is asked for.

    Raises:
        UsageError: something else is asked for.
    """
    again = "Leave the option out, or begin another search with --fresh."
    asked = options.trial_minutes is not None or options.trial_epochs is not None
    if asked and Length.of(options) != record.length:
        raise UsageError(
            f"Trials of this search are trained for {record.length}, and scores of other lengths don't compare. {again}"
        )
    if record.length.minutes is None and options.minutes is not None:
        raise UsageError(f"Trials of this search last {record.length}: --trials says how many, not --minutes. {again}")
    for name, was, now in (("fold", record.fold, options.fold), ("seed", record.seed, options.seed)):
        if now not in (was, None):
            raise UsageError(f"This search was begun with --{name} {was}. {again}")
    return replace(options, fold=record.fold, seed=record.seed)


def _require_same(folder: Path, record: SearchRecord, stamps: Stamps, now: Configs) -> None:
    """Refuse to go on with a search of something else.

    Raises:
        BundleError: it is so; the message says what changed.
    """
    lying = digest_of(now.texts())
    known = {record.stamps.configs, *record.written}
    changed = {
        "the data set or its split": stamps.data != record.stamps.data,
        "the bundle's train.yaml, inference.yaml or metadata.json": lying not in known
        or stamps.configs != record.stamps.configs,
        "what is searched, or the kind of device": stamps.search != record.stamps.search,
        "the version of volseg, MONAI, torch or Optuna": stamps.code != record.stamps.code,
    }
    what = [name for name, is_changed in changed.items() if is_changed]
    if what:
        raise BundleError(
            f"{folder} holds a search from before {listed(what)} changed, and scores of both don't compare. --fresh "
            "begins another search.",
            code="search-differs",
            path=folder,
        )


def _data_text(data: Data) -> str:
    names = sorted(data.contents)
    folds = data.split.folds if data.split is not None else ()
    return repr(([(name, data.contents[name].digest) for name in names], [sorted(fold) for fold in folds]))


def _copy_configs(bundle: Bundle, folder: Path) -> None:
    """Keep the configs that a search begins from, and who chose their rules: those in the bundle become what it finds."""
    scored = CrossValidation.read(bundle.runs) if is_own_run(bundle.runs / NAME) else None
    try:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(bundle.root / CONFIGS, folder / CONFIGS)
    except OSError as error:
        raise write_error(folder, error) from error
    if scored is not None:
        scored.write(Bundle(folder).runs)

"""The trials of a search in Optuna's file, checked against its parameters before anything is done with them."""

from __future__ import annotations

import errno
import math
import os
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from volseg.atomic import write_error
from volseg.errors import BundleError, FileError, UsageError, raised_from
from volseg.personal import is_own
from volseg.workflows.tune.options import TuneTrial
from volseg.workflows.tune.record import STUDY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import optuna

    from volseg.errors import VolsegError
    from volseg.workflows.tune.options import State, Value
    from volseg.workflows.tune.space import Parameter

MAX_STUDY_BYTES = 2**26
"""A thousand trials take 2 MB."""
BUSY_SECONDS = 60.0
STARTUP_TRIALS = 5
"""So many are drawn at random before the sampler learns from them (Optuna's TPE begins after 10, which is a whole hour)."""
PRUNED_PERCENTILE = 67.0
"""A trial that is among the worst third half-way is ended: learning rates that end well may begin slowly."""
NOT_PRUNED = 4
WRITE_ERRORS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_READONLY: errno.EROFS,
}
"""What SQLite can't do with a file, as the system would say it."""
MARKS = (0.5, 0.75)
"""The parts of a trial at which it is compared with the others."""


def require_optuna() -> None:
    """Refuse to begin without Optuna.

    Raises:
        UsageError: it is not installed.
    """
    if find_spec("optuna") is None:
        raise UsageError(
            "volseg tune needs Optuna, which is not installed. Install it with: pip install 'volseg[tune]'"
        )


@dataclass
class Study:
    """The trials of a search, in Optuna's file.

    Args:
        folder: where it lies.
        parameters: what is searched.
        seed: of all draws.
    """

    folder: Path
    parameters: Sequence[Parameter]
    seed: int
    _study: optuna.Study = field(init=False)
    _storage: optuna.storages.RDBStorage = field(init=False)

    def __post_init__(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path = self.path
        _require_safe(path)
        with told(path), self._readable():
            # What lies in the file is only read and written by Optuna's tables; no view or trigger of it may act.
            def connect() -> sqlite3.Connection:
                connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
                connection.execute("PRAGMA trusted_schema = OFF")
                if connection.execute("SELECT 1 FROM sqlite_master WHERE type NOT IN ('table', 'index')").fetchone():
                    raise ValueError("views or triggers")
                return connection

            self._storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect})
            self._study = optuna.create_study(
                storage=self._storage,
                study_name="volseg",
                direction="maximize",
                load_if_exists=True,
                pruner=optuna.pruners.PercentilePruner(PRUNED_PERCENTILE, n_startup_trials=NOT_PRUNED),
            )
            for trial in self._running():
                self._drawn(trial)  # a kill may have come between its settings

    @property
    def path(self) -> Path:
        """Optuna's file."""
        return self.folder / STUDY

    def close(self) -> None:
        """Let go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    @property
    def trials(self) -> tuple[TuneTrial, ...]:
        """All that were begun.

        Raises:
            BundleError: the file is damaged, or holds something else than trials of these parameters.
            FileError: it can't be read.
        """
        from optuna.trial import TrialState

        states: dict[TrialState, State] = {
            TrialState.COMPLETE: "complete",
            TrialState.PRUNED: "pruned",
            TrialState.FAIL: "failed",
            TrialState.RUNNING: "unfinished",
        }
        with told(self.path), self._readable():
            found = self._study.get_trials(deepcopy=False)
            return tuple(
                self._told(one, states[one.state], one.user_attrs) for one in found if one.state != TrialState.WAITING
            )

    def next(self, settings: Mapping[str, Value] | None = None, repeats: int | None = None) -> Trial:
        """Begin a trial: with these settings, or such as the sampler finds promising.

        Args:
            settings: what to try.
            repeats: the trial that it tries again, with the next seed.

        Raises:
            BundleError, FileError: the file is damaged or can't be written.
        """
        import optuna

        with told(self.path):
            if settings is not None:
                self._study.enqueue_trial(dict(settings), user_attrs=None if repeats is None else {"repeats": repeats})
            drawn = len(self._study.get_trials(deepcopy=False))
            # Seeded by how many there are, so that a search that goes on doesn't draw the same again.
            self._study.sampler = optuna.samplers.TPESampler(
                seed=(self.seed + drawn) % 2**32, n_startup_trials=STARTUP_TRIALS
            )
            return Trial(self._study, self._drawn(self._study.ask()), self.path)

    def unfinished(self) -> Trial | None:
        """A trial that was stopped or killed, to go on with.

        Raises:
            BundleError, FileError: the file is damaged or can't be read.
        """
        with told(self.path):
            running = self._running()
        return Trial(self._study, running[0], self.path) if running else None

    def _running(self) -> list[optuna.Trial]:
        import optuna

        found = self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        return [optuna.Trial(self._study, one._trial_id) for one in found]

    def _drawn(self, trial: optuna.Trial) -> optuna.Trial:
        """A trial with all its settings: what it has stays."""
        for one in self.parameters:
            if one.choices:
                trial.suggest_categorical(one.name, one.choices)
            else:
                trial.suggest_float(one.name, one.low, one.high, log=True)
        return trial

    def _told(self, one: optuna.trial.FrozenTrial, state: State, facts: Mapping[str, object]) -> TuneTrial:
        again = None if facts.get("repeats") is None else int(_amount(facts["repeats"]))
        return TuneTrial(
            number=one.number,
            state=state,
            settings=self._settings(one.params),
            score=_amount(one.value) if state == "complete" else None,
            steps=int(_amount(facts.get("steps", 0))),
            minutes=_amount(facts.get("seconds", 0)) / 60,
            seed=self.seed + (again is not None),
            repeats=again,
            reason=_code(facts.get("reason", "")),
        )

    def _settings(self, params: Mapping[str, object]) -> dict[str, Value]:
        known = {one.name: one for one in self.parameters}
        if params.keys() != known.keys() or not all(known[name].holds(value) for name, value in params.items()):
            raise ValueError("other parameters")
        return {name: cast("Value", params[name]) for name in known}

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Tell in a sentence what Optuna trips over in a file whose tables hold something else than it wrote."""
        try:
            yield
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, AssertionError) as error:
            raise _damaged(self.path) from error


class Trial:
    """A trial under way. What keeps something of it raises ``FileError`` or ``BundleError`` where the file takes nothing."""

    def __init__(self, study: optuna.Study, trial: optuna.Trial, path: Path) -> None:
        self._study, self._trial, self._path = study, trial, path
        self.number = trial.number

    def note(self, **facts: float | str) -> None:
        """Keep facts on it: seconds, steps, reason, begun."""
        with told(self._path):
            for name, value in facts.items():
                self._trial.set_user_attr(name, value)

    def noted(self, name: str) -> float:
        """A number that was kept on it; 0 without one."""
        return float(self._trial.user_attrs.get(name, 0))

    def is_worse(self, mark: float, score: float) -> bool:
        """Whether its score at a part of its length is so low that it is not worth the rest."""
        with told(self._path):
            self._trial.report(score, round(100 * mark))
            return self._trial.should_prune()

    def end(self, state: State, score: float | None = None) -> None:
        """Say what became of it."""
        from optuna.trial import TrialState

        ends = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        with told(self._path):
            self._study.tell(self._trial, score if state == "complete" else None, state=ends[state])


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Tell in a sentence what SQLite can't do with a search's file.

    Raises:
        DiskFullError: no space is left.
        FileError: another program holds it, or it can't be read or written.
        BundleError: it is damaged.
    """
    import optuna
    import sqlalchemy

    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error) as error:
        raise _fault(path, error) from error


def _fault(path: Path, error: Exception) -> VolsegError:
    codes = (getattr(one, "sqlite_errorcode", 0) & 0xFF for one in raised_from(error))
    code = next(filter(None, codes), 0)  # the lowest byte is the primary result code
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return FileError(
            f"Another program holds {path}, the search so far. Close it; the same command goes on.",
            code="in-use",
            path=path,
        )
    if code in WRITE_ERRORS:
        return write_error(path, OSError(WRITE_ERRORS[code], os.strerror(WRITE_ERRORS[code])))
    return _damaged(path)


def _damaged(path: Path) -> BundleError:
    return BundleError(
        f"{path}, the search so far, can't be read. --fresh begins another search.", code="bad-search", path=path
    )


def _require_safe(path: Path) -> None:
    """Refuse to open what is no file of this person's, or far too large.

    Raises:
        BundleError: it is so.
    """
    if not path.exists() and not path.is_symlink():
        return
    try:
        plain = path.is_file() and not path.is_symlink() and path.stat().st_size <= MAX_STUDY_BYTES and is_own(path)
    except OSError:
        plain = False
    if not plain:
        raise BundleError(
            f"{path} is no file of yours alone, or too large for a search. --fresh begins another search.",
            code="bad-search",
            path=path,
        )


def _amount(value: object) -> float:
    """A number that is finite and not below 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError("no amount")
    return float(value)


def _code(value: object) -> str:
    """The code of an error, and no other text."""
    if not isinstance(value, str) or len(value) > 40 or not all(one.islower() or one == "-" for one in value):
        raise ValueError("no code")
    return value

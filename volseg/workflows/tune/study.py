"""The study of a search on the disk: Optuna's file, who began it, and of what.

``search.json`` is read first, within bounds: Optuna's file is opened only where this person began the search in this
place. What it holds is checked against the parameters before anything is done with it.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import shutil
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field, TypeAdapter

from volseg.atomic import write_bytes, write_error
from volseg.bundle.trust import remember, remembered
from volseg.errors import BundleError, UsageError
from volseg.files import read_bounded
from volseg.personal import is_own
from volseg.workflows.tune.options import Length, TuneTrial

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import optuna

    from volseg.workflows.tune.options import State, Value
    from volseg.workflows.tune.space import Parameter

STUDY = "search.sqlite"
RECORD = "search.json"
TABLE = "search.csv"
PICTURE = "search.png"
TRIAL_PREFIX = "trial_"
PLANNED = "plan"
"""The folder of the configs that the search began from."""
MAX_RECORD_BYTES = 2**16
MAX_STUDY_BYTES = 2**26
"""A thousand trials take 2 MB."""
BUSY_SECONDS = 60.0
STARTUP_TRIALS = 5
"""So many are drawn at random before the sampler learns from them (Optuna's TPE begins after 10, which is a whole hour)."""
PRUNED_PERCENTILE = 67.0
"""A trial that is among the worst third half-way is ended: learning rates that end well may begin slowly."""
NOT_PRUNED = 4
MARKS = (0.5, 0.75)
"""The parts of a trial at which it is compared with the others."""
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Stamps:
    """What a search is of; scores of another one don't compare.

    Args:
        data: the voxels of all cases and the split.
        configs: ``train.yaml``, ``inference.yaml`` and ``metadata.json`` as they were.
        search: what is searched, how long each trial is, which fold and seed, and on which kind of device.
        code: versions.
    """

    data: _Digest
    configs: _Digest
    search: _Digest
    code: _Digest

    @classmethod
    def of(cls, data: str, configs: str, search: str) -> Stamps:
        """Of texts that tell each from any other."""
        packages = ("volseg", "monai", "torch", "optuna")
        code = repr([(name, version(name)) for name in packages])
        return cls(*(digest_of(text) for text in (data, configs, search, code)))


@dataclass(frozen=True)
class SearchRecord:
    """``search.json``.

    Args:
        token: a random name; that this person began it here is kept beside trust.
        stamps: what it is of.
        length: of each trial.
        fold: whose cases are held out.
        seed: of all draws.
        written: digests of the configs that the search wrote into the bundle, or was about to, each with its trial.
    """

    token: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    stamps: Stamps
    length: Length
    fold: int
    seed: int
    written: tuple[tuple[_Digest, int], ...] = ()
    format: Annotated[int, Field(ge=1, le=1)] = 1

    def write(self, folder: Path) -> None:
        """Write it atomically.

        Raises:
            FileError: it can't be written.
        """
        write_bytes(folder / RECORD, TypeAdapter(SearchRecord).dump_json(self, indent=1) + b"\n")

    @classmethod
    def read(cls, folder: Path) -> SearchRecord | None:
        """That of an earlier search, which has to be this person's; None where there was none.

        Raises:
            BundleError: it is damaged, or was not begun here by this person.
        """
        if not any((folder / name).exists() for name in (RECORD, STUDY)):
            return None
        try:
            raw = read_bounded(folder / RECORD, MAX_RECORD_BYTES, "record of a search", follow=False)
            found = TypeAdapter(cls).validate_json(raw)
        except (OSError, ValueError) as error:  # pydantic's, too
            raise BundleError(
                f"{folder / RECORD}, the record of a search, can't be read. --fresh begins another search.",
                code="bad-search",
                path=folder / RECORD,
            ) from error
        if _claim(folder, found.token) not in remembered():
            raise BundleError(
                f"{folder} holds a search that you did not begin in this place, and volseg goes on with no search of "
                "others. --fresh begins one of yours.",
                code="foreign-search",
                path=folder,
            )
        return found

    @classmethod
    def begin(cls, folder: Path, stamps: Stamps, length: Length, fold: int, seed: int) -> SearchRecord:
        """A new one, which is this person's from now on.

        Raises:
            FileError: it can't be written.
        """
        record = cls(secrets.token_hex(16), stamps, length, fold, seed)
        remember(_claim(folder, record.token))
        record.write(folder)
        return record


def forget(folder: Path) -> None:
    """Remove an earlier search, its trials too, whoever made them.

    Raises:
        FileError: something of it can't be removed.
    """
    try:
        for path in (*folder.glob(f"{TRIAL_PREFIX}*"), folder / PLANNED):
            if path.exists():
                shutil.rmtree(path)
        # The record last: what is left by a kill is still known to be a search.
        for name in (f"{STUDY}-journal", STUDY, TABLE, PICTURE, RECORD):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error


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
        path = self.folder / STUDY
        _require_safe(path)
        with self._readable():
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

    def close(self) -> None:
        """Let go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    @property
    def trials(self) -> tuple[TuneTrial, ...]:
        """All that were begun.

        Raises:
            BundleError: the file holds something else than trials of these parameters.
        """
        from optuna.trial import TrialState

        states: dict[TrialState, State] = {
            TrialState.COMPLETE: "complete",
            TrialState.PRUNED: "pruned",
            TrialState.FAIL: "failed",
            TrialState.RUNNING: "unfinished",
        }
        with self._readable():
            found = self._study.get_trials(deepcopy=False)
            return tuple(
                self._told(one, states[one.state], one.user_attrs) for one in found if one.state != TrialState.WAITING
            )

    def next(self, settings: Mapping[str, Value] | None = None, repeats: int | None = None) -> Trial:
        """Begin a trial: with these settings, or such as the sampler finds promising.

        Args:
            settings: what to try.
            repeats: the trial that it tries again, with the next seed.
        """
        import optuna

        if settings is not None:
            self._study.enqueue_trial(dict(settings), user_attrs=None if repeats is None else {"repeats": repeats})
        drawn = len(self._study.get_trials(deepcopy=False))
        # Seeded by how many there are, so that a search that goes on doesn't draw the same again.
        self._study.sampler = optuna.samplers.TPESampler(
            seed=(self.seed + drawn) % 2**32, n_startup_trials=STARTUP_TRIALS
        )
        return Trial(self._study, self._drawn(self._study.ask()))

    def unfinished(self) -> Trial | None:
        """A trial that was stopped or killed, to go on with."""
        running = self._running()
        return Trial(self._study, running[0]) if running else None

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
        """Tell in a sentence what Optuna and SQLite trip over in a damaged file."""
        import sqlalchemy

        try:
            yield
        except (
            sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, ValueError, LookupError, TypeError, AttributeError,
            RuntimeError, AssertionError,
        ) as error:  # fmt: skip
            raise BundleError(
                f"{self.folder / STUDY}, the search so far, can't be read. --fresh begins another search.",
                code="bad-search",
                path=self.folder / STUDY,
            ) from error


class Trial:
    """A trial under way."""

    def __init__(self, study: optuna.Study, trial: optuna.Trial) -> None:
        self._study, self._trial = study, trial
        self.number = trial.number

    def note(self, **facts: float | str) -> None:
        """Keep facts on it: seconds, steps, reason, begun."""
        for name, value in facts.items():
            self._trial.set_user_attr(name, value)

    def noted(self, name: str) -> float:
        """A number that was kept on it; 0 without one."""
        return float(self._trial.user_attrs.get(name, 0))

    def is_worse(self, mark: float, score: float) -> bool:
        """Whether its score at a part of its length is so low that it is not worth the rest."""
        self._trial.report(score, round(100 * mark))
        return self._trial.should_prune()

    def end(self, state: State, score: float | None = None) -> None:
        """Say what became of it."""
        from optuna.trial import TrialState

        ends = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        self._study.tell(self._trial, score if state == "complete" else None, state=ends[state])


def trial_folder(folder: Path, number: int) -> Path:
    """Where a trial's configs, curve and checkpoints lie."""
    return folder / f"{TRIAL_PREFIX}{number:03d}"


def digest_of(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _claim(folder: Path, token: str) -> str:
    return hashlib.sha256(b"volseg tune\0" + os.fsencode(folder.resolve()) + b"\0" + token.encode()).hexdigest()


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

"""What a run leaves on the disk, and what a later one goes on from."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from volseg.atomic import atomic_path
from volseg.errors import BundleError
from volseg.training.cases import CASES_FILE
from volseg.training.history import Epoch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CHECKPOINT_FORMAT = 1


@dataclass(frozen=True)
class RunFolder:
    """Where one fold's run lives."""

    folder: Path

    @property
    def last(self) -> Path:
        """The checkpoint to go on from: network, optimizer, history."""
        return self.folder / "last.pt"

    @property
    def best(self) -> Path:
        """The flat state dict of the best validation."""
        return self.folder / "best.pt"

    @property
    def final(self) -> Path:
        """The flat state dict of the end of the schedule."""
        return self.folder / "final.pt"

    @property
    def cases(self) -> Path:
        """The names of the cases that the run trains on and holds out."""
        return self.folder / CASES_FILE

    @property
    def history(self) -> Path:
        """The CSV."""
        return self.folder / "history.csv"

    @property
    def curve(self) -> Path:
        """The picture."""
        return self.folder / "curve.png"

    def remove(self) -> None:
        """Remove what an earlier run left, so that a fresh one begins."""
        for path in (self.last, self.best, self.final, self.cases, self.history, self.curve):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class RunState:
    """What an earlier run left to go on from.

    Args:
        network: its state dict.
        optimizer: its state dict.
        average: the averaged weights, where the bundle averages them.
        scheduler: the state of a bundle's own learning-rate scheduler, if it has one.
        epoch: whole epochs done.
        step: optimizer steps done; more than those of the whole epochs where the run stopped inside one.
        seconds: wall time taken.
        epochs: how many epochs it was to last, where no minutes were given.
        minutes: how many minutes it was to last.
        complete: whether it came to its end, the last validation included.
        history: one row for each epoch.
    """

    network: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, Any]
    average: Mapping[str, torch.Tensor] | None
    scheduler: Mapping[str, Any] | None
    epoch: int
    step: int
    seconds: float
    epochs: int
    minutes: float | None
    complete: bool
    history: tuple[Epoch, ...]

    @classmethod
    def read(cls, path: Path, content: Any) -> RunState:
        """Check what a checkpoint holds.

        Raises:
            BundleError: it is no checkpoint of a run.
        """
        try:
            if content["format"] != CHECKPOINT_FORMAT:
                raise ValueError(content["format"])
            return cls(
                network=dict(content["network"]),
                optimizer=dict(content["optimizer"]),
                average=None if content["average"] is None else dict(content["average"]),
                scheduler=content["scheduler"],
                epoch=int(content["epoch"]),
                step=int(content["step"]),
                seconds=float(content["seconds"]),
                epochs=int(content["epochs"]),
                minutes=None if content["minutes"] is None else float(content["minutes"]),
                complete=bool(content["complete"]),
                history=tuple(Epoch.from_plain(plain) for plain in content["history"]),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BundleError(
                f"{path} is no checkpoint of this version of volseg. Start the fold over with --fresh.",
                code="bad-checkpoint",
            ) from error

    def to_plain(self) -> dict[str, object]:
        """Tensors, numbers, lists and dictionaries only, so that reading it can run nothing."""
        return {
            "format": CHECKPOINT_FORMAT,
            "network": dict(self.network),
            "optimizer": dict(self.optimizer),
            "average": None if self.average is None else dict(self.average),
            "scheduler": None if self.scheduler is None else dict(self.scheduler),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "epochs": self.epochs,
            "minutes": self.minutes,
            "complete": self.complete,
            "history": [row.to_plain() for row in self.history],
        }

    def best_score(self) -> float:
        """The best validation so far; minus infinity before the first."""
        scores = [row.validation.score for row in self.history if row.validation is not None]
        return max((score for score in scores if math.isfinite(score)), default=-math.inf)


def write_tensors(path: Path, content: Mapping[str, object]) -> None:
    """Write tensors as ``torch.save`` does, atomically, flushed to the disk.

    Raises:
        DiskFullError: no space is left; the file that was there before stays.
        FileError: the file can't be written.
    """
    with atomic_path(path) as partial:
        try:
            with partial.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
        except RuntimeError as error:
            raise _system_error(error) from error


def _system_error(error: RuntimeError) -> BaseException:
    """The system's error that torch hides behind one of its own, such as a full disk; else the error itself."""
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, OSError):
        behind = behind.__context__
    return behind or error

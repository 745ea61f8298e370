"""Files of a run, and the state that a later call resumes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ConfigDict, TypeAdapter

from volseg.atomic import atomic_path
from volseg.errors import BundleError
from volseg.training.history import Epoch

if TYPE_CHECKING:
    from pathlib import Path

CHECKPOINT_FORMAT = 2


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
    def record(self) -> Path:
        """The provenance, and the cases that the run trains on and holds out; see ``RunRecord``."""
        return self.folder / "training.json"

    @property
    def initial(self) -> Path:
        """The weights that the run was begun with, where those were another network's; see ``Initial``."""
        return self.folder / "initial.json"

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
        for path in (self.last, self.best, self.final, self.record, self.initial, self.history, self.curve):
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
        setup_seconds: how much of it went by before the first step, in each of the runs.
        epochs: how many epochs it was to last, where no minutes were given.
        minutes: how many minutes it was to last.
        validation_seconds: what a validation took, or was estimated to; 0 where that is not known.
        complete: whether it came to its end, the last validation included.
        history: one row for each epoch.
        losses: of the steps since the last row.
    """

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)

    network: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, Any]
    average: Mapping[str, torch.Tensor] | None
    scheduler: Mapping[str, Any] | None
    epoch: int
    step: int
    seconds: float
    setup_seconds: float
    epochs: int
    minutes: float | None
    validation_seconds: float
    complete: bool
    history: tuple[Epoch, ...]
    losses: tuple[float, ...] = ()

    @classmethod
    def read(cls, path: Path, content: Any) -> RunState:
        """Check what a checkpoint holds.

        Raises:
            BundleError: it is no checkpoint of a run.
        """
        try:
            if content["format"] != CHECKPOINT_FORMAT:
                raise ValueError("another format")
            return TypeAdapter(cls).validate_python(content)
        except (LookupError, TypeError, AttributeError, ValueError) as error:  # pydantic's is a ValueError
            raise BundleError(
                f"{path} is no checkpoint of this version of volseg. Start the fold over with --fresh.",
                code="bad-checkpoint",
            ) from error

    def to_plain(self) -> dict[str, object]:
        """Tensors, numbers, lists and dictionaries only, so that reading it can run nothing."""
        return {"format": CHECKPOINT_FORMAT, **TypeAdapter(RunState).dump_python(self)}


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

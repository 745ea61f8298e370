"""Files of a run, and the state that a later call resumes from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from pydantic import ConfigDict, TypeAdapter

from volseg.atomic import atomic_path
from volseg.errors import BundleError
from volseg.files import open_plain
from volseg.training.history import Epoch, best_epoch

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
    def previous(self) -> Path:
        """The checkpoint before it, for where that one is damaged."""
        return self.folder / "previous.pt"

    @property
    def is_begun(self) -> bool:
        """Whether there is a checkpoint: a run that was killed between two renames has the previous one alone."""
        return self.last.is_file() or self.previous.is_file()

    @property
    def best(self) -> Path:
        """The flat state dict of the best validation."""
        return self.folder / "best.pt"

    @property
    def previous_best(self) -> Path:
        """The best of the checkpoint before, where the last one has another."""
        return self.folder / "previous_best.pt"

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
    def held_out(self) -> Path:
        """The folder of the masks of the cases that it held out, before any rule."""
        return self.folder / "held_out"

    @property
    def curve(self) -> Path:
        """The picture."""
        return self.folder / "curve.png"

    @property
    def tensorboard(self) -> Path:
        """The folder of what TensorBoard shows, where that was asked for."""
        return self.folder / "tensorboard"

    @property
    def mlflow(self) -> Path:
        """The name of the run in MLflow, where that was asked for."""
        return self.folder / "mlflow.txt"

    def remove(self) -> None:
        """Remove what an earlier run left, so that a fresh one begins."""
        # The older checkpoint first: alone it would be gone on from, as if the newer one had been damaged.
        paths = (self.previous, self.last, self.best, self.final, self.record, self.initial, self.history, self.curve)
        for path in (*paths, self.previous_best, self.mlflow):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.held_out, ignore_errors=True)
        shutil.rmtree(self.tensorboard, ignore_errors=True)


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
        seed: of all random draws; with the step it is the whole random state.
        patience: after how many epochs without a better validation it was to end.
        is_early: whether it ended so.
        best_step: after how many steps its best validation came; None before any.
        best_score: of that.
        validated: how many of the cases held out each validation looks at; None where there is time for all.
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
    seed: int = 0
    patience: int | None = None
    is_early: bool = False
    best_step: int | None = None
    best_score: float | None = None
    validated: int | None = None

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


CHECKSUM = b"volseg xxh3_128 "
CHECKSUM_BYTES = len(CHECKSUM) + 32
"""The comment at the end of a checkpoint, which is a ZIP file: a word, and the checksum in hexadecimal."""


def write_state(folder: RunFolder, state: RunState) -> None:
    """Write the state to go on from, with a checksum, and keep the one before it.

    Raises:
        DiskFullError: no space is left; the checkpoints that were there before stay.
        FileError: the file can't be written.
    """
    with atomic_path(folder.last) as partial:
        _save(partial, state.to_plain())
        with partial.open("r+b") as file:
            digest = _digest(file, file.seek(0, os.SEEK_END))
            # A ZIP file ends with the length of its comment and the comment (APPNOTE 6.3.10, 4.3.16).
            file.seek(-2, os.SEEK_END)
            file.write(CHECKSUM_BYTES.to_bytes(2, "little") + CHECKSUM + digest)
            file.flush()
            os.fsync(file.fileno())
        if folder.last.is_file():
            folder.previous_best.unlink(missing_ok=True)
            folder.last.replace(folder.previous)


def write_best(folder: RunFolder, weights: Mapping[str, torch.Tensor]) -> None:
    """Write the weights of the best validation, and keep those that the checkpoint before last knows as the best.

    Raises:
        DiskFullError: no space is left; the weights that were there before stay.
        FileError: the file can't be written.
    """
    with atomic_path(folder.best) as partial:
        _save(partial, weights)
        if folder.best.is_file() and not folder.previous_best.exists():
            try:  # a second name, so that the best is there at every moment
                os.link(folder.best, folder.previous_best)
            except OSError:  # a file system without such
                with atomic_path(folder.previous_best) as copy:
                    shutil.copyfile(folder.best, copy)


def go_back(folder: RunFolder, state: RunState) -> None:
    """Put the checkpoint before in the place of the last, and the best weights of then in the place of later ones.

    Args:
        folder: of the run.
        state: what the checkpoint before holds.
    """
    if folder.previous_best.is_file():
        folder.previous_best.replace(folder.best)
    elif state.best_step is None and best_epoch(state.history) is None:
        folder.best.unlink(missing_ok=True)
    folder.previous.replace(folder.last)


def is_whole(path: Path) -> bool:
    """Whether a checkpoint holds what was written; one without a checksum, of an older volseg, counts as whole.

    torch doesn't look at the checksums inside.

    Raises:
        FileError: it can't be opened.
    """
    with open_plain(path) as file:
        size = file.seek(0, os.SEEK_END)
        if size < CHECKSUM_BYTES + 22:
            return False
        file.seek(size - CHECKSUM_BYTES)
        comment = file.read()
        if comment.startswith(CHECKSUM):
            return comment[len(CHECKSUM) :] == _digest(file, size - CHECKSUM_BYTES)
        return comment[-22:-18] == b"PK\5\6" and comment[-2:] == bytes(2)  # a ZIP file that ends without a comment


def _digest(file: BinaryIO, size: int) -> bytes:
    """Of the first ``size`` bytes, in which the last two, the length of the comment, count as 0."""
    from xxhash import xxh3_128

    checksum, left = xxh3_128(), size - 2
    file.seek(0)
    while left > 0 and (chunk := file.read(min(left, 2**20))):
        checksum.update(chunk)
        left -= len(chunk)
    checksum.update(bytes(2))
    return checksum.hexdigest().encode()


def write_tensors(path: Path, content: Mapping[str, object]) -> None:
    """Write tensors as ``torch.save`` does, atomically, flushed to the disk.

    Raises:
        DiskFullError: no space is left; the file that was there before stays.
        FileError: the file can't be written.
    """
    with atomic_path(path) as partial:
        _save(partial, content)


def _save(path: Path, content: Mapping[str, object]) -> None:
    try:
        with path.open("wb") as file:
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

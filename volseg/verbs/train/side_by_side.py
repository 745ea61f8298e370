"""Folds side by side, each in a process of its own."""

from __future__ import annotations

import gc
import math
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.batch import available_cores
from volseg.batch.jobs import run_jobs
from volseg.bundle.cost import training_bytes
from volseg.device import available_bytes, machine_bytes
from volseg.errors import DiskFullError, VolsegError
from volseg.training.run import TRAINING
from volseg.verbs.train.fold import Data, Fold
from volseg.verbs.train.options import FoldResult
from volseg.verbs.train.scores import write_scores
from volseg.verbs.train.session import train_fold
from volseg.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.nn import Module

    from volseg.bundle.parser import BundleParser
    from volseg.progress import Progress

ROOM_SHARE = 0.6
"""Of the memory that is free, and of a GPU's: the rest is for prepared cases, and for what the estimate doesn't know."""
BASE_BYTES = 2**30
"""What a process takes with its libraries before it has a volume; on a GPU its context and workspaces take the like."""


@dataclass(frozen=True)
class SideBySide:
    """How many folds are trained at once, on what.

    Args:
        workers: how many at once.
        cores: of the machine.
        count: how many folds there are in all.
    """

    workers: int
    cores: int
    count: int

    def threads(self, turn: int) -> int:
        """Of the fold whose turn it is, from 0: one of the last round, which may be smaller, gets more.

        Sums of floating-point numbers depend on the number of threads, so it stays from a fold's beginning to its end, and
        doesn't depend on how long others take.
        """
        left = self.count % self.workers
        return max(1, self.cores // (left if turn >= self.count - left else self.workers))


def choose_side_by_side(parsers: Sequence[BundleParser], asked: int, device: str) -> SideBySide:
    """As many folds as the device has room for, in as few rounds as that takes; one core at least for each.

    Args:
        parsers: the configs of the folds.
        asked: how many a person wants; 0 leaves it to this rule.
        device: ``cpu`` or ``cuda``.
    """
    cores, count = available_cores(), len(parsers)
    most = asked
    if not most:
        first = parsers[0]
        network = first.sketch("network_def") if first.has("network_def") else None
        need = training_bytes(network, first.whole())
        rooms = [ROOM_SHARE * available_bytes() / (BASE_BYTES + (need if device == "cpu" else 0))]
        if device != "cpu":
            rooms.append(ROOM_SHARE * machine_bytes(device) / (BASE_BYTES + need))
        most = min(cores, *(int(room) for room in rooms))
    most = max(1, min(most, count))
    workers = most if asked else math.ceil(count / math.ceil(count / most))
    return SideBySide(workers, cores, count)


@dataclass(frozen=True)
class FoldJob:
    """A fold as another process trains it.

    Args:
        started: ``time.monotonic()``, one clock for all processes, of when its minutes began: with the command, for the
            folds that begin at once; None for one that has to wait for room, whose minutes begin with its process.
    """

    fold: Fold
    data: Data | None
    place: Path | None
    threads: int
    started: float | None = None


def train_job(job: FoldJob, progress: Progress) -> FoldResult:
    """Train a fold in this process, which is its own.

    Raises:
        VolsegError: as ``train_fold``.
    """
    started = time.monotonic() if job.started is None else job.started
    import torch

    from volseg.batch.children import safe_children
    from volseg.bundle.weights import inference_network

    torch.set_num_threads(job.threads)
    with safe_children():
        network = inference_network(job.fold.bundle)
        return train_fold(job.fold, job.fold.config(job.place), job.data, network, started, progress)


def train_all(
    folds: Sequence[Fold],
    parsers: dict[str, BundleParser],
    data: Data | None,
    place: Path | None,
    network: Module | None,
    started: float,
    progress: Progress,
) -> dict[str, FoldResult]:
    """Train several folds; what ends one leaves the others alone, but for a full disk, which would end each.

    Args:
        folds: of one bundle.
        parsers: their configs by their names; each is let go of when its fold is done.
        data: the data set; None where only the bundle knows it.
        place: the folder of the data set.
        network: the network of inference.
        started: ``time.monotonic()`` of when the command began.
        progress: receives the progress.

    Returns:
        The results by the names of the folds.

    Raises:
        DiskFullError: no space is left.
        VolsegError: what ended a fold, where it ended all of them.
    """
    device, bundle, options = folds[0].device.type, folds[0].bundle, folds[0].options
    plan = choose_side_by_side(list(parsers.values()), options.at_once, device)
    results: dict[str, FoldResult] = {}
    errors: list[VolsegError] = []

    def take(fold: Fold, ended: FoldResult | VolsegError) -> None:
        if isinstance(ended, DiskFullError):
            raise ended
        if isinstance(ended, VolsegError):
            errors.append(ended)
            progress.say(f"{fold.name} ended: {ended}")
            ended = FoldResult(
                fold.name, fold.folder.folder, (), bundle.structures, complete=False, already=False, training=0,
                validation=0, failed=str(ended),
            )  # fmt: skip
        results[fold.name] = ended
        if bundle.runs.is_dir():
            write_scores(bundle)

    if plan.workers > 1:
        parsers.clear()
        said = f"{plan.workers} folds side by side"
        if device == "cpu":
            threads, last = plan.threads(0), plan.threads(len(folds) - 1)
            said += f", {counted(threads, 'thread')} each"
            if last > threads:
                said += f", {last} for {'each of ' if len(folds) % plan.workers > 1 else ''}the last"
        if options.minutes is not None:
            said += ": each makes fewer steps in its minutes than alone (--at-once 1)"
        progress.say(f"{said}.")
        jobs = [
            (
                fold.name,
                FoldJob(
                    replace(fold, beside=plan.workers),
                    data,
                    place,
                    plan.threads(turn),
                    started if turn < plan.workers else None,
                ),
            )
            for turn, fold in enumerate(folds)
        ]
        with (
            progress.task("Cross-validation", len(folds), "folds") as task,
            closing(run_jobs(train_job, jobs, plan.workers, progress, lead=TRAINING)) as ends,
        ):
            for number, end in ends:
                take(folds[number], end.error or _given(end.result))
                task.advance(1.0)
    else:
        for turn, fold in enumerate(folds, start=1):
            progress.say(f"Fold {fold.number} ({turn} of {len(folds)} to train)")
            try:
                take(fold, train_fold(fold, parsers.pop(fold.name), data, network, started, progress))
            except VolsegError as error:
                take(fold, error)
            gc.collect()  # engines and handlers refer to each other, and hold a cache of volumes
            started = time.monotonic()
    if len(errors) == len(folds):
        raise errors[0]
    return results


def _given(result: FoldResult | None) -> FoldResult:
    if result is None:  # interrupted by somebody else than this process
        raise KeyboardInterrupt
    return result

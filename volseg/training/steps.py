"""Batches of training: each is a function of the seed and its step alone, whoever makes it and when."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.data import list_data_collate
from torch.utils.data import DataLoader

from volseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volseg.training.prepared.dataset import PreparedDataset

AHEAD = 2
"""Batches that are made ahead for each thread."""
MAX_SEED = 2**32


def seed_of(*numbers: int) -> int:
    """A seed of 32 bits for what these numbers name, by numpy's ``SeedSequence``, which keeps streams apart."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class StepLoader(DataLoader[Any]):
    """Batches of cases in random order, each case as often as any other.

    The sample at each place of each batch is drawn by a seed of its own. So a run that goes on, at whatever step it was
    stopped, sees what it would have seen, and threads that make batches ahead change nothing. What a thread raises, the
    training raises.

    Args:
        dataset: of prepared cases.
        batch_size: samples in a batch.
        steps: batches in an epoch.
        seed: of all draws.
        num_workers: threads that make batches ahead; 0 makes them in turn with the steps.

    Raises:
        UsageError: there are no cases.
    """

    def __init__(
        self, dataset: PreparedDataset, batch_size: int, steps: int, seed: int = 0, num_workers: int = 0
    ) -> None:
        if not len(dataset):
            raise UsageError("There are no cases to train on.")
        super().__init__(dataset, batch_size=batch_size, num_workers=0, collate_fn=list_data_collate)
        self.cases: PreparedDataset = dataset
        self.samples, self.steps, self.threads, self.seed = batch_size, steps, num_workers, seed
        self.part = 0, 1
        """Which of how many processes this is; each makes its own samples of every batch."""
        self.position = 0
        """Steps whose batches were given out."""
        self._ahead: deque[tuple[int, Future[Any]]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, *, seed: int, position: int) -> None:
        """Go on after so many steps of a run with that seed."""
        self.seed, self.position = seed, position
        self.stop()

    def stop(self) -> None:
        """End the threads; what they made ahead is made again when it is needed."""
        self._ahead.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """An epoch from where the last one was left."""
        for _ in range(self.steps):
            batch = self._next()
            self.position += 1
            yield batch

    def names(self, step: int) -> tuple[str, ...]:
        """The cases in the batch of a step, from 1, in its order."""
        return tuple(self.cases.name(self._index(draw)) for draw in self._draws(step - 1))

    def _draws(self, position: int) -> range:
        return range(position * self.samples, (position + 1) * self.samples)

    def _index(self, draw: int) -> int:
        turn, place = divmod(draw, len(self.cases))
        return _order(len(self.cases), self.seed, turn)[place]

    def _batch(self, position: int) -> Any:
        # Streams 0 and 1: the order of the cases, and what is drawn in each.
        rank, world = self.part
        draws = self._draws(position)[rank::world]
        batch = list_data_collate([self.cases.sample(self._index(draw), seed_of(self.seed, 1, draw)) for draw in draws])
        if torch.cuda.is_available():  # so that the copy to the GPU doesn't wait
            batch = {
                name: value.pin_memory() if isinstance(value, torch.Tensor) else value for name, value in batch.items()
            }
        return batch

    def _next(self) -> Any:
        if self.threads < 1:
            return self._batch(self.position)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="batches")
        while self._ahead and self._ahead[0][0] != self.position:
            self._ahead.popleft()[1].cancel()
        while len(self._ahead) < AHEAD * self.threads:
            position = self._ahead[-1][0] + 1 if self._ahead else self.position
            self._ahead.append((position, self._pool.submit(self._batch, position)))
        return self._ahead.popleft()[1].result()


@lru_cache(maxsize=4)
def _order(count: int, seed: int, turn: int) -> tuple[int, ...]:
    # numpy keeps the draws of a RandomState the same in all its versions.
    return tuple(int(one) for one in np.random.RandomState(seed_of(seed, 0, turn)).permutation(count))

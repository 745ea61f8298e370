"""One training by several processes, each with a part of every batch, on ``torch.distributed``.

The first process, the leader, does all that a single one does: checks, checkpoints, validation, the optimizer's steps. The
others, the followers, keep no state: for each step they get the weights, and give the gradient of the joined batch's loss
by their part of it. So a run goes on from its checkpoint with any number of processes.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn import Module

from volseg.errors import BundleError, UsageError
from volseg.training.steps import StepLoader, seed_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ignite.engine import Engine
    from torch import Tensor

LEADER = 0
PATIENCE = timedelta(days=1)
"""Followers wait while the leader checks the data or validates; a process that ends is noticed at once."""
MAX_MESSAGE_BYTES = 2**20
END = -1
FOLLOWER_STREAM = 3
"""Of random draws inside the network, such as dropout; see ``volseg.training.steps``."""


@dataclass(frozen=True)
class Ranks:
    """Which of several processes this is, as ``torchrun`` says.

    Args:
        rank: of this process; 0 leads.
        world: how many there are.
        local: the rank among those of this machine, and the number of its GPU.
        local_world: how many are on this machine.
    """

    rank: int
    world: int
    local: int
    local_world: int

    @classmethod
    def from_environment(cls) -> Ranks | None:
        """None where this process is alone.

        Raises:
            UsageError: what the environment says is no rank.
        """
        world = os.environ.get("WORLD_SIZE")
        if world is None or "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
            return None
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        try:
            rank, count, local, local_count = (
                int(os.environ.get(name, default)) for name, default in zip(names, "0101", strict=True)
            )
        except ValueError as error:
            raise UsageError(f"{', '.join(names)} have to be whole numbers, as torchrun sets them.") from error
        if not (0 <= rank < count and 0 <= local < local_count <= count):
            raise UsageError(f"There is no process {rank} of {count}, {local} of {local_count} on this machine.")
        return cls(rank, count, local, local_count) if count > 1 else None

    @property
    def leads(self) -> bool:
        """Whether this is the process that keeps the state."""
        return self.rank == LEADER

    def device(self, kind: str) -> torch.device:
        """Where this process computes."""
        return torch.device(kind, self.local) if kind == "cuda" else torch.device(kind)

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[Group]:
        """Meet the others.

        Raises:
            BundleError: they can't be reached.
        """
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with _told():
            met = PrefixStore("volseg", next(rendezvous("env://", timeout=PATIENCE))[0])
            if device.type == "cuda":
                options = distributed.ProcessGroupNCCL.Options()
                options._timeout = PATIENCE
                group: Any = distributed.ProcessGroupNCCL(met, self.rank, self.world, options)
            else:
                group = distributed.ProcessGroupGloo(met, self.rank, self.world, PATIENCE)
        yield Group(self, device, group)


@dataclass(frozen=True, eq=False)
class Group:
    """The processes of a training, and how they exchange tensors.

    It is not torch's default group: MONAI's metrics would wait for the validation of processes that do none.

    Args:
        ranks: which of them this is.
        device: where it computes.
        group: torch's.
    """

    ranks: Ranks
    device: torch.device
    group: Any

    def broadcast(self, tensor: Tensor, source: int = LEADER) -> Tensor:
        """Give a process's tensor to all, in place.

        Raises:
            BundleError: another process ended.
        """
        with _told():
            self.group.broadcast([tensor], _rooted(distributed.BroadcastOptions(), source)).wait()
        return tensor

    def add(self, tensor: Tensor) -> Tensor:
        """Give the sum of all to the leader, in place.

        Raises:
            BundleError: another process ended.
        """
        with _told():
            self.group.reduce([tensor], _rooted(distributed.ReduceOptions(), LEADER)).wait()
        return tensor


def _rooted(options: Any, source: int) -> Any:
    options.rootRank, options.rootTensor = source, 0
    return options


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch.distributed's are children of it
        raise BundleError(
            "Another process of this training ended or can't be reached, so this one ends, too; what it said stands in "
            "its own output. The same command goes on from the last checkpoint.",
            code="rank-ended",
        ) from error


def receive(group: Group) -> dict[str, Any] | None:
    """What the leader tells; None when there is nothing left to do.

    Raises:
        BundleError: the leader ended.
    """
    count = int(group.broadcast(torch.zeros(1, dtype=torch.int64, device=group.device)))
    if count == END:
        return None
    if not 0 < count <= MAX_MESSAGE_BYTES:
        raise BundleError("The leader of this training says something too long.", code="rank-ended")
    content = group.broadcast(torch.zeros(count, dtype=torch.uint8, device=group.device))
    told: dict[str, Any] = json.loads(bytes(content.tolist()))
    return told


class JoinedLoss(Module):
    """A loss over the outputs and labels of all processes, whose gradient goes through this one's own.

    The sum of the processes' gradients is that of one process with the joined batch, whatever the loss, since each
    computes the loss of the whole.

    Args:
        loss: over outputs (or a list of them, of several heads) and labels.
        group: the processes.
    """

    def __init__(self, loss: Any, group: Group) -> None:
        super().__init__()
        self.loss, self.group = loss, group

    def forward(self, outputs: Tensor | list[Tensor], labels: Tensor) -> Tensor:
        """The loss of the joined batch.

        Raises:
            BundleError: another process ended, or has patches of another size.
        """
        heads = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        counts = self._counts(labels)
        joined = [self._joined(head, counts) for head in heads]
        whole = self._joined(labels, counts)
        loss: Tensor = self.loss(joined if isinstance(outputs, (list, tuple)) else joined[0], whole)
        return loss

    def _counts(self, labels: Tensor) -> list[int]:
        """How many patches each process has; a backend that gets less than it waits for says nothing."""
        ranks, device = self.group.ranks, labels.device
        own, other = (
            torch.tensor(labels.shape, device=device),
            torch.zeros(labels.ndim, dtype=torch.int64, device=device),
        )
        told = [
            self.group.broadcast((own if rank == ranks.rank else other).clone(), rank) for rank in range(ranks.world)
        ]
        shapes = [shape.tolist() for shape in told]
        if any(shape[1:] != shapes[0][1:] for shape in shapes):
            raise BundleError(
                "The processes of this training have patches of different sizes, so they share no batch. Crop all to one "
                "size in the train config's random transforms, or train without torchrun.",
                code="rank-differs",
            )
        return [int(shape[0]) for shape in shapes]

    def _joined(self, own: Tensor, counts: Sequence[int]) -> Tensor:
        own = own.as_tensor() if isinstance(own, MetaTensor) else own
        ranks, parts = self.group.ranks, []
        for rank in range(ranks.world):
            if rank == ranks.rank:
                self.group.broadcast(own.detach().contiguous(), rank)
                parts.append(own)
            else:
                shape = (counts[rank], *own.shape[1:])
                parts.append(self.group.broadcast(torch.empty(shape, dtype=own.dtype, device=own.device), rank))
        return torch.cat(parts)


@dataclass(eq=False)
class Followers:
    """The other processes, as the leader has them.

    Args:
        group: the processes.
    """

    group: Group
    _is_waiting: bool = True
    """Whether they wait for a message or a step, so that they can be told the end."""
    _buffer: Tensor | None = None
    """What weights and gradients are sent in, at every step the same memory."""

    def call(self, message: dict[str, object]) -> None:
        """Tell them what is trained, as JSON: nothing is unpickled.

        Raises:
            BundleError: one of them ended.
        """
        content = torch.tensor(list(json.dumps(message).encode()), dtype=torch.uint8, device=self.group.device)
        self._say(content.numel())
        self.group.broadcast(content)
        self._is_waiting = True

    def attach(self, trainer: Any) -> None:
        """Share each step of a trainer with them.

        Raises:
            UsageError: the trainer or its batches can't be shared.
        """
        share(trainer, self.group)
        self._buffer = _buffer(trainer.network)
        trainer.add_event_handler(Events.ITERATION_STARTED, self._begin)
        trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._add_gradients)

    def release(self) -> None:
        """Tell them the end. What was ended inside a step they notice by themselves.

        Raises:
            BundleError: one of them ended.
        """
        if self._is_waiting:
            self._say(END)

    def _say(self, number: int) -> None:
        self._is_waiting = False
        self.group.broadcast(torch.tensor([number], device=self.group.device))

    def _begin(self, engine: Engine) -> None:
        self._say(engine.state.iteration)
        self.group.broadcast(_joined(engine.network.parameters(), self._buffer))

    def _add_gradients(self, engine: Engine) -> None:
        with torch.no_grad():
            sent = _joined(_gradients(engine.network), self._buffer)
            for weight, part in _parts(engine.network, self.group.add(sent)):
                if weight.grad is not None:
                    weight.grad.copy_(part)
        self._is_waiting = True


def follow(group: Group, trainer: Any, seed: int) -> None:
    """Do a follower's part of every step, until the leader has no more.

    Args:
        group: the processes.
        trainer: as the leader's, of which network, inferer, loss and loader are used.
        seed: of the run.

    Raises:
        BundleError: another process ended.
        UsageError: the trainer or its batches can't be shared.
    """
    share(trainer, group)
    loader, network = trainer.data_loader, trainer.network
    network.train()
    buffer = _buffer(network)
    position = -1
    batches: Iterator[Any] = iter(())
    while True:
        step = int(group.broadcast(torch.zeros(1, dtype=torch.int64, device=group.device)))
        if step == END:
            loader.stop()
            return
        group.broadcast(buffer)
        with torch.no_grad():
            for weight, part in _parts(network, buffer):
                weight.copy_(part)
        if position != step - 1:
            loader.begin(seed=seed, position=step - 1)
            batches = chain.from_iterable(repeat(loader))
        position = step
        torch.manual_seed(seed_of(seed, FOLLOWER_STREAM, step, group.ranks.rank))
        image, label = trainer.prepare_batch(next(batches), trainer.state.device, trainer.non_blocking)[:2]
        network.zero_grad()
        trainer.loss_function(trainer.inferer(image, network), label).mean().backward()
        with torch.no_grad():
            group.add(_joined(_gradients(network), buffer))


def share(trainer: Any, group: Group) -> None:
    """Give this process its part of the batches, and the loss of the whole.

    Raises:
        UsageError: the trainer or its batches can't be shared.
    """
    loader, ranks = trainer.data_loader, group.ranks
    if not isinstance(trainer, SupervisedTrainer) or not isinstance(loader, StepLoader):
        raise UsageError(
            "Only trainings that volseg planned can be shared by several processes: this one has a trainer or a data "
            "loader of its own. Run it without torchrun."
        )
    if loader.samples < ranks.world:
        raise UsageError(
            f"A batch of {loader.samples} can't be shared by {ranks.world} processes. Give batch_size in "
            f"configs/train.yaml a larger value, or start {loader.samples} processes."
        )
    loader.part = ranks.rank, ranks.world
    trainer.loss_function = JoinedLoss(trainer.loss_function, group)


def _buffer(network: Module) -> Tensor:
    """A place for all weights of a network, or their gradients, one after the other."""
    weights = list(network.parameters())
    return torch.empty(sum(weight.numel() for weight in weights), dtype=weights[0].dtype, device=weights[0].device)


@torch.no_grad()
def _joined(tensors: Iterable[Tensor], buffer: Tensor | None) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors], out=buffer)


def _parts(network: Module, flat: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each weight, and its part of what was made flat, in its shape."""
    begin = 0
    for weight in network.parameters():
        yield weight, flat[begin : begin + weight.numel()].view_as(weight)
        begin += weight.numel()


def _gradients(network: Module) -> Iterator[Tensor]:
    for weight in network.parameters():
        yield torch.zeros_like(weight) if weight.grad is None else weight.grad

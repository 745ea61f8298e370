"""Weights of another network to begin with: which are taken, which adapted, and how they are trained on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from ignite.engine import Events
from pydantic import TypeAdapter

from volseg.atomic import write_bytes
from volseg.errors import BundleError
from volseg.files import read_bounded

if TYPE_CHECKING:
    from pathlib import Path

    from ignite.engine import Engine
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from volseg.training.budget import Budget

Fate = Literal["taken", "adapted", "fresh", "left"]
INITIAL_FORMAT = 1
MAX_INITIAL_BYTES = 2**24
MAX_LEFT = 2000
"""So many weights of a source that has no use for them are told one by one."""
PLAIN_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,200}")
WRAPPERS = ("module.", "_orig_mod.", "model.", "network.", "net.", "_model.", "backbone.", "encoder.")
"""What other trainers put before the names of a network's weights."""


@dataclass(frozen=True)
class Sides:
    """What a network's channels are called, in their order; empty where nobody knows.

    Args:
        inputs: the channels of the image.
        outputs: its classes, the background among them.
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ends:
    """The weights at a network's two ends, each with the axes along which channels of the image or classes lie."""

    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """What became of one weight.

    Args:
        name: in the network that is trained; in the source where it was left.
        fate: ``taken`` as it was, ``adapted`` to other channels or labels, ``fresh`` as it was drawn, or ``left``.
        shape: its own.
        why: in a few words.
    """

    name: str
    fate: Fate
    shape: tuple[int, ...]
    why: str

    @property
    def numbers(self) -> int:
        """How many it has."""
        return int(torch.Size(self.shape).numel())


@dataclass(frozen=True)
class Initial:
    """What a run was begun with: ``initial.json`` in its folder.

    Args:
        sha256: of the file that the weights are from.
        rows: of each weight of the network, then those of the source that were left.
        taken_rate: what the learning rate of taken and adapted weights is multiplied by.
        frozen: the weights that stay as they are at first.
        frozen_epochs: for so many epochs; None means to the end.
        seen: how many of the cases that are held out trained those weights; None where that is not known.
    """

    sha256: str
    rows: tuple[Row, ...]
    taken_rate: float
    frozen: tuple[str, ...] = ()
    frozen_epochs: int | None = None
    seen: int | None = None
    format: int = INITIAL_FORMAT

    @property
    def used(self) -> frozenset[str]:
        """The names of the weights that are not fresh."""
        return frozenset(row.name for row in self.rows if row.fate in ("taken", "adapted"))

    def write(self, path: Path) -> None:
        """Write it atomically as JSON.

        Raises:
            FileError: it can't be written.
        """
        write_bytes(path, TypeAdapter(Initial).dump_json(self, indent=1) + b"\n")

    @classmethod
    def read(cls, path: Path) -> Initial | None:
        """What a run was begun with; None where that was nothing.

        Raises:
            BundleError: the record is damaged.
        """
        if not path.exists():
            return None
        try:
            found = TypeAdapter(cls).validate_json(read_bounded(path, MAX_INITIAL_BYTES, "record of first weights"))
            if found.format != INITIAL_FORMAT:
                raise ValueError("another format")
        except (OSError, ValueError) as error:
            raise BundleError(
                f"{path}, the record of the weights that the run was begun with, can't be read. Train the fold again "
                "with --fresh.",
                code="bad-record",
                path=path,
            ) from error
        return found


@torch.no_grad()
def take_weights(
    network: Module, source: Mapping[str, Tensor], ends: Ends, ours: Sides, theirs: Sides
) -> tuple[Row, ...]:
    """Put into a network what fits of another's weights.

    A weight of the same name and shape is taken. At the input, channels are taken by their names; where these differ in
    number, each gets the mean of the source's, scaled so that their sum stays (as timm does it). At the output, labels
    are taken by their names. All else stays as it was drawn. Tables of whole numbers are the network's own business.

    Args:
        network: is changed in place.
        source: finite weights by their names.
        ends: the network's weights at its ends.
        ours: what the network's channels and classes are called.
        theirs: what the source's are called.

    Returns:
        One row for each weight of the network, then those of the source that were left.
    """
    own = _once(network.state_dict(keep_vars=True))
    found = _renamed(source, network.state_dict(), ends)
    rows = []
    for name, tensor in own.items():
        if tensor.is_floating_point():
            rows.append(_take(name, tensor.data, found.get(name), ends, ours, theirs))
    known = network.state_dict()
    left = [
        Row(_plain(name), "left", tuple(tensor.shape), "not in this network" if name not in known else "another shape")
        for name, tensor in found.items()
        if tensor.is_floating_point() and (name not in known or _is_fresh(name, rows))
    ]
    return (*rows, *left[:MAX_LEFT])


def _is_fresh(name: str, rows: Sequence[Row]) -> bool:
    return any(row.name == name and row.fate == "fresh" for row in rows)


def common_core(rows: Sequence[Row], ends: Ends) -> bool:
    """Whether something between the network's ends was taken: a bias or two may have the same shape by chance."""
    at_ends = ends.inputs.keys() | ends.outputs.keys()
    return any(row.fate == "taken" and len(row.shape) > 1 and row.name not in at_ends for row in rows)


def _once(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor under the first of its names: networks hold some parts in two places."""
    seen: set[int] = set()
    found = {}
    for name, tensor in state.items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor
    return found


def _renamed(source: Mapping[str, Tensor], own: Mapping[str, Tensor], ends: Ends) -> Mapping[str, Tensor]:
    """The source under the names that match most of the network's numbers: trainers and parts put words before them."""
    at_ends = ends.inputs.keys() | ends.outputs.keys()

    def matched(names: Mapping[str, Tensor]) -> int:
        return sum(
            own[name].numel() for name, tensor in names.items() if name in own and own[name].shape == tensor.shape
        ) + sum(name in names for name in at_ends)

    begun = sorted({f"{name.partition('.')[0]}." for name in own})
    best, most = source, matched(source)
    inner = source
    for _ in range(4):
        for prefix in begun:
            longer = {f"{prefix}{name}": tensor for name, tensor in inner.items()}
            if matched(longer) > most:
                best, most = longer, matched(longer)
        word = next((word for word in WRAPPERS if inner and all(name.startswith(word) for name in inner)), None)
        if word is None:
            break
        inner = {name.removeprefix(word): tensor for name, tensor in inner.items()}
        if matched(inner) > most:
            best, most = inner, matched(inner)
    return best


def _take(name: str, own: Tensor, found: Tensor | None, ends: Ends, ours: Sides, theirs: Sides) -> Row:
    shape = tuple(own.shape)
    if found is None:
        return Row(name, "fresh", shape, "the source has none")
    if not found.is_floating_point():
        return Row(name, "fresh", shape, "the source's numbers are of another type")
    inputs, outputs = ends.inputs.get(name, ()), ends.outputs.get(name, ())
    others = [axis for axis in range(own.ndim) if axis not in (*inputs, *outputs)]
    if found.ndim != own.ndim or any(found.shape[axis] != own.shape[axis] for axis in others):
        return Row(name, "fresh", shape, f"in the source of shape {_shape(found)}")
    said = ""
    for axis in inputs:
        found, words = _for_channels(found, axis, own.shape[axis], ours.inputs, theirs.inputs)
        said = words or said
    if outputs:
        return _for_labels(name, own, found, outputs, ours.outputs, theirs.outputs, said)
    own.copy_(found)
    return Row(name, "adapted" if said else "taken", shape, said)


def _for_channels(
    found: Tensor, axis: int, count: int, ours: Sequence[str], theirs: Sequence[str]
) -> tuple[Tensor, str]:
    """A weight for channels of the image: by name, by place, or by their mean; and in words what was done."""
    wanted, there = _keys(ours), _keys(theirs)
    named = len(wanted) == count and len(there) == found.shape[axis]
    if named and set(wanted) <= set(there):
        if wanted == there:
            return found, ""
        places = torch.tensor([there.index(name) for name in wanted])
        return found.index_select(axis, places), f"{count} of {len(there)} channels, by their names"
    if found.shape[axis] == count and not (named and set(wanted) & set(there)):
        return found, ""
    mean = found.mean(axis, keepdim=True) * (found.shape[axis] / count)
    repeats = [count if one == axis else 1 for one in range(found.ndim)]
    said = f"the mean of {found.shape[axis]} channels" if found.shape[axis] > 1 else "a share of the one channel"
    return mean.repeat(repeats), f"{said} for each of {count}"


def _for_labels(
    name: str, own: Tensor, found: Tensor, axes: Sequence[int], ours: Sequence[str], theirs: Sequence[str], said: str
) -> Row:
    """Take the classes that have the same name, and leave the others as they were drawn."""
    shape = tuple(own.shape)
    wanted, there = _keys(ours), _keys(theirs)
    if not there:
        return Row(name, "fresh", shape, "which labels the source's outputs are is not known")
    if any(own.shape[axis] != len(wanted) or found.shape[axis] != len(there) for axis in axes):
        return Row(name, "fresh", shape, f"in the source of shape {_shape(found)}")
    same = [label for label in wanted if label in there]
    if not any(label != "background" for label in same):
        return Row(name, "fresh", shape, "no label has the same name")
    if wanted == there:
        own.copy_(found)
        return Row(name, "adapted" if said else "taken", shape, said)
    to, source = ([names.index(label) for label in same] for names in (wanted, there))
    pairs = [(torch.tensor(to), torch.tensor(source)) if axis in axes else None for axis in range(own.ndim)]
    block = found
    for axis, pair in enumerate(pairs):
        block = block if pair is None else block.index_select(axis, pair[1])
    where = torch.meshgrid(
        *(torch.arange(own.shape[axis]) if pair is None else pair[0] for axis, pair in enumerate(pairs)), indexing="ij"
    )
    own[where] = block.to(own)
    return Row(name, "adapted", shape, f"{len(same)} of {len(wanted)} classes, by their names")


def _keys(names: Sequence[str]) -> list[str]:
    return [name.strip().casefold() for name in names]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _plain(name: str) -> str:
    return name if PLAIN_NAME.fullmatch(name) else "(a name of other characters)"


def split_rates(optimizer: Optimizer, network: Module, initial: Initial) -> None:
    """Give the weights that were taken a lower learning rate: each group of the optimizer becomes two.

    Before a schedule looks at the groups; it scales each from the rate that it has then. Fresh weights come first, so
    that the rate that is shown is the whole one. A run that goes on splits them in the same way.

    Args:
        optimizer: is changed in place, before its first step.
        network: whose weights it has.
        initial: which were taken, and their rate.
    """
    if initial.taken_rate == 1:
        return
    used = {id(parameter) for name, parameter in network.named_parameters() if name in initial.used}
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        rest = {key: value for key, value in group.items() if key != "params"}
        fresh = [parameter for parameter in group["params"] if id(parameter) not in used]
        taken = [parameter for parameter in group["params"] if id(parameter) in used]
        groups += [rest | {"params": fresh}] if fresh else []
        groups += [rest | {"params": taken, "lr": rest["lr"] * initial.taken_rate}] if taken else []
    groups.sort(key=lambda group: -float(group["lr"]))
    optimizer.param_groups[:] = groups


class Freezing:
    """A handler that keeps some weights as they are while the first epochs last.

    They need no gradient then, so that a step is shorter, and the optimizer passes over them. Normalisation that keeps
    statistics keeps those, too. It reads the budget's steps, so a run that goes on thaws at the same step.

    Args:
        network: whose.
        names: of the weights.
        budget: how many steps were made.
        steps: for so many; None means to the end.
    """

    def __init__(self, network: Module, names: Sequence[str], budget: Budget, steps: int | None) -> None:
        chosen = frozenset(names)
        self.weights = [parameter for name, parameter in network.named_parameters() if name in chosen]
        self.keeping = [
            module
            for name, module in network.named_modules()
            if isinstance(module, torch.nn.modules.batchnorm._NormBase)
            and module.track_running_stats
            and f"{name}.weight" in chosen
        ]
        self.budget, self.steps = budget, steps

    def attach(self, engine: Engine) -> None:
        """Look before every step."""
        for module in self.keeping:
            module.register_forward_pre_hook(self._hold)
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    @property
    def is_on(self) -> bool:
        """Whether the weights are frozen now."""
        return self.steps is None or self.budget.steps < self.steps

    def __call__(self, engine: Engine) -> None:
        """Freeze or thaw for the step that begins."""
        del engine
        for parameter in self.weights:
            parameter.requires_grad_(not self.is_on)

    def _hold(self, module: Module, _: object) -> None:
        if self.is_on:
            module.eval()

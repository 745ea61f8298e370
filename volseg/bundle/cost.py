"""What a network would cost, found without any memory: it is run once on torch's meta device, which has no voxels."""

from __future__ import annotations

import math
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from volseg.bundle.folder import walk
from volseg.bundle.metadata import at
from volseg.device import memory_lacking
from volseg.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch.nn import Module

    from volseg.planning.component import ConfigValue

TRAINING_COPIES = 5
"""Of the weights: themselves, their gradients, two of Adam's and the average."""
CLASS_KEYS = ("to_onehot", "num_classes")
TO_REGIONS = "volseg.training.LabelsToRegionsd"
PATCH_KEYS = ("spatial_size", "roi_size")
VOLUME = (512, 512, 512)
"""A large volume (voxels), that windows are counted on."""
MAX_MULTIPLICATIONS = 1e18
"""Over such a volume: a day of a large GPU, or a year of a processor. nnU-Net's largest need a thousandth."""


@dataclass(frozen=True)
class NetworkCost:
    """What one pass of a batch through a network costs, in float32.

    Args:
        parameters: how many there are.
        weight_bytes: of parameters and buffers.
        inference_bytes: what lives at once at most beside the weights, without gradients; the input counts.
        kept_bytes: what a forward pass keeps for the backward pass, its output included.
        multiplications: of convolutions and matrix products in one forward pass.
    """

    parameters: int
    weight_bytes: int
    inference_bytes: int
    kept_bytes: int
    multiplications: float

    @property
    def predicting_bytes(self) -> int:
        """Weights, and what one batch of windows needs."""
        return self.weight_bytes + self.inference_bytes

    def training_bytes(self, copies: int = 4) -> int:
        """What a step of training needs at least.

        Args:
            copies: of the weights: themselves, gradients, and as many as the optimizer keeps; Adam keeps two.
        """
        return copies * self.weight_bytes + max(self.kept_bytes, self.inference_bytes)


class _Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are alive, each storage once."""

    def __init__(self, known: Sequence[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        return result

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._end, storage._cdata, storage.nbytes())

    def _end(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.now -= size


SHORT_SERIES = 10_000
"""Numbers of a series that a network may make and read while it is built, such as the rates of its layers."""


class _ReadableSeries(TorchFunctionMode):
    """Makes short series of numbers on the processor, for on the meta device no number can be read."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            steps = kwargs.get("steps", args[2] if len(args) > 2 else None)
            if isinstance(steps, int) and steps <= SHORT_SERIES:
                kwargs.setdefault("device", "cpu")
        return func(*args, **kwargs)


@contextmanager
def on_meta() -> Iterator[None]:
    """What is built inside takes no memory: it lies on torch's meta device."""
    with torch.device("meta"), _ReadableSeries():
        yield


def cost_of(network: Module, batch: int, channels: int, patch: Sequence[int], *, training: bool = True) -> NetworkCost:
    """What a network costs, from a forward pass on the meta device; neither time nor memory depend on its size.

    Args:
        network: built anywhere; its weights are only looked at, and it is left as it is.
        batch: patches or windows at once.
        channels: of the image.
        patch: voxels (i, j, k).
        training: whether ``kept_bytes`` is wanted, which takes a second pass.

    Raises:
        BundleError: it takes no such input, or decides by values, which meta tensors have not; code ``cannot-run``.
    """
    was = [(part, part.training) for part in network.modules()]
    shape = (batch, channels, *patch)
    try:
        with _weights_on_meta(network) as weights:
            with torch.no_grad(), FlopCounterMode(display=False) as counted:
                inference = _live(network.eval(), weights, shape)[1]
            with torch.enable_grad():
                kept = _live(network.train(), weights, shape)[0] if training else 0
    except Exception as error:  # a third party's network may raise any
        raise BundleError(
            f"The network takes no input of {channels} channels and {tuple(patch)} voxels.", code="cannot-run"
        ) from error
    finally:
        for part, mode in was:
            part.training = mode
    return NetworkCost(
        parameters=sum(tensor.numel() for tensor in network.parameters()),
        weight_bytes=_bytes(network),
        inference_bytes=inference,
        kept_bytes=kept,
        multiplications=counted.get_total_flops() / 2,
    )


@contextmanager
def _weights_on_meta(network: Module) -> Iterator[list[torch.Tensor]]:
    """Give a network weights without content, and its own ones back."""
    slots: list[tuple[dict[str, Any], str, torch.Tensor]] = [
        (held, name, tensor)
        for part in network.modules()
        for held in (part._parameters, part._buffers)
        for name, tensor in held.items()
        if tensor is not None
    ]
    # One that is shared stays shared.
    empty = {
        id(tensor): torch.nn.Parameter(torch.empty_like(tensor, device="meta"), tensor.requires_grad)
        if isinstance(tensor, torch.nn.Parameter)
        else torch.empty_like(tensor, device="meta")
        for _, _, tensor in slots
    }
    try:
        for held, name, tensor in slots:
            held[name] = empty[id(tensor)]
        yield list(empty.values())
    finally:
        for held, name, tensor in slots:
            held[name] = tensor


def _live(network: Module, weights: Sequence[torch.Tensor], shape: tuple[int, ...]) -> tuple[int, int]:
    """The bytes alive after a forward pass, and the most during it."""
    image = torch.empty(shape, device="meta")
    with _Living(weights) as living:
        living.add(image)
        output = network(image)
        now = living.now
        del output
    return now, living.peak


def _bytes(network: Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*network.parameters(), *network.buffers()))


def require_affordable(network: Module, config: ConfigValue, path: Path, device: str, *, training: bool) -> None:
    """Refuse a network that the machine can't hold, or that would compute for years, before it is built.

    For configs within the vocabulary, whose networks can be built without memory; nobody has looked at their numbers.

    Args:
        network: of ``network_def``, on the meta device.
        config: what it is of.
        path: where that lies.
        device: where the network is to be; ``cpu`` or one of ``cuda``.
        training: whether the network is to be trained as ``train#trainer`` says.

    Raises:
        BundleError: it is too large, with the code ``too-large``, or doesn't take its own windows.
    """
    count = sum(tensor.numel() for tensor in network.parameters())

    def refuse(need: int, why: str) -> None:
        lacking = memory_lacking(need, device)
        if lacking:
            raise BundleError(
                f"{path}: network_def has {_short(count)} parameters{why}, which {lacking}. Make the network or what "
                "it is given smaller.",
                code="too-large",
                path=path,
            )

    refuse(_bytes(network), "")
    _require_own_classes(config, path)
    channels = at(config, "network_def", "in_channels")
    window, batch = _training_patch(config) if training else _window(at(config, "inferer"))
    if window is None or not isinstance(channels, int):
        return
    cost = cost_of(network, batch, channels, window, training=training)
    shown = f"{batch} of {' x '.join(map(str, window))} voxels"
    if training:
        refuse(cost.training_bytes(TRAINING_COPIES), f" and is trained on patches, {shown} at once")
        return
    refuse(cost.predicting_bytes, f" and is run over windows, {shown} at once (inferer)")
    windows = math.prod(volume / side for volume, side in zip(VOLUME, window, strict=True))
    total = windows / batch * cost.multiplications
    if total > MAX_MULTIPLICATIONS:
        raise BundleError(
            f"{path}: network_def has {_short(count)} parameters and would take {total:.1g} multiplications for a "
            f"volume of {' x '.join(map(str, VOLUME))} voxels: that ends on no machine. Make the network smaller.",
            code="too-large",
            path=path,
        )


def training_bytes(network: Module | None, config: ConfigValue) -> float:
    """About what a training takes beside its volumes: weights, gradients, optimizer and a batch of patches.

    Args:
        network: of ``network_def``, on the meta device; None where it is not known.
        config: of the training.

    Raises:
        BundleError: the network doesn't take the config's patches.
    """
    channels = at(config, "network_def", "in_channels")
    patch, batch = _training_patch(config)
    if network is None or patch is None or not isinstance(channels, int):
        return 0.0
    return cost_of(network, batch, channels, patch).training_bytes(TRAINING_COPIES)


def _require_own_classes(config: ConfigValue, path: Path) -> None:
    """Refuse steps that make a volume of each of more classes than the network has outputs.

    Where these are regions, the background is a class beside them.

    Raises:
        BundleError: there is one, with the code ``too-large``.
    """
    outputs = at(config, "network_def", "out_channels")
    nodes = list(walk(config))
    background = any(isinstance(node, dict) and node.get("_target_") == TO_REGIONS for _, node in nodes)
    for place, node in nodes:
        for key in CLASS_KEYS:
            if isinstance(node, dict) and isinstance(outputs, int) and _whole(node, key) > max(outputs + background, 2):
                raise BundleError(
                    f"{path}: {'#'.join((*place, key))} counts {_whole(node, key)} classes, each of which takes a volume, "
                    f"and the network has {outputs} outputs. Repair the config.",
                    code="too-large",
                    path=path,
                )


def _window(inferer: ConfigValue) -> tuple[tuple[int, ...] | None, int]:
    """The sides of a sliding window, None where there is none, and how many are run at once."""
    while isinstance(inferer, dict) and isinstance(inferer.get("inferer"), dict):
        inferer = inferer["inferer"]
    return _sides(inferer, "roi_size"), _whole(inferer, "sw_batch_size")


def _training_patch(config: ConfigValue) -> tuple[tuple[int, ...] | None, int]:
    """The largest patch that transforms of training make, wherever they stand, and how many are trained on at once."""
    parts = [node for _, node in walk(at(config, "train")) if isinstance(node, dict)]
    found = [_sides(part, key) for part in parts for key in PATCH_KEYS]
    patch = max((sides for sides in found if sides), key=math.prod, default=None)
    # A sampler's are no patches.
    samples = max((_whole(part, "num_samples") for part in parts if "keys" in part), default=1)
    batch = max((_whole(part, "batch_size") for part in (config, *parts)), default=1)
    return patch, samples * batch


def _sides(part: ConfigValue, key: str) -> tuple[int, ...] | None:
    sides = part.get(key) if isinstance(part, dict) else None
    if not isinstance(sides, list):
        return None
    return tuple(side for side in sides if isinstance(side, int))


def _whole(part: ConfigValue, key: str) -> int:
    number = part.get(key) if isinstance(part, dict) else None
    return number if isinstance(number, int) else 1


def _short(count: int) -> str:
    return f"{count / 1e9:.3g} thousand million" if count >= 1e9 else f"{count / 1e6:.3g} million"

"""What a network would cost, found without any memory: it is run once on torch's meta device, which has no voxels."""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from volseg.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch.nn import Module

TRAINING_COPIES = 5
"""Of the weights: themselves, their gradients, two of Adam's and the average."""
GPU_SHARE = 0.75
"""Of what a forward pass keeps in float32, that a step on a GPU takes in bfloat16; unmeasured, so a step is tried there."""
BFLOAT16_SHARE = 1.25
"""Of what a forward pass keeps in float32, that a whole step on a processor takes in bfloat16: half for what is kept, the rest for
gradients and for what convolutions need; measured 1.0 to 1.2 (tests/test_networks_cost.py)."""
FLOAT32_SHARE = 2.5
"""And in float32; measured up to 2.4."""
LOSS_COPIES = 7
"""Of the output in float32, that a loss takes at most: probabilities, one-hot labels, products and gradients; measured
for Dice with cross-entropy."""


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

    def step_bytes(self, output_bytes: int, share: float) -> int:
        """About what a step of training takes at its peak: on a processor from 0.75 to 1.8 times of what was measured.

        Args:
            output_bytes: of the finest output, in float32; a loss makes several of its size.
            share: one of those above.
        """
        return int(TRAINING_COPIES * self.weight_bytes + share * self.kept_bytes + LOSS_COPIES * output_bytes)


class _Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are alive, each storage once.

    Args:
        known: what isn't counted.
        blocked: whether what convolutions hold on a processor counts: their input and output once more, with channels in blocks.
    """

    def __init__(self, known: Sequence[torch.Tensor], *, blocked: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._blocked = blocked
        self._known = {tensor.untyped_storage()._cdata for tensor in known}

    def _dispatch(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        if self._blocked and func is torch.ops.aten.convolution.default:
            self.peak = max(self.peak, self.now + _blocked_bytes(args[0]) + _blocked_bytes(result))
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


# Not in the class, where torch would have it import torch.compile's machinery, which takes a second and more.
_Living.__torch_dispatch__ = _Living._dispatch  # type: ignore[method-assign, assignment]


DRAWING = frozenset(
    {"normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_uniform_", "xavier_normal_"}
)
"""What fills a tensor with random numbers, and gives it back."""
CHANNEL_BLOCK = 16
"""oneDNN's, with AVX-512: channels in memory are a multiple of it."""


def _blocked_bytes(tensor: torch.Tensor) -> int:
    """Of a copy of a tensor (batch, channel, ...) with its channels in blocks; few are not blocked."""
    channels = tensor.shape[1]
    more = -channels % CHANNEL_BLOCK if channels > CHANNEL_BLOCK // 4 else 0
    return tensor.element_size() * tensor.numel() // channels * (channels + more)


SHORT_SERIES = 10_000
"""Numbers of a series that a network may make and read while it is built, such as the rates of its layers."""


class _ReadableSeries(TorchFunctionMode):
    """Makes short series of numbers on the processor, for on the meta device no number can be read.

    Nor is any drawn there, for which torch would import torch.compile's machinery.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if getattr(func, "__name__", "") in DRAWING and args and getattr(args[0], "is_meta", False):
            return args[0]
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
        weight_bytes=weight_bytes_of(network),
        inference_bytes=inference,
        kept_bytes=kept,
        multiplications=counted.get_total_flops() / 2,
    )


@dataclass(frozen=True)
class WindowCost:
    """What one window costs where nothing is learnt.

    Args:
        classes: channels of the output.
        peak_bytes: what lives at once at most beside the weights, in float32 and without ``head``; the input counts, and
            what convolutions hold on a processor.
        head: the name of the layer that gives the output, where all that it does is to mix the channels of each voxel, and it
            takes fewer than it gives. It is linear: what is averaged over windows may be what it takes, which is less.
        features: the channels that it takes; ``classes`` where there is none.
    """

    classes: int
    peak_bytes: int
    head: str | None
    features: int


_KNOWN: weakref.WeakKeyDictionary[Module, dict[tuple[int, ...], WindowCost]] = weakref.WeakKeyDictionary()


def window_cost(network: Module, channels: int, patch: Sequence[int]) -> WindowCost:
    """What one window costs where nothing is learnt.

    It is found on a copy without weights, so the network may be at work meanwhile, and kept as long as the network.

    Args:
        network: in evaluation mode.
        channels: of the image.
        patch: voxels (i, j, k) of the window.

    Raises:
        BundleError: it takes no such input, decides by values, or gives no single tensor; code ``cannot-run``.
    """
    known, shape = _KNOWN.setdefault(network, {}), (channels, *patch)
    if shape not in known:
        try:
            with torch.inference_mode(False), torch.no_grad():  # tensors of an inference have no versions
                known[shape] = _window_cost(_copy_on_meta(network), shape)
        except Exception as error:  # a third party's network may raise any
            raise BundleError(
                f"The network takes no input of {channels} channels and {tuple(patch)} voxels.", code="cannot-run"
            ) from error
    return known[shape]


def _window_cost(network: Module, shape: tuple[int, ...]) -> WindowCost:
    """Of a network on the meta device, which is changed."""
    weights = [*network.parameters(), *network.buffers()]
    calls: list[tuple[str, torch.Tensor, int]] = []
    for name, layer in network.named_modules():
        if _mixes_channels(layer):
            layer.register_forward_hook(lambda _, __, found, name=name: calls.append((name, found, found._version)))
    output = network(torch.empty((1, *shape), device="meta"))
    classes = int(output.shape[1])
    # What was changed in place after its layer gave it has another version.
    named = [name for name, found, version in calls if found is output and found._version == version]
    head = named[0] if named and [name for name, *_ in calls].count(named[0]) == 1 else None
    features = classes if head is None else network.get_submodule(head).get_parameter("weight").shape[1]
    if features < classes and head:
        network.get_submodule(head).forward = _same
    else:
        head, features = None, classes
    del output
    calls.clear()
    return WindowCost(classes, _live(network, weights, (1, *shape), blocked=True)[1], head, features)


def _mixes_channels(layer: Module) -> bool:
    """Whether all that a layer does is to mix the channels of each voxel."""
    ones, zeros = (1, 1, 1), (0, 0, 0)
    return (
        type(layer) is torch.nn.Conv3d
        and (layer.kernel_size, layer.stride, layer.padding, layer.groups) == (ones, ones, zeros, 1)
        and not layer._forward_pre_hooks
        and not layer._forward_hooks
        and "forward" not in vars(layer)
    )


@contextmanager
def left_out(layers: Iterable[Module]) -> Iterator[None]:
    """Let layers give what they take."""
    changed = list(layers)
    for layer in changed:
        layer.forward = _same
    try:
        yield
    finally:
        for layer in changed:
            del layer.forward


def _same(given: torch.Tensor) -> torch.Tensor:
    return given


def _copy_on_meta(network: Module) -> Module:
    """A copy whose weights have no content, and that nobody watches."""
    held = [*network.parameters(), *network.buffers()]
    empty = {
        id(tensor): torch.nn.Parameter(torch.empty_like(tensor, device="meta"), requires_grad=False)
        if isinstance(tensor, torch.nn.Parameter)
        else torch.empty_like(tensor, device="meta")
        for tensor in held
    }
    copy = deepcopy(network, empty)
    copy._forward_hooks.clear()
    return copy


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


def _live(
    network: Module, weights: Sequence[torch.Tensor], shape: tuple[int, ...], *, blocked: bool = False
) -> tuple[int, int]:
    """The bytes alive after a forward pass, and the most during it; see ``_Living``."""
    image = torch.empty(shape, device="meta")
    with _Living(weights, blocked=blocked) as living:
        living.add(image)
        output = network(image)
        now = living.now
        del output
    return now, living.peak


def weight_bytes_of(network: Module) -> int:
    """Of parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*network.parameters(), *network.buffers()))

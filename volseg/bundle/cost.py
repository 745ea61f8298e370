"""Whether a machine can hold a bundle's network, and run or train it, asked before it is built."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from volseg.bundle.folder import walk
from volseg.bundle.metadata import at
from volseg.device import memory_lacking
from volseg.errors import BundleError
from volseg.networks.cost import TRAINING_COPIES, NetworkCost, cost_of, weight_bytes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch.nn import Module

    from volseg.planning.component import ConfigValue

CLASS_KEYS = ("to_onehot", "num_classes")
TO_REGIONS = "volseg.training.LabelsToRegionsd"
PATCH_KEYS = ("spatial_size", "roi_size")
CUT_LARGER = "volseg.training.RandMarginCropd"
CUTS_OFF = "volseg.training.RandSpatiald"
VOLUME = (512, 512, 512)
"""A large volume (voxels), that windows are counted on."""
MAX_MULTIPLICATIONS = 1e18
"""Over such a volume: a day of a large GPU, or a year of a processor. nnU-Net's largest need a thousandth."""
REMEMBERED = 64

_known: dict[tuple[object, ...], Any] = {}
"""What was found of networks, by how configs describe them: those of all folds are described alike, and to run one on
the meta device takes as long as to train a small one for some steps."""


def _once(text: str, question: Callable[..., Any], network: Callable[[], Module | None], *arguments: object) -> Any:
    """What a question about the network of a description has as its answer; None where no network can be made."""
    key = (text, question, *arguments)
    known = {} if any(mark in text for mark in "@$%") else _known  # what it refers to stands elsewhere
    if key in known:
        return known[key]
    made = network()
    if made is None:
        return None  # and none is remembered: of another config the same may become a network
    if len(known) >= REMEMBERED:
        known.pop(next(iter(known)), None)
    found = known[key] = question(made, *arguments)
    return found


def require_affordable(
    sketch: Callable[[], Module | None], config: ConfigValue, path: Path, device: str, *, training: bool
) -> None:
    """Refuse a network that the machine can't hold, or that would compute for years, before it is built.

    For configs within the vocabulary, whose networks can be built without memory; nobody has looked at their numbers.

    Args:
        sketch: makes the network of ``network_def``, on the meta device; None where that is none.
        config: what it is of.
        path: where that lies.
        device: where the network is to be; ``cpu`` or one of ``cuda``.
        training: whether the network is to be trained as ``train#trainer`` says.

    Raises:
        BundleError: it is too large, with the code ``too-large``, or doesn't take its own windows.
    """
    text, network = repr(at(config, "network_def")), cache(sketch)
    weights = _once(text, _weights, network)
    if weights is None:
        return
    count, size = weights

    def refuse(need: int, why: str) -> None:
        lacking = memory_lacking(need, device)
        if lacking:
            raise BundleError(
                f"{path}: network_def has {_short(count)} parameters{why}, which {lacking}. Make the network or what "
                "it is given smaller.",
                code="too-large",
                path=path,
            )

    refuse(size, "")
    _require_own_classes(config, path)
    channels = at(config, "network_def", "in_channels")
    window, batch = _training_patch(config) if training else _window(at(config, "inferer"))
    if window is None or not isinstance(channels, int):
        return
    cost: NetworkCost | None = _once(text, _cost, network, batch, channels, window, training)
    if cost is None:
        return
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


def _weights(network: Module) -> tuple[int, int]:
    """How many weights a network has, and their bytes."""
    return sum(tensor.numel() for tensor in network.parameters()), weight_bytes_of(network)


def _cost(network: Module, batch: int, channels: int, window: tuple[int, ...], training: bool) -> NetworkCost:
    return cost_of(network, batch, channels, window, training=training)


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
    nodes = dict(walk(at(config, "train")))
    parts = [node for node in nodes.values() if isinstance(node, dict)]
    found = [
        _without_margin(part, sides, _later(nodes, place))
        for place, part in nodes.items()
        for key in PATCH_KEYS
        if isinstance(part, dict) and (sides := _sides(part, key))
    ]
    patch = max(found, key=math.prod, default=None)
    # A sampler's are no patches.
    samples = max((_whole(part, "num_samples") for part in parts if "keys" in part), default=1)
    batch = max((_whole(part, "batch_size") for part in (config, *parts)), default=1)
    return patch, samples * batch


def _later(nodes: Mapping[tuple[str, ...], ConfigValue], place: tuple[str, ...]) -> list[ConfigValue]:
    """The steps that follow one in its own list."""
    steps = nodes.get(place[:-1]) if place else None
    return steps[int(place[-1]) + 1 :] if isinstance(steps, list) else []


def _without_margin(part: dict[str, ConfigValue], sides: tuple[int, ...], later: list[ConfigValue]) -> tuple[int, ...]:
    """What a network sees of a patch that is cut larger for a rotation, where a later step cuts that margin off again."""
    margin = _sides(part, "margin") if part.get("_target_") == CUT_LARGER else None
    if margin is None or len(margin) != len(sides):
        return sides
    cuts = (step for step in later if isinstance(step, dict) and step.get("_target_") == CUTS_OFF)
    if not any(step.get("margin") == part["margin"] and _keys(step) >= _keys(part) for step in cuts):
        return sides
    return tuple(max(1, side - 2 * more) for side, more in zip(sides, margin, strict=True))


def _keys(part: dict[str, ConfigValue]) -> set[str]:
    keys = part.get("keys")
    return {str(key) for key in keys} if isinstance(keys, list) else {str(keys)}


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

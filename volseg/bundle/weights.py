"""The weights that inference loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.bundle.parser import BundleParser, load_weights
from volseg.errors import BundleError
from volseg.finite import is_readable, not_finite
from volseg.words import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor
    from torch.nn import Module

    from volseg.bundle.folder import Bundle

NESTED = ("model", "net", "network")
"""What configs call the network among the things that they save."""
REPEATED_BYTES = 2**20
"""A small tensor may repeat its numbers without taking their memory, as networks' tables of positions do."""
SHOWN_CHARACTERS = 200


def read_state_dict(path: Path, nested: Sequence[str] = NESTED) -> dict[str, Tensor]:
    """Read a state dict, flat or as MONAI's ``CheckpointSaver`` nests it (``{"model": ...}``).

    Args:
        path: the file.
        nested: under which of these names the network may lie, the best first.

    Raises:
        BundleError: there are no weights, the file is damaged or holds something else, or a weight is not finite.
    """
    import torch

    state = load_weights(path)
    below = [state[key] for key in nested if isinstance(state.get(key), dict)] if isinstance(state, dict) else []
    state = below[0] if below else state
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) and _is_plain(tensor)
        for name, tensor in state.items()
    ):
        raise BundleError(
            f"{path} holds no weights of a network by their names. Train the bundle or get its weights anew.",
            code="bad-weights",
            path=path,
        )
    require_finite(state, path)
    return dict(state)


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor takes the memory that its numbers need: a stranger's may repeat one a trillion times."""
    return is_readable(tensor) and tensor.numel() * tensor.element_size() <= max(
        tensor.untyped_storage().nbytes(), REPEATED_BYTES
    )


def require_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that hold NaN or infinity: the network would give one label everywhere.

    Args:
        weights: by their names.
        path: the file that they are from or would go to.

    Raises:
        BundleError: one is not finite, with the code ``not-finite``.
    """
    bad = not_finite(weights)
    if bad is not None:
        raise BundleError(
            f"{path}: the weight {printable(bad[:SHOWN_CHARACTERS])} has numbers that are not finite (NaN or "
            "infinity), so no mask made with it would mean anything. Get the weights anew, or train the bundle again.",
            code="not-finite",
            path=path,
        )


def misfit(network: Module, state: Mapping[str, Tensor]) -> str | None:
    """The first way in which weights don't fit a network, in a few words; None where all that it needs is there.

    Weights that the network lacks don't count: heads of deep supervision are in a training checkpoint alone.
    """
    needed: Mapping[str, Tensor] = network.state_dict()
    missing = [name for name in needed if name not in state]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return f"{missing[0]}{others} of its {len(needed)} weights are missing"
    for name, tensor in needed.items():
        if state[name].shape != tensor.shape:
            return f"{name} has the shape {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        if state[name].is_complex() or (tensor.is_floating_point() and not state[name].is_floating_point()):
            # Quantised without their scales, for one: torch would take them for the weights themselves.
            return f"{name} has numbers of type {_type(state[name])} instead of {_type(tensor)}"
    return None


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def inference_network(bundle: Bundle) -> Module | None:
    """The network of inference with random weights; None where the bundle doesn't describe it by itself.

    Raises:
        TrustError, BundleError: the bundle may not run, or its network can't be built.
    """
    from torch.nn import Module

    if bundle.find_config("inference") is None:
        return None
    parser = BundleParser(bundle, "inference", {})
    if not parser.has("network_def"):
        return None
    network = parser.build("network_def")
    return network if isinstance(network, Module) else None


def require_fit(bundle: Bundle, network: Module | None, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that lack something of what inference needs, before a training that would make them.

    Raises:
        BundleError: they are another network's.
    """
    wrong = None if network is None else misfit(network, weights)
    if wrong is not None:
        raise BundleError(
            f"{bundle.root}: what training makes doesn't fit the network of the inference config: {wrong}. "
            "Describe the same network in both configs.",
            code="networks-differ",
            path=bundle.root,
        )


def load_into(network: Module, weights: Path) -> Module:
    """Load a state dict into a network, every weight in its place.

    Raises:
        BundleError: there are no weights, they are damaged or not finite, or they are another network's.
    """
    state = read_state_dict(weights)
    try:
        wrong = misfit(network, state)
    except AttributeError as error:
        raise BundleError("network_def in the bundle's inference config is no network.", code="cannot-build") from error
    if wrong is not None:
        raise BundleError(
            f"{weights} holds the weights of another network than the one in the bundle's inference config: {wrong}.",
            code="weights-differ",
        )
    network.load_state_dict({name: state[name] for name in network.state_dict()}, strict=True)
    require_finite(network.state_dict(), weights)  # numbers of 64 bits may have become infinite
    return network

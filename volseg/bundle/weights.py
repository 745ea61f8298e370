"""The weights that inference loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.atomic import atomic_path
from volseg.bundle.parser import BundleParser, load_weights
from volseg.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    from torch.nn import Module

    from volseg.bundle.folder import Bundle


def publish(weights: Path, bundle: Bundle) -> None:
    """Write ``models/model.pt`` from a training checkpoint, atomically.

    The network of inference may lack heads that only training needs (deep supervision); theirs are left out. A weight
    that inference needs and the checkpoint lacks is an error, never a silent default.

    Raises:
        TrustError, BundleError: the bundle may not run, or the weights don't fit its inference network.
        FileError: the file can't be written.
    """
    import torch

    from volseg.bundle.lint import has_config

    state = load_weights(weights)
    if has_config(bundle, "inference"):
        network: Module = BundleParser(bundle, "inference", {}).build("network_def")
        names = set(network.state_dict())
        missing = sorted(names - set(state))
        if missing:
            raise BundleError(
                f"{bundle.root}: the network in inference.yaml needs {missing[0]} and {len(missing) - 1} more weights "
                "that training did not make. Describe the same network in train.yaml and inference.yaml.",
                code="networks-differ",
            )
        state = {name: tensor for name, tensor in state.items() if name in names}
    with atomic_path(bundle.model_path) as partial:
        torch.save(state, partial)


def load_into(network: Module, weights: Path) -> Module:
    """Load a state dict into a network, every weight in its place.

    Raises:
        BundleError: there are no weights, they are damaged, or they are another network's.
    """
    state = load_weights(weights)
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]  # as MONAI's CheckpointSaver nests it when told to
    names = set(network.state_dict())
    try:
        network.load_state_dict({name: tensor for name, tensor in state.items() if name in names}, strict=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise BundleError(
            f"{weights} holds the weights of another network than the one in the bundle's inference config.",
            code="weights-differ",
        ) from error
    return network

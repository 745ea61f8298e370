"""What a config that is run step by step needs around its steps: checks of what they give, and progress."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscrete, AsDiscreted

from volseg.errors import BundleError
from volseg.finite import all_finite
from volseg.inference.outcome import NOT_FINITE
from volseg.inference.room import require_room_for_classes, window_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def to_probabilities(logits: torch.Tensor, how: Literal["softmax", "sigmoid"]) -> None:
    """Turn logits (channel, i, j, k) into probabilities in their place, slice by slice: no second volume is needed."""
    for part in plain(logits).unbind(dim=1):
        part.copy_(part.softmax(dim=0) if how == "softmax" else part.sigmoid())


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor, without what MONAI keeps beside them."""
    plain: torch.Tensor = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    return plain


def between_labels(item: dict[str, Any]) -> int | None:
    """How many voxels of a mask are between two labels; None where the item has classes and no mask yet."""
    mask = item.get("pred")
    if not isinstance(mask, torch.Tensor) or len(mask) != 1:
        return None
    return fractions(mask)


def fractions(mask: torch.Tensor) -> int:
    """How many voxels are no whole numbers."""
    return int((mask != mask.round()).sum()) if mask.is_floating_point() else 0


@contextmanager
def finite_outputs(network: torch.nn.Module) -> Iterator[None]:
    """Refuse, once a case is through, what a network gave that is not finite: it would become one label everywhere.

    Each output is looked at as it comes, since an inferer may choose the likeliest label itself.

    Raises:
        BundleError: with the code ``not-finite``.
    """
    found: list[torch.Tensor] = []

    def note(_: torch.nn.Module, __: object, output: object) -> None:
        parts = (
            output.values() if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else [output]
        )
        found.extend(all_finite(one) for one in parts if isinstance(one, torch.Tensor))

    hook = network.register_forward_hook(note)
    try:
        yield
    finally:
        hook.remove()
    if found and not bool(torch.stack(found).all()):
        raise BundleError(f"The network's output is {NOT_FINITE}", code="not-finite")


def require_finite(item: dict[str, Any], step: object) -> None:
    """Refuse classes that are not finite before a step that may choose among them.

    Raises:
        BundleError: with the code ``not-finite``.
    """
    classes = item.get("pred")
    if not isinstance(classes, torch.Tensor) or not classes.is_floating_point():
        return
    chooses = isinstance(step, (AsDiscrete, AsDiscreted)) or len(classes) > 1  # of one channel, NaN may be a mark
    if chooses and not bool(all_finite(classes)):
        raise BundleError(f"What the bundle makes of the network's output is {NOT_FINITE}", code="not-finite")


def told_of(
    network: torch.nn.Module, inferer: Any, shape: Sequence[int], advance: Callable[[float], object], kept: int = 0
) -> Callable[..., Any]:
    """The network, telling how much of a sliding window's places it has seen, where these can be counted.

    Raises:
        InputError: there are too many places, or no room for what the network gives.
    """
    places = window_count(inferer, shape)

    def call(patches: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        result = network(patches, *args, **kwargs)
        if places is not None:
            if isinstance(result, torch.Tensor):
                device = str(getattr(inferer, "device", None) or result.device)
                require_room_for_classes(result.shape[1], shape, device, kept)
            advance(len(patches) / places)
        return result

    return call

"""Whether tensors hold finite numbers: one that does not ends as a label that looks like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def all_finite(tensor: Tensor) -> Tensor:
    """Whether a tensor holds neither NaN nor infinity, as one truth value on its own device, which nobody waits for.

    The least and the greatest number tell it in one pass without memory: NaN goes before both.
    """
    import torch

    if not tensor.numel() or not tensor.is_floating_point():
        return torch.isfinite(tensor).all()
    low, high = torch.aminmax(tensor)
    return torch.isfinite(low) & torch.isfinite(high)


def is_readable(tensor: Tensor) -> bool:
    """Whether a tensor holds its numbers one by one, in a type that is computed with.

    A stranger's may have no numbers at all (on the meta device), be nested, sparse or quantised, or of 8 bits or fewer.
    """
    import torch

    tiny = tensor.is_floating_point() and tensor.element_size() < 2
    return tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_nested or tensor.is_quantized or tiny)


def not_finite(tensors: Mapping[str, Any]) -> str | None:
    """The first tensor, by its name, that has a number which is not finite; None where all are.

    One that is not readable counts as such. What is no tensor counts for nothing; tensors in mappings below are named by their path, ``state.0.exp_avg``.

    Args:
        tensors: a state dict.
    """
    import torch

    for name, value in tensors.items():
        if isinstance(value, dict):
            below = not_finite(value)
            if below is not None:
                return f"{name}.{below}"
        elif isinstance(value, torch.Tensor) and not (is_readable(value) and bool(all_finite(value))):
            return str(name)
    return None

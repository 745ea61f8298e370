"""Mixed precision: bfloat16 autocast where the hardware computes it natively."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from monai.inferers import Inferer, SimpleInferer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CPU_FEATURES = ("avx512_bf16", "amx_bf16")
"""Without one of these, bfloat16 on a CPU is emulated and slower than float32."""


@cache
def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 natively."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return any(feature in flags for feature in CPU_FEATURES)


def use_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 autocast pays on a device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and cpu_has_bfloat16()


class AutocastInferer(Inferer):  # type: ignore[misc]
    """Run another inferer under bfloat16 autocast where that pays, and give float32 back.

    bfloat16 has float32's range, so no loss scaling is needed. A network with deep supervision gives its heads as a
    list or stacked on a second axis (MONAI's DynUNet); they come back as a list, the finest first.

    Args:
        inferer: what runs the network; one pass over the whole input by default.
        anywhere: whether bfloat16 is used on every device, and not only where it pays.
    """

    def __init__(self, inferer: Inferer | None = None, *, anywhere: bool = False) -> None:
        super().__init__()
        self.inferer = inferer if inferer is not None else SimpleInferer()
        self.anywhere = anywhere

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | list[torch.Tensor]:
        """Logits (batch, class, i, j, k) in float32, or one such for each head."""
        enabled = self.anywhere or use_bfloat16(inputs.device)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=enabled):
            given: torch.Tensor | Sequence[torch.Tensor] = self.inferer(inputs, network, *args, **kwargs)
        if isinstance(given, torch.Tensor) and given.ndim == inputs.ndim:
            return given.float()
        heads = given.unbind(1) if isinstance(given, torch.Tensor) else given
        return [head.float() for head in heads]

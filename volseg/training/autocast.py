"""Mixed precision: bfloat16 autocast where the hardware computes it natively."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from monai.inferers import Inferer, SimpleInferer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CPU_FEATURES = ("avx512_bf16", "amx_bf16")
"""Without one of these, bfloat16 on a CPU is emulated and slower than float32."""
SLIM_CHANNELS = 16
"""With fewer channels in and out a convolution's gradient in bfloat16 takes a CPU five times as long (oneDNN 3.12 with
AVX512-BF16, 0.14 seconds of one core for 3 channels of 2 x 56 x 112 x 64), unless the channels lie last in memory (0.03);
with two threads on a busy machine 2.4 and 0.08, for they wait for each other often."""
CONVOLUTIONS = (torch.nn.Conv3d, torch.nn.ConvTranspose3d)


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
        sound = sound_gradients(network) if enabled and inputs.device.type == "cpu" else nullcontext()
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=enabled), sound:
            given: torch.Tensor | Sequence[torch.Tensor] = self.inferer(inputs, network, *args, **kwargs)
        if isinstance(given, torch.Tensor) and given.ndim == inputs.ndim:
            return given.float()
        heads = given.unbind(1) if isinstance(given, torch.Tensor) else given
        return [head.float() for head in heads]


@contextmanager
def sound_gradients(network: object) -> Iterator[None]:
    """Have the convolutions of a network compute, as far as needed, otherwise than autocast on a processor lets them.

    Those with a kernel longer than what they get, or give where they are transposed, along any axis, go through float32:
    oneDNN 3.12 makes their gradient in bfloat16 out of memory that it never wrote (``scripts/fuzz/gradients`` shows it).
    Those with few channels get these laid last in memory, see ``SLIM_CHANNELS``. Where nothing learns, nothing is changed.
    """
    changed: list[tuple[torch.nn.Module, Any]] = []
    try:
        for one in network.modules() if isinstance(network, torch.nn.Module) and torch.is_grad_enabled() else ():
            own = vars(one).get("forward")  # that somebody gave this one instead of its class's
            if isinstance(one, CONVOLUTIONS) and max(one.kernel_size) > 1 and not _is_sound(own):
                one.forward = partial(_forward, one, one.forward)  # type: ignore[method-assign]
                changed.append((one, own))
        yield
    finally:
        for one, own in changed:
            vars(one).pop("forward", None)
            if own is not None:
                one.forward = own


def _is_sound(forward: object) -> bool:
    return isinstance(forward, partial) and forward.func is _forward


def _forward(
    convolution: torch.nn.Conv3d | torch.nn.ConvTranspose3d, plain: Callable[..., Any], *given: Any, **named: Any
) -> Any:
    """What a convolution gives.

    Args:
        convolution: or a child of it, which may take and give what it likes.
        plain: what it does otherwise.
        given: its image, (batch, channel, i, j, k), and what else it takes.
        named: the same.
    """
    if not given and "input" in named:  # as the image is called
        given = (named.pop("input"),)
    image, *others = given or (None,)
    if not isinstance(image, torch.Tensor) or image.ndim < 4:
        return plain(*given, **named)
    kernel = zip(convolution.kernel_size, convolution.dilation, _gone_over(convolution, image), strict=True)
    if any((length - 1) * dilation >= voxels for length, dilation, voxels in kernel):
        with torch.autocast(image.device.type, enabled=False):
            return plain(image.to(next(convolution.parameters()).dtype), *others, **named)
    slim = max(convolution.in_channels, convolution.out_channels) < SLIM_CHANNELS
    if slim and image.ndim == 5 and isinstance(convolution, torch.nn.Conv3d):
        found = plain(image.contiguous(memory_format=torch.channels_last_3d), *others, **named)
        return found.contiguous() if isinstance(found, torch.Tensor) else found
    return plain(*given, **named)


def _gone_over(convolution: torch.nn.Conv3d | torch.nn.ConvTranspose3d, image: torch.Tensor) -> tuple[int, ...]:
    """The voxels that a kernel goes over along each axis: of what a transposed convolution gives, else of what it gets."""
    sides = tuple(image.shape[-3:])
    if isinstance(convolution, torch.nn.Conv3d):
        return sides
    at = convolution.stride, convolution.kernel_size, convolution.dilation, convolution.output_padding
    return tuple(
        (side - 1) * stride + (length - 1) * dilation + 1 + more - 2 * int(padding)
        for side, stride, length, dilation, more, padding in zip(sides, *at, convolution.padding, strict=True)
    )

"""Which device to compute on."""

from __future__ import annotations

from volseg.errors import UsageError


def choose_device(asked: str | None) -> str:
    """``cpu`` or ``cuda``; a GPU where there is one unless asked otherwise.

    Raises:
        UsageError: cuda was asked for and there is none, or something else than these two.
    """
    import torch

    if asked not in (None, "cpu", "cuda"):
        raise UsageError(f"--device {asked}: volseg computes on cpu or cuda.")
    if asked == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: this machine has no GPU that torch can use. Leave --device out, or say cpu.")
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")

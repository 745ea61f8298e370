"""How intensities are brought to about zero mean and unit spread."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from volseg.dataset.dataset import modality_of
from volseg.planning.component import Component, component

if TYPE_CHECKING:
    from volseg.planning.fingerprint import Fingerprint

PERCENTILES = (0.5, 99.5)
"""CT is clipped to these percentiles of the foreground."""
MASKED_SHARE = 0.25
"""An image with more zeros than this was masked, so only what is not 0 is normalised."""
UNCALIBRATED = re.compile(r"CBCT.*", re.IGNORECASE)
"""CT's numbers mean the same everywhere; the grey values of cone-beam CT are not calibrated."""


@dataclass(frozen=True)
class Normalisation:
    """How one channel is normalised.

    ``percentiles`` clips to [low, high] and then takes ``mean`` off and divides by ``std``, all measured inside the
    foreground of the whole data set; ``z-score`` uses each image's own mean and spread, over what is not 0 where
    ``nonzero`` says so.
    """

    kind: Literal["percentiles", "z-score"]
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    nonzero: bool = False

    @property
    def words(self) -> str:
        """What is done."""
        if self.kind == "percentiles":
            return f"clipped to {self.low:.4g} .. {self.high:.4g}, mean {self.mean:.4g}, spread {self.std:.4g}"
        return "z-score" + (" over what is not 0" if self.nonzero else "")

    @property
    def reason(self) -> str:
        """Why."""
        if self.kind == "percentiles":
            return f"CT numbers mean the same everywhere: percentiles {PERCENTILES} of the foreground"
        return "intensities have no fixed scale" + (", and the background was masked to 0" if self.nonzero else "")


def choose_normalisations(fingerprint: Fingerprint) -> tuple[Normalisation, ...]:
    """One rule for each channel: percentiles where all are calibrated CT."""
    is_ct = all(modality_of(name) == "CT" and not UNCALIBRATED.fullmatch(name.strip()) for name in fingerprint.channels)
    channels = range(len(fingerprint.channels))
    if is_ct:
        return tuple(_percentiles(fingerprint.foreground(channel)) for channel in channels)
    return tuple(
        Normalisation("z-score", nonzero=fingerprint.zero_share(channel) > MASKED_SHARE) for channel in channels
    )


def _percentiles(values: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Normalisation:
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    if not high > low:
        low, high = float(values.min()) - 1.0, float(values.max()) + 1.0
    clipped = np.clip(values, low, high)
    spread = float(clipped.std())
    return Normalisation("percentiles", low, high, float(clipped.mean()), spread if spread > 0 else 1.0)


def normalising_components(chosen: tuple[Normalisation, ...]) -> list[Component]:
    """The transforms for all channels of ``image``."""
    if all(one.kind == "percentiles" for one in chosen):
        low, high = min(one.low for one in chosen), max(one.high for one in chosen)
        return [
            component(
                "monai.transforms.ScaleIntensityRanged", keys="image", a_min=low, a_max=high, b_min=low, b_max=high,
                clip=True,
            ),
            component(
                "monai.transforms.NormalizeIntensityd", keys="image", subtrahend=[one.mean for one in chosen],
                divisor=[one.std for one in chosen], channel_wise=True,
            ),
        ]  # fmt: skip
    # Channels of different kinds get the one rule that needs no scale.
    nonzero = any(one.nonzero for one in chosen)
    return [component("monai.transforms.NormalizeIntensityd", keys="image", nonzero=nonzero, channel_wise=True)]

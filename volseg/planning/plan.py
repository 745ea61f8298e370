"""What to train: chosen from a fingerprint, each choice with its reason.

The rules for spacing, patch and depth follow nnU-Net's (Isensee et al., Nature Methods 18, 2021, supplement), bounded
by what the preset may cost.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from volseg.dataset.dataset import modality_of
from volseg.errors import UsageError

if TYPE_CHECKING:
    from volseg.labels import LabelTable
    from volseg.planning.fingerprint import Fingerprint

Preset = Literal["fast", "full"]

ANISOTROPY = 3.0
"""A data set is anisotropic when its thickest spacing is more than this times its finest (nnU-Net)."""
SINGLE_PIECE_CASES = 0.98
"""A label is kept to its largest piece when it is one piece in at least this share of the training cases."""
SINGLE_PIECE_LEAST = 5
"""And only when so many cases have it: two or three say little about where its pieces may lie."""
MASKED_SHARE = 0.25
"""An image with more zeros than this was masked, so only what is not 0 is normalised."""
MIN_BOTTLENECK = 4
"""No axis is halved below this many voxels."""
MIN_LEVELS = 3
"""MONAI's DynUNet takes no fewer."""
SMALLEST_LABEL_VOXELS = 64
"""A label coarser than 4x4x4 voxels can't be learned, whatever the preset would save."""
LOGITS_GIB = 6.0
"""Logits on the image's own grid give smoother edges than labels do, and are brought back to it up to this size."""
PERCENTILES = (0.5, 99.5)
"""CT is clipped to these percentiles of the foreground."""
UNCALIBRATED = re.compile(r"CBCT.*", re.IGNORECASE)
"""CT's numbers mean the same everywhere; the grey values of cone-beam CT are not calibrated."""
SPACING_DIGITS = 5
"""Significant ones: 0.001 % of a voxel, also where voxels are micrometres."""


@dataclass(frozen=True)
class Budget:
    """What a preset may cost."""

    volume_voxels: float
    """The median volume is resampled coarser above this."""
    patch_voxels: int
    fine_patch_voxels: int
    """Up to this patch the network convolves at full resolution; above it, it halves at its first convolution."""
    batch_voxels: int
    max_batch: int
    features: int
    max_features: int
    max_levels: int
    steps_per_epoch: int
    max_epochs: int
    learning_rate: float


BUDGETS: dict[Preset, Budget] = {
    # Minutes on two cores.
    "fast": Budget(4e6, 96**3, 100_000, 400_000, 8, 16, 256, 5, 50, 100, 2e-3),
    # nnU-Net's topology and length: 1000 epochs of 250 steps, patches of about 128^3, batch 2, up to 320 features.
    "full": Budget(math.inf, 128**3, 128**3, 2 * 128**3, 8, 32, 320, 6, 250, 1000, 1e-2),
}


@dataclass(frozen=True)
class Normalisation:
    """How one channel's intensities are brought to about zero mean and unit spread.

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


@dataclass(frozen=True)
class Network:
    """Topology: features and strides of each level; the kernel is 3 except across slices that lie far apart."""

    features: tuple[int, ...]
    strides: tuple[tuple[int, int, int], ...]
    """From each level to the next, one fewer than levels."""
    kernels: tuple[tuple[int, int, int], ...]
    full_resolution: bool = True
    """Whether the first level works on every voxel. Small structures need it; it costs three times as much."""


@dataclass(frozen=True)
class Plan:
    """All that a bundle is written from."""

    preset: Preset
    name: str
    labels: LabelTable
    channels: tuple[str, ...]
    spacing_mm: tuple[float, float, float]
    patch: tuple[int, int, int]
    batch: int
    network: Network
    normalisations: tuple[Normalisation, ...]
    keep_largest: tuple[int, ...]
    steps_per_epoch: int
    max_epochs: int
    learning_rate: float
    whole_volumes: bool
    """Whether every training volume fits the patch, so that nothing is cropped."""
    channels_in_one_file: bool
    """Whether several channels lie on the fourth axis of one file, as in MSD."""
    cached_gib: float
    """Memory that the preprocessed training cases take."""
    reasons: tuple[tuple[str, str], ...]
    """What was chosen and why, in words for a person: (choice, reason)."""
    warnings: tuple[str, ...]
    training_cases: int
    logits_inverted: bool = True
    """Whether inference brings the network's logits back to the image's grid, and not only the labels."""


def choose(
    fingerprint: Fingerprint,
    labels: LabelTable,
    name: str,
    *,
    preset: Preset = "fast",
    spacing_mm: tuple[float, float, float] | None = None,
) -> Plan:
    """Choose a plan; ``spacing_mm`` (R, A, S) overrides the target spacing.

    Raises:
        UsageError: a spacing that was asked for is not positive.
    """
    budget = BUDGETS[preset]
    reasons: list[tuple[str, str]] = []
    if spacing_mm is None:
        spacing_mm, why = _spacing(fingerprint, labels, budget)
    elif all(step > 0 and math.isfinite(step) for step in spacing_mm):
        why = "asked for"
    else:
        raise UsageError(f"The spacing must be above 0 mm, not {_by(spacing_mm)}.")
    reasons.append((f"spacing {_by(spacing_mm)} mm (R, A, S)", why))

    shapes = fingerprint.shapes_at(spacing_mm)
    patch, strides, kernels, why = _patch(shapes, spacing_mm, budget)
    whole = bool((shapes <= np.array(patch)).all())
    reasons.append((f"patch {_by(patch)} voxels", why))
    features = tuple(min(budget.max_features, budget.features * 2**level) for level in range(len(strides) + 1))
    reasons.append(
        (
            f"{len(features)} levels of {', '.join(map(str, features))} features",
            f"axes are halved down to {MIN_BOTTLENECK} voxels or more; thick ones wait for the others to catch up",
        )
    )
    fine = math.prod(patch) <= budget.fine_patch_voxels
    if fine:
        reasons.append(("every level works at its full resolution", "the patch is small enough to afford it"))
    else:
        reasons.append(("halved at the first convolution", "at full resolution such a patch would cost too much"))
    batch = int(np.clip(budget.batch_voxels // math.prod(patch), 2, budget.max_batch))
    reasons.append((f"batch {batch}", f"{batch * math.prod(patch):,} voxels a step"))

    all_ct = all(_is_calibrated_ct(channel) for channel in fingerprint.channels)
    normalisations = tuple(
        _normalisation(fingerprint, number, ct=all_ct) for number in range(len(fingerprint.channels))
    )
    for channel, chosen in zip(fingerprint.channels, normalisations, strict=True):
        reasons.append((f"{channel}: {_normalisation_words(chosen)}", _normalisation_reason(chosen)))

    keep = tuple(
        index
        for index in labels.indices
        if len(fingerprint.label_volumes_mm3(index)) >= SINGLE_PIECE_LEAST
        and fingerprint.is_single_piece(index, share_of_cases=SINGLE_PIECE_CASES)
    )
    if keep:
        names = ", ".join(labels.name_of(index) for index in keep)
        reasons.append(
            (f"largest piece only: {names}", f"one piece in at least {SINGLE_PIECE_CASES:.0%} of the training cases")
        )
    native = max(math.prod(case.shape) for case in fingerprint.cases)
    logits_gib = native * (len(labels) + 1) * 4 / 2**30
    inverted = logits_gib <= LOGITS_GIB
    if not inverted:
        reasons.append(
            (
                "labels brought back to the image's grid, not logits",
                f"logits of the largest training volume would take {logits_gib:.0f} GiB there",
            )
        )
    voxels = float(np.maximum(shapes, patch).prod(axis=1).sum())
    resampled = sum(case.resampled for case in fingerprint.cases)
    warnings = []
    if resampled:
        warnings.append(
            f"{resampled} of {len(fingerprint.cases)} training images were resampled when they were converted. "
            "Convert with --spacing native: resampling once, here, keeps more detail."
        )
    return Plan(
        preset=preset,
        name=name,
        labels=labels,
        channels=fingerprint.channels,
        spacing_mm=spacing_mm,
        patch=patch,
        batch=batch,
        network=Network(features, strides, kernels, fine),
        normalisations=normalisations,
        keep_largest=keep,
        steps_per_epoch=budget.steps_per_epoch,
        max_epochs=budget.max_epochs,
        learning_rate=budget.learning_rate,
        whole_volumes=whole,
        logits_inverted=inverted,
        channels_in_one_file=fingerprint.channels_in_one_file,
        cached_gib=voxels * (4 * len(fingerprint.channels) + 4) / 2**30,
        reasons=tuple(reasons),
        warnings=tuple(warnings),
        training_cases=len(fingerprint.cases),
    )


def _spacing(fingerprint: Fingerprint, labels: LabelTable, budget: Budget) -> tuple[tuple[float, float, float], str]:
    spacings = fingerprint.spacings_mm
    target = np.median(spacings, axis=0)
    why = "the median of the training images"
    thick = int(target.argmax())
    if target[thick] > ANISOTROPY * np.delete(target, thick).max():
        # nnU-Net: the median of a thick axis would throw away what the finer images show.
        target[thick] = max(np.percentile(spacings[:, thick], 10), np.delete(target, thick).max())
        why = "the median of the training images, and along the thick axis their tenth percentile"
    voxels = float(np.median(fingerprint.shapes_at(_triple(target)).prod(axis=1)))
    if voxels > budget.volume_voxels:
        sizes_mm3 = [fingerprint.label_volumes_mm3(index) for index in labels.indices]
        smallest_mm3 = min((float(np.median(sizes)) for sizes in sizes_mm3 if len(sizes)), default=math.inf)
        largest_factor = smallest_mm3 / SMALLEST_LABEL_VOXELS / float(target.prod())
        if largest_factor <= 1:
            why += ", kept fine for the smallest label"
        elif largest_factor < voxels / budget.volume_voxels:
            target = _coarsened(target, largest_factor)
            why += f", coarsened as far as the smallest label keeps {SMALLEST_LABEL_VOXELS} voxels"
        else:
            target = _coarsened(target, voxels / budget.volume_voxels)
            why += f", coarsened so that the median volume has {budget.volume_voxels / 1e6:.3g} million voxels"
    return _triple(np.array([float(f"{step:.{SPACING_DIGITS}g}") for step in target])), why


def _coarsened(spacing_mm: np.ndarray[tuple[int], np.dtype[np.float64]], factor: float) -> np.ndarray[
    tuple[int], np.dtype[np.float64]
]:  # fmt: skip
    """The spacing with voxels ``factor`` times as large, the finest axes coarsened first."""
    goal = float(np.prod(spacing_mm)) * factor
    low, high = float(spacing_mm.min()), float(spacing_mm.max()) * factor
    for _ in range(60):  # bisection on the least spacing of any axis
        middle = (low + high) / 2
        low, high = (middle, high) if float(np.maximum(spacing_mm, middle).prod()) < goal else (low, middle)
    return np.maximum(spacing_mm, low)


def _patch(
    shapes: np.ndarray[tuple[int, int], np.dtype[np.int64]], spacing_mm: tuple[float, float, float], budget: Budget
) -> tuple[tuple[int, int, int], tuple[tuple[int, int, int], ...], tuple[tuple[int, int, int], ...], str]:
    # Start from the median volume and shorten the physically longest side until it fits, as nnU-Net does.
    size = np.median(shapes, axis=0)
    why = "the median volume"
    while True:
        strides, kernels = _topology(size, spacing_mm, budget)
        patch = _rounded(size, strides)
        if math.prod(patch) <= budget.patch_voxels:
            return patch, strides, kernels, why
        why = f"the median volume, shortened to about {budget.patch_voxels:,} voxels"
        longest = int(np.argmax(size * np.array(spacing_mm)))
        size[longest] *= 0.95
        if size[longest] < 2 * MIN_BOTTLENECK:
            size[int(np.argmax(size))] *= 0.9


def _topology(
    size: np.ndarray[tuple[int], np.dtype[np.float64]], spacing_mm: tuple[float, float, float], budget: Budget
) -> tuple[tuple[tuple[int, int, int], ...], tuple[tuple[int, int, int], ...]]:
    current, spacing = size.copy(), np.array(spacing_mm, dtype=np.float64)
    near = np.zeros(3, dtype=np.bool_)
    strides: list[tuple[int, int, int]] = []
    kernels: list[tuple[int, int, int]] = []
    while True:
        # A kernel looks across slices once the in-plane spacing has come within twice of theirs, and from then on.
        near |= spacing <= 2 * spacing.min()
        kernels.append(_int_triple(np.where(near, 3, 1)))
        # An axis that is as short as it may get holds none of the others up.
        long = current / 2 >= MIN_BOTTLENECK
        if not long.any() or len(strides) + 1 >= budget.max_levels:
            break
        halve = long & (spacing <= 2 * spacing[long].min())
        factor = np.where(halve, 2, 1)
        strides.append(_int_triple(factor))
        current, spacing = np.ceil(current / factor), spacing * factor
    while len(kernels) < MIN_LEVELS:  # a volume this small gets levels that don't halve it
        strides.append((1, 1, 1))
        kernels.append(kernels[-1])
    return tuple(strides), tuple(kernels)


def _rounded(
    size: np.ndarray[tuple[int], np.dtype[np.float64]], strides: tuple[tuple[int, int, int], ...]
) -> tuple[int, int, int]:
    multiple = np.prod(np.array(strides), axis=0)
    return _int_triple(np.ceil(size / multiple) * multiple)


def _is_calibrated_ct(channel: str) -> bool:
    return modality_of(channel) == "CT" and not UNCALIBRATED.fullmatch(channel.strip())


def _normalisation(fingerprint: Fingerprint, channel: int, *, ct: bool) -> Normalisation:
    if ct:
        values = fingerprint.foreground(channel)
        low, high = (float(value) for value in np.percentile(values, PERCENTILES))
        if not high > low:
            low, high = float(values.min()) - 1.0, float(values.max()) + 1.0
        clipped = np.clip(values, low, high)
        spread = float(clipped.std())
        return Normalisation("percentiles", low, high, float(clipped.mean()), spread if spread > 0 else 1.0)
    return Normalisation("z-score", nonzero=fingerprint.zero_share(channel) > MASKED_SHARE)


def _normalisation_words(chosen: Normalisation) -> str:
    if chosen.kind == "percentiles":
        return f"clipped to {chosen.low:.4g} .. {chosen.high:.4g}, mean {chosen.mean:.4g}, spread {chosen.std:.4g}"
    return "z-score" + (" over what is not 0" if chosen.nonzero else "")


def _normalisation_reason(chosen: Normalisation) -> str:
    if chosen.kind == "percentiles":
        return f"CT numbers mean the same everywhere: percentiles {PERCENTILES} of the foreground"
    return "intensities have no fixed scale" + (", and the background was masked to 0" if chosen.nonzero else "")


def _triple(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _int_triple(values: np.ndarray[tuple[int], np.dtype[np.generic]]) -> tuple[int, int, int]:
    return int(values[0]), int(values[1]), int(values[2])


def _by(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)

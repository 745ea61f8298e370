"""What to train: chosen from a fingerprint, each choice with its reason.

The rules for spacing, patch and depth follow nnU-Net's (Isensee et al., Nature Methods 18, 2021, supplement), bounded
by what the preset may cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from volseg.dataset.advice import UNKNOWN_CT
from volseg.dataset.dataset import knows_modality, modalities_of
from volseg.errors import UsageError
from volseg.planning.augmentations import AUGMENTATIONS, Augmentation, NoChanges
from volseg.planning.component import pick
from volseg.planning.fitting import as_given, fit
from volseg.planning.losses import Loss, parse_loss
from volseg.planning.memory import Memory, shown
from volseg.planning.mirroring import asked_axes, mirrored_axes
from volseg.planning.networks import NETWORKS, Network
from volseg.planning.normalisation import Normalisation, choose_normalisations
from volseg.planning.optimizers import OPTIMIZERS, Optimizer
from volseg.planning.presets import PRESETS, Preset, PresetLimits
from volseg.planning.schedules import SCHEDULES, Schedule
from volseg.planning.target import Target
from volseg.planning.topology import MIN_BOTTLENECK, choose_topology
from volseg.planning.wishes import Shape, Wishes
from volseg.postprocessing import KeepLargest, PostprocessingRules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from volseg.labels import LabelTable, Region
    from volseg.planning.augmentations import AugmentationName
    from volseg.planning.fingerprint import Fingerprint
    from volseg.planning.networks import NetworkName
    from volseg.planning.optimizers import OptimizerName
    from volseg.planning.schedules import ScheduleName

ANISOTROPY = 3.0
"""A data set is anisotropic when its thickest spacing is more than this times its finest (nnU-Net)."""
SINGLE_PIECE_CASES = 0.98
"""A label is kept to its largest piece when it is one piece in at least this share of the training cases."""
SINGLE_PIECE_LEAST = 5
"""And only when so many cases have it: two or three say little about where its pieces may lie."""
SMALLEST_LABEL_VOXELS = 64
"""A label coarser than 4x4x4 voxels can't be learned, whatever the preset would save."""
WHOLE_PATCHES = 2.0
"""Volumes of up to so many patches are augmented whole: a rotated patch would show made-up voxels at its borders."""
SMALL_SHARE = 0.001
"""A label that fills less of a patch in its median case is small."""
SMALL_RATIO = 2.0
"""So many times as often as another class a patch is drawn around a small label."""
SPACING_DIGITS = 5
"""Significant ones: 0.001 % of a voxel, also where voxels are micrometres."""

ANYTHING = Wishes()


@dataclass(frozen=True)
class Plan:
    """All that a bundle is written from."""

    preset: Preset
    name: str
    target: Target
    channels: tuple[str, ...]
    spacing_mm: tuple[float, float, float]
    patch: tuple[int, int, int]
    """Voxels that the network sees at once, in training and in inference alike."""
    batch: int
    network: Network
    normalisations: tuple[Normalisation, ...]
    loss: Loss
    optimizer: Optimizer
    schedule: Schedule
    augmentation: Augmentation
    rules: PostprocessingRules
    """What is done with a mask after the network."""
    steps_per_epoch: int
    max_epochs: int
    whole_volumes: bool
    """Whether every training volume is so little larger than the patch that it is augmented whole and cropped then."""
    channels_in_one_file: bool
    """Whether several channels lie on the fourth axis of one file, as in MSD."""
    cached_gib: float
    """Memory that the preprocessed training cases take."""
    reasons: tuple[tuple[str, str], ...]
    """What was chosen and why, in words for a person: (choice, reason)."""
    warnings: tuple[str, ...]
    training_cases: int
    class_ratios: tuple[float, ...] = ()
    """How often a patch is drawn around each class, the background first; none where all are drawn alike."""
    mirror: tuple[int, ...] | None = None
    """The axes of mirroring that were asked for; None where the rule decided."""
    fingerprint: Fingerprint | None = None
    """What the choices are made from; None for a plan that was made otherwise."""

    @property
    def single_files(self) -> bool:
        """Whether each case has one image file."""
        return self.channels_in_one_file or len(self.channels) == 1

    @property
    def labels(self) -> LabelTable:
        """Of the data set's masks."""
        return self.target.labels

    @property
    def classes(self) -> int:
        """The labels of the data set's masks and the background."""
        return self.target.classes

    @property
    def wishes(self) -> Wishes:
        """What has to be asked for so that ``choose`` makes this plan again of the same data."""
        return Wishes(
            preset=self.preset,
            spacing_mm=self.spacing_mm,
            network=cast("NetworkName", self.network.name),
            loss=self.loss,
            optimizer=cast("OptimizerName", self.optimizer.name),
            schedule=cast("ScheduleName", self.schedule.name),
            augment=cast("AugmentationName", self.augmentation.name),
            mirror=self.mirror,
            shape=Shape(self.network.topology, self.patch, self.batch),
        )


def choose(
    fingerprint: Fingerprint,
    labels: LabelTable,
    name: str,
    wishes: Wishes = ANYTHING,
    regions: Sequence[Region] = (),
    memory: Memory | None = None,
    asked: str = "asked for",
) -> Plan:
    """Choose a plan; what is wished for overrides the choice.

    Args:
        fingerprint: of the data set.
        labels: what the numbers in its masks stand for.
        name: the bundle's.
        wishes: what was asked for.
        regions: unions of labels that the network learns in their place.
        memory: what a training step may take; None reckons nothing.
        asked: the reason of what was wished for, in words.

    Raises:
        UsageError: no step fits into the memory, a spacing that was asked for is not positive or leaves too few voxels,
            there is no choice of a name that was asked for, the regions make no sense, or a mirroring was asked for
            beside no augmentation.
    """
    target = Target.of(labels, regions)
    limits = PRESETS[wishes.preset]
    if wishes.memory_bytes is not None and limits.fills_memory:
        most = PRESETS["large"].patch_voxels
        limits = replace(limits, patch_voxels=most, fine_patch_voxels=most, batch_voxels=math.inf)
    spacing_mm, network = wishes.spacing_mm, wishes.network
    reasons: list[tuple[str, str]] = []
    if spacing_mm is None:
        spacing_mm, why = _spacing(fingerprint, labels, limits)
    elif all(step > 0 and math.isfinite(step) for step in spacing_mm):
        why = asked
    else:
        raise UsageError(f"The spacing must be above 0 mm, not {_by(spacing_mm)}.")
    reasons.append((f"spacing {_by(spacing_mm)} mm (R, A, S)", why))

    shapes = fingerprint.shapes_at(spacing_mm)
    median = np.median(shapes, axis=0)
    if wishes.spacing_mm is not None and median.max() < MIN_BOTTLENECK:
        raise UsageError(
            f"At {_by(spacing_mm)} mm the median volume has {_by(_triple(median))} voxels, too few to learn from. "
            "Choose a smaller --spacing."
        )
    kind, reason = pick(NETWORKS, network or limits.network, "network"), asked
    if network is None:
        reason = "the patch is small enough to afford it"
        if limits.fine_patch_voxels >= limits.patch_voxels:
            reason = "the preset's"
        if math.prod(choose_topology(shapes, spacing_mm, limits, kind)[0]) > limits.fine_patch_voxels:
            kind, reason = NETWORKS[limits.coarse_network], "at full resolution such a patch would cost too much"
    if wishes.shape is None:
        fitted = fit(shapes, spacing_mm, limits, kind, len(fingerprint.channels), target.outputs, memory)
    else:
        given = wishes.shape
        built = kind(given.topology, len(fingerprint.channels), target.outputs, given.patch)
        fitted = as_given(built, given.batch, asked, memory)
    built, batch, patch, topology = fitted.network, fitted.batch, fitted.network.patch, fitted.network.topology
    reasons.append((f"patch {_by(patch)} voxels", fitted.why_patch))
    levels = f"{len(topology.features)} levels of {', '.join(map(str, topology.features))} features"
    reasons.append((levels, kind.rules.words.format(MIN_BOTTLENECK)))
    reasons.append((f"network {built.name}", f"{built.words}; {reason}"))
    reasons += target.words()
    loss = wishes.loss or parse_loss(limits.loss)
    reasons.append((f"loss {loss.name}", _asked(loss.words, wishes.loss, asked)))
    steps = pick(OPTIMIZERS, wishes.optimizer or limits.optimizer, "optimizer")()
    reasons.append((f"optimizer {steps.name}", _asked(steps.words, wishes.optimizer, asked)))
    schedule = pick(SCHEDULES, wishes.schedule or limits.schedule, "schedule")()
    reasons.append((f"schedule {schedule.name}", _asked(schedule.words, wishes.schedule, asked)))
    augmented = pick(AUGMENTATIONS, wishes.augment or limits.augment, "augmentation")
    mirrored, mirroring, unlikely = _mirroring(augmented, target, wishes)
    augmentation = augmented(spacing_mm, mirrored)
    words = "; ".join(filter(None, (augmentation.words, mirroring)))
    reasons.append((f"augmentation {augmentation.name}", _asked(words, wishes.augment, asked)))
    reasons.append((f"batch {batch}", fitted.why_batch))
    if fitted.step_bytes is not None and memory is not None:
        how = "as a trial on this GPU showed" if fitted.is_tried else "reckoned from the network"
        kind_of_number = "bfloat16" if memory.bfloat16 else "float32"
        reasons.append(
            (
                f"about {shown(fitted.step_bytes)} of memory for a step",
                f"{how}, in {kind_of_number}; within {memory.words}",
            )
        )

    whole = bool((np.maximum(shapes, patch).prod(axis=1) <= WHOLE_PATCHES * math.prod(patch)).all())
    ratios = () if whole or target.sigmoid else _ratios(fingerprint, labels, math.prod(patch) * math.prod(spacing_mm))
    if ratios:
        names = ", ".join(label.name for label, ratio in zip(labels.labels, ratios[1:], strict=True) if ratio > 1)
        why = f"each fills less than {SMALL_SHARE:.1%} of a patch, so random patches would hardly show it"
        reasons.append((f"patches around {names} {SMALL_RATIO:g} times as often as around others", why))

    normalisations = choose_normalisations(fingerprint)
    for channel, chosen in zip(fingerprint.channels, normalisations, strict=True):
        reasons.append((f"{channel}: {chosen.words}", chosen.reason))

    keep = tuple(
        index
        for index in (() if target.regions else labels.indices)
        if len(fingerprint.label_volumes_mm3(index)) >= SINGLE_PIECE_LEAST
        and fingerprint.is_single_piece(index, share_of_cases=SINGLE_PIECE_CASES)
    )
    if keep:
        names = ", ".join(labels.name_of(index) for index in keep)
        reasons.append(
            (f"largest piece only: {names}", f"one piece in at least {SINGLE_PIECE_CASES:.0%} of the training cases")
        )
    voxels = float(np.maximum(shapes, patch).prod(axis=1).sum())
    resampled = sum(case.resampled for case in fingerprint.cases)
    warnings = [*target.warnings(), *unlikely]
    if resampled:
        warnings.append(
            f"{resampled} of {len(fingerprint.cases)} training images were resampled when they were converted. "
            "Convert with --spacing native: resampling once, here, keeps more detail."
        )
    if kind.rules.halving == "together" and max(spacing_mm) > ANISOTROPY * min(spacing_mm):
        warnings.append(
            f"The network {built.name} halves all axes alike, and one voxel is {max(spacing_mm) / min(spacing_mm):.2g} "
            "times as long as it is thin. Networks that treat thick slices apart, such as dynunet, suit them better."
        )
    if any(len(modalities_of(channel)) > 1 for channel in fingerprint.channels):
        warnings.append(
            f"The images are of several modalities ({', '.join(fingerprint.channels)}), so none is normalised as CT. A "
            "network learns one kind of image: make a data set for each."
        )
    known = any(knows_modality(channel) for channel in fingerprint.channels)
    if not known and sum(case.ct_like for case in fingerprint.cases) * 2 > len(fingerprint.cases):
        warnings.append(UNKNOWN_CT[0].upper() + UNKNOWN_CT[1:])
    return Plan(
        preset=wishes.preset,
        name=name,
        target=target,
        channels=fingerprint.channels,
        spacing_mm=spacing_mm,
        patch=patch,
        batch=batch,
        network=built,
        normalisations=normalisations,
        loss=loss,
        optimizer=steps,
        schedule=schedule,
        augmentation=augmentation,
        rules=PostprocessingRules((KeepLargest(labels=keep),) if keep else ()),
        steps_per_epoch=limits.steps_per_epoch,
        max_epochs=limits.max_epochs,
        whole_volumes=whole,
        channels_in_one_file=fingerprint.channels_in_one_file,
        cached_gib=voxels * (4 * len(fingerprint.channels) + 4) / 2**30,
        reasons=tuple(reasons),
        warnings=tuple(warnings),
        training_cases=len(fingerprint.cases),
        class_ratios=ratios,
        mirror=wishes.mirror,
        fingerprint=fingerprint,
    )


def _spacing(
    fingerprint: Fingerprint, labels: LabelTable, limits: PresetLimits
) -> tuple[tuple[float, float, float], str]:
    spacings = fingerprint.spacings_mm
    target = np.median(spacings, axis=0)
    why = "the median of the training images"
    thick = int(target.argmax())
    if target[thick] > ANISOTROPY * np.delete(target, thick).max():
        # nnU-Net: the median of a thick axis would throw away what the finer images show.
        target[thick] = max(np.percentile(spacings[:, thick], 10), np.delete(target, thick).max())
        why = "the median of the training images, and along the thick axis their tenth percentile"
    voxels = float(np.median(fingerprint.shapes_at(_triple(target)).prod(axis=1)))
    if voxels > limits.volume_voxels:
        sizes_mm3 = [fingerprint.label_volumes_mm3(index) for index in labels.indices]
        smallest_mm3 = min((float(np.median(sizes)) for sizes in sizes_mm3 if len(sizes)), default=math.inf)
        largest_factor = smallest_mm3 / SMALLEST_LABEL_VOXELS / float(target.prod())
        if largest_factor <= 1:
            why += ", kept fine for the smallest label"
        elif largest_factor < voxels / limits.volume_voxels:
            target = _coarsened(target, largest_factor)
            why += f", coarsened as far as the smallest label keeps {SMALLEST_LABEL_VOXELS} voxels"
        else:
            target = _coarsened(target, voxels / limits.volume_voxels)
            why += f", coarsened so that the median volume has {limits.volume_voxels / 1e6:.3g} million voxels"
    return _triple(np.array([float(f"{step:.{SPACING_DIGITS}g}") for step in target])), why


def _ratios(fingerprint: Fingerprint, labels: LabelTable, patch_mm3: float) -> tuple[float, ...]:
    """How often each class is drawn, small labels more often; none where no label is small."""
    volumes = (fingerprint.label_volumes_mm3(label.index) for label in labels.labels)
    small = [bool(len(sizes)) and float(np.median(sizes)) < SMALL_SHARE * patch_mm3 for sizes in volumes]
    return (1.0, *(SMALL_RATIO if one else 1.0 for one in small)) if any(small) else ()


def _mirroring(
    augmented: type[Augmentation], target: Target, wishes: Wishes
) -> tuple[tuple[int, ...], str, tuple[str, ...]]:
    """The axes along which patches are mirrored, the reason, and warnings."""
    if wishes.mirror is not None:
        if wishes.mirror and augmented is NoChanges:
            raise UsageError("--augment none changes no patch, so --mirror can't. Leave one of them out.")
        return wishes.mirror, *asked_axes(target.learnt, wishes.mirror)
    if augmented.mirrors:
        return *mirrored_axes(target.learnt), ()
    return (), "" if augmented is NoChanges else "no mirroring, which cost Dice in a short training", ()


def _asked(words: str, wish: object, asked: str) -> str:
    return f"{words}; {asked}" if wish else words


def _coarsened(spacing_mm: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """The spacing with voxels ``factor`` times as large, the finest axes coarsened first."""
    goal = float(np.prod(spacing_mm)) * factor
    low, high = float(spacing_mm.min()), float(spacing_mm.max()) * factor
    for _ in range(60):  # bisection on the least spacing of any axis
        middle = (low + high) / 2
        low, high = (middle, high) if float(np.maximum(spacing_mm, middle).prod()) < goal else (low, middle)
    return np.maximum(spacing_mm, low)


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _by(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)

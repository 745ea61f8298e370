"""The rules of a plan, against numpy oracles; every network that is planned takes its patch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.plans import LABELS, VOLUMES, Shape, Spacing, fingerprint, planned
from volseg.errors import UsageError
from volseg.planning.networks import NETWORKS
from volseg.planning.optimizers import OPTIMIZERS
from volseg.planning.plan import choose
from volseg.planning.presets import PRESETS
from volseg.planning.wishes import Wishes

if TYPE_CHECKING:
    from volseg.planning.presets import Preset


def test_the_spacing_is_the_median_of_the_cases() -> None:
    random = np.random.default_rng(0)
    spacings = random.uniform(0.7, 1.4, (31, 3))
    found = choose(fingerprint([(40, 40, 40)] * 31, [tuple(row) for row in spacings]), LABELS, "b")
    assert found.spacing_mm == pytest.approx(np.median(spacings, axis=0), rel=1e-4)


def test_along_thick_slices_the_spacing_is_their_tenth_percentile() -> None:
    thick = np.array([2.5, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 6.0, 7.0, 8.0])
    found = choose(
        fingerprint([(200, 200, 30)] * 11, [(0.8, 0.9, step) for step in thick]), LABELS, "b", Wishes(preset="full")
    )
    assert found.spacing_mm == pytest.approx((0.8, 0.9, np.percentile(thick, 10)))


def test_the_tenth_percentile_never_gets_finer_than_the_other_axes() -> None:
    steps = [0.2] * 4 + [5.0] * 7
    found = choose(
        fingerprint([(200, 200, 30)] * 11, [(1.0, 1.1, step) for step in steps]), LABELS, "b", Wishes(preset="full")
    )
    assert found.spacing_mm == pytest.approx((1.0, 1.1, 1.1))


def test_a_huge_volume_is_coarsened_to_the_budget_finest_axes_first() -> None:
    found = planned((512, 512, 400), (0.7, 0.7, 2.0), volumes_mm3={1: 1e6})
    volume = np.array((512, 512, 400)) * (0.7, 0.7, 2.0)
    voxels = math.prod(volume / found.spacing_mm)
    assert voxels == pytest.approx(PRESETS["fast"].volume_voxels, rel=0.02)
    # The oracle: raise the finest spacings together until the voxel count is reached.
    levels = np.linspace(0.7, 10, 200_000)
    counts = [math.prod(volume / np.maximum((0.7, 0.7, 2.0), level)) for level in (levels[0], levels[-1])]
    assert counts[0] > PRESETS["fast"].volume_voxels > counts[1]
    spacings = np.maximum(np.array((0.7, 0.7, 2.0)), levels[:, np.newaxis])
    nearest = np.argmin(np.abs(np.prod(volume / spacings, axis=1) - PRESETS["fast"].volume_voxels))
    assert found.spacing_mm == pytest.approx(tuple(spacings[nearest]), rel=1e-3)


def test_the_full_preset_keeps_the_spacing_of_a_huge_volume() -> None:
    assert planned((512, 512, 400), (0.7, 0.7, 2.0), preset="full").spacing_mm == (0.7, 0.7, 2.0)


def test_a_tiny_label_keeps_voxels_enough() -> None:
    found = planned((512, 512, 400), (0.7, 0.7, 0.7), volumes_mm3={1: 1e6, 2: 200.0})
    assert 200.0 / math.prod(found.spacing_mm) == pytest.approx(64, rel=0.01)
    assert "smallest label keeps 64 voxels" in found.reasons[0][1]
    smaller = planned((512, 512, 400), (0.7, 0.7, 0.7), volumes_mm3={1: 1e6, 2: 10.0})
    assert smaller.spacing_mm == (0.7, 0.7, 0.7)
    assert "coarsened" not in smaller.reasons[0][1]


def test_a_spacing_that_was_asked_for_is_taken_as_it_is() -> None:
    measured = fingerprint([(512, 512, 400)], [(0.7, 0.7, 0.7)])
    assert choose(measured, LABELS, "b", Wishes(spacing_mm=(1.234567, 2.0, 3.0))).spacing_mm == (1.234567, 2.0, 3.0)


@pytest.mark.parametrize("spacing", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, math.nan), (1.0, math.inf, 1.0)])
def test_a_spacing_that_makes_no_sense_is_refused(spacing: Spacing) -> None:
    with pytest.raises(UsageError, match="above 0 mm"):
        choose(fingerprint([(40, 40, 40)], [(1.0, 1.0, 1.0)]), LABELS, "b", Wishes(spacing_mm=spacing))


def test_a_spacing_that_leaves_too_few_voxels_is_refused() -> None:
    measured = fingerprint([(40, 40, 30)], [(1.0, 1.0, 1.0)])
    with pytest.raises(UsageError, match=r"1 x 1 x 1 voxels.*smaller --spacing"):
        choose(measured, LABELS, "b", Wishes(spacing_mm=(100.0, 100.0, 100.0)))


def test_small_patches_are_worked_on_at_full_resolution() -> None:
    assert planned((35, 51, 35), (1.0, 1.0, 1.0)).network.name == "dynunet-residual"
    assert planned((512, 512, 600), (0.8, 0.8, 0.8)).network.name == "unet"
    assert planned((512, 512, 600), (0.8, 0.8, 0.8), "full").network.name == "dynunet"


def test_a_preset_of_one_network_claims_nothing_of_its_patch() -> None:
    reasons = dict(planned((40, 40, 40), (1.0, 1.0, 1.0), "large").reasons)
    assert reasons["network resenc"].endswith("; the preset's")


def test_a_network_and_an_optimizer_may_be_asked_for() -> None:
    measured = fingerprint([(40, 40, 40)], [(1.0, 1.0, 1.0)], channels=("CT", "PET"))
    for network in NETWORKS:
        for optimizer in OPTIMIZERS:
            found = choose(measured, LABELS, "b", Wishes(network=network, optimizer=optimizer))  # type: ignore[arg-type]
            assert (found.network.name, found.optimizer.name) == (network, optimizer)
            assert (found.network.in_channels, found.network.out_channels) == (2, 3)
            assert any(choice == f"network {network}" and "asked for" in reason for choice, reason in found.reasons)
    with pytest.raises(UsageError, match="dynunet-residual"):
        choose(measured, LABELS, "b", Wishes(network="resnet"))  # type: ignore[arg-type]


def test_only_what_is_nearly_always_one_piece_is_kept_to_its_largest() -> None:
    def keep(single: int) -> tuple[int, ...]:
        pieces = [frozenset({1, 2}) if case < single else frozenset({2}) for case in range(100)]
        measured = fingerprint([(40, 40, 40)] * 100, [(1.0, 1.0, 1.0)] * 100, pieces=pieces)
        return tuple(sorted(choose(measured, LABELS, "b").rules.labels))

    assert keep(98) == (1, 2)
    assert keep(97) == (2,)


def test_a_few_cases_say_too_little_on_how_many_pieces_a_label_has() -> None:
    def keep(cases: int) -> tuple[int, ...]:
        pieces = [frozenset({1, 2})] * cases
        measured = fingerprint([(40, 40, 40)] * cases, [(1.0, 1.0, 1.0)] * cases, pieces=pieces)
        return tuple(sorted(choose(measured, LABELS, "b").rules.labels))

    assert keep(4) == ()
    assert keep(5) == (1, 2)


def test_images_that_were_resampled_are_warned_of() -> None:
    measured = fingerprint([(40, 40, 40)] * 3, [(1.0, 1.0, 1.0)] * 3, resampled=2)
    (warning,) = choose(measured, LABELS, "b").warnings
    assert warning.startswith("2 of 3 training images were resampled")
    assert "--spacing native" in warning


def test_every_choice_has_a_reason() -> None:
    for shape, spacing in VOLUMES:
        for choice, reason in planned(shape, spacing).reasons:
            assert choice
            assert reason


@pytest.mark.parametrize("preset", ["fast", "full"])
@pytest.mark.parametrize(
    ("shape", "spacing"), [volume for volume in VOLUMES if math.prod(volume[0]) < 2e6 or volume[1][2] == 5.0]
)
def test_the_network_takes_the_patch_and_gives_logits_of_its_size(
    shape: Shape, spacing: Spacing, preset: Preset
) -> None:
    import torch
    from monai.bundle import ConfigParser

    from volseg.bundle.configs import inference_config, train_config

    plan = planned(shape, spacing, preset)
    config = train_config(plan, "data")
    described = config["network_def"]
    assert isinstance(described, dict)
    # Thin: what is asked is whether the levels fit together.
    for key in ("channels", "filters"):
        if key in described:
            described[key] = [2 + level for level in range(len(plan.network.topology.features))]
    network = ConfigParser({"network_def": described}).get_parsed_content("network_def")
    # A quarter of the patch, where it divides, is as good and faster.
    halved = np.prod(plan.network.topology.strides, axis=0)
    size = [int(n if n // h < 8 else max(2, n // h // 4) * h) for n, h in zip(plan.patch, halved, strict=True)]
    image = torch.zeros(1, 1, *size)
    with torch.no_grad():
        logits = network.train()(image)
        if logits.ndim == 6:  # heads of deep supervision
            assert list(logits.shape[3:]) == size
            logits = logits[:, 0]
        assert list(logits.shape) == [1, 3, *size]
    inference = inference_config(plan, "data")["network_def"]
    assert isinstance(inference, dict)
    assert inference["_target_"] == described["_target_"]


def test_patches_are_drawn_more_often_around_small_labels() -> None:
    large = planned((300, 300, 300), (1.0, 1.0, 1.0), "full", volumes_mm3={1: 1e6, 2: 1e6})
    assert large.class_ratios == ()
    small = planned((300, 300, 300), (1.0, 1.0, 1.0), "full", volumes_mm3={1: 1e6, 2: 1e-3 * 127**3})
    assert small.class_ratios == (1.0, 1.0, 2.0)
    assert any("patches around lesion 2 times as often" in choice for choice, _ in small.reasons)
    whole = planned((40, 40, 40), (1.0, 1.0, 1.0), volumes_mm3={1: 1e4, 2: 20.0})
    assert whole.class_ratios == ()  # nothing is cropped, so nothing is drawn

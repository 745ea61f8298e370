"""The rules of a plan, against numpy oracles; every network that is planned takes its patch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from volseg.errors import UsageError
from volseg.labels import Label, LabelTable
from volseg.planning.fingerprint import CaseMeasures, Fingerprint
from volseg.planning.networks import NETWORKS
from volseg.planning.optimizers import OPTIMIZERS
from volseg.planning.plan import Plan, choose
from volseg.planning.presets import PRESETS
from volseg.planning.topology import MIN_BOTTLENECK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volseg.planning.presets import Preset

LABELS = LabelTable((Label(1, "organ"), Label(2, "lesion")))
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


def fingerprint(
    shapes: Sequence[Shape],
    spacings: Sequence[Spacing],
    *,
    channels: tuple[str, ...] = ("MR",),
    volumes_mm3: dict[int, float] | None = None,
    pieces: Sequence[frozenset[int]] | None = None,
    foreground: Sequence[np.ndarray] | None = None,
    zero_share: float = 0.0,
    resampled: int = 0,
) -> Fingerprint:
    values = foreground or [np.linspace(-100, 300, 101, dtype=np.float32) + n for n in range(len(channels))]
    cases = tuple(
        CaseMeasures(
            name=f"case_{number}",
            shape=shape,
            spacing_mm=spacing,
            foreground=tuple(values),
            zero_share=(zero_share,) * len(channels),
            label_volumes_mm3=volumes_mm3 or {1: 1e5, 2: 1e5},
            single_piece=pieces[number] if pieces else frozenset({1}),
            resampled=number < resampled,
        )
        for number, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True))
    )
    return Fingerprint(cases, channels, channels_in_one_file=False)


def planned(
    shape: Shape, spacing: Spacing, preset: Preset = "fast", labels: LabelTable = LABELS, **more: object
) -> Plan:
    return choose(fingerprint([shape], [spacing], **more), labels, "bundle", preset=preset)  # type: ignore[arg-type]


VOLUMES: list[tuple[Shape, Spacing]] = [
    ((35, 51, 35), (1.0, 1.0, 1.0)),  # hippocampus crops
    ((512, 512, 600), (0.8, 0.8, 0.8)),  # a thorax
    ((512, 512, 120), (0.7, 0.7, 5.0)),  # an abdomen in thick slices
    ((320, 320, 20), (0.6, 0.6, 3.6)),  # a prostate
    ((24, 400, 300), (3.3, 0.5, 0.5)),  # a spine, sagittal
    ((20, 400, 400), (1.0, 1.0, 1.0)),  # a thin slab
    ((200, 200, 1), (1.0, 1.0, 1.0)),
    ((3, 5, 4), (2.0, 2.0, 2.0)),
    ((12, 11, 9), (1.0, 1.0, 1.0)),
    ((64, 64, 64), (2e-5, 2e-5, 2e-5)),  # a micrograph
]


def test_the_spacing_is_the_median_of_the_cases() -> None:
    random = np.random.default_rng(0)
    spacings = random.uniform(0.7, 1.4, (31, 3))
    found = choose(fingerprint([(40, 40, 40)] * 31, [tuple(row) for row in spacings]), LABELS, "b")
    assert found.spacing_mm == pytest.approx(np.median(spacings, axis=0), rel=1e-4)


def test_along_thick_slices_the_spacing_is_their_tenth_percentile() -> None:
    thick = np.array([2.5, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 6.0, 7.0, 8.0])
    found = choose(fingerprint([(200, 200, 30)] * 11, [(0.8, 0.9, step) for step in thick]), LABELS, "b", preset="full")
    assert found.spacing_mm == pytest.approx((0.8, 0.9, np.percentile(thick, 10)))


def test_the_tenth_percentile_never_gets_finer_than_the_other_axes() -> None:
    steps = [0.2] * 4 + [5.0] * 7
    found = choose(fingerprint([(200, 200, 30)] * 11, [(1.0, 1.1, step) for step in steps]), LABELS, "b", preset="full")
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
    assert choose(measured, LABELS, "b", spacing_mm=(1.234567, 2.0, 3.0)).spacing_mm == (1.234567, 2.0, 3.0)


@pytest.mark.parametrize("spacing", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, math.nan), (1.0, math.inf, 1.0)])
def test_a_spacing_that_makes_no_sense_is_refused(spacing: Spacing) -> None:
    with pytest.raises(UsageError, match="above 0 mm"):
        choose(fingerprint([(40, 40, 40)], [(1.0, 1.0, 1.0)]), LABELS, "b", spacing_mm=spacing)


@pytest.mark.parametrize("preset", ["fast", "full"])
@pytest.mark.parametrize(("shape", "spacing"), VOLUMES)
def test_patch_batch_and_depth_keep_to_the_budget(shape: Shape, spacing: Spacing, preset: Preset) -> None:
    found = planned(shape, spacing, preset)
    limits = PRESETS[preset]
    patch = np.array(found.patch)
    assert math.prod(found.patch) <= limits.patch_voxels
    assert 2 <= found.batch <= limits.max_batch
    assert found.batch == 2 or found.batch * math.prod(found.patch) <= limits.batch_voxels
    halved = np.prod(found.network.topology.strides, axis=0)
    assert (patch % halved == 0).all()
    assert (patch // halved >= np.minimum(MIN_BOTTLENECK, patch)).all()
    assert (
        len(found.network.topology.strides) + 1
        == len(found.network.topology.features)
        == len(found.network.topology.kernels)
    )
    assert 3 <= len(found.network.topology.features) <= limits.max_levels
    assert max(found.network.topology.features) <= limits.max_features
    # No axis is padded to twice its volume and more, save for what the halvings need.
    measured = np.array(shape) * spacing / found.spacing_mm
    assert (patch <= measured + halved).all()


@pytest.mark.parametrize(("shape", "spacing"), VOLUMES)
def test_axes_are_halved_until_they_are_short(shape: Shape, spacing: Spacing) -> None:
    found = planned(shape, spacing, "full")
    if len(found.network.topology.features) < PRESETS["full"].max_levels and max(found.patch) >= 8:
        assert (np.array(found.patch) // np.prod(found.network.topology.strides, axis=0) <= 2 * MIN_BOTTLENECK).all()


def test_thick_slices_wait_for_the_others() -> None:
    network = planned((320, 320, 20), (0.6, 0.6, 3.6), "full").network.topology
    assert network.kernels[0] == (3, 3, 1)
    assert network.strides[0] == network.strides[1] == (2, 2, 1)
    assert network.kernels[2] == (3, 3, 3)  # 2.4 mm in the plane is within twice of 3.6
    assert network.strides[2] == (2, 2, 2)
    widths = [kernel[2] for kernel in network.kernels]
    assert widths == sorted(widths)


def test_a_short_axis_holds_the_long_ones_up_no_more_than_its_length_needs() -> None:
    network = planned((20, 400, 400), (1.0, 1.0, 1.0), "full").network.topology
    assert len(network.features) == PRESETS["full"].max_levels
    assert set(network.kernels) == {(3, 3, 3)}
    assert np.prod(network.strides, axis=0).tolist() == [4, 32, 32]


def test_small_patches_are_worked_on_at_full_resolution() -> None:
    assert planned((35, 51, 35), (1.0, 1.0, 1.0)).network.name == "dynunet-residual"
    assert planned((512, 512, 600), (0.8, 0.8, 0.8)).network.name == "unet"
    assert planned((512, 512, 600), (0.8, 0.8, 0.8), "full").network.name == "dynunet"


def test_a_network_and_an_optimizer_may_be_asked_for() -> None:
    measured = fingerprint([(40, 40, 40)], [(1.0, 1.0, 1.0)], channels=("CT", "PET"))
    for network in NETWORKS:
        for optimizer in OPTIMIZERS:
            found = choose(measured, LABELS, "b", network=network, optimizer=optimizer)  # type: ignore[arg-type]
            assert (found.network.name, found.optimizer.name) == (network, optimizer)
            assert (found.network.in_channels, found.network.out_channels) == (2, 3)
            assert any(choice == f"network {network}" and "asked for" in reason for choice, reason in found.reasons)
    with pytest.raises(UsageError, match="dynunet-residual"):
        choose(measured, LABELS, "b", network="resnet")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["CT", "ct", "CTA", "CT venous", "computed tomography"])
def test_ct_is_clipped_to_percentiles_of_the_foreground(name: str) -> None:
    values = np.random.default_rng(1).normal(40, 120, 5000).astype(np.float32)
    (found,) = planned((40, 40, 40), (1.0, 1.0, 1.0), channels=(name,), foreground=[values]).normalisations
    low, high = np.percentile(values, [0.5, 99.5])
    clipped = np.clip(values, low, high)
    assert found.kind == "percentiles"
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.mean, found.std) == pytest.approx((clipped.mean(), clipped.std()))


@pytest.mark.parametrize("name", ["MR", "T1", "CBCT", "PET", "ultrasound", "OCT", "FACT"])
def test_what_has_no_fixed_scale_is_normalised_by_itself(name: str) -> None:
    (found,) = planned((40, 40, 40), (1.0, 1.0, 1.0), channels=(name,)).normalisations
    assert found.kind == "z-score"
    assert not found.nonzero


def test_a_masked_image_is_normalised_over_what_is_not_zero() -> None:
    (found,) = planned((40, 40, 40), (1.0, 1.0, 1.0), zero_share=0.4).normalisations
    assert found.nonzero


def test_ct_beside_another_modality_gets_the_rule_without_a_scale() -> None:
    found = planned((40, 40, 40), (1.0, 1.0, 1.0), channels=("CT", "PET"))
    assert [one.kind for one in found.normalisations] == ["z-score", "z-score"]


def test_a_constant_foreground_still_gives_a_window() -> None:
    (found,) = planned(
        (40, 40, 40), (1.0, 1.0, 1.0), channels=("CT",), foreground=[np.full(50, 30, np.float32)]
    ).normalisations
    assert found.low < 30 < found.high
    assert found.std > 0


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


def test_logits_go_back_only_where_they_fit_into_memory() -> None:
    many = LabelTable(tuple(Label(index, f"label {index}") for index in range(1, 105)))
    assert planned((256, 256, 200), (1.5, 1.5, 1.5)).logits_inverted
    large = planned((512, 512, 600), (0.8, 0.8, 0.8), labels=many)
    assert not large.logits_inverted
    assert any("62 GiB" in reason for _, reason in large.reasons)


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

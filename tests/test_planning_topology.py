"""Patch and levels, against numpy oracles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.plans import LABELS, VOLUMES, Shape, Spacing, fingerprint, planned
from volseg.planning.networks import NETWORKS
from volseg.planning.plan import choose
from volseg.planning.presets import PRESETS
from volseg.planning.topology import MIN_BOTTLENECK
from volseg.planning.wishes import Wishes

if TYPE_CHECKING:
    from volseg.planning.presets import Preset


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


def test_fast_patches_are_the_nearest_size_that_halves() -> None:
    found = planned((35, 51, 35), (1.0, 1.0, 1.0))
    assert found.patch == (32, 48, 32)  # 4, 6 and 4 times 8, where 4.4, 6.4 and 4.4 fit
    assert found.whole_volumes  # augmented before they are cropped: 1.3 patches
    assert ("patch 32 x 48 x 32 voxels", "the median volume, rounded to what the network can halve") in found.reasons
    assert ("patch 32 x 48 x 32 voxels", "the median volume") in planned((32, 48, 32), (1.0, 1.0, 1.0)).reasons
    assert planned((37, 53, 37), (1.0, 1.0, 1.0)).patch == (40, 56, 40)
    assert planned((35, 51, 35), (1.0, 1.0, 1.0), "full").patch == (40, 56, 40)


@pytest.mark.parametrize(
    ("shape", "patch"), [((47, 47, 47), (64, 64, 64)), ((35, 51, 35), (32, 64, 32)), ((66, 90, 120), (64, 96, 128))]
)
def test_no_side_loses_more_than_an_eighth_to_a_large_multiple(shape: Shape, patch: Shape) -> None:
    found = choose(fingerprint([shape], [(1.0, 1.0, 1.0)]), LABELS, "b", Wishes(network="swin-unetr"))
    assert found.patch == patch


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_patches_of_large_volumes_stay_affordable(network: Any) -> None:
    found = choose(fingerprint([(240, 240, 155)], [(1.0, 1.0, 1.0)]), LABELS, "b", Wishes(network=network))
    assert 0.5 * PRESETS["fast"].patch_voxels <= math.prod(found.patch) <= PRESETS["fast"].patch_voxels


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
    assert np.prod(network.strides, axis=0).tolist() == [4, 64, 64]

"""Levels and patches of each network: what it can have, what it takes, what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from tests.plans import LABELS, Shape, Spacing, fingerprint
from volseg.errors import UsageError
from volseg.networks.cost import on_meta
from volseg.planning.networks import NETWORKS
from volseg.planning.plan import Plan, choose
from volseg.planning.wishes import Wishes


def plan_for(name: str, shape: Shape, spacing: Spacing, channels: tuple[str, ...] = ("CT", "PET")) -> Plan:
    return choose(fingerprint([shape], [spacing], channels=channels), LABELS, "b", Wishes(network=name))  # type: ignore[arg-type]


def built(plan: Plan) -> Any:
    with on_meta():
        return ConfigParser({"it": plan.network.component()}).get_parsed_content("it")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((35, 51, 35), (1.0, 1.0, 1.0)), ((160, 160, 30), (0.7, 0.7, 5.0)), ((3, 5, 4), (2.0, 2.0, 2.0))],
)
def test_each_takes_the_patch_that_is_planned_for_it(name: str, shape: Shape, spacing: Spacing) -> None:
    plan = plan_for(name, shape, spacing)
    topology = plan.network.topology
    assert (np.array(plan.patch) % np.prod(topology.strides, axis=0) == 0).all()
    assert len(topology.features) == len(topology.strides) + 1 == len(topology.kernels)
    outputs = built(plan).train()(torch.empty(2, 2, *plan.patch, device="meta"))
    if isinstance(outputs, torch.Tensor) and outputs.ndim == 6:
        outputs = outputs.unbind(1)
    heads = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    assert heads[0].shape == (2, 3, *plan.patch)
    assert len(heads) == 1 + plan.network.heads


@pytest.mark.parametrize(
    ("shape", "spacing", "scales"),
    [
        ((160, 160, 30), (0.7, 0.7, 5.0), [(2, 2, 1)] * 2 + [(2, 2, 2)]),
        ((64, 64, 64), (1.0, 1.0, 1.0), None),
        ((30, 160, 160), (3.0, 0.7, 0.7), [(1, 2, 2)] * 2 + [(2, 2, 2)]),
    ],
)
def test_segresnet_ds_halves_as_monai_s_own_rule(
    shape: Shape, spacing: Spacing, scales: list[tuple[int, ...]] | None
) -> None:
    plan = plan_for("segresnet-ds", shape, spacing)
    network = built(plan)
    assert network.is_valid_shape(torch.empty(1, 1, *plan.patch, device="meta"))
    if scales is None:
        assert network.anisotropic_scales is None
        assert {*plan.network.topology.strides} == {(2, 2, 2)}
    else:
        strides = [tuple(int(one) for one in scale) for scale in network.anisotropic_scales[:-1]]
        assert strides == [*plan.network.topology.strides]
        assert strides[: len(scales)] == scales


def test_networks_of_fixed_levels_pad_and_say_so() -> None:
    for name, multiple in (("vnet", 16), ("unetr", 16), ("swin-unetr", 32)):
        plan = plan_for(name, (3, 5, 4), (2.0, 2.0, 2.0))
        assert plan.patch == (2 * multiple, multiple, multiple)  # two voxels at the lowest level, for its norm
        assert any(f"padded to multiples of {multiple} x " in reason for _, reason in plan.reasons)
        assert any("the network always halves each axis" in reason for _, reason in plan.reasons)


def test_thick_slices_are_warned_of_where_all_axes_are_halved_alike() -> None:
    for name in NETWORKS:
        plan = plan_for(name, (160, 160, 30), (0.7, 0.7, 5.0))
        alike = {tuple(stride) for stride in plan.network.topology.strides} == {(2, 2, 2)}
        assert alike == any("halves all axes alike" in warning for warning in plan.warnings)
        assert alike == (name in ("segresnet", "vnet", "unetr", "swin-unetr"))


def test_v_net_refuses_channels_that_don_t_divide_its_16() -> None:
    with pytest.raises(UsageError, match="1, 2, 4, 8 or 16 channels, not 3"):
        plan_for("vnet", (40, 40, 40), (1.0, 1.0, 1.0), ("a", "b", "c"))


# UNETR's and SwinUNETR's papers count 92.58 and 61.98 million for 96 x 96 x 96 voxels.
@pytest.mark.parametrize(("name", "millions"), [("unetr", 92.58), ("swin-unetr", 61.98)])
def test_full_sizes_are_the_papers(name: str, millions: float) -> None:
    measured = fingerprint([(96, 96, 96)], [(1.0, 1.0, 1.0)])
    plan = choose(measured, LABELS, "b", Wishes(network=name, preset="full"))  # type: ignore[arg-type]
    counted = sum(weight.numel() for weight in built(plan).parameters())
    assert counted / 1e6 == pytest.approx(millions, rel=0.005)

"""Patch, levels and batch: what nnU-Net's own planner says of the same data, and what a memory leaves of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.plans import LABELS, Shape, Spacing, fingerprint
from volseg.errors import UsageError
from volseg.planning.memory import Memory, StepCosts, build
from volseg.planning.plan import Plan, choose
from volseg.planning.wishes import Wishes, parse_memory

# (cases, median shape, spacing) -> patch, batch and halvings of each axis, as nnU-Net 2.6 plans these data sets of the
# Decathlon at full resolution (ExperimentPlanner, 8 GB); axes in its order.
PUBLISHED: dict[str, tuple[int, Shape, Spacing, Shape, int, Shape]] = {
    "hippocampus": (260, (36, 50, 35), (1.0, 1.0, 1.0), (40, 56, 40), 9, (3, 3, 3)),
    "liver": (131, (482, 512, 512), (1.0, 0.7676, 0.7676), (128, 128, 128), 2, (5, 5, 5)),
    "spleen": (41, (187, 512, 512), (1.6, 0.79297, 0.79297), (64, 192, 160), 2, (4, 5, 5)),
    "heart": (20, (115, 320, 232), (1.37, 1.25, 1.25), (80, 192, 160), 2, (4, 5, 5)),
    "brain tumour": (484, (138, 170, 138), (1.0, 1.0, 1.0), (128, 128, 128), 2, (5, 5, 5)),
    "prostate": (32, (20, 320, 319), (3.6, 0.62, 0.62), (20, 320, 256), 2, (2, 6, 6)),
}


def full(name: str, wishes: Wishes = Wishes(preset="full"), memory: Memory | None = None) -> Plan:  # noqa: B008
    cases, shape, spacing, *_ = PUBLISHED[name]
    return choose(fingerprint([shape] * cases, [spacing] * cases), LABELS, "b", wishes, (), memory)


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_is_planned_as_by_nnunet(name: str) -> None:
    """The same but for two things, both kept on purpose: patches have at most 128^3 voxels whatever their shape, where
    nnU-Net counts features, so that its flat ones are up to a fifth larger; and sides are shortened by small steps.
    """
    *_, patch, batch, halvings = PUBLISHED[name]
    found = full(name)
    levels = found.network.topology
    assert found.network.name == "dynunet"
    assert found.batch == batch
    assert levels.features == tuple(min(320, 32 * 2**level) for level in range(len(levels.features)))
    if name in ("hippocampus", "liver"):
        assert found.patch == patch
    assert 0.75 <= math.prod(found.patch) / math.prod(patch) <= 1.25
    assert (np.abs(np.log(np.array(found.patch) / patch)) <= math.log(1.3)).all()
    found_halvings = np.log2(np.prod(np.array(levels.strides), axis=0))
    assert (np.abs(found_halvings - halvings) <= (0 if found.patch == patch else 1)).all()
    assert (found.steps_per_epoch, found.max_epochs) == (250, 1000)


def test_large_is_a_residual_encoder_within_24_gb() -> None:
    found = full("liver", Wishes(preset="large"), Memory(24 * 10**9, "24GB", True, "cpu"))
    assert found.network.name == "resenc"
    assert found.batch == 2
    assert math.prod(found.patch) > 1.3 * 128**3
    need = StepCosts(Memory(0, "", True, "cpu")).bytes_of(found.network, 2)
    assert 0.7 * 24e9 <= need <= 24e9


@pytest.mark.parametrize("stated", ["1GB", "500MB"])
def test_less_memory_gives_fewer_patches_then_smaller_ones(stated: str) -> None:
    memory = Memory(parse_memory(stated), f"{stated}, asked for", True, "cpu")
    found = full("hippocampus", Wishes(preset="full", memory_bytes=memory.size), memory)
    assert found.batch < 9
    assert StepCosts(memory).bytes_of(found.network, found.batch) <= memory.size
    assert any(f"within {stated}, asked for" in reason for _, reason in found.reasons)
    if found.batch > 2:
        assert StepCosts(memory).bytes_of(found.network, found.batch + 1) > memory.size
        assert found.patch == (40, 56, 40)


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    memory = Memory(10**8, "100MB, asked for", True, "cpu")
    with pytest.raises(UsageError, match=r"100MB, asked for\. State --memory (\S+) or more") as refused:
        full("hippocampus", memory=memory)
    enough = parse_memory(refused.value.message.split("--memory ")[1].split()[0])
    assert full("hippocampus", memory=Memory(enough, "enough", True, "cpu")).batch == 2


def test_a_patch_costs_what_its_share_of_a_batch_does() -> None:
    from volseg.networks.cost import BFLOAT16_SHARE, cost_of

    network = full("hippocampus").network
    whole = cost_of(build(network), 3, 1, network.patch)
    output = 3 * network.out_channels * math.prod(network.patch) * 4
    assert StepCosts(Memory(0, "", True, "cpu")).bytes_of(network, 3) == pytest.approx(
        whole.step_bytes(output, BFLOAT16_SHARE), rel=0.01
    )

"""Every entry of every registry: builds with MONAI, needs no trust, trains a step, and predicts in its plain form."""

from __future__ import annotations

import re
import typing
from typing import TYPE_CHECKING, Any

import pytest
import torch
from monai.bundle import ConfigParser

from volseg.bundle.folder import open_bundle
from volseg.bundle.trust import judge
from volseg.bundle.vocabulary import TARGETS
from volseg.networks.cost import on_meta
from volseg.planning.augmentations import AUGMENTATIONS, AugmentationName
from volseg.planning.losses import LOSSES, parse_loss
from volseg.planning.networks import NETWORKS, NetworkName, encoder_parts_of
from volseg.planning.optimizers import OPTIMIZERS, OptimizerName
from volseg.planning.presets import PRESETS, REGISTRIES
from volseg.planning.schedules import SCHEDULES, ScheduleName
from volseg.training.autocast import AutocastInferer
from volseg.training.budget import Budget

if TYPE_CHECKING:
    from tests.conftest import MakeBundle, MakePlan


def built(description: Any, **parts: object) -> Any:
    """What MONAI makes of plain data that refers to some parts."""
    return ConfigParser({"it": description, **parts}).get_parsed_content("it")


CHOICES = [(kind, name) for kind, registry in REGISTRIES.items() for name in registry]


@pytest.mark.parametrize(("kind", "name"), CHOICES)
def test_a_bundle_with_it_runs_without_trust_and_trains_a_step(
    kind: str, name: str, make_plan: MakePlan, make_bundle: MakeBundle
) -> None:
    if kind == "network":
        plan = make_plan(network=name)
    elif kind == "loss":
        plan = make_plan(loss=parse_loss(f"dice+0.1*{name}" if LOSSES[name].refines else name))
    else:
        plan = make_plan(**{kind: REGISTRIES[kind][name](*([(1.0, 1.0, 1.0)] if kind == "augmentation" else []))})
    assert judge(open_bundle(make_bundle(plan))).findings == ()
    network = built(plan.network.component())
    optimizer = built(plan.optimizer.component(), network_def=network, learning_rate=0.02)
    assert [group["lr"] for group in optimizer.param_groups] == [0.02]
    budget = Budget(10, 10)
    built(plan.schedule.component(), optimizer=optimizer, budget=budget)(None)
    assert 0 < optimizer.param_groups[0]["lr"] <= 0.02
    torch.manual_seed(0)
    item = {"image": torch.randn(1, *plan.patch), "label": torch.randint(0, 3, (1, *plan.patch)).float()}
    for step in plan.augmentation.components():
        item = built(step)(item)
    assert set(item["label"].unique().tolist()) <= {0.0, 1.0, 2.0}
    heads = AutocastInferer()(item["image"][None], network.train())
    assert isinstance(heads, list) == bool(plan.network.heads)
    assert not plan.network.heads or len(heads) == 1 + plan.network.heads
    before = [parameter.detach().clone() for parameter in network.parameters()]
    value = built(plan.loss.over_heads(plan.network.heads))(heads, item["label"][None])
    value.backward()
    optimizer.step()
    assert torch.isfinite(value)
    assert any(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    # A weight without a gradient stops a training on several GPUs. MONAI's transformer has norms that it never uses.
    left = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert all("norm_cross_attn" in name for name in left)
    assert not left or plan.network.name == "unetr"


@pytest.mark.parametrize("name", NETWORKS)
def test_the_plain_form_takes_the_weights_of_the_trained_one(name: str, make_plan: MakePlan) -> None:
    plan = make_plan(network=name)
    trained, plain = built(plan.network.component()), built(plan.network.for_inference.component())
    assert plan.network.for_inference.heads == 0
    state = trained.state_dict()
    extra = set(state) - set(plain.state_dict())
    assert bool(extra) == bool(plan.network.heads)
    assert extra == {key for key in state if any(part in key for part in plan.network.training_only)}
    plain.load_state_dict({key: value for key, value in state.items() if key not in extra}, strict=True)
    image = torch.randn(1, 1, *plan.patch)
    with torch.no_grad():
        assert torch.equal(plain.eval()(image), trained.eval()(image))


def test_names_words_and_choices_agree() -> None:
    assert set(typing.get_args(NetworkName)) == set(NETWORKS)
    assert set(typing.get_args(OptimizerName)) == set(OPTIMIZERS)
    assert set(typing.get_args(ScheduleName)) == set(SCHEDULES)
    assert set(typing.get_args(AugmentationName)) == set(AUGMENTATIONS)
    assert [*REGISTRIES.values()] == [NETWORKS, LOSSES, OPTIMIZERS, SCHEDULES, AUGMENTATIONS]
    for registry in REGISTRIES.values():
        assert all(kind.name == name and kind.words for name, kind in registry.items())
    for limits in PRESETS.values():
        assert {limits.network, limits.coarse_network} <= set(NETWORKS)
        assert limits.optimizer in OPTIMIZERS
        assert limits.schedule in SCHEDULES
        assert limits.augment in AUGMENTATIONS
        assert parse_loss(limits.loss)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_s_arguments_are_literals(name: str, make_plan: MakePlan) -> None:
    """So that other tools read them, and nothing of a network has to be evaluated."""
    described = make_plan(network=name).network.component()
    assert set(described) - {"_target_"} <= set(TARGETS["network_def"][str(described["_target_"])])
    assert "$" not in str(described)
    assert "@" not in str(described)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_encoder_is_the_way_down_to_the_widest_level(name: str, make_plan: MakePlan) -> None:
    kind = make_plan(network=name).network.for_inference
    with on_meta():
        network = built(kind.component())
    patterns = encoder_parts_of(kind.target)
    names = [one for one, _ in network.named_parameters()]
    encoder = [one for one in names if any(re.match(pattern, one) for pattern in patterns)]
    assert encoder == names[: len(encoder)] or name in ("unet", "attention-unet")
    assert encoder[0] == names[0]
    if not name.endswith("unetr"):
        widths = {one: weight.shape[0] for one, weight in network.named_parameters() if weight.ndim == 5}
        assert max(widths[one] for one in encoder if one in widths) == max(
            kind.topology.features[: -1 if name == "segnet" else None]
        )
    assert len(encoder) < len(names)
    assert "up" not in " ".join(encoder)

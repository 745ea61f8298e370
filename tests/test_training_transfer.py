"""Weights of another network: what is taken by name, channel and label, how it is trained on, what is kept of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from monai.networks.nets import DynUNet, UNet

from volseg.errors import BundleError
from volseg.training.budget import Budget
from volseg.training.transfer import Ends, Freezing, Initial, Row, Sides, common_core, split_rates, take_weights

if TYPE_CHECKING:
    from pathlib import Path

OURS = Sides(("T1", "FLAIR"), ("background", "core", "liver"))
THEIRS = Sides(("t1",), ("background", "Liver", "spleen"))
ENDS = Ends({"first.weight": (1,)}, {"last.weight": (0,), "last.bias": (0,)})


class Small(torch.nn.Module):
    def __init__(self, channels: int = 2, classes: int = 3, width: int = 4) -> None:
        super().__init__()
        self.first = torch.nn.Conv3d(channels, width, 1, bias=False)
        self.middle = torch.nn.Sequential(torch.nn.Conv3d(width, width, 1), torch.nn.BatchNorm3d(width))
        self.last = torch.nn.Conv3d(width, classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.last(self.middle(self.first(image)))  # type: ignore[no-any-return]


def fates(rows: tuple[Row, ...]) -> dict[str, str]:
    return {row.name: row.fate for row in rows}


def test_channels_are_shared_and_labels_go_by_their_names() -> None:
    own, source = Small(), Small(channels=1)
    drawn = own.last.weight.detach().clone()
    rows = take_weights(own, source.state_dict(), ENDS, OURS, THEIRS)
    assert fates(rows)["first.weight"] == fates(rows)["last.weight"] == fates(rows)["last.bias"] == "adapted"
    assert fates(rows)["middle.0.weight"] == fates(rows)["middle.1.running_var"] == "taken"
    # A sum over two equal channels is the source's answer to one.
    image = torch.rand(1, 1, 2, 2, 2)
    torch.testing.assert_close(own.first(image.repeat(1, 2, 1, 1, 1)), source.first(image))
    torch.testing.assert_close(own.last.weight[2], source.last.weight[1])  # liver
    torch.testing.assert_close(own.last.weight[0], source.last.weight[0])
    assert torch.equal(own.last.weight[1], drawn[1])  # core is new
    assert common_core(rows, ENDS)


@pytest.mark.parametrize(
    ("theirs", "channels", "expected"),
    [
        (("FLAIR", "T1"), 2, [1, 0]),  # in another order
        (("T2", "FLAIR", "T1"), 3, [2, 1]),  # more than are needed
        ((), 2, [0, 1]),  # nobody knows: by place
        (("A", "B"), 2, [0, 1]),
    ],
)
def test_channels_of_the_same_name_are_taken_from_their_place(
    theirs: tuple[str, ...], channels: int, expected: list[int]
) -> None:
    own, source = Small(), Small(channels=channels)
    take_weights(own, source.state_dict(), ENDS, OURS, Sides(theirs, OURS.outputs))
    assert torch.equal(own.first.weight, source.first.weight[:, expected])


@pytest.mark.parametrize(
    ("theirs", "why"),
    [(("background", "spleen", "lung"), "no label has the same name"), ((), "is not known"), (("a", "b"), "shape")],
)
def test_an_output_of_other_labels_stays_as_it_was_drawn(theirs: tuple[str, ...], why: str) -> None:
    own, source = Small(), Small()
    drawn = own.last.weight.detach().clone()
    rows = take_weights(own, source.state_dict(), ENDS, OURS, Sides(("T1", "FLAIR"), theirs))
    assert torch.equal(own.last.weight, drawn)
    (row,) = [row for row in rows if row.name == "last.weight" and row.fate == "fresh"]
    assert why in row.why


def test_the_same_network_for_the_same_labels_is_taken_whole() -> None:
    own, source = Small(), Small()
    rows = take_weights(own, source.state_dict(), ENDS, OURS, OURS)
    assert set(fates(rows).values()) == {"taken"}
    assert all(torch.equal(own.state_dict()[name], tensor) for name, tensor in source.state_dict().items())


@pytest.mark.parametrize("words", ["module.", "_orig_mod.", "module.net."])
def test_words_that_trainers_put_before_names_are_passed_over(words: str) -> None:
    own, source = Small(), Small()
    state = {f"{words}{name}": tensor for name, tensor in source.state_dict().items()}
    rows = take_weights(own, state, ENDS, OURS, OURS)
    assert set(fates(rows).values()) == {"taken"}


def test_weights_of_one_part_of_the_network_find_it() -> None:
    """As those of a self-supervised encoder, which is a part of the network to train."""
    own, source = torch.nn.ModuleDict({"swin": Small(), "head": torch.nn.Conv3d(3, 3, 1)}), Small()
    state = {f"module.{name}": tensor for name, tensor in source.state_dict().items()}
    rows = take_weights(own, state, Ends(), Sides(), Sides())
    assert fates(rows)["swin.middle.0.weight"] == "taken"
    assert fates(rows)["head.weight"] == "fresh"


def test_what_has_nothing_in_common_is_told_from_what_has() -> None:
    rows = take_weights(Small(), {"other.weight": torch.zeros(3, 3)}, ENDS, OURS, THEIRS)
    assert not common_core(rows, ENDS)
    assert fates(rows)["other.weight"] == "left"
    # Biases of the same name and shape are chance.
    assert not common_core(take_weights(Small(), {"middle.0.bias": torch.zeros(4)}, ENDS, OURS, OURS), ENDS)
    wider = take_weights(Small(), Small(width=5).state_dict(), ENDS, OURS, OURS)
    assert not common_core(wider, ENDS)
    assert {row.why for row in wider if row.fate == "left"} == {"another shape"}


def test_numbers_of_another_type_and_names_of_other_characters() -> None:
    state = {"middle.0.weight": torch.zeros(4, 4, 1, 1, 1, dtype=torch.int32), "John Doe\n": torch.zeros(2)}
    rows = take_weights(Small(), state, ENDS, OURS, OURS)
    assert "type" in next(row.why for row in rows if row.name == "middle.0.weight")
    assert all("John" not in row.name for row in rows)


def test_real_networks_give_what_their_source_gives() -> None:
    """A network with deep supervision, whose parts have several names, from its plain form."""
    more: dict[str, Any] = {
        "kernel_size": [3] * 3, "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": (4, 8, 16),
    }  # fmt: skip
    source = DynUNet(3, 1, 3, **more).eval()
    own = DynUNet(3, 1, 3, deep_supervision=True, deep_supr_num=1, **more).eval()
    rows = take_weights(own, source.state_dict(), Ends(), Sides(), Sides())
    assert {row.name.split(".")[0] for row in rows if row.fate == "fresh"} == {"deep_supervision_heads"}
    assert not [row for row in rows if row.fate == "left"]
    image = torch.rand(1, 1, 8, 8, 8)
    torch.testing.assert_close(own(image), source(image))


def test_taken_weights_learn_at_a_lower_rate_and_a_resumed_run_is_split_alike(tmp_path: Path) -> None:
    network = UNet(3, 1, 2, (4, 8), (2,))
    taken = tuple(name for name, _ in network.named_parameters() if name.startswith("model.0."))
    initial = Initial("00", tuple(Row(name, "taken", (1,), "") for name in taken), taken_rate=0.1)
    initial.write(tmp_path / "initial.json")
    assert Initial.read(tmp_path / "initial.json") == initial

    def optimizer() -> torch.optim.Optimizer:
        made = torch.optim.AdamW(network.parameters(), lr=0.02)
        split_rates(made, network, initial)
        return made

    first, second = optimizer(), optimizer()
    assert [group["lr"] for group in first.param_groups] == pytest.approx([0.02, 0.002])
    assert {id(one) for one in first.param_groups[1]["params"]} == {id(network.get_parameter(name)) for name in taken}
    assert sum(len(group["params"]) for group in first.param_groups) == len(list(network.parameters()))
    network(torch.rand(1, 1, 8, 8, 8)).sum().backward()
    first.step()
    second.load_state_dict(first.state_dict())
    for mine, other in zip(first.state_dict()["state"].values(), second.state_dict()["state"].values(), strict=True):
        assert torch.equal(mine["exp_avg"], other["exp_avg"])


def test_frozen_weights_and_statistics_stay_until_their_steps_are_over() -> None:
    network = Small()
    names = ("first.weight", "middle.0.weight", "middle.0.bias", "middle.1.weight", "middle.1.bias")
    budget = Budget(2, 2)
    freezing = Freezing(network, names, budget, steps=2)
    for module in freezing.keeping:
        module.register_forward_pre_hook(freezing._hold)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    changed = []
    for _ in range(3):
        network.train()
        freezing(None)  # type: ignore[arg-type]
        optimizer.zero_grad()
        network(torch.rand(2, 2, 2, 2, 2)).square().sum().backward()
        optimizer.step()
        budget.step()
        changed.append({name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])})
    assert changed[0] == changed[1] == {"last.weight", "last.bias"}
    assert changed[2] >= {*names, "middle.1.running_mean"}


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    assert Initial.read(tmp_path / "initial.json") is None
    (tmp_path / "initial.json").write_text('{"sha256": 3}')
    with pytest.raises(BundleError, match="--fresh"):
        Initial.read(tmp_path / "initial.json")

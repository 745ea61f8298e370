"""Where weights to begin with are read from, and which weights of each network lie at its ends."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
import torch
import yaml

from volseg import device
from volseg.bundle import initial
from volseg.bundle.folder import open_bundle
from volseg.bundle.initial import ends_of, read_source, sides_of
from volseg.bundle.parser import BundleParser
from volseg.bundle.trust import judge, record_trust
from volseg.errors import BundleError
from volseg.planning.networks import NETWORKS, encoder_parts_of
from volseg.training.transfer import Ends, Sides, common_core, take_weights

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeBundle, MakePlan


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_each_network_is_adapted_to_other_channels_and_labels(
    name: str, make_plan: MakePlan, make_bundle: MakeBundle
) -> None:
    """From a network of one channel and two labels to one of two channels and three labels."""
    source = make_bundle(make_plan(network=name), folder="source")
    bundle = make_bundle(make_plan(network=name, channels=("CT", "PT"), labels=(1, 2, 5)))
    torch.manual_seed(0)
    theirs, ours = (BundleParser(open_bundle(one), "train", {"device": "cpu"}) for one in (source, bundle))
    network, ends = ours.build("network"), ends_of(ours)
    drawn = theirs.build("network").state_dict()
    assert ends.inputs
    assert ends.outputs
    rows = take_weights(network, drawn, ends, sides_of(open_bundle(bundle)), sides_of(open_bundle(source)))
    fate = {row.name: row.fate for row in rows if row.fate != "left"}
    own = {name for name, _ in network.named_parameters()}
    assert {fate[name] for name in ends.inputs if name in own} == {"adapted"}
    assert {fate[name] for name in ends.outputs if name in own} == {"adapted"}
    # Nothing but the ends had to change, so no weight between them is as it was drawn.
    assert {fate[name] for name in own - ends.inputs.keys() - ends.outputs.keys()} == {"taken"}
    assert common_core(rows, ends)
    target = str(ours.plain("network_def")["_target_"])  # type: ignore[index,call-overload]
    patterns = encoder_parts_of(target)
    encoder = [name for name in own if any(re.match(one, name) for one in patterns)]
    assert 0 < len(encoder) < len(own)
    assert not set(encoder) & ends.outputs.keys()
    assert set(encoder) & ends.inputs.keys()


def test_checkpoints_of_other_trainers_are_read(tmp_path: Path) -> None:
    import numpy as np

    weights = {"a.weight": torch.ones(2, 2)}
    for number, content in enumerate(
        (
            weights,
            {"model": weights},
            {"state_dict": weights, "epoch": 3},
            {"network_weights": weights, "_best_ema": np.float64(0.5), "current_epoch": 7},
            {"format": 2, "network": {"a.weight": torch.zeros(2, 2)}, "average": weights, "optimizer": {}},
        )
    ):
        path = tmp_path / f"{number}.pt"
        torch.save(content, path)
        found = read_source(path)
        assert torch.equal(found.weights["a.weight"], weights["a.weight"])
        assert found.sides.outputs == ()
        assert found.trained_on is None


def test_the_only_weights_of_a_bundle_are_its_own(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    torch.save({"a": torch.ones(1)}, bundle / "models" / "best.pt")
    found = read_source(bundle)
    assert found.path == bundle / "models" / "best.pt"
    assert found.sides.inputs == ("CT",)
    assert found.sides.outputs == ("background", "structure 1", "structure 2")
    assert found.trained_on is None


def test_weights_that_fill_the_memory_or_change_meanwhile_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(1)}, path)
    whole = initial.read_state_dict

    def meanwhile(place: Path, names: tuple[str, ...]) -> object:
        state = whole(place, names)
        torch.save({"a": torch.zeros(1)}, path)
        return state

    with monkeypatch.context() as patched:
        patched.setattr(initial, "read_state_dict", meanwhile)
        with pytest.raises(BundleError, match="changed while it was read"):
            read_source(path)
    monkeypatch.setattr(device, "machine_bytes", lambda _: 16)
    with pytest.raises(BundleError, match="to read its weights") as caught:
        read_source(path)
    assert caught.value.code == "too-large"


def test_what_the_metadata_does_not_tell_is_not_known(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    path = bundle / "configs" / "metadata.json"
    content = json.loads(path.read_text())
    del content["network_data_format"]["inputs"]["image"]["channel_def"]
    content["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "background", "2": "core"}
    path.write_text(json.dumps(content))
    assert sides_of(open_bundle(bundle)) == Sides()
    path.write_text("{")
    assert sides_of(open_bundle(bundle)) == Sides()


def test_a_record_that_nobody_can_read_tells_of_no_cases(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    run = bundle / "runs" / "fold_0"
    run.mkdir(parents=True)
    torch.save({"a": torch.ones(1)}, run / "best.pt")
    (run / "training.json").write_text("{")
    assert read_source(run / "best.pt").trained_on is None


@pytest.mark.parametrize(
    "described",
    ["'@somewhere'", "{_target_: torch.nn.Identity, in_channels: 1}", "{_target_: monai.networks.nets.UNet}"],
)
def test_a_network_that_is_described_in_another_way_has_no_ends(make_bundle: MakeBundle, described: str) -> None:
    bundle = make_bundle()
    path = bundle / "configs" / "train.yaml"
    config = yaml.safe_load(path.read_text()) | {"network_def": yaml.safe_load(described)}
    path.write_text(yaml.safe_dump(config))
    record_trust(judge(open_bundle(bundle)))
    assert ends_of(BundleParser(open_bundle(bundle), "train", {})) == Ends()

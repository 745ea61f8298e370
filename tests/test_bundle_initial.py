"""Where weights to begin with are read from, and which weights of each network lie at its ends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import torch

from volseg.bundle.folder import open_bundle
from volseg.bundle.initial import ends_of, read_source, sides_of
from volseg.bundle.parser import BundleParser
from volseg.planning.networks import NETWORKS, encoder_parts_of
from volseg.training.transfer import common_core, take_weights

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

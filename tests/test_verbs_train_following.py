"""What a process does that only helps another one's training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch

from volseg.outcomes import sha256_of
from volseg.training.transfer import Initial
from volseg.verbs.train import TrainOptions
from volseg.verbs.train.following import follow_training

if TYPE_CHECKING:
    from tests.conftest import MakeBundle


@pytest.mark.parametrize("options", [{}, {"freeze": "encoder"}, {"freeze": "encoder", "fresh": True}])
def test_it_helps_a_run_that_just_began_with_other_weights(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """The leader wrote what it began with, and no checkpoint yet, which looks like a run that was stopped."""
    bundle = make_bundle()
    (bundle / "runs" / "fold_0").mkdir(parents=True)
    Initial("0" * 64, (), 0.3).write(bundle / "runs" / "fold_0" / "initial.json")
    config = sha256_of(bundle / "configs" / "train.yaml")
    message = {"fold": 0, "data": None, "config": config, "seed": 5}
    followed: list[object] = []
    monkeypatch.setattr("volseg.training.ranks.receive", lambda _: message)
    monkeypatch.setattr("volseg.training.ranks.follow", lambda _, trainer, seed: followed.extend((trainer, seed)))
    monkeypatch.setattr("volseg.bundle.parser.BundleParser.build", lambda _, key: key)
    group = SimpleNamespace(device=torch.device("cpu"), ranks=SimpleNamespace(rank=1))
    follow_training(bundle, TrainOptions(**options), cast("Any", group))
    assert followed == ["train#trainer", 5]

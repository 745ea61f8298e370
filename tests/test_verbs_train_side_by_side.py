"""How many folds are trained at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from volseg.bundle.cost import training_bytes
from volseg.bundle.folder import Bundle
from volseg.bundle.parser import BundleParser
from volseg.verbs.train import side_by_side
from volseg.verbs.train.side_by_side import BASE_BYTES, ROOM_SHARE, SideBySide, choose_side_by_side

if TYPE_CHECKING:
    from tests.conftest import MakeBundle


def test_as_many_as_cores_and_memory_have_room_for_in_as_few_rounds(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = BundleParser(Bundle(make_bundle()), "train", {})
    need = training_bytes(parser.sketch("network_def"), parser.whole())
    assert need > 5 * 4 * 20_000  # five times its weights in float32, at least

    def chosen(
        cores: int, folds_in_memory: float, asked: int = 0, device: str = "cpu", on_gpu: float = 0
    ) -> SideBySide:
        taken = BASE_BYTES + (need if device == "cpu" else 0)
        monkeypatch.setattr(side_by_side, "available_cores", lambda: cores)
        monkeypatch.setattr(side_by_side, "available_bytes", lambda: folds_in_memory * taken / ROOM_SHARE)
        monkeypatch.setattr(side_by_side, "machine_bytes", lambda _: on_gpu * (BASE_BYTES + need) / ROOM_SHARE)
        return choose_side_by_side([parser] * 5, asked, device)

    assert chosen(cores=8, folds_in_memory=9) == SideBySide(5, 1)
    assert chosen(cores=4, folds_in_memory=9) == SideBySide(3, 1)  # two rounds, as four at once would take
    assert chosen(cores=8, folds_in_memory=2.5) == SideBySide(2, 4)
    assert chosen(cores=8, folds_in_memory=0.5) == SideBySide(1, 8)
    assert chosen(cores=2, folds_in_memory=0.5, asked=4) == SideBySide(4, 1)
    assert chosen(cores=16, folds_in_memory=9, device="cuda", on_gpu=1.5) == SideBySide(1, 16)
    assert chosen(cores=16, folds_in_memory=9, device="cuda", on_gpu=8) == SideBySide(5, 3)

"""What bfloat16 changes is counted as the labels say, within the time that there is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.engines import SupervisedEvaluator

from volseg.training import precision as module
from volseg.training.autocast import AutocastInferer
from volseg.training.budget import Budget
from volseg.training.precision import MAX_SECONDS, Bfloat16Change, measure_change, seconds_to_measure

CPU = torch.device("cpu")
DELTA = 2.0**-10
"""bfloat16 has 8 bits of precision: 1 + this is 1 there."""


class Network(torch.nn.Module):
    """Of two classes; the second is likelier where the image is above 1."""

    def __init__(self) -> None:
        super().__init__()
        self.identity = torch.nn.Conv3d(1, 1, 1)
        torch.nn.init.ones_(self.identity.weight)
        torch.nn.init.zeros_(self.identity.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found = self.identity(image)
        return torch.cat([torch.ones_like(found), found], dim=1)


@pytest.fixture
def evaluator() -> Any:
    """Of three cases with 0, 2 and 3 of 64 voxels that bfloat16 takes for another label."""
    images = torch.full((3, 1, 4, 4, 4), 0.5)
    images[:, 0, 0] = 2
    images[1, 0, 1, 0, :2] = 1 + DELTA
    images[2, 0, 2, :3, 0] = 1 + DELTA
    loader = torch.utils.data.DataLoader([{"image": image, "label": image} for image in images], batch_size=1)
    return SupervisedEvaluator(
        device=CPU, val_data_loader=loader, network=Network(), inferer=AutocastInferer(anywhere=True)
    )


def test_the_voxels_that_change_are_counted_over_all_cases(evaluator: Any) -> None:
    assert measure_change(evaluator, seconds=600, validation_seconds=0.01) == Bfloat16Change(3, 192, 5)


def test_it_ends_when_another_case_would_take_too_long(evaluator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    evaluator.network.register_forward_hook(lambda *_: now.__setitem__(0, now[0] + 1.0))
    # 2 seconds each: the third would end after 6.
    assert measure_change(evaluator, seconds=5, validation_seconds=1.0) == Bfloat16Change(2, 128, 2)
    assert measure_change(evaluator, seconds=5, validation_seconds=6.0) is None  # a validation of one took 2 seconds


def test_time_is_taken_for_it_where_bfloat16_is_used(evaluator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seconds_to_measure(evaluator, Budget(1, 1, minutes=5), CPU) == pytest.approx(6)
    assert seconds_to_measure(evaluator, Budget(1, 1, minutes=500), CPU) == MAX_SECONDS
    assert seconds_to_measure(evaluator, Budget(1, 1), CPU) < 1  # nothing has been trained yet
    evaluator.inferer.anywhere = False
    for used in (True, False):
        monkeypatch.setattr(module, "use_bfloat16", lambda _, used=used: used)
        assert bool(seconds_to_measure(evaluator, Budget(1, 1, minutes=5), CPU)) is used
    assert seconds_to_measure(None, Budget(1, 1, minutes=5), CPU) == 0  # no case is held out


def test_what_is_kept_back_for_it_is_no_time_for_steps() -> None:
    budget = Budget(1, 1, minutes=10)
    before = budget.left_seconds
    budget.measuring_seconds = 9.0
    assert before - budget.left_seconds == pytest.approx(9, abs=0.5)

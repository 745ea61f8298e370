"""Which device to compute on."""

from __future__ import annotations

import pytest
import torch

from volseg.device import choose_device
from volseg.errors import UsageError


@pytest.mark.parametrize("there", [True, False])
def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert choose_device(None) == ("cuda" if there else "cpu")
    assert choose_device("cpu") == "cpu"


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no GPU that torch can use"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("cuda") == "cuda"


def test_another_device_is_refused() -> None:
    with pytest.raises(UsageError, match="cpu or cuda"):
        choose_device("tpu")

"""Which device to compute on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from volseg.device import choose_device, machine_bytes, memory_short
from volseg.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


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


CUDA = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 23.55 GiB of which 1.2 GiB is free."
)


def chained() -> BaseException:
    try:
        try:
            raise MemoryError
        except MemoryError as error:
            raise RuntimeError("applying transform <Spacingd>") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "Memory ran out. Buy"),
        (chained(), "Memory ran out. Buy"),
        (torch.OutOfMemoryError(CUDA), "The GPU's memory ran out: 2.5 GiB more were needed at once. Buy"),
        (RuntimeError(CUDA), "The GPU's memory ran out: 2.5 GiB"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1073741824 bytes."),
            "Memory ran out: 1 GiB more",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "Memory ran out. Buy"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "The GPU's memory ran out. Buy"),
    ],
)
def test_memory_that_runs_out_is_known_however_it_is_said(error: BaseException, said: str) -> None:
    found = memory_short(error, "Buy more.")
    assert found is not None
    assert found.message.startswith(said)
    assert isinstance(found, MemoryError)
    assert memory_short(found) is found


def test_torch_s_own_words_are_known() -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(2**55, dtype=torch.float32)
    assert memory_short(caught.value) is not None


def test_numpy_s_own_words_are_known() -> None:
    with pytest.raises(MemoryError) as caught:
        np.empty((2**20, 2**20, 2**10), np.float64)
    found = memory_short(caught.value)
    assert found is not None
    assert "GiB more were needed" in found.message


@pytest.mark.parametrize("error", [ValueError("out of memory"), RuntimeError("shapes differ"), KeyError("x")])
def test_other_errors_are_no_lack_of_memory(error: BaseException) -> None:
    assert memory_short(error) is None


def test_the_memory_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert 2**28 < machine_bytes("cpu") < 2**63
    (tmp_path / "memory.max").write_text(f"{2**20}\n")
    monkeypatch.setattr("volseg.device.MEMORY_LIMITS", (str(tmp_path / "memory.max"), str(tmp_path / "absent")))
    assert machine_bytes("cpu") == 2**20
    (tmp_path / "memory.max").write_text("max\n")
    assert machine_bytes("cpu") > 2**28

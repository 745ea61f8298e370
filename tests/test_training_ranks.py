"""Several processes that share a training: their gradient is that of one, and the end of one ends the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss

from volseg.errors import BundleError, UsageError
from volseg.training.ranks import JoinedLoss, Ranks

PART = """
import sys, time
from pathlib import Path
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from volseg.errors import BundleError
from volseg.training.ranks import JoinedLoss, Ranks

ranks = Ranks.from_environment()
folder = Path(sys.argv[1])
with ranks.joined(torch.device("cpu")) as group:
    if sys.argv[2] == "wait":
        (folder / f"pid{ranks.rank}").write_text(str(__import__("os").getpid()))
        try:
            for _ in range(6000):
                group.broadcast(torch.zeros(1))
                time.sleep(0.01)
        except BundleError as error:
            (folder / f"said{ranks.rank}").write_text(error.code)
        sys.exit(0)
    given = torch.load(folder / "given.pt", weights_only=True)
    network = torch.nn.Conv3d(1, 3, 3, padding=1)
    network.load_state_dict(given["network"])
    part = slice(ranks.rank, None, ranks.world)
    loss = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True, batch=True))
    found = network(given["image"][part])
    value = JoinedLoss(loss, group)([found, found[..., ::2]], given["label"][part])
    value.backward()
    total = group.add(torch.cat([weight.grad.reshape(-1) for weight in network.parameters()]))
    if ranks.leads:
        torch.save({"loss": value.detach(), "gradient": total}, folder / "found.pt")
"""


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    script = folder / "part.py"
    script.write_text(textwrap.dedent(PART))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    return subprocess.Popen(
        [*command, str(folder), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_two_processes_have_the_gradient_of_one_with_the_joined_batch(tmp_path: Path) -> None:
    """Also for a loss that is no mean over samples (Dice over the batch), and for parts of unequal size."""
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 3, 3, padding=1)
    image, label = torch.randn(3, 1, 8, 8, 8), torch.randint(0, 3, (3, 1, 8, 8, 8)).float()
    torch.save({"network": network.state_dict(), "image": image, "label": label}, tmp_path / "given.pt")
    process = start(tmp_path, "once")
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    logits = network(image)
    loss = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True, batch=True))(
        [logits, logits[..., ::2]], label
    )
    loss.backward()
    expected = torch.cat([weight.grad.reshape(-1) for weight in network.parameters() if weight.grad is not None])
    torch.testing.assert_close(found["loss"], loss.detach())
    torch.testing.assert_close(found["gradient"], expected, rtol=1e-4, atol=1e-6)


def test_a_process_that_dies_ends_the_others_with_a_sentence(tmp_path: Path) -> None:
    process = start(tmp_path, "wait")
    try:
        deadline = time.monotonic() + 240
        while not (tmp_path / "pid1").is_file() or not (tmp_path / "pid1").read_text():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(0.5)
        os.kill(int((tmp_path / "pid1").read_text()), signal.SIGKILL)
        process.communicate(timeout=120)
    finally:
        process.kill()
    assert (tmp_path / "said0").read_text() == "rank-ended"


def test_a_process_alone_is_none_and_an_odd_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    assert Ranks.from_environment() is None
    for name, value in (("MASTER_ADDR", "localhost"), ("RANK", "0"), ("WORLD_SIZE", "1")):
        monkeypatch.setenv(name, value)
    assert Ranks.from_environment() is None
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UsageError, match="whole numbers"):
        Ranks.from_environment()
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "4")
    with pytest.raises(UsageError, match="no process 4 of 4"):
        Ranks.from_environment()
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert Ranks.from_environment() == Ranks(3, 4, 1, 2)


def test_patches_of_different_sizes_are_refused() -> None:
    """gloo takes fewer numbers than it waits for without a word; the rest would be what lay in memory."""

    class Other:
        ranks = Ranks(0, 2, 0, 2)

        def broadcast(self, tensor: torch.Tensor, source: int) -> torch.Tensor:
            return tensor if source == 0 else torch.tensor([1, 1, 4, 4, 3])

    loss = JoinedLoss(torch.nn.MSELoss(), cast("Any", Other()))
    with pytest.raises(BundleError, match="patches of different sizes"):
        loss(torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4))

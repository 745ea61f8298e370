"""Several processes that share a training: their gradient is that of one, and the end of one ends the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from monai.engines import SupervisedTrainer
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import distributed

from tests.conftest import CopyBundle, uncounted
from tests.heard import Heard
from volseg.errors import BundleError, UsageError
from volseg.training.ranks import Followers, Group, JoinedLoss, Ranks, follow, receive, share
from volseg.training.steps import StepLoader
from volseg.verbs.train import TrainOptions, train
from volseg.verbs.train.following import follow_training

PART = """
import os, sys, time
from pathlib import Path
import torch
from volseg.errors import BundleError
from volseg.training.ranks import Ranks

ranks, folder = Ranks.from_environment(), Path(sys.argv[1])
with ranks.joined(torch.device("cpu")) as group:
    (folder / f"pid{ranks.rank}").write_text(str(os.getpid()))
    try:
        for _ in range(6000):
            group.broadcast(torch.zeros(1))
            time.sleep(0.01)
    except BundleError as error:
        (folder / f"said{ranks.rank}").write_text(error.code)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    script = folder / "part.py"
    script.write_text(textwrap.dedent(PART))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    return subprocess.Popen(
        [*command, str(folder)], env=uncounted(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_a_process_that_dies_ends_the_others_with_a_sentence(tmp_path: Path) -> None:
    process = start(tmp_path)
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


class Cases:
    """Prepared cases, as far as a loader asks for them."""

    def __len__(self) -> int:
        return 5

    def name(self, index: int) -> str:
        return f"case_{index}"

    def sample(self, index: int, seed: int) -> dict[str, torch.Tensor]:
        drawn = torch.Generator().manual_seed(seed)
        image = torch.randn(1, 8, 8, 8, generator=drawn) + index
        return {"image": image, "label": (image > index).float()}


def make_trainer(epochs: int = 2) -> SupervisedTrainer:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(4, 2, 1))
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=StepLoader(Cases(), 3, 2),  # type: ignore[arg-type]
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1, momentum=0.9),
        loss_function=DiceCELoss(to_onehot_y=True, softmax=True, batch=True),
        decollate=False,
    )


def together(folder: Path, *parts: Callable[[Group], None]) -> list[BaseException | None]:
    """Run each in a thread of its own, joined as processes would be; what each raised."""
    raised: list[BaseException | None] = [None] * len(parts)

    def run(rank: int) -> None:
        store = distributed.FileStore(str(folder / "met"), len(parts))
        group = distributed.ProcessGroupGloo(store, rank, len(parts), timedelta(seconds=60))
        try:
            parts[rank](Group(Ranks(rank, len(parts), rank, len(parts)), torch.device("cpu"), group))
        except BaseException as error:  # noqa: BLE001
            raised[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return raised


def test_two_processes_have_the_gradient_of_one_with_the_joined_batch(tmp_path: Path) -> None:
    """Also for a loss that is no mean over samples (Dice over the batch), for heads, and for parts of unequal size."""
    torch.manual_seed(0)
    networks = [torch.nn.Conv3d(1, 3, 3, padding=1) for _ in range(3)]
    for network in networks:
        network.load_state_dict(networks[0].state_dict())
    image, label = torch.randn(3, 1, 8, 8, 8), torch.randint(0, 3, (3, 1, 8, 8, 8)).float()
    loss = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True, batch=True))
    logits = networks[2](image)
    expected = loss([logits, logits[..., ::2]], label)
    expected.backward()
    found = {}

    def part(group: Group) -> None:
        network, own = networks[group.ranks.rank], slice(group.ranks.rank, None, 2)
        logits = network(image[own])
        value = JoinedLoss(loss, group)([logits, logits[..., ::2]], label[own])
        value.backward()
        assert network.weight.grad is not None
        found[group.ranks.rank] = value.detach(), group.add(network.weight.grad.clone())

    assert together(tmp_path, part, part) == [None, None]
    torch.testing.assert_close(found[0][0], expected.detach())
    torch.testing.assert_close(found[1][0], expected.detach())
    assert networks[2].weight.grad is not None
    torch.testing.assert_close(found[0][1], networks[2].weight.grad, rtol=1e-4, atol=1e-6)


def test_a_training_shared_by_two_ends_with_the_weights_of_one(tmp_path: Path) -> None:
    alone, leader, follower = make_trainer(), make_trainer(), make_trainer()
    alone.run()
    with torch.no_grad():
        for weight in follower.network.parameters():
            weight.zero_()  # a follower gets the weights of each step

    def lead(group: Group) -> None:
        followers = Followers(group)
        followers.attach(leader)
        followers.call({"seed": 0})
        leader.run()
        followers.release()
        followers.release()  # told once

    def help_it(group: Group) -> None:
        message = receive(group)
        assert message == {"seed": 0}
        follow(group, follower, message["seed"])

    assert together(tmp_path, lead, help_it) == [None, None]
    for ours, expected in zip(leader.network.parameters(), alone.network.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    assert len(next(iter(follower.data_loader))["image"]) == 1  # its part of three


def test_a_bundle_that_is_not_the_leader_s_is_refused(copy_bundle: CopyBundle, tmp_path: Path) -> None:
    bundle = copy_bundle()

    def lead(group: Group) -> None:
        Followers(group).call({"fold": 0, "data": None, "config": "other", "seed": 0})

    def help_it(group: Group) -> None:
        follow_training(bundle, TrainOptions(), group)

    _, raised = together(tmp_path, lead, help_it)
    assert isinstance(raised, BundleError)
    assert raised.code == "rank-differs"


def test_a_follower_goes_when_there_is_nothing_to_train(tmp_path: Path) -> None:
    found = together(
        tmp_path,
        lambda group: Followers(group).release(),
        lambda group: follow_training(tmp_path / "none", TrainOptions(), group),
    )
    assert found == [None, None]


@pytest.mark.parametrize("fails", [False, True])
def test_the_first_process_trains_and_then_lets_the_others_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    here = threading.local()
    found: dict[int, object] = {}
    heard = Heard()

    @contextmanager
    def joined(ranks: Ranks, device: torch.device) -> Iterator[Group]:
        assert (ranks, device) == (here.group.ranks, torch.device("cpu"))
        yield here.group

    def trained(_: Path, options: TrainOptions, *__: object) -> tuple[str, ...]:
        assert options.memory_for_data == "500MB"  # of 1 GB, for two
        if fails:
            raise BundleError("far enough")
        return ("the result",)

    def part(group: Group) -> None:
        here.group = group
        found[group.ranks.rank] = train(tmp_path, TrainOptions(memory_for_data="1GB"), heard)

    monkeypatch.setattr(Ranks, "from_environment", lambda: here.group.ranks)
    monkeypatch.setattr(Ranks, "joined", joined)
    monkeypatch.setattr("volseg.verbs.train.verb._train", trained)
    first, second = together(tmp_path, part, part)
    assert second is None
    assert found[1] == ()
    assert heard.lines == ["Each batch is shared by 2 processes"]
    if fails:
        assert str(first) == "far enough"
    else:
        assert found[0] == ("the result",)


def test_what_cannot_be_shared_is_refused() -> None:
    group = Group(Ranks(0, 4, 0, 4), torch.device("cpu"), None)
    with pytest.raises(UsageError, match="batch of 3 can't be shared by 4"):
        share(make_trainer(), group)
    trainer = make_trainer()
    trainer.data_loader = [0]
    with pytest.raises(UsageError, match="Only trainings that volseg planned"):
        share(trainer, group)


def test_several_processes_train_one_fold(copy_bundle: CopyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MASTER_ADDR", "localhost"), ("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="one fold at a time"):
        train(copy_bundle(), TrainOptions(cv=True))


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

"""How many folds are trained at once, and from when their minutes count."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from volseg.bundle.cost import training_bytes
from volseg.bundle.folder import Bundle
from volseg.bundle.parser import BundleParser
from volseg.progress import SILENT
from volseg.verbs.train import side_by_side
from volseg.verbs.train.fold import Fold
from volseg.verbs.train.options import TrainOptions
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

    assert chosen(cores=8, folds_in_memory=9) == SideBySide(5, 8, 5)
    assert chosen(cores=4, folds_in_memory=9) == SideBySide(3, 4, 5)  # two rounds, as four at once would take
    assert chosen(cores=8, folds_in_memory=2.5) == SideBySide(2, 8, 5)
    assert chosen(cores=8, folds_in_memory=0.5) == SideBySide(1, 8, 5)
    assert chosen(cores=2, folds_in_memory=0.5, asked=4) == SideBySide(4, 2, 5)
    assert chosen(cores=16, folds_in_memory=9, device="cuda", on_gpu=1.5) == SideBySide(1, 16, 5)
    assert chosen(cores=16, folds_in_memory=9, device="cuda", on_gpu=8) == SideBySide(5, 16, 5)


@pytest.mark.parametrize(
    ("workers", "cores", "count", "threads"),
    [
        (2, 2, 5, [1, 1, 1, 1, 2]),
        (3, 8, 5, [2, 2, 2, 4, 4]),
        (5, 16, 5, [3] * 5),
        (4, 2, 5, [1, 1, 1, 1, 2]),
        (1, 8, 3, [8] * 3),
        (3, 2, 6, [1] * 6),
    ],
)
def test_the_last_round_shares_all_cores(workers: int, cores: int, count: int, threads: list[int]) -> None:
    plan = SideBySide(workers, cores, count)
    assert [plan.threads(turn) for turn in range(count)] == threads


@pytest.mark.parametrize(("workers", "counted"), [(5, [7.0] * 5), (2, [7.0, 7.0, None, None, None])])
def test_minutes_count_from_the_command_where_a_fold_begins_at_once(
    workers: int, counted: list[float | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    seen: list[float | None] = []

    def run_jobs(work: object, jobs: list[tuple[str, side_by_side.FoldJob]], *_: object, **__: object) -> Any:
        del work
        seen.extend(job.started for _, job in jobs)
        yield from ()

    monkeypatch.setattr(side_by_side, "run_jobs", run_jobs)
    monkeypatch.setattr(
        side_by_side, "choose_side_by_side", lambda *_: side_by_side.SideBySide(workers, cores=2, count=5)
    )
    bundle: Any = SimpleNamespace(runs=tmp_path, root=tmp_path)
    device: Any = SimpleNamespace(type="cpu")
    options = TrainOptions(cv=True, minutes=10)
    folds = [Fold(bundle, number, options, device, {}, complete=False) for number in range(5)]
    side_by_side.train_all(folds, {}, None, None, None, 7.0, SILENT)
    assert seen == counted

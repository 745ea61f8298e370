"""The steps of neighbouring cases: what runs while the network works on another, and what waits for memory."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.weighed import weighed
from volseg.errors import InputError
from volseg.inference.segmenter import PreparedImage, Segmenter
from volseg.verbs.predict import PredictOptions, predict

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeBundle, WriteImage

WAIT_SECONDS = 60.0


@pytest.mark.parametrize("has_room", [True, False])
def test_the_next_case_is_preprocessed_while_the_network_works_where_the_memory_has_room(
    make_bundle: MakeBundle,
    write_image: WriteImage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_room: bool,
) -> None:
    prepare, segment = Segmenter.prepare, Segmenter.segment
    order: list[str] = []
    both = threading.Event()

    def preparing(self: Segmenter, *arguments: Any) -> PreparedImage:
        found = prepare(self, *arguments)
        order.append("prepared")
        if order.count("prepared") == 2:
            both.set()
        return found

    def segmenting(self: Segmenter, *arguments: Any) -> Any:
        if has_room:
            assert both.wait(WAIT_SECONDS), "the next case was not preprocessed meanwhile"
        found = segment(self, *arguments)
        order.append("segmented")
        return found

    monkeypatch.setattr(Segmenter, "prepare", preparing)
    monkeypatch.setattr(Segmenter, "segment", segmenting)
    if not has_room:
        monkeypatch.setattr("volseg.inference.segmenter.available_bytes", lambda: 1000)
    for name in "ab":
        write_image(tmp_path / "images" / f"{name}.nii.gz", np.random.default_rng(0).normal(50, 80, (14, 12, 10)))
    ledger = predict(weighed(make_bundle()), tmp_path / "images", tmp_path / "out")
    assert [outcome.code for outcome in ledger.outcomes] == ["done", "done"]
    each = ["prepared", "segmented"]
    assert order == (["prepared", *each, "segmented"] if has_room else [*each, *each])


def test_what_is_missing_beside_a_mask_is_made_without_the_network(
    make_bundle: MakeBundle, write_image: WriteImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_image(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(50, 80, (14, 12, 10)))
    bundle, out = weighed(make_bundle()), tmp_path / "out"
    assert predict(bundle, image, out).exit_code == 0

    def load(*_: object) -> None:
        raise AssertionError("the network was loaded")

    monkeypatch.setattr("volseg.bundle.weights.load_into", load)
    assert predict(bundle, image, out, PredictOptions(statistics=True)).exit_code == 0
    assert (out / "statistics.csv").read_text().count("\n") > 1


def test_a_case_without_room_beside_another_is_preprocessed_when_its_turn_comes(
    make_bundle: MakeBundle, write_image: WriteImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = Segmenter.prepare
    threads: list[bool] = []

    def preparing(self: Segmenter, *arguments: Any) -> PreparedImage:
        threads.append(threading.current_thread() is threading.main_thread())
        if not threads[-1]:
            raise InputError("The image takes more than --memory allows.", code="too-large")
        return prepare(self, *arguments)

    monkeypatch.setattr(Segmenter, "prepare", preparing)
    for name in "ab":
        write_image(tmp_path / "images" / f"{name}.nii.gz", np.random.default_rng(0).normal(50, 80, (14, 12, 10)))
    assert predict(weighed(make_bundle()), tmp_path / "images", tmp_path / "out").exit_code == 0
    assert sorted(threads) == [False, False, True, True]


def test_nothing_is_written_through_a_link_in_a_case_s_own_folder(
    make_bundle: MakeBundle, write_image: WriteImage, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    for folder in (elsewhere, tmp_path / "out" / "stl"):
        folder.mkdir(parents=True)
    (tmp_path / "out" / "stl" / "a").symlink_to(elsewhere)
    for name in "ab":
        write_image(tmp_path / "images" / f"{name}.nii.gz", np.random.default_rng(0).normal(50, 80, (14, 12, 10)))
    options = PredictOptions(surface=("stl",))
    ledger = predict(weighed(make_bundle()), tmp_path / "images", tmp_path / "out", options)
    assert [outcome.code for outcome in ledger.outcomes] == ["link", "done"]
    assert not list(elsewhere.iterdir())
    assert not (tmp_path / "out" / "a.nii.gz").exists()

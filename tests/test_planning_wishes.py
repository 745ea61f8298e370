"""What a person asks of a plan: sizes as they are written."""

from __future__ import annotations

import json

import pytest

from tests.plans import LABELS, VOLUMES, fingerprint, planned
from volseg.bundle.configs import inference_config, train_config
from volseg.errors import UsageError
from volseg.planning.plan import choose
from volseg.planning.wishes import Wishes, parse_memory, parse_mirror


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GB", 24 * 10**9), ("24 gb", 24 * 10**9), ("1.5GiB", 3 * 2**29), ("900MB", 900 * 10**6), ("1TB", 10**12)],
)
def test_a_size_is_read_as_it_is_written(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "24", "GB", "-1GB", "0GB", "nanGB", "1e3GB", "24 gigabytes", "9" * 400 + "GB"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="such as 24GB"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("text", "axes"), [("none", ()), ("R", (0,)), ("SA", (1, 2)), ("r, a, s", (0, 1, 2)), ("None", ())]
)
def test_axes_to_mirror(text: str, axes: tuple[int, ...]) -> None:
    assert parse_mirror(text) == axes


@pytest.mark.parametrize("text", ["", "L", "RR", "x", "nones", "all", ","])
def test_what_is_no_axis_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--mirror takes none, or axes"):
        parse_mirror(text)


@pytest.mark.parametrize(("shape", "spacing"), VOLUMES[:5])
def test_a_plan_is_made_again_of_what_plan_json_keeps(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    plan = choose(fingerprint([shape], [spacing]), LABELS, "bundle", Wishes(preset="full", mirror=(0, 2)))
    wishes = Wishes.from_plain(json.loads(json.dumps(plan.wishes.to_plain())))
    again = choose(fingerprint([shape], [spacing]), LABELS, "bundle", wishes)
    assert train_config(again, "data") == train_config(plan, "data")
    assert inference_config(again, "data") == inference_config(plan, "data")


def test_what_plan_json_keeps_is_bounded() -> None:
    plain = planned(*VOLUMES[0]).wishes.to_plain()
    for bad in (
        {"features": [10**9] * 5}, {"network": "eval"}, {"patch": [0, 8, 8]}, {"loss": "dice" * 100}, {},
        {"strides": [[4096] * 3] * 16, "kernels": [[3] * 3] * 16, "features": [4] * 16},
    ):  # fmt: skip
        with pytest.raises(ValueError):  # pydantic's
            Wishes.from_plain(plain | bad if bad else {})

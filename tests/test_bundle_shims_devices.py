"""A GPU that a config names by itself, on machines with and without one."""

from __future__ import annotations

from typing import Any

import pytest

from volseg.bundle.shims import SHIMS, Bundled, bridge


def test_a_gpu_stays_where_there_is_one() -> None:
    config: Any = {"part": "$torch.device('cuda')"}
    assert bridge(config, "train", Bundled(device="cuda"), SHIMS) == (config, ())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("cuda", "cpu"),
        ("cuda:1", "cpu"),
        ("$torch.device('cuda')", "$torch.device('cpu')"),
        ('$x.to(torch.device( "cuda:3" ))', "$x.to(torch.device('cpu'))"),
        ("cuda:x", "cuda:x"),
        ("$torch.device('cuda')if torch.cuda.is_available()else'cpu'",) * 2,
    ],
)
def test_the_processor_takes_its_place_where_there_is_none(before: str, after: str) -> None:
    config: Any = {"part": before}
    assert bridge(config, "train", Bundled(device="cpu"), SHIMS)[0] == {"part": after}
    assert bridge(config, "train", Bundled(device="cuda"), SHIMS)[0] == config

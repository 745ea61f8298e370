"""What a person asks of a plan: sizes as they are written."""

from __future__ import annotations

import pytest

from volseg.errors import UsageError
from volseg.planning.wishes import parse_memory, parse_mirror


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

"""Versions, and what is told of a shim that was needed."""

from __future__ import annotations

from typing import Any

import pytest

from volseg.bundle.shims import SHIMS, Bundled, Used, bridge
from volseg.bundle.shims.shim import version_of


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.3.0rc5", (1, 3)),
        ("0.9", (0, 9)),
        ("10.12.1", (10, 12)),
        ("v1.3", None),
        ("", None),
        (1.3, None),
        (None, None),
    ],
)
def test_a_version_is_its_first_two_numbers(text: object, version: tuple[int, int] | None) -> None:
    assert version_of(text) == version


def test_before_is_by_numbers_and_never_where_nobody_knows() -> None:
    assert Bundled(monai=(1, 9)).is_before(1, 10)
    assert not Bundled(monai=(1, 10)).is_before(1, 9)
    assert not Bundled(monai=(1, 5)).is_before(1, 5)
    assert not Bundled(monai=None).is_before(9, 9)


def test_a_version_that_nobody_can_read_bridges_no_default() -> None:
    config: Any = {"part": {"_target_": "LoadImaged", "keys": "image"}}
    assert bridge(config, "train", Bundled(reads_meta_dicts=True), SHIMS) == (config, ())


def test_what_was_bridged_is_one_line_however_a_config_is_written() -> None:
    one = Used("name", "train", ("a\nb" + "x" * 200,), "why")
    assert "\n" not in str(one)
    assert len(str(one)) < 120
    assert str(Used("name", "train", ("a", "b", "c"), "why")) == "a and 2 other places: why (name)"

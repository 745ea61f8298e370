"""Another plan's choices carried into a config that a person changed."""

from __future__ import annotations

import pytest

from volseg.bundle.changes import carried
from volseg.errors import BundleError

BEFORE = {"a": 1, "list": [{"_target_": "x", "size": [8, 8]}, "keep"], "net": {"_target_": "n", "width": 4}}
AFTER = {"a": 1, "list": [{"_target_": "x", "size": [16, 8]}, "keep"], "net": {"_target_": "n", "width": 8}}


def test_what_neither_plan_touches_stays() -> None:
    current = BEFORE | {"a": 5, "own": "key", "list": [{"_target_": "x", "size": [8, 8], "more": 1}, "other"]}
    assert carried(current, BEFORE, AFTER) == {
        "a": 5,
        "own": "key",
        "list": [{"_target_": "x", "size": [16, 8], "more": 1}, "other"],
        "net": {"_target_": "n", "width": 8},
    }
    assert carried(current, BEFORE, BEFORE) == current


@pytest.mark.parametrize(
    ("current", "place"),
    [
        (BEFORE | {"net": {"_target_": "n", "width": 5}}, "net#width"),
        (BEFORE | {"list": []}, "list"),
        ({key: value for key, value in BEFORE.items() if key != "net"}, ""),
    ],
)
def test_what_a_person_wrote_where_the_plans_differ_is_refused(current: dict[str, object], place: str) -> None:
    with pytest.raises(BundleError, match=f"^{place} is not as it was planned") as error:
        carried(current, BEFORE, AFTER)  # type: ignore[arg-type]
    assert error.value.code == "edited"

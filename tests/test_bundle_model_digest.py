"""The digest of what a config trains follows its references."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from volseg.bundle.model_digest import model_digest
from volseg.errors import BundleError

CONFIG: dict[str, Any] = {
    "width": 8,
    "norm": {"kind": "batch"},
    "network_def": {"_target_": "Net", "channels": ["@width", "$2 * @width"], "norm": "@norm", "act": "%norm"},
    "train": {
        "deterministic_transforms": [{"_target_": "Load"}, {"_target_": "Scale", "by": "@train#factor"}],
        "factor": 2,
    },
    "learning_rate": 0.1,
}


def changed(*place: str | int, to: object) -> dict[str, Any]:
    config = deepcopy(CONFIG)
    part: Any = config
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = to
    return config


@pytest.mark.parametrize(
    "place",
    [
        ("width",),
        ("norm", "kind"),
        ("train", "factor"),
        ("network_def", "act"),
        ("train", "deterministic_transforms", 0),
    ],
)
def test_what_a_network_refers_to_is_of_it(place: tuple[str, ...]) -> None:
    assert model_digest(changed(*place, to=16)) != model_digest(CONFIG)


def test_what_it_does_not_refer_to_is_not() -> None:
    assert model_digest(changed("learning_rate", to=1)) == model_digest(CONFIG)


@pytest.mark.parametrize(
    ("place", "to"),
    [
        (("network_def", "norm"), {"kind": "batch"}),
        (("network_def", "channels", 0), 8),
        (("network_def", "norm"), "@#act"),
        (("train", "deterministic_transforms", 1, "by"), "@train::factor"),
        (("train", "deterministic_transforms", 1, "by"), "@###factor"),
        (("width",), "@network_def#other"),
    ],
)
def test_what_is_written_in_the_place_of_a_reference_is_the_same(place: tuple[str | int, ...], to: object) -> None:
    config = changed(*place, to=to)
    if place == ("width",):
        config["other"] = 8
        config["width"] = "@other"
    assert model_digest(config) == model_digest(CONFIG)


def test_what_refers_to_itself_or_on_and_on_ends() -> None:
    assert model_digest({"network_def": "@a", "a": ["@b", "@b"], "b": ["@a"]})
    halves: dict[str, object] = {f"k{n}": [f"@k{n + 1}", f"@k{n + 1}"] for n in range(60)}
    assert model_digest({"network_def": "@k0", **halves})
    chain: dict[str, object] = {f"k{n}": f"@k{n + 1}" for n in range(5000)}
    with pytest.raises(BundleError, match="too deep"):
        model_digest({"network_def": "@k0", **chain})

"""Rules taken out of an inference config, and others put in their place."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from volseg.bundle.rules_config import RULES, with_rules, without_rules
from volseg.errors import BundleError
from volseg.postprocessing import FillHoles, KeepLargest, PostprocessingRules, RemoveSmall

LARGEST = {
    "_target_": "monai.transforms.KeepLargestConnectedComponentd",
    "keys": "pred", "applied_labels": [1], "is_onehot": False, "independent": True, "connectivity": 3,
}  # fmt: skip
ARGMAX = {"_target_": "monai.transforms.AsDiscreted", "keys": "pred", "argmax": True}
SAVE = {"_target_": "monai.transforms.SaveImaged", "keys": "pred"}


def config(*steps: Any, **more: Any) -> dict[str, Any]:
    return {"device": "cpu", "postprocessing": {"_target_": "Compose", "transforms": list(steps)}, **more}


def test_rules_are_taken_out_and_put_in_before_the_saving() -> None:
    rules = PostprocessingRules((KeepLargest(labels=(1,)), RemoveSmall(labels=(2,), minimum_mm3=5.0)))
    bare = config(ARGMAX, SAVE, "$later")
    before = deepcopy(bare)
    made: Any = with_rules(bare, rules, (1, 2))
    assert bare == before
    first, second, *rest = made["postprocessing"]["transforms"]
    assert (first, rest) == (ARGMAX, [SAVE, "$later"])
    assert second["_target_"].endswith(".KeepLargestConnectedComponentd")
    assert made[RULES] == [RemoveSmall(labels=(2,), minimum_mm3=5.0).to_config()]
    assert without_rules(made, (1, 2)) == (rules, bare)


def test_only_what_stands_last_before_the_saving_is_a_rule() -> None:
    rules, bare = without_rules(config(LARGEST, ARGMAX, SAVE), (1,))
    assert rules == PostprocessingRules(())
    assert bare == config(LARGEST, ARGMAX, SAVE)
    named = config(ARGMAX, **{RULES: [{"rule": "fill_holes", "labels": [1], "connectivity": 26}]})
    assert without_rules(named, (1,)) == (PostprocessingRules((FillHoles(labels=(1,)),)), config(ARGMAX))


@pytest.mark.parametrize("broken", [{}, {"postprocessing": "$code"}, {"postprocessing": {"transforms": "$code"}}])
def test_a_postprocessing_that_is_no_list_is_told(broken: dict[str, Any]) -> None:
    for run in (lambda: without_rules(broken, (1,)), lambda: with_rules(broken, PostprocessingRules(()), (1,))):
        with pytest.raises(BundleError, match="no list") as caught:
            run()
        assert caught.value.code == "edited"

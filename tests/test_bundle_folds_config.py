"""The inference config of several folds: MONAI's ensemble in stock targets, that needs no trust."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from volseg.bundle.folder import Bundle
from volseg.bundle.folds_config import FOLDS_CONFIG, folds_config
from volseg.bundle.lint import lint_config
from volseg.errors import BundleError
from volseg.labels import Region

if TYPE_CHECKING:
    from tests.conftest import MakeBundle, MakePlan


@pytest.mark.parametrize("regions", [(), (Region("whole", (1, 2)), Region("core", (2,)))])
def test_the_probabilities_of_all_folds_are_averaged(
    make_bundle: MakeBundle, make_plan: MakePlan, regions: tuple[Region, ...]
) -> None:
    inference: Any = Bundle(make_bundle(make_plan(regions=regions))).read_config("inference")
    before = deepcopy(inference)
    config: Any = folds_config(inference, (0, 3))
    assert inference == before
    assert lint_config(FOLDS_CONFIG, config) == ()
    assert [one["load_path"].rpartition("/")[2].strip("'\"") for one in config["handlers"]] == [
        "fold_0.pt",
        "fold_3.pt",
    ]
    assert [one["load_dict"] for one in config["handlers"]] == [{"model": "@networks#0"}, {"model": "@networks#1"}]
    assert len(config["networks"]) == 2
    assert config["evaluator"]["pred_keys"] == ["pred_0", "pred_1"]
    activation, mean, *rest = config["postprocessing"]["transforms"]
    assert activation["keys"] == mean["keys"] == ["pred_0", "pred_1"]
    assert activation.get("sigmoid", False) is bool(regions)
    assert activation.get("softmax", False) is not bool(regions)
    assert mean["output_key"] == "pred"
    # What stays is what one model has after its probabilities, in that order.
    steps = before["postprocessing"]["transforms"]
    assert [step for step in steps if step in rest] == rest
    assert len(rest) == len(steps) - bool(regions)  # labels are chosen of the mean by the step of one model


@pytest.mark.parametrize("change", [{"imports": "$import glob"}, {"postprocessing": {"transforms": "@steps"}}])
def test_a_config_of_another_make_is_refused(make_bundle: MakeBundle, change: dict[str, Any]) -> None:
    inference = dict(Bundle(make_bundle()).read_config("inference")) | change
    with pytest.raises(BundleError, match="not as volseg plan writes it"):
        folds_config(inference, (0, 1))

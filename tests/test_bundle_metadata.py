"""The rules for metadata, against MONAI's own schema as the oracle."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from volseg.bundle.metadata import input_channels, label_faults, metadata_faults
from volseg.bundle.write import bundle_metadata

if TYPE_CHECKING:
    from conftest import MakePlan

SCHEMA = Path(__file__).resolve().parents[1].parent / "shared" / "schema" / "bundle_metadata.json"


@pytest.fixture
def metadata(make_plan: MakePlan) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(bundle_metadata(make_plan(labels=(1, 2)))))
    return found


def test_what_plan_writes_is_sound(metadata: dict[str, Any]) -> None:
    assert list(metadata_faults(metadata)) == []
    assert list(label_faults(metadata)) == []


def test_all_faults_come_at_once() -> None:
    found = list(metadata_faults({}))
    assert len(found) == 11
    assert "version is missing" in found
    assert "network_data_format is missing" in found


@pytest.fixture(scope="module")
def schema() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    if not SCHEMA.exists():
        pytest.skip("MONAI's schema is not beside the project")
    return jsonschema.Draft201909Validator(json.loads(SCHEMA.read_text()))


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        found += _places(value, (*path, key))
    return found


def test_the_rules_agree_with_the_schema_on_mutations(metadata: dict[str, Any], schema: Any) -> None:
    metadata |= {
        "references": ["one"], "eval_metrics": {}, "supported_apps": {}, "data_type": "dicom", "image_classes": "x",
        "autoencoder_data_format": copy.deepcopy(metadata["network_data_format"]), "extra": [1, {"x": None}],
    }  # fmt: skip
    metadata["network_data_format"]["inputs"] |= {"scale": 1.5, "flag": True, "text": "x"}
    metadata["network_data_format"]["post_processed_outputs"] = copy.deepcopy(
        metadata["network_data_format"]["outputs"]
    )
    assert schema.is_valid(metadata)
    assert list(metadata_faults(metadata)) == []
    dice, agreed = random.Random(3), {True: 0, False: 0}
    values = (None, 1, 1.0, 1.5, "x", True, [], ["x"], [1], [1.5], [None], {}, {"a": 1}, {"0": "background"})
    for _ in range(1500):
        changed = copy.deepcopy(metadata)
        for _ in range(dice.choice((1, 1, 2))):
            path = dice.choice(_places(changed))
            node: Any = changed
            for key in path[:-1]:
                node = node[key]
            if dice.random() < 0.3:
                del node[path[-1]]
            else:
                node[path[-1]] = copy.deepcopy(dice.choice(values))
        faults = list(metadata_faults(changed))
        valid = schema.is_valid(changed)
        assert valid is (not faults), (faults, [error.message for error in schema.iter_errors(changed)])
        agreed[valid] += 1
    assert min(agreed.values()) > 200


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m["network_data_format"]["inputs"].pop("image"), "how many channels"),
        (lambda m: m["network_data_format"]["inputs"]["image"].update(num_channels=0), "how many channels"),
        (lambda m: m["network_data_format"]["inputs"]["image"].update(num_channels=True), "how many channels"),
        (lambda m: m.update(label_table={"0": "background", "1": "a"}), "label_table has 2 entries, and channel_def has 3"),
        (lambda m: m.update(label_details={"1": {"colour": [1, 2, 256]}}), "label_details is not a mapping"),
        (lambda m: m.update(label_details=[1]), "label_details is not a mapping"),
    ],
)  # fmt: skip
def test_labels_that_make_no_sense(metadata: dict[str, Any], change: Any, says: str) -> None:
    change(metadata)
    found = list(label_faults(metadata))
    assert any(says in clause for clause in found), found


@pytest.mark.parametrize(
    ("told", "channels"),
    [(2, 2), (2.0, 2), (0, None), (-1, None), (True, None), ("2", None), (float("inf"), None), (float("nan"), None), ([2], None)],
)  # fmt: skip
def test_how_many_channels_go_in(told: Any, channels: int | None) -> None:
    assert input_channels({"network_data_format": {"inputs": {"image": {"num_channels": told}}}}) == channels
    assert input_channels({"network_data_format": told}) is None

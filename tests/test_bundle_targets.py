"""What a bundle was planned to learn is read back from its metadata, and a stranger's nonsense is none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from volseg.bundle.folder import open_bundle
from volseg.bundle.targets import trained_labels, trained_regions
from volseg.bundle.write import bundle_metadata
from volseg.labels import LabelTable, Region
from volseg.planning.mirroring import mirrored_axes
from volseg.planning.target import Target

if TYPE_CHECKING:
    from conftest import MakeBundle, MakePlan

REGIONS = (Region("whole", (1, 2, 4)), Region("left core", (4,)))


def test_regions_and_the_ignore_label_are_read_back(make_plan: MakePlan, make_bundle: MakeBundle) -> None:
    plan = make_plan(labels=(1, 2, 4), regions=REGIONS, ignore=6)
    metadata = json.loads(json.dumps(bundle_metadata(plan)))
    assert trained_labels(metadata) == plan.target.labels
    assert trained_regions(metadata) == REGIONS
    bundle = open_bundle(make_bundle(plan))
    assert (bundle.ignore, bundle.structures) == (6, ("whole", "left core"))
    plain = json.loads(json.dumps(bundle_metadata(make_plan())))
    assert (trained_labels(plain), trained_regions(plain)) == (None, ())


@pytest.mark.parametrize(
    "metadata",
    [
        {"trained_labels": {"1": "a", "2": "a"}, "regions": {"x": [1]}},
        {"trained_labels": {"1": "a"}, "regions": {"x": [2]}},
        {"trained_labels": {"1": "a"}, "regions": {"x": "1"}},
        {"trained_labels": {"1": "a"}, "regions": {"x": [None]}},
        {"trained_labels": [1], "regions": [1]},
    ],
)
def test_nonsense_is_no_region(metadata: dict[str, object]) -> None:
    assert trained_regions(metadata) == ()  # type: ignore[arg-type]


def test_names_of_regions_tell_sides_too() -> None:
    table = LabelTable(()).with_values((1, 2, 4))
    axes, why = mirrored_axes(Target.of(table, REGIONS).learnt)
    assert 0 not in axes
    assert "left core" in why

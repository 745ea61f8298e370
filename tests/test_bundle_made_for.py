"""What images a bundle was made for, read from files that may be a stranger's."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from monai.transforms import Compose, Orientationd, Spacingd

from volseg.bundle.folder import CONFIGS
from volseg.bundle.made_for import MadeFor
from volseg.bundle.write import PLAN_JSON

MEASURED = {
    "spacings_mm": [[1.0, 1.0, 3.0], [0.5, 2.0, 2.0]],
    "shapes_voxels": [[100, 100, 20], [64, 64, 32]],
    "channels": [{"foreground_intensity_percentiles": {"0.5": -60.0, "99.5": 180.0, "50.0": 40.0}}],
}


def bundle(root: Path, plan: object, shape: object = (32, 32, 32)) -> Any:
    (root / CONFIGS).mkdir(parents=True)
    (root / CONFIGS / PLAN_JSON).write_text(plan if isinstance(plan, str) else json.dumps(plan))
    shape = list(shape) if isinstance(shape, tuple) else shape
    metadata = {"network_data_format": {"inputs": {"image": {"spatial_shape": shape}}}}
    return SimpleNamespace(root=root, metadata=metadata)


def steps(axes: str | None = "RAS", spacing: object = (1.0, 1.0, 2.0)) -> Compose:
    turned = [] if axes is None else [Orientationd(keys="image", axcodes=axes, labels=None)]
    return Compose([*turned, Spacingd(keys="image", pixdim=spacing)])


def test_what_a_plan_measured_is_read(tmp_path: Path) -> None:
    found = MadeFor.of(bundle(tmp_path, {"measured": MEASURED}), steps())
    assert found.spacing_mm == (1.0, 1.0, 2.0)
    assert found.coarsest_mm == (1.0, 2.0, 3.0)
    assert found.volumes_mm3 == (64 * 64 * 32 * 2.0, 100 * 100 * 20 * 3.0)
    assert found.values == ((-60.0, 180.0),)
    assert found.is_3d


@pytest.mark.parametrize(
    "plan",
    [
        "no JSON", "[" * 5000, [], {"measured": {}}, {"measured": MEASURED | {"spacings_mm": [[1, 1]]}},
        {"measured": MEASURED | {"spacings_mm": [[1.0, 1.0, -3.0], [1.0, 1.0, 1.0]]}},
        {"measured": MEASURED | {"shapes_voxels": [[1, 1, 1]]}}, {"measured": MEASURED | {"channels": ["x"]}},
    ],
)  # fmt: skip
def test_a_plan_that_makes_no_sense_tells_nothing(plan: object, tmp_path: Path) -> None:
    found = MadeFor.of(bundle(tmp_path, plan, (32, 32, 1)), steps())
    assert found == MadeFor((1.0, 1.0, 2.0))


@pytest.mark.parametrize(("axes", "spacing"), [(None, (1, 1, 2)), ("SRA", (1, 1, 2)), ("RAS", (1, 1, -1))])
def test_a_spacing_whose_axes_are_not_known_tells_nothing(axes: str | None, spacing: object, tmp_path: Path) -> None:
    assert MadeFor.of(bundle(tmp_path, {}), steps(axes, spacing)).spacing_mm is None
    assert MadeFor.of(bundle(tmp_path / "b", {}, "x"), lambda image: image) == MadeFor()

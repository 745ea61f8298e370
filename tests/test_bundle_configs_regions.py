"""Plans of regions and of an ignore label become configs that train, score, and merge as nnU-Net paints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from volseg.bundle.folder import open_bundle
from volseg.bundle.outputs import Outputs
from volseg.bundle.parser import BundleParser
from volseg.bundle.trust import judge
from volseg.inference.saving import without_saving
from volseg.inference.segmenter import Segmenter
from volseg.labels import Region
from volseg.planning.losses import parse_loss
from volseg.postprocessing import PostprocessingRules
from volseg.volume import read_volume

if TYPE_CHECKING:
    from conftest import MakeBundle, MakePlan, WriteImage

NESTED = (Region("whole", (1, 2, 3, 7)), Region("core", (1, 3, 7)), Region("bright", (7,)))
KINDS: dict[str, dict[str, Any]] = {
    "inside each other": {"labels": (1, 2, 3, 7), "regions": NESTED},
    "and an ignore label": {"labels": (1, 2, 3, 7), "regions": NESTED, "ignore": 9, "network": "dynunet"},
    "overlapping": {"labels": (1, 2, 3), "regions": (Region("a", (1, 3)), Region("b", (2, 3))), "ignore": 4},
    "one region": {"labels": (2, 5), "regions": (Region("both", (2, 5)),)},
    "covered": {
        "labels": (1, 2), "regions": (Region("all", (1, 2)), Region("one", (1,)), Region("two", (2,))),
    },
    "the largest numbers": {
        "labels": (1, 300, 65535),
        "regions": (Region("whole", (1, 300, 65535)), Region("core", (300, 65535)), Region("far", (65535,))),
    },
    "the largest to ignore": {
        "labels": (40000, 65534), "regions": (Region("both", (40000, 65534)), Region("one", (65534,))), "ignore": 65535,
    },
    "labels, one to ignore": {"labels": (1, 4), "ignore": 300},
}  # fmt: skip
SHAPE = (11, 9, 10)


@pytest.fixture(params=KINDS)
def plan(request: pytest.FixtureRequest, make_plan: MakePlan) -> Any:
    return make_plan(rules=PostprocessingRules(), loss=parse_loss("dice-ce+0.1*boundary"), **KINDS[request.param])


@pytest.fixture
def case(plan: Any, write_image: WriteImage, tmp_path: Path) -> dict[str, str]:
    random = np.random.default_rng(1)
    affine = np.diag([1.0, -1.0, 1.25, 1.0])
    values = [0, *plan.labels.indices, *([plan.target.ignore] if plan.target.ignore else [])]
    return {
        "image": str(write_image(tmp_path / "data" / "imagesTs" / "case.nii.gz", random.normal(40, 60, SHAPE), affine)),
        "label": str(
            write_image(tmp_path / "data" / "label.nii.gz", random.choice(values, SHAPE).astype(np.uint16), affine)
        ),
    }


def membership(plan: Any, label: np.ndarray) -> np.ndarray:
    """(output, ...) by the definition of the plan."""
    if plan.target.regions:
        return np.stack([np.isin(label, region.labels) for region in plan.target.regions])
    return np.stack([label == index for index in (0, *plan.labels.indices)])


def test_a_step_leaves_out_what_nobody_judged(plan: Any, make_bundle: MakeBundle, case: dict[str, str]) -> None:
    bundle = open_bundle(make_bundle(plan))
    assert judge(bundle).findings == ()
    parser = BundleParser(bundle, "train", {"device": "cpu"})
    drawn = parser.build("train#preprocessing")(dict(case))
    drawn = drawn[0] if isinstance(drawn, list) else drawn
    label = drawn["label"][None]
    assert label.shape == (1, max(1, len(plan.target.regions)), *plan.patch)
    ignored = label[:, :1] == (plan.target.mark or -1)
    assert bool(ignored.any()) is (plan.target.ignore is not None)
    outputs = parser.build("train#inferer")(drawn["image"][None], parser.build("network").train())
    logits = outputs[0] if isinstance(outputs, list) else outputs
    assert logits.shape[1] == plan.target.outputs
    loss = parser.build("loss")
    alone = logits.detach().requires_grad_()
    loss([alone, *outputs[1:]] if isinstance(outputs, list) else alone, label).backward()
    assert alone.grad is not None
    assert not alone.grad[ignored.expand(alone.shape)].any()
    assert bool(alone.grad.any())


def test_dice_of_each_region_by_definition(plan: Any, make_bundle: MakeBundle, case: dict[str, str]) -> None:
    parser = BundleParser(open_bundle(make_bundle(plan)), "train", {"device": "cpu"})
    item = parser.build("validate#preprocessing")(dict(case))
    logits = torch.randn(plan.target.outputs, *item["label"].shape[1:])
    numbers = item["label"].numpy()[0].round().astype(int)
    done = parser.build("validate#postprocessing")({"pred": logits, "label": item["label"]})
    metric = parser.build("validate#key_metric#val_mean_dice")
    found = metric.metric_fn([done["pred"]], [done["label"]])[0].numpy()
    back = {number: label for label, number in plan.target.numbering.items()} | {0: 0, plan.target.mark: -1}
    judged = numbers != (plan.target.mark or -1)
    true = membership(plan, np.vectorize(back.get)(numbers))
    if plan.target.regions:
        here = logits.numpy() >= 0
    else:
        here, true = (
            np.eye(plan.target.outputs, dtype=bool)[logits.argmax(0).numpy()].transpose(3, 0, 1, 2)[1:],
            true[1:],
        )
    wanted = [2 * (p & t)[judged].sum() / (p[judged].sum() + t[judged].sum()) for p, t in zip(here, true, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_masks_are_painted_region_after_region(
    plan: Any, make_bundle: MakeBundle, case: dict[str, str], tmp_path: Path
) -> None:
    """MONAI's own transforms, a plain loop, and the masks of each region agree."""
    bundle = open_bundle(make_bundle(plan))
    settings = {"device": "cpu", "dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "out")}
    parser = BundleParser(bundle, "inference", settings)
    item = parser.build("preprocessing")({"image": case["image"]})
    random = torch.Generator().manual_seed(3)
    logits = MetaTensor(torch.randn((plan.target.outputs, *item["image"].shape[1:]), generator=random))
    parser.build("postprocessing")(item | {"pred": logits.clone()})
    saved = nibabel.load(tmp_path / "out" / "case.nii.gz")
    mask = np.asarray(saved.dataobj)
    assert mask.shape == SHAPE
    assert set(np.unique(mask)) <= {0, *plan.target.table.indices}
    if plan.target.regions:
        assert bundle.meaning.outputs is Outputs.REGIONS
        assert bundle.structures == tuple(region.name for region in plan.target.regions)
        segmenter = Segmenter(
            preprocessing=parser.build("preprocessing"),
            network=torch.nn.Identity(),
            inferer=lambda *_: logits[None],
            postprocessing=without_saving(parser.build("postprocessing")),
            device=torch.device("cpu"),
        )
        grid = read_volume(Path(case["image"])).grid
        regions = segmenter.segment_regions([Path(case["image"])], grid, len(plan.target.regions))
        painted = np.zeros(SHAPE, int)
        for region, inside in zip(plan.target.regions, regions, strict=True):
            painted[inside == 1] = region.value
        np.testing.assert_array_equal(segmenter.segment([Path(case["image"])], grid), painted)
        np.testing.assert_array_equal(mask, painted)
    assert bundle.labels == plan.target.table


@pytest.mark.parametrize("kind", ["inside each other", "and an ignore label"])
def test_a_region_that_no_case_has_is_no_number_and_no_fault(
    kind: str, make_plan: MakePlan, make_bundle: MakeBundle, write_image: WriteImage, tmp_path: Path
) -> None:
    plan = make_plan(rules=PostprocessingRules(), **KINDS[kind])
    random = np.random.default_rng(2)
    item = {
        "image": str(write_image(tmp_path / "image.nii.gz", random.normal(40, 60, SHAPE))),
        "label": str(write_image(tmp_path / "label.nii.gz", random.choice([0, 1, 2], SHAPE).astype(np.uint8))),
    }
    parser = BundleParser(open_bundle(make_bundle(plan)), "train", {"device": "cpu"})
    (drawn,) = parser.build("train#preprocessing")(dict(item))
    label = drawn["label"][None]
    assert label[:, :2].any()
    assert not label[:, 2].any()
    loss = parser.build("loss")(
        parser.build("train#inferer")(drawn["image"][None], parser.build("network").train()), label
    )
    loss.backward()
    assert bool(loss.isfinite())
    held_out = parser.build("validate#preprocessing")(dict(item))
    logits = torch.full((3, *held_out["label"].shape[1:]), -1.0)
    done = parser.build("validate#postprocessing")({"pred": logits, "label": held_out["label"]})
    (dice,) = parser.build("validate#key_metric#val_mean_dice").metric_fn([done["pred"]], [done["label"]]).tolist()
    assert dice[:2] == [0, 0]
    assert np.isnan(dice[2])  # in neither

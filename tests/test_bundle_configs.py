"""Every kind of plan becomes configs that build, train a step, publish weights that fit, and give a mask back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import torch

from volseg.bundle.configs import inference_config, train_config
from volseg.bundle.folder import open_bundle
from volseg.bundle.parser import BundleParser
from volseg.bundle.published import publish
from volseg.bundle.trust import judge
from volseg.bundle.weights import inference_network, load_into
from volseg.planning.networks import Topology
from volseg.planning.normalisation import Normalisation
from volseg.planning.optimizers import SGD
from volseg.postprocessing import KeepLargest, PostprocessingRules

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MakeBundle, MakePlan, WriteImage

CT = Normalisation("percentiles", -100.0, 300.0, 40.0, 25.0)
MR = Normalisation("z-score", nonzero=True)
THICK = Topology((4, 6, 8), ((2, 2, 1), (2, 2, 2)), ((3, 3, 1), (3, 3, 3), (3, 3, 3)))
COARSE = Topology((4, 6), ((2, 2, 2),), ((3, 3, 3),) * 2)
THIN = Topology((4, 4, 4), ((1, 1, 1), (1, 1, 1)), ((3, 3, 3),) * 3)
FULL: dict[str, Any] = {"preset": "full", "network": "dynunet", "optimizer": SGD()}

KINDS: dict[str, dict[str, Any]] = {
    "fast": {},
    "fast, coarse": {"network": "unet", "topology": COARSE, "labels": (2, 7)},
    "fast, two MR channels": {"channels": ("FLAIR", "T1"), "normalisations": (MR, MR), "whole_volumes": True},
    "fast, 12 channels in one file": {
        "channels": tuple(f"c{n}" for n in range(12)), "normalisations": (MR,) * 12, "channels_in_one_file": True,
    },
    "fast, thick, above 255": {"topology": THICK, "spacing_mm": (1.0, 1.0, 4.0), "labels": (3, 300, 65535)},
    "fast, thin": {"topology": THIN},
    "full": FULL,
    "full, coarse": FULL | {"network": "unet", "topology": COARSE},
    "full, two CT channels in one file": FULL | {
        "channels": ("CT", "CT2"), "normalisations": (CT, CT), "channels_in_one_file": True,
    },
    "full, thick, above 255": FULL | {"topology": THICK, "spacing_mm": (1.0, 1.0, 4.0), "labels": (3, 300, 65535)},
    "full, 12 channels": FULL | {"channels": tuple(f"c{n}" for n in range(12)), "normalisations": (MR,) * 12},
    "full, thin": FULL | {"topology": THIN, "labels": (5,)},
}  # fmt: skip


@pytest.fixture(params=KINDS)
def plan(request: pytest.FixtureRequest, make_plan: MakePlan) -> Any:
    return make_plan(**KINDS[request.param])


def test_a_step_of_training_and_weights_that_fit(plan: Any, make_bundle: MakeBundle) -> None:
    bundle = open_bundle(make_bundle(plan))
    assert judge(bundle).findings == ()
    parser = BundleParser(bundle, "train", {"device": "cpu"})
    network, loss, optimizer = (parser.build(part) for part in ("network", "loss", "optimizer"))
    inferer = parser.build("train#inferer")
    classes = len(plan.labels) + 1
    torch.manual_seed(0)
    image = torch.randn(2, len(plan.channels), *plan.patch)
    label = torch.randint(0, classes, (2, 1, *plan.patch)).float()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    outputs = inferer(image, network.train())
    for output in outputs if isinstance(outputs, list) else [outputs]:
        assert output.shape == (2, classes, *plan.patch)
        assert output.dtype == torch.float32
    value = loss(outputs, label)
    value.backward()
    optimizer.step()
    assert torch.isfinite(value)
    moved = [not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)]
    assert np.mean(moved) > 0.9

    # The same weights in inference give what the trained network gives, its other heads left out.
    described = inference_network(bundle)
    assert described is not None
    publish(bundle, described, network.state_dict(), "fold_0", None)
    plain = load_into(BundleParser(bundle, "inference", {"device": "cpu"}).build("network_def"), bundle.model_path)
    with torch.inference_mode():
        predicted = plain.eval()(image)
        assert predicted.shape == (2, classes, *plan.patch)
        assert torch.allclose(predicted, network.eval()(image), atol=1e-5)
    assert set(torch.load(bundle.model_path, weights_only=True)) == set(plain.state_dict())


def test_deep_supervision_is_trained_and_left_out_of_inference(make_plan: MakePlan, make_bundle: MakeBundle) -> None:
    bundle = open_bundle(make_bundle(make_plan(network="dynunet")))
    trained = BundleParser(bundle, "train", {"device": "cpu"})
    assert len(trained.build("train#inferer")(torch.randn(1, 1, 8, 8, 8), trained.build("network").train())) > 1
    names = set(trained.build("network").state_dict())
    described = inference_network(bundle)
    assert described is not None
    assert set(described.state_dict()) < names
    # By which the weights that another program trains are told apart.
    (left_out,) = (
        handler["leave_out"] for handler in bundle.read_config("train")["train"]["handlers"] if "leave_out" in handler
    )
    assert {name for name in names if not any(part in name for part in left_out)} == set(described.state_dict())


def _case(plan: Any, folder: Path, write_image: WriteImage, name: str = "case") -> dict[str, Any]:
    """One case as the plan's data set has it: channels on the fourth axis, or one file each."""
    random = np.random.default_rng(1)
    shape = (11, 9, 10)
    affine = np.diag([1.0, -1.0, 1.25, 1.0])
    volumes = [random.normal(40, 60, shape).astype(np.float32) for _ in plan.channels]
    mask = random.choice([0, *plan.labels.indices], shape).astype(np.uint16)
    if len(volumes) == 1 or plan.channels_in_one_file:
        array = volumes[0] if len(volumes) == 1 else np.stack(volumes, axis=-1)
        image: Any = str(write_image(folder / "imagesTs" / f"{name}.nii.gz", array, affine))
    else:
        image = [
            str(write_image(folder / "imagesTs" / f"{name}_{number:04d}.nii.gz", volume, affine))
            for number, volume in enumerate(volumes)
        ]
    return {"image": image, "label": str(write_image(folder / "labels" / f"{name}.nii.gz", mask, affine))}


def test_from_files_to_patches(plan: Any, make_bundle: MakeBundle, write_image: WriteImage, tmp_path: Path) -> None:
    parser = BundleParser(open_bundle(make_bundle(plan)), "train", {"device": "cpu"})
    case = _case(plan, tmp_path / "data", write_image)
    drawn = parser.build("train#preprocessing")(dict(case))
    drawn = drawn[0] if isinstance(drawn, list) else drawn
    size = tuple(drawn["label"].shape[1:])
    assert size == plan.patch  # of whole volumes too: batches need one size, and a case may be larger than planned
    assert drawn["image"].shape == (len(plan.channels), *size)
    assert set(np.unique(drawn["label"])) <= set(range(len(plan.labels) + 1))
    assert torch.isfinite(drawn["image"]).all()
    whole = parser.build("validate#preprocessing")(dict(case))
    assert set(np.unique(whole["label"])) == set(range(len(plan.labels) + 1))


def test_from_files_to_a_mask_on_the_images_grid(
    plan: Any, make_bundle: MakeBundle, write_image: WriteImage, tmp_path: Path
) -> None:
    """As MONAI itself runs it, saving included; the network is replaced by one whose answer is known."""
    case = _case(plan, tmp_path / "data", write_image)
    parser = BundleParser(
        open_bundle(make_bundle(plan)),
        "inference",
        {"device": "cpu", "dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "out")},
    )
    assert [item["image"] for item in parser.build("dataset").data] == [case["image"]]
    item = parser.build("preprocessing")({"image": case["image"]})
    assert item["image"].shape[0] == len(plan.channels)
    classes = len(plan.labels) + 1
    wanted = classes - 1  # the last class wins everywhere
    logits = torch.zeros(1, classes, *item["image"].shape[1:])
    logits[:, wanted] = 5.0
    predicted = parser.build("inferer")(item["image"][None], lambda patch: _crop_like(logits, patch, wanted))
    item["pred"] = predicted[0]
    parser.build("postprocessing")(item)
    saved = nibabel.load(tmp_path / "out" / f"{'case_0000' if isinstance(case['image'], list) else 'case'}.nii.gz")
    first = case["image"] if isinstance(case["image"], str) else case["image"][0]
    original = nibabel.load(first)
    assert saved.shape == original.shape[:3]
    assert np.allclose(saved.affine, original.affine, atol=1e-5)
    assert saved.get_data_dtype() == np.dtype(plan.labels.mask_dtype)
    assert np.unique(np.asarray(saved.dataobj)).tolist() == [plan.labels.indices[-1]]


def _crop_like(logits: torch.Tensor, patch: torch.Tensor, wanted: int) -> torch.Tensor:
    answer = torch.zeros(patch.shape[0], logits.shape[1], *patch.shape[2:])
    answer[:, wanted] = 5.0
    return answer


@pytest.mark.parametrize(
    ("normalisations", "expected"),
    [((CT,), "clipped"), ((MR,), "z-score"), ((CT, MR), "z-score"), ((CT, Normalisation("percentiles", -50, 500, 0, 1)), "clipped")],
)  # fmt: skip
def test_intensities(
    normalisations: tuple[Normalisation, ...],
    expected: str,
    make_plan: MakePlan,
    make_bundle: MakeBundle,
    write_image: WriteImage,
    tmp_path: Path,
) -> None:
    """Against the formula, voxel by voxel."""
    channels = tuple(f"c{number}" for number in range(len(normalisations)))
    plan = make_plan(channels=channels, normalisations=normalisations, channels_in_one_file=True)
    values = np.random.default_rng(2).normal(50, 400, (6, 6, 6, len(channels))).astype(np.float32)
    values[:2] = 0
    path = write_image(tmp_path / "x.nii.gz", values if len(channels) > 1 else values[..., 0])
    parser = BundleParser(open_bundle(make_bundle(plan)), "inference", {})
    found = parser.build("preprocessing")({"image": str(path)})["image"].numpy()
    for number, chosen in enumerate(normalisations):
        given = values[..., number].astype(np.float64)
        if expected == "clipped":
            low, high = min(one.low for one in normalisations), max(one.high for one in normalisations)
            wanted = (np.clip(given, low, high) - chosen.mean) / chosen.std
        else:
            inside = given[given != 0]
            wanted = np.where(given != 0, (given - inside.mean()) / inside.std(), 0)
        assert np.allclose(found[number], wanted, atol=1e-3)


def test_labels_with_gaps_are_mapped_there_and_back(make_plan: MakePlan) -> None:
    plan = make_plan(labels=(2, 7, 300))
    there: Any = [
        step for step in train_config(plan, "")["train"]["deterministic_transforms"]  # type: ignore[index, call-overload]
        if "MapLabelValued" in step["_target_"]
    ]  # fmt: skip
    back: Any = [
        step for step in inference_config(plan, "")["postprocessing"]["transforms"]  # type: ignore[index, call-overload]
        if "MapLabelValued" in step["_target_"]
    ]  # fmt: skip
    assert (there[0]["orig_labels"], there[0]["target_labels"]) == ([0, 2, 7, 300], [0, 1, 2, 3])
    assert (back[0]["orig_labels"], back[0]["target_labels"]) == ([0, 1, 2, 3], [0, 2, 7, 300])
    assert "MapLabelValued" not in str(train_config(make_plan(), "")) + str(inference_config(make_plan(), ""))


def test_the_largest_component_is_kept_of_the_labels_themselves_on_the_images_grid(make_plan: MakePlan) -> None:
    plan = make_plan(labels=(2, 7))
    steps = inference_config(replace(plan, rules=PostprocessingRules((KeepLargest(labels=(7,)),))), "../data")[
        "postprocessing"
    ]["transforms"]  # type: ignore[index, call-overload]
    names = [step["_target_"].rpartition(".")[2] for step in steps]
    assert names[-3:] == ["MapLabelValued", "KeepLargestConnectedComponentd", "SaveImaged"]
    assert names.index("Invertd") < names.index("MapLabelValued")
    assert steps[-2]["applied_labels"] == [7]
    without = inference_config(replace(plan, rules=PostprocessingRules()), "../data")
    assert without["volseg_postprocessing"] == []
    assert "KeepLargest" not in str(without["postprocessing"])


def test_only_files_of_the_first_channel_begin_a_case(
    make_plan: MakePlan, make_bundle: MakeBundle, write_image: WriteImage, tmp_path: Path
) -> None:
    plan = make_plan(channels=("FLAIR", "T1"), normalisations=(MR, MR))
    for name in ("a_0000", "a_0001", "b_0000", "b_0001"):
        write_image(tmp_path / "data" / "imagesTs" / f"{name}.nii.gz", np.zeros((2, 2, 2), np.float32))
    parser = BundleParser(open_bundle(make_bundle(plan)), "inference", {"dataset_dir": str(tmp_path / "data")})
    names = [[path.rsplit("/", 1)[1] for path in item["image"]] for item in parser.build("dataset").data]
    assert names == [["a_0000.nii.gz", "a_0001.nii.gz"], ["b_0000.nii.gz", "b_0001.nii.gz"]]

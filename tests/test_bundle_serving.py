"""What a foreign config loads, and where its parts and its weights are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from monai.transforms import (
    Compose,
    ConcatItemsd,
    CropForegroundd,
    EnsureChannelFirstd,
    LoadImaged,
    SaveImaged,
    ScaleIntensityd,
)

from volseg.bundle.folder import open_bundle
from volseg.bundle.parser import BundleParser
from volseg.bundle.serving import Serving, locate, serving_of, weights_path
from volseg.bundle.trust import judge, record_trust
from volseg.errors import BundleError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import MakeBundle


def test_keys_are_those_that_the_image_is_made_of_in_the_order_of_the_config() -> None:
    phases = ["late", "early", "middle"]
    loading = LoadImaged(keys=[*phases, "label", "notes"])
    saving = SaveImaged(keys="label")
    serving = serving_of(
        Compose([loading, Compose([EnsureChannelFirstd(keys=phases), ConcatItemsd(keys=phases, name="image")])]),
        Compose([saving]),
    )
    assert serving == Serving(("late", "early", "middle"), ("label", "notes"), one_file=False)
    assert loading.allow_missing_keys
    assert saving.allow_missing_keys
    files = [Path(f"{name}.nii.gz") for name in "abc"]
    assert serving.item(files) == {"late": "a.nii.gz", "early": "b.nii.gz", "middle": "c.nii.gz"}
    with pytest.raises(
        InputError, match="reads 3 images of a case, late, early, middle in this order, and there are 2"
    ):
        serving.item(files[:2])


def test_one_key_takes_all_channels() -> None:
    serving = serving_of(Compose([LoadImaged(keys="image", ensure_channel_first=True), ScaleIntensityd(keys="image")]))
    assert serving == Serving(("image",))
    assert serving.item([Path("a.nii.gz")]) == {"image": "a.nii.gz"}
    assert serving.item([Path("a.nii.gz"), Path("b.nii.gz")]) == {"image": ["a.nii.gz", "b.nii.gz"]}
    assert serving_of(Compose([LoadImaged(keys="image"), EnsureChannelFirstd(keys="image")])) == Serving()
    # Files of one channel each are stacked with the channels first; one file of all would have them last.
    assert serving_of(Compose([LoadImaged(keys="image"), ScaleIntensityd(keys="image")])) == Serving(one_file=False)


def test_a_key_that_a_step_names_in_any_argument_is_used() -> None:
    steps = Compose([LoadImaged(keys=["image", "body"]), CropForegroundd(keys="image", source_key="body")])
    assert serving_of(steps).keys == ("image", "body")


@pytest.fixture
def parser(make_bundle: MakeBundle) -> Callable[..., BundleParser]:
    """Adds parts to the inference config of a bundle, trusts it, and gives its parser."""

    def make(**parts: Any) -> BundleParser:
        bundle = open_bundle(make_bundle())
        path = bundle.root / "configs" / "inference.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | parts))
        (bundle.root / "models").mkdir(exist_ok=True)
        (bundle.root / "models" / "tuned.pt").write_bytes(b"")
        record_trust(judge(bundle))
        return BundleParser(bundle, "inference", {})

    return make


def test_parts_are_found_by_what_the_evaluator_uses(parser: Callable[..., BundleParser]) -> None:
    found = parser(
        ways={"sliding": {"_target_": "monai.inferers.SimpleInferer"}},
        evaluator={"_target_": "SupervisedEvaluator", "inferer": "@ways#sliding", "val_data_loader": "@dataloader"},
    )
    assert locate(found, "evaluator", "inferer") == "ways#sliding"
    assert locate(found, "evaluator", "val_data_loader", "dataset", "transform") == "preprocessing"
    assert locate(found, "evaluator", "prepare_batch") is None
    assert locate(found, "nothing", "here") is None


def loader(path: str) -> dict[str, Any]:
    return {"_target_": "CheckpointLoader", "load_path": path, "load_dict": {"model": "@network"}}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("$@bundle_root + '/models/tuned.pt'", "tuned.pt"),
        ("./models/tuned.pt", "tuned.pt"),
        ("$@bundle_root + '/../elsewhere.pt'", "model.pt"),
        ("/elsewhere.pt", "model.pt"),
    ],
)
def test_weights_are_those_that_the_config_loads_inside_the_bundle(
    parser: Callable[..., BundleParser], tmp_path: Path, path: str, name: str
) -> None:
    (tmp_path / "elsewhere.pt").write_bytes(b"")
    found = parser(handlers=[loader(path)], imports=["$import os"])
    assert weights_path(found) == found.bundle.root / "models" / name


def test_a_file_of_an_architecture_search_is_read(parser: Callable[..., BundleParser]) -> None:
    """Such files hold arrays of numpy, which torch.load takes for a stranger's code."""
    searched = {"node_a": np.ones((3, 2)), "arch_code_c": np.arange(6).reshape(2, 3), "best": np.float64(0.5)}
    found = parser(searched="$torch.load(@bundle_root + '/models/tuned.pt')")
    torch.save(searched, found.bundle.root / "models" / "tuned.pt")
    read = found.build("searched")
    assert read["best"] == 0.5
    for key in ("node_a", "arch_code_c"):
        np.testing.assert_array_equal(read[key], searched[key])


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("it ran",)


def test_nothing_in_such_a_file_runs(parser: Callable[..., BundleParser], capsys: pytest.CaptureFixture[str]) -> None:
    found = parser(searched="$torch.load(@bundle_root + '/models/tuned.pt')")
    torch.save({"node_a": Runs()}, found.bundle.root / "models" / "tuned.pt")
    with pytest.raises(BundleError):
        found.build("searched")
    assert "it ran" not in capsys.readouterr().out

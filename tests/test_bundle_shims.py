"""Shims: what a bundle of an older MONAI says, in today's words, with the same numbers."""

from __future__ import annotations

import ast
import inspect
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import monai
import numpy as np
import pytest
import torch

from tests.zoo import write_zoo_bundle
from volseg.bundle.folder import open_bundle
from volseg.bundle.parser import BundleParser
from volseg.bundle.shims import SHIMS, Bundled, bridge, bundled_of, mend_module
from volseg.bundle.shims.numpy_names import PRESENT
from volseg.bundle.trust import judge, record_trust
from volseg.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

LPS = Bundled(monai=(1, 4), reads_lps=True)
OLD = Bundled(monai=(1, 2), reads_meta_dicts=True)
CASES: dict[str, tuple[object, object, Bundled]] = {
    "swin-unetr-img-size": (
        {"_target_": "SwinUNETR", "img_size": 96, "in_channels": 1, "out_channels": 2},
        {"_target_": "SwinUNETR", "in_channels": 1, "out_channels": 2},
        Bundled(),
    ),
    "scheduler-verbose": (
        {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 2, "verbose": True},
        {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 2},
        Bundled(),
    ),
    "meta-keys": (
        {"_target_": "EnsureChannelFirstd", "keys": "image", "meta_key_postfix": "meta_dict"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        Bundled(),
    ),
    "as-tensor-output": (
        {"_target_": "monai.transforms.RandAffined", "keys": "image", "as_tensor_output": False},
        {"_target_": "monai.transforms.RandAffined", "keys": "image"},
        Bundled(),
    ),
    "spatial-dims": (
        {"_target_": "monai.networks.nets.UNet", "dimensions": 3},
        {"_target_": "monai.networks.nets.UNet", "spatial_dims": 3},
        Bundled(),
    ),
    "patch-projection": (
        {"_target_": "UNETR", "pos_embed": "conv"},
        {"_target_": "UNETR", "proj_type": "conv"},
        Bundled(),
    ),
    "add-channel": (
        {"_target_": "AddChanneld", "keys": ["image"]},
        {"_target_": "EnsureChannelFirstd", "keys": ["image"], "channel_dim": "no_channel"},
        Bundled(),
    ),
    "as-channel-first": (
        {"_target_": "monai.transforms.AsChannelFirst", "channel_dim": 2},
        {"_target_": "EnsureChannelFirst", "channel_dim": 2},
        Bundled(),
    ),
    "split-channel": (
        {"_target_": "SplitChanneld", "keys": "pred", "channel_dim": 0},
        {"_target_": "SplitDimd", "keys": "pred", "dim": 0},
        Bundled(),
    ),
    "as-discrete-arguments": (
        {"_target_": "AsDiscreted", "keys": "pred", "to_onehot": True, "n_classes": 3, "threshold_values": False},
        {"_target_": "AsDiscreted", "keys": "pred", "to_onehot": 3},
        Bundled(),
    ),
    "orientation-labels": (
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {
            "_target_": "Orientationd", "keys": "image", "axcodes": "RAS",
            "labels": [["L", "R"], ["P", "A"], ["I", "S"]],
        },
        LPS,
    ),
    "reader-meta-dict": (
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "LoadImaged", "keys": "image", "image_only": False},
        OLD,
    ),
    "numpy-names": ("$np.zeros(3, dtype=np.float)", "$np.zeros(3, dtype=float)", Bundled()),
    "gpu-by-name": (
        "$torch.load(@path, map_location=torch.device('cuda:0'))",
        "$torch.load(@path, map_location=torch.device('cpu'))",
        Bundled(device="cpu"),
    ),
    "boolean-channels": (
        {"_target_": "ConvertToMultiChannelBasedOnBratsClassesd", "keys": "label"},
        {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": "ConvertToMultiChannelBasedOnBratsClassesd", "keys": "label",
                    "_desc_": "its channels are cast to numbers",
                },
                {"_target_": "CastToTyped", "keys": "label", "dtype": "$torch.float32"},
            ],
        },
        Bundled(monai=(1, 4)),
    ),
}  # fmt: skip
"""Of each shim by its name: before, after, and the bundle that needs it."""


@pytest.mark.parametrize("name", CASES)
def test_a_shim_says_the_same_in_present_words(name: str) -> None:
    before, after, bundled = CASES[name]
    config: Any = {"part": [before]}
    bridged, used = bridge(config, "train", bundled, SHIMS)
    assert bridged == {"part": [after]}
    assert config == {"part": [before]}
    assert [(one.name, one.places) for one in used] == [(name, ("part#0",))]
    assert str(used[0]).startswith("part#0: ")
    assert f"({name})" in str(used[0])


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_in_present_words_stays(name: str) -> None:
    _, after, bundled = CASES[name]
    config: Any = {"part": after}
    assert bridge(config, "train", bundled, SHIMS) == (config, ())


def test_every_shim_has_its_case() -> None:
    assert {shim.name for shim in SHIMS} == set(CASES)


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "scripts.nets.SwinUNETR", "img_size": 96},
        {"_target_": "UNETR", "img_size": 96},
        {"_target_": "DiceCELoss", "ce_weight": [1, 2]},
        {"_target_": "UNet", "dimensions": 3, "spatial_dims": 2},
        {"_target_": "Orientationd", "axcodes": "RAS"},
        {"_target_": "LoadImaged", "keys": "image"},
        "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "$np.float32(1)",
        "$np.int64(1)",
        "np.float",
        "cuda is fast",
    ],
)
def test_what_is_another_thing_is_left_alone(node: Any) -> None:
    """A class of the bundle's own, an argument that still counts, a loss whose weight means more now."""
    assert bridge({"part": node}, "train", Bundled(monai=(1, 2)), SHIMS) == ({"part": node}, ())


def test_a_gpu_stays_where_there_is_one() -> None:
    config: Any = {"part": "$torch.device('cuda')"}
    assert bridge(config, "train", Bundled(device="cuda"), SHIMS) == (config, ())


def test_present_arguments_are_those_of_the_installed_libraries() -> None:
    transforms, nets = monai.transforms, monai.networks.nets
    assert "img_size" not in inspect.signature(nets.SwinUNETR).parameters
    assert "proj_type" in inspect.signature(nets.UNETR).parameters
    assert "channel_dim" in inspect.signature(transforms.EnsureChannelFirstd).parameters
    assert "dim" in inspect.signature(transforms.SplitDimd).parameters
    assert "image_only" in inspect.signature(transforms.LoadImaged).parameters
    assert "labels" in inspect.signature(transforms.Orientationd).parameters


def test_channels_cast_to_numbers_are_what_a_loss_of_today_takes() -> None:
    before, _, bundled = CASES["boolean-channels"]
    bridged, _ = bridge({"convert": before}, "train", bundled, SHIMS)  # type: ignore[dict-item]
    label = torch.tensor([0, 1, 2, 4]).reshape(1, 2, 2, 1)
    regions = monai.bundle.ConfigParser(bridged).get_parsed_content("convert")({"label": label})["label"]
    assert regions.flatten(1).tolist() == [[0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]
    loss = monai.losses.DiceLoss(squared_pred=True, sigmoid=True)(torch.zeros(1, 3, 2, 2, 1), regions[None])
    assert torch.isfinite(loss)


def test_an_axis_is_added_and_moved_as_before() -> None:
    image = torch.arange(24.0).reshape(2, 3, 4)
    parser = monai.bundle.ConfigParser(
        bridge({"add": {"_target_": "AddChannel"}, "move": {"_target_": "AsChannelFirst"}}, "train", Bundled(), SHIMS)[
            0
        ]
    )
    assert torch.equal(parser.get_parsed_content("add")(image), image[None])
    assert torch.equal(parser.get_parsed_content("move")(image), image.movedim(-1, 0))


@pytest.mark.parametrize("name", sorted(PRESENT))
def test_each_removed_name_of_numpy_has_a_present_one(name: str) -> None:
    text = f"$np.{name}"
    bridged, _ = bridge({"part": text}, "train", Bundled(), SHIMS)
    assert eval(str(bridged["part"])[1:], {"np": np}) is not None  # a name of NumPy, or what is in its place


def test_a_module_is_read_with_present_names_and_numpy_stays_as_it_is() -> None:
    source = "import numpy as jnp\nfrom math import inf\nx = jnp.array([1.5], jnp.float)\ny = -jnp.NINF\nz = np.int\n"
    tree = ast.parse(source)
    assert mend_module(tree) == ("NINF", "float")
    text = ast.unparse(tree)
    assert "jnp.array([1.5], float)" in text
    assert "jnp.inf" in text
    assert "np.int" in text  # no module of that name is imported
    assert not hasattr(np, "float")


def test_what_a_bundle_asks_of_readers_is_found_in_its_texts(tmp_path: Path) -> None:
    bundle = open_bundle(write_zoo_bundle(tmp_path / "bundle", tmp_path))
    config = bundle.read_config("train")
    assert bundled_of(bundle, config, {}, "cpu") == Bundled(monai=(1, 4), device="cpu")
    sources = {"scripts/window.py": b"KEY = 'image_meta_dict'\n", "scripts/broken.py": b"("}
    assert bundled_of(bundle, config, sources, "cuda") == Bundled(monai=(1, 4), device="cuda", reads_meta_dicts=True)


def test_shims_are_told_in_check_and_change_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_zoo_bundle(tmp_path / "bundle", tmp_path)
    path = root / "configs" / "inference.json"
    content = json.loads(path.read_text())
    content["network_def"] = {"_target_": "SwinUNETR", "img_size": 32, "in_channels": 1, "out_channels": 3,
                              "feature_size": 12}  # fmt: skip
    path.write_text(json.dumps(content))
    before = path.read_bytes()
    bundle = open_bundle(root)
    record_trust(judge(bundle))
    parser = BundleParser(bundle, "inference", {"device": torch.device("cpu")})
    assert isinstance(parser.build("network_def"), monai.networks.nets.SwinUNETR)
    assert [used.name for used in parser.bridged] == ["swin-unetr-img-size"]
    main(["check", str(root)])
    told = capsys.readouterr().out
    assert "warning [shim] configs/inference.json: network_def: SwinUNETR takes its size from its input" in told
    assert path.read_bytes() == before


def test_a_version_that_nobody_can_read_bridges_no_default() -> None:
    config: Any = {"part": {"_target_": "LoadImaged", "keys": "image"}}
    assert bridge(config, "train", replace(OLD, monai=None), SHIMS) == (config, ())

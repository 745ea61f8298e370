"""Shims: what a bundle of an older MONAI says, in today's words, with the same numbers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import monai
import pytest
import torch

from tests.zoo import write_zoo_bundle
from volseg.bundle.folder import open_bundle
from volseg.bundle.parser import BundleParser
from volseg.bundle.shims import SHIMS, Bundled, bridge
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


def test_channels_cast_to_numbers_are_what_a_loss_of_today_takes() -> None:
    before, _, bundled = CASES["boolean-channels"]
    bridged, _ = bridge({"convert": before}, "train", bundled, SHIMS)  # type: ignore[dict-item]
    label = torch.tensor([0, 1, 2, 4]).reshape(1, 2, 2, 1)
    regions = monai.bundle.ConfigParser(bridged).get_parsed_content("convert")({"label": label})["label"]
    assert regions.flatten(1).tolist() == [[0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]
    loss = monai.losses.DiceLoss(squared_pred=True, sigmoid=True)(torch.zeros(1, 3, 2, 2, 1), regions[None])
    assert torch.isfinite(loss)


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

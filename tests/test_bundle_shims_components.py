"""Components of an older MONAI build the same in that of today, and what only looks like one is left alone."""

from __future__ import annotations

import inspect
from typing import Any

import monai
import pytest
import torch

from volseg.bundle.shims import SHIMS, Bundled, bridge


def test_present_arguments_are_those_of_the_installed_libraries() -> None:
    transforms, nets = monai.transforms, monai.networks.nets
    assert "img_size" not in inspect.signature(nets.SwinUNETR).parameters
    assert "proj_type" in inspect.signature(nets.UNETR).parameters
    assert "channel_dim" in inspect.signature(transforms.EnsureChannelFirstd).parameters
    assert "dim" in inspect.signature(transforms.SplitDimd).parameters
    assert "image_only" in inspect.signature(transforms.LoadImaged).parameters
    assert "labels" in inspect.signature(transforms.Orientationd).parameters


def test_an_axis_is_added_and_moved_as_before() -> None:
    image = torch.arange(24.0).reshape(2, 3, 4)
    parser = monai.bundle.ConfigParser(
        bridge({"add": {"_target_": "AddChannel"}, "move": {"_target_": "AsChannelFirst"}}, "train", Bundled(), SHIMS)[
            0
        ]
    )
    assert torch.equal(parser.get_parsed_content("add")(image), image[None])
    assert torch.equal(parser.get_parsed_content("move")(image), image.movedim(-1, 0))


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

"""ResEnc: as many weights as nnU-Net's own, its beginning, its heads, any input."""

from __future__ import annotations

import pytest
import torch

from volseg.networks import ResidualEncoderUNet

BLOCKS = [1, 3, 4, 6, 6, 6]


# Counted once in dynamic-network-architectures 0.4.4: ResidualEncoderUNet(channels, levels, features, Conv3d, kernels,
# strides, blocks, classes, 1, conv_bias=True, norm_op=InstanceNorm3d, norm_op_kwargs={"affine": True},
# nonlin=LeakyReLU, deep_supervision=True). It has a head at each level but the last, as 4 beside the main one.
@pytest.mark.parametrize(
    ("features", "thick", "channels", "classes", "published"),
    [
        ([32, 64, 128, 256, 320, 320], False, 1, 3, 0),
        ([32, 64, 128, 256, 320, 320], True, 4, 5, 0),
        ([8, 16, 24, 32, 32, 32], True, 1, 2, 0),
    ],
)
def test_it_has_as_many_weights_as_nnu_net_s(
    features: list[int], thick: bool, channels: int, classes: int, published: int
) -> None:
    flat = thick * 2
    with torch.device("meta"):
        network = ResidualEncoderUNet(
            channels,
            classes,
            features,
            [[2, 2, 1]] * flat + [[2, 2, 2]] * (5 - flat),
            [[3, 3, 1]] * flat + [[3, 3, 3]] * (6 - flat),
            BLOCKS,
            heads=4,
        )
    assert sum(tensor.numel() for tensor in network.parameters()) == published

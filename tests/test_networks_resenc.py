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
        ([32, 64, 128, 256, 320, 320], False, 1, 3, 102_350_575),
        ([32, 64, 128, 256, 320, 320], True, 4, 5, 101_684_825),
        ([8, 16, 24, 32, 32, 32], True, 1, 2, 1_300_074),
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


def small(heads: int) -> ResidualEncoderUNet:
    return ResidualEncoderUNet(2, 3, [4, 6, 8], [[2, 2, 1], [2, 2, 2]], [[3, 3, 1]] + [[3, 3, 3]] * 2, [1, 2, 1], heads)


def test_blocks_begin_by_passing_on_what_they_are_given() -> None:
    """So that what goes around a block is all that comes out of it, as in nnU-Net."""
    block = small(0).encoder[1][1]
    volume = torch.rand(1, 6, 4, 4, 4)
    assert torch.equal(block(volume), volume)


@pytest.mark.parametrize("size", [(8, 8, 4), (9, 7, 5), (5, 6, 3)])
def test_any_size_goes_in_and_heads_come_out_in_training_alone(size: tuple[int, int, int]) -> None:
    network = small(1)
    shapes = [one.shape[1:] for one in network(torch.randn(1, 2, *size))]
    assert shapes == [(3, *size), (3, -(-size[0] // 2), -(-size[1] // 2), size[2])]
    with torch.no_grad():
        assert network.eval()(torch.randn(1, 2, *size)).shape == (1, 3, *size)


def test_more_heads_than_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="no room for 2 heads"):
        small(2)

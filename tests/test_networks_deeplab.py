"""DeepLabv3+: its output stride and dilations, atrous levels against strided ones, interpolation against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from volseg.networks import DeepLabV3Plus
from volseg.networks.blocks import resized

TWOS = [[2, 2, 2]] * 4


def convolutions(network: nn.Module) -> list[nn.Conv3d]:
    return [part for part in network.modules() if isinstance(part, nn.Conv3d)]


@pytest.mark.parametrize(
    ("most", "sizes", "dilations"),
    [
        (16, [16, 8, 4, 2], [(1, 1), (1, 1), (1, 1), (1, 1)]),
        (8, [16, 8, 4, 4], [(1, 1), (1, 1), (1, 1), (1, 2)]),
        (4, [16, 8, 8, 8], [(1, 1), (1, 1), (1, 2), (2, 4)]),
    ],
)
def test_beyond_the_output_stride_kernels_widen_instead(
    most: int, sizes: list[int], dilations: list[tuple[int, int]]
) -> None:
    network = DeepLabV3Plus(1, 2, [4, 4, 6, 6], TWOS, output_stride=most, rates=[1, 2], head_features=4)
    assert network.output_stride == (min(most, 16),) * 3
    volume = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        for level, size, (first, then) in zip(network.encoder, sizes, dilations, strict=True):
            volume = level(volume)
            assert volume.shape[2:] == (size,) * 3
            wide = [part.dilation for part in convolutions(level) if part.kernel_size == (3, 3, 3)]
            assert wide == [(first,) * 3, (then,) * 3, (then,) * 3, (then,) * 3]


def test_an_axis_that_was_never_halved_isn_t_dilated() -> None:
    network = DeepLabV3Plus(1, 2, [4, 4, 4], [[2, 2, 1], [2, 2, 1], [2, 2, 2]], output_stride=4, rates=[1])
    assert network.output_stride == (4, 4, 2)
    assert convolutions(network.encoder[2])[-1].dilation == (2, 2, 1)


def test_atrous_levels_see_what_strided_ones_see_only_denser() -> None:
    """The paper's reason for them: the same weights, at every place instead of every other."""
    torch.manual_seed(0)
    dense, strided = (
        DeepLabV3Plus(1, 2, [2, 3, 4], [[2, 2, 2]] * 3, output_stride=most, rates=[1], head_features=4).encoder
        for most in (2, 8)
    )
    strided.load_state_dict(dense.state_dict())
    for encoder in (dense, strided):
        for part in encoder.modules():
            if isinstance(part, nn.InstanceNorm3d):  # its mean is over other places
                part.forward = lambda volume: volume  # type: ignore[method-assign]
    first = second = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        for one, other in zip(dense, strided, strict=True):
            first, second = one(first), other(second)
    assert first.shape[2:] == (8, 8, 8)
    assert second.shape[2:] == (2, 2, 2)
    assert torch.allclose(first[..., ::4, ::4, ::4], second, atol=1e-5)


def test_the_pyramid_s_rates() -> None:
    pyramid = DeepLabV3Plus(1, 2, [4, 8], TWOS[:2], rates=[[1, 1, 1], [3, 3, 1]], head_features=16).pyramid
    found = [(part.kernel_size[0], part.dilation, part.out_channels) for part in convolutions(pyramid.branches)]
    assert found == [(1, (1, 1, 1), 16), (3, (1, 1, 1), 16), (3, (3, 3, 1), 16)]
    assert convolutions(pyramid.join)[0].in_channels == 4 * 16
    volume = torch.randn(1, 8, 7, 7, 4)
    assert pyramid(volume).shape == (1, 16, 7, 7, 4)


@pytest.mark.parametrize(("have", "wanted"), [((4, 5, 3), (8, 10, 6)), ((4, 5, 1), (7, 9, 2)), ((6, 6, 6), (3, 6, 5))])
def test_interpolation_is_torch_s(have: tuple[int, int, int], wanted: tuple[int, int, int]) -> None:
    volume = torch.randn(2, 3, *have, dtype=torch.float64)
    expected = interpolate(volume, size=wanted, mode="trilinear", align_corners=False)
    assert torch.allclose(resized(volume, wanted), expected, atol=1e-12)


@pytest.mark.parametrize("size", [(16, 16, 16), (9, 7, 5), (9, 3, 4)])
def test_any_size_goes_in(size: tuple[int, int, int]) -> None:
    network = DeepLabV3Plus(2, 5, [4, 4, 4], [[2, 2, 1], [2, 2, 2], [2, 2, 2]], rates=[1, 2], head_features=8).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 2, *size)).shape == (2, 5, *size)

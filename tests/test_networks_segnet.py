"""SegNet: its unpooling by hand and by torch's, its size by the paper's, any input."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import max_pool3d, max_unpool3d

from volseg.networks import SegNet
from volseg.networks.segnet import pool, unpool

SMALL = {"features": [4, 6], "strides": [[2, 2, 1], [2, 2, 2]], "kernels": [[3, 3, 1], [3, 3, 3]]}


def test_a_maximum_goes_back_to_where_it_was() -> None:
    """Two windows of 2 x 2 x 1 and, since 5 is odd, one of 1 x 2 x 1 at the end."""
    volume = torch.tensor([[1.0, 7.0], [3.0, 2.0], [4.0, 4.0], [9.0, -1.0], [-5.0, -6.0]]).reshape(1, 1, 5, 2, 1)
    values, indices = pool(volume, (2, 2, 1))
    assert values.flatten().tolist() == [7.0, 9.0, -5.0]
    assert indices.flatten().tolist() == [1, 6, 8]
    back = unpool(torch.tensor([10.0, 20.0, 30.0]).reshape(1, 1, 3, 1, 1), indices, (5, 2, 1))
    assert back.reshape(5, 2).tolist() == [[0.0, 10.0], [0.0, 0.0], [0.0, 0.0], [20.0, 0.0], [30.0, 0.0]]


@pytest.mark.parametrize("stride", [(2, 2, 2), (2, 1, 2), (1, 1, 1), (3, 2, 1)])
def test_pooling_is_torch_s_in_values_places_and_gradients(stride: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    volume = torch.randn(2, 3, 6, 7, 5, requires_grad=True)
    values, indices = pool(volume, stride)
    expected, places = max_pool3d(volume, stride, stride, ceil_mode=True, return_indices=True)
    assert torch.equal(values, expected)
    assert torch.equal(indices, places)
    back = unpool(values, indices, (6, 7, 5))
    assert torch.equal(back, max_unpool3d(expected, places, stride, stride, output_size=(6, 7, 5)))
    weights = torch.randn_like(back)
    ours, theirs = (torch.autograd.grad((one * weights).sum(), volume, retain_graph=True)[0] for one in (
        back, max_unpool3d(expected, places, stride, stride, output_size=(6, 7, 5)))
    )  # fmt: skip
    assert torch.equal(ours, theirs)


def test_the_encoder_has_vgg16_s_weights() -> None:
    """The paper keeps VGG16's 13 convolutions, 14.7 million weights, and the whole network has 29.5 million."""
    with torch.device("meta"):
        network = SegNet(3, 11, [64, 128, 256, 512, 512], [[2, 2, 1]] * 5, [[3, 3, 1]] * 5, [2, 2, 3, 3, 3])
    convolutions = [part for part in network.encoder.modules() if isinstance(part, torch.nn.Conv3d)]
    assert len(convolutions) == 13
    assert sum(tensor.numel() for part in convolutions for tensor in part.parameters()) == 14_714_688
    assert sum(tensor.numel() for tensor in network.parameters()) == pytest.approx(29.46e6, rel=2e-3)


@pytest.mark.parametrize("size", [(8, 8, 8), (9, 7, 5), (4, 4, 2), (3, 5, 1)])
def test_any_size_goes_in(size: tuple[int, int, int]) -> None:
    network = SegNet(2, 5, **SMALL).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 2, *size)).shape == (1, 5, *size)


def test_nothing_of_it_is_refused_where_every_step_must_be_the_same_at_each_run() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        network = SegNet(1, 2, **SMALL)
        network(torch.randn(1, 1, 8, 8, 4)).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


def test_stages_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        SegNet(1, 2, [4, 6], [[2, 2, 2]])

"""The average of a network's weights, against the formula."""

from __future__ import annotations

import pytest
import torch

from volseg.training.average import WeightAverage


def network() -> torch.nn.Module:
    found = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.BatchNorm1d(1))
    with torch.no_grad():
        found[0].weight.copy_(torch.tensor([[1.0, -1.0]]))
    return found


def test_it_is_the_exponential_mean_of_the_steps() -> None:
    averaged = network()
    average = WeightAverage(averaged, decay=0.9)
    expected = torch.tensor([[1.0, -1.0]])
    for step in range(1, 200):
        with torch.no_grad():
            averaged[0].weight.add_(0.5)  # type: ignore[operator,union-attr]
            averaged[1].num_batches_tracked.add_(1)  # type: ignore[operator,union-attr]
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * averaged[0].weight.detach()  # type: ignore[operator]
    state = average.state_dict()
    torch.testing.assert_close(state["0.weight"], expected)
    assert int(state["1.num_batches_tracked"]) == 199  # a count is taken over as it is


def test_the_network_gets_its_own_weights_back() -> None:
    averaged = network()
    average = WeightAverage(averaged)
    with torch.no_grad():
        averaged[0].weight.add_(8.0)  # type: ignore[operator,union-attr]
    average.update()
    own = {name: tensor.clone() for name, tensor in averaged.state_dict().items()}
    for _ in range(2):  # twice does no harm
        average.apply()
    torch.testing.assert_close(averaged.state_dict()["0.weight"], average.state_dict()["0.weight"])
    for _ in range(2):
        average.restore()
    assert all(torch.equal(own[name], tensor) for name, tensor in averaged.state_dict().items())


def test_it_goes_on_from_an_earlier_run() -> None:
    first = WeightAverage(network())
    with torch.no_grad():
        first.network[0].weight.add_(1.0)  # type: ignore[operator,union-attr,index]
    first.update()
    again = WeightAverage(network())
    again.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()}, steps=1)
    assert again.steps == first.steps == 1
    assert torch.equal(again.state_dict()["0.weight"], first.state_dict()["0.weight"])
    with pytest.raises(KeyError):
        again.load_state_dict({}, steps=1)

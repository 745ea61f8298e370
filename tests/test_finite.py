"""Numbers that are not finite are found, whatever holds them."""

from __future__ import annotations

import pytest
import torch

from volseg.finite import all_finite, not_finite

BAD = (float("nan"), float("inf"), float("-inf"))


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
def test_one_bad_number_among_many(kind: torch.dtype, bad: float) -> None:
    tensor = torch.linspace(-1, 1, 999).to(kind).reshape(9, 37, 3)
    assert bool(all_finite(tensor))
    assert bool(all_finite(tensor[:0]))
    for place in ((0, 0, 0), (4, 20, 1), (8, 36, 2)):
        spoilt = tensor.clone()
        spoilt[place] = bad
        assert not bool(all_finite(spoilt))
        assert not bool(all_finite(spoilt.transpose(0, 2)))


def test_the_largest_numbers_are_finite() -> None:
    largest = torch.full((100,), torch.finfo(torch.float32).max)
    assert bool(all_finite(largest))
    assert bool(all_finite(-largest))
    assert bool(all_finite(torch.ones(3, dtype=torch.bool)))


@pytest.mark.parametrize("bad", BAD)
def test_the_first_is_named_by_its_path(bad: float) -> None:
    good, spoilt = torch.ones(2, 3), torch.tensor([1.0, bad])
    assert not_finite({"a": good, "b": {"c": {0: good}}, "steps": torch.tensor(3), "rate": bad}) is None
    assert not_finite({"a": good, "b": {"c": {0: good, 1: spoilt}}, "d": spoilt}) == "b.c.1"

"""Numbers that are not finite are found, whatever holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from volseg.finite import all_finite, not_finite

if TYPE_CHECKING:
    from collections.abc import Callable

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


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(2, device="meta"),
        lambda: torch.ones(2).to(torch.float8_e4m3fn),
        lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
        lambda: torch.eye(2).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    ],
    ids=["meta", "float8", "nested", "sparse", "quantised"],
)
@pytest.mark.filterwarnings("ignore")
def test_what_holds_no_plain_numbers_is_not_known_to_be_finite(make: Callable[[], torch.Tensor]) -> None:
    assert not_finite({"good": torch.ones(2), "odd": make()}) == "odd"

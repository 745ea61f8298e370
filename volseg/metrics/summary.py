"""The values of many cases in short."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Summary:
    """The values of many cases in short, and how many of them count."""

    mean: float
    """Of the finite values; NaN when there is none."""
    standard_deviation: float
    """Of the finite values, with n - 1; NaN below two."""
    median: float
    """Of the finite and the infinite values: an infinite distance makes it worse, as it should."""
    counted: int
    """Finite values: those in the mean."""
    infinite: int
    """Infinite values: a label that only one of the masks has. They are not in the mean."""
    undefined: int
    """NaN: a label that neither mask has, or a share of nothing. They are in no figure."""


def summarise(values: Iterable[float]) -> Summary:
    """Sum up the values of many cases."""
    every = np.array(list(values), np.float64)
    defined = every[~np.isnan(every)]
    finite = defined[np.isfinite(defined)]
    with np.errstate(invalid="ignore"):  # the median between two infinite values is infinite
        median = float(np.sort(defined)[[(len(defined) - 1) // 2, len(defined) // 2]].mean()) if len(defined) else None
    return Summary(
        mean=float(finite.mean()) if len(finite) else math.nan,
        standard_deviation=float(finite.std(ddof=1)) if len(finite) > 1 else math.nan,
        median=math.nan if median is None else median,
        counted=len(finite),
        infinite=len(defined) - len(finite),
        undefined=len(every) - len(defined),
    )

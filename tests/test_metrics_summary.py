from __future__ import annotations

import math
import warnings

import pytest

from volseg.metrics import summarise


def test_a_summary_counts_what_it_leaves_out() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = summarise([1.0, 3.0, math.inf, math.nan, 8.0])
        assert (summary.counted, summary.infinite, summary.undefined) == (3, 1, 1)
        assert summary.mean == 4
        assert summary.standard_deviation == pytest.approx(math.sqrt(13))
        assert summary.median == 5.5
        assert summarise([1.0, math.inf, math.inf]).median == math.inf
        assert summarise([math.inf, math.inf]).median == math.inf
        nothing = summarise([math.nan])
        assert math.isnan(nothing.mean)
        assert math.isnan(nothing.median)
        assert nothing.counted == 0
        assert math.isnan(summarise([2.0]).standard_deviation)

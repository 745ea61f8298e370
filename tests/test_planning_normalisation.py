"""Which intensities are normalised how."""

from __future__ import annotations

import numpy as np
import pytest

from tests.plans import planned


@pytest.mark.parametrize("name", ["CT", "ct", "CTA", "CT venous", "computed tomography"])
def test_ct_is_clipped_to_percentiles_of_the_foreground(name: str) -> None:
    values = np.random.default_rng(1).normal(40, 120, 5000).astype(np.float32)
    (found,) = planned((40, 40, 40), (1.0, 1.0, 1.0), channels=(name,), foreground=[values]).normalisations
    low, high = np.percentile(values, [0.5, 99.5])
    clipped = np.clip(values, low, high)
    assert found.kind == "percentiles"
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.mean, found.std) == pytest.approx((clipped.mean(), clipped.std()))


@pytest.mark.parametrize("name", ["MR", "T1", "CBCT", "PET", "ultrasound", "OCT", "FACT"])
def test_what_has_no_fixed_scale_is_normalised_by_itself(name: str) -> None:
    (found,) = planned((40, 40, 40), (1.0, 1.0, 1.0), channels=(name,)).normalisations
    assert found.kind == "z-score"
    assert not found.nonzero


def test_a_masked_image_is_normalised_over_what_is_not_zero() -> None:
    (found,) = planned((40, 40, 40), (1.0, 1.0, 1.0), zero_share=0.4).normalisations
    assert found.nonzero


def test_ct_beside_another_modality_gets_the_rule_without_a_scale() -> None:
    found = planned((40, 40, 40), (1.0, 1.0, 1.0), channels=("CT", "PET"))
    assert [one.kind for one in found.normalisations] == ["z-score", "z-score"]


def test_a_constant_foreground_still_gives_a_window() -> None:
    (found,) = planned(
        (40, 40, 40), (1.0, 1.0, 1.0), channels=("CT",), foreground=[np.full(50, 30, np.float32)]
    ).normalisations
    assert found.low < 30 < found.high
    assert found.std > 0

"""The CT values of phantoms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from volseg.workflows.phantoms.phantom import GALLBLADDER, LIVER, SPLEEN, make_phantom
from volseg.workflows.phantoms.tissue import paint


@pytest.mark.parametrize("number", [0, 1])
def test_organs_have_their_values(number: int) -> None:
    phantom = make_phantom("p", (11, number))
    image, mask = paint(phantom), phantom.mask(phantom.grid)
    assert image.dtype == np.int16
    assert image.shape == phantom.grid.shape
    for label, tolerance_hu in ((SPLEEN, 4), (GALLBLADDER, 12)):
        inside = binary_erosion(mask == label)
        assert np.median(image[inside]) == pytest.approx(phantom.hu[label], abs=tolerance_hu)
    inside = binary_erosion(mask == SPLEEN, iterations=1)
    assert image[inside].std() == pytest.approx(phantom.noise_hu, rel=0.3)
    # The liver holds vessels, so most of it, not all, has its value.
    assert np.median(image[binary_erosion(mask == LIVER)]) == pytest.approx(phantom.hu[LIVER], abs=5)


def test_air_is_around_the_body_and_the_body_fits_the_scan() -> None:
    phantom = make_phantom("p", (12, 0))
    image = paint(phantom)
    assert image.min() >= -1024
    assert image.max() > 300  # bone
    edges = np.concatenate([image[0].ravel(), image[-1].ravel(), image[:, 0].ravel()])
    assert np.median(edges) < -950
    assert (edges > -500).mean() < 0.05  # the couch reaches the border
    middle = image[tuple(n // 4 for n in image.shape[:2])]
    assert (middle > -300).mean() > 0.5

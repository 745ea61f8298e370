"""From a label map to the channels of regions."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor

from volseg.training import LabelsToRegionsd


def test_channels_are_unions_and_what_nobody_judged_stays() -> None:
    labels = np.random.default_rng(0).integers(0, 5, (1, 4, 5, 6))
    image = MetaTensor(torch.from_numpy(labels).float(), affine=torch.eye(4) * 2)
    regions = [[1, 2, 3], [2, 3], [3]]
    found = LabelsToRegionsd(keys="label", regions=regions)({"label": image, "other": 1})
    assert found["other"] == 1
    assert found["label"].dtype == image.dtype
    np.testing.assert_array_equal(found["label"].numpy(), [np.isin(labels[0], region) for region in regions])
    kept = LabelsToRegionsd(keys="label", regions=regions, ignore=4)({"label": image})["label"].numpy()
    assert (kept[:, labels[0] == 4] == 4).all()
    np.testing.assert_array_equal(kept[:, labels[0] != 4], found["label"].numpy()[:, labels[0] != 4])

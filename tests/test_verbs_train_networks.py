"""Each network through the verbs: planned, trained for a step, predicted with; its published weights, MONAI's runner."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import monai.bundle
import nibabel
import numpy as np
import pytest
import torch

from volseg.planning.networks import NETWORKS
from volseg.planning.presets import PRESETS
from volseg.verbs.plan import PlanOptions, plan
from volseg.verbs.predict import PredictOptions, predict
from volseg.verbs.train import TrainOptions, train

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteImage


@pytest.fixture
def two_channels(tmp_path: Path, write_image: WriteImage) -> Path:
    """Two cases of two channels and two labels, and a third without its mask."""
    random = np.random.default_rng(0)
    mask = np.zeros((17, 15, 13), np.uint8)
    mask[3:9, 3:9, 3:9] = 1
    mask[9:14, 4:12, 5:12] = 2
    for case, folder in enumerate(("imagesTr", "imagesTr", "imagesTs")):
        for channel in range(2):
            image = (100.0 * mask + random.normal(0, 9, mask.shape)).astype(np.float32)
            write_image(tmp_path / "data" / folder / f"case_{case}_{channel:04d}.nii.gz", image)
        if folder == "imagesTr":
            write_image(tmp_path / "data" / "labelsTr" / f"case_{case}.nii.gz", mask)
    content = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "shell": 1, "core": 2},
        "file_ending": ".nii.gz",
    }
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(content))
    return tmp_path / "data"


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_is_planned_trained_and_predicts(
    name: str, two_channels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(PRESETS["fast"], features=4, max_features=16, max_levels=3, steps_per_epoch=1, max_epochs=1)
    monkeypatch.setitem(PRESETS, "fast", small)
    bundle, masks = tmp_path / "bundle", tmp_path / "masks"
    options = PlanOptions(network=name, optimizer="sgd", augment="none")  # type: ignore[arg-type]
    plan(two_channels, bundle, options)
    (result,) = train(bundle, TrainOptions(fold=0))
    assert result.complete
    trained = torch.load(bundle / "runs" / "fold_0" / "final.pt", weights_only=True)
    published = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert set(published) <= set(trained)
    assert (set(published) < set(trained)) == (name in ("dynunet", "resenc", "segresnet-ds"))
    assert all(torch.equal(tensor, trained[key]) for key, tensor in published.items())
    predict(bundle, two_channels, masks, PredictOptions(precision="float32"))
    found = nibabel.load(masks / "case_2.nii.gz")
    assert found.shape == (17, 15, 13)
    assert set(np.unique(np.asarray(found.dataobj))) <= {0, 1, 2}
    if name in ("segnet", "resenc", "deeplab"):  # volseg's own networks, in MONAI's own runner
        monkeypatch.chdir(bundle)
        files = {"meta_file": "configs/metadata.json", "config_file": "configs/inference.yaml"}
        with pytest.warns(UserWarning, match="Only proceed if this config is from a source you trust"):
            monai.bundle.run(**files, output_dir=str(tmp_path / "monai"))
        (same,) = (tmp_path / "monai").glob("*.nii.gz")
        assert np.array_equal(nibabel.load(same).get_fdata(), found.get_fdata())

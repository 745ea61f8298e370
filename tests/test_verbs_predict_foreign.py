"""Bundles of other makes, by the shapes that configs of the Model Zoo have: the very masks of MONAI's own runner."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

from tests.conftest import uncounted
from tests.zoo import NETWORK, write_zoo_bundle
from volseg.verbs.predict import predict
from volseg.verbs.trust import trust

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

JOIN = '''\
"""Joins phases into one image."""

import torch
from monai.transforms import Transform


class Joind(Transform):
    def __init__(self, keys_merge, keys_out):
        self.keys_merge, self.keys_out = keys_merge, keys_out

    def __call__(self, data):
        found = dict(data)
        found[self.keys_out] = torch.cat([found[key] for key in self.keys_merge])
        return found


def both(batch, device, non_blocking, **kwargs):
    """A batch as an evaluator of the bundle's own wants it: upside down."""
    return batch["image"].to(device).flip(2), batch.get("label")
'''
PHASES = ["late", "early"]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle that reads two phases and a label under keys of its own, lists of a stranger's, other weights."""
    root = write_zoo_bundle(tmp_path / "bundle", tmp_path)
    (root / "scripts" / "join.py").write_text(JOIN)
    path = root / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config |= {
        "imports": ["$import pandas as pd", "$from scripts.join import both"],
        "dataset_dir": "/data/of/a/stranger/",
        "datalist": "$list(pd.read_csv(@dataset_dir + 'test.csv').t2)",
        "network_def": NETWORK | {"in_channels": 2},
        "reading": {"_target_": "Compose", "transforms": [
            {"_target_": "LoadImaged", "keys": [*PHASES, "label"]},
            {"_target_": "EnsureChannelFirstd", "keys": PHASES},
            {"_target_": "Orientationd", "keys": PHASES, "axcodes": "LPS"},
            {"_target_": "Spacingd", "keys": PHASES, "pixdim": [1.0, 1.0, 1.2], "mode": "bilinear"},
            {"_target_": "scripts.join.Joind", "keys_merge": PHASES, "keys_out": "image"},
            {"_target_": "ScaleIntensityd", "keys": "image", "channel_wise": True},
        ]},
        "dataset": {"_target_": "Dataset", "data": "$[{'late': i} for i in @datalist]", "transform": "@reading"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "handlers": [{"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/tuned.pt'",
                      "load_dict": {"model": "@network"}}],
        "evaluator": {
            "_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@dataloader",
            "network": "@network", "inferer": "@inferer", "postprocessing": "@postprocessing",
            "val_handlers": "@handlers", "prepare_batch": "$both",
        },
        "evaluating": ["$@evaluator.run()"],
    }  # fmt: skip
    config["net"] = config.pop("network_def")
    config["network"] = "$@net.to(@device)"
    del config["preprocessing"]
    steps = config["postprocessing"]["transforms"]
    steps[1] |= {"transform": "@reading", "orig_keys": "late"}
    steps.append({"_target_": "SaveImaged", "keys": "label", "output_dir": "@output_dir"})
    path.write_text(json.dumps(config))
    metadata = json.loads((root / "configs" / "metadata.json").read_text())
    metadata["network_data_format"]["inputs"]["image"]["num_channels"] = 2
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    torch.manual_seed(0)
    network = UNet(**{key: value for key, value in config["net"].items() if key != "_target_"})
    (root / "models").mkdir()
    torch.save(network.state_dict(), root / "models" / "tuned.pt")
    return root


def volume(seed: int) -> NDArray[np.int16]:
    random = np.random.default_rng(seed)
    values = random.normal(0, 40, (22, 19, 17))
    values[5:15, 4:12, 3:12] += 300 + 100 * seed
    return values.astype(np.int16)


def test_keys_lists_weights_and_batches_of_its_own(bundle: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    files = [images / f"case_000{number}.nii.gz" for number in range(2)]
    for number, file in enumerate(files):
        nibabel.save(nibabel.Nifti1Image(volume(number), np.diag([1.1, -0.9, 1.2, 1])), file)
    nibabel.save(nibabel.Nifti1Image(volume(0), np.eye(4)), tmp_path / "label.nii.gz")
    item: dict[str, Any] = dict(zip(PHASES, map(str, files), strict=True)) | {"label": str(tmp_path / "label.nii.gz")}
    arguments = {
        "run_id": "evaluating", "config_file": str(bundle / "configs" / "inference.json"), "dataset#data": [item],
        "output_dir": str(tmp_path / "theirs"),
    }  # fmt: skip
    (tmp_path / "arguments.json").write_text(json.dumps(arguments))
    command = [sys.executable, "-B", "-m", "monai.bundle", "run", "--args_file", str(tmp_path / "arguments.json")]
    done = subprocess.run(
        command, cwd=bundle, env=uncounted(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    trust(bundle)
    ledger = predict(bundle, images, tmp_path / "ours")
    assert ledger.exit_code == 0, ledger.outcomes
    assert "_0000 is late, _0001 is early" in " ".join(ledger.outcomes[0].warnings)
    ours = np.asarray(nibabel.load(tmp_path / "ours" / "case.nii.gz").dataobj)
    saved = [path for path in (tmp_path / "theirs").rglob("*.nii.gz") if "0000" in path.name]
    assert len(np.unique(ours)) > 1
    np.testing.assert_array_equal(ours, np.asarray(nibabel.load(saved[0]).dataobj))


def test_one_file_of_all_channels_is_the_same(bundle: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    both = np.stack([volume(0), volume(1)], axis=-1)
    affine = np.diag([1.1, -0.9, 1.2, 1])
    for number in range(2):
        nibabel.save(nibabel.Nifti1Image(both[..., number], affine), images / f"case_000{number}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(both, affine), tmp_path / "case.nii.gz")
    trust(bundle)
    ledgers = [predict(bundle, source, tmp_path / source.name[:4]) for source in (images, tmp_path / "case.nii.gz")]
    assert [ledger.exit_code for ledger in ledgers] == [0, 0]
    assert ledgers[0].outcomes[0].warnings == ledgers[1].outcomes[0].warnings
    masks = [np.asarray(nibabel.load(tmp_path / name / "case.nii.gz").dataobj) for name in ("imag", "case")]
    np.testing.assert_array_equal(*masks)


def test_a_phase_that_is_missing_is_named(bundle: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    nibabel.save(nibabel.Nifti1Image(volume(0), np.eye(4)), images / "case_0000.nii.gz")
    trust(bundle)
    ledger = predict(bundle, images, tmp_path / "ours")
    assert [outcome.code for outcome in ledger.outcomes] == ["channels"]
    assert (
        ledger.outcomes[0].message
        == "The image has 1 channels, and the bundle takes 2: late, early. Give each case as many."
    )

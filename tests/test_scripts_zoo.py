"""scripts/zoo: masks are the same only voxel by voxel on one grid, and a table keeps the rows that were not run."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np
import pytest

from tests.scripts import loaded


@pytest.fixture(scope="module")
def zoo() -> ModuleType:
    return loaded("zoo")


def saved(path: Path, array: np.ndarray, moved_mm: float = 0.0) -> Path:
    affine = np.eye(4)
    affine[0, 3] = moved_mm
    nibabel.save(nibabel.Nifti1Image(array.astype(np.uint8), affine), path)
    return path


def test_masks_are_compared_voxel_by_voxel(zoo: ModuleType, tmp_path: Path) -> None:
    mask = np.arange(1000).reshape(10, 10, 10) % 3
    other = mask.copy()
    other[0, 0, 0] = 2
    one = saved(tmp_path / "one.nii.gz", mask)
    assert zoo.compare(one, one) == "100 % of 1000, 3 values"
    assert zoo.compare(one, saved(tmp_path / "other.nii.gz", other)) == "99.9000 % of 1000, 3 values"
    assert zoo.compare(one, saved(tmp_path / "cut.nii.gz", mask[1:])) == "shapes (10, 10, 10) and (9, 10, 10)"
    assert zoo.compare(one, saved(tmp_path / "moved.nii.gz", mask, 0.5)) == "affines differ by 0.5"
    empty = saved(tmp_path / "empty.nii.gz", np.zeros((10, 10, 10)))
    assert zoo.compare(empty, empty) == "constant mask (100 %)"
    assert zoo.compare(one, None) == zoo.NOTHING


def test_rows_that_were_not_run_stay(zoo: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "zoo.md"
    out.write_text(f"before\n{zoo.BEGIN}\n{zoo.END}\nafter\n")
    zoo.put(out, {"`b`": ["`b`", "clean", "a \\| b", "works", "100 %", "-"]})
    zoo.put(out, {"`a`": ["`a`", "clean", "works", "works", "100 %", "-"]})
    lines = out.read_text().splitlines()
    assert lines[0] == "before"
    assert lines[-1] == "after"
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| `")] == ["`a`", "`b`"]
    assert "| a \\| b |" in out.read_text()


def test_a_runner_is_told_the_device_and_float32_alone(zoo: ModuleType) -> None:
    config = {
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "ckpt": "$torch.load(@path, map_location=torch.device('cuda'))",
        "network_def": {"_target_": "UNet", "channels": [8, 16]},
        "dataloader": {"_target_": "DataLoader", "num_workers": 4},
        "evaluator": {"_target_": "monai.engines.SupervisedEvaluator", "amp": True},
        "evaluating": ["$@evaluator.run()"],
    }
    assert zoo.overrides_of(config) == {
        "device": "$torch.device('cpu')",
        "ckpt": "$torch.load(weights_only=False, f=@path, map_location=torch.device('cpu'))",
        "dataloader#num_workers": 0,
        "evaluator#amp": False,
    }
    assert zoo.run_id(config) == "evaluating"

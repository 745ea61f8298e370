"""scripts/peers/monaideploy: masks are compared by the places of their voxels in the patient."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np
import pytest

from tests.scripts import SCRIPTS, loaded

AFFINE = np.array([[0.8, 0, 0, -30], [0, 0, -2.5, 40], [0, 0.9, 0, 7], [0, 0, 0, 1]])


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", list(sys.path))
    return loaded("peers/monaideploy")


def test_in_another_order_of_the_axes(script: ModuleType, tmp_path: Path) -> None:
    mask = np.random.default_rng(3).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask, AFFINE), tmp_path / "ours.nii.gz")
    columns = AFFINE @ np.array([[0, -1, 0, 3], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    turned = np.transpose(mask[::-1], (2, 0, 1))
    assert script.compare(turned, columns, tmp_path / "ours.nii.gz").startswith("100.0000 % of 120 voxels the same")
    other = turned.copy()
    other[0, 0, 0] += 1
    assert script.compare(other, columns, tmp_path / "ours.nii.gz").startswith("99.1667 %")


def test_another_place_or_grid_is_no_match(script: ModuleType, tmp_path: Path) -> None:
    mask = np.ones((4, 5, 6), np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask, AFFINE), tmp_path / "ours.nii.gz")
    wide, moved = AFFINE @ np.diag([1, 1, 1.5, 1]), AFFINE.copy()
    moved[:3, 3] += AFFINE[:3, 0] * 2
    assert "the grids differ" in script.compare(mask, wide, tmp_path / "ours.nii.gz")
    assert script.compare(mask, moved, tmp_path / "ours.nii.gz") == "the grids lie elsewhere"


def test_the_page_names_the_versions_that_the_scripts_install(script: ModuleType) -> None:
    page = (SCRIPTS.parent / "docs" / "elsewhere.md").read_text(encoding="utf-8")
    label = (SCRIPTS / "peers" / "monailabel").read_text(encoding="utf-8")
    for pin in script.ALONE:
        assert pin.replace("==", " ") in page
    for pin in ("monai==1.5.2", "monailabel==0.8.5", "torch==2.15.0"):
        assert f'"{pin}"' in label
        assert pin.replace("==", " ") in page

"""A trained bundle on volumes in memory."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import volseg
from volseg import InputError, UsageError, Volume

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import CopyBundle


@pytest.fixture
def images(cohort: Path, tmp_path: Path) -> list[Path]:
    """Two images: one of the cohort's, and one that was resampled and written from memory."""
    first = min((cohort / "imagesTr").glob("*.nii.gz"))
    other = volseg.resample(volseg.read(first), spacing_mm=1.7)
    volseg.write(other, tmp_path / "images" / "b.nii.gz")
    volseg.write(volseg.read(first), tmp_path / "images" / "a.nii.gz")
    return [tmp_path / "images" / "a.nii.gz", tmp_path / "images" / "b.nii.gz"]


def test_a_volume_gets_the_very_mask_of_its_file(copy_bundle: CopyBundle, images: list[Path], tmp_path: Path) -> None:
    bundle = copy_bundle(trained=True)
    volseg.predict(bundle, tmp_path / "images", tmp_path / "masks", progress=False)
    predictor = volseg.load(str(bundle))
    for image in images:
        volume = volseg.read(image)
        on_disk = volseg.read_mask(tmp_path / "masks" / image.name)
        in_memory = predictor.predict(volume, progress=False)
        assert np.array_equal(in_memory.array, on_disk.array)
        assert in_memory.grid is volume.grid
        assert in_memory.labels.names == predictor.labels.names == on_disk.labels.names
        assert np.array_equal(volseg.predict(bundle, volume, device="cpu", progress=False).array, on_disk.array)
    assert repr(predictor).startswith("Predictor(bundle, cpu")


def test_what_can_not_be_segmented_is_told(copy_bundle: CopyBundle, images: list[Path]) -> None:
    bundle = copy_bundle(trained=True)
    predictor, volume = volseg.load(bundle), volseg.read(images[0])
    wrong: Any = volume.array
    for call in (lambda: predictor.predict(wrong), lambda: volseg.predict(bundle, wrong)):
        with pytest.raises(UsageError, match="Volume"):
            call()
    with pytest.raises(InputError, match="has 2 channels, and the bundle takes 1"):
        predictor.predict(Volume(np.stack([volume.array] * 2, axis=-1), volume.grid))
    with pytest.raises(InputError, match="not finite"):
        predictor.predict(Volume(np.full(volume.array.shape, np.nan, np.float32), volume.grid))
    with pytest.raises(UsageError, match="takes fold, device, raw, regions and precision alone"):
        volseg.predict(bundle, volume, overwrite=True)
    with pytest.raises(UsageError, match="nowhere does not exist"):
        volseg.load("nowhere")


def test_what_a_person_should_know_is_logged(
    copy_bundle: CopyBundle, images: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    volume = volseg.read(images[0])
    values = np.zeros_like(volume.array)
    values[0, 0, 0] = 1
    with caplog.at_level(logging.INFO, "volseg"):
        volseg.load(copy_bundle(trained=True)).predict(Volume(values, volume.grid))
    assert "Predicting: 0 %" in caplog.text
    assert "Predicting: done, 100 %" in caplog.text

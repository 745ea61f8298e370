"""A trained bundle on volumes in memory."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import volseg
from tests.weighed import weighed
from volseg import InputError, UsageError, Volume

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import CopyBundle, MakeBundle, WriteImage


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
        with pytest.raises(UsageError, match="An array tells nobody how large its voxels are"):
            call()
    with pytest.raises(UsageError, match="an array with its Grid; not int"):
        predictor.predict(3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not Volume with str"):
        volseg.predict(bundle, volume, "masks")  # type: ignore[call-overload]
    with pytest.raises(InputError, match="has 2 channels, and the bundle takes 1"):
        predictor.predict(Volume(np.stack([volume.array] * 2, axis=-1), volume.grid))
    with pytest.raises(InputError, match="not finite"):
        predictor.predict(Volume(np.full(volume.array.shape, np.nan, np.float32), volume.grid))
    with pytest.raises(UsageError, match="overwrite, statistics: for files alone"):
        volseg.predict(bundle, volume, overwrite=True, statistics=True)
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


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Path:
    return weighed(make_bundle())


def test_images_of_other_programs_get_the_same_mask(bundle: Path, write_image: WriteImage, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(50, 80, (14, 12, 10)).astype(np.float32)
    image = write_image(tmp_path / "a.nii.gz", values, np.diag([-1.5, 1.0, 1.25, 1.0]))
    volume, predictor = volseg.read(image), volseg.load(bundle)
    expected = predictor.predict(volume, progress=False).array
    assert len(np.unique(expected)) > 1
    for other in (volume.to_sitk(), volume.to_nibabel(), volume.to_metatensor()):
        found = predictor.predict(other, progress=False)
        assert np.array_equal(found.array, expected)
        assert found.grid.difference(volume.grid) is None
    by_array = volseg.predict(bundle, volume.array, volume.grid, progress=False)
    assert np.array_equal(by_array.array, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"keep_largest": "structure 1", "opening": "structure 1:1.5", "raw": True},
        {"labels": ["structure 1"], "overlap": 0.25, "precision": "float32"},
        {"instances": 1},
        {"roi": "2:9,3:8,0:6"},
        {"roi": "mask", "roi_margin": 1.0},
        {"roi": "other", "roi_labels": 1, "roi_margin": 0},
    ],
)
def test_options_make_the_mask_of_the_file(
    bundle: Path, write_image: WriteImage, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).normal(50, 80, (14, 12, 10)).astype(np.float32)
    image = write_image(tmp_path / "images" / "a.nii.gz", values, np.diag([-1.5, 1.0, 1.25, 1.0]))
    if options.get("roi") == "mask":
        options = {
            **options,
            "roi": str(
                write_image(tmp_path / "m.nii.gz", (values > 150).astype(np.uint8), np.diag([-1.5, 1.0, 1.25, 1.0]))
            ),
        }
    if options.get("roi") == "other":
        shutil.copytree(bundle, tmp_path / "other")
        weighed(tmp_path / "other", seed=10)
        monkeypatch.chdir(tmp_path)
    volseg.predict(bundle, image, tmp_path / "masks", progress=False, **options)
    on_disk = volseg.read_mask(tmp_path / "masks" / "a.nii.gz")
    found = volseg.predict(bundle, volseg.read(image), progress=False, **options)
    assert np.array_equal(found.array, on_disk.array)
    assert set(on_disk.labels.names) == set(found.labels.names)
    assert found.array.any()

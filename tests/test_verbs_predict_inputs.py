"""What predict takes: images of any format, several channels, data sets, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset

from tests.dicom_traps.stack import Stack, write_slices
from tests.nifti import save, voxels
from tests.obliques import apart_mm, axes_of, readings, slanted
from volseg.cli.main import main
from volseg.errors import (
    DataSetError,
    UsageError,
)
from volseg.grid import Grid
from volseg.outcomes import Status
from volseg.verbs.plan import plan
from volseg.verbs.predict import PredictOptions, predict
from volseg.verbs.train import TrainOptions, train
from volseg.volume import Volume, axes_to_reverse


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for two channels, trained by one step, with its data beside it."""
    root = tmp_path_factory.mktemp("two")
    random = np.random.default_rng(3)
    for case in range(5):
        mask = np.zeros((16, 16, 16), np.uint8)
        mask[4:12, 4 : 8 + case, 4:12] = 1
        for folder, channels in (("imagesTr", 2), ("labelsTr", 0)):
            (root / "data" / folder).mkdir(parents=True, exist_ok=True)
            for channel in range(channels):
                values = (random.normal(0, 10, mask.shape) + 100 * mask * (channel + 1)).astype(np.float32)
                save(root / "data" / folder / f"c{case}_{channel:04d}.nii.gz", values)
            if not channels:
                save(root / "data" / folder / f"c{case}.nii.gz", mask)
    plan(root / "data", root / "bundle")
    config = root / "bundle" / "configs" / "train.yaml"
    config.write_text(config.read_text().replace("steps_per_epoch: 50", "steps_per_epoch: 1"))
    train(root / "bundle", TrainOptions(epochs=1))
    return root


@pytest.mark.parametrize("suffix", ["nii", "nrrd", "mha"])
def test_other_formats_give_the_same_mask(trained_bundle: Path, cohort: Path, tmp_path: Path, suffix: str) -> None:
    source = cohort / "imagesTs" / "case_11.nii.gz"
    image = sitk.ReadImage(str(source))
    (tmp_path / "images").mkdir()
    sitk.WriteImage(image, str(tmp_path / "images" / f"case_11.{suffix}"))
    predict(trained_bundle, source, tmp_path / "a")
    predict(trained_bundle, tmp_path / "images", tmp_path / "b")
    np.testing.assert_array_equal(voxels(tmp_path / "a" / "case_11.nii.gz"), voxels(tmp_path / "b" / "case_11.nii.gz"))
    found = sitk.ReadImage(str(tmp_path / "b" / "case_11.nii.gz"))
    assert found.GetSpacing() == pytest.approx(image.GetSpacing(), rel=1e-6)
    assert found.GetOrigin() == pytest.approx(image.GetOrigin(), abs=1e-4)


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_an_oblique_image_of_another_format_gets_a_turned_one_for_its_mask(
    trained_bundle: Path, tmp_path: Path, suffix: str
) -> None:
    values = np.random.default_rng(0).integers(0, 2000, (24, 20, 12)).astype(np.int16)
    volume = Volume(values, slanted(values.shape))
    (tmp_path / "images").mkdir()
    sitk.WriteImage(volume.to_sitk(), str(tmp_path / "images" / f"a.{suffix}"))
    (outcome,) = predict(trained_bundle, tmp_path / "images", tmp_path / "out").outcomes
    (told,) = [warning for warning in outcome.warnings if "axes-turned" in warning]
    assert "Open the mask on the image in images" in told
    assert outcome.outputs == ("images/a.nii.gz", "a.nii.gz")
    image, mask = tmp_path / "out" / "images" / "a.nii.gz", tmp_path / "out" / "a.nii.gz"
    np.testing.assert_array_equal(voxels(image), values[::-1, ::-1])
    for first, second in zip(readings(image).values(), readings(mask).values(), strict=True):
        assert apart_mm(volume, *first) < 1e-3
        np.testing.assert_array_equal(first[1], second[1])


def test_channels_whose_files_round_otherwise_turn_alike(two_channels: Path, tmp_path: Path) -> None:
    """Whether a grid is held may hang on its last digit; the channels of a case go by the first."""
    values = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    (tmp_path / "images").mkdir()
    for channel, degrees in enumerate((0.003, 0.0)):
        axes = axes_of("axial", "HFS", np.array((0.0, 0.0, degrees)))
        volume = Volume(values, Grid.from_lps((16, 16, 16), (0.0, 0.0, 0.0), axes, (1.0, 1.0, 1.0)))
        assert bool(axes_to_reverse(volume.grid)) == (channel == 0)
        sitk.WriteImage(volume.to_sitk(), str(tmp_path / "images" / f"a_{channel:04d}.nrrd"))
    (outcome,) = predict(two_channels / "bundle", tmp_path / "images", tmp_path / "out").outcomes
    assert outcome.status is Status.DONE, outcome


def test_channels_on_the_fifth_axis_and_other_units_are_made_plain(two_channels: Path, tmp_path: Path) -> None:
    pair = [
        sitk.ReadImage(str(two_channels / "data" / "imagesTr" / f"c0_{channel:04d}.nii.gz")) for channel in range(2)
    ]
    (tmp_path / "images").mkdir()
    sitk.WriteImage(sitk.Compose(*pair), str(tmp_path / "images" / "vectors.nii.gz"))
    values = np.stack([sitk.GetArrayFromImage(image).T for image in pair], axis=-1)
    save(tmp_path / "images" / "plain.nii.gz", values)
    micrometres = nibabel.Nifti1Image(values, np.diag([1000.0, 1000.0, 1000.0, 1.0]))
    micrometres.header.set_xyzt_units("micron")
    nibabel.save(micrometres, tmp_path / "images" / "micro.nii.gz")
    assert predict(two_channels / "bundle", tmp_path / "images", tmp_path / "out").exit_code == 0
    masks = {name: voxels(tmp_path / "out" / f"{name}.nii.gz") for name in ("plain", "vectors", "micro")}
    np.testing.assert_array_equal(masks["vectors"], masks["plain"])
    np.testing.assert_array_equal(masks["micro"], masks["plain"])
    # The mask is opened on the image that was made plain.
    for name in ("vectors", "micro"):
        image = nibabel.load(tmp_path / "out" / "images" / f"{name}.nii.gz")
        np.testing.assert_array_equal(image.affine, nibabel.load(tmp_path / "out" / f"{name}.nii.gz").affine)
    assert not (tmp_path / "out" / "images" / "plain.nii.gz").exists()


def test_a_data_set_means_its_images_without_masks(trained_bundle: Path, cohort: Path, tmp_path: Path) -> None:
    ledger = predict(trained_bundle, cohort, tmp_path / "out")
    assert [outcome.case for outcome in ledger.outcomes] == ["case_10", "case_11"]


def test_cases_that_a_data_set_can_t_give_are_told(trained_bundle: Path, cohort: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(cohort, data)
    listing = json.loads((data / "dataset.json").read_text())
    listing |= {"training": [], "test": ["./imagesTs/case_10.nii.gz", "./imagesTs/gone.nii.gz"]}
    (data / "dataset.json").write_text(json.dumps(listing))
    ledger = predict(trained_bundle, data, tmp_path / "out")
    assert ledger.exit_code == 1
    assert {outcome.case: (outcome.status, outcome.code) for outcome in ledger.outcomes} == {
        "case_10": (Status.DONE, "done"),
        "case_11": (Status.DONE, "done"),
        "gone": (Status.REFUSED, "missing-file"),
    }


def test_held_out_cases_that_are_gone_are_told(trained_bundle: Path, cohort: Path, tmp_path: Path) -> None:
    held_out = json.loads((trained_bundle / "runs" / "fold_0" / "training.json").read_text())["cases"]["validation"]
    data = tmp_path / "data"
    shutil.copytree(cohort, data)
    (data / "labelsTr" / f"{held_out[0]}.nii.gz").unlink()
    (data / "imagesTr" / f"{held_out[0]}.nii.gz").unlink()
    ledger = predict(trained_bundle, data, tmp_path / "out", PredictOptions(fold=0))
    assert ledger.exit_code == 1
    assert {outcome.case: outcome.code for outcome in ledger.outcomes} == {
        held_out[0]: "case-gone",
        held_out[1]: "done",
    }
    shutil.rmtree(data / "imagesTr")
    shutil.rmtree(data / "labelsTr")
    with pytest.raises(UsageError, match="none of the 2 cases that fold 0 held out"):
        predict(trained_bundle, data, tmp_path / "out", PredictOptions(fold=0))


def test_a_data_set_of_training_cases_alone_asks_which(trained_bundle: Path, cohort: Path, tmp_path: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        shutil.copytree(cohort / folder, tmp_path / "data" / folder)
    with pytest.raises(UsageError, match="--fold K"):
        predict(trained_bundle, tmp_path / "data", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_channels_in_files_or_on_the_fourth_axis(two_channels: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    pair = [voxels(two_channels / "data" / "imagesTr" / f"c0_{channel:04d}.nii.gz") for channel in range(2)]
    for channel in range(2):
        save(tmp_path / "images" / f"apart_{channel:04d}.nii.gz", pair[channel])
    save(tmp_path / "images" / "together.nii.gz", np.stack(pair, axis=-1))
    ledger = predict(two_channels / "bundle", tmp_path / "images", tmp_path / "out", PredictOptions(statistics=True))
    assert [(outcome.case, outcome.status) for outcome in ledger.outcomes] == [
        ("apart", Status.DONE),
        ("together", Status.DONE),
    ]
    apart, together = (voxels(tmp_path / "out" / f"{name}.nii.gz") for name in ("apart", "together"))
    assert apart.shape == (16, 16, 16)
    np.testing.assert_array_equal(apart, together)
    with (tmp_path / "out" / "statistics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["apart", "together"]
    titles = [title for title in rows[0] if title.endswith("_mean")]
    assert len(titles) == 2
    for row in rows if apart.any() else ():
        assert [float(row[title]) for title in titles] == pytest.approx([one[apart > 0].mean() for one in pair], 1e-4)


def test_series_are_joined_as_channels_by_their_names(
    two_channels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the bundle's order where the names tell it, each on the grid of the first, as convert makes them."""

    def write(number: int, description: str, **more: object) -> None:
        def tamper(data: Dataset, _: int) -> None:
            data.SeriesDescription = description

        stack = Stack(modality="MR", study=1, series=number, tamper=tamper, gaps_mm=(2.5,) * 11, **more)  # type: ignore[arg-type]
        write_slices(tmp_path / "dicom" / str(number), stack.slices())

    write(1, "Ax T1 post", size=(20, 16))
    write(2, "Ax FLAIR", size=(24, 20), pixel_mm=(0.9, 0.8))
    write(3, "DWI", size=(20, 16))
    bundle = tmp_path / "bundle"
    shutil.copytree(two_channels / "bundle", bundle)
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["network_data_format"]["inputs"]["image"]["channel_def"] = {"0": "FLAIR", "1": "T1"}
    path.write_text(json.dumps(metadata))
    words = [str(tmp_path / "dicom"), str(tmp_path / "out"), "--channels"]
    assert main(["predict", str(bundle), *words, "t1=*t1*; flair=*flair*"]) == 0
    assert "taken in the order" not in capsys.readouterr().err
    (mask,) = (tmp_path / "out").glob("*.nii.gz")
    names = [f"{mask.name[:-7]}_{channel:04d}.nii.gz" for channel in range(2)]
    images = [nibabel.load(tmp_path / "out" / "images" / name) for name in names]
    for image in (*images, nibabel.load(mask)):
        assert image.shape == (24, 20, 12) or image.shape == (20, 24, 12)
        np.testing.assert_array_equal(image.affine, images[0].affine)
    dataset = tmp_path / "dataset"
    assert main(["convert", str(tmp_path / "dicom"), str(dataset), "--spacing", "native", "--channels",
                 "flair=*flair*; t1=*t1*"]) == 0  # fmt: skip
    converted = sorted((dataset / "imagesTs").glob("*.nii.gz"))
    for image, other in zip(images, converted, strict=True):
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), voxels(other))
    capsys.readouterr()
    assert main(["predict", str(bundle), *words, "a=*t1*; b=*flair*", "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "taken in the order of --channels, a, b, for those of the bundle, which calls them FLAIR, T1" in shown.err
    assert "channel 1 of" in shown.out
    assert main(["predict", str(bundle), *words, "a=*t1*; b=*flair*; c=DWI"]) == 2
    assert "--channels names 3 channels, and the bundle takes 2" in capsys.readouterr().err


def test_channels_that_don_t_belong_together_are_refused(two_channels: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("single", "moved_0000", "moved_0001"):
        affine = np.eye(4)
        affine[0, 3] = 3.0 * name.endswith("1")
        save(tmp_path / "images" / f"{name}.nii.gz", np.ones((8, 8, 8), np.float32), affine)
    ledger = predict(two_channels / "bundle", tmp_path / "images", tmp_path / "out")
    assert {outcome.case: outcome.code for outcome in ledger.outcomes} == {
        "moved": "grids-differ",
        "single": "channels",
    }
    assert ledger.exit_code == 2
    save(tmp_path / "images" / "lone_0001.nii.gz", np.ones((8, 8, 8), np.float32))
    with pytest.raises(DataSetError, match=r"lone has the channels \[1\]"):
        predict(two_channels / "bundle", tmp_path / "images", tmp_path / "out")


@pytest.mark.parametrize("kind", ["missing", "text", "out is a file"])
def test_an_input_of_the_wrong_kind_is_told(trained_bundle: Path, cohort: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "file.txt").write_text("x")
    source = {"missing": tmp_path / "gone", "text": tmp_path / "file.txt", "out is a file": cohort}[kind]
    out = tmp_path / ("file.txt" if kind == "out is a file" else "out")
    with pytest.raises(UsageError):
        predict(trained_bundle, source, out)
    assert (tmp_path / "file.txt").read_text() == "x"
    assert not (tmp_path / "out").exists()

"""Planning on real and made data sets: what it refuses, and what the bundle holds."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from tests.conftest import uncounted
from volseg.bundle.lint import rounds_masks
from volseg.dataset.dataset import read_dataset
from volseg.errors import DataSetError, FileError, OutputExistsError, UsageError
from volseg.planning.fingerprint import measure
from volseg.postprocessing import KeepLargest, PostprocessingRules
from volseg.verbs.check import check
from volseg.verbs.convert import ConvertOptions, convert
from volseg.verbs.evaluate import evaluate
from volseg.verbs.plan import PlanOptions, plan
from volseg.verbs.train import TrainOptions, train

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

    from tests.conftest import MakeDataset, RealData, WriteImage, WriteSeries


def config_of(bundle: Path, name: str = "train") -> dict[str, object]:
    content = yaml.safe_load((bundle / "configs" / f"{name}.yaml").read_text())
    assert isinstance(content, dict)
    return content


def targets(config: object) -> set[str]:
    if isinstance(config, dict):
        found = {str(config["_target_"])} if "_target_" in config else set()
        return found.union(*(targets(value) for value in config.values()))
    if isinstance(config, list):
        return set().union(*(targets(value) for value in config))
    return set()


def test_real_data_are_planned_as_they_are(real_data: RealData, tmp_path: Path) -> None:
    chosen = plan(real_data("hippocampus"), tmp_path / "bundle")
    assert chosen.training_cases == 200
    assert chosen.labels.names == ("anterior", "posterior")
    assert chosen.spacing_mm == (1.0, 1.0, 1.0)
    assert {one.kind for one in chosen.normalisations} == {"z-score"}
    assert chosen.rules == PostprocessingRules((KeepLargest(labels=(1, 2)),))


def test_a_faulty_data_set_is_refused_with_all_its_faults(real_data: RealData, tmp_path: Path) -> None:
    with pytest.raises(DataSetError) as caught:
        plan(real_data("hippocampus-faulty"), tmp_path / "bundle")
    for case in ("118", "010", "281", "019_copy"):
        assert sum(f"hippocampus_{case}:" in line for line in caught.value.message.splitlines()) >= 1
    assert not (tmp_path / "bundle").exists()


def test_two_channels_of_files_become_two_channels_of_the_network(make_dataset: MakeDataset, tmp_path: Path) -> None:
    chosen = plan(make_dataset(4, channels=2), tmp_path / "bundle")
    assert len(chosen.channels) == 2
    assert not chosen.channels_in_one_file
    inference = config_of(tmp_path / "bundle", "inference")
    assert inference["network_def"]["in_channels"] == 2  # type: ignore[index]
    assert "_%04d.nii.gz" in str(inference["dataset"])


def test_labels_with_gaps_are_counted_through_and_back(make_dataset: MakeDataset, tmp_path: Path) -> None:
    data = make_dataset(4)
    for path in (data / "labelsTr").iterdir():
        image = nibabel.load(path)
        values = np.array([0, 3, 700], np.uint16)[np.asarray(image.dataobj).astype(int)]
        nibabel.save(nibabel.Nifti1Image(values, image.affine), path)
    chosen = plan(data, tmp_path / "bundle")
    assert chosen.labels.indices == (3, 700)
    train, inference = config_of(tmp_path / "bundle"), config_of(tmp_path / "bundle", "inference")
    forward = [step for step in train["train"]["deterministic_transforms"] if "MapLabel" in step["_target_"]]  # type: ignore[index]
    back = [step for step in inference["postprocessing"]["transforms"] if "MapLabel" in step["_target_"]]  # type: ignore[index]
    assert [(step["orig_labels"], step["target_labels"]) for step in forward] == [([0, 3, 700], [0, 1, 2])]
    assert [(step["orig_labels"], step["target_labels"]) for step in back] == [([0, 1, 2], [0, 3, 700])]
    saved = [step for step in inference["postprocessing"]["transforms"] if "SaveImage" in step["_target_"]]  # type: ignore[index]
    assert [step["output_dtype"] for step in saved] == ["uint16"]


def test_ct_is_normalised_by_what_the_foreground_holds(tmp_path: Path, write_image: WriteImage) -> None:
    random = np.random.default_rng(0)
    inside = []
    for case in range(5):
        mask = np.zeros((12, 12, 12), np.uint8)
        mask[3:9, 3:9, 3:9] = 1
        image = np.where(mask, random.normal(60, 20, mask.shape), -1000).round().astype(np.int16)
        inside.append(image[mask > 0])
        write_image(tmp_path / "data" / "imagesTr" / f"c{case}.nii.gz", image)
        write_image(tmp_path / "data" / "labelsTr" / f"c{case}.nii.gz", mask)
    listing = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(listing))
    (found,) = plan(tmp_path / "data", tmp_path / "bundle").normalisations
    low, high = np.percentile(np.concatenate(inside), [0.5, 99.5])
    assert (found.low, found.high) == pytest.approx((low, high))
    window = [
        step
        for step in config_of(tmp_path / "bundle", "inference")["preprocessing"]["transforms"]  # type: ignore[index]
        if "ScaleIntensityRange" in step["_target_"]
    ]
    assert window[0]["a_min"] == pytest.approx(low)


def test_the_bundle_is_complete_and_runs_without_trust(planned_bundle: Path) -> None:
    from volseg.bundle.folder import open_bundle
    from volseg.bundle.trust import judge

    for name in ("configs/metadata.json", "configs/train.yaml", "configs/inference.yaml", "docs/README.md", "LICENSE"):
        assert (planned_bundle / name).stat().st_size > 0
    assert judge(open_bundle(planned_bundle)).findings == ()
    inference = config_of(planned_bundle, "inference")
    assert all(target.startswith("monai.") for target in targets(inference))
    metadata = json.loads((planned_bundle / "configs" / "metadata.json").read_text())
    assert metadata["label_table"] == {"0": "background", "1": "shell", "2": "core"}


def test_the_readme_gives_every_choice_its_reason(cohort: Path, tmp_path: Path) -> None:
    chosen = plan(cohort, tmp_path / "bundle")
    rows = (tmp_path / "bundle" / "docs" / "README.md").read_text().splitlines()
    assert sum(row.startswith("| ") for row in rows) >= len(chosen.reasons)
    for choice, _ in chosen.reasons:
        assert any(choice.split(":")[0] in row for row in rows)


def slopes_whose_product_is_off() -> np.ndarray:
    """Each n up to int16's largest for which n * float32(1 / n), as float32, is not 1."""
    numbers = np.arange(1, 2**15)
    products = (numbers * (1 / numbers).astype(np.float32).astype(np.float64)).astype(np.float32)
    return numbers[products != 1]


def write_scaled(path: Path, mask: np.ndarray, affine: np.ndarray, divisor: int) -> None:
    """A mask stored as int16, ``divisor`` times its labels, and the slope 1 / divisor, as some programs do."""
    image = nibabel.Nifti1Image((mask.astype(np.int32) * divisor).astype(np.int16), affine)
    image.header["scl_slope"], image.header["scl_inter"] = np.float32(1 / divisor), 0
    image.header["vox_offset"], image.header["magic"] = 352, b"n+1"
    raw = image.header.binaryblock + bytes(4) + image.get_fdata().astype(np.int16).tobytes("F")
    path.write_bytes(gzip.compress(raw))
    assert (np.trunc(nibabel.load(path).get_fdata(dtype=np.float32)) != mask).any()


def test_every_reader_takes_a_hair_off_for_the_whole_number(tmp_path: Path, write_image: WriteImage) -> None:
    """All 4,843 slopes 1/n of int16 whose product is off 1: in check, plan, training, validation and evaluation."""
    slopes = slopes_whose_product_is_off()
    assert len(slopes) == 4843
    data, affine = tmp_path / "data", np.diag([1.0, 1.0, 1.2, 1.0])
    truth = np.zeros((25, 25, 24), np.uint8)
    truth.flat[: 3 * len(slopes)] = np.repeat([1, 2, 3], len(slopes))
    factors = np.ones(truth.size)
    factors[: 3 * len(slopes)] = np.tile(slopes * (1 / slopes).astype(np.float32).astype(np.float64), 3)
    off = (truth * factors.reshape(truth.shape)).astype(np.float32)
    assert (np.trunc(off) != truth).sum() > 2 * len(slopes)  # what cutting off would make of it
    for number, mask in enumerate((truth, off, truth, truth)):
        image = np.random.default_rng(number).random(truth.shape)
        write_image(data / "imagesTr" / f"c{number}.nii.gz", image, affine)
        write_image(data / "labelsTr" / f"c{number}.nii.gz", mask, affine)
        write_image(tmp_path / "truth" / f"c{number}.nii.gz", truth, affine)
    write_scaled(data / "labelsTr" / "c2.nii.gz", truth, affine, 41)
    write_scaled(data / "labelsTr" / "c3.nii.gz", truth, affine, int(slopes[slopes < 2**15 // 3][-1]))

    assert [(fault.code, fault.is_error) for fault in check(data).faults] == [("mask-off-whole", False)]
    measures = measure(read_dataset(data)).cases
    assert all(case.label_volumes_mm3 == measures[0].label_volumes_mm3 for case in measures)
    scored = evaluate(data / "labelsTr", tmp_path / "truth").cases
    assert [[score.dice for score in case.scores] for case in scored] == [[1.0, 1.0, 1.0]] * 4
    for name, spacing in (("native", (1.0, 1.0, 1.2)), ("other", (0.9, 1.1, 1.6))):
        assert plan(data, tmp_path / name, PlanOptions(spacing=spacing)).labels.indices == (1, 2, 3)
        # As MONAI itself builds it, without volseg's parser.
        parser = ConfigParser(config_of(tmp_path / name) | {"device": "cpu"})
        build = parser.get_parsed_content
        items = [
            {"image": str(data / f"imagesTr/c{number}.nii.gz"), "label": str(data / f"labelsTr/c{number}.nii.gz")}
            for number in range(4)
        ]
        whole = build("validate#preprocessing")(items[0])["label"]  # of the mask that is stored as whole numbers
        assert set(np.unique(whole)) == {0, 1, 2, 3}
        assert name == "other" or np.array_equal(whole[0], truth)
        for item in items[1:]:
            prepared = build("validate#preprocessing")(item)
            assert np.array_equal(prepared["label"], whole)
            prepared["pred"] = torch.zeros((4, *whole.shape[1:]))
            assert np.array_equal(build("validate#postprocessing")(prepared)["label"].argmax(0), whole[0])
            drawn = build("train#preprocessing")(item)
            assert set(np.unique((drawn[0] if isinstance(drawn, list) else drawn)["label"])) <= {0, 1, 2, 3}


def test_a_real_mask_a_hair_below_one(real_data: RealData, tmp_path: Path) -> None:
    source = real_data("volumes/brain-tumour-two-channel")
    for number, case in enumerate(sorted(path for path in source.iterdir() if path.is_dir())):
        for kind, folder in (("T1c", "imagesTr"), ("brainmask", "labelsTr")):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(next(case.glob(f"*{kind}*")), tmp_path / "data" / folder / f"c{number}.nii.gz")
    assert check(tmp_path / "data").faults == ()  # 0.99999997 is nearer to 1 in float32, which is trained on
    plan(tmp_path / "data", tmp_path / "bundle")
    prepare = ConfigParser(config_of(tmp_path / "bundle")).get_parsed_content("validate#preprocessing")
    label = tmp_path / "data" / "labelsTr" / "c0.nii.gz"
    found = prepare({"image": str(tmp_path / "data" / "imagesTr" / "c0.nii.gz"), "label": str(label)})["label"]
    stored = nibabel.load(label).get_fdata()
    assert (stored != np.rint(stored)).any()
    assert set(np.unique(found)) == {0.0, 1.0}
    # Voxels change their size alone, so that the mask keeps its share of the volume.
    assert float(np.asarray(found).mean()) == pytest.approx((stored > 0.5).mean(), rel=0.02)


def test_a_bundle_that_cuts_off_is_not_trained_on_such_masks(cohort: Path, tmp_path: Path) -> None:
    """As one planned by an earlier volseg would: label 1 would become background."""
    shutil.copytree(cohort, tmp_path / "data")
    mask = tmp_path / "data" / "labelsTr" / "case_00.nii.gz"
    stored = nibabel.load(mask)
    nibabel.save(nibabel.Nifti1Image(stored.get_fdata(dtype=np.float32) * np.float32(0.99999994), stored.affine), mask)
    plan(tmp_path / "data", tmp_path / "bundle")
    path = tmp_path / "bundle" / "configs" / "train.yaml"
    config = yaml.safe_load(path.read_text())
    assert rounds_masks(config)
    steps = config["train"]["deterministic_transforms"]
    steps[:] = [step for step in steps if not step["_target_"].endswith("AsDiscreted")]
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(DataSetError, match="a hair off"):
        train(tmp_path / "bundle", TrainOptions(epochs=1, device="cpu"))


def test_json_of_other_programs_beside_images_stops_nothing(cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(cohort, tmp_path / "data")
    foreign = [
        '{"PatientName": "X", "Modality": "MR", "modality": ["MR"], "patient": 7}',
        "[1",
        "",
        '{"format": "DICOM"}',
    ]
    for number, text in enumerate(foreign):
        (tmp_path / "data" / "imagesTr" / f"case_{number:02d}.json").write_text(text)
    assert check(tmp_path / "data").faults == ()
    assert plan(tmp_path / "data", tmp_path / "bundle").warnings == ()
    dataset = read_dataset(tmp_path / "data")
    assert {case.patient for case in dataset.training} == {None}


def test_colours_and_codes_travel_from_a_segmentation_to_the_labels_of_masks(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    """DICOM SEG, dataset.json, the bundle's metadata, labels.txt beside predicted masks."""
    from pydicom.sr.codedict import codes

    from tests.drawn import Segment, read_images, segmentation
    from volseg.bundle.folder import open_bundle
    from volseg.bundle.weights import inference_network
    from volseg.labels import LabelTable
    from volseg.verbs.convert import ConvertOptions, convert
    from volseg.verbs.predict import PredictOptions, predict

    for seed in range(2):
        write_series(tmp_path / "dicom" / str(seed), seed=seed, edit=lambda ds, _: setattr(ds, "SliceThickness", 2.5))
        pixels = np.zeros((5, 12, 10, 2), np.uint8)
        pixels[1:4, 2:7, 2:5, 0] = pixels[1:4, 7:11, 5:9, 1] = 1
        segments = [
            Segment("Liver", codes.SCT.Liver, (221, 130, 101)),
            Segment("Spleen", codes.SCT.Spleen, (10, 20, 200)),
        ]
        segmentation(
            tmp_path / "dicom" / f"seg{seed}.dcm", read_images(tmp_path / "dicom" / str(seed)), pixels, segments
        )
    convert(tmp_path / "dicom", tmp_path / "data", ConvertOptions(spacing=("native",), jobs=1))
    table = read_dataset(tmp_path / "data").labels
    assert [(label.name, label.code.value if label.code else "") for label in table.labels] == [
        ("Liver", codes.SCT.Liver.value), ("Spleen", codes.SCT.Spleen.value),
    ]  # fmt: skip
    assert np.abs(np.subtract([label.rgb for label in table.labels], [(221, 130, 101), (10, 20, 200)])).max() <= 2

    plan(tmp_path / "data", tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.labels == table
    network = inference_network(bundle)
    assert network is not None
    torch.save(network.state_dict(), bundle.model_path)
    predict(bundle.root, tmp_path / "data" / "imagesTr", tmp_path / "masks", PredictOptions(device="cpu"))
    found = LabelTable.from_itksnap((tmp_path / "masks" / "labels.txt").read_text())
    assert [(label.index, label.name, label.colour) for label in found.labels] == [
        (label.index, label.name, label.colour) for label in table.labels
    ]


def test_only_one_path_is_written_and_it_is_relative(planned_bundle: Path, cohort: Path) -> None:
    for path in planned_bundle.rglob("*"):
        if path.is_file():
            assert str(cohort.parent) not in path.read_text()
    named = config_of(planned_bundle)["dataset_dir"]
    assert (planned_bundle / str(named)).resolve() == cohort.resolve()


def test_the_same_data_give_the_same_bundle(cohort: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        plan(cohort, tmp_path / name / "bundle")
    first, second = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("a", "b")
    )
    assert first == second


def test_a_folder_that_holds_something_is_kept(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="may hold trained weights"):
        plan(cohort, tmp_path / "bundle")
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["notes.txt"]


def test_a_file_in_the_bundle_s_place_is_kept(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").write_text("mine")
    with pytest.raises(OutputExistsError):
        plan(cohort, tmp_path / "bundle")
    assert (tmp_path / "bundle").read_text() == "mine"


def test_a_full_disk_leaves_nothing(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(FileError, match="No space is left"):
        plan(cohort, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_without_a_data_set_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        plan(tmp_path / "data", tmp_path / "bundle")
    (tmp_path / "data" / "imagesTr").mkdir(parents=True)
    with pytest.raises(DataSetError, match="no images"):
        plan(tmp_path / "data", tmp_path / "bundle")


def test_without_masks_it_says_what_to_do(cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(cohort / "imagesTs", tmp_path / "data" / "imagesTs")
    with pytest.raises(DataSetError, match="labelsTr"):
        plan(tmp_path / "data", tmp_path / "bundle")


def test_a_mask_drawn_in_itk_snap_is_found(real_data: RealData, tmp_path: Path) -> None:
    """Convert, draw, save as labelsTr/CASE.nii.gz: check and plan see the pair; nobody edits JSON."""
    import SimpleITK as sitk

    from volseg.verbs.convert import ConvertOptions, convert

    data = tmp_path / "data"
    source = tmp_path / "dicom"
    shutil.copytree(real_data("dicom/mr-t1-head/13-hippocampus-crop"), source)
    convert(source, data, ConvertOptions(spacing=("native",)))
    (image_path,) = (data / "imagesTs").glob("*.nii.gz")
    # As ITK-SNAP saves a segmentation: the image's geometry by ITK, 16-bit labels, compressed.
    image = sitk.ReadImage(str(image_path))
    drawn = np.zeros(sitk.GetArrayFromImage(image).shape, np.uint16)
    drawn[10:20, 15:25, 10:22] = 1
    mask = sitk.GetImageFromArray(drawn)
    mask.CopyInformation(image)
    (data / "labelsTr").mkdir()
    sitk.WriteImage(mask, str(data / "labelsTr" / image_path.name), useCompression=True)

    report = check(data)
    assert report.errors == ()
    assert report.summary.startswith("1 case with a mask")
    chosen = plan(data, tmp_path / "bundle", PlanOptions())
    assert chosen.training_cases == 1
    assert chosen.labels.indices == (1,)


def test_a_plain_script_without_a_main_guard_plans(make_dataset: MakeDataset, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    data = make_dataset(3)
    script.write_text(
        f"import pathlib, volseg\n"
        f"print(volseg.plan(pathlib.Path({str(data)!r}), pathlib.Path({str(tmp_path / 'bundle')!r})).training_cases)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], env=uncounted(), capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


@pytest.mark.parametrize(
    ("drawn_on_mr", "channel", "kind"), [(True, "CT or MR", "z-score"), (False, "CT", "percentiles")]
)
def test_mr_beside_ct_is_never_normalised_as_ct(
    drawn_on_mr: bool, channel: str, kind: str, tmp_path: Path, write_series: WriteSeries
) -> None:
    def as_mr(data: Dataset, _: int) -> None:
        data.SOPClassUID, data.Modality, data.PatientID = "1.2.840.10008.5.1.4.1.1.4", "MR", f"MR {data.PatientID}"

    data, native = tmp_path / "data", ConvertOptions(spacing=("native",))
    arrays = np.random.default_rng(1).integers(0, 4096, (5, 12, 16, 16)).astype(np.uint16)
    positions = [(-30.0, -40.0, 2.5 * number) for number in range(12)]
    for seed in (1, 2):
        write_series(tmp_path / f"ct {seed}", seed=seed, array=arrays[seed], positions=positions)
        convert(tmp_path / f"ct {seed}", data, native)
    assert json.loads((data / "dataset.json").read_text())["modality"] == {"0": "CT"}
    for seed in (3, 4):
        write_series(tmp_path / f"mr {seed}", seed=seed, array=arrays[seed], positions=positions, edit=as_mr)
        convert(tmp_path / f"mr {seed}", data, native)
    assert json.loads((data / "dataset.json").read_text())["modality"] == {"0": "CT or MR"}
    (data / "labelsTr").mkdir()
    for path in (data / "imagesTs").glob("*.nii.gz"):
        if drawn_on_mr or path.name.startswith("ct"):
            image = nibabel.load(path)
            mask = np.zeros(image.shape, np.uint8)
            mask[3:13, 3:13, 2:9] = 1
            nibabel.save(nibabel.Nifti1Image(mask, image.affine), data / "labelsTr" / path.name)
    chosen = plan(data, tmp_path / "bundle")
    assert chosen.channels == (channel,)
    assert [one.kind for one in chosen.normalisations] == [kind]
    codes = [fault.code for fault in read_dataset(data).faults]
    assert codes.count("mixed-modalities") == drawn_on_mr
    assert any("several modalities" in warning for warning in chosen.warnings) == drawn_on_mr

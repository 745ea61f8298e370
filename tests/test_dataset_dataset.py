"""Reading data sets in each layout."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from tests.listings import write_json
from volseg.dataset.dataset import count_labels, is_dataset, modality_of, read_dataset, require_cases
from volseg.errors import DataSetError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeDataset, RealData, WriteImage


def test_reads_the_real_decathlon_layout(real_data: RealData) -> None:
    folder = real_data("hippocampus")
    dataset = read_dataset(folder)
    listed = json.loads((folder / "dataset.json").read_text())["training"]
    assert len(dataset.training) == 200
    assert {str(case.images[0].relative_to(folder)) for case in dataset.training} == {
        entry["image"].removeprefix("./") for entry in listed
    }
    assert all(case.label is not None and case.label.name == case.images[0].name for case in dataset.training)
    assert [case.name for case in dataset.training] == sorted(case.name for case in dataset.training)
    assert dataset.test == ()
    assert dataset.faults == ()
    assert dataset.labels.names == ("anterior", "posterior")
    assert dataset.channels == ("MRI",)
    assert dataset.modality == "MR"


def test_bare_folders_get_default_labels_from_the_voxels(make_dataset: MakeDataset) -> None:
    dataset = read_dataset(make_dataset())
    assert [case.name for case in dataset.training] == ["case_0", "case_1", "case_2"]
    assert dataset.labels.indices == (1, 2)
    assert dataset.labels.names == ("label_1", "label_2")
    assert dataset.channels == ("image",)
    assert dataset.modality == "image"
    assert dataset.faults == ()


def test_reads_nnunets_layout_with_several_channels(make_dataset: MakeDataset) -> None:
    folder = make_dataset(channels=2)
    write_json(
        folder,
        channel_names={"0": "FLAIR", "1": "T1c"},
        labels={"background": 0, "edema": 1, "core": 2},
        numTraining=3,
        file_ending=".nii.gz",
    )
    dataset = read_dataset(folder)
    assert dataset.channels == ("FLAIR", "T1c")
    assert dataset.modality == "MR"
    assert dataset.labels.names == ("edema", "core")
    assert [case.name for case in dataset.training] == ["case_0", "case_1", "case_2"]
    assert [path.name for path in dataset.training[1].images] == ["case_1_0000.nii.gz", "case_1_0001.nii.gz"]
    assert dataset.faults == ()


def test_nnunets_layout_is_known_without_a_dataset_json_by_its_masks(make_dataset: MakeDataset) -> None:
    dataset = read_dataset(make_dataset(channels=2))
    assert [len(case.images) for case in dataset.training] == [2, 2, 2]
    assert dataset.channels == ("channel_0", "channel_1")


def test_four_digits_at_the_end_of_a_name_are_no_channel_where_the_masks_bear_them(
    tmp_path: Path, write_image: WriteImage
) -> None:
    for name in ("ct_0000", "ct_0001"):
        write_image(tmp_path / "imagesTr" / f"{name}.nii.gz", np.ones((3, 3, 3), np.int16))
        write_image(tmp_path / "labelsTr" / f"{name}.nii.gz", np.ones((3, 3, 3), np.uint8))
    assert [case.name for case in read_dataset(tmp_path).training] == ["ct_0000", "ct_0001"]


def test_test_images_whose_numbers_may_be_their_own_stay_apart(tmp_path: Path, write_image: WriteImage) -> None:
    for name in ("ct_0000", "ct_0001"):
        write_image(tmp_path / "imagesTs" / f"{name}.nii.gz", np.ones((3, 3, 3), np.int16))
    assert [case.name for case in read_dataset(tmp_path).test] == ["ct_0000", "ct_0001"]


def test_test_images_that_all_end_in_the_first_channel_drop_it(tmp_path: Path, write_image: WriteImage) -> None:
    for name in ("a_0000", "b_0000"):
        write_image(tmp_path / "imagesTs" / f"{name}.nii.gz", np.ones((3, 3, 3), np.int16))
    assert [case.name for case in read_dataset(tmp_path).test] == ["a", "b"]


def test_nnunets_first_version_lists_names_without_the_channel(make_dataset: MakeDataset) -> None:
    folder = make_dataset(channels=2)
    write_json(
        folder,
        modality={"0": "CT", "1": "PET"},
        labels={"0": "background", "1": "a", "2": "b"},
        training=[{"image": f"./imagesTr/case_{k}.nii.gz", "label": f"./labelsTr/case_{k}.nii.gz"} for k in range(3)],
        test=[],
    )
    dataset = read_dataset(folder)
    assert [len(case.images) for case in dataset.training] == [2, 2, 2]
    assert dataset.modality == "CT+PT"
    assert dataset.faults == ()


def test_a_four_dimensional_image_is_one_file_of_several_channels(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "imagesTr" / "a.nii.gz", np.ones((4, 4, 4, 3), np.float32))
    write_image(tmp_path / "labelsTr" / "a.nii.gz", np.ones((4, 4, 4), np.uint8))
    dataset = read_dataset(tmp_path)
    assert dataset.channels == ("channel_0", "channel_1", "channel_2")
    assert len(dataset.training[0].images) == 1


@pytest.mark.parametrize("place", ["imagesTr", "imagesTs"])
def test_a_mask_dropped_into_a_converted_folder_pairs_without_editing_json(
    place: str, tmp_path: Path, write_image: WriteImage
) -> None:
    import SimpleITK as sitk

    voxels = np.random.default_rng(1).integers(-1000, 1000, (8, 9, 10)).astype(np.int16)
    for name in ("ct_aa", "ct_bb"):
        write_image(tmp_path / place / f"{name}.nii.gz", voxels)
    key = "training" if place == "imagesTr" else "test"
    write_json(
        tmp_path,
        labels={"0": "background"},
        modality={"0": "CT"},
        **{key: [f"./{place}/ct_aa.nii.gz", {"image": f"./{place}/ct_bb.nii.gz"}]},
    )
    # As ITK-SNAP saves it: ITK reads the image, a mask of its geometry is drawn and written.
    image = sitk.ReadImage(str(tmp_path / place / "ct_bb.nii.gz"))
    mask = sitk.Cast(image * 0, sitk.sitkUInt8)
    mask[2:5, 3:6, 4:7] = 3
    (tmp_path / "labelsTr").mkdir()
    sitk.WriteImage(mask, str(tmp_path / "labelsTr" / "ct_bb.nii.gz"))

    dataset = read_dataset(tmp_path)
    assert [case.name for case in dataset.training] == ["ct_bb"]
    assert [case.name for case in dataset.test] == ["ct_aa"]
    assert dataset.labels.to_dataset_json() == {"0": "background", "3": "label_3"}
    assert dataset.modality == "CT"


def test_labels_in_the_table_keep_their_names_when_voxels_have_others(make_dataset: MakeDataset) -> None:
    folder = write_json(make_dataset(), labels={"0": "background", "1": "liver"})
    assert read_dataset(folder).labels.names == ("liver",)


def test_a_mask_that_cannot_be_read_does_not_end_the_reading(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    (folder / "labelsTr" / "case_1.nii.gz").write_bytes(b"not a mask")
    assert read_dataset(folder).labels.indices == (1, 2)


def test_the_first_image_that_can_be_read_tells_the_channels(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    (folder / "imagesTr" / "case_0.nii.gz").write_bytes(b"")
    assert read_dataset(folder).channels == ("image",)


def test_other_formats_than_nifti_are_read(tmp_path: Path) -> None:
    import SimpleITK as sitk

    for folder, suffix in (("imagesTr", "nrrd"), ("labelsTr", "mha")):
        (tmp_path / folder).mkdir()
        sitk.WriteImage(sitk.Image(4, 5, 6, sitk.sitkUInt8) + 1, str(tmp_path / folder / f"a.{suffix}"))
    write_json(tmp_path, channel_names={"0": "CT"}, labels={"background": 0, "x": 1}, file_ending=".nrrd")
    dataset = read_dataset(tmp_path)
    assert [case.name for case in dataset.training] == ["a"]


@pytest.mark.parametrize(
    ("channel", "modality"),
    [
        ("CT", "CT"),
        ("ct", "CT"),
        ("CBCT", "CT"),
        ("MRI", "MR"),
        ("T1c", "MR"),
        ("T1w", "MR"),
        ("t1gd", "MR"),
        ("T2-FLAIR", "MR"),
        ("FLAIR", "MR"),
        ("T2", "MR"),
        ("ADC", "MR"),
        ("PET", "PT"),
        ("CT or MR", "CT or MR"),
        ("CT and MR", "CT and MR"),
        ("CT/PET", "CT/PET"),
        ("T1 and T2", "MR"),
        ("CT+C", "CT"),
        ("ultrasound", "ultrasound"),
        ("contrast", "contrast"),
        ("noNorm", "noNorm"),
    ],
)
def test_modality_in_dicoms_terms(channel: str, modality: str) -> None:
    assert modality_of(channel) == modality


def test_count_labels_agrees_with_numpy() -> None:
    mask = np.random.default_rng(3).choice([0, 1, 5, 300], (7, 8, 9)).astype(np.uint16)
    for array in (mask, np.asfortranarray(mask)):
        values, counts = np.unique(array, return_counts=True)
        assert count_labels(array) == dict(zip(values.tolist(), counts.tolist(), strict=True))


class TestSidecarsModality:
    def test_it_names_the_channel_where_nothing_else_does(self, make_dataset: MakeDataset) -> None:
        folder = make_dataset(1)
        (folder / "imagesTr" / "case_0.json").write_text('{"patient": "p", "modality": "CT"}')
        dataset = read_dataset(folder)
        assert (dataset.channels, dataset.modality) == (("CT",), "CT")

    def test_several_are_worth_a_warning(self, make_dataset: MakeDataset) -> None:
        folder = write_json(make_dataset(2), modality={"0": "CT"}, labels={"1": "a", "2": "b"})
        (folder / "imagesTr" / "case_0.json").write_text('{"patient": "p", "modality": "CT"}')
        (folder / "imagesTr" / "case_1.json").write_text('{"patient": "q", "modality": "MR"}')
        faults = read_dataset(folder).faults
        assert [(fault.code, fault.is_error) for fault in faults] == [("mixed-modalities", False)]
        assert "MR (case_1)" in faults[0].message

    def test_images_without_a_mask_do_not_count(self, make_dataset: MakeDataset) -> None:
        folder = write_json(make_dataset(2), modality={"0": "CT"}, labels={"1": "a", "2": "b"})
        (folder / "imagesTs").mkdir()
        shutil.move(folder / "imagesTr" / "case_1.nii.gz", folder / "imagesTs" / "case_1.nii.gz")
        (folder / "labelsTr" / "case_1.nii.gz").unlink()
        (folder / "imagesTs" / "case_1.json").write_text('{"modality": "MR"}')
        (folder / "imagesTr" / "case_0.json").write_text('{"modality": "CT"}')
        assert read_dataset(folder).faults == ()


class TestNoDataSet:
    def test_an_absent_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="does not exist") as caught:
            read_dataset(tmp_path / "none")
        assert caught.value.code == "missing-folder"

    def test_a_file_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(UsageError, match="is a file") as caught:
            read_dataset(tmp_path / "file")
        assert caught.value.code == "not-a-folder"

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        assert not is_dataset(tmp_path)
        with pytest.raises(UsageError, match="volseg convert") as caught:
            read_dataset(tmp_path)
        assert caught.value.code == "no-data-set"

    def test_folders_without_images(self, tmp_path: Path) -> None:
        (tmp_path / "imagesTr").mkdir()
        assert is_dataset(tmp_path)
        with pytest.raises(DataSetError) as caught:
            require_cases(read_dataset(tmp_path))
        assert caught.value.code == "no-cases"

    def test_what_is_one(self, tmp_path: Path) -> None:
        assert is_dataset(write_json(tmp_path / "a"))
        (tmp_path / "b" / "imagesTs").mkdir(parents=True)
        assert is_dataset(tmp_path / "b")
        (tmp_path / "c" / "labelsTr").mkdir(parents=True)
        assert not is_dataset(tmp_path / "c")


def test_hidden_and_unfinished_files_are_no_cases(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    for name in ("._case_0.nii.gz", ".case_9.partial-ab12.nii.gz"):
        (folder / "imagesTr" / name).write_bytes(b"x")
    dataset = read_dataset(folder)
    assert len(dataset.cases) == 3
    assert dataset.faults == ()


def test_no_voxel_is_read_where_labels_are_named(make_dataset: MakeDataset) -> None:
    folder = write_json(make_dataset(), labels={"1": "a", "2": "b"}, modality={"0": "CT"})
    for path in (*(folder / "imagesTr").iterdir(), *(folder / "labelsTr").iterdir()):
        path.write_bytes(b"")
    assert len(read_dataset(folder).training) == 3


def test_the_oracle_of_these_tests_writes_what_it_says(make_dataset: MakeDataset) -> None:
    image = nibabel.load(make_dataset(1) / "imagesTr" / "case_0.nii.gz")
    np.testing.assert_allclose(nibabel.affines.voxel_sizes(image.affine), (0.8, 0.8, 2.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("declared", "told", "channel"),
    [
        ("CT or MR", ("CT", "CT"), "CT"),
        ("CT or MR", ("CT", "MR"), "CT or MR"),
        ("CT or MR", ("CT", None), "CT or MR"),
        ("CT", ("MR", "MR"), "CT or MR"),
        ("CT", ("CT", "MR"), "CT or MR"),
        ("CT", ("CT", None), "CT"),
        ("CBCT", ("CT", "CT"), "CBCT"),
        ("T1", ("MR", "MR"), "T1"),
        ("liver window", ("CT", "MR"), "liver window"),
        (None, ("CT", "MR"), "CT or MR"),
    ],
)
def test_a_channel_is_called_ct_only_where_no_case_is_anything_else(
    declared: str | None, told: tuple[str | None, ...], channel: str, make_dataset: MakeDataset
) -> None:
    folder = make_dataset(2)
    if declared is not None:
        write_json(folder, modality={"0": declared}, labels={"1": "a", "2": "b"})
    for number, modality in enumerate(told):
        if modality is not None:
            (folder / "imagesTr" / f"case_{number}.json").write_text(f'{{"modality": "{modality}"}}')
    dataset = read_dataset(folder)
    assert dataset.channels == (channel,)
    assert dataset.knows_modality == (channel != "liver window")

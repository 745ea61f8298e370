"""Every fault of a data set, each made by nibabel."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from volseg.dataset.case import Fault
from volseg.dataset.dataset import Dataset, read_dataset
from volseg.dataset.faults import find_faults, require_sound
from volseg.errors import DataSetError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeDataset, RealData, WriteImage


def told(faults: tuple[Fault, ...]) -> list[tuple[str, str, bool]]:
    return [(fault.code, fault.case, fault.is_error) for fault in faults]


def errors(source: Path | Dataset) -> list[tuple[str, str]]:
    return [(fault.code, fault.case) for fault in find_faults(source) if fault.is_error]


def change_image(path: Path, **header: object) -> None:
    """Patch fields of a NIfTI header in place, whatever nibabel thinks of them."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    image = nibabel.Nifti1Header(bytes(raw[:348]), check=False)
    for name, value in header.items():
        image[name] = value
    path.write_bytes(gzip.compress(bytes(image.binaryblock) + bytes(raw[348:])))


@pytest.fixture
def write_mask(write_image: WriteImage):
    def write(folder: Path, number: int, values: np.ndarray) -> None:
        path = folder / "labelsTr" / f"case_{number}.nii.gz"
        write_image(path, values, nibabel.load(path).affine)

    return write


def mask_of(folder: Path, number: int) -> np.ndarray:
    return np.asanyarray(nibabel.load(folder / "labelsTr" / f"case_{number}.nii.gz").dataobj).copy()


class TestRealData:
    def test_the_real_clean_data_set(self, real_data: RealData) -> None:
        assert find_faults(real_data("hippocampus")) == ()

    def test_the_real_faulty_data_set(self, real_data: RealData) -> None:
        faults = find_faults(real_data("hippocampus-faulty"))
        assert told(faults) == [
            ("label-without-image", "hippocampus_010", True),
            ("duplicate", "hippocampus_019_copy", True),
            ("image-without-label", "hippocampus_019_copy", True),
            ("grids-differ", "hippocampus_118", True),
            ("label-without-image", "hippocampus_281", True),
        ]
        assert "512x512x94" in faults[3].message

    def test_real_two_channel_cases_with_masks_of_almost_whole_numbers(
        self, real_data: RealData, tmp_path: Path
    ) -> None:
        source = real_data("volumes/brain-tumour-two-channel")
        for name in ("imagesTr", "labelsTr"):
            (tmp_path / name).mkdir()
        for number, case in enumerate(("brats_2013_pat0005_1", "brats_2013_pat0006_1")):
            for channel, image in enumerate(("Flair", "T1c")):
                shutil.copy(
                    source / case / f"{image}_subtrMeanDivStd.nii.gz",
                    tmp_path / "imagesTr" / f"{case}_{channel:04d}.nii.gz",
                )
            mask = ("OTMultiClass", "brainmask")[number]
            shutil.copy(source / case / f"{mask}.nii.gz", tmp_path / "labelsTr" / f"{case}.nii.gz")
        dataset = read_dataset(tmp_path)
        assert dataset.labels.indices == (1, 2, 3, 4)
        assert [fault.code for fault in find_faults(dataset)] == ["label-of-one-patient"]

    def test_real_spinal_cord_with_voxels_that_are_no_numbers(self, real_data: RealData, tmp_path: Path) -> None:
        source = real_data("volumes/spinal-cord")
        for name in ("imagesTr", "labelsTr"):
            (tmp_path / name).mkdir()
        pairs = {"mtr": ("mt/mtr", "mt/mt1_seg"), "t2": ("t2/t2", "t2/t2_seg-manual_labeled"), "t1": ("t1/t1w",) * 2}
        pairs["t1"] = ("t1/t1w", "t1/t1w_seg-manual")
        for case, (image, mask) in pairs.items():
            shutil.copy(source / f"{image}.nii.gz", tmp_path / "imagesTr" / f"{case}.nii.gz")
            shutil.copy(source / f"{mask}.nii.gz", tmp_path / "labelsTr" / f"{case}.nii.gz")
        faults = [fault for fault in find_faults(tmp_path) if fault.is_error]
        assert told(tuple(faults)) == [("not-finite", "mtr", True)]
        count = int((~np.isfinite(nibabel.load(source / "mt" / "mtr.nii.gz").get_fdata())).sum())
        assert count > 0
        assert f"has {count} voxels" in faults[0].message

    @pytest.mark.parametrize(
        ("image", "mask", "labels"),
        [("example_ct_sm", "example_seg", 42), ("example_mr_sm", "example_seg_mr", 24)],
    )
    def test_real_masks_of_many_labels(
        self, image: str, mask: str, labels: int, real_data: RealData, tmp_path: Path
    ) -> None:
        for folder, name in (("imagesTr", image), ("labelsTr", mask)):
            (tmp_path / folder).mkdir()
            shutil.copy(real_data(f"volumes/totalsegmentator/{name}.nii.gz"), tmp_path / folder / "a.nii.gz")
        dataset = read_dataset(tmp_path)
        assert len(dataset.labels) == labels - 1  # the background is one of them
        unknown = ["modality-unknown"] if "ct" in image else []
        assert [fault.code for fault in find_faults(dataset)] == [*unknown, "one-patient"]


def test_a_sound_data_set_has_none(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    assert find_faults(folder) == ()
    require_sound(read_dataset(folder))


def test_image_and_mask_on_different_grids(make_dataset: MakeDataset, write_image: WriteImage) -> None:
    folder = make_dataset()
    path = folder / "labelsTr" / "case_1.nii.gz"
    moved = nibabel.load(path).affine.copy()
    moved[:3, 3] += (0, 0, 1.5)
    write_image(path, mask_of(folder, 1), moved)
    faults = find_faults(folder)
    assert told(faults) == [("grids-differ", "case_1", True)]
    assert "1.5 mm apart" in faults[0].message


def test_rounding_of_the_grid_is_no_fault(make_dataset: MakeDataset, write_image: WriteImage) -> None:
    folder = make_dataset()
    path = folder / "labelsTr" / "case_1.nii.gz"
    moved = nibabel.load(path).affine.copy()
    moved[:3, 3] += 1e-4
    write_image(path, mask_of(folder, 1), moved)
    assert find_faults(folder) == ()


def test_labels_outside_the_table(make_dataset: MakeDataset, write_mask) -> None:
    folder = make_dataset()
    (folder / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "a", "2": "b"}}))
    mask = mask_of(folder, 1)
    mask[0, 0, 0:3] = 7
    write_mask(folder, 1, mask)
    faults = find_faults(folder)
    assert told(faults) == [("label-outside-table", "case_1", True)]
    assert "7 (3 voxels)" in faults[0].message


def write_segments(folder: Path, number: int, names: tuple[str, ...]) -> None:
    """The mask of a case as 3D Slicer writes it, with segments 1, 2 and so on of these names."""
    image = sitk.ReadImage(next((folder / "labelsTr").glob(f"case_{number}.*")))
    (folder / "labelsTr" / f"case_{number}.nii.gz").unlink(missing_ok=True)
    for place, name in enumerate(names):
        for key, value in {"Name": name, "LabelValue": str(place + 1), "Layer": "0"}.items():
            image.SetMetaData(f"Segment{place}_{key}", value)
    sitk.WriteImage(image, folder / "labelsTr" / f"case_{number}.seg.nrrd", useCompression=True)


def test_segments_that_are_called_otherwise_than_the_labels(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    (folder / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "liver", "2": "spleen"}}))
    for names, faults in ((("Liver", "Spleen"), []), (("Spleen", "Liver"), [("labels-differ", "case_1", True)])):
        write_segments(folder, 1, names)
        assert told(find_faults(folder)) == faults


def test_segments_name_the_labels_where_nothing_else_does(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    for number in range(3):
        write_segments(folder, number, ("liver", "spleen"))
    assert read_dataset(folder).labels.names == ("liver", "spleen")
    assert told(find_faults(folder)) == []
    for names in (("spleen", "liver"), ("liver", "ignore")):
        write_segments(folder, 2, names)
        assert told(find_faults(folder)) == [("labels-differ", "case_2", True)]
    for number in range(3):
        write_segments(folder, number, ("liver", "ignore"))
    assert (read_dataset(folder).labels.names, read_dataset(folder).labels.ignore) == (("liver",), 2)
    assert told(find_faults(folder)) == []


def test_labels_between_whole_numbers(make_dataset: MakeDataset, write_mask) -> None:
    folder = make_dataset()
    write_mask(folder, 1, mask_of(folder, 1).astype(np.float32) * 0.5)
    assert told(find_faults(folder)) == [("mask-values", "case_1", True)]


def test_labels_a_hair_off_whole_numbers_are_told(make_dataset: MakeDataset, write_mask) -> None:
    folder = make_dataset()
    write_mask(folder, 1, mask_of(folder, 1) * np.float32(0.99999994))
    write_mask(folder, 2, mask_of(folder, 2) * 0.99999999999)  # as float32, which MONAI trains on, a whole number
    (fault,) = find_faults(folder)
    assert told((fault,)) == [("mask-off-whole", "", False)]
    assert "1 mask holds" in fault.message
    assert "0.99999994 in case_1" in fault.message
    require_sound(read_dataset(folder))
    with pytest.raises(DataSetError, match="a hair off"):
        require_sound(read_dataset(folder), whole_masks=True)


@pytest.mark.parametrize("value", [-1, 70000])
def test_labels_out_of_range(value: int, make_dataset: MakeDataset, write_mask) -> None:
    folder = make_dataset()
    write_mask(folder, 1, np.where(mask_of(folder, 1) == 1, value, 0).astype(np.int32))
    assert told(find_faults(folder)) == [("mask-values", "case_1", True)]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16])
def test_whole_numbers_of_any_type_are_fine(kind: type, make_dataset: MakeDataset, write_mask) -> None:
    folder = make_dataset()
    write_mask(folder, 1, mask_of(folder, 1).astype(kind))
    assert find_faults(folder) == ()


def test_a_voxel_that_training_reads_as_infinite(make_dataset: MakeDataset, write_image: WriteImage) -> None:
    folder = make_dataset()
    path = folder / "imagesTr" / "case_1.nii.gz"
    image = nibabel.load(path)
    voxels = image.get_fdata().astype(np.float64)
    voxels[2, 3, 1] = 1e39  # above the largest of float32
    write_image(path, voxels, image.affine)
    assert told(find_faults(folder)) == [("not-finite", "case_1", True)]


@pytest.mark.parametrize(
    ("values", "words"),
    [((np.nan,), "1 voxel that is"), ((np.inf, -np.inf, np.nan), "3 voxels that are")],
)
def test_voxels_that_are_no_numbers(
    values: tuple[float, ...], words: str, make_dataset: MakeDataset, write_image: WriteImage
) -> None:
    folder = make_dataset()
    path = folder / "imagesTr" / "case_1.nii.gz"
    image = nibabel.load(path)
    voxels = image.get_fdata().astype(np.float32)
    voxels[2, 3, : len(values)] = values
    write_image(path, voxels, image.affine)
    faults = find_faults(folder)
    assert told(faults) == [("not-finite", "case_1", True)]
    assert words in faults[0].message
    assert "imagesTr/case_1.nii.gz" in faults[0].message


def test_an_empty_mask(make_dataset: MakeDataset, write_mask) -> None:
    folder = make_dataset()
    write_mask(folder, 1, mask_of(folder, 1) * 0)
    assert told(find_faults(folder)) == [("empty-mask", "case_1", True)]


@pytest.mark.parametrize("folder", ["imagesTr", "labelsTr"])
def test_what_monai_reads_in_another_way_is_refused(make_dataset: MakeDataset, folder: str) -> None:
    import nibabel

    data = make_dataset(2)
    path = data / folder / "case_0.nii.gz"
    image = nibabel.load(path)
    metres = nibabel.Nifti1Image(np.asarray(image.dataobj), np.diag([1e-3, 1e-3, 1e-3, 1]) @ image.affine)
    metres.header.set_xyzt_units("meter")
    nibabel.save(metres, path)
    (fault,) = find_faults(data)
    assert (fault.case, fault.code, fault.is_error) == ("case_0", "read-otherwise", True)
    assert "not in millimetres" in fault.message


def test_channels_on_the_fifth_axis_are_refused(make_dataset: MakeDataset) -> None:
    """As ITK writes an image of vectors; MONAI takes the fourth axis for the channels."""
    import SimpleITK as sitk

    data = make_dataset(2)
    for number in range(2):
        path = data / "imagesTr" / f"case_{number}.nii.gz"
        image = sitk.ReadImage(str(path))
        sitk.WriteImage(sitk.Compose(image, image * 2), str(path))
    assert [(fault.case, fault.code) for fault in find_faults(data)] == [
        ("case_0", "read-otherwise"),
        ("case_1", "read-otherwise"),
    ]


class TestDuplicates:
    def test_a_copy_under_another_name(self, make_dataset: MakeDataset) -> None:
        folder = make_dataset()
        for name in ("imagesTr", "labelsTr"):
            shutil.copy(folder / name / "case_0.nii.gz", folder / name / "other.nii.gz")
        faults = find_faults(folder)
        assert told(faults) == [("duplicate", "other", True)]
        assert "case_0" in faults[0].message

    def test_a_copy_stored_as_another_type(self, make_dataset: MakeDataset, write_image: WriteImage) -> None:
        folder = make_dataset(1)
        voxels = np.random.default_rng(5).integers(0, 200, (4, 5, 6))
        for name, kind in (("a", np.uint8), ("b", np.float64)):
            write_image(folder / "imagesTs" / f"{name}.nii.gz", voxels.astype(kind))
        assert errors(folder) == [("duplicate", "b")]

    def test_the_same_voxels_in_another_shape_are_none(self, tmp_path: Path, write_image: WriteImage) -> None:
        voxels = np.arange(24, dtype=np.int16)
        for name, shape in (("a", (2, 3, 4)), ("b", (2, 6, 2))):
            write_image(tmp_path / "imagesTs" / f"{name}.nii.gz", voxels.reshape(shape, order="F"))
        assert find_faults(tmp_path) == ()


class TestChannels:
    def test_on_different_grids(self, make_dataset: MakeDataset, write_image: WriteImage) -> None:
        folder = make_dataset(channels=2)
        path = folder / "imagesTr" / "case_1_0001.nii.gz"
        image = nibabel.load(path)
        write_image(path, image.get_fdata().astype(np.float32)[:-1], image.affine)
        faults = find_faults(folder)
        assert told(faults) == [("channel-grids-differ", "case_1", True)]
        assert "case_1_0001.nii.gz" in faults[0].message

    def test_more_or_fewer_than_declared(self, make_dataset: MakeDataset) -> None:
        folder = make_dataset(2, channels=3)
        (folder / "imagesTr" / "case_1_0002.nii.gz").unlink()
        faults = find_faults(folder)
        assert told(faults) == [("channel-count", "case_1", True)]
        assert "2 channels" in faults[0].message
        assert "declares 3" in faults[0].message

    def test_four_dimensional_images_are_counted_by_their_fourth_axis(
        self, tmp_path: Path, write_image: WriteImage
    ) -> None:
        random = np.random.default_rng(1)
        for name, channels in (("a", 4), ("b", 3)):
            write_image(tmp_path / "imagesTr" / f"{name}.nii.gz", random.normal(size=(5, 5, 5, channels)))
            write_image(tmp_path / "labelsTr" / f"{name}.nii.gz", np.ones((5, 5, 5), np.uint8))
        (tmp_path / "dataset.json").write_text(
            json.dumps({"labels": {"1": "x"}, "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}})
        )
        assert told(find_faults(tmp_path)) == [("channel-count", "b", True)]

    def test_a_mask_of_several_channels(self, make_dataset: MakeDataset, write_mask) -> None:
        folder = make_dataset()
        write_mask(folder, 1, np.stack([mask_of(folder, 1)] * 2, axis=3))
        assert told(find_faults(folder)) == [("mask-channels", "case_1", True)]


class TestWarnings:
    def test_a_label_of_the_table_that_occurs_in_no_mask(self, make_dataset: MakeDataset) -> None:
        folder = make_dataset()
        (folder / "dataset.json").write_text(json.dumps({"labels": {"1": "a", "2": "b", "3": "spleen"}}))
        faults = find_faults(folder)
        assert told(faults) == [("label-unused", "", False)]
        assert "spleen" in faults[0].message
        require_sound(read_dataset(folder))

    def test_an_image_whose_two_forms_differ(self, make_dataset: MakeDataset) -> None:
        folder = make_dataset()
        image = nibabel.load(folder / "imagesTr" / "case_1.nii.gz")
        turned = image.affine.copy()
        turned[0, 3] += 2.5
        image = nibabel.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine)
        image.set_sform(image.affine, 2)
        image.set_qform(turned, 1)
        nibabel.save(image, folder / "imagesTr" / "case_1.nii.gz")
        faults = find_faults(folder)
        assert told(faults) == [("two-placements", "case_1", False)]
        assert "2.5 mm" in faults[0].message

    def test_an_image_of_one_value(self, make_dataset: MakeDataset, write_image: WriteImage) -> None:
        folder = make_dataset()
        path = folder / "imagesTr" / "case_1.nii.gz"
        image = nibabel.load(path)
        write_image(path, np.full(image.shape, -1024, np.int16), image.affine)
        faults = find_faults(folder)
        assert told(faults) == [("constant-image", "case_1", False)]
        assert "-1024" in faults[0].message


class TestDamagedFiles:
    @pytest.mark.parametrize("which", ["imagesTr", "labelsTr"])
    @pytest.mark.parametrize("keep", [0, 50, -60, -20, -4])
    def test_a_file_that_is_cut(self, which: str, keep: int, make_dataset: MakeDataset) -> None:
        folder = make_dataset()
        path = folder / which / "case_1.nii.gz"
        path.write_bytes(path.read_bytes()[:keep])
        faults = find_faults(folder)
        assert told(faults) == [("damaged-file", "case_1", True)]
        assert f"{which}/case_1.nii.gz" in faults[0].message
        assert str(folder) not in faults[0].message

    def test_a_header_that_declares_more_than_the_file_can_hold(self, make_dataset: MakeDataset) -> None:
        folder = make_dataset()
        change_image(folder / "imagesTr" / "case_1.nii.gz", dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
        assert told(find_faults(folder)) == [("damaged-file", "case_1", True)]

    def test_a_file_without_orientation(self, make_dataset: MakeDataset) -> None:
        folder = make_dataset()
        change_image(folder / "imagesTr" / "case_1.nii.gz", sform_code=0, qform_code=0)
        assert told(find_faults(folder)) == [("no-orientation", "case_1", True)]

    def test_an_affine_that_is_no_number(self, make_dataset: MakeDataset) -> None:
        folder = make_dataset()
        change_image(folder / "imagesTr" / "case_1.nii.gz", srow_x=[np.nan, 0, 0, 0])
        assert told(find_faults(folder)) == [("geometry", "case_1", True)]

    def test_colours(self, make_dataset: MakeDataset, write_image: WriteImage) -> None:
        folder = make_dataset(1)
        colours = np.zeros((3, 3, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        write_image(folder / "imagesTs" / "rgb.nii.gz", colours)
        assert errors(folder) == [("not-scalar", "rgb")]

    def test_random_bytes_of_a_header_never_end_the_check(self, make_dataset: MakeDataset) -> None:
        folder = make_dataset(1)
        path = folder / "imagesTr" / "case_0.nii.gz"
        whole = gzip.decompress(path.read_bytes())
        random = np.random.default_rng(11)
        for _ in range(150):
            raw = bytearray(whole)
            for place in random.integers(0, 352, 3):
                raw[place] = random.integers(256)
            path.write_bytes(gzip.compress(bytes(raw), 1))
            for fault in find_faults(folder):
                assert fault.code != "unexpected", (fault, struct.unpack("<8h", raw[40:56]))


def test_all_faults_at_once_and_with_workers_the_same(
    make_dataset: MakeDataset, write_image: WriteImage, write_mask
) -> None:
    folder = make_dataset(5)
    write_mask(folder, 0, mask_of(folder, 0) * 0)
    (folder / "imagesTr" / "case_1.nii.gz").write_bytes(b"x")
    (folder / "imagesTr" / "case_2.nii.gz").unlink()
    image = nibabel.load(folder / "imagesTr" / "case_3.nii.gz")
    write_image(folder / "imagesTr" / "case_3.nii.gz", image.get_fdata() * np.nan, np.diag([2, 1, 1, 1]))
    faults = find_faults(folder)
    assert told(faults) == [
        ("empty-mask", "case_0", True),
        ("damaged-file", "case_1", True),
        ("label-without-image", "case_2", True),
        ("grids-differ", "case_3", True),
        ("not-finite", "case_3", True),
    ]
    assert find_faults(folder, jobs=2) == faults
    with pytest.raises(DataSetError) as caught:
        require_sound(read_dataset(folder))
    assert caught.value.code == "data-set-faults"
    assert caught.value.message.count("\n") == len(faults)
    for fault in faults:
        assert str(fault) in caught.value.message


def test_training_does_not_ask_for_images_that_have_no_mask(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    (folder / "imagesTs").mkdir()
    (folder / "imagesTs" / "new.nii.gz").write_bytes(b"x")
    assert told(find_faults(folder)) == [("damaged-file", "new", True)]
    require_sound(read_dataset(folder))


def test_training_needs_a_mask(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "imagesTs" / "a.nii.gz", np.arange(27, dtype=np.int16).reshape(3, 3, 3))
    assert find_faults(tmp_path) == ()
    with pytest.raises(DataSetError, match="no case with a mask") as caught:
        require_sound(read_dataset(tmp_path))
    assert caught.value.code == "no-labels"


def test_a_dataset_json_that_makes_no_sense_is_a_fault(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    (folder / "dataset.json").write_text("{")
    faults = find_faults(folder)
    assert told(faults) == [("bad-dataset-json", "", True)]
    assert faults[0].message.startswith("dataset.json ")


def test_no_data_set_is_no_fault_but_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        find_faults(tmp_path)

"""Which files belong together, and what is said of those that don't."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from volseg.cli.main import main
from volseg.dataset.dataset import read_dataset
from volseg.dataset.faults import require_sound
from volseg.errors import DataSetError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeDataset, WriteImage
    from volseg.dataset.case import Fault

LABELS = {"0": "background", "1": "a", "2": "b"}


def list_cases(folder: Path, training: list[object], test: tuple[object, ...] = (), **more: object) -> None:
    content = {"labels": LABELS, "modality": {"0": "CT"}, "training": training, "test": list(test), **more}
    (folder / "dataset.json").write_text(json.dumps(content))


def pair_of(number: int) -> dict[str, str]:
    return {"image": f"./imagesTr/case_{number}.nii.gz", "label": f"./labelsTr/case_{number}.nii.gz"}


def only(faults: tuple[Fault, ...]) -> Fault:
    assert len(faults) == 1, faults
    return faults[0]


def test_a_label_without_an_image(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    (folder / "imagesTr" / "case_1.nii.gz").unlink()
    dataset = read_dataset(folder)
    fault = only(dataset.faults)
    assert (fault.code, fault.case, fault.is_error) == ("label-without-image", "case_1", True)
    assert "labelsTr/case_1.nii.gz" in fault.message
    assert [case.name for case in dataset.cases] == ["case_0", "case_2"]


def test_an_image_without_a_label_is_a_fault_only_among_the_training_images(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    (folder / "labelsTr" / "case_1.nii.gz").unlink()
    dataset = read_dataset(folder)
    fault = only(dataset.faults)
    assert (fault.code, fault.case) == ("image-without-label", "case_1")
    assert [case.name for case in dataset.test] == ["case_1"]
    (folder / "imagesTs").mkdir()
    shutil.move(folder / "imagesTr" / "case_1.nii.gz", folder / "imagesTs")
    assert read_dataset(folder).faults == ()


def test_one_name_in_both_folders(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    (folder / "imagesTs").mkdir()
    shutil.copy(folder / "imagesTr" / "case_1.nii.gz", folder / "imagesTs")
    fault = only(read_dataset(folder).faults)
    assert (fault.code, fault.case) == ("name-twice", "case_1")
    assert "imagesTr/case_1.nii.gz and imagesTs/case_1.nii.gz" in fault.message


def test_one_name_with_two_suffixes(make_dataset: MakeDataset, write_image: WriteImage) -> None:
    folder = make_dataset()
    write_image(folder / "imagesTr" / "case_1.nii", np.ones((3, 3, 3), np.int16))
    fault = only(read_dataset(folder).faults)
    assert (fault.code, fault.case) == ("name-twice", "case_1")
    assert "case_1.nii and" in fault.message


def test_two_masks_of_one_case(make_dataset: MakeDataset, write_image: WriteImage) -> None:
    folder = make_dataset()
    write_image(folder / "labelsTr" / "case_1.nii", np.ones((3, 3, 3), np.uint8))
    fault = only(read_dataset(folder).faults)
    assert (fault.code, fault.case) == ("name-twice", "case_1")
    assert "masks" in fault.message


@pytest.mark.parametrize("second", ["training", "test"])
def test_one_image_listed_twice(second: str, make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    entries = [pair_of(k) for k in range(3)]
    if second == "training":
        list_cases(folder, [*entries, pair_of(0)])
    else:
        list_cases(folder, entries, ("./imagesTr/case_0.nii.gz",))
    fault = only(read_dataset(folder).faults)
    assert (fault.code, fault.case) == ("name-twice", "case_0")


@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_listed_file_that_is_missing_is_named_once(kind: str, make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    list_cases(folder, [pair_of(k) for k in range(3)])
    missing = {"image": "imagesTr", "label": "labelsTr"}[kind] + "/case_1.nii.gz"
    (folder / missing).unlink()
    dataset = read_dataset(folder)
    fault = only(dataset.faults)
    assert (fault.code, fault.case, fault.is_error) == ("missing-file", "case_1", True)
    assert missing in fault.message
    assert [case.name for case in dataset.cases] == ["case_0", "case_2"]


def test_many_absent_cases_are_a_line_each_and_a_few_lines_in_all(
    make_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_dataset(2)
    list_cases(folder, [pair_of(k) for k in range(40)])
    faults = read_dataset(folder).faults
    assert [fault.case for fault in faults] == [f"case_{k}" for k in range(2, 40)]
    assert str(faults[0]) == (
        "case_2: dataset.json lists ./imagesTr/case_2.nii.gz, ./labelsTr/case_2.nii.gz, which do not exist. Add them, or "
        "drop the entry."
    )
    assert main(["check", str(folder)]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "[missing-file]" in line]
    assert len(lines) == 4
    assert lines[-1].startswith("error [missing-file] 35 more such faults, of case_")
    with pytest.raises(DataSetError, match="has 38 faults") as caught:
        require_sound(read_dataset(folder))
    assert str(caught.value).count("\n") == 4


def test_a_listed_pair_may_have_two_names_and_other_folders(make_dataset: MakeDataset) -> None:
    folder = make_dataset(1)
    (folder / "truth").mkdir()
    shutil.move(folder / "labelsTr" / "case_0.nii.gz", folder / "truth" / "segmentation.nii.gz")
    list_cases(folder, [{"image": "imagesTr/case_0.nii.gz", "label": "truth/segmentation.nii.gz"}])
    dataset = read_dataset(folder)
    assert dataset.training[0].label == folder / "truth" / "segmentation.nii.gz"
    assert dataset.faults == ()


def test_a_listed_image_may_be_several_files(make_dataset: MakeDataset) -> None:
    folder = make_dataset(1, channels=2)
    images = ["imagesTr/case_0_0001.nii.gz", "imagesTr/case_0_0000.nii.gz"]
    list_cases(folder, [{"image": images, "label": "labelsTr/case_0.nii.gz"}], modality={"0": "T1", "1": "T2"})
    dataset = read_dataset(folder)
    case = dataset.training[0]
    assert (case.name, [str(path.relative_to(folder)) for path in case.images]) == ("case_0", images)
    assert dataset.faults == ()


def test_pairs_in_the_folders_that_the_list_leaves_out_are_used_and_told(make_dataset: MakeDataset) -> None:
    folder = make_dataset(3)
    list_cases(folder, [pair_of(0)])
    dataset = read_dataset(folder)
    assert [case.name for case in dataset.training] == ["case_0", "case_1", "case_2"]
    fault = only(dataset.faults)
    assert (fault.code, fault.case, fault.is_error) == ("not-listed", "", False)
    assert "case_1, case_2" in fault.message


def test_a_channel_that_is_missing(make_dataset: MakeDataset) -> None:
    folder = make_dataset(2, channels=3)
    (folder / "imagesTr" / "case_1_0001.nii.gz").unlink()
    dataset = read_dataset(folder)
    fault = only(dataset.faults)
    assert (fault.code, fault.case) == ("missing-channel", "case_1")
    assert "0001" in fault.message
    assert [case.name for case in dataset.training] == ["case_0"]


def test_a_mask_named_with_the_channels_number_is_told_its_name(make_dataset: MakeDataset) -> None:
    folder = make_dataset(2, channels=2)
    (folder / "labelsTr" / "case_1.nii.gz").rename(folder / "labelsTr" / "case_1_0000.nii.gz")
    list_cases(folder, [], channel_names={"0": "T1", "1": "T2"})
    faults = {fault.code: fault for fault in read_dataset(folder).faults}
    assert set(faults) == {"label-without-image", "image-without-label"}
    assert "case_1.nii.gz" in faults["label-without-image"].message


class TestNothingOutsideIsFollowed:
    @pytest.fixture
    def secret(self, tmp_path: Path, write_image: WriteImage) -> Path:
        return write_image(tmp_path / "elsewhere" / "secret.nii.gz", np.ones((3, 3, 3), np.int16))

    @pytest.mark.parametrize("how", ["parent", "absolute", "null", "hidden parent", "empty"])
    @pytest.mark.parametrize("key", ["image", "label"])
    def test_by_a_listed_path(self, how: str, key: str, secret: Path, make_dataset: MakeDataset) -> None:
        folder = make_dataset(2)
        text = {
            "parent": "../elsewhere/secret.nii.gz",
            "absolute": str(secret),
            "null": "imagesTr/\0.nii.gz",
            "hidden parent": "./imagesTr/../../elsewhere/secret.nii.gz",
            "empty": "",
        }[how]
        list_cases(folder, [pair_of(0), pair_of(1) | {key: text}])
        dataset = read_dataset(folder)
        assert "outside-folder" in [fault.code for fault in dataset.faults]
        assert secret not in [path for case in dataset.cases for path in (*case.images, case.label)]

    def test_by_a_link_to_a_file(self, secret: Path, make_dataset: MakeDataset) -> None:
        folder = make_dataset(2)
        (folder / "imagesTr" / "linked.nii.gz").symlink_to(secret)
        dataset = read_dataset(folder)
        fault = only(dataset.faults)
        assert (fault.code, fault.case) == ("outside-folder", "linked")
        assert len(dataset.cases) == 2

    def test_by_a_listed_link(self, secret: Path, make_dataset: MakeDataset) -> None:
        folder = make_dataset(1)
        (folder / "more").mkdir()
        (folder / "more" / "linked.nii.gz").symlink_to(secret)
        list_cases(folder, [pair_of(0)], ("more/linked.nii.gz",))
        dataset = read_dataset(folder)
        assert only(dataset.faults).code == "outside-folder"
        assert len(dataset.cases) == 1

    def test_a_listed_link_in_its_folder_is_told_once(self, secret: Path, make_dataset: MakeDataset) -> None:
        folder = make_dataset(2)
        for place in ("imagesTr", "labelsTr"):
            (folder / place / "case_1.nii.gz").unlink()
            (folder / place / "case_1.nii.gz").symlink_to(secret)
        list_cases(folder, [pair_of(0), pair_of(1)])
        assert [(fault.code, fault.case) for fault in read_dataset(folder).faults] == [("outside-folder", "case_1")] * 2

    def test_by_a_linked_folder(self, secret: Path, make_dataset: MakeDataset) -> None:
        folder = make_dataset(1)
        (folder / "imagesTs").symlink_to(secret.parent, target_is_directory=True)
        with pytest.raises(DataSetError, match="link") as caught:
            read_dataset(folder)
        assert caught.value.code == "outside-folder"

    def test_by_a_link_to_itself(self, make_dataset: MakeDataset) -> None:
        folder = make_dataset(1)
        (folder / "imagesTr" / "loop.nii.gz").symlink_to("loop.nii.gz")
        dataset = read_dataset(folder)
        assert only(dataset.faults).case == "loop"

    def test_links_within_are_followed(self, make_dataset: MakeDataset) -> None:
        folder = make_dataset(2)
        (folder / "store").mkdir()
        shutil.move(folder / "imagesTr" / "case_1.nii.gz", folder / "store" / "x")
        (folder / "imagesTr" / "case_1.nii.gz").symlink_to("../store/x")
        dataset = read_dataset(folder)
        assert dataset.faults == ()
        assert len(dataset.training) == 2

    def test_the_data_set_itself_may_be_a_link(self, tmp_path: Path, make_dataset: MakeDataset) -> None:
        link = tmp_path / "link"
        link.symlink_to(make_dataset(2), target_is_directory=True)
        list_cases(link, [pair_of(0), pair_of(1)])
        dataset = read_dataset(link)
        assert dataset.faults == ()
        assert len(dataset.training) == 2


def test_a_listed_name_longer_than_a_file_system_allows_is_missing(make_dataset: MakeDataset) -> None:
    folder = make_dataset(1)
    list_cases(folder, [pair_of(0)], ("imagesTs/" + "x" * 5000 + ".nii.gz",))
    assert [fault.code for fault in read_dataset(folder).faults] == ["missing-file"]


def test_an_entry_without_an_image_is_told(make_dataset: MakeDataset) -> None:
    folder = make_dataset(1)
    list_cases(folder, [pair_of(0), {"image": [], "label": "labelsTr/case_0.nii.gz"}])
    assert [fault.code for fault in read_dataset(folder).faults] == ["missing-file"]


def test_control_characters_of_file_names_never_reach_a_fault(make_dataset: MakeDataset) -> None:
    folder = make_dataset(1)
    (folder / "labelsTr" / "evil\n\x1b[31mall is well.nii.gz").write_bytes(b"")
    fault = only(read_dataset(folder).faults)
    assert str(fault).isprintable()

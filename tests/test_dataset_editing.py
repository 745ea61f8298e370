"""A dataset.json that grows: labels and images are added, and what somebody wrote stays."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from volseg.dataset.editing import DatasetFile
from volseg.dataset.listing import read_listing
from volseg.errors import DataSetError
from volseg.labels import Label, LabelCode, LabelTable

if TYPE_CHECKING:
    from pathlib import Path

TABLE = LabelTable((Label(1, "liver", (1, 2, 3)), Label(2, "spleen", None, LabelCode("78961009", "SCT", "Spleen"))))


def content_of(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "dataset.json").read_text())
    return found


def test_labels_come_back_with_colours_and_codes(tmp_path: Path) -> None:
    assert len(DatasetFile.read(tmp_path).labels) == 0
    DatasetFile.read(tmp_path).with_labels(TABLE)
    assert content_of(tmp_path)["labels"] == {"0": "background", "1": "liver", "2": "spleen"}
    assert DatasetFile.read(tmp_path).labels == TABLE
    assert read_listing(tmp_path / "dataset.json").labels == TABLE


@pytest.mark.parametrize(
    "details",
    [
        {"1": {"colour": [1, 2]}},
        {"1": {"colour": [1, 2, 256]}},
        {"1": {"code": {"value": "x"}}},
        {"1": {"code": {"value": "x" * 201, "scheme": "SCT"}}},
        [],
    ],
)
def test_details_that_make_no_sense_are_refused(details: object, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"1": "liver"}, "label_details": details}))
    with pytest.raises(DataSetError):
        DatasetFile.read(tmp_path)


def test_details_of_other_labels_count_for_nothing(tmp_path: Path) -> None:
    details = {"7": {"colour": [1, 2, 3]}, "1": {"more": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"1": "liver"}, "label_details": details}))
    assert DatasetFile.read(tmp_path).labels == LabelTable((Label(1, "liver"),))


def test_images_move_from_those_without_masks_to_those_with(tmp_path: Path) -> None:
    file = DatasetFile.read(tmp_path).with_images(["a.nii.gz", "b.nii.gz"], [], {"CT"})
    assert content_of(tmp_path)["test"] == ["./imagesTs/a.nii.gz", "./imagesTs/b.nii.gz"]
    file = file.with_images(["b.nii.gz"], ["a.nii.gz"], {"CT"})
    content = content_of(tmp_path)
    assert content["test"] == ["./imagesTs/b.nii.gz"]
    assert content["training"] == [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    assert (content["numTraining"], content["numTest"], content["modality"]) == (1, 1, {"0": "CT"})
    before = (tmp_path / "dataset.json").stat().st_mtime_ns
    file.with_images(["b.nii.gz"], ["a.nii.gz"], {"CT"})
    assert (tmp_path / "dataset.json").stat().st_mtime_ns == before


def test_pairs_that_a_person_listed_keep_their_mask_and_follow_their_image(tmp_path: Path) -> None:
    pairs = [
        {"image": "imagesTs/a.nii.gz", "label": "./elsewhere/a.nii.gz", "weight": 2},
        {"image": ["./imagesTr/c_0000.nii.gz"], "label": "./labelsTr/c.nii.gz"},
        "./imagesTr/d.nii.gz",
    ]
    test = ["./imagesTs/b.nii.gz", {"image": "./imagesTs/e.nii.gz"}]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": pairs, "test": test, "name": "ours"}))
    DatasetFile.read(tmp_path).with_images(["b.nii.gz", "f.nii.gz"], ["a.nii.gz", "d.nii.gz", "e.nii.gz"], {"CT", "MR"})
    content = content_of(tmp_path)
    assert content["training"] == [
        {"image": "./imagesTr/a.nii.gz", "label": "./elsewhere/a.nii.gz", "weight": 2},
        *pairs[1:],
        {"image": "./imagesTr/e.nii.gz", "label": "./labelsTr/e.nii.gz"},
    ]
    assert content["test"] == ["./imagesTs/b.nii.gz", "./imagesTs/f.nii.gz"]
    assert content["name"] == "ours"
    assert content["modality"] == {"0": "CT or MR"}


@pytest.mark.parametrize(
    ("there", "found", "expected"),
    [
        (None, {"CT"}, {"0": "CT"}),
        (None, {"MR", "CT"}, {"0": "CT or MR"}),
        ({"0": "CT"}, {"CT", "MR"}, {"0": "CT or MR"}),
        ({"0": "CT"}, {"MR"}, {"0": "CT or MR"}),  # somebody wrote it, perhaps of other images
        ({"0": "CT or MR"}, {"CT", "MR", "PT"}, {"0": "CT or MR or PT"}),
        ({"0": "CT or MR"}, {"CT"}, {"0": "CT"}),
        ({"0": "CBCT"}, {"CT"}, {"0": "CBCT"}),
        ({"0": "T1"}, {"MR"}, {"0": "T1"}),
        ({"0": "liver window"}, {"CT", "MR"}, {"0": "liver window"}),
        ({"0": "T1", "1": "T2"}, {"CT", "MR"}, {"0": "T1", "1": "T2"}),
        (["CT"], {"MR"}, ["CT"]),
    ],
)
def test_the_modality_tells_of_all_images(there: object, found: set[str], expected: object, tmp_path: Path) -> None:
    if there is not None:
        (tmp_path / "dataset.json").write_text(json.dumps({"modality": there, "test": ["./imagesTs/a.nii.gz"]}))
    DatasetFile.read(tmp_path).with_images(["a.nii.gz", "b.nii.gz"], [], found)
    assert content_of(tmp_path)["modality"] == expected


def test_a_modality_of_images_that_are_listed_alone_stays(tmp_path: Path) -> None:
    content = {"modality": {"0": "CT or MR"}, "test": ["./imagesTs/theirs.nii.gz"]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    DatasetFile.read(tmp_path).with_images(["a.nii.gz"], [], {"CT"})
    assert content_of(tmp_path)["modality"] == {"0": "CT or MR"}


def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("[")
    with pytest.raises(DataSetError):
        DatasetFile.read(tmp_path)

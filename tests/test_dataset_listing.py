"""``dataset.json`` as hostile input."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from volseg.dataset import listing
from volseg.dataset.listing import ListedCase, read_listing
from volseg.errors import DataSetError
from volseg.labels import LabelTable, Region

if TYPE_CHECKING:
    from pathlib import Path


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(DataSetError) as caught:
        read_listing(path)
    assert caught.value.code == "bad-dataset-json"
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1000
    assert "dataset.json" in caught.value.message
    return caught.value.message


def refusal_of(path: Path, **content: object) -> str:
    return refusal(path, json.dumps(content).encode())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dataset.json"


def test_both_forms(path: Path) -> None:
    path.write_text(
        json.dumps(
            {
                "name": "x",
                "numTraining": 1,
                "labels": {"0": "background", "2": "spleen", "1": "liver"},
                "modality": {"1": "T1", "0": "T2"},
                "training": [{"image": "a", "label": "b"}, {"image": ["c", "d"]}],
                "test": ["e", {"image": "f"}],
                "patients": {"a": "p"},
            }
        )
    )
    found = read_listing(path)
    assert found.labels.names == ("liver", "spleen")
    assert found.channels == ("T2", "T1")
    assert not found.numbered
    assert found.training == (ListedCase(("a",), "b"), ListedCase(("c", "d"), None))
    assert found.test == (ListedCase(("e",), None), ListedCase(("f",), None))
    assert found.patients == {"a": "p"}
    path.write_text(
        json.dumps({"labels": {"background": 0, "liver": 1}, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"})
    )
    found = read_listing(path)
    assert (found.labels.names, found.channels, found.numbered) == (("liver",), ("CT",), True)


def test_a_byte_order_mark_and_an_empty_object_are_fine(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf{}")
    assert len(read_listing(path).labels) == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\x00" * 100,
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b'{"labels": {"0": "a\xff"}}',
        b'{"a":' * 100_000,
        b"[" * 1_000_000,
        b'{"training": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["empty", "cut", "nulls", "list", "null", "utf16", "bad utf8", "deep objects", "deep lists", "deep field"],
)
def test_what_is_no_json_object_is_refused(content: bytes, path: Path) -> None:
    refusal(path, content)


@pytest.mark.parametrize(
    "content",
    [
        {"labels": ["background", "liver"]},
        {"labels": {"1": None}},
        {"labels": {"1": 1.5}},
        {"labels": {"1": {"name": "liver"}}},
        {"labels": {"1": "liver", "2": "liver"}},
        {"labels": {"99999": "liver"}},
        {"labels": {"liver": 70000}},
        {"labels": {"liver": -1}},
        {"labels": {"a": "b"}},
        {"labels": {"1": ""}},
        {"labels": {"1": "x" * 1000}},
        {"labels": {"1": "a\nb"}},
        {"labels": {"1": "\x1b[31m"}},
        {"training": "imagesTr/a.nii.gz"},
        {"training": [5]},
        {"training": [{"label": "a"}]},
        {"training": [{"image": {"path": "a"}}]},
        {"test": {"0": "a"}},
        {"patients": ["a"]},
        {"patients": {"a": 5}},
        {"modality": {"1": "CT"}},
        {"modality": {"0": "CT", "00": "MR"}},
        {"modality": 5},
        {"channel_names": {"0": "a\tb"}},
        {"file_ending": 3},
    ],
    ids=lambda content: json.dumps(content)[:40],
)
def test_a_field_that_makes_no_sense_is_refused(content: dict[str, object], path: Path) -> None:
    refusal_of(path, **content)


def test_the_place_of_what_is_wrong_is_named(path: Path) -> None:
    assert "'training.1.image'" in refusal_of(path, training=[{"image": "a"}, {"label": "b"}])


def test_what_volseg_does_not_read_is_named(path: Path) -> None:
    assert ".png" in refusal_of(path, file_ending=".png")


TUMOUR: dict[str, object] = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def test_regions_and_the_ignore_label_of_nnunet(path: Path) -> None:
    path.write_text(json.dumps({"labels": TUMOUR | {"ignore": 4}, "regions_class_order": [1, 2, 3]}))
    found = read_listing(path)
    assert found.regions == (Region("whole", (1, 2, 3), 1), Region("core", (2, 3), 2), Region("enhancing", (3,), 3))
    assert found.labels.names == ("label 1", "label 2", "enhancing")  # nobody names the parts of regions
    assert found.labels.ignore == 4
    path.write_text(json.dumps({"labels": {"0": "background", "1": "liver", "2": "Ignore"}}))  # MSD's form
    found = read_listing(path)
    assert (found.labels.names, found.labels.ignore) == (("liver",), 2)
    assert LabelTable.from_dataset_json(found.labels.to_dataset_json()) == found.labels


@pytest.mark.parametrize(
    ("labels", "order", "reason"),
    [
        (TUMOUR, [1, 2], "3 regions and 2 numbers"),
        (TUMOUR, [1, 2, 2], "a number of its own"),
        (TUMOUR, [1, 2, 4], "not among its labels"),
        (TUMOUR, [1, 1, 3], "a number of its own"),
        (TUMOUR, [3, 2, 1], "painted later"),
        (TUMOUR, [2, 3, 1], "painted later"),
        (TUMOUR, ["x"], "regions_class_order"),
        (TUMOUR | {"ignore": 3}, [1, 2, 3], "highest number"),
        (TUMOUR | {"ignore": 2}, [1, 2, 3], "above all"),
        (TUMOUR | {"ignore": [4, 5]}, [1, 2, 3], "3 numbers"),
        ({"background": 0, "liver": 2, "ignore": 1}, None, "above all"),
        ({"background": 0, "liver": 2, "ignore": 2}, None, "above all"),
        ({"liver": 1, "ignore": 2, "IGNORE": 3}, None, "two ignore labels"),
    ],
)
def test_regions_and_ignore_labels_that_make_no_sense(
    labels: dict[str, object], order: list[object] | None, reason: str, path: Path
) -> None:
    assert reason in refusal_of(path, labels=labels, regions_class_order=order)


def test_a_file_far_too_large_is_refused_before_it_is_read(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**33)  # sparse: takes no space
    assert "MiB" in (message := _refused(path))
    assert str(listing.MAX_LISTING_BYTES // 2**20) in message


def test_a_folder_of_that_name_is_refused(path: Path) -> None:
    path.mkdir()
    assert "is a folder, not a file" in _refused(path)


def _refused(path: Path) -> str:
    with pytest.raises(DataSetError) as caught:
        read_listing(path)
    return caught.value.message

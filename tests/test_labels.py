"""The label table."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from volseg.errors import InputError, UsageError
from volseg.labels import MAX_INDEX, Label, LabelTable

TABLE = LabelTable((Label(2, "spleen", (1, 2, 255)), Label(1, "liver")))


def test_ordered_by_index() -> None:
    assert TABLE.indices == (1, 2)
    assert TABLE.names == ("liver", "spleen")
    assert len(TABLE) == 2
    assert TABLE.name_of(2) == "spleen"
    with pytest.raises(KeyError):
        TABLE.name_of(3)


@pytest.mark.parametrize(
    "labels",
    [
        (Label(0, "background"),),
        (Label(-1, "a"),),
        (Label(65536, "a"),),
        (Label(1, "a"), Label(1, "b")),
        (Label(1, "a"), Label(2, "a")),
    ],
)
def test_a_table_that_makes_no_sense(labels: tuple[Label, ...]) -> None:
    with pytest.raises(InputError):
        LabelTable(labels)


@pytest.mark.parametrize(
    ("indices", "contiguous", "dtype"),
    [
        ((), True, "uint8"),
        ((1, 2, 3), True, "uint8"),
        ((1, 3), False, "uint8"),
        ((2,), False, "uint8"),
        ((255,), False, "uint8"),
        ((256,), False, "uint16"),
        ((1, 65535), False, "uint16"),
    ],
)
def test_gaps_and_the_type_of_masks(indices: tuple[int, ...], contiguous: bool, dtype: str) -> None:
    table = LabelTable.from_indices(indices)
    assert (table.is_contiguous, table.mask_dtype) == (contiguous, dtype)


def test_default_names_leave_out_the_background() -> None:
    table = LabelTable.from_indices([3, 0, 1])
    assert (table.indices, table.names) == ((1, 3), ("label_1", "label_3"))


class TestDatasetJson:
    def test_decathlon_and_nnunet_say_the_same(self) -> None:
        expected = (("liver", "spleen"), (1, 2))
        for labels in (
            {"0": "background", "1": "liver", "2": "spleen"},
            {"background": 0, "liver": 1, "spleen": 2},
            {"background": "0", "spleen": "2", "liver": "1"},
        ):
            table = LabelTable.from_dataset_json(labels)
            assert (table.names, table.indices) == expected

    def test_what_is_written_is_read_again(self) -> None:
        assert TABLE.to_dataset_json() == {"0": "background", "1": "liver", "2": "spleen"}
        again = LabelTable.from_dataset_json(TABLE.to_dataset_json())
        assert (again.names, again.indices) == (TABLE.names, TABLE.indices)

    @pytest.mark.parametrize(
        "labels",
        [
            {"liver": "spleen"},
            {"liver": [1, 2]},
            {"liver": True},
            {"liver": None},
            {"liver": 1.0},
            {"1": "a", "2": "a"},
            {"-1": "a"},
            {"123456": "a"},
            {"٣": "a"},
            {"a": 1, "b": 1},
        ],
    )
    def test_what_makes_no_sense(self, labels: dict[str, object]) -> None:
        with pytest.raises(InputError):
            LabelTable.from_dataset_json(labels)


class TestItkSnap:
    def test_the_form(self) -> None:
        """ITK-SNAP reads index, R, G, B, opacity and two flags as numbers, then the name in quotes."""
        lines = [line for line in TABLE.to_itksnap().splitlines() if not line.startswith("#")]
        fields = [
            re.fullmatch(r' *(\d+) +(\d+) +(\d+) +(\d+) +([\d.]+) +([01]) +([01]) +"([^"]*)"', row) for row in lines
        ]
        assert [(f[1], f[8]) for f in fields if f] == [("0", "Clear Label"), ("1", "liver"), ("2", "spleen")]
        assert fields[2]
        assert fields[2].group(2, 3, 4, 5, 6, 7) == ("1", "2", "255", "1", "1", "1")

    def test_what_is_written_is_read_again(self) -> None:
        again = LabelTable.from_itksnap(TABLE.to_itksnap())
        assert (again.names, again.indices) == (TABLE.names, TABLE.indices)
        assert [label.rgb for label in again.labels] == [label.rgb for label in TABLE.labels]

    def test_reads_a_file_that_itk_snap_wrote(self) -> None:
        text = """################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0    0     0.55  1  1    "Label 1"
    4   255  255    0        1  0  1    "left (upper) lobe"
"""
        table = LabelTable.from_itksnap(text)
        assert table.names == ("Label 1", "left (upper) lobe")
        assert table.indices == (1, 4)
        assert table.labels[1].rgb == (255, 255, 0)

    def test_quotes_and_line_breaks_of_a_name_do_not_break_the_form(self) -> None:
        text = LabelTable((Label(1, 'a "b"\n    2 0 0 0 1 1 1 "evil"'),)).to_itksnap()
        assert LabelTable.from_itksnap(text).indices == (1,)

    def test_names_that_differ_in_nothing_else_stay_apart(self) -> None:
        names = ('a"', "a", "a\\", '"', '"ignore"', "b")
        text = LabelTable(tuple(Label(index, name) for index, name in enumerate(names, 1))).to_itksnap()
        assert LabelTable.from_itksnap(text).names == ("a (1)", "a", "a (3)", "(4)", "ignore (5)", "b")

    @pytest.mark.parametrize("text", ["1 2 3", '1 2 3 4 5 6 7 "a', "<html>", '-1 0 0 0 1 1 1 "a"'])
    def test_what_is_not_that_form(self, text: str) -> None:
        with pytest.raises(InputError):
            LabelTable.from_itksnap(text)


def test_colours_are_bytes_and_neighbours_differ() -> None:
    colours = [label.rgb for label in LabelTable.from_indices(range(1, 200)).labels]
    assert all(0 <= value <= 255 for colour in colours for value in colour)
    assert all(sum(abs(a - b) for a, b in zip(one, two, strict=True)) > 100 for one, two in pairwise(colours))


def test_labels_are_found_by_number_and_name() -> None:
    table = LabelTable((Label(1, "Liver"), Label(2, "liver"), Label(3, "kidney left"), Label(4, "7")))
    assert table.find(["kidney left", 3, "KIDNEY LEFT", "3", 99, "Liver", "liver", "7"]) == (3, 3, 3, 3, 99, 1, 2, 7)
    with pytest.raises(UsageError, match="no label 'LIVER'"):  # two differ in case alone
        table.find(["LIVER"])
    with pytest.raises(UsageError, match="give numbers"):
        LabelTable(()).find(["liver"])
    many = LabelTable.from_indices(range(1, 100))
    with pytest.raises(UsageError, match=r"label_30 \(30\) and 69 more\."):
        many.find(["spleen"])
    assert many.find([]) == ()


def test_several_labels_go_into_one_text() -> None:
    table = LabelTable((Label(1, "liver"), Label(2, "lung, left"), Label(3, "1,2")))
    assert table.find(["liver,7", " 2 , liver,", "Lung, left"]) == (1, 7, 2, 1, 2)
    assert table.find(["1,2"]) == (3,)  # a name goes first
    with pytest.raises(UsageError, match="no label 'spleen'"):
        table.find(["liver,spleen"])
    with pytest.raises(UsageError, match="no label ','"):
        table.find([","])


def test_an_ignore_label_is_no_label_and_stays_with_its_table() -> None:
    table = LabelTable((Label(1, "liver"), Label(2, "spleen")), ignore=7)
    assert (table.indices, table.names, len(table)) == ((1, 2), ("liver", "spleen"), 2)
    assert table.with_values([1, 5, 7]).indices == (1, 2, 5)
    read = LabelTable.from_itksnap(table.to_itksnap())
    assert (read.indices, read.ignore) == ((1, 2), 7)
    assert LabelTable.from_dataset_json(table.to_dataset_json()) == table
    for ignore in (0, 1, 2, MAX_INDEX + 1):
        with pytest.raises(InputError, match="above all"):
            LabelTable(table.labels, ignore)


def test_a_label_is_told_by_number_and_name() -> None:
    table = LabelTable((Label(1, "anterior"), Label(2, "label 2")))
    assert [table.told(index) for index in (1, 2, 3)] == ["1 (anterior)", "2", "3"]

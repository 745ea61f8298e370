"""One label table for a cohort: spellings of one name, a person's choice, and numbers that stay."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from volseg.errors import InputError, UsageError
from volseg.labels import Label, LabelCode, LabelTable
from volseg.nomenclature import LabelChoice, Nomenclature, key_of

if TYPE_CHECKING:
    from pathlib import Path

EVERYTHING = LabelChoice()
NOTHING = LabelTable(())
LIVER = LabelCode("10200004", "SCT", "Liver")


def found(*names: str) -> list[Label]:
    return [Label(1, name) for name in names]


def indices(nomenclature: Nomenclature) -> dict[str, int]:
    return {label.name: label.index for label in nomenclature.table.labels}


@pytest.mark.parametrize(
    ("one", "other"),
    [("Liver", "LIVER"), ("Lung_L", "lung l"), ("GTV-1", "gtv 1"), ("Straße", "STRASSE"), ("Niere ", "Niere"),
     ("\uff27\uff34\uff36", "GTV"), ("Kidney (left)", "kidney,left")],
)  # fmt: skip
def test_case_blanks_and_punctuation_tell_no_names_apart(one: str, other: str) -> None:
    assert key_of(one) == key_of(other)
    assert len(Nomenclature.of(found(one, other), NOTHING, EVERYTHING).table) == 1


@pytest.mark.parametrize(("one", "other"), [("GTV1", "GTV2"), ("Lung L", "Lung R"), ("Łokieć", "Lokiec"), ("+", "-")])
def test_letters_and_digits_do(one: str, other: str) -> None:
    assert key_of(one) != key_of(other)


def test_the_commonest_spelling_stands_whatever_the_order() -> None:
    names = ("Liver", "LIVER", "liver", "LIVER", "Spleen")
    for order in permutations(names):
        assert indices(Nomenclature.of(found(*order), NOTHING, EVERYTHING)) == {"LIVER": 1, "Spleen": 2}


def test_labels_that_are_there_keep_number_and_name_when_the_cohort_grows() -> None:
    first = Nomenclature.of(found("Spleen", "Liver"), NOTHING, EVERYTHING)
    assert indices(first) == {"Liver": 1, "Spleen": 2}
    grown = Nomenclature.of(found("Aorta", "spleen", "LIVER", "LIVER"), first.table, EVERYTHING)
    assert indices(grown) == {"Liver": 1, "Spleen": 2, "Aorta": 3}
    again = Nomenclature.of(found("Liver"), grown.table, EVERYTHING)
    assert indices(again) == indices(grown)
    assert again.index_of("liver") == 1
    assert again.index_of("aorta") == 3
    assert again.index_of("Nothing") is None


def test_a_table_with_gaps_is_only_added_to() -> None:
    table = LabelTable((Label(2, "liver"), Label(9, "spleen")))
    assert indices(Nomenclature.of(found("Aorta"), table, EVERYTHING)) == {"liver": 2, "spleen": 9, "Aorta": 10}


def test_two_labels_of_one_key_that_a_person_wrote_stay() -> None:
    table = LabelTable((Label(1, "GTV 1"), Label(2, "GTV1")))
    words = Nomenclature.of(found("gtv1"), table, EVERYTHING)
    assert indices(words) == {"GTV 1": 1, "GTV1": 2}
    assert words.index_of("gtv-1") == 1


def test_a_choice_maps_names_and_numbers_them_in_its_own_order() -> None:
    choice = LabelChoice.parse("Spleen; Liver=liver segment,LIVER_1 ; Tumour = GTV")
    words = Nomenclature.of(found("liver_1", "Aorta", "spleen"), NOTHING, choice)
    assert indices(words) == {"Spleen": 1, "Liver": 2, "Tumour": 3}
    assert [words.index_of(name) for name in ("LIVER-1", "Liver Segment", "liver", "gtv", "SPLEEN", "Aorta")] == [
        2, 2, 2, 3, 1, None,
    ]  # fmt: skip


def test_a_choice_finds_labels_that_are_there_under_their_own_spelling() -> None:
    table = LabelTable((Label(4, "liver"),))
    words = Nomenclature.of(found("LIVER_1"), table, LabelChoice.parse("Liver=LIVER_1"))
    assert indices(words) == {"liver": 4}
    assert words.index_of("liver 1") == 4


def test_the_background_is_no_label() -> None:
    words = Nomenclature.of(found("Background", "Liver"), NOTHING, EVERYTHING)
    assert indices(words) == {"Liver": 1}
    assert words.index_of("BACKGROUND") is None
    with pytest.raises(UsageError):
        LabelChoice.parse("Background=air")


def test_colour_and_code_come_from_most_structures_and_never_replace_those_that_are_there() -> None:
    red, blue = (255, 0, 0), (0, 0, 255)
    labels = [Label(1, "Liver", blue), Label(1, "LIVER", red, LIVER), Label(1, "liver", red), Label(1, "Liver")]
    for order in permutations(labels):
        (label,) = Nomenclature.of(order, NOTHING, EVERYTHING).table.labels
        assert (label.colour, label.code) == (red, LIVER)
    (label,) = Nomenclature.of(labels, LabelTable((Label(1, "liver", blue),)), EVERYTHING).table.labels
    assert (label.colour, label.code) == (blue, LIVER)


def test_more_names_than_numbers_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        Nomenclature.of(found("new"), LabelTable((Label(65535, "last"),)), EVERYTHING)
    assert caught.value.code == "too-many-labels"


@pytest.mark.parametrize(
    "text",
    ["=liver", "Liver=a;Liver=b", "Liver=a;Spleen=A", "Liver;liver", "A=spleen;B=x,Spleen", "x" * 65, "a\x1bb=c"],
)
def test_choices_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        LabelChoice.parse(text)


def test_a_choice_reads_lines_comments_and_its_own_text() -> None:
    choice = LabelChoice.parse("# organs\nLiver = liver 1, ,LIVER_2 # the whole\n\n;Spleen;\n")
    assert choice.names == ("Liver", "Spleen")
    assert choice.name_of("Liver-2") == "Liver"
    assert LabelChoice.parse(str(choice)) == choice
    assert str(LabelChoice.parse("")) == ""
    assert LabelChoice.parse("").name_of("Anything") == "Anything"


def test_a_choice_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.cfg"
    path.write_bytes("\ufeffŁokieć=elbow\r\nSpleen\r\n".encode())
    assert LabelChoice.of(str(path)) == LabelChoice.read(path)
    assert LabelChoice.read(path).names == ("Łokieć", "Spleen")
    for raw in (b"", b"# nothing\n", b"\xff\xfe", b"#" * (2**20 + 1)):
        path.write_bytes(raw)
        with pytest.raises(UsageError):
            LabelChoice.read(path)
    for absent in (tmp_path / "absent", "absent.txt"):
        with pytest.raises(UsageError, match="absent"):
            LabelChoice.of(str(absent))
    assert LabelChoice.of("Lung.L").names == ("Lung.L",)
    with pytest.raises(UsageError):
        LabelChoice.of("x" * 5000)

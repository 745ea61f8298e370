"""Along which axes names of labels let patches be mirrored."""

from __future__ import annotations

import time

import pytest

from volseg.labels import Label, LabelTable
from volseg.planning.mirroring import mirrored_axes


def axes(*names: str) -> str:
    found, why = mirrored_axes(LabelTable(tuple(Label(number, name) for number, name in enumerate(names, start=1))))
    assert why.startswith("mirroring along" if found else "no mirroring")
    assert (not found or "none along" in why) == (len(found) < 3)
    return "".join("RAS"[axis] for axis in found)


@pytest.mark.parametrize(
    "names",
    [
        ("left kidney", "right kidney"), ("kidney_L", "kidney_R"), ("LeftKidney", "RightKidney"), ("RLung", "LLung"),
        ("lh.cortex", "rh.cortex"), ("linke Niere", "rechte Niere"), ("Niere li.", "Niere re."), ("kidneyleft", "tumour"),
        ("Ren sinister", "Ren dexter"), ("rein gauche", "rein droit"), ("ri\N{LATIN SMALL LETTER N WITH TILDE}\N{LATIN SMALL LETTER O WITH ACUTE}n izquierdo", "tumor"),
        ("liver", "tumour"), ("Spleen",), ("left atrium",), ("Leber", "Tumor"), ("kidney", "aorta"), ("heart",),
        ("gallbladder",), ("hepatic vessel",), ("IVC cava",), ("label 1",), ("organ",), ("1",), ("A",),
        ("one", "two", "three", "four", "five", "six", "seven"), ("LA",),
    ],
)  # fmt: skip
def test_left_and_right_are_kept(names: tuple[str, ...]) -> None:
    assert axes(*names) == "AS"


@pytest.mark.parametrize(
    "names", [("label 1", "label 2"), ("rib1", "rib2", "rib12"), ("L1", "L2"), ("1", "2"), ("A", "B"), ("\N{CJK UNIFIED IDEOGRAPH-524D}", "\N{CJK UNIFIED IDEOGRAPH-5F8C}")]
)  # fmt: skip
def test_names_that_tell_nothing_allow_nothing(names: tuple[str, ...]) -> None:
    assert axes(*names) == ""


@pytest.mark.parametrize(
    "names",
    [
        ("RV", "MLV", "LVC"), ("LV", "MYO", "RV"), ("LUL", "LLL", "RUL"), ("lkidney", "rkidney"), ("kidneyl", "kidneyr"),
        ("LHIPPO", "RHIPPO"), ("\N{CJK UNIFIED IDEOGRAPH-5DE6}kidney", "\N{CJK UNIFIED IDEOGRAPH-53F3}kidney"),
        ("nerka lewa", "nerka prawa"), ("linkernier", "rechternier"), ("kidney (izq)", "kidney (der)"),
        ("thalamus ips", "thalamus contra"), ("kidney I", "kidney II"), ("kidney_lhs", "kidney_rhs"),
        ("hippocampus A", "hippocampus P"), ("first kidney", "second kidney"), ("rein D", "rein G"),
    ],
)  # fmt: skip
def test_what_may_be_a_side_is_none_to_mirror(names: tuple[str, ...]) -> None:
    assert "R" not in axes(*names)


def test_letters_that_tell_back_and_front_apart_allow_no_axis() -> None:
    assert axes("hippocampus A", "hippocampus P") == axes("SVC", "IVC") == ""


def test_of_very_many_names_nobody_compares_all() -> None:
    letters = [chr(0x4E00 + place) for place in range(4000)]
    began = time.monotonic()
    assert axes(*(letter + chr(ord(letter) + 5000) + "kid" for letter in letters)) == ""
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("Anterior", "Posterior"), "RS"), (("upper lobe", "lower lobe"), "RA"), (("superior colliculus",), "RA"),
        (("edema", "tumour core", "enhancing tumour"), "RAS"), (("kidney", "tumour"), "RAS"), (("lesion",), "RAS"),
        (("prostate",), "RAS"), (("white matter", "grey matter", "CSF"), "RAS"),
        (("WT", "TC", "ET"), "RAS"), (("peripheral zone", "transition zone"), "RAS"), (("kidney", "kidney tumor"), "RAS"),
        (("left anterior", "right posterior"), "S"), (("left upper", "ventral"), ""),
    ],
)  # fmt: skip
def test_other_sides_are_kept_as_well(names: tuple[str, ...], expected: str) -> None:
    assert axes(*names) == expected


def test_the_reason_says_once_that_nothing_is_mirrored() -> None:
    table = LabelTable((Label(1, "rib 1"), Label(2, "rib 2")))
    assert mirrored_axes(table) == ((), "no mirroring along R, A and S, since numbers tell labels apart")


def test_the_reason_names_the_labels() -> None:
    table = LabelTable(tuple(Label(number, name) for number, name in enumerate(("liver", "tumour front"), start=1)))
    assert mirrored_axes(table)[1] == (
        "mirroring along S, none along R, since organs lie on one side (liver), "
        "none along A, since sides tell labels apart (tumour front)"
    )

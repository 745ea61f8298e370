"""Codes of labels: what they are called, by the standard."""

from __future__ import annotations

import pytest

from volseg.dicom.labels.concepts import concept_of, meaning_of
from volseg.labels import Label, LabelCode


def test_concepts_of_labels() -> None:
    assert concept_of(Label(1, "LIVER")).type.value == "10200004"
    assert concept_of(Label(1, "Anterior")).type.meaning == "Tissue"
    assert concept_of(Label(1, "Mask")).category.meaning == "Tissue"
    coded = concept_of(Label(1, "a", code=LabelCode("4147007", "SCT", "")))
    assert (coded.category.meaning, coded.type.meaning) == ("Morphologically Abnormal Structure", "Mass")
    private = concept_of(Label(1, "a", code=LabelCode("12", "FMA", "")))
    assert (private.category.meaning, private.type.meaning) == ("Tissue", "a")


@pytest.mark.parametrize(
    ("value", "scheme", "stated", "expected"),
    [
        ("64033007", "SCT", "Kidney", "Kidney"),
        ("64033007", "SCT", "KIDNEY ", "Kidney"),
        ("64033007", "SCT", "Jane Doe", "Kidney"),  # no synonym: what segments are called
        ("64033007", "SCT", "", "Kidney"),
        ("64033007", "SCT", "Endo-renal", "Endo-renal"),  # a synonym that the file states
        ("T-71000", "SRT", "", "Kidney"),  # the older code
        ("399242004", "SCT", "", "acanthioparietal"),  # of no segment: not SNOMED's own full name
        ("1", "SCT", "Jane Doe", ""),
        ("64033007", "FMA", "Jane Doe", ""),
    ],
)
def test_a_code_means_what_the_standard_calls_it(value: str, scheme: str, stated: str, expected: str) -> None:
    assert meaning_of(value, scheme, stated) == expected

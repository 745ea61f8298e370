"""What a label is, in the codes that DICOM knows for segments (PS3.16, CID 7150 and 7151), and what codes mean."""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from volseg.labels import LabelCode
from volseg.nomenclature import key_of

if TYPE_CHECKING:
    from volseg.labels import Label

SNOMED = "SCT"
TISSUE = LabelCode("85756007", SNOMED, "Tissue")
"""Category and type of what nobody has coded: the widest there is, and what 3D Slicer takes too."""
UNCODED = "No code was given; type and category follow from the name alone."
"""Description of a segment whose label has no code, though the standard wants one to stand there."""
_TYPES = {
    "AnatomicalStructure": 7192, "Tissue": 7191, "MorphologicallyAbnormalStructure": 7194, "PhysicalObject": 7193,
    "BodySubstance": 7197, "Substance": 7198, "Function": 7195,
}  # fmt: skip
"""The context group of the types of each category (PS3.16, CID 7150 names the categories)."""
_NAMED = ("AnatomicalStructure", "Tissue")
"""Categories whose types a label's bare name may stand for: elsewhere "normal" or "mask" are types too."""


@dataclass(frozen=True)
class Concept:
    """Category and type of a segment."""

    category: LabelCode
    type: LabelCode


def concept_of(label: Label) -> Concept:
    """What a label is: by its code; without one by its name, where that is the standard's own for a part of the body.

    Names are compared as ``key_of`` has it. A code that is in no context group of segments has the category of tissue.
    """
    by_code, by_name = _known()
    if label.code is None:
        return by_name.get(key_of(label.name), Concept(TISSUE, TISSUE))
    known = by_code.get((label.code.scheme, label.code.value))
    if known is not None:
        return known
    return Concept(TISSUE, replace(label.code, meaning=label.code.meaning or label.name))


def meaning_of(value: str, scheme: str, stated: str) -> str:
    """The standard's words for a code; empty where it has none.

    A code of SNOMED, new or old, often has several synonyms, one for each context group: that which a file states, as
    ``key_of`` compares them; else what segments are called; else the first that isn't SNOMED's own full name.

    Args:
        value: of the code.
        scheme: its designator.
        stated: CodeMeaning of the file, whose text is never taken over.
    """
    synonyms = _synonyms()
    by_code, _ = _known()
    if scheme != SNOMED:
        value = _current(value, scheme)
    found = synonyms.get(value, ())
    wanted = key_of(stated)
    alike = [meaning for meaning in found if key_of(meaning) == wanted]
    if alike:
        return alike[0]
    concept = by_code.get((SNOMED, value))
    if concept is not None:
        return concept.type.meaning
    return min(found, key=lambda meaning: meaning.endswith(")"), default="")


@functools.cache
def _current(value: str, scheme: str) -> str:
    """The SNOMED CT code for one of older schemes; empty where there is none."""
    from pydicom.sr.coding import Code

    old = Code(value, scheme, "")
    return next((new for new in _synonyms() if Code(new, SNOMED, "") == old), "")  # comparing, pydicom translates


@functools.cache
def _synonyms() -> dict[str, tuple[str, ...]]:
    """All meanings of SNOMED CT codes in the context groups."""
    from pydicom.sr.codedict import codes

    found: dict[str, list[str]] = defaultdict(list)
    for keyword in codes.SCT.dir():
        concept = getattr(codes.SCT, keyword)
        found[concept.value].append(str(concept.meaning))
    return {value: tuple(meanings) for value, meanings in found.items()}


@functools.cache
def _known() -> tuple[dict[tuple[str, str], Concept], dict[str, Concept]]:
    """Concepts by code and by the key of their meaning."""
    from pydicom.sr.codedict import codes

    by_code: dict[tuple[str, str], Concept] = {}
    by_name: dict[str, Concept] = {}
    for name, group in _TYPES.items():
        one = getattr(codes.cid7150, name)
        category = LabelCode(one.value, one.scheme_designator, one.meaning)
        types = getattr(codes, f"cid{group}")
        for keyword in types.dir():
            found = getattr(types, keyword)
            concept = Concept(category, LabelCode(found.value, found.scheme_designator, found.meaning))
            by_code.setdefault((found.scheme_designator, found.value), concept)
            if name in _NAMED:
                by_name.setdefault(key_of(found.meaning), concept)
    return by_code, by_name

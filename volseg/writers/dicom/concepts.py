"""What a label is, in the codes that DICOM knows for segments (PS3.16, CID 7150 and 7151)."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from volseg.labels import LabelCode
from volseg.nomenclature import key_of

if TYPE_CHECKING:
    from volseg.labels import Label

TISSUE = LabelCode("85756007", "SCT", "Tissue")
"""Category and type of what nobody has coded: the widest there is, and what 3D Slicer takes too."""
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

"""The part of complex values that an MR image is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from volseg.dicom.file import private_tags as private
from volseg.dicom.file import tags

if TYPE_CHECKING:
    from volseg.dicom.file.header import Header

COMPONENTS = ("magnitude", "phase", "real", "imaginary")
"""Of the complex values of MR, in the order of GE's numbers."""
COMPONENT_WORDS = {
    **dict.fromkeys(("M", "MAG", "MAGNITUDE"), "magnitude"),
    **dict.fromkeys(("P", "PHASE", "PHASE MAP", "PHASE_MAP"), "phase"),
    **dict.fromkeys(("R", "REAL"), "real"),
    **dict.fromkeys(("I", "IMAGINARY"), "imaginary"),
}
_PHILIPS_COMPONENT = re.compile(r"([MPRI])_(FFE|SE|IR|TSE|GRE|EPI|B0|B1|PCA|DIXON)")


def component_of(header: Header) -> str:
    """Which part of its complex values an MR image is, by its ImageType or GE's private element; empty where untold.

    Args:
        header: of a file or of one of its frames.
    """
    words = header.texts(tags.IMAGE_TYPE)[2:]
    found = {COMPONENT_WORDS[word] for word in words if word in COMPONENT_WORDS}
    found |= {COMPONENT_WORDS[match[1]] for match in map(_PHILIPS_COMPONENT.fullmatch, words) if match}
    if not found:
        places = private.places(header, private.GE_COMPONENT, private.reserved_blocks(header))
        numbers = [header.unsigned(tag) for tag in places]
        found = {COMPONENTS[number] for number in numbers if number is not None and number < len(COMPONENTS)}
    return found.pop() if len(found) == 1 else ""

"""Private elements that volseg reads, and where a file holds them (PS3.5, 7.8.1).

A maker's program reserves a block of 256 elements of a private group by writing its name into one of the elements 10 to
FF; which block it gets is told by the file alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from volseg.dicom.file.elements import ElementValues

_BLOCKS = range(0x10, 0x100)


@dataclass(frozen=True, slots=True)
class PrivateElement:
    """An element of a maker: its group, the name that reserves the block, and its number in the block."""

    group: int
    creator: str
    element: int


CSA_IMAGE_HEADER = PrivateElement(0x0029, "SIEMENS CSA HEADER", 0x10)
IMAGES_IN_MOSAIC = PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0A)

# What tells of diffusion: pydicom's and dcm2niix's lists of private elements.
SIEMENS_B_VALUE = PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0C)
SIEMENS_DIRECTION = PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0E)
GE_B_VALUE = PrivateElement(0x0043, "GEMS_PARM_01", 0x39)
GE_DIRECTION = tuple(PrivateElement(0x0019, "GEMS_ACQU_01", element) for element in (0xBB, 0xBC, 0xBD))
PHILIPS_B_VALUE = PrivateElement(0x2001, "Philips Imaging DD 001", 0x03)
PHILIPS_DIRECTION = tuple(
    PrivateElement(0x2005, "Philips MR Imaging DD 001", element) for element in (0xB0, 0xB1, 0xB2)
)
UIH_B_VALUE = PrivateElement(0x0065, "Image Private Header", 0x09)
UIH_DIRECTION = PrivateElement(0x0065, "Image Private Header", 0x37)

GE_COMPONENT = PrivateElement(0x0043, "GEMS_PARM_01", 0x2F)
"""0 magnitude, 1 phase, 2 real, 3 imaginary."""

WANTED = (
    SIEMENS_B_VALUE, SIEMENS_DIRECTION, GE_B_VALUE, *GE_DIRECTION, PHILIPS_B_VALUE, *PHILIPS_DIRECTION, UIH_B_VALUE,
    UIH_DIRECTION, GE_COMPONENT,
)  # fmt: skip


def all_places(elements: Iterable[PrivateElement]) -> frozenset[int]:
    """Every tag that elements and the names of their creators may have."""
    return frozenset(
        tag
        for one in elements
        for block in _BLOCKS
        for tag in (one.group << 16 | block, one.group << 16 | block << 8 | one.element)
    )


def creators(element: PrivateElement) -> frozenset[int]:
    """Every tag at which the name of an element's creator may stand."""
    return frozenset(element.group << 16 | block for block in _BLOCKS)


def reserved_blocks(file: ElementValues) -> dict[tuple[int, str], list[int]]:
    """The blocks that a file's creators have reserved, by group and creator."""
    found: dict[tuple[int, str], list[int]] = {}
    for tag in file.values:
        if tag & 0x10000 and (tag & 0xFFFF) in _BLOCKS:
            found.setdefault((tag >> 16, file.text(tag)), []).append(tag & 0xFF)
    return found


def places(file: ElementValues, element: PrivateElement, blocks: dict[tuple[int, str], list[int]]) -> tuple[int, ...]:
    """The tags at which a file has a value of an element, ascending; several where its creator has several blocks.

    Args:
        file: its values.
        element: that is looked for.
        blocks: of the file, as ``reserved_blocks`` gives them.
    """
    found = sorted(blocks.get((element.group, element.creator), ()))
    tags_of_it = (element.group << 16 | block << 8 | element.element for block in found)
    return tuple(tag for tag in tags_of_it if file.values.get(tag))

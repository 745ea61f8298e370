"""Damage to DICOM files, as worn disks, broken transfers and people with bad intent do it; repeatable by its seed."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
HEADER_SHARE = 0.8
"""Of the blows that go to the header: pixels are most of a file, and a blow to them tells little."""
LENGTHS = (0, 1, 2, 7, 0x7FFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
WORDS = (0, 1, 3, 8, 0x7FFF, 0x8000, 0xFFFF)
TEXTS = (
    b"1e308",
    b"-1e-308",
    b"nan",
    b"inf",
    b"0",
    b"-1",
    b"99999999999999",
    b"\\\\\\\\\\\\",
    b"1\\1\\1",
    b"",
    b"\xff\x00",
)
SYNTAXES = tuple(
    b"1.2.840.10008.1.2" + end
    for end in (b"", b".1", b".2", b".1.99", b".5", b".4.50", b".4.51", b".4.57", b".4.70", b".4.80", b".4.90", b".4.91")
)  # fmt: skip
MAX_ELEMENTS = 5000


@dataclass(frozen=True, slots=True)
class Element:
    """Where one element of a file stands: its tag at ``start``, its value at ``value``, and its length field."""

    start: int
    value: int
    end: int
    length_at: int
    length_bytes: int


def elements_of(data: bytes) -> list[Element]:
    """The top-level elements that a simple walk finds, little endian; it stops where it loses its way."""
    position = 132 if data[128:132] == b"DICM" else 0
    found: list[Element] = []
    while position + 12 <= len(data) and len(found) < MAX_ELEMENTS:
        vr = data[position + 4 : position + 6]
        if vr in LONG_VRS:
            length_at, count, value = position + 8, 4, position + 12
        elif vr.isalpha() and vr.isupper():
            length_at, count, value = position + 6, 2, position + 8
        else:
            length_at, count, value = position + 4, 4, position + 8
        length = int.from_bytes(data[length_at : length_at + count], "little")
        end = value if length == 0xFFFFFFFF else min(value + length, len(data))
        found.append(Element(position, value, end, length_at, count))
        position = end
    return found


class Damage:
    """One file's bytes on the way to ruin."""

    def __init__(self, data: bytes, random: np.random.Generator) -> None:
        self.data = bytearray(data)
        self.random = random
        self.elements = elements_of(data)

    def number(self, below: int) -> int:
        """A whole number from 0 on."""
        return int(self.random.integers(max(1, below)))

    def place(self) -> int:
        """Somewhere in the file, in the header for the most part."""
        header = self.elements[-1].value if self.elements else len(self.data)
        return self.number(header if self.random.random() < HEADER_SHARE else len(self.data))

    def element(self) -> Element:
        """One of the elements."""
        return self.elements[self.number(len(self.elements))]

    def flip_bits(self) -> None:
        for _ in range(1 + self.number(24)):
            self.data[self.place()] ^= 1 << self.number(8)

    def overwrite(self) -> None:
        start, count = self.place(), 1 + self.number(64)
        self.data[start : start + count] = self.random.bytes(len(self.data[start : start + count]))

    def truncate(self) -> None:
        del self.data[self.place() :]

    def lie_about_a_length(self) -> None:
        element = self.element()
        true = element.end - element.value
        choices = (*LENGTHS, true - 1, true + 1, true * 2, len(self.data))
        length = choices[self.number(len(choices))] % (1 << 8 * element.length_bytes)
        self.data[element.length_at : element.length_at + element.length_bytes] = length.to_bytes(
            element.length_bytes, "little"
        )

    def swap_tags(self) -> None:
        first, second = self.element().start, self.element().start
        one, other = bytes(self.data[first : first + 4]), bytes(self.data[second : second + 4])
        self.data[first : first + 4], self.data[second : second + 4] = other, one

    def change_a_vr(self) -> None:
        start = self.element().start
        vrs = (b"US", b"SQ", b"UN", b"OW", b"DS", b"??", b"\0\0", b"UT")
        self.data[start + 4 : start + 6] = vrs[self.number(len(vrs))]

    def change_a_value(self) -> None:
        element = self.element()
        count = element.end - element.value
        if count == 2:
            new = struct.pack("<H", WORDS[self.number(len(WORDS))])
        else:
            text = TEXTS[self.number(len(TEXTS))]
            new = text[:count] + b" " * min(count - len(text[:count]), 64)
        self.data[element.value : element.value + len(new)] = new

    def lose_an_element(self) -> None:
        element = self.element()
        del self.data[element.start : element.end]

    def repeat_an_element(self) -> None:
        element = self.element()
        self.data[element.end : element.end] = self.data[element.start : element.end][:65536] * (1 + self.number(4))

    def claim_another_syntax(self) -> None:
        for element in self.elements:
            if self.data[element.start : element.start + 4] == b"\x02\0\x10\0":
                count = element.end - element.value
                syntax = SYNTAXES[self.number(len(SYNTAXES))]
                self.data[element.value : element.end] = syntax[:count].ljust(count, b"\0")

    def nest(self) -> None:
        start = self.element().start
        opening = struct.pack("<HH2sHI", 0x0099, 0x1010, b"SQ", 0, 0xFFFFFFFF)
        opening += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        self.data[start:start] = opening * (1, 20, 200, 5000)[self.number(4)]


MUTATIONS: dict[str, Callable[[Damage], None]] = {
    "bit flips": Damage.flip_bits,
    "overwritten bytes": Damage.overwrite,
    "truncation": Damage.truncate,
    "length field": Damage.lie_about_a_length,
    "swapped tags": Damage.swap_tags,
    "value representation": Damage.change_a_vr,
    "value": Damage.change_a_value,
    "lost element": Damage.lose_an_element,
    "repeated element": Damage.repeat_an_element,
    "transfer syntax": Damage.claim_another_syntax,
    "nested sequences": Damage.nest,
}


def mutate(data: bytes, seed: int, number: int) -> tuple[bytes, str]:
    """Damage a file in one to three ways; the same seed and number do the same to the same bytes.

    Returns:
        The damaged bytes, and the names of what was done.
    """
    random = np.random.default_rng((seed, number))
    damage = Damage(data, random)
    done = []
    for _ in range((1, 1, 2, 3)[damage.number(4)]):
        name = list(MUTATIONS)[damage.number(len(MUTATIONS))]
        if damage.data and damage.elements:
            MUTATIONS[name](damage)
            damage.elements = elements_of(bytes(damage.data)) or damage.elements[:0]
            done.append(name)
    return bytes(damage.data), ", ".join(done)

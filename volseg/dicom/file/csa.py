"""Parser of Siemens' private CSA header: lists of texts by name, in two formats.

Siemens doesn't document it; both forms are described by NiBabel (doc/source/dicom/siemens_csa.rst).
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

from volseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MAX_BYTES = 2**20
"""Real ones have some 10 kB."""
MAX_ENTRIES = 1000
"""Of names, and of values under one name. Real ones have about 100."""
MAX_NUMBER = 1e6
CHECK_WORDS = frozenset({77, 205})
"""One of them stands after each count."""
_MAGIC = b"SV10"
_HEAD = struct.Struct("<II")
_ENTRY = struct.Struct("<64si4siii")
_VALUE = struct.Struct("<4i")


def read_csa(raw: bytes, names: Collection[str] = ()) -> Mapping[str, tuple[str, ...]]:
    """The texts of a CSA header by name, empty ones left out.

    Args:
        raw: the value of the private element.
        names: those that are wanted; all where there are none.

    Raises:
        InputError: ``damaged-file``, it is no CSA header, or a damaged one.
    """
    if len(raw) > MAX_BYTES:
        raise _damaged()
    is_second_form = raw.startswith(_MAGIC)
    try:
        return _entries(raw, 8 if is_second_form else 0, names, is_second_form=is_second_form)
    except struct.error as error:
        raise _damaged() from error


def csa_number(text: str) -> float:
    """A value as a number; NaN where it is none, or none of a scanner's."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if abs(number) < MAX_NUMBER else math.nan


def _entries(raw: bytes, position: int, names: Collection[str], *, is_second_form: bool) -> dict[str, tuple[str, ...]]:
    count, check = _HEAD.unpack_from(raw, position)
    position += _HEAD.size
    if not 0 < count <= MAX_ENTRIES or check not in CHECK_WORDS:
        raise _damaged()
    found: dict[str, tuple[str, ...]] = {}
    surplus: int | None = None
    for _ in range(count):
        name, _multiplicity, _vr, _type, items, check = _ENTRY.unpack_from(raw, position)
        position += _ENTRY.size
        if not 0 <= items <= MAX_ENTRIES or check not in CHECK_WORDS:
            raise _damaged()
        if surplus is None:
            # In the first form each length is too large by the count of values under the first name.
            surplus = 0 if is_second_form else items
        texts, key = [], _text(name)
        wanted = not names or key in names
        for _ in range(items):
            lengths = _VALUE.unpack_from(raw, position)
            position += _VALUE.size
            length = lengths[1] if is_second_form else lengths[0] - surplus
            if not 0 <= length <= len(raw) - position:
                raise _damaged()
            if wanted:
                texts.append(_text(raw[position : position + length]))
            position += -(-length // 4) * 4
        if wanted:
            found[key] = tuple(filter(None, texts))
    return found


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("latin-1").strip()


def _damaged() -> InputError:
    return InputError("A file's CSA header is damaged. Export it again.", code="damaged-file")

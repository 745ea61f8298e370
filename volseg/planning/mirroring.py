"""Along which axes patches may be mirrored: where no label is told apart from another by its side."""

from __future__ import annotations

import re
import unicodedata
from itertools import combinations
from typing import TYPE_CHECKING

from volseg.words import listed

if TYPE_CHECKING:
    from volseg.labels import LabelTable

AXES = ("R", "A", "S")
MANY_LABELS = 6
"""So many structures are an atlas, in which some lie on one side whatever their names say."""
MOST_LABELS = 64
"""Of more names nobody looks at each pair, and nothing is mirrored."""
SHOWN = 3


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TOLD_APART: tuple[frozenset[str], ...] = (
    _words(
        "left right l r lt rt lh rh lft rgt links linke linker linkes linken rechts rechte rechter rechtes rechten li re "
        "sinister sinistra sinistrum sinistro dexter dextra dextrum destra destro sin dex dx sx gauche droit droite "
        "izquierdo izquierda derecho derecha esquerdo esquerda direito direita"
    ),
    _words(
        "anterior posterior ant post front back ventral dorsal frontal occipital rostral vordere vorderer vorderes "
        "hintere hinterer hinteres vorne hinten anteriore posteriore anterieur posterieur"
    ),
    _words(
        "superior inferior sup inf upper lower top bottom cranial caudal cephalic obere oberer oberes untere unterer "
        "unteres oben unten superiore inferiore superieur inferieur"
    ),
)
"""Words that say on which side along R, A and S a structure lies."""
JOINED = (("left", "right", "links", "rechts"), ("anterior", "posterior"), ("superior", "inferior"))
"""Those of them that are found inside longer words as well."""
ONE_SIDED = re.compile(
    "liver|hepa|leber|foie|spleen|splen|milz|lien|stomach|gastr|magen|heart|cardi|herz|coeur|atri|ventric|aort|cava|"
    "colon|kolon|bowel|intestin|darm|duoden|pancrea|pankrea|gall|esophag|appendi|portal|mediastin|figado|higado|bazo"
)
"""Parts of names of organs that lie on one side or are not symmetric, or lie among such as do."""
ABBREVIATED = re.compile("(?!rib|leg|lip|low)[lr][a-z]{1,2}")
"""Such as LV and RV, or RUL: two or three letters, the first of which may well stand for left or right."""
TISSUES = _words(
    "core whole enhancing non necrotic necrosis edema oedema tumor tumour lesion matter white grey gray zone central "
    "peripheral transition wt tc et ed ncr net gm wm csf pz tz cz"
)
"""Words that tell structures apart by what they are, and never by where they lie."""
SAME_LETTERS = 4
"""Names that begin or end with so many same letters may be those of a pair."""
TELLS_NOTHING = _words(
    "label labels class structure roi region segment seg mask object organ foreground target value part tissue"
)


def asked_axes(labels: LabelTable, axes: tuple[int, ...]) -> tuple[str, tuple[str, ...]]:
    """What is said of a mirroring that a person asked for, and sentences on labels whose names speak against it.

    Args:
        labels: that are learnt.
        axes: 0 to 2 for R, A, S.
    """
    told = (
        "no mirroring, as asked for" if not axes else f"mirroring along {_and([AXES[a] for a in axes])}, as asked for"
    )
    _, other = mirrored_axes(labels)
    words = {name: _split(name) for name in labels.names}
    against = ((AXES[axis], _why_not(words, axis)) for axis in axes)
    warnings = tuple(
        f"Patches are mirrored along {axis} as you asked, though {reason}: a mirrored patch may show one label as the "
        "other, or what no body has."
        for axis, reason in against
        if reason
    )
    return f"{told}; by the names of the labels it would be {other}", warnings


def mirrored_axes(labels: LabelTable) -> tuple[tuple[int, ...], str]:
    """Along which axes (0 to 2 for R, A, S) a mirrored patch is one that could be, and why not along the others.

    Names decide, and where they don't tell, nothing is mirrored: labels that differ by a number alone may be counted
    along any axis (vertebrae, ribs, teeth), and what tells a pair apart by a word that is not known (nerka lewa, nerka
    prawa) may be a side. Along R nothing is mirrored either where an organ lies on one side, since
    no such body is ever seen. Along A and S none is seen at all, and nnU-Net's experience is that it helps all the same.
    """
    words = {name: _split(name) for name in labels.names}
    reasons = [_why_not(words, axis) for axis in range(3)]
    kept = tuple(axis for axis in range(3) if not reasons[axis])
    whys: dict[str, list[str]] = {}
    for axis, reason in enumerate(reasons):
        whys.setdefault(reason, []).append(AXES[axis])
    told = [f"none along {_and(axes)}, since {reason}" for reason, axes in whys.items() if reason]
    if kept:
        return kept, ", ".join([f"mirroring along {_and(whys[''])}", *told])
    return kept, "no mirroring" + ", ".join(told).removeprefix("none")


def _and(axes: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(axes[:-1]), axes[-1])))


def _why_not(words: dict[str, frozenset[str]], axis: int) -> str:
    """Why nothing is mirrored along an axis; empty where it may be."""
    sided = [
        name
        for name, parts in words.items()
        if parts & TOLD_APART[axis]
        or any(word in part for part in parts for word in JOINED[axis])
        or (axis == 0 and any(ABBREVIATED.fullmatch(part) for part in parts))
    ]
    if sided:
        return f"sides tell labels apart ({listed(sided, SHOWN)})"
    if len(words) > 1 and len({re.sub(r"[0-9]+|\b[IVX]+\b", "", name).strip().lower() for name in words}) < len(words):
        return "numbers tell labels apart"
    if len(words) > MOST_LABELS:
        return f"of {len(words)} structures some may be told apart by their sides"
    pair = next((pair for pair in combinations(words, 2) if _are_alike(*pair)), ())
    if pair:
        return f"sides may tell labels apart ({listed(pair, SHOWN)})"
    unknown = [name for name, parts in words.items() if not parts - TELLS_NOTHING]
    if unknown and (axis == 0 or len(words) > 1):
        return f"a name says nothing of its side ({listed(unknown, SHOWN)})"
    if axis:
        return ""
    organs = [name for name, parts in words.items() if any(ONE_SIDED.search(part) for part in parts)]
    if organs:
        return f"organs lie on one side ({listed(organs, SHOWN)})"
    return f"of {len(words)} structures some may lie on one side" if len(words) > MANY_LABELS else ""


def _split(name: str) -> frozenset[str]:
    """The words of a name in small letters without accents, of ``LeftKidney``, ``RLung`` and ``kidney_L2`` as well.

    Of single letters only L and R stay: others tell nothing.
    """
    return frozenset(word for word in re.findall("[a-z]+", _plain(name)) if len(word) > 1 or word in "lr")


def _plain(name: str) -> str:
    """In small letters without accents, words of ``LeftKidney`` and ``RLung`` parted."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return re.sub("(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", plain).lower()


def _are_alike(one: str, other: str) -> bool:
    """Whether two names have much in common, and each something of its own of which nobody knows what it says."""
    known = TISSUES.union(*TOLD_APART)
    first, second = (
        " ".join(word for word in re.findall(r"[^\W\d_]+", _plain(name)) if word not in known) for name in (one, other)
    )
    begin, end = _same(first, second), _same(first[::-1], second[::-1])
    shortest = min(len(first), len(second))
    if len(first) == len(second) <= SAME_LETTERS:  # such as LUL and LLL
        return 0 < begin + end == shortest - 1
    return SAME_LETTERS <= max(begin, end) < shortest


def _same(one: str, other: str) -> int:
    """How many letters are the same until two differ."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )

"""Rules as a person gives them: options of a command line, and keywords in Python."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, cast

from volseg.errors import UsageError
from volseg.labels import LabelTable, is_name
from volseg.options import Many, each
from volseg.postprocessing.closing import Closing
from volseg.postprocessing.fill_between_labels import FillBetweenLabels
from volseg.postprocessing.fill_holes import FillHoles
from volseg.postprocessing.instances import Instances
from volseg.postprocessing.keep_inside import KeepInside
from volseg.postprocessing.keep_largest import KeepLargest
from volseg.postprocessing.opening import Opening
from volseg.postprocessing.remove_small import RemoveSmall
from volseg.postprocessing.remove_touching_border import RemoveTouchingBorder
from volseg.postprocessing.rule import ALL, Group, Labels, Rule
from volseg.postprocessing.rules import PostprocessingRules
from volseg.postprocessing.smoothing import Smoothing
from volseg.postprocessing.threshold import Threshold
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ML = 1000.0
"""In mm3."""
UNITS = {"ml": ML, "mm3": 1.0}
OPTION_OF = {"smoothing": "smooth"}
"""Where the option is called otherwise than the rule."""


@dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """What to do with masks, in the order of the options."""

    threshold: Many[str] = ()
    """Labels, and the probability below which a voxel of theirs becomes background: liver:0.7; for volseg predict alone,
    before all other rules. Of regions, the probability that they are cut at."""

    keep_largest: Many[str | int] = ()
    """Labels of which only the largest connected component stays: numbers such as 1,2, names such as liver as the
    bundle has them, or labels.txt or dataset.json beside the masks, liver+tumour for labels that count as one, or all;
    with a count, such as kidney:2, so many of the largest. A number is never taken for a name."""

    minimum_size_mm3: float = 0.0
    """Remove connected components of any label below this volume, in mm3."""

    remove_small: Many[str] = ()
    """Labels, and the volume below which their components are removed: liver:2ml, tumour:50mm3."""

    keep_inside: Many[str] = ()
    """Labels whose components are removed where they touch another label nowhere: tumour:liver, or nodule:lung:5 for a
    lung that is grown by 5 mm."""

    remove_touching_border: Many[str | int] = ()
    """Labels whose components are removed where they touch the border of the image."""

    opening: Many[str] = ()
    """Labels, and the radius in mm of a ball that has to fit into what stays of them: liver:3."""

    closing: Many[str] = ()
    """Labels, and the radius in mm of a ball that can't reach what is added to them: liver:3."""

    smooth: Many[str] = ()
    """Labels, and the standard deviation in mm of a Gaussian that smooths their surfaces together: all:1.5."""

    fill_between_labels: Many[str] = ()
    """Labels with a plus, and a width in mm: background at most so far from two of them gets the nearest:
    femur+pelvis:2, or all:2."""

    fill_holes: Many[str | int] = ()
    """Labels whose holes are filled, where that label alone encloses them in 3D: numbers, names, or all."""

    instances: Many[str | int] = ()
    """Labels whose components get numbers of their own, 2001, 2002 ... for label 2; with a length in mm, such as
    lesion:1, touching ones are split at necks whose radius is narrower by so much."""

    connectivity: Literal[6, 18, 26] = 26
    """Voxels are connected across faces (6), edges too (18), or corners too (26)."""

    order: Many[str] = ()
    """The order in which rules are applied, by the names of their options, one for each value; on the command line that
    of the options, and in Python that of this list."""

    @property
    def asks_rules(self) -> bool:
        """Whether there is something to do."""
        return any(getattr(self, name) for name in RULE_OPTIONS)

    def rules(self, table: LabelTable | None = None, regions: LabelTable | None = None) -> PostprocessingRules:
        """The rules that these options ask for.

        Args:
            table: what the labels are called; without it they are known by their numbers alone.
            regions: where masks are made of regions, these, in the order of the network's outputs; a threshold is for them.

        Raises:
            UsageError: a name is unknown, a label is below 1, a number is missing or makes no sense, the order names
                what is no rule, or a rule names a label after its instances got numbers of their own.
        """
        reader = _Reader(table or LabelTable(()), self.connectivity)
        of_regions = reader if regions is None else _Reader(regions, self.connectivity, by_name=True)
        found: list[Rule] = []
        for name, values in self._in_order():
            found.extend((of_regions if name == "threshold" else reader).read(name, values))
        _require_labels_left(found)
        return PostprocessingRules(tuple(found))

    def _in_order(self) -> Iterator[tuple[str, list[str | int]]]:
        """Each run of values of one option; the last that names an option takes what is left of it."""
        left = {name: _values(getattr(self, name)) for name in RULE_OPTIONS}
        wanted: Sequence[str] = each(self.order)
        wanted = [name.strip("-").replace("-", "_") for name in wanted]
        unknown = [name for name in wanted if name not in left]
        if unknown:
            raise UsageError(f"The order names {', '.join(unknown)}, which is none of {', '.join(RULE_OPTIONS)}.")
        named = Counter(wanted)
        run: list[str | int] = []
        sequence = [*wanted, *(name for name in RULE_OPTIONS if name not in named)]
        for place, name in enumerate(sequence):
            named[name] -= 1
            taken = left[name][:1] if named[name] > 0 else left[name]
            left[name] = left[name][len(taken) :]
            run += taken
            if run and (place + 1 == len(sequence) or sequence[place + 1] != name):
                yield name, run
                run = []


RULE_OPTIONS = tuple(field.name for field in fields(RuleOptions) if field.name not in ("connectivity", "order"))
"""The options that are rules, in the order that they have where none is given."""


def _require_labels_left(rules: Sequence[Rule]) -> None:
    split: set[int] = set()
    for number, rule in enumerate(rules):
        if isinstance(rule, Threshold):  # is applied before all others, wherever it stands
            continue
        named = PostprocessingRules((rule,)).labels
        if named & split or (named and any(isinstance(one, Instances) and one.labels == ALL for one in rules[:number])):
            raise UsageError(
                f"{_option(OPTION_OF.get(rule.key, rule.key))} comes after --instances, which leaves nothing of the label but numbers of its own. Give "
                "--instances last, or all labels here.",
                code="rule",
            )
        split |= {*rule.flat} if isinstance(rule, Instances) else set()


def _values(value: object) -> list[str | int]:
    if isinstance(value, float):
        return [str(value)] if value else []
    found: tuple[str | int, ...] = each(cast("Many[str | int]", value))
    return list(found)


@dataclass(frozen=True)
class _Reader:
    """Reads the words of options."""

    table: LabelTable
    connectivity: Literal[6, 18, 26]
    by_name: bool = False
    """Whether these are regions: a number may be that of an output, or of a label in the mask that they are merged into."""

    def read(self, name: str, words: Sequence[str | int]) -> Iterator[Rule]:
        """The rules that the values of one option stand for; one for all labels with the same number."""
        if name == "minimum_size_mm3":
            yield RemoveSmall(minimum_mm3=float(words[0]), connectivity=self.connectivity)
            return
        together: dict[tuple[str, ...], list[str]] = {}
        for word in self.table.each(words):
            labels, *numbers = self._parts(name, str(word))
            together.setdefault(tuple(numbers), []).append(labels)
        if len(together) > 1 and name != "fill_between_labels" and any(ALL in those for those in together.values()):
            raise UsageError(
                f"{_option(name)} takes all labels, and some of them with another number: all would count for these too. "
                "Name each label with its number.",
                code="rule",
            )
        for behind, those in together.items():
            yield from self._rules(name, those, behind)

    def _rules(self, name: str, words: list[str], numbers: tuple[str, ...]) -> Iterator[Rule]:
        if name == "fill_between_labels":
            for word in words:
                group = ALL if word == ALL else self._group(word)
                yield FillBetweenLabels(labels=group, within_mm=_number(name, numbers[0]))
            return
        labels = self._labels(words)
        how = self.connectivity
        match name:
            case "threshold":
                yield Threshold(labels=labels, minimum=_probability(numbers[0]))
            case "keep_largest":
                count = _whole(name, numbers[0]) if numbers else 1
                yield KeepLargest(labels=labels, count=count, connectivity=how)
            case "remove_small":
                yield RemoveSmall(labels=labels, minimum_mm3=_volume(name, numbers[0]), connectivity=how)
            case "keep_inside":
                inside, *grown = numbers
                mm = _number(name, grown[0]) if grown else 0.0
                yield KeepInside(labels=labels, inside=self._group(inside), grown_mm=mm, connectivity=how)
            case "remove_touching_border":
                yield RemoveTouchingBorder(labels=labels, connectivity=how)
            case "opening":
                yield Opening(labels=labels, radius_mm=_number(name, numbers[0]))
            case "closing":
                yield Closing(labels=labels, radius_mm=_number(name, numbers[0]))
            case "smooth":
                yield Smoothing(labels=labels, sigma_mm=_number(name, numbers[0]))
            case "fill_holes":
                yield FillHoles(labels=labels, connectivity=how)
            case _:
                mm = _number(name, numbers[0]) if numbers else 0.0
                yield Instances(labels=labels, split_mm=mm, connectivity=how)

    def _parts(self, name: str, word: str) -> list[str]:
        """A word's labels, and what stands behind a colon; a name may have colons itself."""
        least, most, example = FORMS[name]
        if not least and self._is_known(word):
            return [word]
        parts = word.split(":")
        for count in range(len(parts), 0, -1):
            head, rest = ":".join(parts[:count]), parts[count:]
            if rest and self._is_known(head):
                parts = [head, *rest]
                break
        if not least <= len(parts) - 1 <= most or not all(part.strip() for part in parts):
            raise UsageError(
                f"{_option(name)} {word}: this option takes labels as in {example}, each with its own number."
                if most
                else f"{_option(name)} {word}: this option takes labels alone, such as {example}.",
                code="rule",
            )
        return [part.strip() for part in parts]

    def _is_known(self, name: str) -> bool:
        return any(known.name.casefold() == name.casefold() for known in self.table.labels)

    def _group(self, word: str) -> Group:
        """Labels with a plus between them, which a name may have itself."""
        parts = word.split("+")
        names = [word] if self._is_known(word) or not all(map(str.strip, parts)) else parts
        if self.by_name and not (len(names) == 1 and is_name(names[0])):
            raise UsageError(
                f"{word}: these are regions, each of which is called by its name: {listed(self.table.names)}.",
                code="no-label",
            )
        return self.table.find(names)

    def _labels(self, words: Sequence[str]) -> Labels:
        if ALL in words:
            return ALL
        groups = dict.fromkeys(map(self._group, words))
        return tuple(group[0] if len(group) == 1 else group for group in groups)


FORMS: dict[str, tuple[int, int, str]] = {
    "threshold": (1, 1, "liver:0.7"),
    "keep_largest": (0, 1, "liver or kidney:2"),
    "remove_small": (1, 1, "liver:2ml or tumour:50mm3"),
    "keep_inside": (1, 2, "tumour:liver or nodule:lung:5"),
    "remove_touching_border": (0, 0, "liver"),
    "opening": (1, 1, "liver:3"),
    "closing": (1, 1, "liver:3"),
    "smooth": (1, 1, "liver:1.5"),
    "fill_between_labels": (1, 1, "femur+pelvis:2"),
    "fill_holes": (0, 0, "liver"),
    "instances": (0, 1, "lesion or lesion:1"),
}
"""How many words stand behind the labels of an option, at least and at most, and an example."""


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _number(name: str, text: str) -> float:
    try:
        value = float(text.removesuffix("mm"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{_option(name)}: {text!r} is no number of mm, as in {FORMS[name][2]}.", code="rule")
    return value


def _probability(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"--threshold: {text!r} is no probability, as in {FORMS['threshold'][2]}.", code="rule"
        ) from None


def _whole(name: str, text: str) -> int:
    if re.fullmatch(r"[0-9]{1,4}", text) is None:
        raise UsageError(f"{_option(name)}: {text!r} is no count, as in {FORMS[name][2]}.", code="rule")
    return int(text)


def _volume(name: str, text: str) -> float:
    unit = next((unit for unit in UNITS if text.endswith(unit)), None)
    if unit is None:
        raise UsageError(f"{_option(name)}: {text!r} is no volume in ml or mm3, as in {FORMS[name][2]}.", code="rule")
    return _number(name, text.removesuffix(unit).strip()) * UNITS[unit]

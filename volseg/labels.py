"""The label table: what each whole number in a mask stands for."""

from __future__ import annotations

import colorsys
import re
import unicodedata
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeGuard

from volseg.atomic import write_text
from volseg.errors import InputError, UsageError
from volseg.files import read_bounded
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

BACKGROUND = 0
MAX_INDEX = 65535
"""Masks are at most uint16."""
IGNORE_NAME = "ignore"
"""What nnU-Net calls the number of voxels that nobody judged; no structure can have this name."""
LABELS_NAME = "labels.txt"
"""Lies beside masks, in ITK-SNAP's label description format."""
MAX_LABELS_BYTES = 2**24
"""65,535 labels with long names; what is larger is no label description."""
MAX_FOLDER_LENGTH = 60
SHOWN_NAMES = 30
"""A sentence lists this many names and counts the others."""


def is_name(label: int | str) -> TypeGuard[str]:
    """Whether what a person gives for a label is a name: a number is none, in digits neither."""
    return isinstance(label, str) and re.fullmatch(r"[0-9]{1,5}", label) is None


@dataclass(frozen=True)
class LabelCode:
    """A coded concept, as DICOM SEG carries it (PS3.3, 8.8)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Label:
    """One structure: its whole number in the mask, its name, its colour as 8-bit RGB, its code if known."""

    index: int
    name: str
    colour: tuple[int, int, int] | None = None
    code: LabelCode | None = None

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The label's own colour, or one made from its index that neighbours don't share."""
        if self.colour is not None:
            return self.colour
        hue = (0.02 + 0.61803398875 * (self.index - 1)) % 1.0  # golden-ratio steps keep neighbours apart
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.75 if self.index % 2 else 0.95, 0.95)
        return round(red * 255), round(green * 255), round(blue * 255)


@dataclass(frozen=True)
class Region:
    """A structure that may overlap others, such as a whole tumour and its core: a mask of its own for each.

    Args:
        name: of the structure.
        labels: of a mask whose labels exclude each other, those whose union it is; none where that is not known.
        value: its number in a mask that merges regions, where later ones are painted over earlier ones, as nnU-Net's
            ``regions_class_order`` has it; None where nothing merges them.
    """

    name: str
    labels: tuple[int, ...] = ()
    value: int | None = None

    @property
    def table(self) -> LabelTable:
        """Of its own mask: 1 is the region."""
        return LabelTable((Label(1, self.name),))


def numbered(regions: Sequence[Region], values: Sequence[int]) -> tuple[Region, ...]:
    """The regions with their numbers in a mask that merges them, painted one over the other in their order.

    Args:
        regions: in the order in which they are painted.
        values: a number for each, as nnU-Net's ``regions_class_order`` has them.

    Raises:
        InputError: there are more or fewer numbers, one stands twice, or one would stand for another region: painting the
            regions of a reference has to give such a label back.
    """
    if len(values) != len(regions):
        raise InputError(f"there are {len(regions)} regions and {len(values)} numbers. Give each region one.")
    if len(set(values)) != len(values) or not all(1 <= value <= MAX_INDEX for value in values):
        raise InputError(f"each region needs a number of its own, from 1 to {MAX_INDEX}.")
    painted_last = {label: region for region in regions for label in region.labels}
    for region, value in zip(regions, values, strict=True):
        if value not in region.labels:
            raise InputError(f"the region {region.name!r} gets the number {value}, which is not among its labels.")
        last = painted_last[value]
        if last is not region:
            raise InputError(
                f"the region {region.name!r} gets the number {value}, a label of {last.name!r} too, which is painted later. "
                "Name large regions first, and give each a label that none of the later ones has."
            )
    return tuple(replace(region, value=value) for region, value in zip(regions, values, strict=True))


def plain_word(name: str) -> str:
    """A name as a word for files, such as ``tumor-core``: plain letters, digits and hyphens; empty where it has none."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_FOLDER_LENGTH].strip("-")


def folders_of(regions: Sequence[Region], taken: Collection[str] = ()) -> tuple[str, ...]:
    """A folder for the masks of each region, such as ``tumor-core``: plain letters, digits and hyphens, no two alike.

    Args:
        regions: whose masks; their names are a stranger's.
        taken: names of folders that are for something else.
    """
    folders: list[str] = []
    for number, region in enumerate(regions, 1):
        slug = plain_word(region.name)
        is_free = slug and slug not in folders and slug not in taken
        folders.append(slug if is_free else f"{slug or 'region'}-{number}")
        while folders[-1] in (*folders[:-1], *taken):
            folders[-1] += f"-{number}"
    return tuple(folders)


def regions_table(regions: Sequence[Region]) -> LabelTable:
    """The names of regions in their order, from 1."""
    return LabelTable(tuple(Label(number, region.name) for number, region in enumerate(regions, 1)))


@dataclass(frozen=True)
class LabelTable:
    """The labels above background, ordered by index.

    Args:
        labels: those that stand for a structure.
        ignore: the number of voxels that nobody judged: no loss and no metric counts them, and no mask that is predicted
            has it. As in nnU-Net it is above all others.

    Raises:
        InputError: an index is not in 1..65535, or an index or name stands twice, or the ignore label is not the highest.
    """

    labels: tuple[Label, ...]
    ignore: int | None = None

    def __post_init__(self) -> None:
        indices = [label.index for label in self.labels]
        if self.ignore is not None and not max(indices, default=1) < self.ignore <= MAX_INDEX:
            raise InputError(
                f"The ignore label is {self.ignore}, and has to be above all other labels, as nnU-Net wants it. "
                "Give it the highest number, in dataset.json and in the masks."
            )
        if any(not 1 <= index <= MAX_INDEX for index in indices):
            raise InputError(f"A label table needs whole numbers from 1 to {MAX_INDEX}, and 0 is the background.")
        if len(set(indices)) != len(indices) or len({label.name for label in self.labels}) != len(indices):
            raise InputError("A label table names an index or a structure twice. Give each its own.")
        object.__setattr__(self, "labels", tuple(sorted(self.labels, key=lambda label: label.index)))

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def indices(self) -> tuple[int, ...]:
        """The indices above background, ascending."""
        return tuple(label.index for label in self.labels)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of their indices."""
        return tuple(label.name for label in self.labels)

    @property
    def is_contiguous(self) -> bool:
        """Whether the indices are 1, 2, 3 ... without a gap, so that they can be a network's channels."""
        return self.indices == tuple(range(1, len(self.labels) + 1))

    @property
    def mask_dtype(self) -> str:
        """``uint8``, or ``uint16`` above 255 labels."""
        return "uint8" if not self.labels or self.indices[-1] <= 255 else "uint16"

    def name_of(self, index: int) -> str:
        """The name for an index.

        Raises:
            KeyError: the table has no such index.
        """
        for label in self.labels:
            if label.index == index:
                return label.name
        raise KeyError(index)

    def told(self, index: int) -> str:
        """A label for a person: ``2 (posterior)``, or the number alone where nothing names it."""
        names = (label.name for label in self.labels if label.index == index)
        name = next(names, f"label {index}")
        return str(index) if name == f"label {index}" else f"{index} ({name})"

    def unnamed(self, values: Iterable[int]) -> tuple[int, ...]:
        """Those of some values of a mask that the table doesn't name, background left out."""
        return tuple(sorted({*values}.difference(self.indices, (BACKGROUND,))))

    def find(self, labels: Iterable[int | str]) -> tuple[int, ...]:
        """The indices of labels that a person gives by number or name, such as ``1`` or ``liver``.

        A number, in digits too, is never taken for a name, and need not be in the table. Upper and lower case of a name
        matter only where two names differ in nothing else. A text that is no name may hold several: ``1,2``.

        Raises:
            UsageError: there is no such name; the message lists those there are.
        """
        found = []
        for label in self.each(labels):
            if not is_name(label):
                found.append(int(label))
                continue
            alike = [known for known in self.labels if known.name.casefold() == label.casefold()]
            exact = [known for known in alike if known.name == label] or alike
            if len(exact) != 1:
                raise UsageError(f"There is no label {label!r}. {self._listed()}", code="no-label")
            found.append(exact[0].index)
        return tuple(found)

    def each(self, labels: Iterable[int | str]) -> tuple[int | str, ...]:
        """The same labels, those that a person wrote into one text apart; a name with a comma stays whole."""
        names = {known.name.casefold() for known in self.labels}
        apart: list[int | str] = []
        for label in labels:
            if isinstance(label, str) and label.casefold() not in names:
                apart.extend([word.strip() for word in label.split(",") if word.strip()] or [label])
            else:
                apart.append(label)
        return tuple(apart)

    def _listed(self) -> str:
        if not self.labels:
            return "No labels.txt or dataset.json beside the masks names any: give numbers."
        return f"There are {listed([f'{label.name} ({label.index})' for label in self.labels], SHOWN_NAMES)}."

    def with_values(self, values: Iterable[int]) -> LabelTable:
        """The table with a neutral name, such as ``label 4``, for each value of a mask that it lacks."""
        taken = set(self.names)
        beyond = sorted({int(value) for value in values}.difference(self.indices, (BACKGROUND, self.ignore)))
        named = (f"label {value}" for value in beyond)
        free = (name if name not in taken else f"{name} (not in the table)" for name in named)
        added = (Label(value, name) for value, name in zip(beyond, free, strict=True))
        return LabelTable((*self.labels, *added), self.ignore)

    @classmethod
    def from_indices(cls, indices: Iterable[int]) -> LabelTable:
        """A table for masks that nobody named: ``label_1``, ``label_2`` ..."""
        return cls(tuple(Label(index, f"label_{index}") for index in indices if index != BACKGROUND))

    @classmethod
    def from_dataset_json(cls, labels: Mapping[str, object]) -> LabelTable:
        """Read the ``labels`` of a ``dataset.json``: MSD's ``{"1": "liver"}`` or nnU-Net's ``{"liver": 1}``.

        What is called ``ignore``, in any case, is nnU-Net's ignore label.

        Raises:
            InputError: an entry is neither, or names a region of several labels; or the ignore label is not the highest.
        """
        found: list[Label] = []
        ignore = None
        for key, value in labels.items():
            if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", key):
                index, name = int(key), value
            elif isinstance(value, int) and not isinstance(value, bool):
                index, name = value, key
            elif isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value):
                index, name = int(value), key
            else:
                raise InputError(
                    f"dataset.json: the label entry {key!r} is not a whole number with a name. "
                    'Write the labels as {"0": "background", "1": "liver"}.'
                )
            if name.casefold() == IGNORE_NAME:
                if ignore is not None:
                    raise InputError("dataset.json: there are two ignore labels. Keep one.")
                ignore = index
            elif index != BACKGROUND:
                found.append(Label(index, name))
        return cls(tuple(found), ignore)

    def to_dataset_json(self) -> dict[str, str]:
        """The ``labels`` of a ``dataset.json`` in MSD's form, background included."""
        ignored = {} if self.ignore is None else {str(self.ignore): IGNORE_NAME}
        return {str(BACKGROUND): "background"} | {str(label.index): label.name for label in self.labels} | ignored

    def details_to_json(self) -> dict[str, dict[str, object]]:
        """The colours and codes of labels that have one, by index: ``label_details`` of a ``dataset.json``."""
        details: dict[str, dict[str, object]] = {}
        for label in self.labels:
            colour = {"colour": list(label.colour)} if label.colour else {}
            code = {"code": asdict(label.code)} if label.code else {}
            if colour or code:
                details[str(label.index)] = {**colour, **code}
        return details

    def to_itksnap(self) -> str:
        """ITK-SNAP's label description format: index, R, G, B, opacity, visibility, mesh visibility, "name"."""
        lines = [
            "################################################",
            "# ITK-SnAP Label Description File",
            "# File format:",
            "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL",
            "################################################",
            '    0     0    0    0        0  0  0    "Clear Label"',
        ]
        plain = {one.index: "".join(c for c in one.name if c.isprintable() and c not in '"\\') for one in self.labels}
        taken = {"", IGNORE_NAME, *(one.name for one in self.labels if plain[one.index] == one.name)}
        for label in self.labels:
            red, green, blue = label.rgb
            name = plain[label.index]
            if name != label.name:  # no two may be alike without what was left out
                name = name if name.casefold() not in map(str.casefold, taken) else f"{name} ({label.index})".strip()
                taken.add(name)
            lines.append(f'{label.index:5d}  {red:4d} {green:4d} {blue:4d}        1  1  1    "{name}"')
        if self.ignore is not None:
            lines.append(f'{self.ignore:5d}   128  128  128        1  0  0    "{IGNORE_NAME}"')
        return "\n".join(lines) + "\n"

    def describe(self, path: Path) -> bool:
        """Write ``labels.txt`` for ITK-SNAP; colours that a person gave the labels there stay, and so does another's file.

        Returns:
            Whether the file there describes these labels now.

        Raises:
            FileError: the file can't be written.
        """
        described = self.to_itksnap()
        if path.exists():
            try:
                there = read_bounded(path, MAX_LABELS_BYTES, "label description").decode("utf-8")
                colours = {label.index: label.colour for label in LabelTable.from_itksnap(there).labels}
            except (OSError, ValueError):
                return False
            labels = (replace(label, colour=colours.get(label.index, label.colour)) for label in self.labels)
            described = LabelTable(tuple(labels), self.ignore).to_itksnap()
            if described == there:
                return True
        write_text(path, described)
        return True

    @classmethod
    def read(cls, path: Path) -> LabelTable:
        """Read a ``labels.txt``, ITK-SNAP's label description.

        Raises:
            FileError: the file can't be read.
            InputError: the file is too large, or a line is not in that format.
        """
        text = read_bounded(path, MAX_LABELS_BYTES, "label description").decode(errors="replace")
        try:
            return cls.from_itksnap(text)
        except InputError as error:
            raise InputError(
                f"{path}: {error.message} Remove the file or write it anew.", code=error.code, path=path
            ) from error

    @classmethod
    def from_itksnap(cls, text: str) -> LabelTable:
        """Read ITK-SNAP's label description format. What is called ``ignore`` is the ignore label.

        Raises:
            InputError: a line is not in that format, or the ignore label is not the highest.
        """
        found = []
        ignore = None
        for line in text.splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            match = re.fullmatch(r'\s*(\d{1,5})\s+(\d+)\s+(\d+)\s+(\d+)\s+[\d.]+\s+\d\s+\d\s+"(.*)"\s*', line, re.ASCII)
            if not match:
                raise InputError(f"This is not a line of an ITK-SNAP label description: {line!r}")
            index, red, green, blue = (int(match[k]) for k in range(1, 5))
            if match[5].strip().casefold() == IGNORE_NAME:
                ignore = index
            elif index != BACKGROUND:
                found.append(Label(index, match[5], (red, green, blue)))
        return cls(tuple(found), ignore)

"""Nomenclature of structures across a cohort: spellings, the chosen names, and their label indices."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from volseg.errors import FileError, InputError, UsageError
from volseg.files import read_bounded
from volseg.labels import IGNORE_NAME, MAX_INDEX, Label, LabelTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_CHOICE_BYTES = 2**20
"""Of a file of names; ten thousand lines take half of it."""
MAX_NAME_LENGTH = 64
"""Of a label's name, as DICOM has it for structures (PS3.5, 6.2: LO)."""
_FILE_SUFFIXES = frozenset({".txt", ".cfg", ".csv", ".conf", ".labels"})
"""A text that ends so is a file that is not there, and no label."""
_BETWEEN = re.compile(r"[\W_]+")


def key_of(name: str) -> str:
    """What two spellings of one name share: the letters and digits, without case, blanks and punctuation."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return _BETWEEN.sub("", plain) or plain


@dataclass(frozen=True)
class LabelChoice:
    """Which structures become labels, and what they are called; without names, all do, as they are spelled.

    Args:
        names: the labels, in the order in which they get their numbers.
        spellings: the name for the key of each spelling.
    """

    names: tuple[str, ...] = ()
    spellings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> LabelChoice:
        """Read ``Liver=liver,LIVER_1; Spleen=spleen``, one label between semicolons or on a line.

        What stands before the equals sign is the label's name, and one of its spellings; a ``#`` begins a comment.

        Raises:
            UsageError: a label has no name, stands twice, or shares a spelling with another.
        """
        names: list[str] = []
        spellings: dict[str, str] = {}
        lines = (line.split("#", 1)[0] for line in text.splitlines())
        for entry in (entry.strip() for line in lines for entry in line.split(";")):
            if not entry:
                continue
            name, _, rest = entry.partition("=")
            name = " ".join(name.split())
            if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
                raise UsageError(
                    f"The labels have an entry without a name of 1 to {MAX_NAME_LENGTH} characters: {entry[:80]!r}. "
                    "Write them as Liver=liver,LIVER_1; Spleen=spleen."
                )
            if key_of(name) == key_of("background"):
                raise UsageError("The background is no label; what no label claims is background.")
            names.append(name)
            for spelling in (name, *rest.split(",")):
                if not spelling.strip():
                    continue
                known = spellings.setdefault(key_of(spelling), name)
                if known != name or names.count(name) > 1:
                    raise UsageError(
                        f"The labels {known!r} and {name!r} share the spelling {spelling.strip()[:80]!r}. "
                        "Spellings that differ only in case, blanks or punctuation are one."
                    )
        return cls(tuple(names), spellings)

    @classmethod
    def of(cls, text: str) -> LabelChoice:
        """Read labels from a text, or from the file that it names.

        Raises:
            UsageError: they make no sense, or the file can't be read.
        """
        if "=" in text or ";" in text or not text:
            return cls.parse(text)
        path = Path(text)
        try:
            is_file = path.is_file()
        except OSError:  # too long for a name
            is_file = False
        if is_file or len(path.parts) > 1 or path.suffix.lower() in _FILE_SUFFIXES:
            return cls.read(path)
        return cls.parse(text)

    @classmethod
    def read(cls, path: Path) -> LabelChoice:
        """Read a file of such lines.

        Raises:
            UsageError: the file can't be read, or makes no sense.
        """
        try:
            choice = cls.parse(read_bounded(path, MAX_CHOICE_BYTES, "list of labels").decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} can't be read as a UTF-8 text of labels.") from error
        except (FileError, InputError) as error:
            raise UsageError(error.message) from error
        if not choice.names:
            raise UsageError(f"{path} names no label.")
        return choice

    def name_of(self, spelling: str) -> str | None:
        """The label for a structure that is spelled so; None where none was chosen for it."""
        if not self.names:
            return spelling
        return self.spellings.get(key_of(spelling))

    def __str__(self) -> str:
        """The choice as one line, in the form that ``parse`` reads; spellings by their keys."""
        others = {name: [key for key, of in self.spellings.items() if of == name] for name in self.names}
        return "; ".join(f"{name}={','.join(keys)}" for name, keys in others.items())


@dataclass(frozen=True)
class Nomenclature:
    """One label table for a cohort.

    Args:
        table: the labels.
        choice: which structures become labels.
    """

    table: LabelTable
    choice: LabelChoice

    @classmethod
    def of(cls, found: Iterable[Label], known: LabelTable, choice: LabelChoice) -> Nomenclature:
        """The table for structures as they are spelled, on top of one that is there.

        Labels that are known keep their number and name. A chosen name gets the next number, in the order of the
        choice, whether it was found or not, so that numbers don't depend on which cases came first. Without a choice
        names are sorted, and of several spellings the commonest stands.

        Args:
            found: every structure's name, colour and code, as often as it occurs; the index counts for nothing.
            known: the table of an earlier run, or the one that a person wrote.
            choice: what is wanted.

        Raises:
            InputError: there are more labels than numbers, with the code ``too-many-labels``.
        """
        by_key: dict[str, list[Label]] = {}
        for label in found:
            name = choice.name_of(label.name)
            if name is not None:
                by_key.setdefault(key_of(name), []).append(replace(label, name=name))
        table = list(known.labels)
        taken = {key_of(label.name) for label in table}
        wanted = [key_of(name) for name in choice.names] or sorted(by_key)
        named = {key_of(name): name for name in choice.names}
        highest = max((label.index for label in table), default=0)
        for key in wanted:
            if key in taken or key == key_of("background"):
                continue
            highest += 1
            name = named.get(key) or _commonest(label.name for label in by_key[key])
            if name.casefold() == IGNORE_NAME:  # in dataset.json that is no structure
                name = f"{name} (structure)"
            table.append(Label(highest, name))
            taken.add(key)
        if highest > MAX_INDEX:
            raise InputError(
                f"The structures have more names than a mask has numbers ({MAX_INDEX}). Choose some by --labels.",
                code="too-many-labels",
            )
        return cls(LabelTable(tuple(_described(label, by_key.get(key_of(label.name), ())) for label in table)), choice)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {key_of(label.name): label.index for label in reversed(self.table.labels)}  # the first of a name stands

    def index_of(self, spelling: str) -> int | None:
        """The number of a structure that is spelled so; None where it is no label."""
        name = self.choice.name_of(spelling)
        return None if name is None else self._indices.get(key_of(name))


T = TypeVar("T")


def _commonest(values: Iterable[T]) -> T:
    """The value that occurs most often; of several the first in the order of their texts."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], repr(value)))


def _described(label: Label, found: Iterable[Label]) -> Label:
    """The label with the commonest colour and code of its structures, where it has none of its own."""
    colours = [other.colour for other in found if other.colour is not None]
    codes = [other.code for other in found if other.code is not None]
    return replace(
        label,
        colour=label.colour or (_commonest(colours) if colours else None),
        code=label.code or (_commonest(codes) if codes else None),
    )

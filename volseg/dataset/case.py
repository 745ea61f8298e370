"""A case: the images of one patient's examination that belong together, and what can be wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.words import listed, printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from volseg.errors import VolsegError


@dataclass(frozen=True)
class Case:
    """One case of a data set.

    Args:
        name: the file name of its image without suffix and channel number; its mask bears the same name.
        images: one file per channel in the order of the data set's channels, or one file whose fourth axis is channels.
        label: its mask; None where nobody has drawn one.
        patient: a pseudonym; cases of one patient stay together in a fold. None where it is not known.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    patient: str | None = None


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a data set.

    Args:
        code: the stable reason code, such as ``grids-differ``.
        case: the case's name; empty for the data set as a whole.
        message: one line for a person: what is wrong and what to do. Files are named relative to the data set.
        is_error: whether planning and training refuse; the others are warnings.
    """

    code: str
    case: str
    message: str
    is_error: bool = True

    def __post_init__(self) -> None:
        # File names and dataset.json are written by strangers: a line break would forge a line, an escape the screen.
        object.__setattr__(self, "case", printable(self.case))
        object.__setattr__(self, "message", printable(self.message))

    @classmethod
    def of_error(cls, error: VolsegError, folder: Path, case: str = "") -> Fault:
        """What an error says, its file relative to a folder."""
        return cls(error.code, case, error.within(folder))

    def __str__(self) -> str:
        told = self.message.startswith((f"{self.case}: ", f"{self.case} "))
        return f"{self.case}: {self.message}" if self.case and not told else self.message


SUMMED_UP = ("missing-file", "outside-folder")
"""The codes of faults that many cases have for one reason, as where a folder was not copied."""
SHOWN_CASES = 3


def summed_up(faults: Sequence[Fault]) -> tuple[Fault, ...]:
    """The faults to show: of one that many cases have for one reason the first few, and how many more there are."""
    shown: list[Fault] = []
    more: dict[tuple[str, bool], list[str]] = {}
    for fault in faults:
        kind = (fault.code, fault.is_error)
        if fault.code in SUMMED_UP and fault.case:
            more.setdefault(kind, []).append(fault.case)
            if len(more[kind]) > SHOWN_CASES:
                continue
        shown.append(fault)
    for (code, is_error), cases in more.items():
        rest = cases[SHOWN_CASES:]
        if rest:
            said = f"{len(rest)} more such faults, of {listed(list(dict.fromkeys(rest)), SHOWN_CASES)}."
            shown.append(Fault(code, "", said, is_error))
    return tuple(shown)

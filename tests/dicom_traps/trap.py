"""What a trap is: files, the truth about them, and what must become of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests.dicom_traps.stack import Truth

CANARY = "QZXCANARYQZX"
"""A word that no output may hold."""


class Action(StrEnum):
    """What must become of a trap."""

    PLAIN = "plain"
    """No fault: one volume, nothing recorded."""
    FIX = "fix"
    """Put right, and the change recorded."""
    SPLIT = "split"
    """Several volumes."""
    REFUSE = "refuse"
    """Not converted, with a code of its own."""
    SKIP = "skip"
    """No volume, and no failure."""


@dataclass(frozen=True)
class Trap:
    """One trap.

    Args:
        name: of the trap, and of its folder.
        action: what must become of it.
        write: writes the files into a folder, and gives the volumes that must come out.
        code: the reason code of a refusal; for what is skipped the code, or the kind it is counted as.
        changes: the codes of what is recorded as put right.
        warnings: the codes of what a person is warned of.
        refused: the codes of the parts that are refused while the other volumes come out.
        says: a pattern that a refusal's sentence must hold.
        allowed: changes and warnings that may be there or not.
        cautious: volumes may be refused as well as come out right, where a careful person may do either.
        options: those of the conversion, where the default doesn't do.
        exact: whether voxels must be the stored ones; else they were interpolated, and must lie on the truth's
            linear function.
    """

    name: str
    action: Action
    write: Callable[[Path], tuple[Truth, ...]]
    code: str = ""
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    says: str = ""
    allowed: frozenset[str] = frozenset()
    cautious: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    exact: bool = True

    def __str__(self) -> str:
        return self.name

"""Record of a run: the cases that it trained on, and its provenance."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from volseg.atomic import write_bytes
from volseg.errors import DataSetError
from volseg.files import read_bounded
from volseg.outcomes import Provenance
from volseg.training.cases import FoldCases
from volseg.training.precision import Bfloat16Change

if TYPE_CHECKING:
    from pathlib import Path

RECORD_FORMAT = 1
MAX_RECORD_BYTES = 64 * 2**20
"""A hundred thousand cases take 10 MB."""


@dataclass(frozen=True)
class RunRecord:
    """What a run was begun with, and each way in which it went on.

    Args:
        run: ``fold_0``, or ``all_cases``.
        cases: those that it trains on and holds out.
        digests: of the voxels of each case's image and mask, by its name; empty where volseg doesn't know them.
        sessions: options, versions, device and checksums (of data, split and train config) of the first call, and of
            each later one that differed from the one before.
        validated: at how many of the cases held out each validation looks, where there is no time for all; else None.
        bfloat16_change: what bfloat16 changes in masks of its best model; None where that was not measured.
    """

    run: str
    cases: FoldCases = field(default_factory=lambda: FoldCases((), ()))
    digests: Mapping[str, str] = field(default_factory=dict)
    sessions: tuple[Provenance, ...] = ()
    validated: int | None = None
    bfloat16_change: Bfloat16Change | None = None
    format: int = RECORD_FORMAT

    @property
    def data_sha256(self) -> str:
        """Over the names and voxels of all its cases; another one means other data."""
        lines = (f"{name} {digest}\n" for name, digest in sorted(self.digests.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def changed(self, digests: Mapping[str, str]) -> tuple[str, ...]:
        """The cases whose voxels are others by now, sorted."""
        return tuple(sorted(name for name, digest in self.digests.items() if digests.get(name, digest) != digest))

    def with_digests(self, digests: Mapping[str, str]) -> RunRecord:
        """The record with the voxels of its cases as they are now."""
        return replace(self, digests={name: digests.get(name, digest) for name, digest in self.digests.items()})

    def with_session(self, session: Provenance) -> RunRecord:
        """The record with another session, where it differs from the last."""
        same = bool(self.sessions) and _plain(self.sessions[-1]) == _plain(session)
        return self if same else replace(self, sessions=(*self.sessions, session))

    def write(self, path: Path) -> None:
        """Write the record atomically as JSON.

        Raises:
            FileError: the file can't be written.
        """
        write_bytes(path, TypeAdapter(RunRecord).dump_json(self, indent=1) + b"\n")

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """Read what a run recorded.

        Raises:
            DataSetError: the record is damaged, or of another version of volseg.
        """
        try:
            found = TypeAdapter(cls).validate_json(read_bounded(path, MAX_RECORD_BYTES, "record of a run"))
            if found.format != RECORD_FORMAT:
                raise ValueError("another format")
        except (OSError, ValueError) as error:  # pydantic's, too
            raise DataSetError(
                f"{path}, the run's record of its cases, can't be read. Train the fold again with --fresh.",
                code="bad-record",
                path=path,
            ) from error
        return found


def _plain(session: Provenance) -> object:
    return TypeAdapter(Provenance).dump_python(session, mode="json")

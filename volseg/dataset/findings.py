"""What the check found in a case, kept for the next time: a case whose files hold the same bytes is not read again.

Kept in the person's cache folder, an entry for each case, by a digest of all that the findings depend on: the bytes of
the case's files, its name, the data set's labels and channels, volseg's own rules, and the libraries that measure. Removing the folder costs time,
and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING

from pydantic import TypeAdapter
from xxhash import xxh3_128

from volseg.atomic import write_bytes
from volseg.dataset.case import Fault
from volseg.dataset.measures import CaseMeasures
from volseg.errors import VolsegError
from volseg.files import read_bounded
from volseg.personal import cache_folder, is_own
from volseg.stamps import content_digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RULES = ("dataset", "volume", "resampling", "components.py", "voxels.py", "grid.py", "labels.py")
"""Where the code lies that decides what is found; another version of it finds everything anew."""
LIBRARIES = ("numpy", "scipy", "nibabel", "isal", "connected-components-3d")
"""What reads and measures beside that code; another version of it does, too."""
WHOLE_FILES = (".nii", ".nii.gz")
"""Formats whose voxels lie in the file that is named; others may name a second one."""
MAX_ENTRY_BYTES = 2**26
MAX_ENTRIES = 20_000
"""The oldest go first; an entry has 0.1 MB."""


@dataclass(frozen=True)
class Findings:
    """What one case told: its faults, what the data set as a whole is judged by, and what a plan is chosen from.

    Args:
        faults: its own.
        digest: of the voxels of all channels; None where they can't be read.
        seen: the labels that occur.
        ct_like: whether an image of it looks like CT.
        off_whole: a number of the mask that is a hair off the whole one that it is read as.
        mask_digest: of the mask's voxels; None where there is none.
        measures: None where there is no mask, or the case has faults.
    """

    faults: tuple[Fault, ...] = ()
    digest: str | None = None
    seen: tuple[int, ...] = ()
    ct_like: bool = False
    off_whole: float | None = None
    mask_digest: str | None = None
    measures: CaseMeasures | None = None


_FORM = TypeAdapter(Findings)


@dataclass(frozen=True)
class FindingsPlace:
    """Where the findings of one case are kept.

    Args:
        path: of the entry.
        digests: of the case's files, as they were when this was made.
    """

    path: Path
    paths: tuple[Path, ...]
    digests: tuple[str, ...]

    @classmethod
    def of(cls, paths: Sequence[Path], *depends: object, anew: bool = False) -> FindingsPlace | None:
        """The place for a case of these files; None where nothing can be kept.

        Args:
            paths: all files of the case.
            depends: whatever else the findings depend on; its ``repr`` tells it apart.
            anew: whether the files are read, also where the file system says that they did not change.
        """
        rules = _rules()
        if not rules or not all(path.name.lower().endswith(WHOLE_FILES) for path in paths):
            return None
        try:
            digests = tuple(content_digest(path, anew=anew) for path in paths)
            name = xxh3_128(repr((rules, digests, depends)).encode()).hexdigest()
            return cls(cache_folder() / "findings" / f"{name}.json", tuple(paths), digests)
        except VolsegError:  # no home, or a file that can't be read, which the check tells of
            return None

    def read(self) -> Findings | None:
        """What is kept; None where there is nothing, it is damaged, or others than this person may write there."""
        try:
            if not is_own(self.path.parent):
                return None
            raw = read_bounded(self.path, MAX_ENTRY_BYTES, "kept findings", follow=False)
            checksum, _, content = raw.partition(b"\n")
            return _FORM.validate_json(content) if checksum == _checksum(content) else None
        except (OSError, VolsegError, ValueError):
            return None

    def keep(self, found: Findings) -> None:
        """Keep what was found, unless the files have changed meanwhile; a full disk costs the next run its time only."""
        content = _FORM.dump_json(found)
        try:
            if tuple(map(content_digest, self.paths)) == self.digests:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_bytes(self.path, _checksum(content) + b"\n" + content)
        except (OSError, VolsegError):
            return


def forget_old_findings() -> None:
    """Remove the entries above ``MAX_ENTRIES`` that were made first."""
    try:
        entries = sorted((cache_folder() / "findings").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for path in entries[:-MAX_ENTRIES]:
            path.unlink()
    except (OSError, VolsegError):
        return


@cache
def _rules() -> str:
    """A digest of the code that decides what is found; empty where it can't be read."""
    found = xxh3_128(repr([(name, version(name)) for name in LIBRARIES]).encode())
    try:
        for name in RULES:
            place = files("volseg") / name
            sources = sorted(place.iterdir(), key=lambda one: one.name) if place.is_dir() else [place]
            for source in sources:
                if source.name.endswith(".py"):
                    found.update(source.name.encode() + b"\0" + source.read_bytes())
    except OSError:
        return ""
    return found.hexdigest()


def _checksum(content: bytes) -> bytes:
    return xxh3_128(content).hexdigest().encode()

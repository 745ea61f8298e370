"""Which training runs were made here, by this person: training goes on from those, and from no stranger's.

A bundle that came from elsewhere may bring complete runs: their checkpoints, history, split and scores would pass for this
person's work. What was made here is kept beside trust, a file for each run, by a checksum of its place.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from volseg.atomic import write_bytes, write_error
from volseg.errors import BundleError, FileError
from volseg.personal import is_own, personal_folder
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from volseg.bundle.folder import Bundle
    from volseg.progress import Progress


def remember_run(place: Path) -> None:
    """Record that what lies in a place, or will, was made here or is taken over.

    Args:
        place: the folder of a run, or a file that belongs to several.

    Raises:
        FileError: it can't be recorded.
    """
    note = _note(place)
    if note.exists():
        return
    try:
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise write_error(note, error) from error
    write_bytes(note, b"")


def remember_made(place: Path, progress: Progress) -> None:
    """Record that something was made here; where that can't be, say what it will cost, and go on."""
    try:
        remember_run(place)
    except FileError as error:
        progress.say(f"warning: {error} Training goes on from {place} only with --adopt-runs.")


def is_own_run(place: Path) -> bool:
    """Whether what lies in a place was made here or was taken over."""
    try:
        note = _note(place)
        return is_own(note.parent) and note.is_file()  # others could pass a run off as this person's
    except (OSError, FileError):  # there is no such folder, or no home
        return False


def require_own_runs(bundle: Bundle, places: Sequence[Path], *, adopt: bool) -> None:
    """Refuse to go on with what somebody else made, or take it over.

    Args:
        bundle: the bundle.
        places: folders of runs, and files that belong to several; one that is absent or empty is nobody's.
        adopt: whether a person asked to take them over.

    Raises:
        BundleError: there is something that was not made here.
        FileError: it can't be recorded that it was taken over.
    """
    theirs = [place for place in places if _holds_something(place) and not is_own_run(place)]
    if adopt:
        for place in theirs:
            remember_run(place)
    elif theirs:
        named = listed([place.relative_to(bundle.root).as_posix() for place in theirs])
        raise BundleError(
            f"{named} of {bundle.root} {'was' if len(theirs) == 1 else 'were'} not made here, as far as volseg knows. If "
            "you made it in another place or on another computer, or trust who did, go on with volseg train --adopt-runs; else "
            "start over with volseg train --fresh, or --fresh --cv for all folds and their split.",
            code="not-own-runs",
            path=theirs[0],
        )


def _holds_something(place: Path) -> bool:
    if not place.is_dir():
        return place.is_file()
    return any(not path.name.startswith(".") for path in place.iterdir())


def _note(place: Path) -> Path:
    # The path may name a patient.
    return personal_folder() / "runs" / hashlib.sha256(b"volseg run\0" + os.fsencode(place.resolve())).hexdigest()

"""The record beside a mask: the structures that it was drawn from, and warnings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, TypeAdapter

from volseg.atomic import write_text
from volseg.dataset.pairing import REGIONS, TEST_IMAGES, TRAINING_IMAGES, TRAINING_LABELS
from volseg.files import read_bounded
from volseg.kept import EDITED, file_digest
from volseg.outcomes import FileDigest, Made
from volseg.volume import nifti_name, split_channel
from volseg.words import counted, listed

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.outcomes import Outcome

MAX_RECORD_BYTES = 2**24
"""A record of a thousand structures takes 100 kB; a bound for files that only bear its name."""
NAMED_STRUCTURES = 12
"""A sentence names this many structures and counts the others."""

_CHANGES = {
    "fractional-thresholded": "Fractional segments were cut at one half of their maximum.",
    "labels-resampled": "Structures were drawn on another grid than their image's; each voxel took the label there.",
    "matched-by-grid": "Nothing but the grid tells which image the masks were drawn on.",
    "matched-by-frame": "Nothing but the frame of reference tells which series the structures were drawn on.",
    "matched-by-series": "Structures were drawn on images of the series that are not there; they were taken to fit the others.",
}
_NOTES = {
    "contours-between-slices": "{count} contours of {names} lie between slices that have contours of their own, and "
    "were left out.",
    "contours-cross": "{count} pairs of contours of {names} cross; what lies inside both was left out.",
    "contours-cut-off": "{count} contours of {names} reach out of the image and were cut off.",
    "contours-moved": "{count} contours of {names} lie between slices and were drawn on the nearest slice.",
    "contours-twice": "{count} contours of {names} stand twice on a slice; each was taken once.",
    "mostly-filled": "{names} fills more than half of the image ({count} voxels of it): the higher of the two values of a "
    "mask series was taken for the structure.",
    "slices-left-out": "{count} slices between the first and the last contour of {names} have none.",
    "structures-gone": "{names} left no voxel: smaller than the voxels, or covered by smaller structures.",
    "voxels-outside": "{count} voxels of {names} lie outside the image and were cut off.",
}

_REGION = re.compile(rf"{REGIONS}/[a-z0-9-]+/[^/]+")
"""Where the mask of a region lies; a record may be a stranger's, and what it names is removed before it is drawn anew."""
OTHER_IMAGE = (
    "Its mask was drawn on the image as it was before, and nothing in this input draws it anew: the structures may lie "
    "elsewhere now. Convert the image with its label objects, or remove the mask."
)


@dataclass(frozen=True)
class DrawnLabel:
    """A structure in a mask: its number and name, and how many voxels it has."""

    index: int
    name: str
    voxels: int


@dataclass(frozen=True)
class NamedNote:
    """Something that a person should know, with the names of the structures concerned."""

    code: str
    count: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class MaskRecord:
    """What a mask was drawn from.

    Args:
        case: the case's public name.
        made: from which label objects and image it was drawn, and what the mask's file held, by which a later run knows
            finished work and sees that somebody has changed it.
        labels: what is in it.
        objects: how many label objects it was drawn from, by kind.
        overlaps: how many claims to a voxel gave way to a smaller structure's.
        changes: stable codes of what was done to the objects' content.
        notes: what else a person should know.
        image: what the image was that it was drawn on, as ``image_digest`` has it.
        regions: the masks of its structures by themselves, relative to the data set, where they were asked for.
        format: of the record.
    """

    case: str
    made: Made
    labels: tuple[DrawnLabel, ...]
    objects: Mapping[str, int]
    overlaps: Annotated[int, Field(ge=0)] = 0
    changes: tuple[str, ...] = ()
    notes: tuple[NamedNote, ...] = ()
    image: str = ""
    regions: Mapping[str, FileDigest] = field(default_factory=dict)
    format: Literal[1] = 1

    @property
    def message(self) -> str:
        """The sentence for the ledger."""
        count = counted(len(self.labels), "structure")
        sources = " and ".join(f"{number} {kind}" for kind, number in sorted(self.objects.items()))
        shown = listed([f"{label.name} ({label.voxels} voxels)" for label in self.labels], NAMED_STRUCTURES)
        overlaps = (
            f" {self.overlaps} times two structures claimed a voxel, and the smaller one got it"
            f"{'; each is whole in regions/.' if self.regions else ': --regions writes each of them whole.'}"
            if self.overlaps
            else ""
        )
        return f"Mask of {count} from {sources}: {shown}.{overlaps}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentences that a person has to know."""
        changes = [_CHANGES[change] for change in self.changes if change in _CHANGES]
        notes = [
            _NOTES[note.code].format(count=note.count, names=listed(note.names, NAMED_STRUCTURES))
            for note in self.notes
            if note.code in _NOTES
        ]
        return (*changes, *notes)

    def write(self, path: Path) -> None:
        """Write the record atomically; the same record gives the same bytes.

        Raises:
            FileError: the file can't be written.
        """
        content = {"format": self.format, **asdict(self), "objects": dict(sorted(self.objects.items()))}
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def image_digest(made: Made) -> str:
    """From what an image was made, and how; the first channel's where there are several."""
    return f"{made.input} {made.method}"


@cache
def _adapter() -> TypeAdapter[MaskRecord]:
    return TypeAdapter(MaskRecord)


def mask_path(folder: Path, case: str) -> Path:
    """Where the mask of a case lies in a data set."""
    return folder / TRAINING_LABELS / nifti_name(case)


def record_path(folder: Path, case: str) -> Path:
    """Where the record of a case's mask lies."""
    return folder / TRAINING_LABELS / f"{case}.json"


def mask_record(folder: Path, case: str) -> MaskRecord | None:
    """The record of a case's mask; None where there is no mask, or where volseg didn't draw it."""
    return record_there(folder, case) if mask_path(folder, case).exists() else None


def record_there(folder: Path, case: str) -> MaskRecord | None:
    """The record of a case's mask, which may be gone; None where there is none of volseg's."""
    path = record_path(folder, case)
    if not path.exists():
        return None
    try:
        record = _adapter().validate_json(read_bounded(path, MAX_RECORD_BYTES, "record of a mask"))
    except (OSError, ValueError):  # not ours
        return None
    plain = all(_REGION.fullmatch(name) and name.endswith(f"/{nifti_name(case)}") for name in record.regions)
    return record if record.case == case and plain else None


def with_mask(outcome: Outcome, folder: Path) -> Outcome:
    """The outcome of an image, with what is to be said of its mask where there is one that volseg drew.

    The image moves when its mask is drawn, so the paths of the outcome are set right.
    """
    case, channel = split_channel(outcome.case)
    record = mask_record(folder, outcome.case) or (mask_record(folder, case) if channel is not None else None)
    if record is None:
        return outcome
    mask, beside = mask_path(folder, record.case), record_path(folder, record.case)
    regions = [name for name in record.regions if (folder / name).is_file()]

    def moved(output: str) -> str:
        return output if (folder / output).is_file() else output.replace(TEST_IMAGES, TRAINING_IMAGES, 1)

    made = outcome.made
    if made is not None:
        made = replace(made, files={moved(name): digest for name, digest in made.files.items()})
    outcome = replace(outcome, outputs=tuple(map(moved, outcome.outputs)), made=made)
    if channel and record.case != outcome.case:
        return outcome  # of the channels, the first tells of the mask
    warnings = [*outcome.warnings, *record.warnings]
    if made is not None:
        if record.image and record.image != image_digest(made):
            warnings.append(OTHER_IMAGE)
        files = {f"{TRAINING_LABELS}/{name}": digest for name, digest in record.made.files.items()}
        made = replace(made, files={**made.files, **files, **{name: record.regions[name] for name in regions}})
    if record.made.files.get(mask.name) != file_digest(mask):
        warnings.append(EDITED)
    return replace(
        outcome,
        message=f"{outcome.message} {record.message}".strip(),
        outputs=(*outcome.outputs, *(path.relative_to(folder).as_posix() for path in (mask, beside)), *regions),
        warnings=tuple(dict.fromkeys(warnings)),
        made=made,
    )

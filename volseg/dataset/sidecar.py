"""The sidecar beside a converted image: where its voxels came from, without a word on who the patient is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from volseg.atomic import write_text
from volseg.errors import GeometryError, InputError
from volseg.files import read_bounded
from volseg.grid import Grid
from volseg.outcomes import Made
from volseg.volume import stem_of

if TYPE_CHECKING:
    from pathlib import Path

SIDECAR_FORMAT = 1
MAX_SIDECAR_BYTES = 2**20
"""A sidecar is some kilobytes; a bound for files that only bear its name."""
OURS = re.compile(rb'\s*\{\s*"format"\s*:\s*\d+\s*,\s*"case"\s*:')
"""How a sidecar of volseg begins. Other programs, such as dcm2niix, write JSON of the same name."""

Fact = str | int | float | tuple[float, ...]
"""A value of an acquisition fact: a number, several, or a word from a closed list."""


def _grid_to_json(grid: Grid) -> dict[str, Any]:
    return {
        "shape": list(grid.shape),
        "spacing_mm": list(grid.spacing_mm),
        "orientation": grid.orientation,
        "affine": [[float(value) for value in row] for row in grid.affine],
    }


def _grid_from_json(content: Any) -> Grid:
    shape, affine = content["shape"], np.array(content["affine"], dtype=np.float64)
    if affine.shape != (4, 4) or len(shape) != 3 or not all(type(size) is int for size in shape):
        raise ValueError("no grid")
    return Grid(tuple(shape), affine)


if TYPE_CHECKING:
    GridJson = Grid
else:
    GridJson = Annotated[Any, PlainValidator(_grid_from_json), PlainSerializer(_grid_to_json)]


@dataclass(frozen=True)
class Sidecar:
    """What is kept of a converted image's origin.

    Args:
        case: the case's public name.
        modality: as DICOM names it, such as ``CT`` or ``MR`` (PS3.3 C.7.3.1.1.1).
        patient: pseudonym of the patient.
        study: pseudonym of the study.
        series: pseudonym of the series.
        source_grid: the grid on the scanner, in the image's voxel order.
        target_grid: the grid of the image that was written.
        resampled: whether voxels were interpolated, for the spacing or for a repair.
        changes: the stable codes of what was repaired or changed on the way, such as ``tilt-repaired``.
        acquisition: facts from an allow-list, with units in their names, such as ``echo_time_ms``.
        made: from what the image was made, by which a later run knows finished work; the image by its name alone, since
            the two move together.
        notes: codes of what a person has to know beside the changes, such as ``no-preamble``, each with its number of
            files or series, or what else its sentence counts.
        shows: what the image is among those of its series, in words from a closed list and numbers, such as ``phase`` or
            ``b 1000``; empty where there is nothing to tell, and in sidecars of before.
    """

    case: str
    modality: str
    patient: str
    study: str
    series: str
    source_grid: GridJson
    target_grid: GridJson
    resampled: bool
    changes: tuple[str, ...] = ()
    acquisition: Mapping[str, Fact] = field(default_factory=dict)
    made: Made | None = None
    notes: Mapping[str, int] = field(default_factory=dict)
    shows: str = ""

    def to_json(self) -> str:
        """The sidecar as JSON; the same sidecar gives the same bytes."""
        content = {"format": SIDECAR_FORMAT, **_adapter().dump_python(self, mode="json")}
        for key in ("acquisition", "notes"):
            content[key] = dict(sorted(content[key].items()))
        return json.dumps(content, indent=1) + "\n"

    def write(self, path: Path) -> None:
        """Write the sidecar atomically.

        Raises:
            FileError: the file can't be written.
        """
        write_text(path, self.to_json())


@cache
def _adapter() -> TypeAdapter[Sidecar]:
    return TypeAdapter(Sidecar)


def sidecar_path(image: Path) -> Path:
    """Where the sidecar of an image lies: ``case.json`` beside ``case.nii.gz``."""
    return image.with_name(f"{stem_of(image)}.json")


def read_sidecar(path: Path) -> Sidecar:
    """Read a sidecar that ``convert`` wrote.

    Raises:
        FileError: the file is absent or can't be read.
        InputError: it is no sidecar of this format.
    """
    return _sidecar(path, _read(path))


def _sidecar(path: Path, raw: bytes) -> Sidecar:
    try:
        content = TypeAdapter(dict[str, Any]).validate_json(raw)  # bounded in depth
        number = content.pop("format", None)
        sidecar = _adapter().validate_python(content)
    except (ValidationError, GeometryError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is no sidecar of volseg. Convert the image again.", code="bad-sidecar", path=path
        ) from error
    if number != SIDECAR_FORMAT:
        raise InputError(
            f"{path} has sidecar format {number}, and this volseg reads {SIDECAR_FORMAT}. Update volseg.",
            code="bad-sidecar",
            path=path,
        )
    return sidecar


@dataclass(frozen=True)
class Origin:
    """Origin of an image as told by the JSON beside it, whichever program wrote that.

    Args:
        patient: a pseudonym; None where it is silent.
        modality: as DICOM names it; None where it is silent.
        resampled: whether voxels were interpolated; False where it is silent.
    """

    patient: str | None = None
    modality: str | None = None
    resampled: bool = False


def read_origin(path: Path) -> Origin:
    """What the JSON beside an image says of its origin.

    Of another program's JSON only texts under ``patient`` and ``modality`` are taken. It never is a fault: whatever
    else it holds, or is, says nothing.

    Raises:
        FileError: the file is absent or can't be read.
        InputError: it is a sidecar of volseg and damaged.
    """
    try:
        raw = _read(path)
    except InputError:  # far larger than ours
        return Origin()
    if OURS.match(raw):
        sidecar = _sidecar(path, raw)
        return Origin(sidecar.patient, sidecar.modality, sidecar.resampled)
    try:
        content = TypeAdapter(dict[str, Any]).validate_json(raw)
    except ValidationError:
        return Origin()
    patient, modality = (
        value if isinstance(value, str) else None for value in map(content.get, ("patient", "modality"))
    )
    return Origin(patient, modality)


def was_resampled(image: Path) -> bool:
    """Whether the sidecar of an image says that its voxels were interpolated; False without a sidecar.

    Raises:
        FileError: the sidecar can't be read.
        InputError: it is a sidecar of volseg and damaged.
    """
    path = sidecar_path(image)
    return path.exists() and read_origin(path).resampled


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_SIDECAR_BYTES, "sidecar").removeprefix(b"\xef\xbb\xbf")
    except InputError as error:
        raise InputError(f"{error.message} Remove it.", code="bad-sidecar", path=path) from error

"""The sidecar beside a converted image: where its voxels came from, without a word on who the patient is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from volseg.atomic import write_text
from volseg.errors import GeometryError, InputError
from volseg.files import read_bounded
from volseg.grid import Grid
from volseg.volume import stem_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SIDECAR_FORMAT = 1
MAX_SIDECAR_BYTES = 2**20
"""A sidecar is some kilobytes; a bound for files that only bear its name."""

Fact = str | int | float | tuple[float, ...]
"""A value of an acquisition fact: a number, several, or a word from a closed list."""


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
        fingerprint: a keyed digest of the options and the files that the image came from, by which a later run knows
            finished work.
        notes: codes of what a person has to know beside the changes, such as ``no-preamble``, each with its number of
            files or series.
    """

    case: str
    modality: str
    patient: str
    study: str
    series: str
    source_grid: Grid
    target_grid: Grid
    resampled: bool
    changes: tuple[str, ...] = ()
    acquisition: Mapping[str, Fact] = field(default_factory=dict)
    fingerprint: str = ""
    notes: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """The sidecar as JSON; the same sidecar gives the same bytes."""
        content = {
            "format": SIDECAR_FORMAT,
            "case": self.case,
            "modality": self.modality,
            "patient": self.patient,
            "study": self.study,
            "series": self.series,
            "resampled": self.resampled,
            "changes": list(self.changes),
            "notes": dict(sorted(self.notes.items())),
            "source_grid": _grid_to_json(self.source_grid),
            "target_grid": _grid_to_json(self.target_grid),
            "acquisition": dict(sorted(self.acquisition.items())),
            "fingerprint": self.fingerprint,
        }
        return json.dumps(content, indent=1) + "\n"

    def write(self, path: Path) -> None:
        """Write the sidecar atomically.

        Raises:
            FileError: the file can't be written.
        """
        write_text(path, self.to_json())


class _GridRecord(BaseModel):
    shape: tuple[int, int, int]
    affine: tuple[tuple[float, float, float, float], ...] = Field(min_length=4, max_length=4)


class _SidecarRecord(BaseModel):
    model_config = ConfigDict(extra="ignore")

    format: int
    case: str
    modality: str
    patient: str
    study: str
    series: str
    resampled: bool
    changes: tuple[str, ...] = ()
    notes: dict[str, int] = {}
    source_grid: _GridRecord
    target_grid: _GridRecord
    acquisition: dict[str, Fact] = {}
    fingerprint: str = ""


class _OriginRecord(BaseModel):
    model_config = ConfigDict(extra="ignore")

    patient: str | None = None
    modality: str | None = None
    resampled: bool = False


def sidecar_path(image: Path) -> Path:
    """Where the sidecar of an image lies: ``case.json`` beside ``case.nii.gz``."""
    return image.with_name(f"{stem_of(image)}.json")


def read_sidecar(path: Path) -> Sidecar:
    """Read a sidecar that ``convert`` wrote.

    Raises:
        FileError: the file is absent or can't be read.
        InputError: it is no sidecar of this format.
    """
    raw = _read(path)
    try:
        record = _SidecarRecord.model_validate_json(raw)
        source, target = _grid_from(record.source_grid), _grid_from(record.target_grid)
    except (ValidationError, GeometryError) as error:
        raise InputError(
            f"{path} is no sidecar of volseg. Convert the image again.", code="bad-sidecar", path=path
        ) from error
    if record.format != SIDECAR_FORMAT:
        raise InputError(
            f"{path} has sidecar format {record.format}, and this volseg reads {SIDECAR_FORMAT}. Update volseg.",
            code="bad-sidecar",
            path=path,
        )
    return Sidecar(
        case=record.case,
        modality=record.modality,
        patient=record.patient,
        study=record.study,
        series=record.series,
        source_grid=source,
        target_grid=target,
        resampled=record.resampled,
        changes=record.changes,
        acquisition=record.acquisition,
        fingerprint=record.fingerprint,
        notes=record.notes,
    )


@dataclass(frozen=True)
class Origin:
    """What the JSON beside an image says of it, whoever wrote it.

    Args:
        patient: a pseudonym; None where it is silent.
        modality: as DICOM names it; None where it is silent.
        resampled: whether voxels were interpolated; False where it is silent.
    """

    patient: str | None
    modality: str | None
    resampled: bool


def read_origin(path: Path) -> Origin:
    """The keys ``patient``, ``modality`` and ``resampled`` of any JSON beside an image, also of another's making.

    Raises:
        FileError: the file is absent or can't be read.
        InputError: it is no JSON object, or one of the three makes no sense.
    """
    try:
        record = _OriginRecord.model_validate_json(_read(path))
    except ValidationError as error:
        raise InputError(
            f"{path} is not a JSON object whose patient and modality are texts. Repair or remove it.",
            code="bad-sidecar",
            path=path,
        ) from error
    return Origin(record.patient, record.modality, record.resampled)


def was_resampled(image: Path) -> bool:
    """Whether the sidecar of an image says that its voxels were interpolated; False without a sidecar.

    Raises:
        FileError: the sidecar can't be read.
        InputError: the sidecar makes no sense.
    """
    path = sidecar_path(image)
    return path.is_file() and read_origin(path).resampled


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_SIDECAR_BYTES, "sidecar").removeprefix(b"\xef\xbb\xbf")
    except InputError as error:
        raise InputError(f"{error.message} Remove it.", code="bad-sidecar", path=path) from error


def _grid_to_json(grid: Grid) -> dict[str, Any]:
    return {
        "shape": list(grid.shape),
        "spacing_mm": list(grid.spacing_mm),
        "orientation": grid.orientation,
        "affine": [[float(value) for value in row] for row in grid.affine],
    }


def _grid_from(record: _GridRecord) -> Grid:
    import numpy as np

    return Grid(record.shape, np.array(record.affine, dtype=np.float64))

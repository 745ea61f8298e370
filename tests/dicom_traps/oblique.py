"""Traps of good volumes on oblique grids, of all planes and patient positions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.dicom_traps.geometry import one, tampered
from tests.dicom_traps.stack import AXIAL, CORONAL, SAGITTAL, Stack
from tests.dicom_traps.trap import Action, Trap

TURNED = frozenset({"axes-turned"})
AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
TILTS_DEGREES = (0.2, 5.0, 15.0, 25.0, 45.0)
# How a patient lies on the table turns an axial image about the body's long axis; feet first, seen from the other end.
LYING = {
    "HFS": (1, 0, 0, 0, 1, 0),
    "HFP": (-1, 0, 0, 0, -1, 0),
    "HFDL": (0, -1, 0, 1, 0, 0),
    "HFDR": (0, 1, 0, -1, 0, 0),
    "FFS": (-1, 0, 0, 0, 1, 0),
    "FFP": (1, 0, 0, 0, -1, 0),
    "FFDL": (0, 1, 0, 1, 0, 0),
    "FFDR": (0, -1, 0, -1, 0, 0),
}


def turned(orientation: Iterable[float], *turns: tuple[str, float]) -> tuple[float, ...]:
    """An orientation turned about the patient's axes, one after another, by degrees."""
    directions = np.array(list(orientation), float).reshape(2, 3)
    for axis, degrees in turns:
        unit, angle = np.array(AXES[axis]), np.radians(degrees)
        # Rodrigues' formula
        directions = (
            directions * np.cos(angle)
            + np.cross(unit, directions) * np.sin(angle)
            + np.outer(directions @ unit, unit) * (1 - np.cos(angle))
        )
    return tuple(float(number) for number in directions.ravel())


def oblique(name: str, orientation: Iterable[float], *turns: tuple[str, float], position: str = "HFS") -> Trap:
    """A trap of one volume, turned; its voxels are large, so that a small angle moves its corners far."""
    stack = Stack(
        modality="MR",
        gaps_mm=(12.0,) * 5,
        size=(24, 20),
        pixel_mm=(10.0, 10.0),
        orientation=turned(orientation, *turns),
        tamper=tampered(PatientPosition=position),
    )
    return one(name, Action.PLAIN, stack, allowed=TURNED)


def _word(degrees: float) -> str:
    return f"{degrees:g}".replace(".", "-")


OBLIQUES: tuple[Trap, ...] = (
    *(
        oblique(f"axial-about-{axis}-{_word(degrees)}", AXIAL, (axis, degrees))
        for axis in AXES
        for degrees in TILTS_DEGREES
    ),
    # With the other angles next to nothing, a quaternion's first component is lost in float32 (NIfTI-1, METHOD 2).
    *(
        oblique(f"axial-about-x-{_word(degrees)}-slightly-about-all", AXIAL, ("x", degrees), ("y", 0.2), ("z", 0.2))
        for degrees in (5.0, 9.0, 15.0, 23.0, 25.0)
    ),
    *(
        oblique(f"axial-about-all-{_word(degrees)}-{name}", AXIAL, ("x", degrees), ("y", second), ("z", second))
        for degrees in (5.0, 15.0, 25.0)
        for name, second in (("alike", degrees), ("back", -degrees))
    ),
    oblique("axial-about-all-unalike", AXIAL, ("x", -7.7), ("y", -23.0), ("z", 1.5)),
    *(
        oblique(f"{name}-about-all-{_word(degrees)}", plane, ("x", degrees), ("y", 0.2), ("z", degrees / 2))
        for name, plane in (("coronal", CORONAL), ("sagittal", SAGITTAL))
        for degrees in TILTS_DEGREES
    ),
    oblique("coronal-about-z-0-3", CORONAL, ("z", 0.3)),
    oblique("coronal-about-y-0-3", CORONAL, ("y", 0.3)),
    *(
        oblique(f"lying-{position.lower()}-oblique", plane, ("x", 9.0), ("y", 0.2), ("z", 0.2), position=position)
        for position, plane in LYING.items()
    ),
    oblique("lying-ffdr-0-1", LYING["FFDR"], ("x", 0.1), position="FFDR"),
    *(
        oblique(f"axial-almost-half-a-turn-{number}", AXIAL, ("x", tilt), ("z", angle))
        for number, (tilt, angle) in enumerate(((20.0, 1e-4), (20.0, 1e-2), (8.0, -1e-3), (0.0, 3e-2)), start=1)
    ),
)

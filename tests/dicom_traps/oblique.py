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
    """A trap of one volume, turned."""
    stack = Stack(
        modality="MR",
        gaps_mm=(1.0,) * 5,
        size=(9, 8),
        pixel_mm=(1.0, 1.0),
        orientation=turned(orientation, *turns),
        tamper=tampered(PatientPosition=position),
    )
    return one(name, Action.PLAIN, stack, allowed=TURNED)


def _word(degrees: float) -> str:
    return f"{degrees:g}".replace(".", "-").replace("--", "-")


OBLIQUES: tuple[Trap, ...] = (
    *(
        oblique(f"axial-about-{axis}-{_word(degrees)}", AXIAL, (axis, degrees))
        for axis in AXES
        for degrees in TILTS_DEGREES
    ),
    *(
        oblique(
            f"axial-about-all-{_word(degrees)}-{name}",
            AXIAL,
            ("x", degrees),
            ("y", second),
            ("z", second),
        )
        for degrees in (5.0, 15.0, 25.0)
        for name, second in (("and-0-2", 0.2), ("and-as-much", degrees), ("and-back", -degrees))
    ),
    *(
        oblique(f"{name}-about-all-{_word(degrees)}", plane, ("x", degrees), ("y", 0.2), ("z", degrees / 2))
        for name, plane in (("coronal", CORONAL), ("sagittal", SAGITTAL))
        for degrees in TILTS_DEGREES
    ),
    *(
        oblique(f"lying-{position.lower()}-oblique", plane, ("x", 12.0), ("y", 0.2), ("z", 0.2), position=position)
        for position, plane in LYING.items()
    ),
    # Just off half a turn, where a quaternion's first component is next to nothing (NIfTI-1, METHOD 2).
    *(
        oblique(f"axial-about-z-by-millionths-{number}", AXIAL, ("x", 20.0), ("z", angle))
        for number, angle in enumerate((1e-4, 1e-3, 1e-2, -1e-3), start=1)
    ),
)

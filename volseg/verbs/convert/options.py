"""How DICOM becomes NIfTI: the options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from volseg.errors import UsageError
from volseg.nomenclature import LabelChoice

NATIVE = "native"
MIN_SPACING_MM, MAX_SPACING_MM = 0.01, 100.0
"""Bounds for a target spacing: beyond them a slip of the finger is likelier than a wish."""


@dataclass(frozen=True)
class ConvertOptions:
    """How DICOM becomes NIfTI."""

    spacing: tuple[float | Literal["native"], ...] = (1.0,)
    """Voxel spacing of the images in mm: one number for all axes, or three. "native" keeps the scanner's grid."""

    interpolation: Literal["linear", "bspline"] = "linear"
    """How voxels are interpolated where the spacing changes: linear, or 3rd-order B-spline."""

    localizers: bool = False
    """Convert scouts and localizers too; they are passed over otherwise."""

    refuse_tilt: bool = False
    """Refuse series of a tilted gantry instead of straightening them."""

    fill_gaps: bool = False
    """Fill in missing slices from those beside them instead of refusing the series; nobody has scanned what is there."""

    suv: bool = False
    """Convert PET to standardised uptake by body weight (SUVbw, g/ml). A series whose header doesn't give weight, dose,
    half-life and times that fit together is refused. The activity is kept otherwise."""

    labels: str = ""
    """Which structures of segmentations and structure sets become labels, and what they are called, such as
    "Liver=liver,LIVER_1; Spleen=spleen", or a file of such lines. By default all do, as they are spelled. Names of
    structures are the one free text that is kept of the DICOM files."""

    jobs: int = 0
    """How many series are converted at once; 0 takes all cores."""

    overwrite: bool = False
    """Convert again what an earlier run converted with other options or from other files."""

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """The target spacing along i, j and k; None for the scanner's own.

        Raises:
            UsageError: the spacing makes no sense.
        """
        if self.spacing == (NATIVE,):
            return None
        numbers = [step for step in self.spacing if not isinstance(step, str)]
        if len(numbers) != len(self.spacing) or len(numbers) not in (1, 3):
            raise UsageError(f'A spacing is "{NATIVE}", one number for all axes or three numbers, in mm.')
        if not all(MIN_SPACING_MM <= step <= MAX_SPACING_MM for step in numbers):
            raise UsageError(f"A spacing lies between {MIN_SPACING_MM:g} and {MAX_SPACING_MM:g} mm.")
        x, y, z = numbers * 3 if len(numbers) == 1 else numbers
        return float(x), float(y), float(z)

    @property
    def choice(self) -> LabelChoice:
        """The labels that are wanted; all where none is named.

        Raises:
            UsageError: they make no sense.
        """
        return LabelChoice.of(self.labels)


DEFAULTS = ConvertOptions()

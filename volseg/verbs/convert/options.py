"""The options of a conversion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from volseg.dicom.choice.options import SeriesChoice
from volseg.dicom.choice.patterns import Channel, parse_masks
from volseg.errors import UsageError
from volseg.nomenclature import LabelChoice
from volseg.options import Many, each

NATIVE = "native"


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(SeriesChoice):
    """How DICOM becomes NIfTI."""

    spacing: Many[float | Literal["native"]] = (1.0,)
    """Voxel spacing of the images in mm: one number for all axes, or three, such as 1x1x3. "native" keeps the scanner's
    grid."""

    orientation: str = ""
    """Where the voxel axes of the images point to, such as RAS; voxels are flipped and permuted for it, never
    interpolated. By default they keep the scanner's order, but for some oblique series that NIfTI can't hold in it: two
    axes are reversed then. Three spacings are those of the turned axes."""

    interpolation: Literal["linear", "bspline", "nearest"] = "linear"
    """How voxels are made where the spacing changes: linear, 3rd-order B-spline, or the nearest voxel."""

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

    regions: bool = False
    """Write a mask of each structure by itself, too, in regions/, where those that overlap stay whole."""

    masks_from: str = ""
    """Take series of two values for masks of the images whose slices they have, such as
    `liver=*MASKS_DICOM/liver; tumour=*livertumor*`: a name, and what its series are called: their folder in DICOM_DIR,
    description, or number or name as --dry-run shows it. A bare pattern such as `*MASKS_DICOM/*` keeps the folders'
    names, which are told: look at them. These series are not converted as images."""

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
        given: tuple[float | Literal["native"], ...] = each(self.spacing)
        if given == (NATIVE,):
            return None
        steps = [step for step in given if not isinstance(step, str)]
        if len(steps) != len(given):
            raise UsageError(f'A spacing is "{NATIVE}", one number for all axes or three numbers, in mm.')
        from volseg.grid import three_spacings

        return three_spacings(steps)

    def require_sense(self) -> None:
        """Refuse options that make no sense, before anything is read.

        Raises:
            UsageError: one makes none.
        """
        super().require_sense()
        _ = self.spacing_mm, self.axes, self.choice
        _ = self.mask_choices

    @property
    def axes(self) -> str:
        """The orientation in upper case; empty for the scanner's own.

        Raises:
            UsageError: it is none.
        """
        if not self.orientation:
            return ""
        from volseg.resampling import require_orientation

        return require_orientation(self.orientation)

    @property
    def mask_choices(self) -> tuple[Channel, ...]:
        """The masks that are wanted among the series.

        Raises:
            UsageError: they make no sense.
        """
        return parse_masks(self.masks_from)

    @property
    def choice(self) -> LabelChoice:
        """The labels that are wanted; all where none is named.

        Raises:
            UsageError: they make no sense.
        """
        return LabelChoice.of(self.labels)


DEFAULTS = ConvertOptions()

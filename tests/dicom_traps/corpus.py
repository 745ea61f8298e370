"""All traps."""

from __future__ import annotations

from tests.dicom_traps.aborted import ABORTED
from tests.dicom_traps.differing import DIFFERING
from tests.dicom_traps.frames import FRAMES
from tests.dicom_traps.geometry import GEOMETRY
from tests.dicom_traps.numbering import NUMBERING
from tests.dicom_traps.objects import OBJECTS
from tests.dicom_traps.oblique import OBLIQUES
from tests.dicom_traps.pixels import PIXELS
from tests.dicom_traps.spelling import SPELLING
from tests.dicom_traps.thinning import THINNING
from tests.dicom_traps.trap import Trap
from tests.dicom_traps.volumes import VOLUMES

KINDS: dict[str, tuple[Trap, ...]] = {
    "where slices lie": GEOMETRY,
    "oblique grids": OBLIQUES,
    "several volumes, and many slices in one file": VOLUMES,
    "images of two volumes, of which files are lost": DIFFERING,
    "volumes that only their numbers tell apart": NUMBERING,
    "runs cut short": ABORTED,
    "thinned series": THINNING,
    "values spelled in several ways, or absent": SPELLING,
    "volumes in one multi-frame file, of which frames are lost": FRAMES,
    "pixels": PIXELS,
    "files and other objects": OBJECTS,
}
"""What each is about."""

TRAPS: tuple[Trap, ...] = tuple(trap for traps in KINDS.values() for trap in traps)

"""All traps."""

from __future__ import annotations

from tests.dicom_traps.differing import DIFFERING
from tests.dicom_traps.frames import FRAMES
from tests.dicom_traps.geometry import GEOMETRY
from tests.dicom_traps.numbering import NUMBERING
from tests.dicom_traps.objects import OBJECTS
from tests.dicom_traps.oblique import OBLIQUES
from tests.dicom_traps.pixels import PIXELS
from tests.dicom_traps.spelling import SPELLING
from tests.dicom_traps.trap import Trap
from tests.dicom_traps.volumes import VOLUMES

TRAPS: tuple[Trap, ...] = (
    *GEOMETRY,
    *OBLIQUES,
    *VOLUMES,
    *DIFFERING,
    *NUMBERING,
    *SPELLING,
    *FRAMES,
    *PIXELS,
    *OBJECTS,
)

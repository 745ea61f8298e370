"""All traps."""

from __future__ import annotations

from tests.dicom_traps.geometry import GEOMETRY
from tests.dicom_traps.objects import OBJECTS
from tests.dicom_traps.pixels import PIXELS
from tests.dicom_traps.trap import Trap
from tests.dicom_traps.volumes import VOLUMES

TRAPS: tuple[Trap, ...] = (*GEOMETRY, *VOLUMES, *PIXELS, *OBJECTS)

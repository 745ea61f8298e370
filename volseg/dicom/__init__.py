"""DICOM: find, classify, group, order, verify, decode.

``scan(folder)`` reads every header under a folder and gives the verified series; ``load(series)`` gives a series'
voxels.
"""

from volseg.dicom.series.facts import acquisition_facts
from volseg.dicom.series.loading import Loaded, SliceFault, load, load_values
from volseg.dicom.series.repair import Repairs
from volseg.dicom.series.scan import BadFile, Scan, scan
from volseg.dicom.series.series import Rejected, Series
from volseg.dicom.series.slices import Slice

__all__ = [
    "BadFile",
    "Loaded",
    "Rejected",
    "Repairs",
    "Scan",
    "Series",
    "Slice",
    "SliceFault",
    "acquisition_facts",
    "load",
    "load_values",
    "scan",
]

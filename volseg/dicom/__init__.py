"""DICOM: finding, grouping, ordering, verifying and decoding images and label objects.

``scan(folder)`` reads every header under a folder and gives the verified series; ``load_values(series)`` gives a
series' voxels; ``read_series(folder)`` does both for one series.
"""

from volseg.dicom.series.loading import Loaded, SliceFault, load_values
from volseg.dicom.series.repair import Repairs
from volseg.dicom.series.scan import BadFile, Scan, numbered, scan, short_name
from volseg.dicom.series.series import Rejected, Series
from volseg.dicom.series.single import read_series
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
    "load_values",
    "numbered",
    "read_series",
    "scan",
    "short_name",
]

"""Segmentation metrics: overlap, volume, and surface distances in mm.

What can't be said is NaN, never a flattering 0 or 1:

====================  ==================  =====================  =====================
value                 label in neither    only in the reference  only in the prediction
====================  ==================  =====================  =====================
Dice, IoU             NaN                 0                      0
sensitivity           NaN                 0                      NaN
precision             NaN                 NaN                    0
HD95                  NaN                 infinite               infinite
relative volume       NaN                 -1                     NaN
====================  ==================  =====================  =====================

Specificity is NaN only where the reference fills the whole image.

Voxels that a reference leaves open, nnU-Net's ignore label, are in neither mask and in no count. Where they cut a
structure, the cut is no surface: a distance is measured between surfaces that were judged.
"""

from volseg.metrics.overlap import Overlap, overlaps
from volseg.metrics.scores import METRICS, Agreement, LabelScore, Metric, compare
from volseg.metrics.summary import Summary, summarise
from volseg.metrics.surfaces import SurfaceDistances, surface_distances

__all__ = [
    "METRICS",
    "Agreement",
    "LabelScore",
    "Metric",
    "Overlap",
    "Summary",
    "SurfaceDistances",
    "compare",
    "overlaps",
    "summarise",
    "surface_distances",
]

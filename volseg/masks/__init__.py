"""Masks from DICOM label objects: assigned to series, drawn case by case, with a record beside each mask.

``plan_labels`` reads every segmentation and structure set, finds its series and gives all structures one label table.
``draw_masks`` draws them on the grids of the converted images. ``mask_record`` tells of a mask what an outcome says.
"""

from volseg.masks.assignment import LabelPlan, plan_labels
from volseg.masks.composition import Converted
from volseg.masks.drawing import draw_masks
from volseg.masks.record import mask_record, with_mask

__all__ = ["Converted", "LabelPlan", "draw_masks", "mask_record", "plan_labels", "with_mask"]

"""A volume: voxels and the grid they lie on; reading and writing images and masks."""

from volseg.volume.bounds import MAX_VOXELS
from volseg.volume.files import as_mask, files_of, read_header, read_mask, read_volume, write_image, write_mask
from volseg.volume.mask import Mask
from volseg.volume.model import ImageHeader, Volume
from volseg.volume.naming import (
    IMAGE_KINDS,
    IMAGE_SUFFIXES,
    NIFTI_SUFFIXES,
    SEGMENTATION_SUFFIX,
    channel_stem,
    is_image,
    is_nifti,
    list_images,
    nifti_name,
    split_channel,
    stem_of,
)
from volseg.volume.nifti import for_nifti
from volseg.volume.probabilities import PROBABILITY_ONE, write_probabilities
from volseg.volume.qform import AXES_TURNED, axes_to_reverse, grid_for_nifti
from volseg.volume.segmentation import is_segmentation, segments_in, write_segmentation

__all__ = [
    "AXES_TURNED",
    "IMAGE_KINDS",
    "IMAGE_SUFFIXES",
    "MAX_VOXELS",
    "NIFTI_SUFFIXES",
    "PROBABILITY_ONE",
    "SEGMENTATION_SUFFIX",
    "ImageHeader",
    "Mask",
    "Volume",
    "as_mask",
    "axes_to_reverse",
    "channel_stem",
    "files_of",
    "for_nifti",
    "grid_for_nifti",
    "is_image",
    "is_nifti",
    "is_segmentation",
    "list_images",
    "nifti_name",
    "read_header",
    "read_mask",
    "read_volume",
    "segments_in",
    "split_channel",
    "stem_of",
    "write_image",
    "write_mask",
    "write_probabilities",
    "write_segmentation",
]

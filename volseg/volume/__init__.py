"""A volume: voxels and the grid they lie on; reading and writing images and masks."""

from volseg.volume.bounds import MAX_VOXELS
from volseg.volume.files import as_mask, files_of, read_header, read_mask, read_volume, write_image, write_mask
from volseg.volume.mask import Mask
from volseg.volume.model import ImageHeader, Volume
from volseg.volume.naming import (
    IMAGE_SUFFIXES,
    NIFTI_SUFFIXES,
    channel_stem,
    is_image,
    is_nifti,
    list_images,
    nifti_name,
    split_channel,
    stem_of,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_VOXELS",
    "NIFTI_SUFFIXES",
    "ImageHeader",
    "Mask",
    "Volume",
    "as_mask",
    "channel_stem",
    "files_of",
    "is_image",
    "is_nifti",
    "list_images",
    "nifti_name",
    "read_header",
    "read_mask",
    "read_volume",
    "split_channel",
    "stem_of",
    "write_image",
    "write_mask",
]

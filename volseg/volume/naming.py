"""Names of image files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NIFTI_SUFFIXES = (".nii.gz", ".nii")
NRRD_SUFFIXES = (".nrrd", ".nhdr")
ITK_SUFFIXES = (*NRRD_SUFFIXES, ".mha", ".mhd")
SEGMENTATION_SUFFIX = ".seg.nrrd"
"""Of 3D Slicer's segmentations."""
IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, SEGMENTATION_SUFFIX, *ITK_SUFFIXES)
IMAGE_KINDS = ".nii.gz, .nii, .nrrd, .nhdr, .mha or .mhd"
"""For messages."""
_CHANNEL = re.compile(r"(.+)_([0-9]{4})")


def stem_of(path: Path) -> str:
    """The file's name without its image suffix: ``case_1`` for ``case_1.nii.gz``."""
    for suffix in IMAGE_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def is_image(path: Path) -> bool:
    """Whether the name is that of an image volseg reads; hidden and unfinished files are not."""
    return path.name.lower().endswith(IMAGE_SUFFIXES) and not path.name.startswith(".")


def list_images(folder: Path) -> list[Path]:
    """The images directly in a folder, sorted by name; empty when the folder is absent."""
    return sorted(path for path in folder.iterdir() if is_image(path)) if folder.is_dir() else []


def is_nifti(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def nifti_name(stem: str) -> str:
    """The name under which volseg writes an image or mask: ``case_1.nii.gz``."""
    return f"{stem}{NIFTI_SUFFIXES[0]}"


def channel_stem(case: str, channel: int) -> str:
    """The name of one channel's file without suffix, as nnU-Net has it: ``case_1_0000``."""
    return f"{case}_{channel:04d}"


def split_channel(stem: str) -> tuple[str, int | None]:
    """The case and the channel that a name without suffix tells; no channel where it doesn't end in a number of one."""
    match = _CHANNEL.fullmatch(stem)
    return (match[1], int(match[2])) if match else (stem, None)

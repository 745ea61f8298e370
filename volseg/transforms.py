"""Transforms for MONAI's ``Compose``: DICOM read with volseg's care, and the rules for labels.

They need torch and MONAI, so nothing imports this module but who wants them. All can travel to a worker of a
``DataLoader``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import ImageMetaKey, TransformBackends, convert_to_dst_type

from volseg.api.calling import path_of
from volseg.dicom import read_series
from volseg.errors import UsageError
from volseg.grid import Grid
from volseg.options import Many, StrPath, each
from volseg.verbs.postprocess import PostprocessOptions
from volseg.volume import Mask, Volume, for_nifti

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


class LoadDicom(Transform):  # type: ignore[misc]
    """Read a DICOM series as a ``MetaTensor`` (1, i, j, k) with the affine to RAS mm, as ``LoadImage`` gives it.

    The voxel order is that of the converted file, so that masks which lie on it fit: the scanner's, but for oblique
    series that NIfTI doesn't hold in it.

    Slices are placed by the positions in their headers alone, and what is no certain volume is refused with the
    reason: a missing slice, uneven spacing, several volumes in one series. See ``volseg.read``.

    Args:
        series: the number or name of the series where a folder has several, as ``volseg convert --dry-run`` shows it.
        suv: whether PET becomes uptake by body weight, in g/ml.
        dtype: of the voxels; None keeps that of the series.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012  as MONAI declares it

    def __init__(self, series: int | str | None = None, *, suv: bool = False, dtype: DTypeLike | None = np.float32):
        self.series = None if series is None else str(series)
        self.suv = suv
        self.dtype = dtype

    def __call__(self, source: StrPath) -> MetaTensor:
        """Read the series in a folder or archive.

        Raises:
            UsageError: the folder is absent, or several series are there and none is named.
            InputError: the series is no certain volume.
            FileError: a file can't be read.
        """
        path = path_of(source, "source")
        volume = for_nifti(read_series(path, self.series, suv=self.suv).volume)
        voxels = volume.array if self.dtype is None else volume.array.astype(self.dtype)
        image = Volume(voxels, volume.grid).to_metatensor()
        image.meta[ImageMetaKey.FILENAME_OR_OBJ] = str(path)  # by which SaveImage names its files
        return image


class LoadDicomd(MapTransform):  # type: ignore[misc]
    """Read DICOM series named in a dictionary; see ``LoadDicom``.

    Args:
        keys: whose values are folders or archives; a ``MetaTensor`` takes the place of each.
        series, suv, dtype: as ``LoadDicom``.
        allow_missing_keys: whether a key may be absent.
    """

    backend = LoadDicom.backend

    def __init__(
        self,
        keys: KeysCollection,
        series: int | str | None = None,
        *,
        suv: bool = False,
        dtype: DTypeLike | None = np.float32,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.loader = LoadDicom(series, suv=suv, dtype=dtype)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The dictionary with the images in it; raises as ``LoadDicom``."""
        return {**data, **{key: self.loader(data[key]) for key in self.key_iterator(data)}}


class PostprocessLabels(Transform):  # type: ignore[misc]
    """Apply volseg's rules to a mask (1, i, j, k) of labels; see ``volseg.postprocess``.

    Args:
        keep_largest: labels of which only the largest connected component stays, or ``all``.
        minimum_size_mm3: connected components below this volume go; asks for a ``MetaTensor``, which knows its spacing.
        fill_holes: labels whose holes are filled, where that label alone encloses them, or ``all``.
        connectivity: voxels are connected across faces (6), edges too (18), or corners too (26).

    Raises:
        UsageError: nothing is asked for, or a label or size makes no sense.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012

    def __init__(
        self,
        keep_largest: Many[int | str] = (),
        *,
        minimum_size_mm3: float = 0.0,
        fill_holes: Many[int | str] = (),
        connectivity: Literal[6, 18, 26] = 26,
    ):
        self.needs_spacing = minimum_size_mm3 > 0
        self.rules = PostprocessOptions(
            keep_largest=each(keep_largest),
            minimum_size_mm3=minimum_size_mm3,
            fill_holes=each(fill_holes),
            connectivity=connectivity,
        ).rules()
        if not self.rules:
            raise UsageError("PostprocessLabels needs keep_largest, minimum_size_mm3 or fill_holes.")

    def __call__(self, mask: NdarrayOrTensor) -> NdarrayOrTensor:
        """The mask that the rules make, of the same type.

        Raises:
            InputError: it is not of whole numbers.
            UsageError: it has several channels, or its spacing is needed and not known.
        """
        if mask.ndim != 4 or mask.shape[0] != 1:
            raise UsageError(f"PostprocessLabels takes labels (1, i, j, k), not the shape {tuple(mask.shape)}.")
        if isinstance(mask, MetaTensor):
            volume = Volume.of(mask)
        elif self.needs_spacing:
            raise UsageError("minimum_size_mm3 needs a MetaTensor, which knows its spacing.")
        else:
            array = mask[0].cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask[0])
            volume = Volume(array, Grid(array.shape, np.eye(4)))
        labels = Mask(volume.array, volume.grid)
        cleaned, _ = self.rules.apply(labels.array, labels.grid)
        return convert_to_dst_type(cleaned[None], mask)[0]


class PostprocessLabelsd(MapTransform):  # type: ignore[misc]
    """Apply volseg's rules to masks in a dictionary; see ``PostprocessLabels``.

    Args:
        keys: whose values are masks (1, i, j, k).
        keep_largest, minimum_size_mm3, fill_holes, connectivity: as ``PostprocessLabels``.
        allow_missing_keys: whether a key may be absent.
    """

    backend = PostprocessLabels.backend

    def __init__(
        self,
        keys: KeysCollection,
        keep_largest: Many[int | str] = (),
        *,
        minimum_size_mm3: float = 0.0,
        fill_holes: Many[int | str] = (),
        connectivity: Literal[6, 18, 26] = 26,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.cleaner = PostprocessLabels(
            keep_largest, minimum_size_mm3=minimum_size_mm3, fill_holes=fill_holes, connectivity=connectivity
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The dictionary with the masks in it; raises as ``PostprocessLabels``."""
        return {**data, **{key: self.cleaner(data[key]) for key in self.key_iterator(data)}}

"""A volume in memory, and what a file says of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.errors import GeometryError, InputError
from volseg.grid import LPS_FROM_RAS, Grid

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """Voxels on a grid.

    Args:
        array: (i, j, k), or (i, j, k, channel).
        grid: where the voxels lie.

    Raises:
        GeometryError: the array's shape is not the grid's.
        InputError: it holds no numbers.
    """

    array: NDArray[np.generic]
    grid: Grid

    def __post_init__(self) -> None:
        if not isinstance(self.grid, Grid):
            raise GeometryError(f"A volume lies on a Grid, not on {type(self.grid).__name__}.")
        object.__setattr__(self, "array", np.asarray(self.array))
        if self.array.ndim not in (3, 4) or self.array.shape[:3] != self.grid.shape:
            raise GeometryError(f"The voxels {self.array.shape} don't fit the grid {self.grid.shape}.")
        if self.array.dtype.kind not in "biuf":
            raise InputError(f"A volume has one number in each voxel, not {self.array.dtype}.", code="not-scalar")

    def __repr__(self) -> str:
        channels = f"{self.channels} channels of " if self.array.ndim == 4 else ""
        return f"{type(self).__name__}({channels}{self.array.dtype}, {self.grid})"

    @property
    def channels(self) -> int:
        """How many values each voxel has."""
        return self.array.shape[3] if self.array.ndim == 4 else 1

    @classmethod
    def of(cls, image: Any) -> Self:
        """The volume in an image of SimpleITK or nibabel, or in MONAI's ``MetaTensor`` (channel, i, j, k).

        Raises:
            InputError: it is none of them, or has not three dimensions.
            GeometryError: it doesn't say where its voxels lie in the patient.
        """
        match type(image).__module__.partition(".")[0]:
            case "SimpleITK":
                array, affine = _of_sitk(image)
            case "nibabel":
                array, affine = _of_nibabel(image)
            case "monai":
                array, affine = _of_metatensor(image)
            case _:
                raise InputError(
                    "A volume is made of an image of SimpleITK or nibabel, or of a MetaTensor, not of "
                    f"{type(image).__name__}.",
                    code="not-an-image",
                )
        if array.ndim not in (3, 4):
            raise InputError(
                f"The image has the shape {array.shape}, and a volume has three axes.", code="not-a-volume"
            )
        if array.ndim == 4 and array.shape[3] == 1:
            array = array[..., 0]
        i, j, k = array.shape[:3]
        return cls(array, Grid((i, j, k), affine))

    def to_sitk(self) -> Any:
        """The volume as an image of SimpleITK, in LPS mm; channels become components."""
        import SimpleITK as sitk

        voxels = np.swapaxes(storable(self.array), 0, 2)  # (k, j, i), or (k, j, i, channel)
        image = sitk.GetImageFromArray(voxels, isVector=voxels.ndim == 4)
        image.SetSpacing(self.grid.spacing_mm)
        image.SetOrigin(self.grid.lps_affine[:3, 3].tolist())
        image.SetDirection((self.grid.lps_affine[:3, :3] / self.grid.spacing_mm).ravel().tolist())
        return image

    def to_nibabel(self) -> Any:
        """The volume as a ``Nifti1Image``, in RAS mm; its voxel order stays.

        Where a qform can't hold the grid in that order, or not at all, the sform alone has a code.
        """
        from nibabel.nifti1 import Nifti1Image

        from volseg.volume.qform import axes_to_reverse

        voxels = storable(self.array)
        image = Nifti1Image(voxels, self.grid.affine, dtype=voxels.dtype)
        image.header.set_xyzt_units("mm")
        image.set_sform(self.grid.affine, code=1)
        image.set_qform(self.grid.affine, code=1)
        held = self.grid.difference(Grid(self.grid.shape, image.get_qform())) is None
        if not held or axes_to_reverse(self.grid):
            image.set_qform(None, code=0)
        return image

    def to_metatensor(self) -> Any:
        """The volume as MONAI's ``MetaTensor`` (channel, i, j, k), in RAS mm."""
        import torch
        from monai.data import MetaTensor
        from monai.utils import MetaKeys, SpaceKeys

        voxels = storable(self.array if self.array.ndim == 4 else self.array[..., None])
        if voxels.dtype.kind == "u" and voxels.dtype.itemsize > 1:  # torch computes little with these
            voxels = voxels.astype(f"i{min(8, 2 * voxels.dtype.itemsize)}")
        affine = torch.from_numpy(self.grid.affine.copy())
        meta = {
            MetaKeys.ORIGINAL_AFFINE.value: affine.clone(),
            MetaKeys.SPATIAL_SHAPE.value: np.array(self.grid.shape),
            MetaKeys.SPACE.value: SpaceKeys.RAS,
        }
        return MetaTensor(torch.from_numpy(np.array(np.moveaxis(voxels, 3, 0), order="C")), affine=affine, meta=meta)


@dataclass(frozen=True, eq=False)
class ImageHeader:
    """What a file says about its voxels before they are read.

    Args:
        grid: where the voxels lie; in NIfTI by the sform, or by the qform without one, as nibabel has it.
        channels: how many values each voxel has.
        dtype: the stored type.
        forms_apart_mm: how far apart NIfTI's sform and qform place a corner voxel, where both are set. ITK and
            ITK-SNAP go by the qform unless the sform has code 1, so above rounding nobody is certain.
        oddity: what other readers, MONAI's among them, take in another way, as a clause; empty where there is nothing.
    """

    grid: Grid
    channels: int
    dtype: np.dtype[np.generic]
    forms_apart_mm: float = 0.0
    oddity: str = ""


def _of_sitk(image: Any) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    import SimpleITK as sitk

    if image.GetDimension() != 3:
        raise InputError(
            f"The image has {image.GetDimension()} dimensions, and a volume has three.", code="not-a-volume"
        )
    grid = Grid.from_lps(image.GetSize(), image.GetOrigin(), image.GetDirection(), image.GetSpacing())
    return np.swapaxes(sitk.GetArrayFromImage(image), 0, 2), grid.affine


def _of_nibabel(image: Any) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    from nibabel.nifti1 import Nifti1Pair

    if not isinstance(image, Nifti1Pair):
        raise InputError(f"Of nibabel, a volume is made of NIfTI, not of {type(image).__name__}.", code="not-an-image")
    if not (image.header["sform_code"] or image.header["qform_code"]):
        raise GeometryError("The image has neither an sform nor a qform: nobody can tell its left from its right.")
    scale = {"meter": 1000.0, "micron": 0.001}.get(image.header.get_xyzt_units()[0], 1.0)
    return np.asanyarray(image.dataobj), np.diag((scale, scale, scale, 1.0)) @ image.affine


def _of_metatensor(image: Any) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    from monai.utils import MetaKeys, SpaceKeys

    if image.ndim != 4:
        raise InputError(
            f"A MetaTensor of the shape {tuple(image.shape)} is no volume (channel, i, j, k).", code="not-a-volume"
        )
    affine = np.asarray(image.affine.cpu(), dtype=np.float64)
    if image.meta.get(MetaKeys.SPACE) == SpaceKeys.LPS:
        affine = LPS_FROM_RAS @ affine
    return np.moveaxis(image.as_tensor().detach().cpu().numpy(), 0, -1), affine


def storable(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The voxels in a type that every image format has, and in this machine's byte order."""
    if array.dtype.char in "?e":
        return array.astype(np.uint8 if array.dtype.char == "?" else np.float32)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

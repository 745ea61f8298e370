"""Interpolation between oblique grids, through SimpleITK.

ITK's images want orthogonal axes. So an image's physical space is its voxel index here, and the whole affine map
between the grids, shear included, is the transform.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from volseg.resampling.index_map import IndexMap


def interpolate_oblique(array: NDArray[np.generic], index_map: IndexMap, *, spline: bool) -> NDArray[np.generic]:
    """Linear or 3rd-order B-spline interpolation of floats (i, j, k) onto the target."""
    import SimpleITK as sitk

    image = _image(array)
    kind = image.GetPixelID()
    interpolator = sitk.sitkBSpline3 if spline else sitk.sitkLinear
    return _resampled(image, index_map.affine, index_map.target, interpolator, kind)


class Nearest:
    """Nearest neighbours of labels (i, j, k)."""

    def __init__(self, array: NDArray[np.generic], index_map: IndexMap) -> None:
        self._image, self._map = _image(array), index_map

    def pick(self, offset: Sequence[float], slab: slice) -> NDArray[np.generic]:
        """The labels for a slab of target voxels, off by fractions of one."""
        import SimpleITK as sitk

        affine = self._map.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ np.add(offset, (0, 0, slab.start))
        shape = (*self._map.target[:2], slab.stop - slab.start)
        return _resampled(self._image, affine, shape, sitk.sitkNearestNeighbor, self._image.GetPixelID())


def _image(array: NDArray[np.generic]) -> Any:
    import SimpleITK as sitk

    return sitk.GetImageFromArray(np.ascontiguousarray(array.T))


def _resampled(
    image: Any, affine: NDArray[np.float64], shape: tuple[int, ...], interpolator: int, kind: int
) -> NDArray[np.generic]:
    import SimpleITK as sitk

    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(n) for n in shape])
    resampler.SetTransform(sitk.AffineTransform(affine[:3, :3].ravel().tolist(), affine[:3, 3].tolist(), [0.0] * 3))
    resampler.SetInterpolator(interpolator)
    resampler.SetOutputPixelType(kind)
    resampler.UseNearestNeighborExtrapolatorOn()  # the border's values, for points beyond the last centre
    result: NDArray[np.generic] = sitk.GetArrayFromImage(resampler.Execute(image)).T
    return result

"""Resampling of volumes and masks onto another grid, in world space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from volseg.resampling.index_map import IndexMap
from volseg.resampling.labels import vote
from volseg.resampling.weights import interpolate, smooth
from volseg.volume import Volume
from volseg.voxels import plane_ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from volseg.grid import Grid

Interpolation = Literal["linear", "bspline", "nearest"]

DOWNSAMPLING_TOLERANCE = 1.01
"""Below one per cent of downsampling the Gaussian would be narrower than 0.06 voxels and change nothing."""
FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))


def resample(
    volume: Volume, grid: Grid, *, interpolation: Interpolation = "linear", fill: float | None = None
) -> Volume:
    """Resample a volume onto another grid, exact in world space.

    Both grids may be sheared, flipped or oblique: only the affine map from one's voxel indices to the other's is
    used. A point within the outer box of the source, whose edges lie half a voxel outside the voxel centres, takes
    its value from the border where it lies beyond the last centre. A point outside the box gets ``fill``.

    ``linear`` and ``bspline`` (3rd order) smooth with a Gaussian first, along each source axis on which the target's
    voxels are wider: sigma = sqrt(w^2 - s^2) / (2 sqrt(2 ln 2)), for source spacing s and target width w along that
    axis, so that the point spread functions, taken as Gaussians whose full width at half maximum is the spacing,
    match (Cardoso et al., "Scale factor point spread function matching", MICCAI 2015). Integers are rounded, halves
    to even, and clipped to their type, never wrapped.

    ``nearest`` is for masks. Where the target's voxels are not wider it takes the label at the new voxel's centre.
    Where they are wider, the label that fills most of the new voxel wins, and a tie goes to the label at the centre;
    so small gaps and grains don't come and go with the sampling, and every label, background included, has the same
    right. Voxels of a float type are never counted, only picked.

    Args:
        volume: voxels (i, j, k) or (i, j, k, channel), of any integer or float type.
        grid: the target.
        interpolation: ``linear``, ``bspline`` or ``nearest``.
        fill: the value outside the source's outer box; by default 0 for ``nearest``, else the lowest value there is.

    Returns:
        Voxels of the same type on ``grid``, as a view of one C-ordered [k, j, i] array.
    """
    index_map = IndexMap.between(volume.grid, grid)
    if index_map.is_identity:
        return Volume(volume.array, grid)
    if volume.array.ndim == 4:
        channels = [
            resample(Volume(volume.array[..., c], volume.grid), grid, interpolation=interpolation, fill=fill).array
            for c in range(volume.array.shape[3])
        ]
        return Volume(np.stack(channels, axis=-1), grid)
    source = _computable(volume.array)
    factors = downsampling_factors(volume.grid, grid)
    wider = factors > DOWNSAMPLING_TOLERANCE
    if interpolation == "nearest":
        values = vote(source, index_map, wider)
    else:
        sigmas = np.sqrt(np.where(wider, factors**2 - 1, 0)) / FWHM_PER_SIGMA
        values = _interpolated(source, index_map, sigmas, spline=interpolation == "bspline")
    if fill is None:
        fill = 0 if interpolation == "nearest" else _lowest(source)
    index_map.fill_outside(values, fill)
    return Volume(_like(values, volume.array.dtype), grid)


def downsampling_factors(source: Grid, target: Grid) -> NDArray[np.float64]:
    """(3,) how many times wider than the source's spacing the target's voxels are, along each source axis.

    A target voxel's width along a direction is that of the ellipsoid with its spacings as axes, so that a rotation
    alone asks for no smoothing; a sheared target counts with its nearest orthogonal axes.
    """
    left, _, right = np.linalg.svd(target.direction)
    axes_mm = (left @ right) * np.asarray(target.spacing_mm)
    widths_mm = np.linalg.norm(source.direction.T @ axes_mm, axis=1)
    factors: NDArray[np.float64] = widths_mm / np.asarray(source.spacing_mm)
    return factors


def _computable(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The voxels in this machine's byte order, in a type that can be computed with."""
    if array.dtype == np.bool_:
        return array.view(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _interpolated(
    source: NDArray[np.generic], index_map: IndexMap, sigmas: NDArray[np.float64], *, spline: bool
) -> NDArray[np.generic]:
    """Smoothed and interpolated, in the source's type; (i, j, k) of the target."""
    # Floats that hold the source's values exactly, but for 64-bit integers.
    kind: type[np.floating[Any]]
    kind = np.float64 if source.dtype.itemsize > (4 if source.dtype.kind == "f" else 2) else np.float32
    result = np.empty(index_map.target[::-1], source.dtype).T
    if index_map.axes is not None:

        def put(k: int, plane: NDArray[np.floating[Any]]) -> None:
            result[:, :, k] = _like(plane, source.dtype)

        interpolate(source, index_map.axes, sigmas.tolist(), kind, index_map.target, put, spline=spline)
        return result
    from volseg.resampling.oblique import interpolate_oblique

    floats = smooth(source, sigmas.tolist(), kind) if sigmas.any() else source.astype(kind, copy=False)
    values = interpolate_oblique(floats, index_map, spline=spline)
    ni, nj, nk = index_map.target
    for slab in plane_ranges(nk, ni * nj):
        result[:, :, slab] = _like(values[:, :, slab], source.dtype)
    return result


def _lowest(array: NDArray[np.generic]) -> float:
    if array.dtype.kind == "f":
        finite = array[np.isfinite(array)]
        return float(finite.min()) if finite.size else 0.0
    return float(array.min())


def _like(values: NDArray[np.generic], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Values in a type; floats become integers by rounding, without a wrap."""
    if values.dtype == dtype:
        return values
    if dtype.kind == "b":
        return np.asarray(values != 0)
    if dtype.kind not in "iu" or values.dtype.kind != "f":
        return values.astype(dtype)
    bounds = np.iinfo(dtype.name)
    high = float(bounds.max)
    while int(high) > bounds.max:  # the limits of 64-bit integers round up as floats, out of range
        high = float(np.nextafter(high, 0))
    clipped: NDArray[np.generic] = np.clip(np.rint(values), float(bounds.min), high)
    return clipped.astype(dtype)

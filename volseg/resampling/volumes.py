"""Resampling of volumes and masks onto another grid, in world space."""

from __future__ import annotations

from dataclasses import dataclass
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
BEYOND_BY_ROUNDING = 1e-5
"""Of the largest float of the source: a spline goes this far beyond it by the rounding of its weights alone."""
BSPLINE_CLAMPED = "bspline-clamped"
"""The code of a volume in which a spline swung beyond the source's values, and was brought back to them."""


@dataclass(frozen=True, eq=False)
class Resampled:
    """A volume on another grid, and whether a spline that swung beyond the source's values was brought back to them."""

    volume: Volume
    clamped: bool


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
    to even, never wrapped. A spline swings beyond its voxels' values beside an edge; what lies beyond the lowest and
    the highest value of the source is brought back to them.

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
    return resample_telling(volume, grid, interpolation=interpolation, fill=fill).volume


def resample_telling(
    volume: Volume, grid: Grid, *, interpolation: Interpolation = "linear", fill: float | None = None
) -> Resampled:
    """The same as ``resample``, with whether values were brought back to the source's range."""
    index_map = IndexMap.between(volume.grid, grid)
    if index_map.is_identity:
        return Resampled(Volume(volume.array, grid), clamped=False)
    if volume.array.ndim == 4:
        channels = [
            resample_telling(Volume(volume.array[..., c], volume.grid), grid, interpolation=interpolation, fill=fill)
            for c in range(volume.array.shape[3])
        ]
        array = np.stack([one.volume.array for one in channels], axis=-1)
        return Resampled(Volume(array, grid), any(one.clamped for one in channels))
    source = _computable(volume.array)
    factors = downsampling_factors(volume.grid, grid)
    wider = factors > DOWNSAMPLING_TOLERANCE
    bounds = _Bounds.of(source) if interpolation == "bspline" else None
    if interpolation == "nearest":
        values = vote(source, index_map, wider)
    else:
        sigmas = np.sqrt(np.where(wider, factors**2 - 1, 0)) / FWHM_PER_SIGMA
        values = _interpolated(source, index_map, sigmas, bounds)
    if fill is None:
        fill = 0 if interpolation == "nearest" else _lowest(source)
    index_map.fill_outside(values, fill)
    return Resampled(Volume(_like(values, volume.array.dtype), grid), bounds is not None and bounds.exceeded)


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


@dataclass
class _Bounds:
    """The lowest and the highest value of a source, and whether any value was beyond them."""

    low: float
    high: float
    margin: float
    """How far beyond them a value may be without a change, but for rounding."""
    exceeded: bool = False

    @classmethod
    def of(cls, source: NDArray[np.generic]) -> _Bounds:
        low, high = float(np.fmin.reduce(source, axis=None)), float(np.fmax.reduce(source, axis=None))
        return cls(low, high, 0.5 if source.dtype.kind in "iu" else BEYOND_BY_ROUNDING * max(-low, high))

    def within(self, values: NDArray[Any]) -> NDArray[Any]:
        if not self.exceeded:
            self.exceeded = bool(((values < self.low - self.margin) | (values > self.high + self.margin)).any())
        clipped: NDArray[Any] = np.clip(values, self.low, self.high)
        return clipped


def _interpolated(
    source: NDArray[np.generic], index_map: IndexMap, sigmas: NDArray[np.float64], bounds: _Bounds | None
) -> NDArray[np.generic]:
    """Smoothed and interpolated, in the source's type; (i, j, k) of the target; by splines where there are bounds."""
    # Floats that hold the source's values exactly, but for 64-bit integers.
    kind: type[np.floating[Any]]
    kind = np.float64 if source.dtype.itemsize > (4 if source.dtype.kind == "f" else 2) else np.float32
    result = np.empty(index_map.target[::-1], source.dtype).T
    if index_map.axes is not None:

        def put(k: int, plane: NDArray[np.floating[Any]]) -> None:
            result[:, :, k] = _like(bounds.within(plane) if bounds else plane, source.dtype)

        interpolate(source, index_map.axes, sigmas.tolist(), kind, index_map.target, put, spline=bounds is not None)
        return result
    from volseg.resampling.oblique import interpolate_oblique

    floats = smooth(source, sigmas.tolist(), kind) if sigmas.any() else source.astype(kind, copy=False)
    values = interpolate_oblique(floats, index_map, spline=bounds is not None)
    ni, nj, nk = index_map.target
    for slab in plane_ranges(nk, ni * nj):
        part = values[:, :, slab]
        result[:, :, slab] = _like(bounds.within(part) if bounds else part, source.dtype)
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

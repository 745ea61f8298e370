"""A volume or mask onto another grid, exact in the patient's millimetres; flips and permutations without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from volseg.errors import UsageError
from volseg.grid import Grid
from volseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Interpolation = Literal["linear", "bspline", "nearest"]

SAME_PLACE_VOXELS = 1e-6
"""Two grids coincide when no corner differs by more, in voxels; far below what any voxel type can show."""
EDGE_TOLERANCE_VOXELS = 1e-3
"""A point this far outside the outer box still counts as inside, since affines in files are rounded."""
DOWNSAMPLING_TOLERANCE = 1.01
"""Below one per cent of downsampling the Gaussian would be narrower than 0.06 voxels and change nothing."""
FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))
KERNEL_ERROR = 1e-3
"""The part of the Gaussian's weight that may be cut off."""
MAX_VOTES_PER_AXIS = 8
"""Positions probed along each axis of a new mask voxel; more change no vote that matters."""
SLAB_VOXELS = 2**22
"""Masks and rounding go through the volume in slabs of about this many voxels, to bound the memory."""


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
        Voxels of the same type on ``grid``.
    """
    to_source = np.linalg.inv(volume.grid.affine) @ grid.affine
    if _coincide(to_source, volume.grid.shape, grid.shape):
        return Volume(volume.array, grid)
    if volume.array.ndim == 4:
        channels = [
            resample(Volume(volume.array[..., c], volume.grid), grid, interpolation=interpolation, fill=fill).array
            for c in range(volume.array.shape[3])
        ]
        return Volume(np.stack(channels, axis=-1), grid)
    source = _computable(volume.array)
    widths = downsampling_factors(volume.grid, grid)
    if interpolation == "nearest":
        values = _vote(source, to_source, grid.shape, widths)
        outside = 0.0
    else:
        values = _interpolate(source, to_source, grid.shape, widths, spline=interpolation == "bspline")
        outside = _lowest(source)
    _fill_outside(values, to_source, volume.grid.shape, outside if fill is None else fill)
    return Volume(_as_type(values, volume.array.dtype), grid)


def reorient(volume: Volume, axes: str) -> Volume:
    """Flip and permute the voxel axes to point to ``axes``, such as ``RAS``; no voxel changes its value or place.

    Args:
        volume: voxels (i, j, k) or (i, j, k, channel).
        axes: one of L or R, one of A or P, one of S or I, in any order.

    Raises:
        UsageError: ``axes`` is not such a word.
    """
    from nibabel.orientations import (
        apply_orientation,
        axcodes2ornt,
        inv_ornt_aff,
        io_orientation,
        ornt_transform,
    )

    word = axes.upper()
    if len(word) != 3 or any(sum(letter in pair for letter in word) != 1 for pair in ("LR", "AP", "IS")):
        raise UsageError(
            f"An orientation is three letters, one each of L or R, A or P, S or I, such as RAS; not {axes!r}."
        )
    change = ornt_transform(io_orientation(volume.grid.affine), axcodes2ornt(word))
    array = apply_orientation(volume.array, change)
    affine = volume.grid.affine @ inv_ornt_aff(change, volume.grid.shape)
    return Volume(array, Grid(array.shape[:3], affine))


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


def _coincide(to_source: NDArray[np.float64], source: tuple[int, ...], target: tuple[int, ...]) -> bool:
    if source != target:
        return False
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(target) - 1)
    moved = corners @ to_source[:3, :3].T + to_source[:3, 3]
    return bool(np.abs(moved - corners).max() <= SAME_PLACE_VOXELS)


def _computable(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The voxels in a type that ITK interpolates, in this machine's byte order."""
    if array.dtype == np.bool_:
        return array.view(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _itk_image(array: NDArray[np.generic]) -> Any:
    """An ITK image whose physical space is the voxel index, so that no axis has to be orthogonal."""
    import SimpleITK as sitk

    return sitk.GetImageFromArray(np.ascontiguousarray(array.T))


def _itk_map(to_source: NDArray[np.float64]) -> Any:
    import SimpleITK as sitk

    return sitk.AffineTransform(to_source[:3, :3].ravel().tolist(), to_source[:3, 3].tolist(), [0.0, 0.0, 0.0])


def _run(image: Any, to_source: NDArray[np.float64], shape: tuple[int, ...], interpolator: int, kind: int) -> Any:
    import SimpleITK as sitk

    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(n) for n in shape])
    resampler.SetTransform(_itk_map(to_source))
    resampler.SetInterpolator(interpolator)
    resampler.SetOutputPixelType(kind)
    resampler.UseNearestNeighborExtrapolatorOn()  # the border's values, for points beyond the last centre
    return resampler.Execute(image)


def _interpolate(
    source: NDArray[np.generic],
    to_source: NDArray[np.float64],
    shape: tuple[int, ...],
    widths: NDArray[np.float64],
    *,
    spline: bool,
) -> NDArray[np.generic]:
    """Smooth, then interpolate; (i, j, k) in a float type that holds the source's values exactly, bar 64-bit ones."""
    import SimpleITK as sitk

    wide = source.dtype.itemsize > (4 if source.dtype.kind == "f" else 2)
    kind = sitk.sitkFloat64 if wide else sitk.sitkFloat32
    image = _itk_image(source)
    sigmas = np.sqrt(np.where(widths > DOWNSAMPLING_TOLERANCE, widths**2 - 1, 0)) / FWHM_PER_SIGMA
    if sigmas.any():
        smoother = sitk.DiscreteGaussianImageFilter()
        smoother.SetVariance((sigmas**2).tolist())
        smoother.SetMaximumError(KERNEL_ERROR)
        smoother.SetMaximumKernelWidth(int(8 * sigmas.max()) + 8)
        smoother.UseImageSpacingOff()
        image = smoother.Execute(sitk.Cast(image, kind))
    image = _run(image, to_source, shape, sitk.sitkBSpline3 if spline else sitk.sitkLinear, kind)
    return _array_of(image)


def _array_of(image: Any) -> NDArray[np.generic]:
    import SimpleITK as sitk

    array: NDArray[np.generic] = sitk.GetArrayFromImage(image).T
    return array


def _slabs(shape: tuple[int, ...]) -> Iterator[slice]:
    thickness = max(1, SLAB_VOXELS // (shape[0] * shape[1]))
    for start in range(0, shape[2], thickness):
        yield slice(start, min(start + thickness, shape[2]))


def _vote(
    source: NDArray[np.generic], to_source: NDArray[np.float64], shape: tuple[int, ...], widths: NDArray[np.float64]
) -> NDArray[np.generic]:
    """The label that fills most of each target voxel, probed at evenly spread places inside it."""
    import SimpleITK as sitk

    image = _itk_image(source)
    kind = image.GetPixelID()
    votes = _votes_per_axis(to_source, widths) if source.dtype.kind in "iu" else (1, 1, 1)
    result = np.empty(shape[::-1], source.dtype).T
    for slab in _slabs(shape):
        part = (shape[0], shape[1], slab.stop - slab.start)

        def at(offset: tuple[float, ...], start: int = slab.start, part: tuple[int, ...] = part) -> Any:
            moved = to_source.copy()
            moved[:3, 3] = to_source[:3, :3] @ np.add(offset, (0, 0, start)) + to_source[:3, 3]
            return _array_of(_run(image, moved, part, sitk.sitkNearestNeighbor, kind))

        centre = at((0.0, 0.0, 0.0))
        if votes != (1, 1, 1):
            probes = [at(tuple((np.array(place) + 0.5) / votes - 0.5)) for place in np.ndindex(votes)]
            centre = _most_frequent(probes, centre)
        result[:, :, slab] = centre
    return result


def _votes_per_axis(to_source: NDArray[np.float64], widths: NDArray[np.float64]) -> tuple[int, int, int]:
    """Along each target axis, about one probe for each source voxel that it crosses; one where it is not wider."""
    if not (widths > DOWNSAMPLING_TOLERANCE).any():
        return 1, 1, 1
    # Only axes that the source resolves more finely count; the others cross source voxels through shear alone.
    crossed = np.abs(to_source[:3, :3])[widths > DOWNSAMPLING_TOLERANCE].max(axis=0)
    i, j, k = (int(n) for n in np.clip(np.ceil(crossed - 1e-6), 1, MAX_VOTES_PER_AXIS))
    return i, j, k


def _most_frequent(probes: list[NDArray[np.generic]], centre: NDArray[np.generic]) -> NDArray[np.generic]:
    """The most frequent of several arrays, voxel by voxel; ties go to ``centre``, then to the lowest label.

    The probes of disputed voxels are sorted, so memory grows with the probes and never with the labels.
    """
    first = probes[0]
    disputed = np.zeros(first.shape, dtype=bool)
    for probe in probes[1:]:
        disputed |= probe != first
    result = np.where(disputed, centre, first)
    votes = np.stack([probe[disputed] for probe in probes])
    middle = centre[disputed]
    for_centre = (votes == middle).sum(axis=0)
    votes.sort(axis=0)
    run = np.ones(middle.shape, dtype=np.int32)
    best, winner = for_centre.astype(np.int32), middle.copy()
    for row in range(1, len(votes)):
        run = np.where(votes[row] == votes[row - 1], run + 1, 1)
        better = run > best
        best[better] = run[better]
        winner[better] = votes[row][better]
    result[disputed] = winner
    return result


def _lowest(array: NDArray[np.generic]) -> float:
    if array.dtype.kind == "f":
        finite = array[np.isfinite(array)]
        return float(finite.min()) if finite.size else 0.0
    return float(array.min())


def _fill_outside(
    values: NDArray[np.generic], to_source: NDArray[np.float64], source: tuple[int, ...], fill: float
) -> None:
    """Set what lies outside the source's outer box, in place."""
    low = -0.5 - EDGE_TOLERANCE_VOXELS
    high = np.array(source) - 0.5 + EDGE_TOLERANCE_VOXELS
    shape = values.shape
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
    places = corners @ to_source[:3, :3].T + to_source[:3, 3]
    if (places >= low).all() and (places <= high).all():
        return  # the box is convex, so what holds for the corners holds for all
    i, j = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    for k in range(shape[2]):
        outside = np.zeros(shape[:2], dtype=bool)
        for axis in range(3):
            row = to_source[axis]
            place = row[0] * i + row[1] * j + (row[2] * k + row[3])
            outside |= (place < low) | (place > high[axis])
        values[:, :, k][outside] = fill


def _as_type(values: NDArray[np.generic], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Round floats to an integer type without a wrap; other types are cast."""
    if values.dtype == dtype:
        return values
    if dtype.kind == "b":
        return np.asarray(values > 0.5)  # type: ignore[operator]
    if dtype.kind not in "iu":
        return values.astype(dtype)
    result = np.empty(values.shape[::-1], dtype).T
    bounds = np.iinfo(dtype.name)
    if values.dtype.kind != "f":
        return values.astype(dtype)
    # The largest float that the type holds: int64's and uint64's own limits round up, out of range.
    high = float(bounds.max)
    while int(high) > bounds.max:
        high = float(np.nextafter(high, 0))
    for slab in _slabs(values.shape):
        part = np.rint(values[:, :, slab].astype(np.float64) if bounds.bits > 16 else values[:, :, slab])
        result[:, :, slab] = np.clip(part, float(bounds.min), high).astype(dtype)
    return result

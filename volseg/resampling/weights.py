"""Separable smoothing and interpolation, as one sparse matrix for each axis.

Each target plane is made from the source planes that it needs, each of which is brought to the target's size first.
So the memory is the result and a few planes, and most work is done on what is already small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from volseg.resampling.index_map import Axis

KERNEL_ERROR = 1e-3
"""The part of the Gaussian's weight that may be cut off."""
SPLINE_ERROR = 1e-9
"""Weights below this are left out: a spline's reach is infinite, but each voxel further counts 0.27 times as much."""


def gaussian(sigma: float) -> NDArray[np.float64]:
    """The discrete Gaussian of that standard deviation in voxels, cut off and brought to a sum of 1.

    It is the one whose variance is sigma^2 on the grid of whole numbers however narrow it is, which a sampled Gaussian's
    is not (Lindeberg, "Scale-space for discrete signals", IEEE PAMI 12(3), 1990).
    """
    from scipy.special import ive

    half = ive(np.arange(int(8 * sigma) + 8), sigma**2)
    total = np.cumsum(half) * 2 - half[0]
    radius = int(np.searchsorted(total, 1 - KERNEL_ERROR))
    kernel = np.concatenate((half[radius:0:-1], half[: radius + 1]))
    scaled: NDArray[np.float64] = kernel / kernel.sum()
    return scaled


def axis_weights(
    places: NDArray[np.float64], count: int, sigma: float, dtype: type[np.floating[Any]], *, spline: bool = False
) -> csr_array:
    """(targets, sources) the weight of each of ``count`` source voxels along an axis for each target voxel.

    Args:
        places: (targets,) fractional source indices; beyond the ends the last voxel's value goes on.
        count: of source voxels.
        sigma: of the Gaussian that smooths first, in source voxels.
        dtype: of the weights.
        spline: whether to interpolate by 3rd-order B-splines that go through the voxels' values, else linearly.
    """
    from scipy.sparse import csr_array

    places = np.clip(places, 0, count - 1)
    if spline and count > 1 and (places != np.rint(places)).any():
        weights = _spline_weights(places, count)
    else:
        below = np.floor(places).astype(int)
        part = places - below
        above = np.minimum(below + 1, count - 1)
        weights = _sparse(np.stack((below, above), axis=1), np.stack((1 - part, part), axis=1), count)
    if sigma:
        kernel = gaussian(sigma)
        reach = np.arange(len(kernel)) - len(kernel) // 2
        columns = np.clip(np.arange(count)[:, None] + reach, 0, count - 1)
        weights = weights @ _sparse(columns, np.broadcast_to(kernel, columns.shape), count)
    weights = csr_array(weights, dtype=dtype)
    weights.eliminate_zeros()  # 0 times not-a-number is not a number
    weights.sort_indices()
    return weights


def _sparse(columns: NDArray[np.int64], values: NDArray[np.float64], count: int) -> csr_array:
    """(rows, count) from the columns (rows, entries) of each row's entries; entries in one place are added up."""
    from scipy.sparse import csr_array

    rows = np.repeat(np.arange(len(columns)), columns.shape[1])
    return csr_array((values.ravel(), (rows, columns.ravel())), shape=(len(columns), count))


def _spline_weights(places: NDArray[np.float64], count: int) -> csr_array:
    """Cubic B-splines whose coefficients solve for the voxels' values, the voxels mirrored at either end.

    Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Processing Magazine 16(6), 1999.
    """
    from scipy.linalg import solve_banded
    from scipy.sparse import csr_array

    below = np.floor(places).astype(int)
    part = places - below
    taps = np.stack(
        ((1 - part) ** 3, 3 * part**3 - 6 * part**2 + 4, -3 * part**3 + 3 * part**2 + 3 * part + 1, part**3)
    )
    columns = below[:, None] + np.arange(-1, 3)
    period = 2 * (count - 1)
    columns = np.abs((columns + count - 1) % period - (count - 1))
    basis = _sparse(columns, taps.T / 6, count)
    # The values at the voxels are 1/6, 4/6, 1/6 of the coefficients about them; at the ends both sides are one.
    bands = np.full((3, count), 1 / 6)
    bands[1] = 4 / 6
    bands[0, 1] = bands[2, count - 2] = 2 / 6
    # Of the transposed matrix, whose upper band is the lower one.
    transposed = np.zeros_like(bands)
    transposed[0, 1:], transposed[1], transposed[2, :-1] = bands[2, :-1], bands[1], bands[0, 1:]
    weights = solve_banded((1, 1), transposed, basis.T.toarray()).T
    weights[np.abs(weights) < SPLINE_ERROR] = 0
    return csr_array(weights / weights.sum(axis=1, keepdims=True))


def smooth(
    array: NDArray[np.generic], sigmas: Sequence[float], dtype: type[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """Smooth along each axis of (i, j, k), in voxels of that axis."""
    from volseg.resampling.index_map import Axis

    same = (Axis(0, 1.0, 0.0), Axis(1, 1.0, 0.0), Axis(2, 1.0, 0.0))
    result: NDArray[np.floating[Any]] = np.empty(array.shape[::-1], dtype).T
    interpolate(array, same, sigmas, dtype, array.shape, lambda k, plane: result[:, :, k].__setitem__(..., plane))
    return result


def interpolate(
    array: NDArray[np.generic],
    axes: tuple[Axis, Axis, Axis],
    sigmas: Sequence[float],
    dtype: type[np.floating[Any]],
    shape: tuple[int, ...],
    put: Callable[[int, NDArray[np.floating[Any]]], None],
    *,
    spline: bool = False,
) -> None:
    """Smooth and interpolate, plane by plane.

    Args:
        array: the source, (i, j, k) in its own axes.
        axes: the source axis of each target axis.
        sigmas: of the Gaussian along each source axis, in its voxels.
        dtype: to compute in.
        shape: of the target.
        put: called with each k of the target, ascending, and its plane (i, j).
        spline: whether to interpolate by 3rd-order B-splines, else linearly.
    """
    turned = array.transpose([axis.source for axis in axes])
    across_i, across_j, across_k = (
        axis_weights(axis.places(count), turned.shape[number], sigmas[axis.source], dtype, spline=spline)
        for number, (axis, count) in enumerate(zip(axes, shape, strict=True))
    )
    planes: dict[int, NDArray[np.floating[Any]]] = {}
    for k in range(shape[2]):
        chosen = slice(across_k.indptr[k], across_k.indptr[k + 1])
        needed = across_k.indices[chosen]
        for number in [number for number in planes if number not in needed]:
            del planes[number]
        total: NDArray[np.floating[Any]] | None = None
        for number, weight in zip(needed, across_k.data[chosen], strict=True):
            if number not in planes:
                planes[number] = _plane(turned[:, :, number], across_i, across_j, dtype)
            if total is None:
                total = planes[number] if weight == 1 else planes[number] * weight
            else:
                total += planes[number] * weight
        assert total is not None, "each row of weights sums to 1"
        put(k, total)


def _plane(
    plane: NDArray[np.generic], across_i: csr_array, across_j: csr_array, dtype: type[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """(i, j) of the target from a source plane, j first: rows of the transposed plane lie together in memory."""
    by_j = across_j @ np.ascontiguousarray(plane.T, dtype=dtype)
    result: NDArray[np.floating[Any]] = across_i @ np.ascontiguousarray(by_j.T)
    return result

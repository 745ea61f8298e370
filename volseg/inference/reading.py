"""A preprocessing with its two slow steps done in another way: the same numbers, but for the rounding of floats.

MONAI resamples in 64 bits with the place of each voxel in memory, and nibabel unpacks with zlib. Everything else, and what
is remembered of each step for the way back, stays MONAI's.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from isal import igzip
from monai.data import MetaTensor, NibabelReader
from monai.transforms import Compose, LoadImaged, Spacingd, TraceableTransform

from volseg.inference.planes import Planes, side_by_side
from volseg.inference.way_back import ACROSS_VOXELS, UNCHANGED, Taps, places_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

PLANES = 8
"""Resampled at once."""


def quick(preprocessing: Any) -> Any:
    """The preprocessing with the same steps, of which loading NIfTI and linear resampling are quicker and leaner.

    A preprocessing that is no plain sequence stays as it is, as does any other step.
    """
    if type(preprocessing) is not Compose or preprocessing.lazy or preprocessing.overrides:
        return preprocessing
    swapped = [_quick_step(step) for step in preprocessing.transforms]
    return Compose(swapped, map_items=preprocessing.map_items, unpack_items=preprocessing.unpack_items)


def _quick_step(step: Any) -> Any:
    if type(step) is LoadImaged:
        loading = copy(step)
        loading._loader = copy(step._loader)
        loading._loader.readers = [
            QuickReader(reader, step._loader.dtype) if type(reader) is NibabelReader else reader
            for reader in step._loader.readers
        ]
        return loading
    if type(step) is Spacingd and not step.lazy and step.spacing_transform.recompute_affine is False:
        return Spacing(step)
    return step


class QuickReader(NibabelReader):  # type: ignore[misc]
    """MONAI's reader of NIfTI, unpacking with ISA-L what is packed.

    Args:
        reader: that it stands in for.
        dtype: that the image is wanted in.
    """

    def __init__(self, reader: NibabelReader, dtype: object) -> None:
        super().__init__()
        self.__dict__.update(reader.__dict__)
        self._turns = dtype is np.float32

    def _get_array_data(self, img: Any, filename: Any) -> Any:
        array = self._stored(img, filename)
        return in_rows(array) if self._turns and isinstance(array, np.ndarray) and array.ndim > 2 else array

    def _stored(self, img: Any, filename: Any) -> Any:
        stored = img.dataobj
        plain = not self.to_gpu and getattr(stored, "order", "") == "F" and (stored.slope, stored.inter) == (1, 0)
        if str(filename).endswith(".nii.gz") and plain:
            size = int(np.prod(stored.shape, dtype=np.int64)) * stored.dtype.itemsize
            try:
                with igzip.open(filename, "rb") as file:
                    file.seek(stored.offset)
                    raw = file.read(size)
            except (OSError, EOFError):  # nibabel says what is wrong
                raw = b""
            if len(raw) == size:
                array = np.frombuffer(raw, stored.dtype).reshape(stored.shape, order="F")
                return array.copy(order="F") if array.dtype == np.float32 else array  # others are converted anyway
        return super()._get_array_data(img, filename)


def in_rows(array: NDArray[Any]) -> NDArray[np.float32]:
    """An image (i, j, k, ...) as float32 in C's order, out of any order.

    Plane by plane through a buffer of odd width: strides of whole planes, which are often powers of two, would miss the
    processor's cache with each voxel.
    """
    result = np.empty(array.shape, np.float32)
    rows = array.shape[0]
    buffer = np.empty((*array.shape[:1:-1], rows + 16), np.float32)[..., :rows].T
    for plane in range(array.shape[1]):
        buffer[...] = array[:, plane]
        result[:, plane] = buffer
    return result


class Spacing:
    """MONAI's ``Spacingd``, linear, one axis after the other.

    Args:
        step: that it stands in for.
    """

    def __init__(self, step: Spacingd) -> None:
        self._step = step

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Resample the images of a case."""
        keys = list(self._step.key_iterator(dict(data)))
        image = data.get(keys[0]) if len(keys) == 1 else None
        found = self._resampled(image) if isinstance(image, MetaTensor) else None
        return self._step(data) if found is None else {**data, keys[0]: found}

    def _resampled(self, image: MetaTensor) -> MetaTensor | None:
        """The image on its new grid; None where MONAI has to do it."""
        step = self._step
        options = {"mode": step.mode[0], "padding_mode": step.padding_mode[0], "align_corners": step.align_corners[0]}
        if (str(options["mode"]), str(options["padding_mode"])) != ("bilinear", "border") or image.ndim != 4:
            return None
        if image.pending_operations:
            return None
        # Asked to do it later, MONAI says what it would do.
        later = step.spacing_transform(
            image, **options, dtype=step.dtype[0], scale_extent=step.scale_extent[0], lazy=True
        ).pending_operations[-1]
        change = np.asarray(later["lazy_affine"], np.float64)
        shape = [int(size) for size in later["lazy_shape"]]
        across = np.abs(change[:3, :3] - np.diag(np.diag(change)[:3])) @ np.asarray(shape)
        same = np.allclose(change, np.eye(4), atol=UNCHANGED) and shape == list(image.shape[1:])
        if same or (across > ACROSS_VOXELS).any() or (np.diag(change)[:3] <= 0).any():
            return None
        align = options["align_corners"] is True
        taps = [
            Taps.same(count).between(places_of(count, size, change[axis, axis], change[axis, 3], align=align))
            for axis, (count, size) in enumerate(zip(image.shape[1:], shape, strict=True))
        ]
        resample = step.spacing_transform.sp_resample
        known = TraceableTransform.track_transform_meta(
            image,
            sp_size=shape,
            affine=torch.from_numpy(change),
            extra_info=later["extra_info"],
            orig_size=later["orig_size"],
            transform_info=resample.get_transform_info(),
            lazy=False,
        )
        result = MetaTensor(resampled(image.as_tensor(), taps))
        result.copy_meta_from(known)
        return result


def resampled(image: torch.Tensor, taps: Sequence[Taps]) -> torch.Tensor:
    """An image (channel, i, j, k) on another grid, float32."""
    planes = Planes(taps[0], taps[1], taps[2], image.device)
    result = torch.empty(len(image), *map(len, taps), device=image.device)
    for channel, out in zip(image, result, strict=True):

        def fill(begin: int, channel: torch.Tensor = channel, out: torch.Tensor = out) -> None:
            targets = range(begin, min(begin + PLANES, len(out)))
            out[begin : targets.stop] = planes.values(lambda _, sources: channel[sources].float(), 1, targets)[0]

        side_by_side(fill, range(0, len(out), PLANES), image.device)
    return result

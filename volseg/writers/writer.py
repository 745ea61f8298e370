"""What a writer of masks gets, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol

from volseg.volume import Volume, read_volume

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from volseg.dicom import Series
    from volseg.grid import Grid
    from volseg.labels import LabelTable


@dataclass(frozen=True)
class Algorithm:
    """What made a mask: the bundle's name and version, and whether a person edited it.

    The type is DICOM's (PS3.3, C.8.20.2 and C.8.8.5): ``SEMIAUTOMATIC`` where a person had a hand in the mask.
    """

    name: str = "volseg"
    version: str = "unknown"
    type: Literal["AUTOMATIC", "SEMIAUTOMATIC"] = "AUTOMATIC"


class Probabilities(Protocol):
    """Of the labels of a mask, as the network gave them, before any rule."""

    @property
    def labels(self) -> Collection[int]:
        """Those that have some."""
        ...

    def of(self, label: int) -> NDArray[np.uint16]:
        """Those of a label (i, j, k), of which ``PROBABILITY_ONE`` stands for 1."""
        ...


@dataclass(frozen=True)
class MaskedImage:
    """The image that a mask belongs to.

    Args:
        case: its public name.
        path: the image file on whose grid the mask lies.
        series: the DICOM series that it was made from, to which DICOM objects refer; None where there is none.
        algorithm: that made the mask.
        link: where the image will lie, relative to the folder of the masks, with slashes.
        modality: as DICOM names it; None where nobody tells.
        others: the files of further channels, on the same grid, where each has its own.
        channels: what the channels are called; empty where nobody knows.
        probabilities: of the labels; None where no writer needs them.
    """

    case: str
    path: Path
    series: Series | None = None
    algorithm: Algorithm = Algorithm()
    link: str = ""
    modality: str | None = None
    others: tuple[Path, ...] = ()
    channels: tuple[str, ...] = ()
    probabilities: Probabilities | None = None

    @cached_property
    def _whole(self) -> Volume:
        return read_volume(self.path)

    @cached_property
    def volume(self) -> Volume:
        """The image's voxels, of several channels the first.

        Raises:
            InputError, FileError: as ``read_volume``.
        """
        found = self._whole
        return found if found.array.ndim == 3 else Volume(found.array[..., 0], found.grid)

    def further(self) -> Iterator[Volume]:
        """The other channels, one after the other; each has to lie on the grid of the first to be of use.

        Raises:
            InputError, FileError: as ``read_volume``.
        """
        whole = self._whole
        for channel in range(1, whole.array.shape[3] if whole.array.ndim == 4 else 1):
            yield Volume(whole.array[..., channel], whole.grid)
        yield from map(read_volume, self.others)


class MaskWriter(Protocol):
    """Writes masks in one format."""

    def names(self, image: MaskedImage) -> tuple[str, ...]:
        """The files that ``write`` makes of this image's mask, relative to the folder; none where it can't.

        Beside a file in a folder of the case's name, ``write`` may make more of them, one for each label that is there.

        Raises:
            InputError: the format is not for images such as this.
        """
        ...

    def write(
        self, folder: Path, mask: NDArray[np.unsignedinteger], grid: Grid, table: LabelTable, image: MaskedImage
    ) -> tuple[Path, ...]:
        """Write a mask.

        Args:
            folder: where the files go.
            mask: (i, j, k), uint8 or uint16, on the image's grid.
            grid: of the image.
            table: what its numbers stand for: names, colours, codes.
            image: the image that it belongs to.

        Returns:
            The files that were written, those of ``names`` among them.

        Raises:
            InputError: the format can't hold this mask.
            FileError: a file can't be written.
        """
        ...

"""Probabilities of labels as NIfTI: ``probabilities/<case>/1-liver.nii.gz``, on the grid of the image.

They lie in a folder of their own, where nothing takes them for masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.labels import plain_word
from volseg.volume import nifti_name, write_probabilities

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.labels import Label, LabelTable
    from volseg.writers.writer import MaskedImage

FOLDER = "probabilities"


@dataclass(frozen=True)
class ProbabilityWriter:
    """Writes the probabilities of labels; see ``MaskWriter``.

    Args:
        labels: the number of each and a word for its file; none where each folder is for one region, which is its name.
    """

    labels: tuple[tuple[int, str], ...] = ()

    @classmethod
    def of(cls, labels: Iterable[Label]) -> ProbabilityWriter:
        """Of some labels, whose names are a stranger's."""
        return cls(tuple((label.index, plain_word(label.name) or "label") for label in labels))

    def names(self, image: MaskedImage) -> tuple[str, ...]:
        """A file for each label, or the one of the region."""
        if not self.labels:
            return (f"{FOLDER}/{nifti_name(image.case)}",)
        return tuple(f"{FOLDER}/{image.case}/{nifti_name(f'{number}-{word}')}" for number, word in self.labels)

    def write(
        self, folder: Path, mask: NDArray[np.unsignedinteger], grid: Grid, table: LabelTable, image: MaskedImage
    ) -> tuple[Path, ...]:
        """Write them, one after the other."""
        del mask, grid, table
        assert image.probabilities is not None, "they were asked for"
        paths = tuple(folder / name for name in self.names(image))
        for path, number in zip(paths, [number for number, _ in self.labels] or [1], strict=True):
            write_probabilities(path, image.probabilities.of(number), image.path)
        return paths

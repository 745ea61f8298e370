"""Masks that a person edited or replaced: they are taken as they are, and no network or rule touches them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from volseg.errors import GeometryError, InputError
from volseg.labels import BACKGROUND
from volseg.regions import read_region
from volseg.resampling import turned_onto
from volseg.verbs.predict.segmenting import OF_VALUES, OUTSIDE
from volseg.volume import read_mask
from volseg.voxels import values_in
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.verbs.predict.model import Model

MAX_NEW_VALUES = 100
"""Labels that a person adds to a mask; an image that was saved in its place has thousands of values."""
ACCEPTED = "A person edited or replaced its mask, which was taken as it is; its other outputs were made of it."
REMOVED = "Removed, since they were of the mask as it was before: {}."
NO_PROBABILITIES = (
    "Probabilities are what the network gave, and follow no mask that a person edited: none were written of this case."
)
OF_BEFORE = (
    "Its mask was edited, and what was made of it, such as statistics and surfaces, is still of the mask as it was before. "
    "Add --accept-edited to make it of the mask as it is now."
)
MAY_BE_TAKEN = "Its mask was edited. Add --accept-edited to take it as it is, and to make other outputs of it."
NOT_OF_EDITED = (
    "Somebody has edited its mask, and outputs are asked for that aren't there or no longer fit. Add --accept-edited to make "
    "all of them of the mask as it is now, leave them out, or make all anew with --overwrite, which loses what was edited."
)
ALSO_EDITED = (
    "Beside its mask somebody has changed {}, which would be made anew of the mask. Move it elsewhere, and run the command "
    "again."
)
GONE = "One of its masks was edited and another is gone. Put it back, or make all anew with --overwrite, which loses the edited one."
CHANGED = "Its mask was changed while other outputs were made of it, so none were written. Run the command again."
TURNED = (
    "The voxels of its edited mask run in another order than its image's, {} instead of {}. Other outputs were made in the "
    "order of the image; viewers that go by voxels, such as ITK-SNAP, may not open the mask on it."
)
EMPTY = "The mask is empty: it has none of the labels."
PASSING = (OF_BEFORE, MAY_BE_TAKEN, NO_PROBABILITIES)
"""Warnings that depend on what is asked for, so that no run takes them over from another."""
_OF_A_MASK = (*OF_VALUES, *(words.partition("{")[0] for words in (ACCEPTED, REMOVED, TURNED)))
"""How warnings begin that hold for a mask as it was, and need not for what a person made of it."""


@dataclass(frozen=True, eq=False)
class EditedMask:
    """A mask that a person edited.

    Args:
        array: (i, j, k) on the grid of its image, uint8 or uint16.
        warnings: what a person has to know.
        values_outside: values that the model's table doesn't name.
    """

    array: NDArray[np.unsignedinteger]
    warnings: tuple[str, ...] = ()
    values_outside: tuple[int, ...] = ()


def read_edited(path: Path, grid: Grid, model: Model, known: Iterable[int], *, is_region: bool) -> EditedMask:
    """Read a mask that a person edited; one in another voxel order is turned.

    Args:
        path: of the mask.
        grid: of its image.
        model: that predicted it.
        known: values of the predicted mask that the model's table doesn't name.
        is_region: whether it is of one region, so that it has one value.

    Raises:
        FileError: it can't be read.
        InputError: it is damaged, or no mask of this model.
        GeometryError: it lies on another grid, with the code ``grids-differ``.
    """
    volume = read_region(path) if is_region else read_mask(path)
    warnings: tuple[str, ...] = ()
    apart = volume.grid.difference(grid)
    if apart is not None:
        turned = turned_onto(volume, grid)
        if turned is None:
            raise GeometryError(
                f"{path} was edited, and lies on another grid than its image: {apart}. Resample it onto the image's with "
                "the nearest neighbour, or draw on that image.",
                code="grids-differ",
                path=path,
            )
        warnings = (TURNED.format(volume.grid.orientation, grid.orientation),)
        volume = turned
    mask = cast("NDArray[np.unsignedinteger]", np.ascontiguousarray(volume.array))
    values, table = {*values_in(mask)} - {BACKGROUND}, model.table
    if not values:
        warnings += (EMPTY,)
    if is_region:
        return EditedMask(mask, warnings)
    if table.ignore is not None and table.ignore in values:
        raise InputError(
            f"{path} has voxels of the ignore label, {table.ignore}, which stands for what nobody judged. Give each of them "
            "a label.",
            code="ignore-predicted",
            path=path,
        )
    beyond = tuple(sorted(values.difference(table.indices)))
    unnamed = model.rules.named(table, beyond).unnamed(beyond)
    if len({*unnamed}.difference(known)) > MAX_NEW_VALUES:
        raise InputError(
            f"{path} has {len(unnamed)} values that are no labels of the bundle, as an image has. Put the mask in its place.",
            code="mask-values",
            path=path,
        )
    if unnamed and not model.meaning.why:
        warnings += (OUTSIDE.format(listed([str(value) for value in unnamed])),)
    return EditedMask(mask, warnings, beyond)


def still_true(warnings: Iterable[str]) -> tuple[str, ...]:
    """The warnings of a predicted mask that hold for what a person made of it, too."""
    return tuple(one for one in warnings if one not in PASSING and not one.startswith(_OF_A_MASK))

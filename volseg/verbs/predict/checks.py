"""Whether a model takes the images of a case, and what a person has to know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from volseg.errors import InputError
from volseg.verbs.predict.model import MODALITIES
from volseg.verbs.predict.plausibility import doubts, outside, require_sense
from volseg.volume import read_header
from volseg.words import printable

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.dataset.case import Case
    from volseg.grid import Grid
    from volseg.verbs.predict.model import Model
    from volseg.verbs.predict.sources import Prepared

CHANNEL = "_{:04d}"
SHOWN_CHARACTERS = 40
"""Of a channel's name."""


@dataclass(frozen=True, eq=False)
class Checked:
    """The images of a case that a model takes.

    Args:
        name: the case's.
        images: a file for each channel, or one that holds all.
        grid: of the first.
        channels: how many there are.
        warnings: what a person has to know of them.
    """

    name: str
    images: tuple[Path, ...]
    grid: Grid
    channels: int
    warnings: tuple[str, ...]


def check(prepared: Prepared, modality: str | None, model: Model) -> Checked:
    """Look at the images of a case before the network does.

    Raises:
        InputError: they are none for this model.
        FileError: an image can't be read.
    """
    case, warnings = prepared.case, prepared.warnings
    grid, found = require_channels(case, model)
    require_sense(grid, model.made_for)
    if model.modality is not None and modality in MODALITIES and modality != model.modality:
        warnings += (f"The image is {modality}, and the bundle was made for {model.modality}: don't rely on the mask.",)
    known = modality if modality in MODALITIES else None
    ct: Literal["yes", "perhaps", "no"] = "no"
    if model.modality == "CT" and known in ("CT", None):
        ct = "yes" if known else "perhaps"
    warnings += (*outside(grid, model.made_for), *doubts(case.images, model.made_for, ct=ct))
    if len(model.order) == found:
        warnings += (_order_words(model.order),)
    return Checked(case.name, case.images, grid, found, warnings)


def require_channels(case: Case, model: Model) -> tuple[Grid, int]:
    """The grid of a case's images and how many channels they have, by their headers.

    Raises:
        InputError: the model takes others, or they lie on different grids.
        FileError: an image can't be read.
    """
    headers = [read_header(image) for image in case.images]
    found = headers[0].channels if len(headers) == 1 else len(headers)
    if found != model.channels and (model.exact or not model.one_file):
        named = f": {', '.join(map(_shown, model.order))}" if model.order else ""
        raise InputError(
            f"The image has {found} channels, and the bundle takes {model.channels}{named}. Give each case as many.",
            code="channels",
        )
    for header in headers[1:]:
        apart = header.grid.difference(headers[0].grid)
        if apart is not None:
            raise InputError(
                f"Its channels lie on different grids: {apart}. Resample them to one.", code="grids-differ"
            )
    return headers[0].grid, found


def _order_words(order: tuple[str, ...]) -> str:
    """Which channel was taken for what, in the bundle's words, none of which can break a line."""
    named = [f"{CHANNEL.format(number)} is {_shown(name)}" for number, name in enumerate(order)]
    return f"The channels of the case were taken in the order of the bundle: {', '.join(named)}."


def _shown(name: str) -> str:
    return printable(name)[:SHOWN_CHARACTERS]

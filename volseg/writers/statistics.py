"""``statistics.csv``: what each label of each case measures.

Each case has a table of its own, ``statistics/<case>.csv``, which is made, kept and replaced with its mask; the whole table is
put together of those that the ledger counts as done.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from volseg.atomic import write_text
from volseg.errors import GeometryError, OutputExistsError
from volseg.files import read_bounded
from volseg.labels import plain_word
from volseg.outcomes import Status
from volseg.words import harmless, printable
from volseg.writers.measures import PERCENTILES, Measures, Values, measure, values_by_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.labels import LabelTable
    from volseg.outcomes import Outcome
    from volseg.writers.writer import MaskedImage

FOLDER = "statistics"
TABLE = "statistics.csv"
MAX_TABLE_BYTES = 2**25
"""Of a case: 65,535 labels with long names."""
BEFORE = ("case", "label", "name", "voxels", "volume_ml")
VALUES = ("mean", "standard_deviation", "minimum", "maximum", *(f"percentile_{share:g}" for share in PERCENTILES))
BEHIND = (
    "centroid_right_mm", "centroid_anterior_mm", "centroid_superior_mm", "longest_diameter_mm", "surface_mm2",
    "components", "touches_border",
)  # fmt: skip
FIRST, LAST = ",".join([*BEFORE, ""]), ",".join(["", *BEHIND])
"""How a line of titles begins and ends, whatever channels there are between."""
MAX_TITLES = 2**16
"""Characters of such a line: a hundred channels have a third of it."""


@dataclass(frozen=True)
class StatisticsWriter:
    """Writes the table of one case; see ``MaskWriter``."""

    def names(self, image: MaskedImage) -> tuple[str, ...]:
        """One file."""
        return (f"{FOLDER}/{image.case}.csv",)

    def write(
        self, folder: Path, mask: NDArray[np.unsignedinteger], grid: Grid, table: LabelTable, image: MaskedImage
    ) -> tuple[Path, ...]:
        """Write a row for each label of the table, found or not, with the values of each channel of the image.

        Raises:
            GeometryError: a channel lies on another grid.
        """
        path = folder / self.names(image)[0]
        measures = {one.label: one for one in measure(mask, image.volume)}
        further = []
        for channel in image.further():
            apart = grid.difference(channel.grid)
            if apart is not None:
                raise GeometryError(f"A channel of the image lies on another grid than the first: {apart}.")
            further.append(values_by_label(mask, channel.array))
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow((*BEFORE, *_titles(image.channels, 1 + len(further)), *BEHIND))
        for label in table.labels:
            first = (harmless(printable(image.case)), label.index, harmless(printable(label.name)))
            others = [values.get(label.index) for values in further]
            rows.writerow((*first, *_cells(measures.get(label.index), others)))
        write_text(path, text.getvalue())
        return (path,)


def _titles(channels: Sequence[str], count: int) -> list[str]:
    """Of the columns of values; with the channel before each where there are several: ``flair_mean``."""
    if count == 1:
        return list(VALUES)
    words = [plain_word(name) for name in channels]
    if len(words) != count or not all(words) or len(set(words)) < count:
        words = [f"channel{number}" for number in range(count)]
    return [f"{word}_{title}" for word in words for title in VALUES]


def _cells(one: Measures | None, others: Sequence[Values | None]) -> Iterator[str]:
    """The figures of a label; of one that is not there its volume, which is 0, and nothing else."""
    if one is None:
        yield from ("0", "0", *[""] * (len(VALUES) * (1 + len(others)) + len(BEHIND) - 2), "0", "")
        return
    yield str(one.voxels)
    yield f"{one.volume_ml:.7g}"
    for of in (one.values, *others):
        yield from (
            [""] * len(VALUES)
            if of is None
            else (f"{n:.7g}" for n in (of.mean, of.standard_deviation, of.minimum, of.maximum, *of.percentiles))
        )
    yield from (f"{n:.2f}" for n in (*one.centroid_mm, one.longest_diameter_mm, one.surface_mm2))
    yield str(one.components)
    yield "yes" if one.touches_border else "no"


def require_own_table(folder: Path) -> None:
    """Refuse to write over a ``statistics.csv`` of somebody else.

    Raises:
        OutputExistsError: there is one.
    """
    path = folder / TABLE
    if path.exists() and not _is_ours(path):
        raise OutputExistsError(f"{path} is there already and is no table of volseg's. Move it elsewhere.", path=path)


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return _is_header(file.readline(MAX_TITLES).decode("utf-8", "replace").removesuffix("\n"))


def _is_header(line: str) -> bool:
    return line.startswith(FIRST) and line.endswith(LAST)


def write_statistics(folder: Path, outcomes: Iterable[Outcome]) -> tuple[str, ...]:
    """Put ``statistics.csv`` together of the tables of the cases; without any it is removed.

    Args:
        folder: of the masks.
        outcomes: of the ledger, by which the cases are known.

    Returns:
        The cases whose table can't be read, or has other columns than the others: their rows are not in it.

    Raises:
        FileError: the table can't be written.
    """
    tables = [
        (outcome.case, folder / name)
        for outcome in outcomes
        if outcome.status is Status.DONE
        for name in outcome.outputs
        if PurePosixPath(name).parent.name == FOLDER and name.endswith(".csv")
    ]
    lines, left_out = list[str](), []
    for case, path in tables:
        try:
            header, *rows = read_bounded(path, MAX_TABLE_BYTES, "table", follow=False).decode("utf-8").splitlines()
        except (OSError, ValueError):  # VolsegErrors among them
            header, rows = "", []
        if _is_header(header) and header == (lines or [header])[0]:
            lines += rows if lines else [header, *rows]
        else:
            left_out.append(case)
    if lines:
        write_text(folder / TABLE, "\n".join([*lines, ""]))
    elif (folder / TABLE).is_file() and _is_ours(folder / TABLE):
        (folder / TABLE).unlink()
    return tuple(left_out)

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
from volseg.errors import OutputExistsError
from volseg.files import read_bounded
from volseg.outcomes import Status
from volseg.words import harmless, printable
from volseg.writers.measures import PERCENTILES, Measures, measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
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
COLUMNS = (
    "case", "label", "name", "voxels", "volume_ml", "mean", "standard_deviation", "minimum", "maximum",
    *(f"percentile_{share:g}" for share in PERCENTILES),
    "centroid_right_mm", "centroid_anterior_mm", "centroid_superior_mm", "longest_diameter_mm", "surface_mm2",
    "components", "touches_border",
)  # fmt: skip
HEADER = ",".join(COLUMNS)


@dataclass(frozen=True)
class StatisticsWriter:
    """Writes the table of one case; see ``MaskWriter``."""

    def names(self, image: MaskedImage) -> tuple[str, ...]:
        """One file."""
        return (f"{FOLDER}/{image.case}.csv",)

    def write(
        self, folder: Path, mask: NDArray[np.unsignedinteger], grid: Grid, table: LabelTable, image: MaskedImage
    ) -> tuple[Path, ...]:
        """Write a row for each label of the table, found or not; of several channels the first is measured."""
        del grid
        path = folder / self.names(image)[0]
        measures = {one.label: one for one in measure(mask, image.volume)}
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(COLUMNS)
        for label in table.labels:
            first = (harmless(printable(image.case)), label.index, harmless(printable(label.name)))
            rows.writerow((*first, *_cells(measures.get(label.index))))
        write_text(path, text.getvalue())
        return (path,)


def _cells(one: Measures | None) -> Iterator[str]:
    """The figures of a label; of one that is not there its volume, which is 0, and nothing else."""
    if one is None:
        yield from ("0", "0", *[""] * (len(COLUMNS) - 7), "0", "")
        return
    yield str(one.voxels)
    yield f"{one.volume_ml:.7g}"
    of = one.values
    yield from (
        [""] * (4 + len(PERCENTILES))
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
        return file.read(len(HEADER) + 1) == f"{HEADER}\n".encode()


def write_statistics(folder: Path, outcomes: Iterable[Outcome]) -> tuple[str, ...]:
    """Put ``statistics.csv`` together of the tables of the cases; without any it is removed.

    Args:
        folder: of the masks.
        outcomes: of the ledger, by which the cases are known.

    Returns:
        The cases whose table can't be read or is of another version of volseg: their rows are not in it.

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
    lines, left_out = [HEADER], []
    for case, path in tables:
        try:
            header, *rows = read_bounded(path, MAX_TABLE_BYTES, "table", follow=False).decode("utf-8").splitlines()
        except (OSError, ValueError):  # VolsegErrors among them
            header, rows = "", []
        if header == HEADER:
            lines += rows
        else:
            left_out.append(case)
    if tables:
        write_text(folder / TABLE, "\n".join([*lines, ""]))
    elif (folder / TABLE).is_file() and _is_ours(folder / TABLE):
        (folder / TABLE).unlink()
    return tuple(left_out)

"""Masks written as DICOM objects beside their series, and read back: what the tests of those writers share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from volseg.dataset.listing import read_listing
from volseg.dicom import Series, load_values
from volseg.grid import Grid
from volseg.labels import Label, LabelCode, LabelTable
from volseg.outcomes import Ledger, Status
from volseg.verbs.convert import ConvertOptions, convert
from volseg.volume import Volume, for_nifti, read_mask
from volseg.writers import WRITERS, Algorithm, MaskedImage

NATIVE = ConvertOptions(spacing=("native",), jobs=1)
TABLE = LabelTable(
    (
        Label(1, "Liver", (200, 30, 10)),
        Label(2, "left lobe"),
        Label(5, "thing", (1, 2, 3), LabelCode("64033007", "SCT", "Kidney")),
    )
)


def image_grid(series: Series) -> Grid:
    """Of the image that predict makes of a series."""
    return for_nifti(load_values(series).volume).grid


def blobs(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A mask (i, j, k) with a body, a hole in it, a part at the border, lonely voxels and voxels that touch at corners."""
    random = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    i, j, k = (max(1, size // 6) for size in shape)
    mask[i : 4 * i, j : 5 * j, k : 5 * k] = 1
    mask[2 * i : 3 * i, 2 * j : 4 * j, 2 * k : 4 * k] = 0
    mask[4 * i :, : 3 * j, : 4 * k] = 2
    mask[random.random(shape) < 0.03] = 5
    return mask


def write(folder: Path, series: Series, mask: np.ndarray, grid: Grid, kind: str, table: LabelTable = TABLE) -> Path:
    """Write one object."""
    folder.mkdir(parents=True, exist_ok=True)
    image = MaskedImage("case", folder / "case.nii.gz", series, Algorithm("net", "1.2.3"))
    (path,) = WRITERS[kind].write(folder, mask, grid, table, image)
    return path


def read_back(source: Path, out: Path, options: ConvertOptions = NATIVE) -> tuple[Ledger, dict[str, Volume]]:
    """Convert; the masks in the numbers of ``TABLE``, by case."""
    ledger = convert(source, out, options)
    known = {label.index: label.name for label in read_listing(out / "dataset.json").labels.labels}
    numbers = {label.name: label.index for label in TABLE.labels}
    found = {}
    for outcome in ledger.outcomes:
        path = out / "labelsTr" / f"{outcome.case}.nii.gz"
        if outcome.status is Status.DONE and path.exists():
            mask = read_mask(path)
            back = np.zeros_like(mask.array)
            for index, name in known.items():
                back[mask.array == index] = numbers[name]
            found[outcome.case] = Volume(back, mask.grid)
    return ledger, found

"""The table of what labels measure: safe text, rows that follow the ledger."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest

from volseg.errors import OutputExistsError
from volseg.grid import Grid
from volseg.labels import Label, LabelTable
from volseg.outcomes import Outcome, Status
from volseg.writers import MaskedImage
from volseg.writers.statistics import StatisticsWriter, require_own_table, write_statistics

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteImage

TABLE = LabelTable((Label(1, "=cmd()"), Label(2, 'spleen, "left"\nx')))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def outcome(case: str, status: Status = Status.DONE) -> Outcome:
    return Outcome(case, status, "done", outputs=(f"{case}.nii.gz", f"statistics/{case}.csv"))


def write(folder: Path, case: str, write_image: WriteImage, count: int = 1, **more: tuple[str, ...]) -> None:
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[1:4, 1:4, 1:3] = 1
    values = np.stack((np.where(mask, 50, -1000), *(np.full(mask.shape, 7 + n) for n in range(count - 1))), axis=-1)
    stored = (values if count > 1 else values[..., 0]).astype(np.int16)
    path = write_image(folder.parent / f"{case}.nii.gz", stored, np.diag((1.0, 1.0, 2.0, 1.0)))
    image = MaskedImage(case, path, **more)
    (written,) = StatisticsWriter().write(folder, mask, Grid(mask.shape, np.diag((1, 1, 2, 1))), TABLE, image)
    assert written == folder / "statistics" / f"{case}.csv"


def test_each_label_of_the_table_has_a_row_and_none_is_a_formula(tmp_path: Path, write_image: WriteImage) -> None:
    write(tmp_path / "out", "-case", write_image)
    found, absent = rows(tmp_path / "out" / "statistics" / "-case.csv")
    assert (found["case"], found["label"], found["name"]) == ("'-case", "1", "'=cmd()")
    assert absent["name"] == 'spleen, "left"\\nx'
    assert (found["voxels"], found["volume_ml"], found["mean"], found["percentile_95"]) == ("18", "0.036", "50", "50")
    assert (found["components"], found["touches_border"]) == ("1", "no")
    assert {key: absent[key] for key in ("voxels", "volume_ml", "components")} == {
        "voxels": "0", "volume_ml": "0", "components": "0",
    }  # fmt: skip
    assert {
        absent[key] for key in absent if key not in ("case", "label", "name", "voxels", "volume_ml", "components")
    } == {""}


def test_each_channel_has_columns_of_its_own(tmp_path: Path, write_image: WriteImage) -> None:
    out = tmp_path / "out"
    write(out, "a", write_image, 3, channels=("T1 post", "FLAIR", "T2"))
    found, absent = rows(out / "statistics" / "a.csv")
    assert [found[f"{name}_mean"] for name in ("t1-post", "flair", "t2")] == ["50", "7", "8"]
    assert found["t2_percentile_95"] == "8"
    assert found["surface_mm2"]
    assert len(absent) == len(found) == 12 + 3 * 9
    assert (absent["flair_mean"], absent["components"]) == ("", "0")
    write(out, "b", write_image, 2, channels=("T1", "t1"))  # names that would be one
    assert rows(out / "statistics" / "b.csv")[0]["channel1_mean"] == "7"
    write(out, "c", write_image, 3, channels=("T1 post", "FLAIR", "T2"))
    assert write_statistics(out, [outcome("a"), outcome("b"), outcome("c")]) == ("b",)
    assert [row["case"] for row in rows(out / "statistics.csv")] == ["a", "a", "c", "c"]
    require_own_table(out)


def test_channels_in_files_of_their_own_are_measured(tmp_path: Path, write_image: WriteImage) -> None:
    other = write_image(tmp_path / "t2.nii.gz", np.full((6, 6, 6), 9, np.int16), np.diag((1.0, 1.0, 2.0, 1.0)))
    write(tmp_path / "out", "a", write_image, others=(other,))  # type: ignore[arg-type]
    found = rows(tmp_path / "out" / "statistics" / "a.csv")[0]
    assert (found["channel0_mean"], found["channel1_mean"]) == ("50", "9")


def test_the_table_has_the_cases_of_the_ledger_and_no_others(tmp_path: Path, write_image: WriteImage) -> None:
    out = tmp_path / "out"
    for case in ("a", "b", "c"):
        write(out, case, write_image)
    assert write_statistics(out, [outcome("a"), outcome("b"), outcome("c", Status.REFUSED)]) == ()
    assert [row["case"] for row in rows(out / "statistics.csv")] == ["a", "a", "b", "b"]
    (out / "statistics" / "a.csv").write_text("of,another,version\n1,2,3\n")
    assert write_statistics(out, [outcome("a"), outcome("b")]) == ("a",)
    assert [row["case"] for row in rows(out / "statistics.csv")] == ["b", "b"]
    write_statistics(out, [])
    assert not (out / "statistics.csv").exists()


def test_a_table_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    table = tmp_path / "statistics.csv"
    table.write_text("patient,volume\n1,2\n")
    with pytest.raises(OutputExistsError, match="no table of volseg's"):
        require_own_table(tmp_path)
    write_statistics(tmp_path, [])
    assert table.exists()

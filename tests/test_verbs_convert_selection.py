"""The choice of series by number, name and modality."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from volseg.errors import UsageError
from volseg.outcomes import Outcome, Status
from volseg.verbs.convert import ConvertOptions, convert, preview

if TYPE_CHECKING:
    from conftest import WriteSeries

NATIVE = ConvertOptions(spacing=("native",), jobs=1)


def codes(outcomes: tuple[Outcome, ...]) -> Counter[str]:
    return Counter("done" if outcome.status is Status.DONE else outcome.code for outcome in outcomes)


def two_studies(write_series: WriteSeries, folder: Path) -> None:
    write_series(folder / "a", seed=1)
    write_series(folder / "b", seed=2)
    write_series(folder / "c", seed=3, positions=[(0, 0, z) for z in (0, 1, 2, 4, 5, 6)])


def test_series_are_chosen_by_number_name_and_modality(write_series: WriteSeries, tmp_path: Path) -> None:
    two_studies(write_series, tmp_path / "dicom")
    rows, _ = preview(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert sorted(row.number for row in rows) == [1, 2, 3]
    good = [row for row in rows if "refused" not in row.action]
    options = ConvertOptions(spacing=("native",), series=(str(good[0].number),))
    first = convert(tmp_path / "dicom", tmp_path / "out", options)
    assert codes(first.outcomes) == {"done": 1}
    assert first.skipped_kinds == {"image of a series that was not chosen": 11}
    named, _ = preview(tmp_path / "dicom", tmp_path / "out", options)
    assert {row.number: row.source for row in named} == {row.number: row.source for row in rows}
    (left,) = [row for row in named if row.source == good[1].source]
    assert "not-chosen" in left.action
    second = convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(spacing=("native",), series=(left.case,)))
    assert [outcome.case for outcome in second.outcomes] == [left.case]
    done = json.loads((tmp_path / "out/conversion.json").read_text())["outcomes"]
    assert [outcome["status"] for outcome in done] == ["done", "done"]
    both = ConvertOptions(spacing=("native",), series=("ct_01",), modality=("ct",))
    assert codes(convert(tmp_path / "dicom", tmp_path / "out", both).outcomes) == {
        "done": 2,
        "missing-slice": 1,
    }


@pytest.mark.parametrize("options", [{"series": ("9",)}, {"series": ("ct_09",)}, {"modality": ("MR",)}])
def test_a_choice_of_nothing_is_bad_usage(options: dict[str, Any], write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    with pytest.raises(UsageError, match="--dry-run"):
        convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(**options))
    assert not (tmp_path / "out").exists()

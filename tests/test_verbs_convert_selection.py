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
    from collections.abc import Callable, Sequence

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


def mixed_study(write_series: WriteSeries, folder: Path) -> None:
    """One study: localizers alone, a series with localizers in it, a gap, a tilt, and two volumes in one series."""

    def of_study(number: int, *, scouts: Sequence[int] = ()) -> Callable[[Any, int], None]:
        def edit(ds: Any, image: int) -> None:
            ds.StudyInstanceUID, ds.SeriesNumber, ds.FrameOfReferenceUID = "1.2.3", number, "1.2.4"
            if image in scouts:
                ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
                ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
                ds.ImagePositionPatient = [0, 5 * image, 0]

        return edit

    flat = [(0, 0, 2.0 * k) for k in range(5)]
    write_series(folder / "scouts", seed=1, edit=of_study(1, scouts=range(5)), positions=flat)
    write_series(folder / "mixed", seed=2, edit=of_study(2, scouts=range(5, 8)), positions=flat + flat[:3])
    write_series(folder / "gap", seed=3, edit=of_study(3), positions=[*flat, (0, 0, 12.0), (0, 0, 14.0)])
    write_series(folder / "tilt", seed=4, edit=of_study(4), positions=[(0, 0.5 * k, 2.0 * k) for k in range(5)])
    write_series(folder / "last", seed=5, edit=of_study(5), positions=flat)


ALL_WAYS = [
    {},
    {"localizers": True},
    {"fill_gaps": True},
    {"refuse_tilt": True},
    {"localizers": True, "fill_gaps": True, "refuse_tilt": True},
    {"modality": ("CT",)},
    {"series": ("5",)},
    {"series": ("5",), "localizers": True},
    {"spacing": (1.0,), "orientation": "RAS"},
    {"channels": "a=ct_04; b=ct_05"},
    {"channels": "a=4; b=ct_05", "localizers": True},
    {"name": "{SeriesNumber}"},
]


def test_a_number_means_the_same_series_whatever_the_options(write_series: WriteSeries, tmp_path: Path) -> None:
    mixed_study(write_series, tmp_path / "dicom")
    shown = []
    for more in ALL_WAYS:
        rows, _ = preview(tmp_path / "dicom", tmp_path / "out", ConvertOptions(**more))
        shown.append({row.number: (row.source, row.images) for row in rows if row.number})
    assert shown[0] == {
        1: ("scouts", 5),
        2: ("mixed", 5),
        3: ("mixed", 3),
        4: ("gap", 7),
        5: ("tilt", 5),
        6: ("last", 5),
    }
    for more, one in zip(ALL_WAYS, shown, strict=True):
        assert one == shown[0], more


@pytest.mark.parametrize("more", [one for one in ALL_WAYS if not {"series", "channels", "name"} & one.keys()])
def test_what_is_chosen_by_its_number_is_what_was_shown(
    more: dict[str, Any], write_series: WriteSeries, tmp_path: Path
) -> None:
    mixed_study(write_series, tmp_path / "dicom")
    rows, _ = preview(tmp_path / "dicom", tmp_path / "out", ConvertOptions(**more))
    for row in rows:
        options = ConvertOptions(**more, series=(str(row.number),), jobs=1)
        (outcome,) = convert(tmp_path / "dicom", tmp_path / "out", options).outcomes
        assert outcome.private == row.source
        assert outcome.status is row.status
        is_scout = row.number in (1, 3)
        assert (outcome.code == "localizer") == (is_scout and not more.get("localizers", False))


def test_an_option_gives_no_other_volume_another_name(write_series: WriteSeries, tmp_path: Path) -> None:
    mixed_study(write_series, tmp_path / "dicom")
    names = []
    for localizers in (False, True):
        out = tmp_path / f"out_{localizers}"
        outcomes = convert(tmp_path / "dicom", out, ConvertOptions(localizers=localizers)).outcomes
        names.append({outcome.case for outcome in outcomes if outcome.status is Status.DONE})
    assert len(names[1] - names[0]) == 2
    assert names[0] < names[1]

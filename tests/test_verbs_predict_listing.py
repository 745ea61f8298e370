"""Lists of images, and folders that hold several forms."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk

from tests.dicom_traps.stack import Stack, write_stack
from volseg.errors import DataSetError, FileError, OutputExistsError, UsageError
from volseg.outcomes import Ledger, Outcome, Provenance, Status
from volseg.verbs.convert import ConvertOptions, convert
from volseg.verbs.predict import PredictOptions, predict, preview
from volseg.verbs.predict.listing import Entry, read_list

if TYPE_CHECKING:
    from tests.conftest import WriteImage, WriteSeries

BUNDLE = Path("hippocampus_mr")


def entries(tmp_path: Path, name: str, text: str) -> list[tuple[str, list[str]]]:
    (tmp_path / name).write_text(text)
    return [
        (entry.case, [str(path.relative_to(tmp_path)) for path in entry.paths]) for entry in read_list(tmp_path / name)
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "# two cases\na.nii.gz\n\nsecond, b/b.nii.gz\n"),
        ("a.csv", '\ufeffcase,image\r\n,\r\na.nii.gz,,\r\nsecond,"b/b.nii.gz"\r\n'),
        ("a.json", '["a.nii.gz", ["second", "b/b.nii.gz"]]'),
        ("b.json", '[{"image": "a.nii.gz"}, {"case": "second", "image": "b/b.nii.gz"}]'),
    ],
)
def test_every_form_of_a_list_says_the_same(name: str, text: str, tmp_path: Path) -> None:
    text = text.replace("\r\n,\r\n", "\r\n")
    assert entries(tmp_path, name, text) == [("", ["a.nii.gz"]), ("second", ["b/b.nii.gz"])]


def test_channels_stand_behind_the_case(tmp_path: Path) -> None:
    assert entries(tmp_path, "a.csv", "x,1.nii.gz,2.nii.gz\n") == [("x", ["1.nii.gz", "2.nii.gz"])]
    assert entries(tmp_path, "a.json", '[{"image": ["c_0000.nii", "c_0001.nii"]}]') == [
        ("", ["c_0000.nii", "c_0001.nii"])
    ]
    (tmp_path / "one, two.nii").touch()
    assert entries(tmp_path, "b.txt", "one, two.nii\n") == [("", ["one, two.nii"])]
    assert Entry(1, (tmp_path / "c_0000.nii", tmp_path / "c_0001.nii")).name == "c"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", ""), ("a.txt", "# none\n"), ("a.csv", "../x,a.nii\n"), ("a.csv", ".x,a.nii\n"), ("a.csv", "a/b,c.nii\n"),
        ("a.csv", "x,a.nii,,c.nii\n"), ("a.csv", '"a.nii\n'), ("a.json", "{}"), ("a.json", "[1]"), ("a.json", "[[]]"),
        ("a.json", "[" * 100_000), ("a.json", '["a\\u0000b"]'), ("a.json", '[{"image": 3}]'), ("a.json", "not"),
        ("a.csv", f"{'n' * 200},a.nii\n"), ("a.csv", f"{'界' * 100},a.nii\n"), ("a.csv", "a\u202eb,a.nii\n"),
        ("a.json", '["\\ud800.nii"]'), ("a.json", '[{"image": "a.nii", "case": "\\ud800"}]'),
    ],
)  # fmt: skip
def test_what_is_no_list_is_told(name: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        entries(tmp_path, name, text)


def test_bytes_are_no_list(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is no image that volseg reads"):
        read_list(tmp_path / "a.txt")


def outcomes(tmp_path: Path, source: Path) -> dict[str, tuple[Status, str]]:
    rows, _ = preview(BUNDLE, source, tmp_path / "out")
    return {row.case: (row.status, row.action) for row in rows}


def test_a_list_of_all_forms_goes_on_where_an_entry_is_bad(
    tmp_path: Path, write_image: WriteImage, write_series: WriteSeries
) -> None:
    values = np.random.default_rng(0).normal(size=(20, 24, 20)).astype(np.float32)
    write_image(tmp_path / "p1" / "t1.nii.gz", values)
    write_image(tmp_path / "p2" / "t1.nii.gz", values)
    write_series(tmp_path / "dicom", seed=1)
    write_series(tmp_path / "two" / "a", seed=2)
    write_series(tmp_path / "two" / "b", seed=3)
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "dicom")
    lines = ["p1/t1.nii.gz", "second,p2/t1.nii.gz", "third,dicom", "zipped,packed.zip", "gone,p3/t1.nii.gz",
             "text,notes.md", "both,two", "list,inner.txt"]  # fmt: skip
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "inner.txt").write_text("p1/t1.nii.gz")
    listing = tmp_path / "cases.csv"
    listing.write_text("\n".join(lines))
    found = outcomes(tmp_path, listing)
    assert {case: status for case, (status, _) in found.items() if case[:3] != "ct_"} == {
        "t1": Status.DONE, "second": Status.DONE, "third": Status.DONE, "zipped": Status.DONE,
        "gone": Status.FAILED, "text": Status.REFUSED, "both": Status.REFUSED, "list": Status.REFUSED,
    }  # fmt: skip
    assert "holds 2 images or series" in found["both"][1]
    assert not any(str(tmp_path) in action for _, action in found.values()), found
    listing.write_text("p1/t1.nii.gz\np2/t1.nii.gz\n")
    with pytest.raises(DataSetError, match=r"two images or series would be case t1\. Rename one, or give them names"):
        preview(BUNDLE, listing, tmp_path / "out")
    listing.write_text("p3/t1.nii.gz\n")
    with pytest.raises(UsageError, match="nothing that it names is there, such as t1"):
        preview(BUNDLE, listing, tmp_path / "out")


def test_prose_is_no_list(tmp_path: Path) -> None:
    """No file is called by a whole paragraph."""
    (tmp_path / "readme.txt").write_text("word " * 100)
    with pytest.raises(UsageError, match="nothing that it names is there"):
        preview(BUNDLE, tmp_path / "readme.txt", tmp_path / "out")


def test_a_folder_that_cannot_be_looked_into_is_told(
    tmp_path: Path, write_image: WriteImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "t1.nii.gz", np.random.default_rng(0).normal(size=(20, 24, 20)).astype(np.float32))
    (tmp_path / "closed").mkdir()
    (tmp_path / "cases.txt").write_text("t1.nii.gz\nclosed\n")
    look = Path.stat

    def closed(path: Path, **how: bool) -> os.stat_result:  # root may look anywhere
        if path.parent.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path, **how)

    monkeypatch.setattr(Path, "stat", closed)
    for source in (tmp_path / "closed", tmp_path / "closed" / "a.nii.gz"):
        with pytest.raises(FileError, match=r"closed(/a\.nii\.gz)? can't be read: Permission denied"):
            preview(BUNDLE, source, tmp_path / "out")
    _, ledger = preview(BUNDLE, tmp_path / "cases.txt", tmp_path / "out")
    assert sorted(one.code for one in ledger.outcomes) == ["cannot-read", "predicted"]


@pytest.mark.parametrize("choice", [{"series": "1"}, {"modality": "MR"}])
def test_who_chooses_series_gets_no_image_that_is_none(
    choice: dict[str, str], tmp_path: Path, write_image: WriteImage
) -> None:
    write_image(tmp_path / "source" / "t1.nii.gz", np.zeros((20, 24, 20), np.float32))
    write_stack(tmp_path / "source" / "mr", Stack(modality="MR", size=(24, 20), gaps_mm=(2.0,) * 11))
    rows, ledger = preview(BUNDLE, tmp_path / "source", tmp_path / "out", PredictOptions(**choice))
    assert [row.case == "t1" for row in rows] == [False]
    assert ledger.skipped_kinds == {"image file beside the series that were chosen": 1}
    rows, ledger = preview(BUNDLE, tmp_path / "source", tmp_path / "out")
    assert len(rows) == 2
    (tmp_path / "cases.txt").write_text("source/t1.nii.gz\nsource\n")  # who names a file wants it
    rows, ledger = preview(BUNDLE, tmp_path / "cases.txt", tmp_path / "out", PredictOptions(**choice))
    assert sorted(row.case == "t1" for row in rows) == [False, True]


@pytest.mark.parametrize("what", ["images", "dicom"])
def test_a_folder_in_the_folder_that_cannot_be_listed_costs_no_other(
    what: str, tmp_path: Path, write_image: WriteImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    if what == "images":
        write_image(source / "t1.nii.gz", np.random.default_rng(0).normal(size=(20, 24, 20)).astype(np.float32))
    else:
        write_stack(source / "mr", Stack(modality="MR", size=(24, 20), gaps_mm=(2.0,) * 11))
    (source / "Doe_Jane").mkdir()
    listed = os.scandir

    def closed(path: str | int) -> object:  # root may look anywhere
        if str(path).endswith("Doe_Jane"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", closed)
    _, ledger = preview(BUNDLE, source, tmp_path / "out")
    bad, good = sorted(ledger.outcomes, key=lambda one: one.code)
    assert (bad.code, bad.status, bad.private, good.code) == ("cannot-read", Status.FAILED, "Doe_Jane", "predicted")
    assert "can't be listed: Permission denied" in bad.message
    assert "Doe" not in f"{bad.case}{bad.message}"
    if what == "dicom":
        ledger = convert(source, tmp_path / "converted", ConvertOptions(jobs=1))
        assert {one.code for one in ledger.outcomes} == {"cannot-read", "done"}


def test_what_is_no_image_is_not_named_in_the_ledger(
    tmp_path: Path, write_image: WriteImage, write_series: WriteSeries
) -> None:
    """Its folder may be called after its patient."""
    write_image(tmp_path / "t1.nii.gz", np.random.default_rng(0).normal(size=(20, 24, 20)).astype(np.float32))
    write_series(tmp_path / "Doe_Jane" / "ct", positions=[(0.0, 0.0, z) for z in (0.0, 2.0, 4.0, 8.0, 10.0)])
    (tmp_path / "Roe_Richard").mkdir()
    (tmp_path / "Poe_Paul.zip").write_bytes(b"PK")
    listing = tmp_path / "cases.txt"
    listing.write_text("t1.nii.gz\nRoe_Richard\nMoe_Mary\nPoe_Paul.zip\nsecond,Doe_Jane\n")
    rows, ledger = preview(BUNDLE, listing, tmp_path / "out")
    assert {row.source for row in rows} >= {"t1.nii.gz", "Roe_Richard", "Moe_Mary", "Poe_Paul.zip", "Doe_Jane/ct"}
    told = ledger.to_json()
    assert not any(name in told for name in ("Roe", "Moe", "Poe", "Doe")), told
    # What keeps a series from being a volume is told under the name that the list gives it.
    assert {one.case: one.code for one in ledger.outcomes}["second"] == "missing-slice"


def test_a_dry_run_names_the_files_of_each_entry(
    tmp_path: Path, write_image: WriteImage, write_series: WriteSeries
) -> None:
    write_image(tmp_path / "x.nii.gz", np.random.default_rng(0).normal(size=(20, 24, 20)).astype(np.float32))
    positions = [(0.0, 0.0, 2.0 * k) for k in range(12)]
    for number, place in enumerate(("p1/ct", "p2/ct")):
        write_series(tmp_path / place, seed=number, positions=positions)
    (tmp_path / "p1" / "bad.dcm").write_bytes(bytes(128) + b"DICM" + b"junkjunk")
    listing = tmp_path / "cases.txt"
    listing.write_text("kidney,x.nii.gz\np1\np2/ct\n")
    rows, _ = preview(BUNDLE, listing, tmp_path / "out")
    assert sorted((row.kind, row.images, row.source) for row in rows) == [
        ("", 0, "p1/bad.dcm"), ("", 1, "x.nii.gz"), ("CT", 12, "p1/ct"), ("CT", 12, "p2/ct"),
    ]  # fmt: skip
    assert {row.case.partition("_")[0] for row in rows if not row.kind} == {"kidney", "file"}


def test_one_file_is_not_two_channels(tmp_path: Path, write_image: WriteImage) -> None:
    """A line that was copied and changed in one place only would give a mask of the wrong channels."""
    for name in ("flair", "t1"):
        write_image(tmp_path / f"{name}.nii.gz", np.random.default_rng(0).normal(size=(20, 24, 20)).astype(np.float32))
    (tmp_path / "cases.csv").write_text("a,flair.nii.gz,./flair.nii.gz\nb,flair.nii.gz,t1.nii.gz\n")
    told = outcomes(tmp_path, tmp_path / "cases.csv")
    assert "Two of its channels are one file" in told["a"][1]
    assert "Two of its channels are one file" not in told["b"][1]


def test_a_bad_entry_takes_no_good_ones_name(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "p1" / "t1.nii.gz", np.random.default_rng(0).normal(size=(20, 24, 20)).astype(np.float32))
    listing = tmp_path / "cases.txt"
    listing.write_text("p1/t1.nii.gz\np2/t1.nii.gz\np3/t1.nii.gz\n")
    _, ledger = preview(BUNDLE, listing, tmp_path / "out")
    assert len({one.case for one in ledger.outcomes}) == 3
    assert [one.case for one in ledger.outcomes if one.status is Status.DONE] == ["t1"]


def test_neighbours_of_almost_one_name_leave_each_other_alone(tmp_path: Path, write_image: WriteImage) -> None:
    """Cases are in work at once, each in a hidden folder of its own."""
    write_image(tmp_path / "t1.nii.gz", np.random.default_rng(0).normal(size=(20, 24, 20)).astype(np.float32))
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "t1.nii.gz")), str(tmp_path / "t1.nrrd"))
    (tmp_path / "cases.csv").write_text("".join(f"p{sign}1,t1.nrrd\n" for sign in " _#"))
    ledger = predict(BUNDLE, tmp_path / "cases.csv", tmp_path / "out")
    assert [one.code for one in ledger.outcomes] == ["done"] * 3


def test_cases_whose_images_would_lie_in_one_place_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.nrrd").touch()
    listing = tmp_path / "cases.csv"
    listing.write_text("x,a.nrrd,b.nrrd\nx_0001,c.nrrd\n")
    with pytest.raises(DataSetError, match="two images or series would be case x_0001"):
        preview(BUNDLE, listing, tmp_path / "out")


def test_the_images_of_earlier_masks_are_not_predicted_into_their_own_folder(
    tmp_path: Path, write_image: WriteImage
) -> None:
    """The mask would be made anew, and take them with it."""
    image = write_image(tmp_path / "out" / "images" / "a.nii.gz", np.zeros((20, 24, 20), np.float32))
    (tmp_path / "link.nii.gz").symlink_to(image)
    for source in (image, image.parent, tmp_path / "link.nii.gz"):
        with pytest.raises(OutputExistsError, match="holds the images themselves"):
            preview(BUNDLE, source, tmp_path / "out")


@pytest.mark.parametrize("folder", ["", "left"])
def test_masks_of_an_earlier_run_are_no_images(folder: str, tmp_path: Path, write_image: WriteImage) -> None:
    values = np.random.default_rng(0).normal(size=(20, 24, 20)).astype(np.float32)
    mask = write_image(tmp_path / "masks" / folder / "a.nii.gz", values)
    image = write_image(tmp_path / "masks" / "images" / "a.nii.gz", values)
    made = Outcome("a", Status.DONE, "done", "", ("images/a.nii.gz", mask.relative_to(tmp_path / "masks").as_posix()))
    Ledger((made,), Provenance("predict", {}, {})).write(tmp_path / "masks" / "prediction.json")
    for source in (mask, mask.parent):
        with pytest.raises(UsageError, match="is a mask that volseg wrote"):
            preview(BUNDLE, source, tmp_path / "out")
    for source in (image, image.parent):
        assert [*outcomes(tmp_path, source)] == ["a"]
    (tmp_path / "masks" / "prediction.json").write_text("{}")
    assert [*outcomes(tmp_path, mask)] == ["a"]


def test_a_folder_of_images_and_dicom_gives_both(
    tmp_path: Path, write_image: WriteImage, write_series: WriteSeries
) -> None:
    source = tmp_path / "images"
    write_image(source / "a.nii.gz", np.zeros((20, 24, 20), np.float32))
    (source / "a.json").write_text(json.dumps({}))
    assert [*outcomes(tmp_path, source)] == ["a"]
    write_series(source / "dicom", seed=1)
    write_series(source / "flat", seed=2)
    shutil.make_archive(str(source / "study"), "gztar", source / "flat")
    shutil.rmtree(source / "flat")
    rows, ledger = preview(BUNDLE, source, tmp_path / "out")
    assert [(row.kind, row.status) for row in rows] == [("", Status.DONE), ("CT", Status.DONE), ("CT", Status.DONE)]
    assert ledger.skipped_kinds == {"file that is not DICOM": 1}

"""What convert keeps of earlier runs, and what it makes anew or refuses; through the command line."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pydicom
import pytest

from volseg.cli.main import main
from volseg.dataset.sidecar import Sidecar
from volseg.outcomes import Ledger, Status
from volseg.pseudonyms import Naming
from volseg.verbs.check import check
from volseg.verbs.convert import ConvertOptions, convert

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import WriteImage, WriteSeries

NATIVE = ConvertOptions(spacing=("native",))
POSITIONS = [(-30.0, -40.0, 2.5 * number) for number in range(8)]


def image_of(out: Path) -> Path:
    (path,) = (*out.glob("imagesTs/*.nii.gz"), *out.glob("imagesTr/*.nii.gz"))
    return path


def depth(out: Path) -> int:
    return int(nibabel.load(image_of(out)).shape[2])


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(source: Path, *options: str) -> tuple[int, str]:
        code = main(["convert", str(source), str(tmp_path / "out"), "--spacing", "native", *options])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def whole(write_series: WriteSeries, tmp_path: Path) -> Path:
    write_series(tmp_path / "whole", positions=POSITIONS)
    return tmp_path / "whole"


@pytest.fixture
def half(whole: Path, tmp_path: Path) -> Path:
    (tmp_path / "half").mkdir()
    for path in sorted(whole.iterdir())[:4]:
        shutil.copy(path, tmp_path / "half")
    return tmp_path / "half"


def test_the_whole_of_a_series_replaces_what_was_made_of_half_of_it(
    whole: Path, half: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    assert run(half)[0] == 0
    assert depth(tmp_path / "out") == 4
    code, shown = run(whole)
    assert (code, depth(tmp_path / "out")) == (0, 8)
    assert "warning: Its input has changed since an earlier run" in shown
    code, shown = run(whole)
    assert code == 0
    assert "1 done (1 was there already)" in shown


def test_a_kill_between_an_image_and_its_sidecar_is_made_good(
    whole: Path,
    half: Path,
    tmp_path: Path,
    run: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run(half)[0] == 0
    with monkeypatch.context() as patched:
        patched.setattr(Sidecar, "write", interrupt)
        assert run(whole)[0] == 130
    assert run(whole)[0] == 0
    assert depth(tmp_path / "out") == 8


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_a_killed_run_was_writing_is_removed(
    whole: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    folders = [tmp_path / "out", *(tmp_path / "out" / name for name in ("imagesTs", "imagesTr", "labelsTr"))]
    left = [folder / ".ct_x.partial-0123abcd.nii.gz" for folder in folders]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"voxels")
    assert run(whole)[0] == 0
    assert not any(path.exists() for path in left)


def test_one_pixel_of_one_file_is_another_series(
    whole: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    run(whole)
    before = image_of(tmp_path / "out").read_bytes()
    path = sorted(whole.iterdir())[3]
    raw = bytearray(path.read_bytes())
    raw[-2] ^= 1  # no size and no identifier tells it
    path.write_bytes(raw)
    assert run(whole)[0] == 0
    assert image_of(tmp_path / "out").read_bytes() != before


def test_times_and_names_of_files_count_for_nothing(
    whole: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    run(whole)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    for number, path in enumerate(sorted(whole.iterdir())):
        path.rename(path.with_name(f"renamed_{number}.dcm")).touch()
    for path in before:
        path.touch()
    assert "1 was there already" in run(whole)[1]
    assert {path: path.read_bytes() for path in before} == before


def test_an_image_that_somebody_edited_stays_as_long_as_its_series_does(
    whole: Path, half: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    run(half)
    image = image_of(tmp_path / "out")
    found = nibabel.load(image)
    nibabel.save(nibabel.Nifti1Image(np.asarray(found.dataobj) + 1, found.affine, found.header), image)
    edited = image.read_bytes()
    code, shown = run(half)
    assert code == 0
    assert "warning: Somebody has changed its files" in shown
    code, shown = run(whole)
    assert (code, "refused [edited]" in shown) == (1, True)
    assert image.read_bytes() == edited
    assert run(whole, "--overwrite")[0] == 0
    assert depth(tmp_path / "out") == 8


def test_an_image_is_not_taken_away_from_under_a_mask(
    whole: Path, half: Path, tmp_path: Path, run: Callable[..., tuple[int, str]], write_image: WriteImage
) -> None:
    run(half)
    image = image_of(tmp_path / "out")
    write_image(tmp_path / "out/labelsTr" / image.name, np.ones(nibabel.load(image).shape, np.uint8))
    code, shown = run(whole)
    assert "refused [exists] Its files have changed, and a mask lies on the image" in shown
    assert code == 1
    assert depth(tmp_path / "out") == 4


def test_a_case_s_entry_holds_what_it_was_made_from(whole: Path, tmp_path: Path) -> None:
    (outcome,) = convert(whole, tmp_path / "out", NATIVE).outcomes
    ledger = Ledger.read(tmp_path / "out" / "conversion.json")
    assert ledger is not None
    (entry,) = ledger.outcomes
    assert entry.made == outcome.made
    assert entry.made is not None
    (name,) = entry.made.files
    assert (tmp_path / "out" / name).stat().st_size == entry.made.files[name].size
    text = (tmp_path / "out" / "conversion.json").read_text()
    assert "1.2.826" not in text


def test_a_run_that_makes_no_volume_ends_with_2_unless_there_were_some(
    whole: Path, tmp_path: Path, write_series: WriteSeries, run: Callable[..., tuple[int, str]]
) -> None:
    write_series(tmp_path / "single", positions=[(0, 0, 0)], seed=5)
    assert run(tmp_path / "single") == (2, run(tmp_path / "single")[1])
    assert run(whole)[0] == 0
    assert run(tmp_path / "single")[0] == 0  # what is skipped is no failure


def test_convert_and_predict_call_a_series_the_same_and_evaluate_pairs_them(
    trained_bundle: Path, write_series: WriteSeries, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where another series of the study lies beside it."""

    def of_study(number: int) -> Callable[[Any, int], None]:
        def edit(ds: Any, _: int) -> None:
            ds.StudyInstanceUID, ds.SeriesNumber = "1.2.3", number

        return edit

    write_series(tmp_path / "study/late", seed=1, edit=of_study(7), positions=[(0, 0, 2.0 * k) for k in range(12)])
    write_series(tmp_path / "study/early", seed=2, edit=of_study(2), positions=[(0, 0, 2.0 * k) for k in range(12)])
    converted = convert(tmp_path / "study", tmp_path / "dataset", NATIVE)
    assert converted.count(Status.DONE) == 2
    assert main(["predict", str(trained_bundle), str(tmp_path / "study" / "late"), str(tmp_path / "masks")]) == 0
    (mask,) = (tmp_path / "masks").glob("*.nii.gz")
    assert (tmp_path / "dataset" / "imagesTs" / mask.name).is_file()
    (tmp_path / "dataset" / "labelsTr").mkdir()
    shutil.copy(mask, tmp_path / "dataset" / "labelsTr")
    capsys.readouterr()
    pair = (str(tmp_path / "masks"), str(tmp_path / "dataset" / "labelsTr"))
    assert main(["evaluate", *pair]) == 0
    assert "1 done" in capsys.readouterr().out


def entries(out: Path) -> list[tuple[str, str, str, object]]:
    """Of each case in the ledger its end, what the last run said of it, and the spacing it was made with."""
    ledger = Ledger.read(out / "conversion.json")
    assert ledger is not None
    spacing = [ledger.provenance_of(one).options["spacing"] for one in ledger.outcomes]
    return [(one.status, one.code, one.since[:16], at) for one, at in zip(ledger.outcomes, spacing, strict=True)]


def files_of(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_run_with_other_options_is_told_no_and_erases_nothing(
    whole: Path, tmp_path: Path, run: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(whole)[0] == 0
    before = files_of(out)
    for _ in range(2):
        assert main(["convert", str(whole), str(out), "--spacing", "1"]) == 1
        shown = capsys.readouterr()
        assert "refused [exists] Its files are there, made with other options." in shown.out
        assert entries(out) == [("done", "done", "refused [exists]", ["native"])]
        assert {path for path, content in files_of(out).items() if content != before[path]} == {out / "conversion.json"}
    assert main(["check", str(out)]) == 0
    capsys.readouterr()
    code, said = run(whole)
    assert (code, "1 was there already" in said) == (0, True)
    assert files_of(out) == before
    # Replaced on purpose, it is of the run that replaced it.
    assert main(["convert", str(whole), str(out), "--spacing", "1", "--overwrite"]) == 0
    assert entries(out) == [("done", "done", "", [1.0])]


def test_other_options_make_what_is_not_there_yet(
    whole: Path, tmp_path: Path, write_series: WriteSeries, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(whole), str(out), "--spacing", "native"]) == 0
    write_series(whole / "more", seed=9, positions=POSITIONS)
    assert main(["convert", str(whole), str(out), "--spacing", "2"]) == 1
    assert sorted(entries(out)) == [("done", "done", "", [2.0]), ("done", "done", "refused [exists]", ["native"])]
    assert "1 done, 1 refused" in capsys.readouterr().out


def test_two_inputs_and_a_part_of_one_keep_each_other_s_refusals(
    whole: Path, tmp_path: Path, write_series: WriteSeries, run: Callable[..., tuple[int, str]]
) -> None:
    write_series(tmp_path / "a" / "gap", seed=3, positions=[POSITIONS[number] for number in (0, 1, 2, 5, 6)])
    write_series(tmp_path / "a" / "good", seed=4, positions=POSITIONS)
    out = tmp_path / "out"
    assert run(tmp_path / "a")[0] == 1
    gap_entry = ("refused", "missing-slice", "", ["native"])
    assert gap_entry in entries(out)
    assert run(whole)[0] == 0  # another input: one patient after the other into one folder
    assert gap_entry in entries(out)
    assert len(entries(out)) == 3
    for series in ("1", "2"):  # one of them is the refused one, the other is not
        run(tmp_path / "a", "--series", series)
        assert gap_entry in entries(out)
    for number in (3, 4):  # once it is healed it is refused no longer
        (tmp_path / "a" / "gap" / f"{number:03d}.dcm").unlink()
    assert run(tmp_path / "a")[0] == 0
    assert sorted(entries(out)) == [("done", "done", "", ["native"])] * 3
    assert str(tmp_path) not in (out / "conversion.json").read_text()


@pytest.mark.parametrize("name", [(), ("--name", "{StudyDate}")])
def test_an_image_of_a_series_that_splits_now_is_told_until_it_is_removed(
    name: tuple[str, ...], tmp_path: Path, write_series: WriteSeries, run: Callable[..., tuple[int, str]]
) -> None:
    """Nothing would tell it from those made now; of a version that split otherwise it may mix two volumes."""

    def echo(number: int) -> Callable[[Any, int], None]:
        def edit(data: Any, _: int) -> None:
            data.StudyDate, data.EchoTime = "20200101", 10 * number
            data.SOPInstanceUID = f"{data.SOPInstanceUID[:50]}.{number}"

        return edit

    source, out = tmp_path / "source", tmp_path / "out"
    write_series(source / "1", positions=POSITIONS, edit=echo(1))
    assert run(source, *name)[0] == 0
    old = image_of(out)
    before = old.read_bytes()
    write_series(source / "2", positions=POSITIONS, edit=echo(2))
    for _ in range(2):
        code, shown = run(source, *name)
        assert (code, f"{old.name[:-7]}: refused [other-volumes]" in shown) == (1, True)
        assert sorted(since for *_, since, _ in entries(out)) == ["", "", "refused [other-v"]
        assert old.read_bytes() == before
        assert run(source, *name, "--dry-run")[1].count("refused [other-volumes]") == 1
        assert [(one.code, one.case) for one in check(out).warnings] == [("converted-since", old.name[:-7])]
    old.unlink()
    assert not check(out).warnings
    assert run(source, *name)[0] == 0
    assert entries(out) == [("done", "done", "", ["native"])] * 2
    assert not [fault for fault in check(out).faults if fault.code != "duplicate"]  # dataset.json lists it no longer


def test_a_part_that_was_not_chosen_is_no_image_of_other_volumes(
    whole: Path, tmp_path: Path, write_series: WriteSeries, run: Callable[..., tuple[int, str]]
) -> None:
    write_series(tmp_path / "whole" / "more", seed=9, positions=POSITIONS)
    assert run(whole, "--name", "{PatientID}")[0] == 0
    assert run(whole, "--name", "{PatientID}", "--series", "1")[0] == 0
    assert run(whole)[0] == 1  # the same under other names


def test_an_interrupted_run_is_recorded_as_its_own(
    whole: Path,
    tmp_path: Path,
    write_series: WriteSeries,
    run: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_series(whole / "more", seed=9, positions=POSITIONS)
    written = Sidecar.write
    with monkeypatch.context() as patched:
        patched.setattr(
            Sidecar, "write", lambda self, path: (written(self, path), patched.setattr(Sidecar, "write", interrupt))
        )
        assert run(whole, "--jobs", "1")[0] == 130
    assert entries(tmp_path / "out") == [("done", "done", "", ["native"])]


def test_the_sidecar_of_an_image_that_stays_is_brought_up_to_date(
    whole: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    """As one of an earlier version, which knew fewer facts and warnings."""
    for number, path in enumerate(sorted(whole.iterdir())):
        data = pydicom.dcmread(path)
        data.InstanceNumber, data.ConvolutionKernel = 3 * number, "B30f"
        data.save_as(path)
    run(whole)
    image = image_of(tmp_path / "out")
    sidecar = image.with_name(image.name.replace(".nii.gz", ".json"))
    now, written = sidecar.read_text(), image.stat().st_mtime_ns
    older = json.loads(now)
    assert older.pop("shows") == "kernel B30f"
    older["acquisition"], older["notes"] = {}, {}
    sidecar.write_text(json.dumps(older))
    code, shown = run(whole, "--dry-run")
    assert "already done" in shown
    assert json.loads(sidecar.read_text()) == older
    code, shown = run(whole)
    assert code == 0
    assert "already done" in shown
    assert "kernel B30f; 10 x 12" in shown
    assert sidecar.read_text() == now
    assert image.stat().st_mtime_ns == written
    (outcome,) = Ledger.read(tmp_path / "out/conversion.json").outcomes
    assert any("steps of 3" in warning for warning in outcome.warnings)
    before = sidecar.stat().st_mtime_ns
    run(whole)
    assert sidecar.stat().st_mtime_ns == before


def test_a_spline_stays_within_the_scanned_values_and_an_older_one_is_no_longer_the_same(
    write_series: WriteSeries, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = np.zeros((8, 12, 10), np.uint16)
    box[2:6, 3:9, 3:7], box[4, 5, 5] = 4095, 2000
    write_series(tmp_path / "box", positions=POSITIONS, array=box)

    def run(*options: str) -> str:
        folders = [str(tmp_path / "box"), str(tmp_path / "out")]
        main(["convert", *folders, "--spacing", "0.4", "--interpolation", "bspline", *options])
        return capsys.readouterr().out

    run()
    image = nibabel.load(image_of(tmp_path / "out"))
    values = np.asanyarray(image.dataobj)
    assert (image.get_data_dtype(), values.min(), values.max()) == (np.int16, -1024, 3071)
    sidecar = next(tmp_path.glob("out/imagesTs/*.json"))
    content = json.loads(sidecar.read_text())
    assert content["changes"] == ["bspline-clamped"]
    assert "already done" in run()
    naming = Naming.existing(tmp_path / "out")
    assert naming is not None
    content["made"]["method"] = naming.digest("method", "(0.4, 0.4, 0.4)", "bspline")
    sidecar.write_text(json.dumps(content))
    assert "already done" not in run()
    run("--overwrite")
    assert "already done" in run()


@pytest.mark.parametrize(("spacing", "how"), [("native", ("None", "")), ("1", ("(1.0, 1.0, 1.0)", "linear"))])
def test_what_an_earlier_version_converted_is_still_already_done(
    spacing: str, how: tuple[str, str], whole: Path, tmp_path: Path
) -> None:
    """The digest of the options is the one that every version before has written."""
    out = tmp_path / "out"
    assert main(["convert", str(whole), str(out), "--spacing", spacing]) == 0
    made = json.loads(next(out.glob("imagesTs/*.json")).read_text())["made"]
    naming = Naming.existing(out)
    assert naming is not None
    assert made["method"] == naming.digest("method", *how)

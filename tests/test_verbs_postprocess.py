from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

import volseg
from tests.crumbs import AFFINE, crumbs, read, save, three_masks
from tests.obliques import apart_mm, readings, slanted
from volseg.cli.main import main
from volseg.errors import OutputExistsError, UsageError
from volseg.outcomes import Status
from volseg.verbs.postprocess import CleanedMask, PostprocessOptions, postprocess
from volseg.volume import Volume

ALL_LARGEST = PostprocessOptions(keep_largest=("all",), jobs=1)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    return three_masks(tmp_path / "masks")


def test_every_mask_is_tidied_and_the_ledger_says_how(masks: Path, tmp_path: Path) -> None:
    ledger = volseg.postprocess(masks, tmp_path / "out", keep_largest=["all"], fill_holes=2, jobs=1)
    assert ledger.exit_code == 0
    for name in ("a", "b", "c"):
        tidy = read(tmp_path / "out" / f"{name}.nii.gz")
        assert [(tidy == label).sum() for label in (1, 2)] == [27, 27]
        assert np.array_equal(read(masks / f"{name}.nii.gz"), crumbs())
    written = json.loads((tmp_path / "out" / "postprocessing.json").read_text())
    assert [outcome["case"] for outcome in written["outcomes"]] == ["a", "b", "c"]
    assert written["outcomes"][0]["changes"]["labels"][1] == {
        "label": 2,
        "removed_components": 1,
        "removed_voxels": 2,
        "filled_cavities": 1,
        "filled_voxels": 1,
        "voxels": 27,
        "trimmed_voxels": 0,
        "added_voxels": 0,
    }
    assert written["provenance"]["options"]["keep_largest"] == ["all"]
    assert (tmp_path / "out" / "labels.txt").read_bytes() == (masks / "labels.txt").read_bytes()


def test_what_nobody_judged_stays(tmp_path: Path) -> None:
    mask = crumbs()
    mask[7, 7, 7] = mask[0, 0, 0] = 3  # in the hole of label 2, and alone in a corner
    save(tmp_path / "data" / "labelsTr" / "a.nii.gz", mask)
    labels = {"background": 0, "liver": 1, "spleen": 2, "ignore": 3}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"labels": labels}))
    options = PostprocessOptions(keep_largest=("all",), fill_holes=("all",), minimum_size_mm3=2.0, jobs=1)
    postprocess(tmp_path / "data" / "labelsTr", tmp_path / "out", options)
    tidy = read(tmp_path / "out" / "a.nii.gz")
    assert np.array_equal(tidy == 3, mask == 3)
    assert [(tidy == label).sum() for label in (1, 2)] == [27, 26]


def test_an_oblique_mask_of_another_format_is_turned_and_told(tmp_path: Path) -> None:
    volume = Volume(crumbs(), slanted(crumbs().shape))
    (tmp_path / "masks").mkdir()
    sitk.WriteImage(volume.to_sitk(), str(tmp_path / "masks" / "a.nrrd"))
    (outcome,) = postprocess(tmp_path / "masks", tmp_path / "out", ALL_LARGEST).outcomes
    assert outcome.status is Status.DONE
    assert [warning.partition(":")[0] for warning in outcome.warnings if "turned" in warning] == ["axes-turned"]
    save(tmp_path / "plain" / "a.nii.gz", crumbs())
    postprocess(tmp_path / "plain", tmp_path / "expected", ALL_LARGEST)
    expected = Volume(read(tmp_path / "expected" / "a.nii.gz"), volume.grid)
    for array, affine in readings(tmp_path / "out" / "a.nii.gz").values():
        assert apart_mm(expected, array, affine) < 1e-3
        np.testing.assert_array_equal(array[::-1, ::-1], expected.array)
    (tmp_path / "out" / "postprocessing.json").unlink()  # what lies there is known for the same result all the same
    (again,) = postprocess(tmp_path / "masks", tmp_path / "out", ALL_LARGEST).outcomes
    assert (again.code, again.warnings) == ("already-done", outcome.warnings)


def test_the_header_geometry_is_kept_byte_for_byte(masks: Path, tmp_path: Path) -> None:
    postprocess(masks / "a.nii.gz", tmp_path / "out", ALL_LARGEST)
    before, after = (
        nibabel.Nifti1Header(gzip.decompress(path.read_bytes())[:348], check=False)
        for path in (masks / "a.nii.gz", tmp_path / "out" / "a.nii.gz")
    )
    for name in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d"):
        assert before[name].tobytes() == after[name].tobytes()
    assert before["pixdim"][:4].tobytes() == after["pixdim"][:4].tobytes()
    assert all(before[f"qoffset_{axis}"] == after[f"qoffset_{axis}"] for axis in "xyz")
    assert after["descrip"].tobytes().strip(b"\0") == b""


def test_a_smallest_size_is_in_cubic_millimetres(masks: Path, tmp_path: Path) -> None:
    voxel_mm3 = abs(np.linalg.det(AFFINE[:3, :3]))
    for below, left in ((1.9, 28), (2.1, 26)):
        out = tmp_path / f"out{left}"
        postprocess(masks / "a.nii.gz", out, PostprocessOptions(minimum_size_mm3=below * voxel_mm3))
        tidy = read(out / "a.nii.gz")
        assert [(tidy == label).sum() for label in (1, 2)] == [27, left]


def test_one_bad_mask_never_costs_the_others(masks: Path, tmp_path: Path) -> None:
    save(masks / "halves.nii.gz", crumbs().astype(np.float32) / 2)
    whole = (masks / "a.nii.gz").read_bytes()
    (masks / "short.nii.gz").write_bytes(whole[: len(whole) // 2])
    save(masks / "b.nii", crumbs())
    ledger = postprocess(masks, tmp_path / "out", ALL_LARGEST)
    assert ledger.exit_code == 1
    ended = {(outcome.case, outcome.status, outcome.code) for outcome in ledger.outcomes}
    assert ended == {
        ("a", Status.DONE, "done"),
        ("b", Status.REFUSED, "name-twice"),
        ("c", Status.DONE, "done"),
        ("halves", Status.REFUSED, "mask-values"),
        ("short", Status.REFUSED, "damaged-file"),
    }
    assert not (tmp_path / "out" / "b.nii.gz").exists()
    assert str(tmp_path) not in (tmp_path / "out" / "postprocessing.json").read_text()


def test_in_processes_the_same_comes_out(masks: Path, tmp_path: Path) -> None:
    one = postprocess(masks, tmp_path / "one", ALL_LARGEST)
    two = postprocess(masks, tmp_path / "two", PostprocessOptions(keep_largest=("all",), jobs=2))
    assert one.outcomes == two.outcomes
    assert all(isinstance(outcome, CleanedMask) for outcome in two.outcomes)
    for name in ("a", "b", "c"):
        assert (tmp_path / "one" / f"{name}.nii.gz").read_bytes() == (tmp_path / "two" / f"{name}.nii.gz").read_bytes()


def test_a_second_run_changes_nothing_and_another_rule_overwrites_only_when_asked(masks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    postprocess(masks, out, ALL_LARGEST)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.glob("*.nii.gz")}
    again = postprocess(masks, out, ALL_LARGEST)
    assert again.exit_code == 0
    assert {outcome.code for outcome in again.outcomes} == {"already-done"}
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.glob("*.nii.gz")} == before

    ledger = (out / "postprocessing.json").read_bytes()
    other = postprocess(masks, out, PostprocessOptions(keep_largest=(1,)))
    assert (other.exit_code, {outcome.code for outcome in other.outcomes}) == (1, {"exists"})
    # The refusal erases nothing of the record: neither what was changed in the masks nor by which rules.
    kept, made = (json.loads(text) for text in ((out / "postprocessing.json").read_text(), ledger))
    assert [{**entry, "run": 0, "since": ""} for entry in kept["outcomes"]] == [
        {**entry, "run": 0, "since": ""} for entry in made["outcomes"]
    ]
    assert {(entry["run"], entry["since"][:16]) for entry in kept["outcomes"]} == {(1, "refused [exists]")}
    assert kept["earlier"] == [made["provenance"]]
    postprocess(masks, out, ALL_LARGEST)
    assert (out / "postprocessing.json").read_bytes() == ledger
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.glob("*.nii.gz")} == before
    assert postprocess(masks, out, PostprocessOptions(keep_largest=(1,), overwrite=True)).exit_code == 0
    assert (read(out / "a.nii.gz") == 2).sum() == 28


def test_other_labels_there_are_not_replaced(masks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "labels.txt").write_text("# mine\n")
    with pytest.raises(OutputExistsError, match="labels"):
        postprocess(masks, out, ALL_LARGEST)
    assert [path.name for path in out.iterdir()] == ["labels.txt"]


def test_what_vanished_or_stayed_open_is_told(tmp_path: Path) -> None:
    mask = crumbs()
    mask[11:13, 2, 2] = 0
    mask[7, 7, 8] = 1
    save(tmp_path / "masks" / "a.nii.gz", mask)
    voxel_mm3 = abs(np.linalg.det(AFFINE[:3, :3]))
    options = PostprocessOptions(minimum_size_mm3=26.5 * voxel_mm3, fill_holes=("all",))
    (outcome,) = postprocess(tmp_path / "masks", tmp_path / "out", options).outcomes
    assert outcome.warnings == ("label 2 was removed whole.",)
    (outcome,) = postprocess(tmp_path / "masks", tmp_path / "other", PostprocessOptions(fill_holes=(1, 2))).outcomes
    assert "between several labels" in outcome.warnings[0]
    assert np.array_equal(read(tmp_path / "other" / "a.nii.gz"), mask)


def test_other_formats_are_read(tmp_path: Path) -> None:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(crumbs().T)
    image.SetSpacing((0.5, 0.6, 2.0))
    image.SetOrigin((4, 5, -6))
    (tmp_path / "masks").mkdir()
    sitk.WriteImage(image, str(tmp_path / "masks" / "a.nrrd"))
    postprocess(tmp_path / "masks", tmp_path / "out", ALL_LARGEST)
    tidy = sitk.ReadImage(str(tmp_path / "out" / "a.nii.gz"))
    assert tidy.GetSpacing() == pytest.approx(image.GetSpacing())
    assert tidy.GetOrigin() == pytest.approx(image.GetOrigin())
    assert int((sitk.GetArrayFromImage(tidy) == 1).sum()) == 27


def test_a_full_disk_ends_the_run_and_leaves_nothing_half_written(
    masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def replace(self: Path, target: Path) -> Path:
        del self
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    (masks / "labels.txt").unlink()
    monkeypatch.setattr(Path, "replace", replace)
    assert main(["postprocess", str(masks), str(tmp_path / "out"), "--keep-largest", "all", "--jobs", "1"]) == 2
    assert "No space is left" in capsys.readouterr().err
    assert list((tmp_path / "out").rglob("*")) == []


def test_what_makes_no_sense_is_refused(masks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    for path, where, options, code in (
        (masks, out, PostprocessOptions(), "nothing-asked"),
        (masks, out, PostprocessOptions(keep_largest=(0,)), "usage"),
        (masks, out, PostprocessOptions(minimum_size_mm3=-1), "usage"),
        (masks, out, PostprocessOptions(threshold=("1:0.5",)), "no-probabilities"),
        (masks, masks, ALL_LARGEST, "same-folder"),
        (masks / "a.nii.gz", masks, ALL_LARGEST, "same-folder"),
        (masks, masks / "a.nii.gz", ALL_LARGEST, "not-a-folder"),
        (tmp_path / "empty", out, ALL_LARGEST, "no-masks"),
        (tmp_path / "absent", out, ALL_LARGEST, "missing-file"),
    ):
        with pytest.raises(UsageError) as caught:
            postprocess(path, where, options)
        assert caught.value.code == code
    assert not out.exists()


def test_a_mask_that_has_changed_is_cleaned_anew_and_an_edited_result_stays(
    masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["postprocess", str(masks), str(out), "--keep-largest", "all", "--jobs", "1"]
    assert main(command) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    other = crumbs()
    other[1, 1, 1] = 0
    save(masks / "a.nii.gz", other)
    assert main(command) == 0
    assert "a: warning: Its input has changed since an earlier run" in capsys.readouterr().out
    assert (out / "a.nii.gz").read_bytes() != before["a.nii.gz"]
    assert (out / "b.nii.gz").read_bytes() == before["b.nii.gz"]
    edited = read(out / "b.nii.gz").copy()
    edited[0, 0, 0] = 1
    save(out / "b.nii.gz", edited)
    assert main(command) == 0
    assert "b: warning: Somebody has changed its files" in capsys.readouterr().out
    save(masks / "b.nii.gz", other)
    assert main(command) == 1
    assert "b: refused [edited]" in capsys.readouterr().out
    np.testing.assert_array_equal(read(out / "b.nii.gz"), edited)
    # One mask alone leaves the others in the ledger.
    assert main(["postprocess", str(masks / "c.nii.gz"), str(out), "--keep-largest", "all"]) == 0
    ledger = json.loads((out / "postprocessing.json").read_text())
    assert [one["case"] for one in ledger["outcomes"]] == ["a", "b", "c"]

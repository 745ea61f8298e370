"""What predict keeps of earlier runs, and what it makes anew or refuses; through the command line."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import SimpleITK

from tests.heard import Heard
from tests.zoo import write_zoo_bundle
from volseg.atomic import exclusive
from volseg.batch import Processes
from volseg.cli.main import main
from volseg.errors import FileError, InputError, OutputExistsError
from volseg.kept import file_digest
from volseg.outcomes import Ledger, Status
from volseg.verbs.predict import PredictOptions, predict
from volseg.verbs.train import train
from volseg.verbs.trust import trust
from volseg.volume import read_volume
from volseg.writers import WRITERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.conftest import CopyBundle, WriteSeries
    from volseg.grid import Grid
    from volseg.labels import LabelTable
    from volseg.writers import MaskedImage


@pytest.fixture
def images(cohort: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cohort / "imagesTs", tmp_path / "images"))


def outcomes(out: Path) -> dict[str, dict[str, Any]]:
    return {one["case"]: one for one in json.loads((out / "prediction.json").read_text())["outcomes"]}


def bytes_of(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def edit(mask: Path) -> bytes:
    """Save a mask with another voxel in it, as ITK-SNAP would."""
    image = nibabel.load(mask)
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, 0] = 2
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine, image.header), mask)
    return mask.read_bytes()


def test_an_image_that_was_replaced_gets_a_mask_of_its_own(
    trained_bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["predict", str(trained_bundle), str(images), str(out)]
    assert main(command) == 0
    before = bytes_of(out)
    shutil.copy(images / "case_11.nii.gz", images / "case_10.nii.gz")
    assert main(command) == 0
    after = bytes_of(out)
    assert after["case_10.nii.gz"] == after["case_11.nii.gz"] == before["case_11.nii.gz"] != before["case_10.nii.gz"]
    assert "case_10: warning: Its input has changed since an earlier run" in capsys.readouterr().out
    assert main(command) == 0
    assert bytes_of(out) == after


@pytest.mark.parametrize("name", ["scripts/window.py", "configs/metadata.json"])
def test_masks_of_a_bundle_whose_code_has_changed_are_not_kept(
    cohort: Path, images: Path, tmp_path: Path, name: str
) -> None:
    bundle, out = write_zoo_bundle(tmp_path / "bundle", cohort), tmp_path / "out"
    trust(bundle)
    train(bundle)
    assert predict(bundle, images, out).exit_code == 0
    assert {one.code for one in predict(bundle, images, out).outcomes} == {"already-done"}
    (bundle / name).write_text((bundle / name).read_text() + "\n")
    trust(bundle)
    with pytest.raises(OutputExistsError, match="holds masks of another model"):
        predict(bundle, images, out)


def test_two_runs_never_write_into_one_folder_at_once(trained_bundle: Path, images: Path, tmp_path: Path) -> None:
    with exclusive(tmp_path / "out"), pytest.raises(FileError) as caught:
        predict(trained_bundle, images, tmp_path / "out")
    assert caught.value.code == "in-use"


def test_a_ledger_removes_nothing_outside_of_its_folder(trained_bundle: Path, images: Path, tmp_path: Path) -> None:
    out, precious = tmp_path / "out", tmp_path / "precious.txt"
    precious.write_text("a thesis")
    predict(trained_bundle, images, out)
    ledger = json.loads((out / "prediction.json").read_text())
    ledger["outcomes"][0]["made"]["files"]["../precious.txt"] = asdict(file_digest(precious))
    (out / "prediction.json").write_text(json.dumps(ledger))
    shutil.copy(images / "case_11.nii.gz", images / "case_10.nii.gz")  # so that the case is made anew
    with pytest.raises(InputError, match="is no ledger"):
        predict(trained_bundle, images, out)
    assert precious.is_file()


def test_a_rewritten_file_of_the_same_bytes_changes_nothing(trained_bundle: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(trained_bundle, images, out)
    for path in images.iterdir():
        path.write_bytes(path.read_bytes())
    assert {one.code for one in predict(trained_bundle, images, out).outcomes} == {"already-done"}


def test_the_whole_of_a_series_replaces_what_was_made_of_half_of_it(
    trained_bundle: Path, write_series: WriteSeries, tmp_path: Path
) -> None:
    voxels = np.random.default_rng(0).integers(0, 2000, (12, 20, 24)).astype(np.uint16)
    write_series(tmp_path / "whole", positions=[(0, 0, 2.0 * k) for k in range(12)], array=voxels)
    (tmp_path / "half").mkdir()
    for path in sorted((tmp_path / "whole").iterdir())[:6]:
        shutil.copy(path, tmp_path / "half")
    out = tmp_path / "out"
    (half,) = predict(trained_bundle, tmp_path / "half", out).outcomes
    for _ in range(2):  # the second time it is there already
        (whole,) = predict(trained_bundle, tmp_path / "whole", out).outcomes
        assert (whole.case, whole.status) == (half.case, Status.DONE)
        for name in whole.outputs:
            assert nibabel.load(out / name).shape == (24, 20, 12)
    assert whole.code == "already-done"
    assert whole.outputs == (f"images/{whole.case}.nii.gz", f"{whole.case}.nii.gz")
    assert not [path for path in out.iterdir() if "partial" in path.name]
    # One pixel, and no size or identifier, is another.
    path = tmp_path / "whole" / "005.dcm"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    (changed,) = predict(trained_bundle, tmp_path / "whole", out).outcomes
    assert changed.code == "done"


def test_a_mask_that_somebody_corrected_stays_as_long_as_its_image_does(
    trained_bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["predict", str(trained_bundle), str(images), str(out)]
    assert main(command) == 0
    drawn = edit(out / "case_10.nii.gz")
    ledger = (out / "prediction.json").read_bytes()
    for _ in range(2):
        capsys.readouterr()
        assert main(command) == 0
        assert "case_10: warning: Somebody has changed its files" in capsys.readouterr().out
        assert (out / "case_10.nii.gz").read_bytes() == drawn
    image = (images / "case_10.nii.gz").read_bytes()
    shutil.copy(images / "case_11.nii.gz", images / "case_10.nii.gz")
    assert main(command) == 1
    assert "case_10: refused [edited]" in (shown := capsys.readouterr().out)
    assert "--overwrite" in shown
    assert (out / "case_10.nii.gz").read_bytes() == drawn
    # Back with its image it is known again.
    (images / "case_10.nii.gz").write_bytes(image)
    assert main(command) == 0
    assert (out / "case_10.nii.gz").read_bytes() == drawn
    assert main([*command, "--overwrite"]) == 0
    assert (out / "case_10.nii.gz").read_bytes() != drawn
    assert (out / "prediction.json").read_bytes() == ledger.replace(b'"overwrite": false', b'"overwrite": true')


def test_masks_of_another_precision_are_not_taken_for_the_same(
    trained_bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["predict", str(trained_bundle), str(images), str(out), "--precision"]

    def recorded(case: str) -> tuple[object, str]:
        ledger = Ledger.read(out / "prediction.json")
        assert ledger is not None
        (one,) = (one for one in ledger.outcomes if one.case == case)
        provenance = ledger.provenance_of(one)
        return provenance.options["precision"], provenance.device

    assert main([*command, "bfloat16"]) == 0
    assert recorded("case_10") == ("bfloat16", "cpu bfloat16")
    before = bytes_of(out)
    assert main([*command, "float32"]) == 2
    assert "in another precision" in capsys.readouterr().err
    assert bytes_of(out) == before
    assert main([*command, "float32", "--overwrite"]) == 0
    assert recorded("case_10") == ("float32", "cpu")
    assert main([*command, "float32"]) == 0


def test_auto_is_recorded_as_what_it_came_to(
    trained_bundle: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for enabled, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("volseg.training.autocast.use_bfloat16", lambda _, enabled=enabled: enabled)
        ledger = predict(trained_bundle, images / "case_10.nii.gz", tmp_path / expected)
        assert ledger.provenance.options["precision"] == expected
        (again,) = predict(
            trained_bundle, images / "case_10.nii.gz", tmp_path / expected, PredictOptions(precision=expected)
        ).outcomes
        assert again.code == "already-done"


def test_masks_of_other_rules_stay_recorded_as_they_were_made(
    trained_bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["predict", str(trained_bundle), str(images), str(out)]

    def raw(case: str) -> object:
        ledger = Ledger.read(out / "prediction.json")
        assert ledger is not None
        (one,) = (one for one in ledger.outcomes if one.case == case)
        assert one.status is Status.DONE
        return ledger.provenance_of(one).options["raw"]

    assert main(command) == 0
    before = bytes_of(out)
    assert main([*command, "--raw"]) == 2  # nothing is begun where all masks are of other rules
    assert bytes_of(out) == before
    assert main(["predict", "--raw", "--overwrite", str(trained_bundle), str(images / "case_10.nii.gz"), str(out)]) == 0
    assert (raw("case_10"), raw("case_11")) == (True, False)
    capsys.readouterr()
    assert main([*command, "--raw"]) == 1
    assert "case_11: refused [exists] Its files are there, made by another model" in capsys.readouterr().out
    assert (raw("case_10"), raw("case_11")) == (True, False)
    assert outcomes(out)["case_11"]["since"].startswith("refused [exists]")
    assert main([*command, "--overwrite"]) == 0
    assert (out / "prediction.json").read_bytes() == before["prediction.json"].replace(
        b'"overwrite": false', b'"overwrite": true'
    )


def test_a_mask_that_nobody_recorded_is_not_replaced(
    trained_bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    predict(trained_bundle, images, out)
    before = bytes_of(out)
    (out / "prediction.json").unlink()
    # As after a run that was killed before it could record them: what would be written lies there already.
    assert main(["predict", str(trained_bundle), str(images), str(out)]) == 0
    assert bytes_of(out) == before
    (out / "prediction.json").unlink()
    foreign = edit(out / "case_10.nii.gz")
    assert main(["predict", str(trained_bundle), str(images), str(out)]) == 1
    assert "case_10: refused [exists]" in capsys.readouterr().out
    assert (out / "case_10.nii.gz").read_bytes() == foreign


def test_what_a_killed_run_left_half_made_is_removed(trained_bundle: Path, images: Path, tmp_path: Path) -> None:
    left = tmp_path / "out" / ".case_10.partial-abcd" / "images"
    left.mkdir(parents=True)
    (left / "case_10.nii.gz").write_bytes(b"half")
    predict(trained_bundle, images, tmp_path / "out")
    assert not left.parent.exists()


def test_an_image_in_another_format_follows_its_source(trained_bundle: Path, images: Path, tmp_path: Path) -> None:
    import SimpleITK as sitk

    out = tmp_path / "out"
    plain = images / "case_10.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(plain)), str(images / "case_10.mhd"))  # the voxels lie beside it
    plain.unlink()
    predict(trained_bundle, images, out)
    header = (images / "case_10.mhd").read_bytes()
    raw = next(path for path in images.iterdir() if path.suffix in (".raw", ".zraw"))
    voxels = np.frombuffer(raw.read_bytes(), np.float32)
    raw.write_bytes((voxels + 1).tobytes())
    assert (images / "case_10.mhd").read_bytes() == header
    (first, second) = predict(trained_bundle, images, out).outcomes
    assert (first.code, second.code) == ("done", "already-done")
    np.testing.assert_array_equal(
        np.asarray(nibabel.load(out / "images" / "case_10.nii.gz").dataobj).ravel(order="F"), voxels + 1
    )
    # With a plain image in its place, nothing needs to be opened on the old one.
    for path in images.glob("case_10.*"):
        path.unlink()
    shutil.copy(images / "case_11.nii.gz", plain)
    predict(trained_bundle, images, out)
    assert not (out / "images" / "case_10.nii.gz").exists()


def test_a_run_that_makes_no_volume_ends_with_2_unless_there_were_some(
    trained_bundle: Path, images: Path, tmp_path: Path, write_series: WriteSeries
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.nii.gz").write_bytes(b"")
    assert main(["predict", str(trained_bundle), str(tmp_path / "bad"), str(tmp_path / "out")]) == 2
    assert main(["predict", str(trained_bundle), str(images), str(tmp_path / "out")]) == 0
    assert main(["predict", str(trained_bundle), str(tmp_path / "bad"), str(tmp_path / "out")]) == 1
    write_series(tmp_path / "single", positions=[(0, 0, 0)])
    assert main(["predict", str(trained_bundle), str(tmp_path / "single"), str(tmp_path / "empty")]) == 2


def test_colours_that_a_person_gave_the_labels_stay(trained_bundle: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(trained_bundle, images, out)
    text = (out / "labels.txt").read_text()
    line = next(line for line in text.splitlines() if '"core"' in line)
    mine = text.replace(line, '    2     1    2    3        1  1  1    "core"')
    (out / "labels.txt").write_text(mine)
    predict(trained_bundle, images, out)
    assert '    2     1    2    3        1  1  1    "core"' in (out / "labels.txt").read_text()


def test_workers_give_the_same_as_one_process_and_hear_nothing_of_monai_s_decoders(
    trained_bundle: Path, images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    predict(trained_bundle, images, tmp_path / "here")
    capfd.readouterr()
    predict(trained_bundle, images, tmp_path / "out", executor=Processes(2))
    assert capfd.readouterr() == ("", "")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "here")  # the ledger among them


class Sizes:
    """A toy format: the voxels of each label, by its name, and whether the image came from DICOM."""

    def names(self, image: MaskedImage) -> tuple[str, ...]:
        return (f"sizes/{image.case}.txt",)

    def write(
        self, folder: Path, mask: NDArray[np.unsignedinteger], grid: Grid, table: LabelTable, image: MaskedImage
    ) -> tuple[Path, ...]:
        assert mask.shape == grid.shape == nibabel.load(image.path).shape
        path = folder / self.names(image)[0]
        path.parent.mkdir(exist_ok=True)
        sizes = [f"{label.name} {int((mask == label.index).sum())}" for label in table.labels]
        slices = len(image.series.slices) if image.series else 0
        path.write_text("\n".join([*sizes, f"slices {slices}"]))
        return (path,)


def test_another_writer_is_plugged_in_by_its_name(
    trained_bundle: Path, images: Path, tmp_path: Path, write_series: WriteSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WRITERS, "sizes", Sizes())
    out = tmp_path / "out"
    predict(trained_bundle, images, out)
    # Asked for later, it is added; the mask, which is made again, is the same.
    mask = (out / "case_10.nii.gz").read_bytes()
    assert main(["predict", str(trained_bundle), str(images), str(out), "--formats", "nifti", "sizes"]) == 0
    assert (out / "case_10.nii.gz").read_bytes() == mask
    counts = np.bincount(np.asarray(nibabel.load(out / "case_10.nii.gz").dataobj).ravel(), minlength=3)
    assert (out / "sizes" / "case_10.txt").read_text() == f"shell {counts[1]}\ncore {counts[2]}\nslices 0"
    assert outcomes(out)["case_10"]["outputs"] == ["case_10.nii.gz", "sizes/case_10.txt"]
    write_series(tmp_path / "dicom", positions=[(0, 0, 2.0 * k) for k in range(8)])
    (one,) = predict(
        trained_bundle, tmp_path / "dicom", tmp_path / "of_dicom", PredictOptions(formats=("nifti", "sizes"))
    ).outcomes
    assert (tmp_path / "of_dicom" / one.outputs[2]).read_text().endswith("slices 8")


def test_outputs_that_are_asked_for_later_are_made_from_the_mask_that_is_there(
    trained_bundle: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["--statistics", "--workspace", "--formats", "nifti,slicer"]
    command = ["predict", str(trained_bundle), str(images)]
    assert main([*command, str(tmp_path / "at-once"), *asked]) == 0
    out = tmp_path / "out"
    assert main([*command, str(out)]) == 0
    monkeypatch.setattr("volseg.verbs.predict.case.segment", None)  # the network is not run again
    assert main([*command, str(out), *asked]) == 0
    assert "were there already" in capsys.readouterr().out
    assert bytes_of(out).keys() == bytes_of(tmp_path / "at-once").keys()
    same = [name for name in bytes_of(out) if name != "prediction.json"]
    assert all(bytes_of(out)[name] == bytes_of(tmp_path / "at-once")[name] for name in same)
    assert set(outcomes(out)["case_10"]["outputs"]) == {
        "case_10.nii.gz", "slicer/case_10.seg.nrrd", "statistics/case_10.csv", "case_10.itksnap",
    }  # fmt: skip
    after = bytes_of(out)
    assert main([*command, str(out)]) == 0  # asked for no more, they stay
    assert {name: after[name] for name in same} == {name: bytes_of(out)[name] for name in same}
    # What is lost is made again, and what a run that was killed had written counts as made.
    (out / "slicer" / "case_10.seg.nrrd").unlink()
    ledger = json.loads((out / "prediction.json").read_text())
    for one in ledger["outcomes"]:
        one["made"]["files"].pop(f"{one['case']}.itksnap")
    (out / "prediction.json").write_text(json.dumps(ledger))
    assert main([*command, str(out), *asked]) == 0
    assert {name: after[name] for name in same} == {name: bytes_of(out)[name] for name in same}
    # Of a mask that somebody edited, or beside a file of somebody else, nothing is made.
    (out / "case_10.itksnap").write_text("mine")
    ledger = json.loads((out / "prediction.json").read_text())
    for one in ledger["outcomes"]:
        one["made"]["files"].pop(f"{one['case']}.itksnap")
    (out / "prediction.json").write_text(json.dumps(ledger))
    edit(out / "case_11.nii.gz")
    (out / "case_11.itksnap").unlink()
    assert main([*command, str(out), *asked]) == 1
    assert (out / "case_10.itksnap").read_text() == "mine"
    assert not (out / "case_11.itksnap").exists()


def test_statistics_follow_an_image_that_was_replaced(trained_bundle: Path, images: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "out", PredictOptions(statistics=True)
    predict(trained_bundle, images, out, options)
    table = (out / "statistics.csv").read_text()
    assert table.count("case_10,") == table.count("case_11,") == 2
    shutil.copy(images / "case_11.nii.gz", images / "case_10.nii.gz")
    predict(trained_bundle, images, out)  # without the option the old figures go with the old mask
    assert "case_10" not in (out / "statistics.csv").read_text()
    predict(trained_bundle, images, out, options)
    lines = (out / "statistics.csv").read_text().splitlines()
    assert [line.replace("case_10", "case_11") for line in lines[1:3]] == lines[3:5]


def test_a_surface_that_was_lost_is_made_again(trained_bundle: Path, images: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "out", PredictOptions(surface=("stl",))
    predict(trained_bundle, images, out, options)
    before = bytes_of(out)
    lost, *_ = (out / "stl" / "case_10").glob("*.stl")
    lost.unlink()
    assert predict(trained_bundle, images, out, options).exit_code == 0
    assert bytes_of(out) == before


def test_another_format_alone_is_made_of_the_mask_that_is_there(
    trained_bundle: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict(trained_bundle, images, out, PredictOptions(statistics=True))
    before = bytes_of(out)
    edited = edit(out / "case_11.nii.gz")
    ledger = predict(trained_bundle, images, out, PredictOptions(formats=("slicer",)))
    assert {one.case: one.code for one in ledger.outcomes} == {"case_10": "already-done", "case_11": "edited"}
    after = bytes_of(out)
    assert {*after} - {*before} == {"slicer/case_10.seg.nrrd"}
    assert after["case_10.nii.gz"] == before["case_10.nii.gz"]
    assert after["case_11.nii.gz"] == edited
    assert after["statistics.csv"] == before["statistics.csv"]


def test_what_an_edited_mask_no_longer_fits_is_told(trained_bundle: Path, images: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "out", PredictOptions(statistics=True)
    predict(trained_bundle, images, out, options)
    edit(out / "case_10.nii.gz")
    for _ in range(2):
        told = {one.case: one.warnings for one in predict(trained_bundle, images, out, options).outcomes}
        assert [warning for warning in told["case_10"] if "mask as it was before" in warning] == [told["case_10"][-1]]
        assert not any("as it was before" in warning for warning in told["case_11"])
    told = {one.case: one.warnings for one in predict(trained_bundle, images, out).outcomes}
    assert not any("as it was before" in warning for warning in told["case_10"])


def test_no_mask_is_left_under_names_that_it_does_not_have(trained_bundle: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(trained_bundle, images, out)
    before = bytes_of(out)
    some = PredictOptions(labels=("core",), overwrite=True)
    with pytest.raises(OutputExistsError, match=r"1 mask .*1 \(shell\)"):
        predict(trained_bundle, images / "case_10.nii.gz", out, some)
    assert bytes_of(out) == before
    assert predict(trained_bundle, images, out, some).exit_code == 0
    (out / "labels.txt").write_text("notes\n1 is the heart\n")
    told = Heard()
    predict(trained_bundle, images, out, some, told)
    assert any("is no label description" in line for line in told.lines)
    assert (out / "labels.txt").read_text().startswith("notes")


def test_cases_whose_names_differ_in_signs_alone_don_t_meet(trained_bundle: Path, images: Path, tmp_path: Path) -> None:
    volume = read_volume(images / "case_10.nii.gz")
    folder = tmp_path / "nrrd"
    folder.mkdir()
    for name in ("a b", "a_b", "a;b"):
        SimpleITK.WriteImage(volume.to_sitk(), folder / f"{name}.nrrd")
    ledger = predict(trained_bundle, folder, tmp_path / "out")
    assert [(one.case, one.code) for one in ledger.outcomes] == [("a b", "done"), ("a;b", "done"), ("a_b", "done")]


def test_an_unknown_format_is_told_before_anything_is_made(
    trained_bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(trained_bundle), str(images), str(tmp_path / "out"), "--formats", "paper"]) == 2
    assert "Masks are written as nifti, " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "warned"),
    [("mr", True), ("scaled", True), ("ct", False), ("padded ct", False), ("crop", False), ("spline mr", True)],
)
def test_values_that_are_no_hounsfield_units_are_warned_of(
    copy_bundle: CopyBundle, tmp_path: Path, values: str, warned: bool
) -> None:
    bundle = copy_bundle(trained=True)
    metadata = next((bundle / "configs").glob("metadata.*"))
    content = json.loads(metadata.read_text())
    content["network_data_format"]["inputs"]["image"]["channel_def"] = {"0": "CT"}
    metadata.write_text(json.dumps(content))
    random = np.random.default_rng(0)
    mr = np.abs(random.normal(300, 200, (20, 24, 20)))
    voxels = {
        "mr": mr,
        "scaled": random.normal(0, 1, mr.shape),
        "ct": np.where(random.random(mr.shape) < 0.4, -1000, 50) + random.normal(0, 20, mr.shape),
        "padded ct": np.where(random.random(mr.shape) < 0.7, -2000, 50) + random.normal(0, 20, mr.shape),
        "crop": np.where(random.random(mr.shape) < 0.2, -90, 60) + random.normal(0, 15, mr.shape),
        "spline mr": mr - 5,
    }[values]
    image = nibabel.Nifti1Image(voxels.astype(np.float32), np.diag([1, 1, 1.2, 1]))
    image.set_sform(image.affine, code=1)
    nibabel.save(image, tmp_path / "image.nii.gz")
    (outcome,) = predict(bundle, tmp_path / "image.nii.gz", tmp_path / "out").outcomes
    assert any("no Hounsfield units" in told for told in outcome.warnings) is warned

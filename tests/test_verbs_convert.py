"""Convert on made series, compared with the formula."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from tests.conversions import codes, only_image, the_image
from volseg.errors import DataSetError, DiskFullError, InputError, UsageError
from volseg.outcomes import Status
from volseg.verbs.convert import LEDGER_FILE, ConvertOptions, convert, preview
from volseg.volume import Volume, read_volume, write_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import WriteSeries
    from pydicom.dataset import Dataset

NATIVE = ConvertOptions(spacing=("native",), jobs=1)


def test_a_series_lands_where_its_headers_say(write_series: WriteSeries, tmp_path: Path) -> None:
    stored = write_series(tmp_path / "dicom")
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    (outcome,) = ledger.outcomes
    image = nibabel.load(the_image(tmp_path / "out", outcome))
    assert isinstance(image, nibabel.Nifti1Image)
    assert image.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), stored.T.astype(int) - 1024)
    # Column index along x by 0.75 mm, row index along y by 0.5 mm, both to the left and back of LPS.
    expected = [[-0.75, 0, 0, 30], [0, -0.5, 0, 40], [0, 0, 2.5, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(image.affine, expected, atol=1e-6)
    assert image.header["sform_code"] == image.header["qform_code"] == 1


def test_file_names_and_order_do_not_matter(write_series: WriteSeries, tmp_path: Path) -> None:
    order = [3, 0, 4, 1, 2]
    positions = [(-30.0, -40.0, 2.5 * number) for number in order]
    stored = write_series(tmp_path / "dicom", positions=positions, name="deep/{:d}/IMG")
    convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    volume = read_volume(only_image(tmp_path / "out"))
    np.testing.assert_array_equal(volume.array, stored[np.argsort(order)].T.astype(int) - 1024)


def test_a_second_run_changes_no_byte(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom/a", seed=1)
    write_series(tmp_path / "dicom/b", seed=2, positions=[(0, 0, 0), (0, 0, 1)])
    first = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "out").rglob("*.*z")}
    texts = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    second = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert sorted(outcome.code for outcome in first.outcomes) == ["done", "too-few-slices"]
    assert sorted(outcome.code for outcome in second.outcomes) == ["already-done", "too-few-slices"]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == texts


def test_a_second_run_warns_of_the_files_again(write_series: WriteSeries, tmp_path: Path) -> None:
    count = len(write_series(tmp_path / "dicom"))
    for path in (tmp_path / "dicom").iterdir():
        path.write_bytes(path.read_bytes()[132:])
    first, second = (convert(tmp_path / "dicom", tmp_path / "out", NATIVE).outcomes[0] for _ in range(2))
    assert second.code == "already-done"
    assert first.warnings == second.warnings
    (warning,) = first.warnings
    assert warning.startswith(f"{count} files lack the preamble")
    (recorded,) = json.loads((tmp_path / "out" / "conversion.json").read_text())["outcomes"]
    assert recorded["warnings"] == [warning]


def test_the_same_input_gives_the_same_image_bytes(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    for name in ("a", "b"):
        convert(tmp_path / "dicom", tmp_path / name)
    first, second = (only_image(tmp_path / name) for name in ("a", "b"))
    assert first.name == second.name, "the key is one person's, not a folder's"
    assert first.read_bytes() == second.read_bytes()


def test_dataset_json_keeps_what_a_person_wrote(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom/a", seed=1)
    convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    path = tmp_path / "out/dataset.json"
    content = json.loads(path.read_text())
    assert content["modality"] == {"0": "CT"}
    assert content["numTest"] == 1
    (image,) = content["test"]
    assert (tmp_path / "out" / image).is_file()
    content["labels"] = {"0": "background", "1": "liver"}
    content["licence"] = "ours"
    content["training"] = [{"image": image, "label": "./labelsTr/x.nii.gz"}]
    content["test"] = []
    path.write_text(json.dumps(content))
    write_series(tmp_path / "dicom/b", seed=2)
    convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    merged = json.loads(path.read_text())
    assert merged["labels"] == content["labels"]
    assert merged["licence"] == "ours"
    assert merged["training"] == content["training"]
    assert len(merged["test"]) == merged["numTest"] == 1
    assert merged["test"] != [image]


def test_a_broken_dataset_json_stops_before_any_work(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/dataset.json").write_text("{")
    with pytest.raises(DataSetError):
        convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["dataset.json"]
    assert (tmp_path / "out/dataset.json").read_text() == "{"


def test_the_ledger_keeps_what_earlier_folders_gave(write_series: WriteSeries, tmp_path: Path) -> None:
    for seed in (1, 2):
        write_series(tmp_path / f"dicom{seed}", seed=seed)
        convert(tmp_path / f"dicom{seed}", tmp_path / "out", NATIVE)
    content = json.loads((tmp_path / "out/conversion.json").read_text())
    assert [outcome["status"] for outcome in content["outcomes"]] == ["done", "done"]
    assert len(json.loads((tmp_path / "out/dataset.json").read_text())["test"]) == 2


def test_gaps_are_filled_when_asked(write_series: WriteSeries, tmp_path: Path) -> None:
    positions = [(0.0, 0.0, 2.0 * place) for place in (0, 1, 2, 4, 5, 6)]
    array = np.stack([np.full((12, 10), 100 * place, np.uint16) for place in (0, 1, 2, 4, 5, 6)])
    write_series(tmp_path / "dicom", positions=positions, array=array)
    assert codes(convert(tmp_path / "dicom", tmp_path / "a", NATIVE).outcomes) == {"missing-slice": 1}
    (outcome,) = convert(
        tmp_path / "dicom", tmp_path / "b", ConvertOptions(spacing=("native",), fill_gaps=True)
    ).outcomes
    assert any("--fill-gaps" in warning for warning in outcome.warnings)
    volume = read_volume(the_image(tmp_path / "b", outcome))
    np.testing.assert_array_equal(volume.array[3, 4] + 1024, np.arange(7) * 100)


def test_a_truncated_file_refuses_its_series_alone(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom/good", seed=1)
    write_series(tmp_path / "dicom/cut", seed=2, name="canary{:d}.dcm")
    path = tmp_path / "dicom/cut/canary2.dcm"
    path.write_bytes(path.read_bytes()[:-20])
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert codes(ledger.outcomes) == {"done": 1, "truncated-pixels": 1}
    assert ledger.exit_code == 1
    (refused,) = [outcome for outcome in ledger.outcomes if outcome.status is Status.REFUSED]
    assert refused.private == "cut/canary2.dcm"
    assert "canary" not in (tmp_path / "out/conversion.json").read_text()


def test_a_file_cut_off_in_its_header_refuses_its_series(write_series: WriteSeries, tmp_path: Path) -> None:
    # The last slice: without it the others would pass for a whole volume.
    write_series(tmp_path / "dicom/good", seed=1)
    write_series(tmp_path / "dicom/cut", seed=2)
    path = tmp_path / "dicom/cut/004.dcm"
    path.write_bytes(path.read_bytes().partition(struct.pack("<HH", 0x28, 0x10))[0] + b"\x28\0\x10\0US")
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert codes(ledger.outcomes) == {"done": 1, "truncated-file": 1}
    (refused,) = [outcome for outcome in ledger.outcomes if outcome.status is Status.REFUSED]
    assert refused.private == "cut/004.dcm"
    # Cut before its series is named, it stands for itself, and the exit code still tells.
    path.write_bytes(path.read_bytes()[:300])
    ledger = convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert codes(ledger.outcomes) == {"done": 2, "truncated-file": 1}
    assert ledger.exit_code == 1


def test_a_slice_without_its_pixels_refuses_its_series(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit(ds: Dataset, number: int) -> None:
        if number == 4:
            del ds.PixelData

    write_series(tmp_path / "dicom", edit=edit)
    (outcome,) = convert(tmp_path / "dicom", tmp_path / "out", NATIVE).outcomes
    assert (outcome.status, outcome.code, outcome.private) == (Status.REFUSED, "incomplete-image", "004.dcm")


def test_gaps_that_lie_do_not_exhaust_the_memory(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(
        tmp_path / "dicom",
        positions=[(0, 0, 4e5 * number) for number in range(3)],
        array=np.zeros((3, 500, 400), np.uint16),
    )
    (outcome,) = convert(tmp_path / "dicom", tmp_path / "out").outcomes
    assert (outcome.status, outcome.code) == (Status.REFUSED, "too-large")


def test_an_image_that_moved_to_the_drawn_ones_is_known(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    (tmp_path / "out/imagesTs").rename(tmp_path / "out/imagesTr")
    (outcome,) = convert(tmp_path / "dicom", tmp_path / "out", NATIVE).outcomes
    assert outcome.code == "already-done"
    assert outcome.outputs[0].startswith("imagesTr/")
    assert not (tmp_path / "out/imagesTs").exists()


def test_a_study_that_grows_keeps_its_names(write_series: WriteSeries, tmp_path: Path) -> None:
    def edit_of(number: int) -> Callable[[Dataset, int], None]:
        def edit(ds: Dataset, _: int) -> None:
            ds.StudyInstanceUID, ds.SeriesNumber = "1.2.3", number

        return edit

    write_series(tmp_path / "dicom/late", seed=1, edit=edit_of(7))
    (first,) = convert(tmp_path / "dicom", tmp_path / "out", NATIVE).outcomes
    write_series(tmp_path / "dicom/early", seed=2, edit=edit_of(2))
    both = convert(tmp_path / "dicom", tmp_path / "out", NATIVE).outcomes
    assert {outcome.case: outcome.code for outcome in both}[first.case] == "already-done"
    assert codes(both) == {"done": 2}
    # Another way to the same files is the same input.
    (again,) = convert(tmp_path / "dicom/late", tmp_path / "out", NATIVE).outcomes
    assert (again.case, again.code) == (first.case, "already-done")


def test_nothing_of_the_patient_is_written(write_series: WriteSeries, tmp_path: Path) -> None:
    def with_canaries(ds: Dataset, number: int) -> None:
        for keyword in (
            "PatientID", "PatientName", "PatientComments", "InstitutionName", "OperatorsName", "StudyDescription",
            "SeriesDescription", "ProtocolName", "StationName", "AccessionNumber", "StudyID", "ReferringPhysicianName",
            "Manufacturer", "ManufacturerModelName", "BodyPartExamined", "ScanningSequence", "PatientPosition",
            "FrameOfReferenceUID", "ConvolutionKernel", "ImageComments", "IssuerOfPatientID", "RescaleType",
        ):  # fmt: skip
            value = "1.2.826.99.4711" if keyword.endswith("UID") else "CANARY 4711"
            setattr(ds, keyword, value)
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.99.4711.1", "1.2.826.99.4711.2"
        ds.SOPInstanceUID = f"1.2.826.99.4711.3.{number}"
        ds.StudyDate = ds.SeriesDate = ds.PatientBirthDate = "19474711"[:8].replace("4711", "0711")
        ds.KVP = 19470711

    write_series(tmp_path / "dicom", edit=with_canaries, name="canary-{}.dcm")
    convert(tmp_path / "dicom", tmp_path / "out")
    image = only_image(tmp_path / "out")
    written = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    written[image] = nibabel.load(image).header.binaryblock
    assert len(written) == 4
    for path, content in written.items():
        text = content.lower()
        assert not any(word in text for word in (b"canary", b"4711", b"19470711", b"1.2.826")), path
        assert "canary" not in path.name.lower()


def test_the_key_is_for_its_owner_alone(write_series: WriteSeries, tmp_path: Path, trust_store: Path) -> None:
    write_series(tmp_path / "dicom")
    convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert not [path for path in (tmp_path / "out").iterdir() if "key" in path.name]
    key = trust_store.with_name("names.key")
    key.unlink()
    (outcome,) = convert(tmp_path / "dicom", tmp_path / "renewed", NATIVE).outcomes
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="another key than yours"):
        convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    key.write_text("no key")
    with pytest.raises(InputError, match="holds no key"):
        convert(tmp_path / "dicom", tmp_path / "renewed", NATIVE)
    # A folder that has a key of its own keeps it, whoever works on it.
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / ".volseg-key").write_text("ab" * 32)
    (own,) = convert(tmp_path / "dicom", tmp_path / "own", NATIVE).outcomes
    assert own.case != outcome.case


def test_images_of_earlier_versions_are_found_by_their_names(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    (first,) = convert(tmp_path / "dicom", tmp_path / "out", NATIVE).outcomes
    modality, _, rest = first.case.partition("_")
    old = f"{modality}_03_{rest}"
    for path in (tmp_path / "out/imagesTs").iterdir():
        path.rename(path.with_name(path.name.replace(first.case, old)))
    sidecar = tmp_path / "out/imagesTs" / f"{old}.json"
    sidecar.write_text(sidecar.read_text().replace(first.case, old))
    (again,) = convert(tmp_path / "dicom", tmp_path / "out", NATIVE).outcomes
    assert (again.case, again.code) == (old, "already-done")


def test_worker_processes_give_the_same_as_one(write_series: WriteSeries, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_series(tmp_path / f"dicom/{seed}", seed=seed)
    convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(jobs=1))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out/imagesTs").iterdir()}
    shutil.rmtree(tmp_path / "out/imagesTs")
    ledger = convert(tmp_path / "dicom", tmp_path / "out", ConvertOptions(jobs=2))
    assert codes(ledger.outcomes) == {"done": 3}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out/imagesTs").iterdir()} == before


@pytest.mark.parametrize("error", [DiskFullError("No space is left."), KeyboardInterrupt()])
def test_what_ends_the_run_leaves_nothing_half_written(
    error: BaseException, write_series: WriteSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2):
        write_series(tmp_path / f"dicom/{seed}", seed=seed)
    calls = []

    def failing(path: Path, volume: Volume) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise error
        write_image(path, volume)

    with monkeypatch.context() as patched:
        patched.setattr("volseg.verbs.convert.conversion.write_image", failing)
        with pytest.raises(type(error)):
            convert(tmp_path / "dicom", tmp_path / "out", NATIVE)
    assert len(list((tmp_path / "out/imagesTs").iterdir())) == 2, "one image with its sidecar"
    (name,) = [path.name for path in (tmp_path / "out/imagesTs").glob("*.nii.gz")]
    assert [
        f"{one['case']}.nii.gz" for one in json.loads((tmp_path / "out" / LEDGER_FILE).read_text())["outcomes"]
    ] == [name]
    assert name in (tmp_path / "out/dataset.json").read_text()
    outcomes = convert(tmp_path / "dicom", tmp_path / "out", NATIVE).outcomes
    assert sorted(outcome.code for outcome in outcomes) == ["already-done", "done"]
    assert len(list((tmp_path / "out/imagesTs").iterdir())) == 4


def test_nothing_is_written_among_the_dicom_files(write_series: WriteSeries, tmp_path: Path) -> None:
    """A later ``predict`` of that folder would take the images there for its input."""
    write_series(tmp_path / "dicom/a", seed=1)
    before = sorted(tmp_path.rglob("*"))
    for source in (tmp_path / "dicom", tmp_path / "dicom/a"):
        for run in (convert, preview):
            with pytest.raises(UsageError, match="holds the DICOM files themselves") as caught:
                run(source, tmp_path / "dicom/../dicom/a", NATIVE)
            assert caught.value.code == "among-dicom"
    assert sorted(tmp_path.rglob("*")) == before
    assert codes(convert(tmp_path / "dicom", tmp_path / "dicom/nifti", NATIVE).outcomes) == {"done": 1}
    assert codes(convert(tmp_path / "dicom", tmp_path / "dicom/nifti", NATIVE).outcomes) == {"done": 1}


def test_preview_writes_nothing(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom/a", seed=1)
    write_series(tmp_path / "dicom/b", seed=2, positions=[(0, 0, 0), (0, 0, 1), (0, 0, 3)])
    rows, _ = preview(tmp_path / "dicom", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert sorted(row.action.split(" ")[0] for row in rows) == ["refused", "resampled"]
    convert(tmp_path / "dicom", tmp_path / "out")
    rows, _ = preview(tmp_path / "dicom", tmp_path / "out")
    assert any(row.action == "already done" for row in rows)


def test_bad_places_give_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.txt").write_text("no DICOM")
    for folder, kind, code in (
        ("absent", UsageError, "missing-folder"),
        ("text/a.txt", UsageError, "not-a-folder"),
        ("empty", InputError, "empty-folder"),
        ("text", InputError, "no-dicom"),
    ):
        with pytest.raises(kind) as caught:
            convert(tmp_path / folder, tmp_path / "out")
        assert caught.value.code == code
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError):
        convert(tmp_path / "text", tmp_path / "text/a.txt")

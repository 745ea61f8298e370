"""Predict straight from DICOM."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk

import volseg
from tests.nifti import voxels
from tests.obliques import SLANTED, apart_mm, readings
from volseg.errors import (
    InputError,
    UsageError,
)
from volseg.outcomes import Ledger, Status
from volseg.verbs.predict import predict

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import WriteSeries


class TestDicom:
    def test_a_series_becomes_an_image_and_its_mask(
        self, trained_bundle: Path, write_series: WriteSeries, tmp_path: Path
    ) -> None:
        write_series(tmp_path / "dicom", positions=[(0, 0, 2.0 * k) for k in range(12)],
                     array=np.random.default_rng(0).integers(0, 2000, (12, 20, 24)).astype(np.uint16))  # fmt: skip
        out = tmp_path / "out"
        ledger = predict(trained_bundle, tmp_path / "dicom", out)
        assert ledger.exit_code == 0
        (outcome,) = ledger.outcomes
        image, mask = out / "images" / f"{outcome.case}.nii.gz", out / f"{outcome.case}.nii.gz"
        for read in (sitk.ReadImage,):
            first, second = read(str(image)), read(str(mask))
            assert first.GetSize() == second.GetSize() == (24, 20, 12)
            assert first.GetSpacing() == second.GetSpacing()
            assert first.GetOrigin() == second.GetOrigin()
            assert first.GetDirection() == second.GetDirection()
        assert voxels(image).min() < 0  # Hounsfield units, by the rescale
        for path in out.rglob("*"):
            if path.is_file():
                raw = path.read_bytes()
                content = gzip.decompress(raw) if path.suffix == ".gz" else raw
                assert b"Doe" not in content
                assert b"patient 0" not in content
        image.unlink()  # the mask alone can't be opened
        assert [outcome.code for outcome in predict(trained_bundle, tmp_path / "dicom", out).outcomes] == ["done"]
        assert image.is_file()
        assert [outcome.code for outcome in predict(trained_bundle, tmp_path / "dicom", out).outcomes] == [
            "already-done"
        ]

    def test_an_oblique_series_is_turned_with_its_mask(
        self, trained_bundle: Path, write_series: WriteSeries, tmp_path: Path
    ) -> None:
        normal = np.cross(SLANTED[:3], SLANTED[3:])
        write_series(tmp_path / "dicom", positions=[tuple(2.0 * k * normal) for k in range(12)], orientation=SLANTED,
                     array=np.random.default_rng(0).integers(0, 2000, (12, 20, 24)).astype(np.uint16))  # fmt: skip
        out = tmp_path / "out"
        (outcome,) = predict(trained_bundle, tmp_path / "dicom", out).outcomes
        assert outcome.status is Status.DONE
        assert outcome.message == (
            "axes-turned: image and mask are turned from LPS to RAS, which is how NIfTI holds this oblique grid."
        )
        assert not any("axes" in warning for warning in outcome.warnings)
        image, mask = out / "images" / f"{outcome.case}.nii.gz", out / f"{outcome.case}.nii.gz"
        for first, second in zip(readings(image).values(), readings(mask).values(), strict=True):
            np.testing.assert_array_equal(first[1], second[1])
        headers = [gzip.decompress(path.read_bytes())[:348] for path in (image, mask)]
        for part in (slice(76, 92), slice(252, 328)):  # pixdim, both forms
            assert headers[0][part] == headers[1][part]
        source = volseg.read(tmp_path / "dicom", progress=False)
        assert max(apart_mm(source, *found) for found in readings(image).values()) < 1e-3
        # In memory the mask keeps the voxel order of its volume, and can be written for the image all the same.
        in_memory = volseg.load(trained_bundle).predict(source, progress=False)
        assert in_memory.grid is source.grid
        np.testing.assert_array_equal(in_memory.array, voxels(mask)[::-1, ::-1])
        volseg.write(in_memory, tmp_path / "again.nii.gz", image=image)
        assert gzip.decompress((tmp_path / "again.nii.gz").read_bytes()) == gzip.decompress(mask.read_bytes())
        (again,) = predict(trained_bundle, tmp_path / "dicom", out).outcomes
        assert (again.code, again.message) == ("already-done", outcome.message)

    def test_what_is_put_right_on_the_way_is_told(
        self, trained_bundle: Path, write_series: WriteSeries, tmp_path: Path
    ) -> None:
        write_series(tmp_path / "dicom", seed=1)
        shutil.copy(tmp_path / "dicom" / "000.dcm", tmp_path / "dicom" / "copy.dcm")
        (outcome,) = predict(trained_bundle, tmp_path / "dicom", tmp_path / "out").outcomes
        assert outcome.status is Status.DONE
        assert "Some files are copies of others; each image was taken once." in outcome.warnings

    def test_a_mask_of_a_series_that_splits_now_is_told(
        self, trained_bundle: Path, write_series: WriteSeries, tmp_path: Path
    ) -> None:
        def echo(number: int) -> Callable[[Any, int], None]:
            def edit(data: Any, _: int) -> None:
                data.EchoTime, data.SOPInstanceUID = 10 * number, f"{data.SOPInstanceUID[:50]}.{number}"

            return edit

        source, out = tmp_path / "dicom", tmp_path / "out"
        write_series(source / "1", edit=echo(1))
        (first,) = predict(trained_bundle, source, out).outcomes
        write_series(source / "2", edit=echo(2))
        ledger = predict(trained_bundle, source, out)
        assert ledger.exit_code == 1
        assert sorted((one.case, one.code) for one in ledger.outcomes) == [
            (first.case, "other-volumes"), (f"{first.case}_echo1", "done"), (f"{first.case}_echo2", "done")
        ]  # fmt: skip
        kept = Ledger.read(out / "prediction.json")
        assert kept is not None
        assert [one.since[:23] for one in kept.outcomes] == ["refused [other-volumes]", "", ""]
        (out / f"{first.case}.nii.gz").unlink()
        (out / "images" / f"{first.case}.nii.gz").unlink()
        assert predict(trained_bundle, source, out).exit_code == 0

    def test_a_series_that_is_refused_never_costs_the_others(
        self, trained_bundle: Path, write_series: WriteSeries, tmp_path: Path
    ) -> None:
        write_series(tmp_path / "dicom" / "good", seed=1)
        write_series(tmp_path / "dicom" / "gap", positions=[(0, 0, z) for z in (0, 2, 4, 8, 10)], seed=2)
        ledger = predict(trained_bundle, tmp_path / "dicom", tmp_path / "out")
        assert ledger.exit_code == 1
        assert sorted(outcome.code for outcome in ledger.outcomes) == ["done", "missing-slice"]

    def test_a_damaged_file_is_named_to_this_person_alone(
        self, trained_bundle: Path, write_series: WriteSeries, tmp_path: Path
    ) -> None:
        write_series(tmp_path / "dicom", seed=1, name="secret_{:03d}.dcm")
        path = tmp_path / "dicom" / "secret_003.dcm"
        path.write_bytes(path.read_bytes()[:-50])
        ledger = predict(trained_bundle, tmp_path / "dicom", tmp_path / "out")
        assert ledger.exit_code == 2
        assert any("secret" in outcome.private for outcome in ledger.outcomes)
        assert "secret" not in (tmp_path / "out" / "prediction.json").read_text()

    @pytest.mark.parametrize("place", ["in the place of a folder", "in a folder"])
    def test_an_archive_gives_the_same_as_its_folder(
        self,
        trained_bundle: Path,
        write_series: WriteSeries,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        place: str,
    ) -> None:
        write_series(tmp_path / "dicom")
        source = tmp_path / "packed"
        source.mkdir()
        archive = Path(shutil.make_archive(str(source / "study"), "gztar", tmp_path / "dicom"))
        (tmp_path / "scratch").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
        (plain,) = predict(trained_bundle, tmp_path / "dicom", tmp_path / "of_folder").outcomes
        given = archive if place == "in the place of a folder" else source
        (packed,) = predict(trained_bundle, given, tmp_path / "of_archive").outcomes
        assert packed == plain
        assert packed.status is Status.DONE
        for name in (*packed.outputs, f"images/{packed.case}.nii.gz"):
            assert (tmp_path / "of_archive" / name).read_bytes() == (tmp_path / "of_folder" / name).read_bytes()
        assert not list((tmp_path / "scratch").iterdir())

    def test_nothing_unpacked_stays_after_an_interrupt(
        self, trained_bundle: Path, write_series: WriteSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_series(tmp_path / "dicom")
        archive = Path(shutil.make_archive(str(tmp_path / "study"), "zip", tmp_path / "dicom"))
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(scratch))
        unpacked = []

        def interrupted(*_: object, **__: object) -> None:
            unpacked.extend(path for path in scratch.rglob("*") if path.is_file())
            raise KeyboardInterrupt

        monkeypatch.setattr("volseg.verbs.predict.verb.run_cases", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict(trained_bundle, archive, tmp_path / "out")
        assert len(unpacked) == len(list((tmp_path / "dicom").iterdir()))
        assert not list(scratch.iterdir())

    def test_files_that_are_not_as_they_should_be_are_told(
        self, trained_bundle: Path, write_series: WriteSeries, tmp_path: Path
    ) -> None:
        write_series(tmp_path / "dicom")
        paths = sorted((tmp_path / "dicom").iterdir())
        for path in paths:
            path.write_bytes(path.read_bytes()[132:])
        (outcome,) = predict(trained_bundle, tmp_path / "dicom", tmp_path / "out").outcomes
        assert any(word.startswith(f"{len(paths)} files lack the preamble") for word in outcome.warnings)

    def test_a_folder_of_nothing_is_refused(self, trained_bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "notes").mkdir()
        with pytest.raises(UsageError, match=r"is empty\. Name an image, a folder of images, a data set or"):
            predict(trained_bundle, tmp_path / "notes", tmp_path / "out")
        (tmp_path / "notes" / "readme.txt").write_text("nothing here")
        with pytest.raises(InputError, match=r"holds neither an image .* nor a DICOM file"):
            predict(trained_bundle, tmp_path / "notes", tmp_path / "out")
        assert not list(tmp_path.glob("out/*.nii.gz"))

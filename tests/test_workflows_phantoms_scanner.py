"""Phantoms as DICOM, read by pydicom and by SimpleITK's series reader."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from volseg.workflows.phantoms.phantom import make_phantom
from volseg.workflows.phantoms.scanner import write_cohort
from volseg.workflows.phantoms.tissue import paint

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.workflows.phantoms.phantom import Phantom

TYPE_1 = (
    "SOPClassUID", "SOPInstanceUID", "Modality", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SamplesPerPixel", "PhotometricInterpretation",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "ImageType",
    "RescaleIntercept", "RescaleSlope",
)  # fmt: skip
"""What a CT image must have (PS3.3 A.3.3)."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Phantom], Path]:
    phantoms = [make_phantom(f"phantom-{number:03d}", (3, number), matrix=28) for number in range(10)]
    folder = tmp_path_factory.mktemp("cohort")
    assert write_cohort(phantoms, folder, seed=(3,)) == sum(phantom.grid.shape[2] for phantom in phantoms)
    return phantoms, folder


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_simpleitk_reads_the_same_volume_in_the_same_place(cohort: tuple[list[Phantom], Path]) -> None:
    phantoms, folder = cohort
    series = {pydicom.dcmread(path, stop_before_pixels=True).PatientID: path for path in files_of(folder)}
    for phantom in phantoms:
        uid = pydicom.dcmread(series[phantom.name], stop_before_pixels=True).SeriesInstanceUID
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid, recursive=True)
        image = sitk.ReadImage(names)
        lps = phantom.grid.lps_affine
        assert image.GetSize() == phantom.grid.shape
        assert image.GetSpacing() == pytest.approx(phantom.grid.spacing_mm, abs=1e-5)
        assert image.GetOrigin() == pytest.approx(lps[:3, 3], abs=1e-5)
        assert np.array(image.GetDirection()).reshape(3, 3) == pytest.approx(_cosines(lps))
        assert np.array_equal(sitk.GetArrayFromImage(image).T, paint(phantom))


def _cosines(affine: np.ndarray) -> np.ndarray:
    return affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)


def test_every_file_is_a_whole_ct_image(cohort: tuple[list[Phantom], Path]) -> None:
    _, folder = cohort
    seen = set()
    syntaxes, signs = set(), set()
    for path in files_of(folder):
        dataset = pydicom.dcmread(path)
        assert not [name for name in TYPE_1 if getattr(dataset, name, None) in (None, "", b"")]
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert dataset.pixel_array.shape == (dataset.Rows, dataset.Columns)
        seen.add(dataset.SOPInstanceUID)
        syntaxes.add(dataset.file_meta.TransferSyntaxUID.name)
        signs.add(dataset.PixelRepresentation)
    assert len(seen) == len(files_of(folder))
    assert len(syntaxes) == 3
    assert signs == {0, 1}


def test_names_tell_nothing(cohort: tuple[list[Phantom], Path]) -> None:
    phantoms, folder = cohort
    files = files_of(folder)
    assert not any(phantom.name in str(path.relative_to(folder)) for path in files for phantom in phantoms)
    patients = [pydicom.dcmread(path, stop_before_pixels=True).PatientID for path in files]
    assert len({path.parent for path in files}) > 1
    # In the order of names, neighbours are mostly of different patients.
    assert np.mean([one == other for one, other in pairwise(patients)]) < 0.3


def test_the_same_seed_gives_the_same_bytes(cohort: tuple[list[Phantom], Path], tmp_path: Path) -> None:
    phantoms, folder = cohort
    write_cohort(phantoms, tmp_path, seed=(3,))
    assert [p.relative_to(tmp_path) for p in files_of(tmp_path)] == [p.relative_to(folder) for p in files_of(folder)]
    assert all((folder / p.relative_to(tmp_path)).read_bytes() == p.read_bytes() for p in files_of(tmp_path))

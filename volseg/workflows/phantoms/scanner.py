"""Phantoms as DICOM: CT series as a scanner sends them, in files whose names and order say nothing."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from volseg.atomic import atomic_path
from volseg.workflows.phantoms.tissue import paint

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset
    from pydicom.uid import UID

    from volseg.workflows.phantoms.phantom import Phantom

FOLDERS = 4
"""An export from an archive spreads files over folders that mean nothing."""


@dataclass(frozen=True)
class _Habits:
    """What differs between makers of scanners and says nothing about the patient."""

    transfer_syntax: str
    signed: bool
    intercept: float
    from_head: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Habits:
        from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

        syntax = str(rng.choice([ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless]))
        signed = bool(rng.integers(2))
        return cls(syntax, signed, 0.0 if signed else -1024.0, bool(rng.integers(2)))


def write_cohort(phantoms: Iterable[Phantom], folder: Path, *, seed: tuple[int, ...]) -> int:
    """Write each phantom as a CT series (PS3.3 A.3); all files lie mixed, under names drawn at random.

    The same seed gives the same bytes.

    Args:
        phantoms: what is scanned.
        folder: where the files go, in subfolders.
        seed: whole numbers for names, identifiers and the scanners' habits.

    Returns:
        How many files were written.

    Raises:
        FileError: a file can't be written.
    """
    from pydicom import dcmwrite

    rng = np.random.default_rng(seed)
    count = 0
    for phantom in phantoms:
        for dataset in series(phantom, rng, seed):
            place = folder / f"{int(rng.integers(FOLDERS)):02d}" / f"{int(rng.integers(2**62)):016X}"
            with atomic_path(place) as partial:
                dcmwrite(partial, dataset, enforce_file_format=True)
            count += 1
    return count


def series(phantom: Phantom, rng: np.random.Generator, seed: tuple[int, ...]) -> list[Dataset]:
    """One CT series, a data set for each slice; the instance numbers run from the head or from the feet."""
    habits = _Habits.draw(rng)
    hu = paint(phantom)
    common = _common(phantom, habits, seed)
    found = []
    slices = range(hu.shape[2])
    downwards = phantom.grid.lps_affine[2, 2] < 0
    for number, k in enumerate(slices if downwards == habits.from_head else reversed(slices), start=1):
        found.append(_slice(phantom, common, habits, hu[:, :, k], number, k, seed))
    return found


def _uid(seed: tuple[int, ...], *what: object) -> UID:
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=["volseg phantom", *map(str, seed), *map(str, what)])


def _common(phantom: Phantom, habits: _Habits, seed: tuple[int, ...]) -> Dataset:
    """What all slices share: patient, study, series, frame of reference, equipment (PS3.3 table A.3-1)."""
    from pydicom import Dataset

    common = Dataset()
    common.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"  # CT Image Storage
    common.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    common.Modality = "CT"
    common.Manufacturer = "volseg phantom"
    common.PatientName = f"{phantom.name}^Nobody"
    common.PatientID = phantom.name
    common.PatientBirthDate = ""
    common.PatientSex = "O"
    common.StudyInstanceUID = _uid(seed, phantom.name, "study")
    common.SeriesInstanceUID = _uid(seed, phantom.name, "series")
    common.FrameOfReferenceUID = _uid(seed, phantom.name, "frame")
    common.StudyID, common.SeriesNumber, common.AcquisitionNumber = "1", 3, 1
    common.StudyDate = common.ContentDate = "20240102"
    common.StudyTime = common.ContentTime = "030405"
    common.AccessionNumber = common.ReferringPhysicianName = common.PositionReferenceIndicator = ""
    common.StudyDescription = common.SeriesDescription = "abdomen phantom"
    common.BodyPartExamined = "ABDOMEN"
    common.PatientPosition = phantom.position
    common.KVP = 120
    common.BurnedInAnnotation = "NO"
    lps = phantom.grid.lps_affine
    pixel_mm, _, slice_mm = phantom.grid.spacing_mm
    common.SliceThickness = round(slice_mm, 6)
    common.PixelSpacing = [round(pixel_mm, 6)] * 2
    common.ImageOrientationPatient = [*np.rint(lps[:3, 0] / pixel_mm), *np.rint(lps[:3, 1] / pixel_mm)]
    common.SamplesPerPixel = 1
    common.PhotometricInterpretation = "MONOCHROME2"
    common.Columns, common.Rows = phantom.grid.shape[:2]
    common.BitsAllocated = 16
    common.BitsStored = 16 if habits.signed else 12
    common.HighBit = common.BitsStored - 1
    common.PixelRepresentation = int(habits.signed)
    common.RescaleIntercept, common.RescaleSlope, common.RescaleType = habits.intercept, 1, "HU"
    common.WindowCenter, common.WindowWidth = 40, 400
    return common


def _slice(
    phantom: Phantom,
    common: Dataset,
    habits: _Habits,
    hu: NDArray[np.int16],
    number: int,
    k: int,
    seed: tuple[int, ...],
) -> Dataset:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

    dataset = deepcopy(common)  # a data set made from another shares its elements
    dataset.SOPInstanceUID = _uid(seed, phantom.name, "image", k)
    dataset.InstanceNumber = number
    position = (phantom.grid.lps_affine @ (0, 0, k, 1))[:3]
    # A decimal string has 16 characters (PS3.5 6.2); a nanometre fits.
    dataset.ImagePositionPatient = [round(float(value), 6) for value in position]
    dataset.SliceLocation = round(float(position[2]), 6)
    stored = (hu - np.int16(habits.intercept)).astype("<i2" if habits.signed else "<u2")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(habits.transfer_syntax)
    pixels = np.ascontiguousarray(stored.T)  # DICOM runs along rows
    if habits.transfer_syntax == RLELossless:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.PixelData = pixels.tobytes()
        dataset.compress(RLELossless, generate_instance_uid=False)
    else:
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OW"
    return dataset

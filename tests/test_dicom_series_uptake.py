"""The factor from activity to uptake: the formula, each way to the start of the scan, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom import Sequence as Items

from tests.dicom_traps.stack import Stack, write_slices
from volseg.dicom import Series, scan
from volseg.dicom.series.uptake import suv_factor
from volseg.errors import InputError

WEIGHT_KG, DOSE_BQ, HALF_LIFE_S = 72.5, 3.5e8, 6586.2

Edit = Callable[[Dataset, Dataset], None]


def pet(folder: Path, edit: Edit | None = None) -> Series:
    """A PET series scanned at 10:30 after an injection at 09:30; ``edit`` gets each image and its injection."""

    def tamper(data: Dataset, number: int) -> None:
        data.Units, data.DecayCorrection, data.CorrectedImage = "BQML", "START", ["NORM", "ATTN", "DECY"]
        data.SeriesDate, data.SeriesTime = "20240229", "103000.00"
        data.AcquisitionDate, data.AcquisitionTime = "20240229", f"1030{number:02d}"
        data.PatientWeight = f"{WEIGHT_KG}"
        dose = Dataset()
        dose.RadionuclideTotalDose, dose.RadionuclideHalfLife = f"{DOSE_BQ:g}", f"{HALF_LIFE_S}"
        dose.RadiopharmaceuticalStartTime = "093000"
        data.RadiopharmaceuticalInformationSequence = Items([dose])
        if edit is not None:
            edit(data, dose)

    write_slices(folder, Stack(modality="PT", offset=2000, tamper=tamper).slices())
    (series,) = scan(folder).series
    return series


def factor(delay_s: float) -> float:
    return WEIGHT_KG * 1000 / (DOSE_BQ * math.exp(-math.log(2) * delay_s / HALF_LIFE_S))


def set_all(**values: object) -> Edit:
    """Set elements of each image; None takes one out."""

    def edit(data: Dataset, dose: Dataset) -> None:
        for keyword, value in values.items():
            holder = dose if keyword.startswith("Radio") else data
            if value is None:
                delattr(holder, keyword)
            else:
                setattr(holder, keyword, value)

    return edit


def remade(data: Dataset, _: Dataset) -> None:
    """A series that was made anew the day after."""
    data.SeriesDate, data.SeriesTime = "20240301", "080000"


def remade_by_ge(data: Dataset, dose: Dataset) -> None:
    remade(data, dose)
    data.add_new(0x00090010, "LO", "GEMS_PETD_01")
    data.add_new(0x0009100D, "DT", "20240229102500.00")


@pytest.mark.parametrize(
    ("edit", "delay_s"),
    [
        (None, 3600),
        (set_all(RadiopharmaceuticalStartDateTime="20240229093000.00"), 3600),
        (set_all(RadiopharmaceuticalStartTime=None, RadiopharmaceuticalStartDateTime="20240228233000-0500"), 39600),
        (set_all(RadiopharmaceuticalStartTime="233000"), 39600),
        (set_all(DecayCorrection="ADMIN"), 0),
        (set_all(DecayCorrection="ADMIN", RadiopharmaceuticalStartTime=None), 0),
        (remade, 3600),
        (remade_by_ge, 3300),
        (set_all(RadiopharmaceuticalStartTime="0930"), 3600),
    ],
)
def test_uptake_is_activity_by_dose_and_weight(edit: Edit | None, delay_s: float, tmp_path: Path) -> None:
    assert suv_factor(pet(tmp_path, edit)) == pytest.approx(factor(delay_s), rel=1e-12)


@pytest.mark.parametrize(
    "values",
    [
        {"PatientWeight": None},
        {"PatientWeight": "0"},
        {"PatientWeight": "72500"},
        {"RadionuclideTotalDose": None},
        {"RadionuclideTotalDose": "350"},  # in MBq
        {"RadionuclideHalfLife": "109.77"},  # in minutes
        {"RadionuclideHalfLife": "0"},
        {"RadiopharmaceuticalStartTime": None},
        {"RadiopharmaceuticalStartTime": "103500"},  # after the scan
        {"RadiopharmaceuticalStartTime": "9:30"},
        {"RadiopharmaceuticalStartDateTime": "20240229083000"},  # another than the time
        {"RadiopharmaceuticalStartDateTime": "20240301093000"},  # a day after
        {"DecayCorrection": "NONE"},
        {"DecayCorrection": None},
        {"CorrectedImage": ["ATTN"]},
        {"CorrectedImage": None},
        {"AcquisitionTime": None},
        {"RadiopharmaceuticalInformationSequence": None},
    ],
    ids=str,
)
def test_facts_that_are_absent_or_contradict_are_refused(values: dict[str, object], tmp_path: Path) -> None:
    edit = set_all(**values)
    if "RadiopharmaceuticalInformationSequence" in values:

        def edit(data: Dataset, _: Dataset) -> None:
            del data.RadiopharmaceuticalInformationSequence

    with pytest.raises(InputError) as caught:
        suv_factor(pet(tmp_path, edit))
    assert caught.value.code == "suv-facts-missing"


@pytest.mark.parametrize("units", ["CNTS", "GML", None])
def test_other_units_are_refused(units: str | None, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        suv_factor(pet(tmp_path, set_all(Units=units)))
    assert caught.value.code == "suv-units"


def test_images_that_disagree_are_refused(tmp_path: Path) -> None:
    def other_dose(data: Dataset, dose: Dataset) -> None:
        if data.InstanceNumber == 4:
            dose.RadionuclideTotalDose = "3.6e8"

    def two_injections(data: Dataset, dose: Dataset) -> None:
        data.RadiopharmaceuticalInformationSequence = Items([dose, dose])

    def other_weight(data: Dataset, _: Dataset) -> None:
        if data.InstanceNumber == 4:
            data.PatientWeight = "70"

    for number, edit in enumerate((other_dose, two_injections, other_weight)):
        with pytest.raises(InputError) as caught:
            suv_factor(pet(tmp_path / str(number), edit))
        assert caught.value.code == "suv-facts-missing"

"""What check says of a data set whose files are sound."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from volseg.dataset.advice import looks_like_ct
from volseg.dataset.dataset import read_dataset
from volseg.dataset.faults import find_faults
from volseg.verbs.plan import plan

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeDataset, RealData


def told(folder: Path) -> dict[str, str]:
    faults = find_faults(folder)
    assert not any(fault.is_error for fault in faults)
    return {fault.code: fault.message for fault in faults}


def keep_label(folder: Path, label: int, cases: int) -> None:
    """Take a label out of all masks but the first ones."""
    for path in sorted((folder / "labelsTr").iterdir())[cases:]:
        image = nibabel.load(path)
        mask = np.asarray(image.dataobj).copy()
        mask[mask == label] = 0
        nibabel.save(nibabel.Nifti1Image(mask, image.affine), path)


@pytest.mark.parametrize(
    ("having", "code", "words"),
    [(6, None, ""), (3, None, ""), (2, "label-rare", "6 masks have label_2 (2)"), (1, "label-of-one-patient", "label_2")],
)  # fmt: skip
def test_a_label_that_few_cases_have(having: int, code: str | None, words: str, make_dataset: MakeDataset) -> None:
    folder = make_dataset(6)
    keep_label(folder, 2, having)
    found = told(folder)
    assert list(found) == ([code] if code else [])
    assert words in "".join(found.values())


def test_two_cases_of_one_patient_are_one(make_dataset: MakeDataset) -> None:
    folder = make_dataset(6)
    keep_label(folder, 2, 2)
    (folder / "patients.csv").write_text("case,patient\n" + "".join(f"case_{n},p{n // 2}\n" for n in range(6)))
    assert list(told(folder)) == ["label-of-one-patient"]


def test_a_label_that_the_first_fold_does_not_hold_out(make_dataset: MakeDataset) -> None:
    """Four labels of two cases each don't fit a fold of two cases."""
    from volseg.dataset.folds import split_folds

    folder = make_dataset(10)
    for number, path in enumerate(sorted((folder / "labelsTr").iterdir())):
        image = nibabel.load(path)
        mask = np.asarray(image.dataobj).copy()
        mask[mask == 2] = 2 + number // 2 if number < 8 else 1
        nibabel.save(nibabel.Nifti1Image(mask, image.affine), path)
    found = told(folder)
    assert set(found) == {"label-rare", "label-not-held-out"}
    labels_of = {f"case_{number}": {1, 2 + number // 2} if number < 8 else {1} for number in range(10)}
    held_out = split_folds(read_dataset(folder).training, labels_of=labels_of)[0]
    absent = {2, 3, 4, 5} - {label for name in held_out for label in labels_of[name]}
    assert absent
    for label in (2, 3, 4, 5):
        assert (f"label_{label}" in found["label-not-held-out"]) is (label in absent)


@pytest.mark.parametrize(("cases", "words"), [(1, "only one case has a mask"), (3, "all masks are of one patient")])
def test_nothing_can_be_held_out_of_one_patient(cases: int, words: str, make_dataset: MakeDataset) -> None:
    folder = make_dataset(cases)
    (folder / "patients.csv").write_text("case,patient\n" + "".join(f"case_{n},p\n" for n in range(cases)))
    found = told(folder)
    assert list(found) == ["one-patient"]
    assert words in found["one-patient"]
    assert "--all-cases" in found["one-patient"]


def as_ct(folder: Path) -> None:
    for path in (folder / "imagesTr").iterdir():
        image = nibabel.load(path)
        voxels = np.asarray(image.dataobj) - 60
        voxels[:2] = -1000
        nibabel.save(nibabel.Nifti1Image(voxels.astype(np.int16), image.affine), path)


def test_ct_that_nothing_calls_ct(make_dataset: MakeDataset, tmp_path: Path) -> None:
    """What the advice says is what helps: with that dataset.json, CT is normalised as CT."""
    folder = make_dataset(3)
    assert told(folder) == {}
    as_ct(folder)
    found = told(folder)
    assert list(found) == ["modality-unknown"]
    unknown = plan(folder, tmp_path / "unknown")
    assert {one.kind for one in unknown.normalisations} == {"z-score"}
    assert any("look like CT" in warning for warning in unknown.warnings)
    remedy = found["modality-unknown"].rpartition("dataset.json: ")[2].rstrip(".")
    (folder / "dataset.json").write_text(remedy)
    assert told(folder) == {}
    known = plan(folder, tmp_path / "known")
    assert {one.kind for one in known.normalisations} == {"percentiles"}
    assert known.warnings == ()
    assert known.labels == read_dataset(folder).labels


def test_a_modality_that_is_named_is_believed(make_dataset: MakeDataset) -> None:
    folder = make_dataset(3)
    as_ct(folder)
    (folder / "dataset.json").write_text(json.dumps({"modality": {"0": "MRI"}}))
    assert told(folder) == {}


@pytest.mark.parametrize(
    ("file", "is_ct"),
    [
        ("volumes/totalsegmentator/example_ct_sm.nii.gz", True),
        ("volumes/totalsegmentator/example_mr_sm.nii.gz", False),
        ("volumes/chest-ct/CTChest4.nrrd", True),
        ("volumes/brain-tumour-two-channel/brats_2013_pat0005_1/T1c_subtrMeanDivStd.nii.gz", False),
        ("volumes/spinal-cord/t2/t2.nii.gz", False),
        ("hippocampus/imagesTr/hippocampus_003.nii.gz", False),
    ],
)
def test_real_images(file: str, is_ct: bool, real_data: RealData) -> None:
    from volseg.volume import read_volume

    assert looks_like_ct(read_volume(real_data(file)).array) is is_ct

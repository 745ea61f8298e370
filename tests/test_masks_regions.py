"""Masks of structures by themselves: whole where they overlap, kept and drawn anew with the mask of all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.label_study import NATIVE, Study, content_of, done, the_mask
from volseg.masks.record import record_path
from volseg.outcomes import Status
from volseg.regions import regions_in
from volseg.verbs.convert import ConvertOptions, convert
from volseg.volume import read_mask, write_mask

APART = replace(NATIVE, regions=True)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A tumour in a liver, and a cyst of another object that reaches into both."""
    study = Study(tmp_path / "dicom")
    both = np.stack([study.pixels(study.centre(9)), study.pixels(study.centre(4))], axis=-1)
    study.segments(both, "Liver", "Tumour")
    study.segments(study.pixels(study.centre(4, (3, 0))), "Cyst", file="cyst")
    return study


@pytest.mark.parametrize("spacing", ["native", 1.3])
def test_each_is_what_it_would_be_alone(study: Study, tmp_path: Path, spacing: float) -> None:
    ledger = convert(study.root, tmp_path / "out", replace(APART, spacing=(spacing,)))
    assert "each is whole in regions/." in done(ledger).message
    found = regions_in(tmp_path / "out" / "regions")
    assert {one.name for one in found.values()} == {"Cyst", "Liver", "Tumour"}
    for one in found.values():
        options = ConvertOptions(spacing=(spacing,), labels=one.name, jobs=1)
        alone = the_mask(tmp_path / one.name, convert(study.root, tmp_path / one.name, options))
        (path,) = one.masks[done(ledger).case]
        np.testing.assert_array_equal(read_mask(path).array, alone.array)
        assert path.relative_to(tmp_path / "out").as_posix() in done(ledger).outputs
    whole = the_mask(tmp_path / "out", ledger)
    union = np.any([read_mask(path).array for one in found.values() for path in one.masks[done(ledger).case]], axis=0)
    assert union.sum() >= np.count_nonzero(whole.array)


def test_they_may_be_asked_for_later_and_stay(study: Study, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ledger = convert(study.root, out, NATIVE)
    assert "--regions writes each of them whole." in done(ledger).message
    mask = content_of(out / "labelsTr")[f"{done(ledger).case}.nii.gz"]
    convert(study.root, out, APART)
    there = content_of(out)
    assert there[f"labelsTr/{done(ledger).case}.nii.gz"] == mask
    assert sum(name.startswith("regions/") for name in there) == 6
    convert(study.root, out, APART)
    convert(study.root, out, NATIVE)
    assert {name: one for name, one in content_of(out).items() if "json" not in name} == {
        name: one for name, one in there.items() if "json" not in name
    }
    # Where the labels change, none of the old masks stays beside the new one.
    (study.root / study.name / "cyst").unlink()
    convert(study.root, out, replace(NATIVE, overwrite=True))
    assert not list((out / "regions").rglob("*.nii.gz"))


def test_one_that_somebody_changed_is_not_replaced(study: Study, tmp_path: Path) -> None:
    out = tmp_path / "out"
    case = done(convert(study.root, out, APART)).case
    path = out / "regions" / "tumour" / f"{case}.nii.gz"
    write_mask(path, 1 - read_mask(path).array, path)
    before = path.read_bytes()
    convert(study.root, out, APART)
    (study.root / study.name / "cyst").unlink()
    outcomes = convert(study.root, out, APART).outcomes
    assert "mask-changed" in {one.code for one in outcomes if one.status is Status.REFUSED}
    assert path.read_bytes() == before


def test_what_a_stranger_s_record_names_elsewhere_is_left_alone(study: Study, tmp_path: Path) -> None:
    out = tmp_path / "out"
    case = done(convert(study.root, out, APART)).case
    record = json.loads(record_path(out, case).read_text())
    digest = record["regions"].pop(f"regions/cyst/{case}.nii.gz")
    other = tmp_path / f"{case}.nii.gz"
    (out / "regions" / "cyst" / f"{case}.nii.gz").rename(other)
    record["regions"][f"regions/../../{case}.nii.gz"] = digest
    record_path(out, case).write_text(json.dumps(record))
    (study.root / study.name / "cyst").unlink()
    convert(study.root, out, replace(APART, overwrite=True))
    assert other.exists()

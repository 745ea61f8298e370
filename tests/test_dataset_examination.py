"""What one case tells, read once: digests of its voxels, labels, and measures; its faults have tests of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest

from volseg.dataset.case import Case
from volseg.dataset.examination import CaseToExamine, examine
from volseg.labels import Label, LabelTable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike

    from tests.conftest import WriteImage
    from volseg.dataset.findings import Findings


class Make(Protocol):
    def __call__(self, image: ArrayLike = ..., mask: ArrayLike | None = ..., name: str = ...) -> CaseToExamine: ...


TABLE = LabelTable((Label(1, "one"), Label(2, "two")))
IMAGE = np.random.default_rng(0).integers(0, 200, (7, 6, 5)).astype(np.int16)
MASK = np.zeros((7, 6, 5), np.uint8)
MASK[1:4, 1:4, 1:3] = 1
MASK[5, 5, 4] = 2
AFFINE = np.diag([-1.5, 2.0, 0.5, 1.0])


@pytest.fixture
def make(tmp_path: Path, write_image: WriteImage) -> Make:
    def write(image: ArrayLike = IMAGE, mask: ArrayLike | None = MASK, name: str = "a") -> CaseToExamine:
        path = write_image(tmp_path / "imagesTr" / f"{name}.nii.gz", image, AFFINE)
        label = None if mask is None else write_image(tmp_path / "labelsTr" / f"{name}.nii.gz", mask, AFFINE)
        return CaseToExamine(Case(name, (path,), label), tmp_path, TABLE, 1)

    return write


def found(one: CaseToExamine) -> Findings:
    return examine(one).found


def test_a_sound_case_is_measured_by_its_voxels(make: Make) -> None:
    one = found(make())
    assert (one.faults, one.seen, one.off_whole, one.ct_like) == ((), (1, 2), None, False)
    measures = one.measures
    assert measures is not None
    assert (measures.name, measures.shape, measures.spacing_mm) == ("a", IMAGE.shape, (1.5, 2.0, 0.5))
    assert measures.label_volumes_mm3 == pytest.approx({1: 18 * 1.5, 2: 1.5})
    assert sorted(measures.foreground(0)) == sorted(IMAGE[MASK > 0])


def test_the_same_voxels_have_the_same_digest_however_they_are_stored(make: Make) -> None:
    first = found(make())
    as_floats = found(make(IMAGE.astype(np.float32), MASK.astype(np.float32), "b"))
    assert (as_floats.digest, as_floats.mask_digest is not None) == (first.digest, True)
    other = IMAGE.copy()
    other[6, 5, 4] += 1
    assert found(make(other, name="c")).digest != first.digest
    assert found(make(IMAGE.transpose(1, 0, 2).reshape(7, 6, 5), name="d")).digest != first.digest


def test_a_case_without_a_mask_has_no_measures_and_one_with_faults_neither(make: Make) -> None:
    bare = found(make(mask=None))
    assert (bare.faults, bare.seen, bare.mask_digest, bare.measures) == ((), (), None, None)
    assert bare.digest is not None
    broken = found(make(np.where(IMAGE.max() == IMAGE, np.nan, IMAGE).astype(np.float32), name="b"))
    assert [fault.code for fault in broken.faults] == ["not-finite"]
    assert broken.measures is None


def test_voxels_to_ignore_are_no_label_and_count_as_background(make: Make) -> None:
    mask = MASK.copy()
    mask[0, 0, :] = 9
    ignoring = replace(make(mask=mask), labels=replace(TABLE, ignore=9))
    one = found(ignoring)
    assert (one.faults, one.seen) == ((), (1, 2))
    plain = found(make(name="b"))
    assert one.measures is not None
    assert plain.measures is not None
    assert replace(one.measures, name="b") == plain.measures
    assert one.mask_digest != plain.mask_digest


def test_a_hair_off_a_whole_number_is_noted(make: Make) -> None:
    mask = MASK.astype(np.float32)
    mask[5, 5, 4] = np.nextafter(np.float32(2), np.float32(3))
    assert found(make(mask=mask)).off_whole == float(mask[5, 5, 4]) != 2

"""Padding of a CT: by the header's word, by the scanner's circle, and where nobody can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from tests.dicom_traps.stack import Form, Stack, write_slices
from volseg.dicom import load_values, scan

AIR = -1024


def loaded(folder: Path, edit: Any, form: Form, **more: Any) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """The voxels and changes of a series whose first row of pixels ``edit`` sets, and the voxels that it has without."""
    stack = Stack(form=form, **more)

    def tamper(data: Dataset, _: int) -> None:
        words = np.frombuffer(data.PixelData, f"<{'i' if form.signed else 'u'}2").copy()
        edit(data, words[: stack.size[0]])
        data.PixelData = words.tobytes()

    write_slices(folder, Stack(form=form, tamper=tamper, **more).slices())
    (series,) = scan(folder).series
    result = load_values(series)
    np.testing.assert_array_equal(load_values(series).volume.array, result.volume.array)
    truth = stack.truth().values.transpose(2, 1, 0)
    return np.asarray(result.volume.array), result.changes, truth


def set_padding(value: int, vr: str, words: int, limit: int | None = None) -> Any:
    def edit(data: Dataset, row: np.ndarray) -> None:
        row[:] = words
        data.add_new(0x00280120, vr, value)
        if limit is not None:
            data.add_new(0x00280121, vr, limit)

    return edit


UNSIGNED = Form(stored=16, signed=False, intercept=-1024)


@pytest.mark.parametrize(
    ("edit", "form"),
    [
        (set_padding(-2000, "SS", -2000), Form()),
        (set_padding(0xF830, "US", -2000), Form()),  # the wrong VR for signed pixels, as some write it
        (set_padding(-2000, "SS", -2000), Form(intercept=-1024)),
        (set_padding(65535, "US", 65535), UNSIGNED),
        (set_padding(65535, "US", 65535), Form(signed=False, intercept=0)),
        (set_padding(-3000, "SS", -2500, limit=-2000), Form()),
        (set_padding(-2000, "SS", -2500, limit=-3000), Form()),
        (set_padding(-2000, "SS", -2000), Form(slope=0.5, intercept=-1024.25)),
    ],
)
def test_padding_becomes_air_and_nothing_else_does(edit: Any, form: Form, tmp_path: Path) -> None:
    offset = 2000.0 if not form.signed and form.intercept == 0 else 40.0
    found, changes, truth = loaded(tmp_path, edit, form, offset=offset)
    assert changes == ("padding-to-air",)
    assert (found[:, 0] == AIR).all()
    np.testing.assert_allclose(found[:, 1:], truth[:, 1:], rtol=1e-6)


@pytest.mark.parametrize(("stored", "intercept"), [(-2000, 0.0), (-2000, -1024.0)])
def test_the_circle_of_a_scanner_that_says_nothing(stored: int, intercept: float, tmp_path: Path) -> None:
    def edit(_: Dataset, row: np.ndarray) -> None:
        row[:] = stored

    found, changes, truth = loaded(tmp_path, edit, Form(intercept=intercept))
    assert changes == ("padding-to-air",)
    assert (found[:, 0] == AIR).all()
    np.testing.assert_array_equal(found[:, 1:], truth[:, 1:])


def test_padding_among_tissue_is_left_and_told(tmp_path: Path) -> None:
    """A padding of 0 in signed Hounsfield units is water."""
    found, changes, truth = loaded(tmp_path, set_padding(0, "SS", 0), Form())
    assert changes == ("padding-left",)
    assert (found[:, 0] == 0).all()
    np.testing.assert_array_equal(found[:, 1:], truth[:, 1:])


def test_padding_that_occurs_nowhere_or_is_air_already_changes_nothing(tmp_path: Path) -> None:
    found, changes, truth = loaded(tmp_path / "a", set_padding(-2000, "SS", -1500), Form())
    assert changes == ()
    assert (found[:, 0] == -1500).all()
    np.testing.assert_array_equal(found[:, 1:], truth[:, 1:])
    found, changes, _ = loaded(tmp_path / "b", set_padding(0, "US", 0), UNSIGNED)
    assert changes == ()
    assert (found[:, 0] == AIR).all()


def test_only_ct_has_air(tmp_path: Path) -> None:
    found, changes, _ = loaded(tmp_path, set_padding(-2000, "SS", -2000), Form(), modality="MR")
    assert changes == ()
    assert (found[:, 0] == -2000).all()

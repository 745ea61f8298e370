"""Masks in memory, post-processed and evaluated as masks on the disk are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import volseg
from volseg import GeometryError, Grid, Label, LabelTable, Mask, UsageError, Volume

if TYPE_CHECKING:
    from pathlib import Path

TABLE = LabelTable((Label(1, "liver"), Label(2, "spleen")))


def make_mask(seed: int = 0) -> Mask:
    random = np.random.default_rng(seed)
    values = (random.integers(1, 3, (12, 10, 8)) * (random.random((12, 10, 8)) > 0.95)).astype(np.uint8)
    values[2:7, 2:7, 2:7] = 1
    return Mask(values, Grid((12, 10, 8), np.diag([0.5, 1.25, 2.0, 1.0])), TABLE)


def test_a_mask_in_memory_comes_out_as_its_file(tmp_path: Path) -> None:
    mask = make_mask()
    volseg.write(mask, tmp_path / "masks" / "a.nii.gz")
    volseg.postprocess(tmp_path / "masks", tmp_path / "clean", keep_largest="Liver", minimum_size_mm3=4, progress=False)
    on_disk = volseg.read_mask(tmp_path / "clean" / "a.nii.gz")
    in_memory = volseg.postprocess(mask, keep_largest=["liver"], minimum_size_mm3=4)
    assert on_disk.labels.names == in_memory.labels.names == ("liver", "spleen")
    assert np.array_equal(on_disk.array, in_memory.array)
    assert not np.array_equal(mask.array, in_memory.array)
    array = volseg.postprocess(mask.array.astype(np.int64), mask.grid, keep_largest=np.int64(1), minimum_size_mm3=4)
    assert array.dtype == np.int64
    assert np.array_equal(array, in_memory.array)


def test_masks_in_memory_get_the_scores_of_their_files(tmp_path: Path) -> None:
    predicted, reference = make_mask(1), make_mask(2)
    volseg.write(predicted, tmp_path / "a" / "case.nii.gz")
    volseg.write(reference, tmp_path / "b" / "case.nii.gz")
    on_disk = volseg.evaluate(tmp_path / "a", str(tmp_path / "b"), progress=False)
    in_memory = volseg.evaluate(predicted, reference)
    assert in_memory.to_csv() == on_disk.to_csv()
    assert repr(in_memory).startswith("Evaluation(1 case; mean Dice liver 0.")
    by_grid = volseg.evaluate(predicted.array, reference.array, grid=predicted.grid)
    by_spacing = volseg.evaluate(predicted.array.tolist(), reference.array, spacing_mm=[0.5, 1.25, 2.0], labels=[2])
    assert by_grid.cases[0].scores == in_memory.cases[0].scores
    assert by_spacing.cases[0].scores == in_memory.cases[0].scores[1:]
    assert by_grid.labels.names == ("label_1", "label_2")


@pytest.mark.parametrize(
    ("arguments", "keywords", "sentence"),
    [
        ("aa", {}, "Give either grid or spacing_mm"),
        ("aa", {"spacing_mm": "wide"}, "spacing_mm can't be"),
        ("aa", {"spacing_mm": 1, "grid": 1}, "Give either grid or spacing_mm"),
        ("aa", {"grid": 1}, "grid takes a Grid, not int"),
        ("aa", {"spacing_mm": 1, "jobs": 2}, "In memory, volseg.evaluate takes labels and regions alone"),
        ("aa", {"spacing_mm": 1, "labls": 2}, "volseg.evaluate has no option 'labls'. Did you mean labels"),
        ("mm", {"spacing_mm": 1}, "The masks know their grids"),
        ("mp", {}, "volseg.evaluate takes two paths, two masks, or two arrays"),
        ("m", {}, "volseg.evaluate takes two paths, two masks, or two arrays"),
        ("mmm", {}, "volseg.evaluate takes predicted, reference; help(volseg.evaluate) tells"),
    ],
)
def test_what_can_not_be_compared_is_told(arguments: str, keywords: dict[str, Any], sentence: str) -> None:
    kinds: dict[str, Any] = {"a": make_mask().array, "m": make_mask(), "p": "masks"}
    with pytest.raises(UsageError) as caught:
        volseg.evaluate(*(kinds[kind] for kind in arguments), **keywords)
    assert str(caught.value).startswith(sentence)


def test_masks_on_other_grids_are_not_compared() -> None:
    mask = make_mask()
    other = Volume(mask.array, Grid(mask.grid.shape, np.eye(4)))
    with pytest.raises(GeometryError, match="lie on different grids"):
        volseg.evaluate(mask, other)
    with pytest.raises(GeometryError, match="don't fit"):
        volseg.evaluate(mask.array, mask.array[:3], spacing_mm=1)


def test_rules_for_nothing_are_told() -> None:
    mask = make_mask()
    with pytest.raises(UsageError, match="Nothing was asked for"):
        volseg.postprocess(mask)
    with pytest.raises(UsageError, match=r"no label 'kidney'. There are liver \(1\), spleen \(2\)"):
        volseg.postprocess(mask, keep_largest="kidney")
    with pytest.raises(UsageError, match="overwrite and jobs are for masks on the disk"):
        volseg.postprocess(mask, keep_largest=1, jobs=2)
    with pytest.raises(UsageError, match="takes two folders, a Mask, or an array and its Grid"):
        volseg.postprocess(mask.array, keep_largest=1)  # type: ignore[call-overload]


def test_a_mask_tells_of_its_labels() -> None:
    mask = make_mask()
    assert mask["liver"].sum() == mask[1].sum() == (mask.array == 1).sum()
    assert mask.volume_ml("spleen") == pytest.approx((mask.array == 2).sum() * 0.5 * 1.25 * 2 / 1000)
    with pytest.raises(UsageError, match="There is no label 'lung'"):
        _ = mask["lung"]

"""Transforms for MONAI's ``Compose``."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, EnsureTyped, LoadImaged, Orientationd, Spacingd
from scipy import ndimage

import volseg
from tests.obliques import SLANTED
from volseg import InputError, UsageError
from volseg.transforms import LoadDicom, LoadDicomd, PostprocessLabels, PostprocessLabelsd

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import WriteSeries


def pieces() -> np.ndarray[Any, np.dtype[np.uint8]]:
    mask = np.zeros((1, 20, 20, 20), np.uint8)
    mask[0, 2:8, 2:8, 2:8] = 1
    mask[0, 4, 4, 4] = 0
    mask[0, 12:14, 12, 12] = 1
    mask[0, 15:18, 15:18, 15:18] = 2
    return mask


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), SLANTED])
def test_a_series_comes_as_monai_reads_the_converted_image(
    orientation: tuple[float, ...], write_series: WriteSeries, tmp_path: Path
) -> None:
    normal = np.cross(orientation[:3], orientation[3:])
    places = [tuple((-30, -40, 7) + 2.5 * number * normal) for number in range(5)]
    write_series(tmp_path / "dicom", positions=places, orientation=orientation)
    volseg.convert(tmp_path / "dicom", tmp_path / "out", spacing="native", progress=False)
    (image,) = (tmp_path / "out" / "imagesTs").glob("*.nii.gz")
    after = [Orientationd("image", "RAS", labels=None), Spacingd("image", (1.1, 1.1, 1.1)), EnsureTyped("image")]
    ours = Compose([LoadDicomd("image"), *after])({"image": str(tmp_path / "dicom"), "name": "x"})
    theirs = Compose([LoadImaged("image", ensure_channel_first=True), *after])({"image": image})
    assert ours["name"] == "x"
    assert isinstance(ours["image"], MetaTensor)
    assert ours["image"].dtype == theirs["image"].dtype == torch.float32
    np.testing.assert_allclose(ours["image"].affine, theirs["image"].affine, atol=1e-4)
    np.testing.assert_allclose(ours["image"], theirs["image"], atol=1e-2)
    as_read = LoadDicom()(tmp_path / "dicom")
    np.testing.assert_array_equal(as_read[0], np.asarray(nibabel.load(image).dataobj))


def test_it_travels_to_the_workers_of_a_loader(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    steps = Compose([LoadDicomd("image"), PostprocessLabelsd("label", keep_largest=1)])
    items = [{"image": tmp_path / "dicom", "label": pieces()}] * 2
    (batch,) = DataLoader(Dataset(items, pickle.loads(pickle.dumps(steps))), batch_size=2, num_workers=1)
    assert batch["image"].shape == (2, 1, 10, 12, 5)
    assert int((batch["label"] == 1).sum()) == 2 * 215


def test_what_convert_refuses_is_refused(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    (tmp_path / "dicom" / "002.dcm").unlink()
    with pytest.raises(InputError) as caught:
        LoadDicom()(tmp_path / "dicom")
    assert caught.value.code == "missing-slice"
    with pytest.raises(UsageError, match="nowhere does not exist"):
        LoadDicom()(str(tmp_path / "nowhere"))
    with pytest.raises(KeyError):
        LoadDicomd("image")({})
    assert LoadDicomd("image", allow_missing_keys=True)({}) == {}


def test_the_voxels_may_keep_their_type(write_series: WriteSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom")
    image = LoadDicom(series=1, dtype=None)(tmp_path / "dicom")
    assert image.dtype == torch.int16
    assert np.array_equal(image[0], volseg.read(tmp_path / "dicom", progress=False).array)


@pytest.mark.parametrize("kind", ["array", "tensor", "metatensor"])
def test_the_largest_piece_stays(kind: str) -> None:
    mask: Any = pieces()
    if kind == "tensor":
        mask = torch.from_numpy(mask)
    elif kind == "metatensor":
        mask = MetaTensor(torch.from_numpy(mask), affine=torch.eye(4))
    labelled, _ = ndimage.label(pieces()[0] == 1, np.ones((3, 3, 3)))
    expected = np.where((labelled > 0) & (labelled != np.argmax(np.bincount(labelled.ravel())[1:]) + 1), 0, pieces()[0])
    ours = PostprocessLabelsd("pred", keep_largest=[1])({"pred": mask})["pred"]
    assert type(ours) is type(mask)
    assert ours.dtype == mask.dtype
    assert np.array_equal(ours[0], expected)
    assert not np.array_equal(ours, mask)  # what came in stays as it was
    if kind == "array":
        assert np.array_equal(PostprocessLabels(keep_largest=[1])(mask.astype(">i2")), ours)


def test_sizes_are_in_mm3_of_the_tensor() -> None:
    mask = torch.from_numpy(pieces())
    rule = PostprocessLabels(minimum_size_mm3=3.0, fill_holes="all")
    coarse = rule(MetaTensor(mask, affine=torch.diag(torch.tensor([1.0, 1.0, 2.0, 1.0]))))
    fine = rule(MetaTensor(mask, affine=torch.eye(4)))
    assert (int((coarse == 1).sum()), int((fine == 1).sum())) == (218, 216)
    with pytest.raises(UsageError, match="needs a MetaTensor"):
        rule(mask)


def test_what_makes_no_sense_is_told() -> None:
    with pytest.raises(UsageError, match="needs a rule, such as keep_largest"):
        PostprocessLabels()
    with pytest.raises(UsageError):
        PostprocessLabels(keep_largest=[0])
    with pytest.raises(UsageError, match=r"takes labels \(1, i, j, k\), not the shape \(20, 20, 20\)"):
        PostprocessLabels("all")(pieces()[0])
    with pytest.raises(InputError):
        PostprocessLabels("all")(np.full((1, 3, 3, 3), 0.5))


def test_every_rule_is_the_one_of_postprocess() -> None:
    """In the words of the command line, on the grid that a tensor tells."""
    affine = np.diag([0.8, 1.0, 2.0, 1.0])
    values = np.random.default_rng(3).integers(0, 3, (12, 14, 10)).astype(np.uint8)
    values[2:9, 2:9, 2:8] = 1
    values[5:12, 9:14, 2:8] = 2
    words: list[dict[str, Any]] = [
        {"opening": "liver:1.5"},
        {"closing": ["liver:1", "spleen:2"], "keep_largest": "all"},
        {"smooth": "all:1.5"},
        {"remove_small": "spleen:0.02ml", "minimum_size_mm3": 2},
        {"keep_inside": "spleen:liver:1", "connectivity": 6},
        {"fill_between_labels": "liver+spleen:2", "remove_touching_border": 2},
        {"instances": "liver:1", "keep_largest": "liver:3", "order": ["keep_largest", "instances"]},
        {"opening": "1:1", "fill_holes": 1, "order": ["fill_holes", "opening"]},
    ]
    table = volseg.LabelTable((volseg.Label(1, "liver"), volseg.Label(2, "spleen")))
    mask = volseg.Mask(values, volseg.Grid(values.shape, affine), table)
    for rules in words:
        expected = volseg.postprocess(mask, **rules).array
        for labels in (table, {"liver": 1, "spleen": 2}, {1: "liver", 2: "spleen"}):
            found = PostprocessLabels(labels=labels, **rules)(mask.to_metatensor())
            assert np.array_equal(found[0], expected), rules
        assert not np.array_equal(expected, values)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.int64])
def test_numbers_of_instances_find_room(dtype: Any) -> None:
    label = 20 if dtype is np.float16 else 2
    values = (label * (pieces() > 0)).astype(dtype)
    expected = sorted(label * 1000 + number for number in (1, 2, 3))
    for mask in (values, torch.from_numpy(values), MetaTensor(torch.from_numpy(values), affine=torch.eye(4))):
        found = PostprocessLabels(instances=label)(mask)
        assert type(found) is type(mask)
        assert sorted(set(np.asarray(found).ravel().tolist()) - {0}) == expected
        assert (found.dtype == mask.dtype) == (dtype is np.int64)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"opening": "1:x"}, "opening: 'x' is no number of mm, as in liver:3."),
        ({"opening": "1"}, "opening 1: this option takes labels as in liver:3, each with its own number."),
        ({"opening": "1:0"}, "opening: radius_mm is above 0 and up to 100 mm, not 0.0."),
        ({"opning": "1:2"}, "volseg.transforms.PostprocessLabels has no option 'opning'. Did you mean opening?"),
        (
            {"keep_largest": "liver"},
            "There is no label 'liver': say what it is by labels={'liver': 1}, or give numbers.",
        ),
        ({"keep_largest": "lung", "labels": {"liver": 1}}, "There is no label 'lung'. There are liver (1)."),
        ({"keep_largest": 1, "labels": 3}, "labels takes a LabelTable, or a dictionary of names and numbers, not int."),
        ({"keep_largest": 1, "order": "size"}, "The order names size, which is none of threshold, keep_largest, "),
        ({"minimum_size_mm3": "big"}, "minimum_size_mm3 can't be 'big'"),
        ({"keep_largest": 1, "connectivity": 7}, "connectivity can't be 7"),
    ],
)
def test_words_that_make_no_sense_get_a_sentence(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        PostprocessLabels(**words)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("words", [{"opening": "1:1"}, {"keep_inside": "1:2:3"}, {"instances": "1:2"}])
def test_a_rule_in_millimetres_wants_to_know_them(words: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="needs a MetaTensor"):
        PostprocessLabels(**words)(torch.from_numpy(pieces()))

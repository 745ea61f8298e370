"""Scores of regions, against counts by numpy and SimpleITK's own Dice and Hausdorff distance."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk

import volseg
from tests.nifti import save, voxels
from tests.zoo import write_sigmoid_bundle
from volseg.cli.main import main
from volseg.errors import UsageError
from volseg.evaluation import Evaluation
from volseg.labels import Label, LabelTable
from volseg.volume import Mask, read_mask

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])
UNIONS = {"whole tumor": (1, 2, 4), "tumor core": (1, 4), "enhancing tumor": (4,)}
ASKED = "; ".join(f"{name}={','.join(map(str, labels))}" for name, labels in UNIONS.items())
SLUGS = {"whole tumor": "whole-tumor", "tumor core": "tumor-core", "enhancing tumor": "enhancing-tumor"}


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """Two label maps of each of two cases, of blobs at random."""
    dice = np.random.default_rng(4)
    for side in ("predicted", "reference"):
        (tmp_path / side).mkdir()
        for case in ("a", "b"):
            coarse = dice.choice([0, 0, 1, 2, 4], (4, 4, 3)).astype(np.uint8)
            save(tmp_path / side / f"{case}.nii.gz", coarse.repeat(3, 0).repeat(3, 1).repeat(4, 2), AFFINE)
    return tmp_path / "predicted", tmp_path / "reference"


def oracle(one: NDArray[Any], other: NDArray[Any]) -> tuple[float, float]:
    """Dice and the volume of the reference in ml, by SimpleITK and by counting."""
    filtered = sitk.LabelOverlapMeasuresImageFilter()
    filtered.Execute(*(sitk.GetImageFromArray(array.astype(np.uint8)) for array in (one, other)))
    return filtered.GetDiceCoefficient(1), float(other.sum() * 3 / 1000)


def require_right(result: Evaluation, sides: tuple[Path, Path]) -> None:
    predicted, reference = sides
    assert sorted(result.labels.names) == sorted(UNIONS)
    assert [case.case for case in result.cases] == ["a", "b"]
    for case in result.cases:
        one, other = (voxels(side / f"{case.case}.nii.gz") for side in (predicted, reference))
        for name, score in zip(result.labels.names, case.scores, strict=True):
            inside = [np.isin(array, UNIONS[name]) for array in (one, other)]
            assert (score.dice, score.reference_ml) == pytest.approx(oracle(*inside))


def split(masks: Path, folder: Path) -> Path:
    """The folders that ``predict --regions`` would write."""
    for name, labels in UNIONS.items():
        (folder / SLUGS[name]).mkdir(parents=True)
        (folder / SLUGS[name] / "labels.txt").write_text(f'    1   255    0    0        1  1  1    "{name.title()}"\n')
        for path in masks.glob("*.nii.gz"):
            save(folder / SLUGS[name] / path.name, np.isin(voxels(path), labels).astype(np.uint8), AFFINE)
    return folder


def test_label_maps_by_unions_that_a_person_names(
    sides: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_right(volseg.evaluate(*sides, regions=ASKED), sides)
    require_right(volseg.evaluate(*sides, regions=ASKED.split("; ")), sides)
    words = ["evaluate", *map(str, sides), "--regions", ASKED, "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "enhancing tumor" in capsys.readouterr().out
    require_right(Evaluation.read(tmp_path / "out"), sides)


def test_label_maps_by_names_of_labels(sides: tuple[Path, Path]) -> None:
    table = {1: "core", 2: "oedema", 4: "enhancing"}
    lines = (f'    {index}   255    0    0        1  1  1    "{name}"\n' for index, name in table.items())
    (sides[1] / "labels.txt").write_text("".join(lines))
    asked = "whole tumor=core,oedema,enhancing; tumor core=core,enhancing; enhancing tumor=enhancing"
    require_right(volseg.evaluate(*sides, regions=asked), sides)


def test_the_regions_of_nnunet_s_dataset(sides: tuple[Path, Path], tmp_path: Path) -> None:
    predicted, reference = sides
    dataset = tmp_path / "Dataset137"
    (dataset / "imagesTr").mkdir(parents=True)
    reference.rename(dataset / "labelsTr")
    labels = {"background": 0} | {name: list(labels) for name, labels in UNIONS.items()} | {"enhancing tumor": 4}
    listed = {
        "channel_names": {"0": "T1"},
        "labels": labels,
        "regions_class_order": [2, 1, 4],
        "file_ending": ".nii.gz",
    }
    (dataset / "dataset.json").write_text(json.dumps(listed))
    moved = predicted, dataset / "labelsTr"
    for against in (dataset, dataset / "labelsTr"):
        require_right(volseg.evaluate(predicted, against), moved)
    require_right(volseg.evaluate(split(predicted, tmp_path / "parts"), dataset), moved)
    one_label = volseg.evaluate(predicted, dataset, labels=2)  # labels are scored where they are asked for
    assert one_label.labels.indices == (2,)


def test_folders_of_regions_on_either_side(sides: tuple[Path, Path], tmp_path: Path) -> None:
    predicted, reference = sides
    both = split(predicted, tmp_path / "p"), split(reference, tmp_path / "r")
    found = volseg.evaluate(*both)
    assert sorted(found.labels.names) == ["Enhancing Tumor", "Tumor Core", "Whole Tumor"]
    plain = volseg.evaluate(*sides, regions=ASKED)
    for result in (
        found,
        volseg.evaluate(both[0], reference, regions=ASKED),
        volseg.evaluate(predicted, both[1], regions=ASKED),
    ):
        for case, wanted in zip(result.cases, plain.cases, strict=True):
            by_name = dict(zip(map(str.lower, result.labels.names), case.scores, strict=True))
            for name, score in zip(plain.labels.names, wanted.scores, strict=True):
                assert by_name[name].dice == score.dice
                assert by_name[name].hd95_mm == score.hd95_mm


def test_what_is_not_on_both_sides(sides: tuple[Path, Path], tmp_path: Path) -> None:
    predicted, reference = sides
    parts = split(predicted, tmp_path / "p")
    with pytest.raises(UsageError, match=r"Nobody says which labels.*Give regions ") as caught:
        volseg.evaluate(parts, reference)
    assert caught.value.code == "no-region"
    with pytest.raises(UsageError, match="There are no masks of the regions necrosis"):
        volseg.evaluate(parts, reference, regions="necrosis=1")
    with pytest.raises(UsageError, match="leave labels out"):
        volseg.evaluate(parts, reference, labels=1)
    one = volseg.evaluate(parts, reference, regions="tumor core=1,4")
    assert one.labels.names == ("tumor core",)
    assert "Enhancing Tumor, Whole Tumor" in one.warnings[0]
    (parts / "tumor-core" / "b.nii.gz").unlink()
    gone = volseg.evaluate(parts, reference, regions=ASKED)
    assert [(outcome.case, outcome.code) for outcome in gone.ledger.outcomes] == [
        ("a", "done"),
        ("b", "missing-region"),
    ]
    assert gone.exit_code == 1
    (parts / "whole-tumor" / "c.nii.gz").write_bytes((parts / "whole-tumor" / "a.nii.gz").read_bytes())
    assert volseg.evaluate(parts, reference, regions=ASKED).missing_references == ("c",)


def test_a_label_that_has_the_region_s_name(sides: tuple[Path, Path], tmp_path: Path) -> None:
    (sides[1] / "labels.txt").write_text('    4   255    0    0        1  1  1    "Enhancing-tumor"\n')
    parts = split(sides[0], tmp_path / "p")
    for slug in ("whole-tumor", "tumor-core"):
        (parts / slug / "labels.txt").unlink()
    result = volseg.evaluate(parts, sides[1])
    one, other = (voxels(side / "a.nii.gz") == 4 for side in sides)
    assert result.cases[0].scores[0].dice == pytest.approx(oracle(one, other)[0])


def test_masks_in_memory(sides: tuple[Path, Path]) -> None:
    masks: list[Mask] = [volseg.read_mask(side / "a.nii.gz") for side in sides]
    result = volseg.evaluate(*masks, regions=ASKED)
    wanted = volseg.evaluate(*sides, regions=ASKED).cases[0].scores
    assert result.cases[0].scores == wanted
    arrays = [read_mask(side / "a.nii.gz").array for side in sides]
    assert volseg.evaluate(*arrays, spacing_mm=(1, 1.5, 2), regions=ASKED).cases[0].scores == wanted


def test_what_predict_writes_is_read_back(tmp_path: Path) -> None:
    values = (np.random.default_rng(1).random((9, 8, 7)) * 400).astype(np.float32)
    image = save(tmp_path / "a.nii.gz", values, AFFINE)
    bundle = write_sigmoid_bundle(tmp_path / "bundle")
    volseg.trust(bundle)
    volseg.predict(bundle, image, tmp_path / "regions", regions=True)
    volseg.predict(bundle, image, tmp_path / "merged")
    result = volseg.evaluate(tmp_path / "regions", tmp_path / "merged", regions=ASKED)
    assert [score.dice for score in result.cases[0].scores] == [1, 1, 1]
    shifted = volseg.evaluate(tmp_path / "regions", tmp_path / "merged", regions="tumor core=1,2,4")
    assert shifted.cases[0].scores[0].dice == pytest.approx(oracle(values > 200, values > 100)[0])


def test_names_of_labels_that_have_other_numbers_in_the_prediction_are_not_mixed(sides: tuple[Path, Path]) -> None:
    predicted, reference = sides
    LabelTable((Label(1, "edema"), Label(2, "core"), Label(4, "rim"))).describe(predicted / "labels.txt")
    LabelTable((Label(1, "core"), Label(2, "edema"), Label(4, "rim"))).describe(reference / "labels.txt")
    with pytest.raises(UsageError, match="labels of whole have"):
        volseg.evaluate(predicted, reference, regions="whole=core,rim")
    by_number = volseg.evaluate(predicted, reference, regions="whole=1,4; rim=4")
    assert any("Label 1 is 'core' in the reference and 'edema'" in warning for warning in by_number.warnings)
    assert not volseg.evaluate(predicted, reference, regions="rim=rim").warnings
    assert len(volseg.evaluate(predicted, reference, regions="all=core,edema").warnings) == 2

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import nibabel
import numpy as np
import pytest

import volseg
from tests.compared import AFFINE, LABELS, box, save, two_sides
from volseg.cli.main import main
from volseg.errors import DataSetError, GeometryError, InputError, OutputExistsError, UsageError
from volseg.grid import Grid
from volseg.outcomes import Status
from volseg.verbs.evaluate import EvaluateOptions, evaluate, evaluate_volumes
from volseg.volume import Volume


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    return two_sides(tmp_path)


def test_cases_are_paired_by_name_and_scored(sides: tuple[Path, Path], tmp_path: Path) -> None:
    result = volseg.evaluate(*sides, out=tmp_path / "out")
    assert result.exit_code == 0
    assert result.labels.names == ("liver", "spleen")
    dice = {case.case: [score.dice for score in case.scores] for case in result.cases}
    assert dice == {"a": [1, 1], "b": [pytest.approx(0.8), 1], "c": [1, 0]}
    liver, spleen = result.means
    assert liver.metrics["dice"].mean == pytest.approx((1 + 0.8 + 1) / 3)
    assert (spleen.metrics["hd95_mm"].counted, spleen.metrics["hd95_mm"].infinite) == (2, 1)
    assert result.cases[1].scores[0].hd95_mm == 1
    assert result.cases[0].scores[0].reference_ml == pytest.approx(5 * 6 * 6 * 2 / 1000)

    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["labels"][0]["dice"]["mean"] == pytest.approx(liver.metrics["dice"].mean)
    rows = list(csv.DictReader((tmp_path / "out" / "evaluation.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert str(tmp_path) not in (tmp_path / "out" / "evaluation.json").read_text()


def test_processes_give_the_same(sides: tuple[Path, Path]) -> None:
    one, two = evaluate(*sides, EvaluateOptions(jobs=1)), evaluate(*sides, EvaluateOptions(jobs=2))
    assert one.to_csv() == two.to_csv()


def test_the_means_show_who_is_missing(sides: tuple[Path, Path]) -> None:
    predicted, reference = sides
    (predicted / "b.nii.gz").unlink()
    save(predicted / "d.nii.gz", box(3))
    result = evaluate(predicted, reference)
    assert (result.missing_predictions, result.missing_references, result.exit_code) == (("b",), ("d",), 0)
    assert [case.case for case in result.cases] == ["a", "c"]
    assert result.means[0].metrics["dice"].counted == 2
    strict = evaluate(predicted, reference, EvaluateOptions(require_all=True))
    assert (strict.missing_predictions, strict.exit_code) == (("b",), 1)


def test_masks_on_different_grids_are_refused_and_the_others_done(sides: tuple[Path, Path]) -> None:
    predicted, reference = sides
    moved = AFFINE.copy()
    moved[0, 3] = 0.5
    save(predicted / "a.nii.gz", box(3), moved)
    save(predicted / "b.nii.gz", box(3)[:-1])
    result = evaluate(predicted, reference)
    assert {(o.case, o.status, o.code) for o in result.ledger.outcomes} == {
        ("a", Status.REFUSED, "grids-differ"),
        ("b", Status.REFUSED, "grids-differ"),
        ("c", Status.DONE, "done"),
    }
    assert "0.5 mm apart" in result.ledger.outcomes[0].message
    assert (result.exit_code, result.refused) == (1, ("a", "b"))
    save(predicted / "c.nii.gz", box(3), moved)
    assert evaluate(predicted, reference).exit_code == 2


def test_damaged_and_ambiguous_masks_are_refused(sides: tuple[Path, Path]) -> None:
    predicted, reference = sides
    (predicted / "a.nii.gz").write_bytes(b"nothing")
    save(reference / "b.nii", box(3))
    save(reference / "c.nii.gz", box(3).astype(np.float32) * 0.4)
    save(predicted / "z.nii.gz", box(3))
    save(reference / "z.nii.gz", box(3))
    result = evaluate(predicted, reference)
    assert {(o.case, o.code) for o in result.ledger.outcomes} == {
        ("a", "damaged-file"),
        ("b", "name-twice"),
        ("c", "mask-values"),
        ("z", "done"),
    }
    messages = {o.case: o.message for o in result.ledger.outcomes}
    assert messages["a"].startswith("The predicted mask: a.nii.gz ")
    assert messages["c"].startswith("The reference mask: c.nii.gz ")


def test_two_files_are_a_pair_whatever_their_names(sides: tuple[Path, Path]) -> None:
    predicted, reference = sides
    result = evaluate(predicted / "b.nii.gz", reference / "a.nii.gz")
    assert [case.case for case in result.cases] == ["b"]
    assert result.cases[0].scores[0].dice == pytest.approx(0.8)
    assert result.labels.names == ("liver", "spleen")
    assert not result.missing_predictions
    one = evaluate(predicted / "b.nii.gz", reference)
    assert [case.case for case in one.cases] == ["b"]
    assert one.missing_predictions == ("a", "c")


def dataset(folder: Path, labels: dict[str, str]) -> Path:
    for name in ("a", "b"):
        save(folder / "imagesTr" / f"{name}.nii.gz", box(3).astype(np.int16))
        save(folder / "labelsTr" / f"{name}.nii.gz", box(3) + box(10, 2))
    training = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ("a", "b")]
    (folder / "dataset.json").write_text(
        json.dumps({"labels": labels, "modality": {"0": "CT"}, "training": training, "test": []})
    )
    return folder


def test_a_data_set_is_a_reference(sides: tuple[Path, Path], tmp_path: Path) -> None:
    predicted, _ = sides
    folder = dataset(tmp_path / "data", {"0": "background", "1": "Leber", "2": "Milz", "3": "Niere"})
    save(folder / "labelsTr" / "c.nii.gz", box(3))  # a mask whose image is not there
    for reference in (folder, folder / "labelsTr"):
        result = evaluate(predicted, reference)
        assert result.labels.names == ("Leber", "Milz", "Niere")
        assert [case.case for case in result.cases] == ["a", "b", "c"]
        assert math.isnan(result.cases[0].scores[2].dice)
        assert result.means[2].metrics["dice"].undefined == 3
        assert result.mean_over_labels("dice") == pytest.approx((0.8 / 3 + 2 / 3 + 1) / 2)


def test_a_broken_dataset_json_is_told(sides: tuple[Path, Path], tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", {"1": "liver"})
    (folder / "dataset.json").write_text("{")
    with pytest.raises(DataSetError, match=r"dataset\.json"):
        evaluate(sides[0], folder)


def test_labels_beyond_the_table_are_scored_and_told(sides: tuple[Path, Path]) -> None:
    predicted, reference = sides
    save(predicted / "a.nii.gz", box(3) + box(10, 7))
    result = evaluate(predicted, reference)
    assert result.labels.indices == (1, 2, 7)
    assert result.labels.names[2] == "label_7"
    assert "no label 7" in result.warnings[0]
    assert result.cases[0].scores[2].dice == 0
    chosen = evaluate(predicted, reference, EvaluateOptions(labels=(2,)))
    assert (chosen.labels.names, chosen.warnings) == (("spleen",), ())
    assert [len(case.scores) for case in chosen.cases] == [1, 1, 1]


def test_labels_are_asked_for_by_name_or_number(sides: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    predicted, reference = sides
    for labels in (("spleen",), (2,), ("2",), ("Spleen",)):
        result = evaluate(predicted, reference, EvaluateOptions(labels=labels))
        assert (result.labels.names, result.labels.indices) == (("spleen",), (2,))
        assert [len(case.scores) for case in result.cases] == [1, 1, 1]
    assert main(["evaluate", "--labels", "liver", "2", str(predicted), str(reference)]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:3]] == [["a", "liver"], ["a", "spleen"]]
    shown = []
    for words in (["liver,2"], ["1,2"], ["liver", "spleen"]):
        assert main(["evaluate", "--labels", *words, str(predicted), str(reference)]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] == shown[2]
    with pytest.raises(UsageError, match=r"no label 'kidney'. There are liver \(1\), spleen \(2\)\.") as caught:
        evaluate(predicted, reference, EvaluateOptions(labels=("kidney",)))
    assert caught.value.code == "no-label"
    (predicted / "labels.txt").write_text(LABELS.replace("spleen", "kidney"))
    assert evaluate(predicted, reference, EvaluateOptions(labels=("spleen",))).labels.indices == (2,)
    (predicted / "labels.txt").write_text(LABELS.replace("spleen", "x").replace("liver", "spleen"))
    with pytest.raises(UsageError, match="spleen is 2 in the reference and 1 in the prediction"):
        evaluate(predicted, reference, EvaluateOptions(labels=("spleen",)))


def test_names_without_a_table_are_refused(sides: tuple[Path, Path]) -> None:
    (sides[1] / "labels.txt").unlink()
    with pytest.raises(UsageError, match="give numbers"):
        evaluate(*sides, EvaluateOptions(labels=("liver",)))


def test_without_a_table_the_numbers_are_the_names(sides: tuple[Path, Path]) -> None:
    predicted, reference = sides
    (reference / "labels.txt").unlink()
    result = evaluate(predicted, reference)
    assert (result.labels.names, result.warnings) == (("label_1", "label_2"), ())


def test_names_that_differ_for_one_number_are_told(sides: tuple[Path, Path]) -> None:
    predicted, reference = sides
    (predicted / "labels.txt").write_text(LABELS.replace("liver", "LIVER ").replace("spleen", "kidney"))
    (warning,) = evaluate(predicted, reference).warnings
    assert "'spleen' in the reference and 'kidney' in the prediction" in warning


def test_masks_of_the_same_voxels_in_another_order_are_compared(sides: tuple[Path, Path]) -> None:
    predicted, reference = sides
    expected = evaluate(predicted, reference)
    for path in predicted.glob("*.nii.gz"):
        image = nibabel.load(path)
        turned = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
        save(path, np.asarray(turned.dataobj), turned.affine)
    assert evaluate(predicted, reference).to_csv() == expected.to_csv()


def test_in_memory_grids_have_to_agree() -> None:
    mask = Volume(box(3), Grid((16, 12, 10), AFFINE))
    (case,) = evaluate_volumes(mask, mask).cases
    assert case.scores[0].dice == 1
    with pytest.raises(GeometryError) as caught:
        evaluate_volumes(mask, Volume(box(3), Grid((16, 12, 10), np.eye(4))))
    assert caught.value.code == "grids-differ"


def test_what_makes_no_sense_is_refused(sides: tuple[Path, Path], tmp_path: Path) -> None:
    predicted, reference = sides
    save(tmp_path / "other" / "x.nii.gz", box(3))
    (tmp_path / "empty").mkdir()
    for one, other, options, code in (
        (predicted, predicted, EvaluateOptions(), "same-folder"),
        (predicted, tmp_path / "absent", EvaluateOptions(), "missing-file"),
        (tmp_path / "absent", reference, EvaluateOptions(), "missing-file"),
        (predicted, tmp_path / "other", EvaluateOptions(), "no-pairs"),
        (tmp_path / "empty", reference, EvaluateOptions(), "no-pairs"),
        (predicted, reference, EvaluateOptions(labels=(0,)), "usage"),
        (predicted, reference, EvaluateOptions(out=predicted / "a.nii.gz"), "not-a-folder"),
    ):
        with pytest.raises(UsageError) as caught:
            evaluate(one, other, options)
        assert caught.value.code == code
    (reference / "labels.txt").write_text("no labels\n")
    with pytest.raises(InputError, match=r"labels\.txt"):
        evaluate(predicted, reference)


def test_an_evaluation_is_not_replaced_unasked(sides: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(*sides, EvaluateOptions(out=out))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (sides[0] / "b.nii.gz").unlink()
    with pytest.raises(OutputExistsError, match=r"evaluation\.csv and evaluation\.json"):
        evaluate(*sides, EvaluateOptions(out=out))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    evaluate(*sides, EvaluateOptions(out=out, overwrite=True))
    assert (out / "evaluation.csv").read_bytes() != before["evaluation.csv"]

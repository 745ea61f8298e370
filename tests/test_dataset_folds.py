"""Folds: balanced, the same everywhere, patients whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from volseg.dataset.case import Case
from volseg.dataset.folds import FOLDS, Split, split_folds
from volseg.errors import DataSetError, FileError, InputError, UsageError


def cases_of(*patients: str | None) -> list[Case]:
    return [Case(f"case_{n:03d}", (Path(f"{n}.nii.gz"),), Path("m"), patient) for n, patient in enumerate(patients)]


@pytest.mark.parametrize(("cases", "count"), [(10, 5), (200, 5), (13, 5), (7, 2), (5, 5)])
def test_every_case_is_held_out_once_in_folds_of_equal_size(cases: int, count: int) -> None:
    folds = split_folds(cases_of(*[None] * cases), count)
    sizes = [len(fold) for fold in folds]
    assert len(folds) == count
    assert max(sizes) - min(sizes) <= 1
    assert sorted(name for fold in folds for name in fold) == [f"case_{n:03d}" for n in range(cases)]
    assert all(list(fold) == sorted(fold) for fold in folds)


def test_a_patients_cases_stay_together_and_the_folds_balanced() -> None:
    patients = [f"p{n}" for n in range(30) for _ in range(1 + n % 4)]
    cases = cases_of(*patients)
    folds = split_folds(cases, 5)
    patient_of = {case.name: case.patient for case in cases}
    seen = Counter(patient for fold in folds for patient in {patient_of[name] for name in fold})
    assert set(seen.values()) == {1}
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_the_order_of_the_cases_does_not_matter_and_the_seed_does() -> None:
    cases = cases_of(*[None] * 40)
    assert split_folds(cases) == split_folds(cases[::-1])
    assert split_folds(cases, seed=1) != split_folds(cases)


def test_other_processes_with_another_hash_seed_deal_the_same() -> None:
    program = (
        "from volseg.dataset.case import Case; from volseg.dataset.folds import split_folds; "
        "print(split_folds([Case(f'case_{n:03d}', (), None) for n in range(20)]))"
    )
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        out = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
        assert out.stdout.decode().strip() == str(split_folds(cases_of(*[None] * 20)))


def test_the_split_is_the_one_that_runs_were_made_with() -> None:
    """Worked out apart: SHA-256 of ``0:case:<name>`` orders the cases, dealt one by one to the smallest fold."""
    import hashlib

    names = [f"case_{n:03d}" for n in range(11)]
    ordered = sorted(names, key=lambda name: hashlib.sha256(f"0:case:{name}".encode()).hexdigest())
    assert split_folds(cases_of(*[None] * 11), 3) == tuple(tuple(sorted(ordered[k::3])) for k in range(3))


def test_fewer_patients_than_folds_leave_the_last_folds_empty() -> None:
    folds = split_folds(cases_of("p", "p", "q"), 5)
    assert sorted(map(len, folds)) == [0, 0, 0, 1, 2]
    assert folds[2:] == ((), (), ())


@pytest.mark.parametrize(("patients", "folds"), [("pqr", 3), ("ppqq", 2), ("pqrstu", 5), ("p", 1)])
def test_a_split_has_no_more_folds_than_patients(patients: str, folds: int, tmp_path: Path) -> None:
    split = Split.of(cases_of(*patients), {})
    assert len(split.folds) == folds
    assert all(split.folds)
    split.write(tmp_path / "folds.json")
    content = json.loads((tmp_path / "folds.json").read_text())
    everybody = sorted(split.cases)
    content += [{"train": everybody, "val": []}] * 2  # as it was written before
    (tmp_path / "folds.json").write_text(json.dumps(content))
    assert Split.read(tmp_path / "folds.json") == split


def test_a_pseudonym_that_equals_a_case_name_is_no_kin_of_it() -> None:
    assert sorted(map(len, split_folds(cases_of("case_001", None), 2))) == [1, 1]


def test_labels_that_all_cases_have_change_nothing() -> None:
    cases = cases_of(*[f"p{n // 2}" for n in range(41)])
    assert split_folds(cases, labels_of={case.name: {1, 2} for case in cases}) == split_folds(cases)
    assert split_folds(cases, labels_of={}) == split_folds(cases)


def test_rare_labels_are_spread_over_the_folds() -> None:
    cases = cases_of(*[None] * 60)
    random = np.random.default_rng(4)
    order = [case.name for case in cases]
    random.shuffle(order)
    labels_of = {name: {1} for name in order}
    for name in order[:5]:
        labels_of[name] = {1, 7}
    for name in order[3:28]:
        labels_of[name] = labels_of[name] | {3}
    folds = split_folds(cases, labels_of=labels_of)
    assert sorted(name for fold in folds for name in fold) == sorted(order)
    for label, each in ((7, {1}), (3, {5})):
        assert {sum(label in labels_of[name] for name in fold) for fold in folds} == each
    assert {len(fold) for fold in folds} == {12}
    plain = split_folds(cases)
    assert {sum(7 in labels_of[name] for name in fold) for fold in plain} != {1}  # chance does not do it


def test_stratified_folds_keep_patients_together_and_do_not_depend_on_the_order() -> None:
    cases = cases_of(*[f"p{n // 3}" for n in range(45)])
    labels_of = {case.name: {1} | ({2} if n % 7 == 0 else set()) for n, case in enumerate(cases)}
    folds = split_folds(cases, labels_of=labels_of)
    assert folds == split_folds(cases[::-1], labels_of=dict(reversed(labels_of.items())))
    fold_of = {name: number for number, fold in enumerate(folds) for name in fold}
    assert all(len({fold_of[f"case_{3 * p + n:03d}"] for n in range(3)}) == 1 for p in range(15))
    assert {len(fold) for fold in folds} == {9}


@pytest.mark.parametrize("count", [1, 0, -3])
def test_one_fold_is_none(count: int) -> None:
    with pytest.raises(UsageError) as caught:
        split_folds(cases_of(None, None), count)
    assert caught.value.code == "bad-fold-count"


def test_a_split_is_read_as_it_was_written(tmp_path: Path) -> None:
    split = Split.of(cases_of(*[None] * 13), {})
    split.write(tmp_path / "folds.json")
    assert Split.read(tmp_path / "folds.json") == split
    assert len(split.folds) == FOLDS
    written = json.loads((tmp_path / "folds.json").read_text())  # nnU-Net's form
    for fold, held_out in zip(written, split.folds, strict=True):
        assert fold["val"] == list(held_out)
        assert sorted(fold["train"] + fold["val"]) == sorted(split.cases)


class TestImport:
    def write(self, path: Path, folds: object) -> Path:
        path.write_text(json.dumps(folds))
        return path

    def test_reads_nnunets_form(self, tmp_path: Path) -> None:
        path = self.write(
            tmp_path / "splits_final.json", [{"train": ["b", "c"], "val": ["a"]}, {"train": ["a"], "val": ["c", "b"]}]
        )
        assert Split.read(path) == Split(frozenset("abc"), (("a",), ("b", "c")))

    @pytest.mark.parametrize(
        "folds",
        [
            [],
            {"train": ["a"], "val": ["b"]},
            [{"train": ["a"]}],
            [{"train": ["a"], "val": []}],
            [{"train": ["a", "b"], "val": ["b"]}],
            [{"train": ["a"], "val": ["b"]}, {"train": ["c"], "val": ["a"]}],
            [{"train": ["a", "c"], "val": ["b"]}, {"train": ["a", "c"], "val": ["b"]}],
            [{"train": [1], "val": ["b"]}],
        ],
        ids=lambda folds: json.dumps(folds)[:50],
    )
    def test_refuses_what_can_not_be_kept_by_what_is_held_out(self, folds: object, tmp_path: Path) -> None:
        with pytest.raises(InputError) as caught:
            Split.read(self.write(tmp_path / "folds.json", folds))
        assert caught.value.code == "bad-folds"

    def test_reads_a_table_with_a_column_for_the_fold(self, tmp_path: Path) -> None:
        path = tmp_path / "folds.CSV"
        path.write_text("\ufeffcase,age,fold\r\na,50,1\r\n b ,60, 0\r\nc,70,\r\nd,80,1\r\n", encoding="utf-8")
        assert Split.read(path) == Split(frozenset("abcd"), (("b",), ("a", "d")))

    @pytest.mark.parametrize(
        "text",
        [
            "", "case,fold\n", "case,fold\na,\n", "case,group\na,1\n", "case,fold\na,-1\n", "case,fold\na,one\n",
            "case,fold\na,1\na,2\n", "case,fold\n,1\n", "case,fold\na,999999999999\n", "case,fold\na,5000\n",
        ],
    )  # fmt: skip
    def test_refuses_a_table_without_them(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "folds.csv").write_text(text)
        with pytest.raises(InputError) as caught:
            Split.read(tmp_path / "folds.csv")
        assert caught.value.code == "bad-folds"

    def test_refuses_what_is_no_json_too_large_or_absent(self, tmp_path: Path) -> None:
        path = tmp_path / "folds.json"
        path.write_bytes(b"[" * 100_000)
        with pytest.raises(InputError, match="JSON list of folds"):
            Split.read(path)
        with path.open("wb") as file:
            file.truncate(2**33)
        with pytest.raises(InputError, match="MiB"):
            Split.read(path)
        with pytest.raises(FileError, match="does not exist"):
            Split.read(tmp_path / "none.json")
        with pytest.raises(FileError, match="is a folder, not a file"):
            Split.read(tmp_path)


class TestFitting:
    def test_what_is_dealt_fits(self) -> None:
        cases = cases_of(*"aabbccddee")
        Split.of(cases, {}).require_fitting(cases)

    def test_an_unknown_case_is_named(self) -> None:
        with pytest.raises(DataSetError, match="'ghost'") as caught:
            split_of(("case_000",), ("ghost",)).require_fitting(cases_of(None, None))
        assert caught.value.code == "folds-unknown-case"

    @pytest.mark.parametrize("folds", [[("case_000",), ("case_001",)], [("case_000",), ("case_002",)]])
    def test_a_patient_in_two_parts_is_refused(self, folds: list[tuple[str, ...]]) -> None:
        split = Split(frozenset({"case_000", "case_001", "case_002"}), tuple(folds))
        with pytest.raises(DataSetError, match="'case_000', 'case_001'") as caught:
            split.require_fitting(cases_of("p", "p", "q"))
        assert caught.value.code == "folds-part-patient"

    def test_a_case_that_came_later_parts_nobody(self) -> None:
        assert split_of(("case_000",), ("case_002",)).parted(cases_of("p", "p", "q")) == set()


def split_of(*folds: tuple[str, ...]) -> Split:
    return Split(frozenset(name for fold in folds for name in fold), folds)

"""A few hundred damaged files through ``volseg.dicom``; scripts/fuzz/convert does ten thousand."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests import dicom_fuzzing
from tests.conftest import uncounted
from tests.dicom_fuzzing import Recipe, Result, Summary, convert_damaged, fuzz, recipes
from tests.dicom_mutations import MUTATIONS, mutate
from tests.dicom_traps import Form, Stack, save, write_stack
from tests.dicom_traps.objects import nested

if TYPE_CHECKING:
    from conftest import RealData

GENERATED, REAL = 250, 150
COMPRESSED = {"rle": "1.2.840.10008.1.2.5", "j2k": "1.2.840.10008.1.2.4.90", "jls": "1.2.840.10008.1.2.4.80"}


def make_sources(folder: Path) -> list[str]:
    """Small series: plain, implicit, big endian, of odd words, compressed in each codec, and a nested one."""
    write_stack(folder / "plain", Stack(gaps_mm=(5.0,) * 3))
    write_stack(folder / "implicit", Stack(gaps_mm=(5.0,) * 3, series=2), "1.2.840.10008.1.2")
    write_stack(folder / "big", Stack(gaps_mm=(5.0,) * 3, series=3), "1.2.840.10008.1.2.2")
    form = Form(16, 12, 11, False, True, 0.5, -1024)
    write_stack(folder / "words", Stack(gaps_mm=(5.0,) * 3, series=4, form=form))
    for place, (name, syntax) in enumerate(COMPRESSED.items()):
        for image in Stack(gaps_mm=(5.0,) * 3, series=5 + place, size=(40, 36)).slices():
            data = image.dataset()
            uid = data.SOPInstanceUID
            data.compress(syntax, generate_instance_uid=False)
            assert data.SOPInstanceUID == uid
            save(folder / name / str(image.number), data, syntax)
    (folder / "nested").write_bytes(nested(40))
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def summary_of(folder: Path, sources: list[str], count: int, seed: int) -> Summary:
    summary = Summary()
    for result in fuzz(folder, list(recipes(folder, sources, seed, count))):
        summary.add(result)
    return summary


def told(summary: Summary) -> list[tuple[Recipe, str, str]]:
    return [(result.recipe, result.mutation, result.failed) for result in summary.failures]


def test_made_files_are_read_or_refused(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, make_sources(tmp_path), GENERATED, seed=1)
    assert told(summary) == []
    assert summary.files == GENERATED
    assert set(summary.mutations) == set(MUTATIONS)
    assert summary.ends["loaded"] > 20, "the damage must leave some whole, or nothing was loaded at all"
    assert len(summary.ends) > 5


def test_real_files_are_read_or_refused(real_data: RealData) -> None:
    folder = real_data("dicom")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and 0 < path.stat().st_size < 2**20)
    sources = [path.relative_to(folder).as_posix() for path in files]
    # Some files in a row, since single ones of a series that holds several volumes make none.
    runs = range(0, len(sources), 12 * max(1, len(sources) // REAL))
    chosen = [source for start in runs for source in sources[start : start + 12]]
    summary = summary_of(folder, chosen, REAL, seed=2)
    assert told(summary) == []
    assert summary.files == REAL
    assert summary.ends["loaded"] > 10


def test_hostile_files_are_read_or_refused_as_they_are(real_data: RealData) -> None:
    folder = real_data("dicom/hostile")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            assert convert_damaged(path.parent, path)


def test_damage_can_be_repeated(tmp_path: Path) -> None:
    make_sources(tmp_path)
    data = (tmp_path / "plain/0000").read_bytes()
    assert [mutate(data, 3, number) for number in range(50)] == [mutate(data, 3, number) for number in range(50)]
    assert len({mutate(data, 3, number)[0] for number in range(50)}) > 45


def crash(_: Path, __: Path) -> str:
    os._exit(7)


def raise_key_error(_: Path, __: Path) -> str:
    raise KeyError("lost")


def eat_memory(_: Path, __: Path) -> str:
    return str(np.ones(2**18).sum())


def dawdle(_: Path, __: Path) -> str:
    time.sleep(0.3)
    return "late"


@pytest.mark.parametrize(
    ("trial", "words"), [(crash, "ended with 7"), (raise_key_error, "KeyError"), (eat_memory, "MB"), (dawdle, " s")]
)
def test_what_goes_wrong_is_seen(
    trial: dicom_fuzzing.Trial, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stack(tmp_path, Stack(gaps_mm=(5.0,) * 3))
    if trial is eat_memory:
        monkeypatch.setattr(dicom_fuzzing, "MAX_BYTES", 2**21)
    if trial is dawdle:
        monkeypatch.setattr(dicom_fuzzing, "MAX_SECONDS", 0.2)
    found = list(fuzz(tmp_path, list(recipes(tmp_path, ["0000", "0001"], 1, 2)), trial=trial))
    assert len(found) == 2, "one bad file doesn't cost the others"
    assert all(words in result.failed for result in found)


def test_a_worker_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stack(tmp_path, Stack(gaps_mm=(5.0,) * 3))
    monkeypatch.setattr(dicom_fuzzing, "KILL_SECONDS", 0.5)
    (result,) = fuzz(tmp_path, list(recipes(tmp_path, ["0000"], 1, 1)), trial=hang)
    assert "hung" in result.failed


def hang(_: Path, __: Path) -> str:
    time.sleep(30)
    return ""


def test_the_peak_is_this_files_own(tmp_path: Path) -> None:
    write_stack(tmp_path, Stack(gaps_mm=(5.0,) * 3))
    work = list(recipes(tmp_path, ["0000"], 1, 2))
    first, second = fuzz(tmp_path, work, trial=eat_much_once)
    assert first.peak_bytes - second.peak_bytes > 50e6


def eat_much_once(folder: Path, _: Path) -> str:
    if not (folder / "eaten").exists():
        (folder / "eaten").write_text("")
        return str(np.ones(2**23).sum())
    return ""


def test_the_script_notes_recipes_and_tells_by_its_exit_code(tmp_path: Path) -> None:
    write_stack(tmp_path / "dicom", Stack(gaps_mm=(5.0,) * 3))
    script = Path(__file__).parents[1] / "scripts" / "fuzz" / "convert"
    failures = tmp_path / "failures.jsonl"
    command = [sys.executable, script, "--files", "8", "--data", tmp_path / "dicom", "--failures", failures]
    done = subprocess.run(command, env=uncounted(), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "8 damaged files, made of 4 sound ones" in done.stdout
    assert not failures.exists()


def test_a_result_says_what_is_wrong() -> None:
    recipe = Recipe("a", (), 1, 1)
    assert not Result(recipe, "", "loaded", 1.0, 10**8).failed
    assert Result(recipe, "", "loaded", 11.0, 10**8).failed
    assert Result(recipe, "", "loaded", 1.0, 2 * 10**9).failed

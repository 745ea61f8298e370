"""``docs/python.md``, run from top to bottom on generated data."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import volseg

if TYPE_CHECKING:
    from conftest import WriteSeries

PAGE = Path(__file__).parent.parent / "docs" / "python.md"
BLOCKS = [
    (text[: found.start()].count("\n") + 1, found[1])
    for text in [PAGE.read_text(encoding="utf-8")]
    for found in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
]
SHORT = {"minutes=10": "epochs=1"}
"""What the page asks for and a test has no time for."""


def write_dicom(write_series: WriteSeries, folder: Path, seed: int) -> None:
    """A bright ball in noise, 16 slices of 24 x 20 pixels."""
    random = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*map(np.arange, (16, 24, 20)), indexing="ij"), axis=-1)
    ball = np.linalg.norm(places - (8, 12, 10) - random.uniform(-2, 2, 3), axis=-1) < 5
    array = (random.normal(1000, 20, ball.shape) + 400 * ball).astype(np.uint16)

    def spacing(ds: Any, number: int) -> None:
        del number
        ds.PixelSpacing = [1.0, 1.0]

    positions = [(0.0, 0.0, 1.5 * k) for k in range(16)]
    write_series(folder, positions=positions, array=array, edit=spacing, seed=seed)


def draw_masks() -> None:
    """What a person does in ITK-SNAP."""
    for image in Path("dataset/imagesTs").glob("*.nii.gz"):
        volume = volseg.read(image)
        high = volume.array > np.median(volume.array) + 200
        names = volseg.LabelTable((volseg.Label(1, "tumour"),))
        volseg.write(volseg.Mask(high, volume.grid, names), Path("dataset/labelsTr") / image.name, image=image)
    listing = Path("dataset/dataset.json")
    text = listing.read_text(encoding="utf-8")
    listing.write_text(re.sub(r'"labels": \{[^}]*\}', '"labels": {"0": "background", "1": "tumour"}', text))


def shorten_epochs() -> None:
    """An epoch of two steps of small patches."""
    path = Path("bundle/configs/train.yaml")
    path.write_text(re.sub(r"^steps_per_epoch: .*$", "steps_per_epoch: 2", path.read_text(), flags=re.MULTILINE))


def copy_masks() -> None:
    """The truth of the new scan, which happens to be what was predicted."""
    shutil.copytree("masks", "reference", dirs_exist_ok=True, ignore=shutil.ignore_patterns("images", "*.json"))


BETWEEN = {"volseg.convert(": draw_masks, "volseg.plan(": shorten_epochs, "volseg.predict(": copy_masks}
"""What happens beside the page, after the first line that begins so."""


def run(source: str, names: dict[str, Any], line: int) -> int:
    """Run a block statement by statement; ``# -> `` below one is what it shows. How many were seen to show it."""
    seen = 0
    lines = source.splitlines()
    for statement in ast.parse(source).body:
        code = "\n".join(lines[statement.lineno - 1 : statement.end_lineno])
        expected = next(iter(lines[statement.end_lineno or 0 :]), "")
        for asked, short in SHORT.items():
            code = code.replace(asked, short)
        padded = "\n" * (line + statement.lineno - 1) + code
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if isinstance(statement, ast.Expr):
                value = eval(compile(padded, str(PAGE), "eval"), names)
                shown = repr(value)
            else:
                exec(compile(padded, str(PAGE), "exec"), names)  # noqa: S102
                shown = ""
        if expected.startswith("# -> "):
            assert (printed.getvalue().strip() or shown) == expected.removeprefix("# -> "), f"line {line}: {code}"
            seen += 1
        for beginning in [beginning for beginning in BETWEEN if code.startswith(beginning)]:
            BETWEEN.pop(beginning)()
    return seen


def test_the_page_runs_from_top_to_bottom(
    write_series: WriteSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    for seed in range(6):
        write_dicom(write_series, tmp_path / "dicom" / str(seed), seed)
    write_dicom(write_series, tmp_path / "new-dicom", 100)
    names: dict[str, Any] = {}
    shown = sum(run(source, names, line) for line, source in BLOCKS)
    assert len(BLOCKS) > 10
    assert shown == PAGE.read_text(encoding="utf-8").count("# ->")
    assert not BETWEEN

"""Bundles on disk: whole or absent, and harmless whatever the labels are called."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from volseg.bundle.faults import find_faults
from volseg.bundle.folder import open_bundle
from volseg.bundle.trust import judge
from volseg.bundle.write import bundle_metadata, readme, write_bundle
from volseg.errors import DiskFullError, FileError, OutputExistsError
from volseg.labels import Label, LabelTable, Region
from volseg.planning.normalisation import Normalisation
from volseg.planning.target import Target
from volseg.postprocessing import PostprocessingRules

if TYPE_CHECKING:
    from conftest import MakePlan

SCHEMA = Path(__file__).resolve().parents[1].parent / "shared" / "schema" / "bundle_metadata.json"
FILES = {"LICENSE", "configs/inference.yaml", "configs/metadata.json", "configs/train.yaml", "docs/README.md"}
HOSTILE = (
    "<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://example.org/x.png)", "a | b\n# heading\n",
    "`code` *b* _i_ ~s~ $math$ &lt;", "../../../etc/passwd", "\x1b[31mred\x07", "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe",
    "$__import__('os').system('x')", "%macro", "@reference", "a\u2028b\x00c", "\ud800", "x" * 3000, "\r\n\t",
)  # fmt: skip


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_a_new_folder(make_plan: MakePlan, tmp_path: Path) -> None:
    write_bundle(make_plan(), tmp_path / "data", tmp_path / "new" / "bundle")
    assert files(tmp_path) == {f"new/bundle/{name}" for name in FILES}
    assert (tmp_path / "new" / "bundle" / "models").is_dir()
    assert open_bundle(tmp_path / "new" / "bundle").read_config("train")["dataset_dir"] == "../../data"


def test_an_empty_folder_is_filled_and_stays_the_same_folder(
    make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a mounted volume, a link, or where the person stands."""
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    before = folder.stat().st_ino
    write_bundle(make_plan(), tmp_path / "data", link)
    assert files(folder) == FILES
    assert folder.stat().st_ino == before
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    write_bundle(make_plan(), Path("../data"), Path())
    assert files(here) == FILES
    assert Path.cwd() == here
    assert not [path for path in here.iterdir() if path.name.startswith(".")]


def test_nothing_is_overwritten(make_plan: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "note").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("bundle", "file"):
        with pytest.raises(OutputExistsError):
            write_bundle(make_plan(), tmp_path / "data", tmp_path / name)
    assert files(tmp_path) == {"bundle/note", "file"}


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_a_failure_leaves_nothing(
    make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_there: bool, full: bool
) -> None:
    really_write = Path.write_text

    def write(path: Path, *args: Any, **kwargs: Any) -> int:
        if path.name == "README.md":
            raise OSError(28 if full else 13, "no")
        return really_write(path, *args, **kwargs)

    if is_there:
        (tmp_path / "bundle").mkdir()
    monkeypatch.setattr(Path, "write_text", write)
    with pytest.raises(DiskFullError if full else FileError):
        write_bundle(make_plan(), tmp_path / "data", tmp_path / "bundle")
    assert [path.name for path in tmp_path.rglob("*")] == (["bundle"] if is_there else [])


def test_a_file_in_the_place_of_a_parent_is_told(make_plan: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="is a file"):
        write_bundle(make_plan(), tmp_path / "data", tmp_path / "file" / "bundle")


def test_the_same_plan_gives_the_same_bytes(make_plan: MakePlan, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_bundle(make_plan(), tmp_path / "data", tmp_path / name)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("preset", ["fast", "full"])
@pytest.mark.parametrize("channels", [1, 2, 12])
@pytest.mark.parametrize("labels", [(1, 2), (2, 7), (1, 300, 65535)])
@pytest.mark.parametrize("kind", ["percentiles", "z-score"])
def test_metadata_keeps_to_the_schema(
    make_plan: MakePlan, preset: str, channels: int, labels: tuple[int, ...], kind: Any
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    if not SCHEMA.exists():
        pytest.skip("MONAI's schema is not beside the project")
    plan = make_plan(
        preset=preset,
        channels=[f"c{number}" for number in range(channels)],
        labels=labels,
        normalisations=(Normalisation(kind, -100.0, 300.0, 40.0, 25.0),) * channels,
    )
    metadata = json.loads(json.dumps(bundle_metadata(plan)))
    jsonschema.validate(metadata, json.loads(SCHEMA.read_text()))
    formats = metadata["network_data_format"]
    assert formats["inputs"]["image"]["num_channels"] == channels
    assert formats["outputs"]["pred"]["num_channels"] == len(labels) + 1
    assert list(metadata["label_table"]) == ["0", *map(str, labels)]
    assert (formats["inputs"]["image"]["format"] == "hounsfield") is (kind == "percentiles")


def test_hostile_names_do_no_harm(make_plan: MakePlan, tmp_path: Path) -> None:
    table = LabelTable(tuple(Label(index, name) for index, name in enumerate(HOSTILE, 1)))
    plan = make_plan(
        channels=HOSTILE[:3],
        name=HOSTILE[0],
        warnings=(HOSTILE[3],),
        reasons=tuple((name, name) for name in HOSTILE),
    )
    write_bundle(replace(plan, target=Target(table)), tmp_path / "data", tmp_path / "bundle")
    assert files(tmp_path) == {f"bundle/{name}" for name in FILES}
    bundle = open_bundle(tmp_path / "bundle")
    assert judge(bundle).findings == ()
    text = (bundle.root / "docs" / "README.md").read_text(encoding="utf-8")
    assert all(character.isprintable() or character == "\n" for character in text)
    unescaped = re.sub(r"\\[\\`*_{}\[\]<>|#!&~$]", "", text)
    for markup in ("<script", "](", "# heading", "&lt;", "*b*"):
        assert markup not in unescaped
    # Every row of both tables has its two cells, whatever the names hold.
    rows = [line for line in unescaped.split("## Use")[0].splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(HOSTILE) + 1 + 2 + len(HOSTILE)
    assert all(line.count("|") == 3 for line in rows)
    assert bundle.metadata["label_table"]["1"] == HOSTILE[0]  # type: ignore[index, call-overload]


def test_the_readme_tells_choices_labels_and_warnings(make_plan: MakePlan) -> None:
    text = readme(make_plan(labels=(1, 300), warnings=("2 images were resampled before.",)))
    assert "| spacing 1 x 1 x 1 mm | the median |" in text
    assert "| 300 | structure 300 |" in text
    assert "> 2 images were resampled before." in text
    assert "3 labelled cases" in text
    assert "preset `fast`" in text


@pytest.mark.skipif(os.name != "posix", reason="file names of any bytes are POSIX's")
def test_a_name_of_no_encoding(make_plan: MakePlan, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff\xfe")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("the file system takes no such name")
    write_bundle(make_plan(name=folder.name), folder / "data", folder / "bundle")
    assert judge(open_bundle(folder / "bundle")).findings == ()


def test_what_is_written_has_no_fault_but_missing_weights(make_plan: MakePlan, tmp_path: Path) -> None:
    for preset in ("fast", "full"):
        write_bundle(make_plan(preset=preset, labels=(2, 300)), tmp_path / "data", tmp_path / preset)
        assert [fault.code for fault in find_faults(open_bundle(tmp_path / preset))] == ["no-weights"]


def test_the_readme_tells_who_applies_which_rule(make_plan: MakePlan) -> None:
    plan = make_plan(labels=(1, 300))
    text = readme(plan)
    assert "1. only the largest component of label 1 (structure 1)\n" in text
    assert "gives the masks of `volseg predict --precision float32`" in text
    without = readme(replace(plan, rules=PostprocessingRules()))
    assert "The mask stays as the network gives it." in without
    assert (
        "where there are none now, come last. `volseg predict` applies them, and MONAI's runner leaves them out"
        in without
    )
    regions = (Region("whole", (1, 2)), Region("core", (2,)))
    merged = readme(make_plan(regions=regions))
    assert "Nothing more is done with the masks: rules such as the largest piece" in merged
    assert "The mask stays as the network gives it." not in merged

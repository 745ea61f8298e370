"""``volseg postprocess``: labels and rules as a person types them, what is printed, and exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

import volseg
from tests.crumbs import crumbs, read, save, three_masks
from volseg.cli.main import main
from volseg.labels import LabelTable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    return three_masks(tmp_path / "masks")


def test_it_takes_labels_and_prints_what_changed(
    masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["postprocess", str(masks), out, "--keep-largest", "1", "2", "--fill-holes", "all"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1].split() == ["a", "1", "(liver)", "1", "1", "0", "0", "27"]
    assert said.out.splitlines()[2].split() == ["a", "2", "1", "2", "1", "1", "27"]
    assert said.out.splitlines()[-1] == "3 done"
    assert "\x1b" not in said.out

    assert main(["postprocess", out, str(tmp_path / "again"), "--keep-largest", "all", "9"]) == 0
    assert "No mask had anything to change." in capsys.readouterr().out
    assert main(["postprocess", out, str(tmp_path / "again"), "--keep-largest", "1", "9"]) == 0
    assert "No mask has the label 9." in capsys.readouterr().err


def test_labels_are_given_by_name_or_number(masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (masks / "labels.txt").write_text(
        '1 255 0 0 1 1 1 "liver"\n2 0 255 0 1 1 1 "1"\n3 0 0 255 1 1 1 "Spleen"\n'  # a label called 1
    )
    results = {}
    for labels in ("1", "liver", "LIVER", "2"):
        out = tmp_path / labels
        assert main(["postprocess", "--keep-largest", labels, "--", str(masks), str(out)]) == 0
        results[labels] = read(out / "a.nii.gz")
    assert np.array_equal(results["1"], results["liver"])
    assert np.array_equal(results["1"], results["LIVER"])
    assert [int((results["1"] == n).sum()) for n in (1, 2)] == [27, 28]
    assert [int((results["2"] == n).sum()) for n in (1, 2)] == [28, 26]
    for number, word in enumerate(("liver,2", "1,2", "all,spleen")):
        out = tmp_path / f"both_{number}"
        assert main(["postprocess", "--keep-largest", word, str(masks), str(out)]) == 0
        assert [int((read(out / "a.nii.gz") == n).sum()) for n in (1, 2)] == [27, 26]
    capsys.readouterr()
    assert main(["postprocess", str(masks), str(tmp_path / "x"), "--fill-holes", "kidney"]) == 2
    assert "no label 'kidney'. There are liver (1), 1 (2), Spleen (3)." in capsys.readouterr().err
    (masks / "labels.txt").unlink()
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "liver"}}))
    assert main(["postprocess", str(masks), str(tmp_path / "x"), "--keep-largest", "liver"]) == 2
    assert "give numbers" in capsys.readouterr().err
    masks.rename(tmp_path / "labelsTr")
    assert main(["postprocess", str(tmp_path / "labelsTr"), str(tmp_path / "y"), "--keep-largest", "liver"]) == 0
    assert np.array_equal(read(tmp_path / "y" / "a.nii.gz"), results["1"])


def test_rules_are_applied_in_the_order_of_their_options(
    masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = crumbs()
    mask[11:13, 2, 2] = 1  # crumbs of the liver, one inside the hollow cube
    mask[7, 7, 7] = 1
    save(masks / "a.nii.gz", mask)
    filled_last = ["--keep-largest", "liver", "--fill-holes", "2"]
    filled_first = ["--fill-holes", "2", "--keep-largest=liver"]
    found = {}
    for name, words in (("last", filled_last), ("first", filled_first)):
        assert main(["postprocess", *words, "--", str(masks / "a.nii.gz"), str(tmp_path / name)]) == 0
        found[name] = int((read(tmp_path / name / "a.nii.gz") == 2).sum())
    assert found == {"last": 27, "first": 26}
    again = ["--fill-holes", "2", "--keep-largest", "liver", "--fill-holes", "2", "--minimum-size-mm3", "9"]
    assert main(["postprocess", str(masks / "a.nii.gz"), str(tmp_path / "again"), *again]) == 0
    assert (read(tmp_path / "again" / "a.nii.gz") == 2).sum() == 27
    volseg.postprocess(masks / "a.nii.gz", tmp_path / "python", fill_holes=2, keep_largest="liver")
    assert (read(tmp_path / "python" / "a.nii.gz") == 2).sum() == 27
    volseg.postprocess(
        masks / "a.nii.gz", tmp_path / "told", fill_holes=2, keep_largest="liver", order=["fill_holes", "keep_largest"]
    )
    assert (read(tmp_path / "told" / "a.nii.gz") == 2).sum() == 26
    options = json.loads((tmp_path / "first" / "postprocessing.json").read_text())["provenance"]["options"]
    assert options["order"] == ["fill_holes", "keep_largest"]
    capsys.readouterr()


def test_rules_with_a_length_say_what_they_did(masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(masks / "a.nii.gz", crumbs(), np.diag([-0.5, 0.5, 0.5, 1]))
    words = ["--opening", "liver:0.6", "--closing", "2:1", "--smooth", "all:0.2", "--keep-inside", "liver:2:90"]
    assert main(["postprocess", str(masks / "a.nii.gz"), str(tmp_path / "out"), *words]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split()[-5:] == ["voxels", "trimmed", "added", "voxels", "left"]
    assert said[1].split() == ["a", "1", "(liver)", "0", "0", "0", "0", "21", "0", "7"]
    save(masks / "sheared.nii.gz", crumbs(), np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    assert main(["postprocess", str(masks / "sheared.nii.gz"), str(tmp_path / "x"), "--opening", "1:2"]) == 2
    assert "sheared: refused [sheared]" in capsys.readouterr().out
    for words, part in (
        (["--opening", "liver"], "--opening liver: this option takes labels as in liver:3, each with its own number"),
        (["--opening", "liver:wide"], "'wide' is no number of mm"),
        (["--opening", "liver:200"], "up to 100 mm"),
        (["--fill-holes", "liver:2"], "takes labels alone"),
        (["--keep-inside", "liver"], "tumour:liver"),
        (["--remove-small", "liver:5"], "'5' is no volume in ml or mm3"),
        (["--keep-largest", "lever:2"], "no label 'lever'. There are liver (1)."),
        (["--keep-largest", "liver:2.5"], "'2.5' is no count"),
        (["--keep-largest", "liver", "--order", "polish"], "The order names polish"),
    ):
        assert main(["postprocess", str(masks), str(tmp_path / "x"), *words]) == 2
        assert part in " ".join(capsys.readouterr().err.split())


def test_instances_are_named_in_labels_txt(masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, more = crumbs(), crumbs()
    more[1, 10, 1] = 1
    save(masks / "a.nii.gz", one)
    save(masks / "b.nii.gz", more)
    (masks / "c.nii.gz").unlink()
    command = ["postprocess", str(masks), str(tmp_path / "out"), "--instances", "liver", "--jobs", "1"]
    assert main(command) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["a: 2 instances of 1 (liver)", "b: 3 instances of 1 (liver)"]
    assert np.array_equal(np.unique(read(tmp_path / "out" / "b.nii.gz")), [0, 2, 1001, 1002, 1003])
    assert read(tmp_path / "out" / "b.nii.gz").dtype == np.uint16
    named = LabelTable.read(tmp_path / "out" / "labels.txt")
    assert dict(zip(named.indices, named.names, strict=True)) == {
        1: "liver",
        1001: "liver 1",
        1002: "liver 2",
        1003: "liver 3",
    }
    before = (tmp_path / "out" / "labels.txt").read_bytes()
    assert main(command) == 0  # labels.txt is more than the masks' by now, and no stranger's
    assert (tmp_path / "out" / "labels.txt").read_bytes() == before
    assert "2 were there already" in capsys.readouterr().out


def test_exit_codes(masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert main(["postprocess", str(masks), out]) == 2
    assert "--keep-largest" in capsys.readouterr().err
    assert main(["postprocess", str(tmp_path / "absent"), out, "--keep-largest", "all"]) == 2
    assert main(["postprocess", str(masks), out, "--keep-largest", "most"]) == 2
    assert main(["postprocess", str(masks), out, "--connectivity", "8", "--keep-largest", "1"]) == 2
    (masks / "a.nii.gz").write_bytes(b"no image")
    capsys.readouterr()
    assert main(["postprocess", str(masks), out, "--keep-largest", "all", "--jobs", "1"]) == 1
    said = capsys.readouterr()
    assert "a: refused [damaged-file]" in said.out
    assert "Traceback" not in said.err

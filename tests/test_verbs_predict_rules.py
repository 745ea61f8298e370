"""Rules given to predict: applied after the bundle's own, told in labels.txt, and never mixed with masks of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from tests.weighed import weighed
from volseg.bundle.folder import open_bundle
from volseg.cli.main import main
from volseg.grid import Grid
from volseg.labels import LabelTable
from volseg.postprocessing import Instances, Opening, PostprocessingRules
from volseg.verbs.postprocess import PostprocessOptions, postprocess
from volseg.verbs.predict import PredictOptions, predict

if TYPE_CHECKING:
    from tests.conftest import MakeBundle, WriteImage


def told(out: Path) -> dict:
    return json.loads((out / "prediction.json").read_text())


def test_rules_of_the_command_line_come_after_the_bundle_s_and_make_other_masks(
    trained_bundle: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = min((cohort / "imagesTs").glob("*.nii.gz"))
    name, names = image.name, open_bundle(trained_bundle).labels.names
    plain, ruled = tmp_path / "plain", tmp_path / "ruled"
    assert main(["predict", str(trained_bundle), str(image), str(plain)]) == 0
    command = ["predict", str(trained_bundle), str(image), str(ruled), "--opening", f"{names[0]}:1.5"]
    command += ["--instances", names[0]]
    assert main(command) == 0
    mask = nibabel.load(plain / name)
    grid = Grid(mask.shape, mask.affine)
    wanted = PostprocessingRules((Opening(labels=(1,), radius_mm=1.5), Instances(labels=(1,))))
    expected, changes = wanted.apply(np.asarray(mask.dataobj), grid)
    found = np.asarray(nibabel.load(ruled / name).dataobj)
    assert np.array_equal(found, expected)
    assert found.dtype == np.uint16
    assert changes.instances[1] >= 1
    named = LabelTable.read(ruled / "labels.txt")
    assert named.name_of(1001) == f"{names[0]} 1"
    (outcome,) = told(ruled)["outcomes"]
    assert not any("values-outside" in warning for warning in outcome.get("warnings", ()))
    assert told(ruled)["provenance"]["checksums"].keys() - told(plain)["provenance"]["checksums"].keys() == {"rules"}
    before = (ruled / name).read_bytes()
    capsys.readouterr()
    assert main(command) == 0
    assert "1 was there already" in capsys.readouterr().out
    for other in (command[:-2], command[:4], [*command, "--keep-largest", "all"]):
        assert main(other) == 2  # masks of other rules
        assert "made with other rules" in " ".join(capsys.readouterr().err.split())
    assert main([*command[:3], str(plain), *command[4:]]) == 2
    assert (ruled / name).read_bytes() == before
    assert main([*command[:3], str(tmp_path / "x"), "--opening", "spline:2"]) == 2
    assert f"There are {names[0]} (1)" in " ".join(capsys.readouterr().err.split())
    assert main([*command[:3], str(tmp_path / "x"), "--keep-inside", "1:9"]) == 2
    assert "Rules name the labels 9, which the bundle doesn't have" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "x").exists()


def test_holes_that_are_left_between_labels_are_told_as_postprocess_tells_them(
    make_bundle: MakeBundle, write_image: WriteImage, tmp_path: Path
) -> None:
    bundle, values = weighed(make_bundle()), np.random.default_rng(0).normal(50, 80, (18, 14, 12))
    image = write_image(tmp_path / "a.nii.gz", values.astype(np.int16), np.diag([-1.5, 1.0, 1.25, 1.0]))
    predict(bundle, image, tmp_path / "plain", PredictOptions(raw=True, precision="float32"))
    rules = {"fill_holes": ("all",), "connectivity": 6}
    (told,) = postprocess(tmp_path / "plain", tmp_path / "clean", PostprocessOptions(jobs=1, **rules)).outcomes
    assert "between several labels stayed" in told.warnings[-1]
    (outcome,) = predict(
        bundle, image, tmp_path / "ruled", PredictOptions(raw=True, precision="float32", **rules)
    ).outcomes
    assert told.warnings[-1] in outcome.warnings

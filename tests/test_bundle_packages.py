"""The packages that a bundle needs, found without running any of it."""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.zoo import write_zoo_bundle
from volseg.bundle import packages
from volseg.bundle.folder import Bundle, open_bundle
from volseg.bundle.packages import ZOO_EXTRA, how_to_install, missing_packages
from volseg.cli.main import main


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle of others on a machine that lacks some packages."""
    lacking = {"tensorboard", "pandas", "skimage", "sklearn", "nowhere"}
    monkeypatch.setattr(packages, "_has_module", lambda name: name not in lacking)
    monkeypatch.setattr(packages, "_has_package", lambda name: name not in ("cucim-cu12", "pandas", "scikit-image"))
    return open_bundle(write_zoo_bundle(tmp_path / "bundle", tmp_path))


def change(bundle: Bundle, name: str, **parts: object) -> None:
    path = bundle.root / "configs" / f"{name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))


def found(bundle: Bundle) -> list[tuple[str, str | None, str, str]]:
    configs = {name: bundle.read_config(name) for name in ("metadata", "train", "inference")}
    return [(need.module, need.package, need.place, need.stops) for need in missing_packages(bundle, configs)]


def test_nothing_is_missing(bundle: Bundle) -> None:
    assert found(bundle) == []


def test_imports_targets_readers_modules_and_metadata(bundle: Bundle) -> None:
    change(bundle, "inference", imports=["$import pandas as pd"], lookup="$[r for r in pd.read_csv(@path).t2]")
    change(bundle, "train", extra={"_target_": "TensorBoardStatsHandler"})
    change(bundle, "metadata", optional_packages_version={"cucim-cu12": "24", "pandas": "2"})
    (bundle.root / "scripts" / "window.py").write_text("from skimage.measure import label\nfrom . import aside\n")
    (bundle.root / "scripts" / "aside.py").write_text("try:\n    import nowhere\nexcept ImportError:\n    pass\n")
    (bundle.root / "scripts" / "split.py").write_text("import sklearn, torch\nraise SystemExit\n")
    assert found(bundle) == [
        ("pandas", "pandas", "configs/inference.json", "predicting"),
        ("skimage", "scikit-image", "scripts/window.py", "predicting"),
        ("tensorboard", "tensorboard", "configs/train.json", "training"),
        ("cucim-cu12", None, "configs/metadata.json", ""),
        ("sklearn", "scikit-learn", "scripts/split.py", ""),
    ]


def test_a_name_that_nobody_knows_becomes_no_command(bundle: Bundle) -> None:
    change(bundle, "inference", imports=["$import nowhere"])
    assert found(bundle) == [("nowhere", None, "configs/inference.json", "predicting")]
    assert "pip" not in how_to_install("nowhere")
    assert "pip" not in how_to_install("apex")  # another's on PyPI
    assert how_to_install("skimage").startswith("Install it: pip install scikit-image. The extra zoo holds it")


def test_no_package_brings_another_torch() -> None:
    own = version("torch").partition("+")[0]
    assert how_to_install("torchvision").startswith(f"Install it: pip install torchvision torch=={own},")
    assert not {"torch", "torchvision", "timm"} & ZOO_EXTRA


@pytest.mark.parametrize("text", ["$import", "$(((", "$@a + ", "$import os; import nowhere"])
def test_expressions_of_any_kind_are_read(bundle: Bundle, text: str) -> None:
    change(bundle, "inference", imports=[text])
    assert [one[0] for one in found(bundle)] in ([], ["nowhere"])


def test_modules_of_any_kind_are_read(bundle: Bundle) -> None:
    (bundle.root / "scripts" / "window.py").write_bytes(b"\xff\x00import nowhere")
    (bundle.root / "scripts" / "deep.py").write_text("(" * 5000)
    (bundle.root / "scripts" / "round.py").write_text("from . import round\nfrom .. import scripts\n")
    change(bundle, "inference", imports=["$import scripts.round"])
    assert found(bundle) == []


def test_check_lists_them_before_trust(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    change(bundle, "inference", imports=["$import pandas as pd"])
    assert main(["check", str(bundle.root)]) == 1
    assert (
        "error [missing-package] configs/inference.json: the Python package pandas is not installed, so predicting can't "
        "begin. Install it: pip install pandas. The extra zoo holds it: pip install 'volseg[zoo]'."
    ) in capsys.readouterr().out


def test_the_extra_is_the_one_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    extra = project["project"]["optional-dependencies"]["zoo"]
    assert {line.partition(">")[0] for line in extra} == ZOO_EXTRA


def test_the_older_name_of_the_list_is_a_warning(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    path = bundle.root / "configs" / "metadata.json"
    content = json.loads(path.read_text())
    content["optional_packages_version"] = content.pop("required_packages_version")
    path.write_text(json.dumps(content))
    main(["check", str(bundle.root)])
    told = capsys.readouterr().out
    assert "warning [metadata] configs/metadata.json: optional_packages_version is what MONAI calls" in told
    assert "required_packages_version is missing" not in told

"""A damaged checkpoint that a foreign config loads by itself is named, wherever it is loaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from tests.zoo import write_zoo_bundle
from volseg.bundle.checkpoints import damaged_checkpoint
from volseg.bundle.folder import Bundle
from volseg.bundle.parser import BundleParser
from volseg.bundle.trust import judge, record_trust
from volseg.cli.main import main
from volseg.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

DAMAGED = {
    "nonsense": b"nonsense",
    "empty": b"",
    "pickle": b"\x80\x02cposix\nsystem\n.",
    "zip": b"PK\x03\x04" + b"x" * 90,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_the_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "models" / "start.pt"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(Exception) as caught:
        torch.load(path, weights_only=True)
    found = damaged_checkpoint(RuntimeError("wrapped").with_traceback(None), tmp_path)
    assert found is None
    found = damaged_checkpoint(caught.value, tmp_path)
    assert found is not None
    assert found.code == "bad-weights"
    assert f"{path}, which the bundle's config loads, is damaged" in found.message
    outside = damaged_checkpoint(caught.value, tmp_path / "elsewhere")
    assert outside is not None
    assert str(path) not in outside.message


def test_what_says_itself_what_it_is_stays_so(tmp_path: Path) -> None:
    assert damaged_checkpoint(BundleError("known"), tmp_path) is None


def test_training_of_a_foreign_bundle_says_which(
    tmp_path: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_zoo_bundle(tmp_path / "zoo", cohort)
    path = root / "configs" / "train.json"
    config = json.loads(path.read_text())
    loader = {
        "_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/start.pt'", "load_dict": {"model": "@network"},
    }  # fmt: skip
    config["train"]["handlers"].append(loader)
    config["first_weights"] = "$torch.load(@bundle_root + '/models/start.pt')"
    path.write_text(json.dumps(config))
    (root / "models").mkdir(exist_ok=True)
    (root / "models" / "start.pt").write_bytes(b"nonsense")
    record_trust(judge(Bundle(root)))
    assert main(["train", str(root), "--data", str(cohort)]) == 2
    error = capsys.readouterr().err
    assert "start.pt, which the bundle's config loads, is damaged" in error
    assert "unexpected" not in error
    with pytest.raises(BundleError) as caught:
        BundleParser(Bundle(root), "train", {}).build("first_weights")
    assert caught.value.code == "bad-weights"

"""Every fault of a bundle at once, and nothing run unless it may."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml

from volseg.bundle.faults import find_faults, summary
from volseg.bundle.folder import Bundle
from volseg.bundle.published import publish
from volseg.bundle.trust import judge, record_trust
from volseg.bundle.weights import inference_network
from volseg.cli.main import main
from volseg.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import MakeBundle, MakePlan


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Bundle:
    """A bundle with weights that fit: without a fault."""
    bundle = Bundle(make_bundle())
    network = inference_network(bundle)
    assert network is not None
    publish(bundle, network, network.state_dict(), "fold_0", None)
    return bundle


def edit(bundle: Bundle, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    path = bundle.config_path(name)
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(json.dumps(config) if path.suffix == ".json" else yaml.safe_dump(config, sort_keys=False))


def found(bundle: Bundle) -> list[tuple[str, str, bool]]:
    faults = find_faults(bundle)
    for fault in faults:
        assert fault.message.isprintable()
        assert str(bundle.root) not in fault.message
        assert len(fault.message) < 1000
    return [(fault.code, fault.case, fault.is_error) for fault in faults]


def test_a_sound_bundle(bundle: Bundle) -> None:
    assert found(bundle) == []
    assert summary(bundle) == "bundle of 2 labels"


def test_a_model_that_changed_under_its_name(bundle: Bundle) -> None:
    state = torch.load(bundle.model_path, weights_only=True)
    torch.save({name: tensor + 1 for name, tensor in state.items()}, bundle.model_path)
    assert found(bundle) == [("model-changed", "models/model.pt", False)]
    (bundle.root / "models" / "published.json").write_text("{")
    assert found(bundle) == [("bad-record", "models/model.pt", True)]
    (bundle.root / "models" / "published.json").unlink()
    assert found(bundle) == []


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("metadata", lambda c: c.pop("version"), [("metadata", "configs/metadata.json")]),
        ("metadata", lambda c: c.update(task=5, authors=[]), [("metadata", "configs/metadata.json")] * 2),
        ("metadata", lambda c: c.update(label_table={"x": "y"}), [("labels", "configs/metadata.json")] * 2),
        (
            "metadata", lambda c: c["network_data_format"]["inputs"]["image"].update(num_channels=4),
            [("channels", "configs/inference.yaml")],
        ),
        ("inference", lambda c: c["network_def"].update(in_channels=2), [
            ("channels", "configs/inference.yaml"), ("weights-differ", "models/model.pt"),
            ("networks-differ", "configs/train.yaml"),
        ]),
        ("inference", lambda c: c.pop("inferer"), [("missing-part", "configs/inference.yaml")]),
        ("inference", lambda c: c.update(postprocessing=None), [("missing-part", "configs/inference.yaml")]),
        ("inference", lambda c: c.update(volseg_postprocessing={"polish": True}), [("rules", "configs/inference.yaml")]),
        ("inference", lambda c: c["postprocessing"]["transforms"].append(
            {"_target_": "monai.transforms.KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1, 9]}
        ), [("rules", "configs/inference.yaml")]),
        ("inference", lambda c: c["volseg_postprocessing"].append({"rule": "fill_holes", "labels": [9]}), [
            ("rules", "configs/inference.yaml")
        ]),
        ("inference", lambda c: c.update(volseg_postprocessing={"minimum_size_mm3": {7: 5.0}}), [
            ("rules", "configs/inference.yaml")
        ]),
        ("inference", lambda c: c.update(volseg_postprocessing=[1]), [("rules", "configs/inference.yaml")]),
        ("inference", lambda c: c["network_def"].update(filters="many"), [("not-trusted", "configs/inference.yaml")]),
        ("inference", lambda c: c["network_def"].update(strides=[]), [("cannot-build", "configs/inference.yaml")]),
        ("inference", lambda c: c.update(network_def="a text"), [("not-trusted", "configs/inference.yaml")]),
        ("inference", lambda c: c.update(x="$1"), [("not-trusted", "configs/inference.yaml")]),
        ("train", lambda c: c["train"].pop("trainer"), [("missing-part", "configs/train.yaml")]),
        ("train", lambda c: c.update(train=5), [("missing-part", "configs/train.yaml")]),
        ("train", lambda c: c["network_def"].update(filters=[4, 6, 10]), [("networks-differ", "configs/train.yaml")]),
        ("train", lambda c: c.update(x={"y": ["%z"]}), [("not-trusted", "configs/train.yaml")]),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_file(
    bundle: Bundle, name: str, change: Callable[[dict[str, Any]], object], expected: list[tuple[str, str]]
) -> None:
    edit(bundle, name, change)
    assert found(bundle) == [(*one, True) for one in expected]


def test_rules_for_labels_of_the_table_pass(bundle: Bundle) -> None:
    edit(
        bundle,
        "inference",
        lambda c: c.update(
            volseg_postprocessing=[
                {"rule": "keep_largest"},
                {"rule": "fill_holes", "labels": [2]},
                {"rule": "remove_small", "minimum_mm3": 5, "labels": [1]},
            ]
        ),
    )
    assert found(bundle) == []


def test_no_validation_is_a_warning(bundle: Bundle) -> None:
    edit(bundle, "train", lambda c: c["validate"].pop("evaluator"))
    assert found(bundle) == [("missing-part", "configs/train.yaml", False)]


@pytest.mark.parametrize(
    ("name", "is_error"), [("metadata.json", True), ("inference.yaml", True), ("train.yaml", False)]
)
def test_a_missing_config(bundle: Bundle, name: str, *, is_error: bool) -> None:
    (bundle.root / "configs" / name).unlink()
    assert ("no-config", "", is_error) in found(bundle)
    assert any(name.split(".")[0] in fault.message for fault in find_faults(bundle))


@pytest.mark.parametrize("name", ["metadata.json", "inference.yaml", "train.yaml"])
def test_a_config_that_can_not_be_read_is_told_once(bundle: Bundle, name: str) -> None:
    (bundle.root / "configs" / name).write_text("{a: [")
    assert found(bundle) == [("bad-config", f"configs/{name}", True)]


def test_missing_weights_are_a_warning(bundle: Bundle) -> None:
    bundle.model_path.unlink()
    assert found(bundle) == [("no-weights", "models/model.pt", False)]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04"])
def test_damaged_weights(bundle: Bundle, content: bytes) -> None:
    bundle.model_path.write_bytes(content)
    assert found(bundle) == [("bad-weights", "models/model.pt", True)]


def test_weights_of_another_network(bundle: Bundle, make_bundle: MakeBundle, make_plan: MakePlan) -> None:
    other = Bundle(make_bundle(make_plan(labels=(1, 2, 3)), folder="other"))
    network = inference_network(other)
    assert network is not None
    torch.save(network.state_dict(), bundle.model_path)
    assert found(bundle) == [
        ("model-changed", "models/model.pt", False),
        ("weights-differ", "models/model.pt", True),
    ]


def test_all_faults_at_once(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    edit(bundle, "metadata", lambda c: (c.pop("version"), c.update(label_table={"1": "a", "2": "a"})))
    edit(bundle, "inference", lambda c: (c.pop("inferer"), c.update(x="$1", volseg_postprocessing={"polish": 1})))
    edit(bundle, "train", lambda c: (c.pop("train"), c.update(y="$2")))
    bundle.model_path.write_bytes(b"damaged")
    codes = [code for code, _, _ in found(bundle)]
    assert sorted(codes) == sorted(
        [
            "metadata",
            "labels",
            "labels",
            "missing-part",
            "rules",
            "missing-part",
            "not-trusted",
            "not-trusted",
            "bad-weights",
        ]
    )
    assert main(["check", str(bundle.root)]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == len(codes)
    assert last == f"bundle: {len(codes)} faults"


def test_an_untrusted_bundle_is_not_built_and_a_trusted_one_is(bundle: Bundle, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    edit(
        bundle,
        "inference",
        lambda c: c["network_def"].update(in_channels=f"$[1, __import__('pathlib').Path({str(canary)!r}).touch()][0]"),
    )
    assert found(bundle) == [("not-trusted", "configs/inference.yaml", True)]
    assert not canary.exists()
    record_trust(judge(bundle))
    assert found(bundle) == []
    assert canary.exists()


def test_many_findings_are_counted(bundle: Bundle) -> None:
    edit(bundle, "inference", lambda c: c.update({f"k{number}": "$1" for number in range(100)}))
    faults = find_faults(bundle)
    assert len(faults) == 41
    assert faults[-1].message == "60 more such findings; volseg trust lists all."


@pytest.mark.parametrize("name", ["inference.json", "inference.yml", "train.json", "metadata.yml"])
def test_a_second_config_of_one_name(bundle: Bundle, name: str) -> None:
    (bundle.root / "configs" / name).write_text('{"network_def": "$__import__(\'os\')"}')
    place = "configs/metadata.json" if name == "metadata.yml" else f"configs/{name}"
    assert ("two-configs", place, True) in found(bundle)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_a_config_that_is_no_file_is_told_once(bundle: Bundle) -> None:
    (bundle.root / "configs" / "train.yaml").unlink()
    os.mkfifo(bundle.root / "configs" / "train.yaml")
    assert [fault.code for fault in find_faults(bundle)] == ["link"]


def test_a_line_names_its_file_once(bundle: Bundle) -> None:
    (bundle.root / "configs" / "train.yaml").write_text("a: [")
    assert [str(fault).count("configs/train.yaml") for fault in find_faults(bundle)] == [1]


def test_links(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (bundle.root / "runs").symlink_to(tmp_path / "runs")
    assert found(bundle) == [("link", "", True)]
    (bundle.root / "runs").unlink()
    (bundle.root / "docs" / "more").symlink_to("README.md")
    assert found(bundle) == [("link", "", True)]
    edit(bundle, "inference", lambda c: c.update(x="$1"))
    assert ("link", "", True) in found(bundle)


def test_a_damaged_record_of_trust_is_no_fault_of_the_bundle(bundle: Bundle, trust_store: Path) -> None:
    edit(bundle, "inference", lambda c: c.update(x="$1"))
    trust_store.write_text("{")
    with pytest.raises(FileError) as caught:
        find_faults(bundle)
    assert caught.value.code == "trust-store"


def test_on_the_command_line(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["check", str(bundle.root)]) == 0
    assert capsys.readouterr().out == "bundle of 2 labels: no faults\n"
    bundle.model_path.unlink()
    monkeypatch.chdir(bundle.root)
    assert main(["check", "."]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("warning [no-weights] models/model.pt: ")
    assert last == "bundle of 2 labels: no faults, 1 warning"


def test_a_folder_that_is_neither(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("volseg: ")

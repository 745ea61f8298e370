"""What a config would run is found in its plain data; what volseg plan writes holds nothing of the kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from volseg.bundle.folder import Bundle
from volseg.bundle.lint import Finding, lint_config
from volseg.bundle.trust import judge
from volseg.bundle.vocabulary import TARGETS
from volseg.planning.networks import NETWORKS, Topology
from volseg.planning.normalisation import Normalisation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import MakeBundle, MakePlan

ZSCORE = Normalisation("z-score", nonzero=True)


def kinds(text: str, name: str = "inference") -> list[tuple[str, str]]:
    return [(finding.kind, finding.place) for finding in lint_config(name, yaml.safe_load(text))]


@pytest.mark.parametrize(
    ("text", "kind", "place"),
    [
        ("a: $1 + 1", "expression", "a"),
        ("a: ' $1 + 1'", "expression", "a"),
        ('a: "\\t\\n$1"', "expression", "a"),
        ('a: "\\u2003$1"', "expression", "a"),
        ("a: [x, [{b: $1}]]", "expression", "a#1#0#b"),
        ("a: {_desc_: $1}", "expression", "a#_desc_"),
        ("imports: [$import os]", "expression", "imports#0"),
        ("imports: ['$import glob as torch']", "expression", "imports#0"),
        ("imports: ['$import glob ']", "expression", "imports#0"),
        ("imports: {x: $from os import system}", "expression", "imports#x"),
        ("imports: [$@evaluator.run()]", "expression", "imports#0"),
        ("a: $import torch", "expression", "a"),
        ("a: $@evaluator.run() or 1", "expression", "a"),
        ("a: '$@evaluator.run()\n'", "expression", "a"),
        ("a: '$[{''image'': [f[:-12] + ''_%04d.nii.gz'' % c for c in range(2)]} for f in @datalist]'", "expression", "a"),
        ("a: '%b'", "macro", "a"),
        ("a: ' %b'", "macro", "a"),
        ("a: '%other.yaml#b'", "macro", "a"),
        ("a: '%#b'", "macro", "a"),
        ("a: '@#b'", "reference", "a"),
        ("a: '@##b'", "reference", "a"),
        ("a: '@b::c'", "reference", "a"),
        ("a: '@b.c'", "reference", "a"),
        ("a: '@b()'", "reference", "a"),
        ("a: ' @b'", "reference", "a"),
        ('a: "@b\\n"', "reference", "a"),
        ("a: '@'", "reference", "a"),
        ("a: '@b + @c'", "reference", "a"),
        ("a: '@imports#0'", "reference", "a"),
        ("a: '@imports'", "reference", "a"),
        ("'a#b': 1", "key", "(root)"),
        ("'a::b': 1", "key", "(root)"),
        ("a: {'+b': 1}", "key", "a"),
        ("a: {'$b': 1}", "key", "a"),
        ("a: {1.5: 1}", "key", "a"),
        ("a: {true: 1}", "key", "a"),
        ("a: {null: 1}", "key", "a"),
        ("_target_: os.system\ncommand: x", "target", "(root)"),
        ("a: {_target_: os.system, command: x}", "target", "a"),
        ("a: [{b: {_target_: builtins.eval}}]", "target", "a#0#b"),
        ("a: {_target_: Compose}", "target", "a"),
        ("a: {_target_: monai.transforms.Lambdad}", "target", "a"),
        ("a: {_target_: ' monai.transforms.Compose'}", "target", "a"),
        ("a: {_target_: '@b'}", "target", "a"),
        ("a: {_target_: [monai.transforms.Compose]}", "target", "a"),
        ("a: {_target_: {_target_: monai.transforms.Compose}}", "target", "a"),
        ("a: {_target_: null}", "target", "a"),
        ("a: {_target_: monai.transforms.Compose, map_items: true}", "argument", "a"),
        ("a: {_target_: monai.transforms.Compose, _mode_: debug}", "argument", "a"),
        ("a: {_target_: monai.transforms.Compose, _mode_: callable}", "argument", "a"),
        ("a: {_target_: monai.transforms.Compose, _requires_: '@b'}", "argument", "a"),
        ("a: {_target_: monai.transforms.Compose, _disabled_: true}", "argument", "a"),
        ("a: {_target_: monai.transforms.Compose, _debug_: true}", "argument", "a"),
        ("a: {_target_: monai.transforms.LoadImaged, keys: x}", "argument", "a"),
        ("a: {_target_: monai.transforms.LoadImaged, keys: x, reader: evil.Reader}", "argument", "a"),
        ("a: {_target_: monai.transforms.LoadImaged, keys: x, reader: [NibabelReader, evil.Reader]}", "argument", "a"),
        ("a: {_target_: monai.transforms.LoadImaged, keys: x, reader: '@b'}", "argument", "a"),
        ("a: {_target_: monai.data.Dataset, data: [{image: /etc/passwd}]}", "argument", "a"),
        ("a: {_target_: monai.data.CacheDataset, data: '@b'}", "argument", "a"),
        ("a: {_target_: monai.handlers.CheckpointLoader, load_path: /tmp/x.pt}", "argument", "a"),
        ("a: {_target_: volseg.training.fold_cases, dataset_dir: /x, record: '@cases_record'}", "argument", "a"),
        ("output_dir: /home/somebody", "value", "output_dir"),
        ("output_dir: '@elsewhere'", "value", "output_dir"),
        ("a: !!omap [b: {_target_: os.system}]", "value", "a"),
        ("a: !!set {b, c}", "value", "a"),
        ("a: !!pairs [b: 1]", "value", "a#0"),
        ("a: !!binary aGVsbG8=", "value", "a"),
        ("a: 2024-01-01", "value", "a"),
    ],
)  # fmt: skip
def test_what_goes_beyond_the_vocabulary_is_found(text: str, kind: str, place: str) -> None:
    found = kinds(text)
    assert found
    assert any(one == (kind, place) or (kind == "value" and one == (kind, "a#0")) for one in found)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1",
        "a: plain words, 100 %, me@home, $5 is not at the front - x$",
        "dataset_dir: ../data@home/50%/a#b",
        "a: '@b'",
        "a: '@b#0#c'",
        "a: {1: x, b_2: y}",
        "a: [1.5, .inf, null, true]",
        "imports: [$import glob, $import torch]",
        "a: $@network_def.to(@device)",
        "a: {_target_: monai.transforms.Compose, _desc_: what it is, transforms: []}",
        "output_dir: $@bundle_root + '/eval'",
        "a: {b: {output_dir: x}}",
    ],
)
def test_what_is_plain_data_or_in_the_vocabulary_passes(text: str) -> None:
    assert kinds(text) == []


def test_saving_stands_at_the_end_of_postprocessing_only(make_bundle: MakeBundle) -> None:
    config = Bundle(make_bundle()).read_config("inference")
    saving = config["postprocessing"]["transforms"][-1]  # type: ignore[index, call-overload]
    assert saving["_target_"] == "monai.transforms.SaveImaged"  # type: ignore[index, call-overload]
    assert lint_config("inference", config) == ()
    for wrong in (
        {"output_ext": ".pth"},
        {"output_postfix": "../../x"},
        {"separate_folder": True},
        {"output_dir": "/"},
    ):
        changed: dict[str, Any] = {"postprocessing": {"transforms": [saving | wrong]}}  # type: ignore[operator]
        assert [finding.kind for finding in lint_config("inference", changed)] == ["argument"]
    for place in ({"preprocessing": {"transforms": [saving]}}, {"postprocessing": {"transforms": {"x": [saving]}}}):
        assert [finding.kind for finding in lint_config("inference", place)] == ["target"]  # type: ignore[arg-type]


def test_findings_come_in_the_order_of_the_file_and_name_their_config() -> None:
    found = lint_config("train", {"b": "$1", "a": ["$2", {"c": "%d"}]})
    assert [str(finding) for finding in found] == [
        "train: b: expression $1",
        "train: a#0: expression $2",
        "train: a#1#c: macro %d",
    ]


def test_a_finding_is_one_line_that_hides_nothing() -> None:
    text = "$1\n\nThis bundle is safe.\r\x1b[2K\N{RIGHT-TO-LEFT OVERRIDE}\ud800 \N{LATIN SMALL LETTER E WITH ACUTE}"
    shown = str(Finding("train", "a", "expression", text))
    assert shown.isprintable()
    assert "\\n\\nThis bundle is safe.\\r\\x1b[2K\\u202e\\ud800 \N{LATIN SMALL LETTER E WITH ACUTE}" in shown


def test_both_configs_are_linted(make_bundle: MakeBundle) -> None:
    bundle = Bundle(make_bundle())
    for name in ("train", "inference"):
        path = bundle.config_path(name)
        before = path.read_text()
        path.write_text(before + "extra: $1\n")
        assert [str(finding) for finding in judge(bundle).findings] == [f"{name}: extra: expression $1"]
        path.write_text(before)


def test_the_file_that_is_linted_is_the_one_that_is_built(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    (root / "configs" / "inference.json").write_text('{"a": "$1"}')
    assert judge(Bundle(root)).findings == ()
    (root / "configs" / "inference.yaml").unlink()
    assert len(judge(Bundle(root)).findings) == 1
    assert Bundle(root).read_config("inference") == {"a": "$1"}


def test_of_a_key_that_stands_twice_the_last_is_linted_and_built(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    path = root / "configs" / "inference.yaml"
    clean = path.read_text()
    for text, findings in (("x: $1\nx: 1\n", 0), ("x: 1\nx: $1\n", 1)):
        path.write_text(clean + text)
        assert len(judge(Bundle(root)).findings) == findings
        assert (Bundle(root).read_config("inference")["x"] == "$1") is bool(findings)


PLANS: dict[str, Callable[[MakePlan], Any]] = {
    f"{network}, {len(channels)} channels, labels {labels[:3]}, {normalisation.kind}, {thick}, {one_file}": (
        lambda make, network=network, channels=channels, labels=labels, normalisation=normalisation, thick=thick,
        one_file=one_file: make(
            network=network, channels=channels, labels=labels, normalisations=(normalisation,) * len(channels),
            spacing_mm=(0.8, 0.8, 5.0) if thick else (1.0, 1.0, 1.0), channels_in_one_file=one_file,
            topology=Topology((4, 6, 8), ((2, 2, 1), (2, 2, 2)), ((3, 3, 1), (3, 3, 3), (3, 3, 3))),
            whole_volumes=one_file,
        )
    )
    for network in NETWORKS
    for channels in (("CT",), ("FLAIR", "T1"), tuple(f"c{number}" for number in range(12)))
    for labels in ((1, 2), (2, 7), (1, 300, 65535))
    for normalisation in (Normalisation("percentiles", -100.0, 300.0, 40.0, 25.0), ZSCORE)
    for thick in (False, True)
    for one_file in (False, True)
}  # fmt: skip


def test_what_plan_writes_needs_no_trust(make_plan: MakePlan) -> None:
    from volseg.bundle.configs import inference_config, train_config

    assert len(PLANS) == 72 * len(NETWORKS)
    for name, choose in PLANS.items():
        plan = choose(make_plan)
        for config, content in (
            ("inference", inference_config(plan, "../data")),
            ("train", train_config(plan, "../data")),
        ):
            again = yaml.safe_load(yaml.safe_dump(content))
            assert lint_config(config, again) == (), name


@pytest.mark.parametrize(
    "name", ["data@home", "data#1", "50%", "$HOME", "a b", "\N{SNOWMAN}", "x\ny", "'", '"', "@a", "%b"]
)
def test_any_name_of_a_data_set_needs_no_trust(make_plan: MakePlan, tmp_path: Path, name: str) -> None:
    from volseg.bundle.write import write_bundle

    write_bundle(make_plan(), tmp_path / name, tmp_path / "bundle")
    bundle = Bundle(tmp_path / "bundle")
    assert bundle.read_config("train")["dataset_dir"] == f"../{name}"
    assert judge(bundle).findings == ()


def test_inference_names_stock_monai_only(make_plan: MakePlan) -> None:
    from volseg.bundle.configs import inference_config
    from volseg.bundle.folder import walk

    for choose in PLANS.values():
        targets = [
            str(node["_target_"])
            for _, node in walk(inference_config(choose(make_plan), "../data"))
            if isinstance(node, dict) and "_target_" in node
        ]
        assert targets
        assert all(target.startswith("monai.") and target in TARGETS for target in targets)

"""What a config would run is found in its plain data; what volseg plan writes holds nothing of the kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from volseg.bundle.folder import Bundle
from volseg.bundle.lint import Finding, lint_config
from volseg.bundle.trust import judge
from volseg.bundle.vocabulary import ONE_FILE, TARGETS
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
        ("preprocessing: {_target_: monai.transforms.Compose, _desc_: $1}", "expression", "preprocessing#_desc_"),
        ("imports: [$import os]", "expression", "imports#0"),
        ("imports: ['$import glob as torch']", "expression", "imports#0"),
        ("imports: ['$import glob ']", "expression", "imports#0"),
        ("imports: {x: $from os import system}", "expression", "imports#x"),
        ("imports: [$@evaluator.run()]", "expression", "imports#0"),
        ("a: $import torch", "expression", "a"),
        ("a: $@evaluator.run()", "expression", "a"),
        ("network: $@evaluator.run() or 1", "expression", "network"),
        ("network: '$@network_def.to(@device)\n'", "expression", "network"),
        (f"dataset: {{_target_: monai.data.Dataset, data: \"{ONE_FILE} \"}}", "expression", "dataset#data"),
        ("a: '%b'", "macro", "a"),
        ("a: ' %b'", "macro", "a"),
        ("a: '%other.yaml#b'", "macro", "a"),
        ("a: '%#b'", "macro", "a"),
        ("a: '@b'", "reference", "a"),
        ("a: '@device'", "reference", "a"),
        ("inferer: '@#b'", "reference", "inferer"),
        ("inferer: '@##b'", "reference", "inferer"),
        ("inferer: '@b::c'", "reference", "inferer"),
        ("inferer: '@inferer()'", "reference", "inferer"),
        ("inferer: ' @inferer'", "reference", "inferer"),
        ('inferer: "@inferer\\n"', "reference", "inferer"),
        ("inferer: '@'", "reference", "inferer"),
        ("inferer: '@imports#0'", "reference", "inferer"),
        ("inferer: '@network_def'", "reference", "inferer"),
        ("device: '@imports'", "reference", "device"),
        ("'a#b': 1", "key", "(root)"),
        ("'a::b': 1", "key", "(root)"),
        ("a: {'+b': 1}", "key", "a"),
        ("a: {'$b': 1}", "key", "a"),
        ("a: {1.5: 1}", "key", "a"),
        ("a: {true: 1}", "key", "a"),
        ("a: {null: 1}", "key", "a"),
        ("train: {'a#b': 1}", "key", "train"),
        ("preprocessing: {_target_: monai.transforms.Compose, 'a#b': 1}", "key", "preprocessing"),
        ("_target_: os.system\ncommand: x", "target", "(root)"),
        ("a: {_target_: os.system, command: x}", "target", "a"),
        ("train: {_target_: os.system, command: x}", "target", "train"),
        ("a: [{b: {_target_: builtins.eval}}]", "target", "a#0#b"),
        ("a: {_target_: monai.transforms.Compose}", "target", "a"),
        ("preprocessing: {_target_: Compose}", "target", "preprocessing"),
        ("preprocessing: {_target_: ' monai.transforms.Compose'}", "target", "preprocessing"),
        ("preprocessing: {_target_: '@b'}", "target", "preprocessing"),
        ("preprocessing: {_target_: [monai.transforms.Compose]}", "target", "preprocessing"),
        ("preprocessing: {_target_: {_target_: monai.transforms.Compose}}", "target", "preprocessing"),
        ("preprocessing: {_target_: null}", "target", "preprocessing"),
        ("dataset: {_target_: monai.data.Dataset, data: [{image: /etc/passwd}]}", "value", "dataset#data"),
        ("dataset: {_target_: monai.data.CacheDataset, data: '@b'}", "reference", "dataset#data"),
        ("dataset: {_target_: monai.data.CacheDataset, data: '@datalist'}", "reference", "dataset#data"),
        ("dataset: {_target_: monai.data.CacheDataset}", "argument", "dataset"),
        ("dataset: {_target_: monai.data.Dataset, data: {_target_: volseg.training.fold_cases, dataset_dir: /x}}", "value",
         "dataset#data#dataset_dir"),
        ("handlers: [{_target_: monai.handlers.CheckpointLoader, load_path: /tmp/x.pt}]", "value", "handlers#0#load_path"),
        ("handlers: [{_target_: monai.handlers.CheckpointLoader}]", "argument", "handlers#0"),
        ("datalist: [/etc/passwd]", "value", "datalist"),
        ("output_dir: /home/somebody", "value", "output_dir"),
        ("output_dir: '@elsewhere'", "reference", "output_dir"),
        ("dataset_dir: '@elsewhere'", "reference", "dataset_dir"),
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
    ("text", "kind", "place"),
    [
        ("map_items: true", "argument", "preprocessing"),
        ("_mode_: debug", "argument", "preprocessing"),
        ("_mode_: callable", "argument", "preprocessing"),
        ("_requires_: '@b'", "argument", "preprocessing"),
        ("_disabled_: true", "argument", "preprocessing"),
        ("_debug_: true", "argument", "preprocessing"),
        ("transforms: [{_target_: monai.transforms.LoadImaged, keys: x}]", "argument", "preprocessing#transforms#0"),
        ("transforms: [{_target_: monai.transforms.LoadImaged, reader: evil.Reader}]", "value",
         "preprocessing#transforms#0#reader"),
        ("transforms: [{_target_: monai.transforms.LoadImaged, reader: [NibabelReader, evil.Reader]}]", "value",
         "preprocessing#transforms#0#reader"),
        ("transforms: [{_target_: monai.transforms.LoadImaged, reader: '@b'}]", "reference",
         "preprocessing#transforms#0#reader"),
        ("transforms: ['@postprocessing#transforms#2']", "reference", "preprocessing#transforms#0"),
        ("transforms: ['@postprocessing#transforms']", "reference", "preprocessing#transforms#0"),
        ("transforms: '@postprocessing#transforms'", "reference", "preprocessing#transforms"),
        ("transforms: ['@postprocessing']", "reference", "preprocessing#transforms#0"),
        ("transforms: [{_target_: monai.transforms.Compose, transforms: []}]", "target", "preprocessing#transforms#0"),
        ("transforms: [{_target_: monai.transforms.SaveImaged, keys: x}]", "target", "preprocessing#transforms#0"),
        ("transforms: [{_target_: monai.data.CacheDataset, data: x}]", "target", "preprocessing#transforms#0"),
        ("transforms: [{_target_: monai.transforms.Lambdad}]", "target", "preprocessing#transforms#0"),
    ],
)  # fmt: skip
def test_what_a_part_may_hold(text: str, kind: str, place: str) -> None:
    assert (kind, place) in kinds(f"preprocessing: {{_target_: monai.transforms.Compose, {text}}}")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("inference", f'network_def: {{_target_: monai.data.CacheDataset, data: "{ONE_FILE}"}}'),
        ("inference", "preprocessing: '@postprocessing'"),
        ("inference", "inferer: {_target_: monai.networks.nets.UNet}"),
        ("inference", "postprocessing: {_target_: monai.networks.nets.UNet}"),
        ("train", "postprocessing: {_target_: monai.transforms.Compose, transforms: []}"),
        ("train", "cases_record: /home/somebody/training.json"),
        ("train", "train: {handlers: [{_target_: monai.handlers.CheckpointLoader}]}"),
        ("train", "train: {sampler: {_target_: torch.utils.data.RandomSampler, num_samples: '@max_epochs'}}"),
        ("train", "validate: {postprocessing: {_target_: monai.transforms.Compose, transforms: [{_target_: "
         + "monai.transforms.SaveImaged}]}}"),
        ("train", "lr_scheduler: 5"),
        ("train", "steps_per_epoch: [0]"),
        ("train", "steps_per_epoch: '4'"),
        ("train", "steps_per_epoch: true"),
        ("train", "batch_size: 4.0"),
        ("train", "batch_size: 100000"),
        ("train", "batch_size: -1"),
        ("train", "num_workers: 5000"),
        ("train", "max_epochs: 0"),
        ("train", "max_epochs: 1" + "0" * 300),
        ("train", "learning_rate: .nan"),
        ("train", "learning_rate: .inf"),
        ("train", "minutes: -.inf"),
        ("inference", "dataloader: {_target_: monai.data.DataLoader, num_workers: 5000}"),
        ("inference", f'dataset: {{_target_: monai.data.CacheDataset, data: "{ONE_FILE}", num_workers: 5000}}'),
        ("inference", "inferer: {_target_: monai.inferers.SlidingWindowInferer, roi_size: [9000, 9000, 9000]}"),
        ("inference", "inferer: {_target_: monai.inferers.SlidingWindowInferer, roi_size: [-1, 96, 96]}"),
        ("inference", "inferer: {_target_: monai.inferers.SlidingWindowInferer, overlap: 0.999}"),
        ("inference", "inferer: {_target_: monai.inferers.SlidingWindowInferer, overlap: .nan}"),
        ("inference", "inferer: {_target_: monai.inferers.SlidingWindowInferer, sw_batch_size: 10000}"),
        ("inference", "network_def: {_target_: monai.networks.nets.UNet, channels: [100000]}"),
        ("inference", "network_def: {_target_: monai.networks.nets.UNet, kernel_size: 999}"),
        ("inference", "network_def: {_target_: monai.networks.nets.UNet, strides: [[1, 1000, 1]]}"),
        ("inference", "network_def: {_target_: monai.networks.nets.UNet, num_res_units: 10000}"),
        ("inference", f"network_def: {{_target_: monai.networks.nets.UNet, channels: [{'4, ' * 5000} 4]}}"),
        ("inference", "network_def: {_target_: monai.networks.nets.UNet, norm: [INSTANCE, {affine: true}]}"),
        ("inference", "network_def: {_target_: monai.networks.nets.UNETR, img_size: [4096, 4096, 4096]}"),
        ("inference", "network_def: {_target_: monai.networks.nets.SegResNet, norm: [GROUP, {num_groups: 0}]}"),
        ("inference", "network_def: {_target_: monai.networks.nets.SegResNet, norm: [GROUP, {affine: 1}]}"),
        ("inference", "network_def: {_target_: volseg.networks.SegNet, convolutions: [1000]}"),
        ("inference", "network_def: {_target_: volseg.networks.DeepLabV3Plus, rates: [[1, 1, 100000]]}"),
        ("inference", "network_def: {_target_: volseg.networks.blocks.Convolution, in_channels: 1}"),
    ],
)  # fmt: skip
def test_each_key_takes_values_of_its_own_kind_within_bounds(config: str, text: str) -> None:
    assert kinds(text, config)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("SpatialPadd", "spatial_size: [5000, 5000, 5000]"),
        ("SpatialPadd", "spatial_size: 5000"),
        ("RandGaussianSmoothd", "sigma_x: [1.0e+6, 1.0e+6]"),
        ("Spacingd", "pixdim: [1.0e-9, 1, 1]"),
        ("AsDiscreted", "to_onehot: 100000000"),
        ("ClassesToIndicesd", "max_samples_per_class: 1000000000"),
        ("RandCropByLabelClassesd", "num_samples: 100000"),
        ("RandSimulateLowResolutiond", "zoom_range: [1, 10]"),
        ("LabelsToRegionsd", f"regions: {[[1]] * 1000}"),
    ],
)
def test_numbers_of_transforms_have_bounds(name: str, wrong: str) -> None:
    def found(argument: str) -> list[tuple[str, str]]:
        [target] = [one for one in TARGETS["transform"] if one.endswith(f".{name}")]
        text = f"{{_target_: {target}, keys: image, {argument}}}"
        return kinds(f"train: {{random_transforms: [{text}]}}", "train")

    key = wrong.partition(":")[0]
    right = {"spatial_size": "[8, 8, 8]", "sigma_x": "[0.5, 1]", "pixdim": "[1, 1, 2.5]"}
    right = (right | {"zoom_range": "[0.5, 1]", "regions": "[[1, 2], [2]]"}).get(key, "4")
    assert found(f"{key}: {right}") == []
    assert found(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1",
        "a: plain words, 100 %, me@home, $5 is not at the front - x$",
        "dataset_dir: ../data@home/50%/a#b",
        "a: {1: x, b_2: y}",
        "a: [1.5, .inf, null, true]",
        "imports: [$import glob, $import torch]",
        "network: $@network_def.to(@device)",
        "device: cpu",
        "preprocessing: {_target_: monai.transforms.Compose, _desc_: what it is, transforms: []}",
        "output_dir: $@bundle_root + '/eval'",
        "a: {b: {output_dir: x}}",
        "evaluator: {_target_: monai.engines.SupervisedEvaluator, inferer: '@inferer'}",
    ],
)
def test_what_is_plain_data_or_in_the_vocabulary_passes(text: str) -> None:
    assert kinds(text) == []


def test_saving_stands_at_the_end_of_postprocessing_only(make_bundle: MakeBundle) -> None:
    config = Bundle(make_bundle()).read_config("inference")
    saving = config["postprocessing"]["transforms"][-1]  # type: ignore[index, call-overload]
    assert saving["_target_"] == "monai.transforms.SaveImaged"  # type: ignore[index, call-overload]
    assert lint_config("inference", config) == ()

    def found(step: Any, key: str = "postprocessing") -> list[str]:
        part: dict[str, Any] = {"_target_": "monai.transforms.Compose", "transforms": step}
        return [finding.kind for finding in lint_config("inference", {key: part})]

    assert found([saving]) == []
    for wrong in (
        {"output_ext": ".pth"},
        {"output_postfix": "../../x"},
        {"separate_folder": True},
        {"output_dir": "/"},
    ):
        assert found([saving | wrong]) == ["value"]  # type: ignore[operator]
    assert found([saving], "preprocessing") == ["target", "reference"]  # the folder, by a reference
    assert found({"x": [saving]}) == ["target", "reference"]


def test_the_time_of_the_search_grows_with_the_size_alone() -> None:
    import time

    many: dict[str, Any] = {f"key_{number}": {"b": f"${number}"} for number in range(20_000)}
    started = time.process_time()
    assert len(lint_config("train", many)) == 20_000
    assert time.process_time() - started < 5


def test_a_finding_shows_little_of_a_long_value() -> None:
    (found,) = lint_config("train", {"batch_size": int("9" * 400)})
    assert len(str(found)) < 200
    assert str(found).endswith("instead of a whole number from 1 to 512")


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
    for network in ("dynunet", "unet")
    for channels in (("CT",), ("FLAIR", "T1"), tuple(f"c{number}" for number in range(12)))
    for labels in ((1, 2), (2, 7), (1, 300, 65535))
    for normalisation in (Normalisation("percentiles", -100.0, 300.0, 40.0, 25.0), ZSCORE)
    for thick in (False, True)
    for one_file in (False, True)
} | {network: lambda make, network=network: make(network=network, channels=("CT", "PET")) for network in NETWORKS}  # fmt: skip


def test_what_plan_writes_needs_no_trust(make_plan: MakePlan) -> None:
    from volseg.bundle.configs import inference_config, train_config

    assert len(PLANS) == 72 * 2 + len(NETWORKS)
    for name, choose in PLANS.items():
        plan = choose(make_plan)
        for config, content in (
            ("inference", inference_config(plan, "../data")),
            ("train", train_config(plan, "../data")),
        ):
            again = yaml.load(yaml.dump(content, Dumper=yaml.CSafeDumper), yaml.CSafeLoader)
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


def test_inference_names_stock_monai_only_but_for_networks_that_it_lacks(make_plan: MakePlan) -> None:
    from volseg.bundle.configs import inference_config
    from volseg.bundle.folder import walk
    from volseg.bundle.write import bundle_metadata, readme

    others = set()
    for choose in PLANS.values():
        plan = choose(make_plan)
        targets = {
            str(node["_target_"])
            for _, node in walk(inference_config(plan, "../data"))
            if isinstance(node, dict) and "_target_" in node
        }
        foreign = {target for target in targets if not target.startswith("monai.")}
        assert targets - foreign
        assert foreign <= {plan.network.target}
        assert bool(foreign) == ("volseg must" in readme(plan))
        assert bool(foreign) == ("volseg" in bundle_metadata(plan)["required_packages_version"])  # type: ignore[operator]
        others |= foreign
    assert others == {f"volseg.networks.{name}" for name in ("ResidualEncoderUNet", "SegNet", "DeepLabV3Plus")}

"""What a network costs, against torch itself and formulas; what no machine can hold is refused before it is built."""

from __future__ import annotations

import resource
import time
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from monai.networks.nets import DynUNet, SwinUNETR, UNet

from volseg import device
from volseg.bundle import cost as module
from volseg.bundle.configs import train_config
from volseg.bundle.folder import Bundle
from volseg.bundle.parser import BundleParser
from volseg.cli.main import main
from volseg.errors import BundleError
from volseg.networks import SegNet
from volseg.networks.cost import cost_of, on_meta
from volseg.planning.augmentations import AllChanges

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import MakeBundle, MakePlan


def saved_bytes(network: torch.nn.Module, image: torch.Tensor) -> int:
    """What autograd keeps of a real forward pass, beside the weights."""
    weights = {tensor.data_ptr() for tensor in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(image)
    kept[output.untyped_storage().data_ptr()] = output
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


NETWORKS: list[Callable[[], torch.nn.Module]] = [
    lambda: UNet(3, 1, 3, (8, 16, 32), (2, 2), num_res_units=2, norm="INSTANCE"),
    lambda: DynUNet(
        3,
        1,
        3,
        [[3, 3, 3]] * 3,
        [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        [[2, 2, 2]] * 2,
        filters=[8, 16, 32],
        res_block=True,
    ),
    lambda: SegNet(1, 3, [8, 16], [[2, 2, 2]] * 2),
]


@pytest.mark.parametrize("build", NETWORKS)
def test_a_cost_is_what_torch_takes(build: Callable[[], torch.nn.Module]) -> None:
    network = build().train()
    found = cost_of(network, 2, 1, (32, 32, 32))
    assert network.training
    assert all(tensor.device.type == "cpu" for tensor in network.parameters())
    assert found.parameters == sum(tensor.numel() for tensor in network.parameters())
    assert found.weight_bytes == 4 * found.parameters
    real = saved_bytes(network, torch.rand(2, 1, 32, 32, 32))
    assert found.kept_bytes == pytest.approx(real, rel=0.1)
    assert 4 * 2 * 32**3 * 2 < found.inference_bytes < found.kept_bytes
    with torch.device("meta"):
        assert cost_of(build(), 2, 1, (32, 32, 32)) == found


def test_the_multiplications_of_a_convolution() -> None:
    found = cost_of(torch.nn.Conv3d(2, 5, 3, padding=1), 3, 2, (8, 9, 10))
    assert found.multiplications == 3 * 8 * 9 * 10 * 2 * 5 * 27
    assert found.inference_bytes == 4 * 3 * 8 * 9 * 10 * (2 + 5)


def test_a_network_that_takes_no_such_input() -> None:
    with pytest.raises(BundleError) as caught:
        cost_of(torch.nn.Conv3d(2, 5, 3), 1, 1, (8, 8, 8))
    assert caught.value.code == "cannot-run"


def edited(root: Path, name: str, change: Callable[[dict[str, Any]], object]) -> Bundle:
    path = root / "configs" / f"{name}.yaml"
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config))
    return Bundle(root)


def huge(config: dict[str, Any]) -> None:
    config["network_def"] = {
        "_target_": "monai.networks.nets.UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3,
        "channels": [8192] * 4, "strides": [2, 2, 2], "num_res_units": 8,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["inference", "train"])
def test_a_network_that_no_machine_holds_is_refused_before_it_is_built(make_bundle: MakeBundle, name: str) -> None:
    bundle = edited(make_bundle(), name, huge)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(BundleError) as caught:
        BundleParser(bundle, name, {}).build("network_def")
    assert time.process_time() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB
    assert caught.value.code == "too-large"
    assert "70.7 thousand million parameters, which takes about 263 GiB" in caught.value.message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda c: c["inferer"].update(roi_size=[512, 512, 512]),
            "windows, 2 of 512 x 512 x 512 voxels at once (inferer)",
        ),
        (lambda c: c["inferer"].update(sw_batch_size=64), "windows, 64 of "),
    ],
)
def test_windows_that_fill_the_memory_are_refused(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    bundle = Bundle(make_bundle())
    monkeypatch.setattr(device, "machine_bytes", lambda _: 2**20)
    BundleParser(bundle, "inference", {}).build("network_def")
    with pytest.raises(BundleError) as caught:
        BundleParser(edited(bundle.root, "inference", change), "inference", {}).build("network_def")
    assert caught.value.code == "too-large"
    assert says in caught.value.message
    assert "GiB of memory, and this machine has 0.000977." in caught.value.message


def test_what_would_compute_for_years_is_refused(make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MULTIPLICATIONS", 1e6)
    with pytest.raises(BundleError, match="ends on no machine"):
        BundleParser(Bundle(make_bundle()), "inference", {}).build("network_def")


def test_training_patches_are_judged_before_training_alone(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = edited(make_bundle(), "train", lambda c: c.update(batch_size=256))
    monkeypatch.setattr(device, "machine_bytes", lambda _: 2**22)
    parser = BundleParser(bundle, "train", {})
    parser.build("network_def")
    with pytest.raises(BundleError) as caught:
        parser.build("train#trainer")
    assert caught.value.code == "too-large"
    assert "and is trained on patches, 256 of " in caught.value.message


def test_networks_that_are_described_alike_are_looked_at_once(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def counted(network: torch.nn.Module, batch: int, *rest: Any, **options: Any) -> Any:
        looked.append(batch)
        return cost_of(network, batch, *rest, **options)

    monkeypatch.setattr(module, "cost_of", counted)
    monkeypatch.setattr(module, "_known", {})
    for folder in ("one", "two"):
        BundleParser(Bundle(make_bundle(folder=folder)), "inference", {}).build("network_def")
    other = edited(make_bundle(folder="other"), "inference", lambda c: c["inferer"].update(sw_batch_size=3))
    BundleParser(other, "inference", {}).build("network_def")
    assert looked == [2, 3]


def test_a_network_that_could_not_be_made_once_is_judged_when_it_can(tmp_path: Path) -> None:
    """Else a config that can't be sketched would let a large network of the same description through."""
    config = {"network_def": {"_target_": "monai.networks.nets.UNet", "in_channels": 1, "channels": [16]}}

    def judge(sketch: Callable[[], torch.nn.Module | None]) -> None:
        module.require_affordable(sketch, config, tmp_path, "cpu", training=False)

    judge(lambda: None)
    with on_meta():
        large = torch.nn.Linear(10**7, 10**7)
    with pytest.raises(BundleError) as caught:
        judge(lambda: large)
    assert caught.value.code == "too-large"


def _inlined(config: dict[str, Any]) -> None:
    config["batch_size"] = 256
    config["train"]["preprocessing"]["transforms"] = config["train"].pop("random_transforms")


def _moved(config: dict[str, Any]) -> None:
    config["batch_size"] = 256
    config["train"]["deterministic_transforms"] += config["train"]["random_transforms"]
    config["train"]["random_transforms"] = []


@pytest.mark.parametrize(
    "change", [_inlined, _moved, lambda config: config["train"]["dataloader"].update(batch_size=256)]
)
def test_training_patches_are_found_wherever_they_stand(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None]
) -> None:
    parser = BundleParser(edited(make_bundle(), "train", change), "train", {})
    monkeypatch.setattr(device, "machine_bytes", lambda _: 2**22)
    with pytest.raises(BundleError, match="is trained on patches, 256 of") as caught:
        parser.build("train#trainer")
    assert caught.value.code == "too-large"


def test_a_margin_that_is_cut_off_again_is_no_part_of_a_training_patch(make_plan: MakePlan) -> None:
    plan = make_plan(augmentation=AllChanges((1.0, 1.0, 1.0), (0, 1, 2)))
    config = train_config(plan, "")
    margin = plan.augmentation.margin(plan.patch)
    assert any(side % 4 for side in margin)  # a network of three levels takes no such patch
    assert module._training_patch(config)[0] == plan.patch
    (crop,) = (one for one in config["train"]["random_transforms"] if "margin" in one and "num_classes" in one)  # type: ignore[index, call-overload, union-attr]
    whole = tuple(side + 2 * more for side, more in zip(plan.patch, margin, strict=True))
    assert tuple(crop["spatial_size"]) == whole  # type: ignore[index, call-overload, arg-type]
    (cut,) = (one for one in config["train"]["random_transforms"] if "margin" in one and one is not crop)  # type: ignore[index, call-overload, union-attr]
    for change in ({"margin": [0, 0, 0]}, {"keys": ["label"]}, {"_target_": "monai.transforms.RandFlipd"}):
        changed = deepcopy(config)
        steps = changed["train"]["random_transforms"]  # type: ignore[index, call-overload]
        steps[steps.index(cut)].update(change)  # type: ignore[index, union-attr, call-overload, arg-type]
        assert module._training_patch(changed)[0] == whole  # nothing cuts off what a network would then see
    crop["margin"] = [4096] * 3  # type: ignore[index, call-overload]
    assert module._training_patch(config)[0] == whole


def test_more_classes_than_outputs_are_refused(make_bundle: MakeBundle) -> None:
    """One volume for each: 65,536 of an image of 50 voxels in each direction are 33 GB."""

    def many(config: dict[str, Any]) -> None:
        for step in config["postprocessing"]["transforms"]:
            if step["_target_"].endswith("AsDiscreted"):
                step["to_onehot"] = 65536

    with pytest.raises(BundleError, match="to_onehot counts 65536 classes") as caught:
        BundleParser(edited(make_bundle(), "inference", many), "inference", {}).build("network_def")
    assert caught.value.code == "too-large"


def test_check_tells_it_in_a_sentence(make_bundle: MakeBundle, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = edited(make_bundle(), "inference", huge)
    torch.save({}, bundle.model_path)
    assert main(["check", str(bundle.root)]) == 1
    out = capsys.readouterr().out
    assert "[too-large] configs/inference.yaml: " in out
    assert "263 GiB" in out


def test_a_network_that_reads_its_rates_while_it_is_built_is_reckoned_without_memory() -> None:
    with on_meta():
        network = SwinUNETR(in_channels=1, out_channels=2, feature_size=12)
    assert {tensor.device.type for tensor in network.parameters()} == {"meta"}
    assert cost_of(network, 1, 1, (64, 64, 64)).kept_bytes > 2**28

"""Export: what other programs read gives what the network gives, on a real patch, and holds nothing of this machine."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import yaml

from volseg.bundle import exports
from volseg.bundle.folder import open_bundle
from volseg.bundle.trust import judge
from volseg.bundle.weights import inference_network, load_into
from volseg.errors import BundleError, InputError, OutputExistsError, UsageError
from volseg.verbs import export as verb
from volseg.verbs.check import check
from volseg.verbs.export import ExportOptions, export
from volseg.verbs.trust import trust

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import CopyBundle, MakeBundle, MakePlan, WriteImage


def drawn(bundle: Path) -> Path:
    """The bundle with weights as they were drawn."""
    network = inference_network(open_bundle(bundle))
    assert network is not None
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    return bundle


@pytest.mark.parametrize("name", ["unet", "resenc", "segnet", "segresnet-ds"])
def test_networks_as_torchscript(name: str, make_plan: MakePlan, make_bundle: MakeBundle) -> None:
    bundle = drawn(make_bundle(make_plan(network=name)))
    (found,) = export(bundle, ExportOptions(torchscript=True))
    assert not found.real  # there is no data set
    assert found.difference <= found.tolerance
    loaded = torch.jit.load(bundle / "models" / "model.ts")  # type: ignore[no-untyped-call]
    channels = open_bundle(bundle).metadata["network_data_format"]["inputs"]["image"]["num_channels"]  # type: ignore[index,call-overload]
    batch = torch.rand(2 if found.any_batch else 1, channels, *found.patch)  # type: ignore[arg-type]
    network = inference_network(open_bundle(bundle))
    assert network is not None
    with torch.no_grad():
        expected = load_into(network, bundle / "models" / "model.pt").eval()(batch)
        torch.testing.assert_close(loaded(batch), expected, atol=1e-3, rtol=1e-3)


def test_an_image_of_the_data_set_by_both_formats(copy_bundle: CopyBundle) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    bundle = drawn(copy_bundle())
    config = bundle / "configs" / "inference.yaml"
    config.write_text(config.read_text().replace("dataset_dir: ../data", f"dataset_dir: {bundle.parent}"))
    found = export(bundle, ExportOptions(onnx=True, torchscript=True))
    assert [one.path.name for one in found] == ["model.onnx", "model.ts"]
    assert all(one.any_batch for one in found)
    batch = torch.rand(3, 1, *found[0].patch)
    network = inference_network(open_bundle(bundle))
    assert network is not None
    with torch.no_grad():
        expected = load_into(network, bundle / "models" / "model.pt").eval()(batch).numpy()
    session = runtime.InferenceSession(found[0].path, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"image": batch.numpy()})[0], expected, atol=1e-3)
    held = {one.key: json.loads(one.value) for one in onnx.load(found[0].path).metadata_props}
    assert held["volseg.json"]["labels"] == {"1": "shell", "2": "core"}
    assert held["volseg.json"]["spacing_mm"] == pytest.approx([1.0, 1.0, 1.2])
    extra = {"metadata.json": "", "volseg.json": ""}
    torch.jit.load(found[1].path, _extra_files=extra)  # type: ignore[no-untyped-call]
    assert json.loads(extra["metadata.json"]) == json.loads((bundle / "configs" / "metadata.json").read_text())
    for one in found:
        content = one.path.read_bytes()
        assert b"site-packages" not in content
        assert str(bundle.parent).encode() not in content
    assert check(bundle).exit_code == 0
    with pytest.raises(OutputExistsError, match="--overwrite"):
        export(bundle, ExportOptions(torchscript=True))


def test_a_named_image_is_compared_on(copy_bundle: CopyBundle, cohort: Path, write_image: WriteImage) -> None:
    bundle = drawn(copy_bundle())
    image = cohort / "imagesTs" / "case_10.nii.gz"
    (found,) = export(bundle, ExportOptions(torchscript=True, image=(image,)))
    assert found.real
    assert "named" in found.of
    two = write_image(bundle.parent / "two.nii.gz", np.zeros((8, 8, 8, 2), np.float32))
    with pytest.raises(UsageError, match="2 channels"):
        export(bundle, ExportOptions(torchscript=True, image=(two,), overwrite=True))


def test_a_file_that_gives_something_else_is_not_written(
    copy_bundle: CopyBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = drawn(copy_bundle())

    def wrong(content: bytes, batch: torch.Tensor) -> torch.Tensor:
        return torch.jit.load(io.BytesIO(content))(batch).detach() + 0.1  # type: ignore[no-any-return,no-untyped-call]

    monkeypatch.setattr(exports.TorchScript, "run", wrong)
    with pytest.raises(BundleError, match="something else"):
        export(bundle, ExportOptions(torchscript=True))
    assert {path.name for path in (bundle / "models").iterdir()} == {"model.pt"}


def test_what_can_not_be_exported_is_one_sentence(copy_bundle: CopyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = copy_bundle()
    with pytest.raises(UsageError, match="--onnx, --torchscript"):
        export(bundle)
    with pytest.raises(BundleError, match="no weights yet"):
        export(bundle, ExportOptions(torchscript=True))
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="GPU"):
            export(bundle, ExportOptions(tensorrt=True))
    monkeypatch.setattr(exports, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"volseg\[onnx\]"):
        export(bundle, ExportOptions(onnx=True))
    drawn(bundle)

    def fails(*_: object) -> bytes:
        raise RuntimeError("INTERNAL ASSERT FAILED at /somewhere/x.cpp\nmore")

    monkeypatch.setattr(exports.TorchScript, "make", fails)
    with pytest.raises(BundleError, match="can't be exported with --torchscript") as error:
        export(bundle, ExportOptions(torchscript=True))
    assert "\n" not in error.value.message
    assert "somewhere" not in error.value.message


def test_a_trusted_bundle_stays_trusted(copy_bundle: CopyBundle) -> None:
    bundle = drawn(copy_bundle())
    config = bundle / "configs" / "inference.yaml"
    config.write_text(f"{config.read_text()}\nextra: '$1 + 1'\n")
    trust(bundle)
    assert judge(open_bundle(bundle)).trusted
    (found,) = export(bundle, ExportOptions(torchscript=True))
    assert judge(open_bundle(bundle)).trusted
    found.path.write_bytes(b"another")
    assert not judge(open_bundle(bundle)).trusted


class Pair(torch.nn.Module):
    """Gives two outputs."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return image, image


class Endless(torch.nn.Module):
    """Gives what is no number."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image / 0


@pytest.mark.parametrize(
    ("network", "said"), [(Pair(), "Pair gives several outputs"), (Endless(), "not finite on this patch")]
)
def test_a_network_whose_output_can_not_be_compared_is_refused(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch, network: torch.nn.Module, said: str
) -> None:
    bundle = make_bundle()
    (bundle / "models" / "model.pt").write_bytes(b"weights")
    monkeypatch.setattr(verb, "_network", lambda *_: (bundle / "models" / "model.pt", network))
    with pytest.raises(BundleError, match=said):
        export(bundle, ExportOptions(torchscript=True))
    assert not (bundle / "models" / "model.ts").exists()


def spoiled(bundle: Path, name: str, place: str) -> Path:
    """The bundle without a part of a config."""
    path = bundle / "configs" / name
    content = yaml.safe_load(path.read_text())
    *parts, last = place.split("#")
    inside = content
    for part in parts:
        inside = inside[part]
    del inside[last]
    path.write_text(json.dumps(content) if path.suffix == ".json" else yaml.safe_dump(content))
    return bundle


def test_a_bundle_that_does_not_say_what_its_network_takes_is_refused(make_bundle: MakeBundle) -> None:
    channels = "network_data_format#inputs#image#num_channels"
    with pytest.raises(BundleError, match="how many channels the input image has"):
        export(spoiled(drawn(make_bundle(folder="one")), "metadata.json", channels), ExportOptions(torchscript=True))
    bundle = spoiled(drawn(make_bundle()), "inference.yaml", "inferer")
    shape = spoiled(bundle, "metadata.json", "network_data_format#inputs#image#spatial_shape")
    with pytest.raises(BundleError, match="which size its network takes"):
        export(shape, ExportOptions(torchscript=True))


def test_an_image_that_is_not_finite_is_refused(make_bundle: MakeBundle, write_image: WriteImage) -> None:
    image = write_image(make_bundle().parent / "image.nii.gz", np.full((8, 8, 8), np.nan, np.float32))
    with pytest.raises(InputError, match="not finite numbers"):
        export(drawn(image.parent / "bundle"), ExportOptions(torchscript=True, image=image))

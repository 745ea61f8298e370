"""Formats of other programs, with networks of a layer: what a file holds, and what is refused in a sentence."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest
import torch

from volseg.bundle import exports
from volseg.bundle.exports import Onnx, TensorRT, TorchScript, describe, refusals
from volseg.errors import BundleError, UsageError


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Conv3d(1, 2, 3, padding=1).eval()


def test_a_torchscript_gives_what_the_network_gives_and_names_no_place_of_this_machine(
    network: torch.nn.Module,
) -> None:
    batch = torch.rand(1, 1, 4, 4, 4)
    content = TorchScript.make(network, batch, {"volseg.json": b'{"a": 1}'})
    torch.testing.assert_close(TorchScript.run(content, batch), network(batch).detach())
    with ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        (about,) = [name for name in names if name.endswith("extra/volseg.json")]
        assert json.loads(archive.read(about)) == {"a": 1}
    assert not any(name.endswith("debug_pkl") for name in names)
    assert __file__.encode() not in content


def test_onnx_is_made_for_one_batch_size_where_a_network_takes_no_other(
    network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    asked: list[tuple[int, bool]] = []

    def export(_: object, inputs: tuple[torch.Tensor], *, dynamic_shapes: object, **__: object) -> Any:
        asked.append((len(inputs[0]), dynamic_shapes is not None))
        if dynamic_shapes is not None:
            raise RuntimeError("batch is fixed")
        model = onnx.ModelProto()
        node = model.graph.node.add()
        node.doc_string = "File /home/somebody/net.py, line 7"
        node.metadata_props.add().value = "/home/somebody"
        return SimpleNamespace(model_proto=model)

    monkeypatch.setattr(torch.onnx, "export", export)
    content = Onnx.make(network, torch.zeros(1, 1, 4, 4, 4), {"volseg.json": b"{}"})
    assert asked == [(2, True), (1, False)]
    assert b"somebody" not in content
    (entry,) = onnx.load_from_string(content).metadata_props
    assert (entry.key, entry.value) == ("volseg.json", "{}")
    monkeypatch.setattr(exports, "MAX_ONNX_BYTES", 8)
    with pytest.raises(BundleError, match="larger than an ONNX file can be"):
        Onnx.make(network, torch.zeros(1, 1, 4, 4, 4), {"volseg.json": b"{}"})


def test_what_the_exporter_refuses_twice_is_raised(network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(*_: object, **__: object) -> Any:
        raise NotImplementedError("aten::max_unpool3d")

    monkeypatch.setattr(torch.onnx, "export", export)
    with pytest.raises(BundleError, match="Conv3d can't be exported with --onnx") as caught, refusals(Onnx, network):
        Onnx.make(network, torch.zeros(1, 1, 4, 4, 4), {})
    assert caught.value.code == "cannot-export"


def test_an_exporter_is_silent_and_volsegs_own_refusal_stays(
    network: torch.nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    with refusals(TorchScript, network):
        print("noise")
    assert capsys.readouterr() == ("", "")
    with pytest.raises(UsageError, match="mine"), refusals(TorchScript, network):
        raise UsageError("mine")


def test_tensorrt_needs_a_gpu_and_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="has none that torch can use"):
        TensorRT.require()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(exports, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="needs the Python package torch_tensorrt"):
        TensorRT.require()


def test_the_same_values_are_the_same_bytes() -> None:
    assert describe({"b": 1, "a": "\N{GREEK SMALL LETTER MU}"}) == describe({"a": "\N{GREEK SMALL LETTER MU}", "b": 1})
    assert describe({"a": "\N{GREEK SMALL LETTER MU}"}).isascii()

"""A network in the formats of other programs: how each is made, and how it is run to be compared."""

from __future__ import annotations

import io
import json
import logging
import warnings
from abc import ABC, abstractmethod
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from volseg.causes import cause_of
from volseg.errors import BundleError, UsageError, VolsegError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor
    from torch.nn import Module

MAX_ONNX_BYTES = 2**31
"""Protocol Buffers hold no more in one file."""
MAX_BATCH = 64
_JIT: Any = torch.jit
"""Without types."""


class Format(ABC):
    """One format."""

    option: ClassVar[str]
    """As the command line has it."""
    name: ClassVar[str]
    """Of the file in ``models/``, by MONAI's conventions."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Packages that it is made and compared with."""
    how: ClassVar[str] = ""
    """What to do where they are not installed."""

    @classmethod
    def require(cls) -> None:
        """Refuse what this machine can't make.

        Raises:
            UsageError: a package, or a GPU, is missing.
        """
        lacking = [package for package in cls.needs if find_spec(package) is None]
        if lacking:
            raise UsageError(f"--{cls.option} needs the Python package {lacking[0]}, which is not installed. {cls.how}")

    @classmethod
    @abstractmethod
    def make(cls, network: Module, patch: Tensor, about: Mapping[str, bytes]) -> bytes:
        """The network as a file's content; batches may have any size where the network allows it."""

    @classmethod
    @abstractmethod
    def run(cls, content: bytes, batch: Tensor) -> Tensor:
        """What the file makes of a batch, by other means than the network."""


class Onnx(Format):
    """ONNX, compared by ONNX Runtime."""

    option = "onnx"
    name = "model.onnx"
    needs = ("onnx", "onnxscript", "onnxruntime")
    how = "Install what it needs with: pip install 'volseg[onnx]'"

    @classmethod
    def make(cls, network: Module, patch: Tensor, about: Mapping[str, bytes]) -> bytes:
        """By torch's exporter, of any batch size, or of one where the network is not made for others."""
        error: Exception | None = None
        for shapes in (({0: torch.export.Dim("batch", min=1, max=MAX_BATCH)},), None):
            try:
                program = torch.onnx.export(
                    network,
                    (patch,) if shapes is None else (torch.cat([patch, patch]),),
                    input_names=["image"],
                    output_names=["pred"],
                    dynamic_shapes=shapes,
                    dynamo=True,
                    verbose=False,
                )
                break
            except Exception as refused:  # noqa: BLE001  the exporter may raise anything
                error = refused
        else:
            raise error or RuntimeError
        model = program.model_proto  # type: ignore[union-attr]
        _forget_places(model)
        for key, value in about.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value.decode()
        if model.ByteSize() >= MAX_ONNX_BYTES:
            raise BundleError("The network is larger than an ONNX file can be, 2 GiB.", code="cannot-export")
        return bytes(model.SerializeToString())

    @classmethod
    def run(cls, content: bytes, batch: Tensor) -> Tensor:
        """By ONNX Runtime on the CPU."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(["pred"], {"image": batch.numpy()})[0])


def _forget_places(model: Any) -> None:
    """Remove torch's notes of which lines of which files of this machine computed what."""
    parts = [model.graph, *model.functions]
    for part in parts:
        for one in (part, *part.node, *part.value_info, *getattr(part, "input", ()), *getattr(part, "output", ())):
            if hasattr(one, "metadata_props"):
                del one.metadata_props[:]
            if hasattr(one, "doc_string"):
                one.ClearField("doc_string")


class TorchScript(Format):
    """TorchScript, as MONAI Deploy takes it."""

    option = "torchscript"
    name = "model.ts"

    @classmethod
    def make(cls, network: Module, patch: Tensor, about: Mapping[str, bytes]) -> bytes:
        """Traced, since not every network of MONAI's can be scripted."""
        with torch.no_grad():
            traced = _JIT.trace(network, patch, check_trace=False)
        return _saved(traced, about)

    @classmethod
    def run(cls, content: bytes, batch: Tensor) -> Tensor:
        """By torch's interpreter."""
        loaded = _JIT.load(io.BytesIO(content), map_location="cpu")
        with torch.no_grad():
            found: Tensor = loaded(batch)
        return found


class TensorRT(TorchScript):
    """A TorchScript that holds TensorRT engines for the GPU of this machine."""

    option = "tensorrt"
    name = "model_trt.ts"
    needs = ("torch_tensorrt",)
    how = "NVIDIA's torch-tensorrt has to be installed beside a torch for the same CUDA, on a machine with a GPU."

    @classmethod
    def require(cls) -> None:
        """Refuse a machine without a GPU, or without torch-tensorrt."""
        if not torch.cuda.is_available():
            raise UsageError(
                "--tensorrt makes engines for the GPU of this machine, and it has none that torch can use."
            )
        super().require()

    @classmethod
    def make(cls, network: Module, patch: Tensor, about: Mapping[str, bytes]) -> bytes:  # pragma: no cover  needs a GPU
        """By torch-tensorrt, in float32, for batches of up to four."""
        import torch_tensorrt

        shape = tuple(patch.shape[1:])
        sizes = torch_tensorrt.Input(min_shape=(1, *shape), opt_shape=(1, *shape), max_shape=(4, *shape))
        traced = _JIT.trace(network.cuda(), patch.cuda(), check_trace=False)
        made = torch_tensorrt.compile(traced, ir="torchscript", inputs=[sizes], enabled_precisions={torch.float32})
        network.cpu()
        return _saved(made, about)

    @classmethod
    def run(cls, content: bytes, batch: Tensor) -> Tensor:  # pragma: no cover  needs a GPU
        """On the GPU."""
        import torch_tensorrt  # noqa: F401  registers the engines

        with torch.no_grad():
            found: Tensor = _JIT.load(io.BytesIO(content))(batch.cuda())
        return found.cpu()


def _saved(script: Any, about: Mapping[str, bytes]) -> bytes:
    """A TorchScript as a file, without torch's notes of where on this machine each line was computed."""
    whole, content = io.BytesIO(), io.BytesIO()
    _JIT.save(script, whole, _extra_files=dict(about))
    whole.seek(0)
    reader: Any = torch._C.PyTorchFileReader(whole)
    writer: Any = torch._C.PyTorchFileWriter(content)
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in ("version", "byteorder", ".data/serialization_id"):
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    return content.getvalue()


FORMATS: tuple[type[Format], ...] = (Onnx, TorchScript, TensorRT)


@contextmanager
def refusals(form: type[Format], network: Module) -> Iterator[None]:
    """Silence an exporter, and turn what it raises into a sentence.

    Raises:
        BundleError: the network can't be exported.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    except VolsegError:
        raise
    except Exception as error:
        raise BundleError(
            f"{type(network).__name__} can't be exported with --{form.option}: {cause_of(error).clause}. "
            "--debug shows where.",
            code="cannot-export",
        ) from error


def describe(values: Mapping[str, Any]) -> bytes:
    """As JSON, the same bytes for the same values."""
    return json.dumps(values, sort_keys=True, ensure_ascii=True).encode()

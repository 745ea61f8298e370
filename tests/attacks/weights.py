"""Weights that are pickled code, bombs, links, devices, or numbers that are none."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.attacks.attack import Attacks
from tests.attacks.bombs import GIGABYTES, write_zip
from tests.attacks.scene import REFUSED, Command, Scene

WEIGHTS = Attacks("weights")


class Reduced:
    """Pickles as a call of this function."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


def pickled(scene: Scene, protocol: int = 2) -> bytes:
    """A plain pickle whose loading wakes the canary."""
    return pickle.dumps(Reduced(exec, scene.marker), protocol)


def opcodes(module: str, name: str, argument: str) -> bytes:
    """A pickle that calls ``module.name(argument)``, made of the oldest opcodes."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


def archive(path: Path, data: bytes, *, name: str = "archive", **more: bytes) -> Path:
    """What ``torch.save`` writes, around any pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}/data.pkl", data)
        file.writestr(f"{name}/version", "3\n")
        file.writestr(f"{name}/byteorder", "little")
        for member, content in more.items():
            file.writestr(f"{name}/{member.replace('__', '/')}", content)
    return path


def _sound(scene: Scene) -> bytes:
    return (scene.base.bundle / "models" / "model.pt").read_bytes()


def _state(scene: Scene) -> OrderedDict[str, Any]:
    import torch

    return OrderedDict(torch.load(scene.base.bundle / "models" / "model.pt", weights_only=True))


Spoil = Callable[[Scene, Path], object]
SPOILED: dict[str, tuple[Spoil, str]] = {}


def spoiled(name: str, aim: str) -> Callable[[Spoil], Spoil]:
    def gather(spoil: Spoil) -> Spoil:
        SPOILED[name] = (spoil, aim)
        return spoil

    return gather


def _write(name: str, aim: str, content: Callable[[Scene], bytes]) -> None:
    SPOILED[name] = (lambda scene, path: path.write_bytes(content(scene)), aim)


_write("pickle", "a plain pickle that runs code", pickled)
_write("pickle-protocol-0", "the same, as text", lambda s: pickled(s, 0))
_write("pickle-protocol-5", "the same, of the newest protocol", lambda s: pickled(s, 5))
_write("pickle-os-system", "a pickle that runs a shell", lambda s: opcodes("os", "system", s.shell))
_write("pickle-posix-system", "the same by its other name", lambda s: opcodes("posix", "system", s.shell))
_write("pickle-eval", "a pickle that evaluates", lambda s: opcodes("builtins", "eval", s.marker))
_write("pickle-run", "a pickle that runs a module's code", lambda s: opcodes("timeit", "timeit", s.marker))
_write("pickle-pip", "a pickle that calls pip", lambda s: opcodes("pip", "main", "--help"))
_write(
    "pickle-numpy-exec",
    "a pickle through numpy's testing helpers",
    lambda s: opcodes("numpy.testing._private.utils", "runstring", s.marker),
)
_write(
    "pickle-torch-jit",
    "a pickle through torch's own helpers",
    lambda s: opcodes("torch._dynamo.guards", "eval", s.marker),
)
_write("pickle-monai", "a pickle through MONAI's configs", lambda s: opcodes("monai.bundle.utils", "eval", s.marker))
_write("pickle-deep", "a pickle of a hundred thousand nested lists", lambda _: b"(l" * 100_000 + b"a" * 99_999 + b".")
_write(
    "pickle-memo-bomb",
    "a pickle whose text doubles thirty times",
    lambda _: b"(lp0\n" + b"".join(b"(lp%d\n" % n + b"g%d\na" % (n - 1) * 10 for n in range(1, 12)) + b".",
)
_write(
    "pickle-long", "a pickle that claims a text of 2 GB", lambda _: b"\x80\x04\x8d" + struct.pack("<Q", 2**31) + b"x."
)
_write(
    "pickle-frame",
    "a pickle that claims a frame of 2^60 bytes",
    lambda _: b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b".",
)
_write("empty", "no bytes", lambda _: b"")
_write("text", "a text", lambda _: b"not weights at all\n" * 10)
_write("zeros", "zeros", lambda _: b"\0" * 100_000)
_write("noise", "noise", lambda _: os.urandom(100_000))
_write(
    "cut",
    "a sound file cut in the middle",
    lambda s: _sound(s)[: len(_sound(s)) // 2],
)
_write(
    "flipped",
    "a sound file with bytes of its directory changed",
    lambda s: _sound(s)[:-60] + bytes(255 - x for x in _sound(s)[-60:-40]) + _sound(s)[-40:],
)
_write("html", "a page that says that one has to log in", lambda _: b"<!DOCTYPE html><html>Sign in</html>")
_write(
    "git-lfs", "a pointer of Git LFS", lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
)
_write("safetensors-claim", "safetensors whose header claims 2^60 bytes", lambda _: struct.pack("<Q", 2**60) + b"{}")


@spoiled("archive-pickle", "torch's zip around a pickle that runs code")
def _(scene: Scene, path: Path) -> None:
    archive(path, pickled(scene))


@spoiled("archive-getattr", "torch's zip around a pickle that climbs through getattr")
def _(scene: Scene, path: Path) -> None:
    archive(path, f"cbuiltins\ngetattr\n(cimportlib\nimport_module\n(Vos\ntRVsystem\ntR(V{scene.shell}\ntR.".encode())


@spoiled("archive-setattr", "a tensor whose state sets attributes to code")
def _(scene: Scene, path: Path) -> None:
    archive(
        path,
        b"ctorch._utils\n_rebuild_tensor_v2\n(ctorch.nn.modules.module\nModule\ntR(dV__reduce__\nV"
        + scene.marker.encode()
        + b"\nsb.",
    )


@spoiled("archive-build-of-a-type", "a state set on an allowed type")
def _(scene: Scene, path: Path) -> None:
    archive(path, b"ccollections\nOrderedDict\n)R(dV__class__\ncos\nsystem\nsb.")


@spoiled("archive-of-a-module", "a whole module, not its weights")
def _(scene: Scene, path: Path) -> None:
    import torch

    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), path)


@spoiled("archive-two-pickles", "an archive with a second data.pkl under the same name")
def _(scene: Scene, path: Path) -> None:
    import warnings

    shutil.copy(scene.base.bundle / "models" / "model.pt", path)
    with zipfile.ZipFile(path, "a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.writestr(next(n for n in file.namelist() if n.endswith("data.pkl")), pickled(scene))


@spoiled("archive-by-dots", "an archive whose members lie outside")
def _(scene: Scene, path: Path) -> None:
    shutil.copy(scene.base.bundle / "models" / "model.pt", path)
    with zipfile.ZipFile(path, "a") as file:
        for name in ("../../../outside/victim/keep.txt", str(scene.victim / "keep.txt"), "..\\..\\x"):
            file.writestr(name, "overwritten")


@spoiled("archive-bomb", "an archive that unpacks to 3.8 GB")
def _(scene: Scene, path: Path) -> None:
    write_zip(path, "archive/data.pkl", b"", GIGABYTES)


@spoiled("archive-bomb-of-data", "a sound pickle, and its data compressed from 3.8 GB")
def _(scene: Scene, path: Path) -> None:
    with zipfile.ZipFile(scene.base.bundle / "models" / "model.pt") as sound:
        names = sound.namelist()
        first = next(name for name in names if "/data/" in name)
        contents = {name: sound.read(name) for name in names if name != first}
    write_zip(path, first, b"", GIGABYTES)
    with zipfile.ZipFile(path, "a") as file:
        for name, content in contents.items():
            file.writestr(name, content)


@spoiled("archive-of-many-members", "an archive of 20,000 empty members")
def _(scene: Scene, path: Path) -> None:
    shutil.copy(scene.base.bundle / "models" / "model.pt", path)
    with zipfile.ZipFile(path, "a") as file:
        for number in range(20_000):
            file.writestr(f"archive/data/x{number}", "")


@spoiled("legacy", "torch's format before zip, with a pickle that runs code")
def _(scene: Scene, path: Path) -> None:
    magic = 0x1950A86A20F9469CFC6C
    parts = [pickle.dumps(magic, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2), pickled(scene)]
    path.write_bytes(b"".join(parts))


@spoiled("legacy-sound", "torch's format before zip, with the weights of this very network")
def _(scene: Scene, path: Path) -> None:
    import torch

    torch.save(_state(scene), path, _use_new_zipfile_serialization=False)


@spoiled("tar", "torch's oldest format, a tar of pickles that run code")
def _(scene: Scene, path: Path) -> None:
    with tarfile.open(path, "w") as file:
        for name in ("pickle", "storages", "tensors", "sys_info"):
            entry = tarfile.TarInfo(name)
            content = pickled(scene)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
        for name in ("../../../outside/victim/keep.txt", str(scene.victim / "keep.txt")):
            file.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(scene.outside / "secret.txt")
        file.addfile(link)


@spoiled("torchscript", "an archive of TorchScript where weights are expected")
def _(scene: Scene, path: Path) -> None:
    archive(path, pickled(scene), constants_pkl=pickled(scene), code____torch__py=scene.marker.encode())
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/constants.pkl", pickled(scene))
        file.writestr("archive/code/__torch__.py", scene.marker)


@spoiled("torchscript-sound", "a sound TorchScript program, which is code")
def _(scene: Scene, path: Path) -> None:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Conv3d(1, 3, 1), torch.zeros(1, 1, 4, 4, 4)), str(path))


def _tensors(name: str, aim: str, change: Callable[[OrderedDict[str, Any]], object]) -> None:
    def spoil(scene: Scene, path: Path) -> None:
        import torch

        state = _state(scene)
        changed = change(state)
        torch.save(changed if changed is not None else state, path)

    SPOILED[name] = (spoil, aim)


def _first(change: Callable[[Any], Any]) -> Callable[[OrderedDict[str, Any]], None]:
    def spoil(state: OrderedDict[str, Any]) -> None:
        name = next(iter(state))
        state[name] = change(state[name])

    return spoil


def _fill(value: float) -> Callable[[OrderedDict[str, Any]], None]:
    def change(tensor: Any) -> Any:
        tensor = tensor.clone()
        tensor.view(-1)[7] = value
        return tensor

    return _first(change)


_tensors("nan", "one weight that is no number: label 1 everywhere, exit code 0", _fill(float("nan")))
_tensors("infinite", "one infinite weight", _fill(float("inf")))
_tensors("minus-infinite", "one negative infinite weight", _fill(float("-inf")))
_tensors(
    "huge",
    "weights whose products overflow to infinity",
    lambda state: [state.update({name: tensor * 1e38}) for name, tensor in list(state.items())] and None,
)
_tensors(
    "all-nan",
    "no weight is a number",
    lambda state: [state.update({name: tensor * float("nan")}) for name, tensor in list(state.items())] and None,
)
_tensors(
    "claim-by-stride",
    "a tensor of 10^12 elements over one number",
    _first(lambda tensor: tensor.flatten()[:1].expand(10**6, 10**6)),
)
_tensors("other-shape", "a tensor of another shape", _first(lambda tensor: tensor[..., :1].clone()))
_tensors("integers", "a tensor of integers", _first(lambda tensor: tensor.int()))
_tensors("complex", "a tensor of complex numbers", _first(lambda tensor: tensor * 1j))
_tensors("sparse", "a sparse tensor", _first(lambda tensor: tensor.to_sparse()))
_tensors("on-meta", "a tensor without storage", _first(lambda tensor: tensor.to("meta")))
_tensors("text-instead", "text where a tensor is expected", _first(lambda _: "text"))
_tensors("none-instead", "nothing where a tensor is expected", _first(lambda _: None))
_tensors("missing", "a tensor is missing", lambda state: state.popitem() and None)
_tensors("another-network", "weights of another network", lambda _: {"a": __import__("torch").zeros(3)})
_tensors("empty-dictionary", "a dictionary of nothing", lambda _: {})
_tensors("list", "a list of tensors", lambda state: list(state.values()))
_tensors("nested", "weights under a thousand keys in each other", lambda state: _nest(state))
_tensors("of-itself", "a dictionary that holds itself", lambda state: _circle(state))
_tensors(
    "many-keys",
    "200,000 more keys",
    lambda state: state.update({f"extra.{number}": __import__("torch").zeros(1) for number in range(20_000)}),
)
_tensors(
    "names-forge",
    "names of tensors that hold line breaks",
    lambda state: state.update(
        {"extra\nFORGED all is well\n": __import__("torch").zeros(1), "\x1b[2J": __import__("torch").zeros(1)}
    ),
)
_tensors(
    "names-of-numbers", "keys that are no text", lambda state: state.update({1: __import__("torch").zeros(1), None: 2})
)


def _nest(state: object) -> object:
    for _ in range(900):
        state = {"model": state}
    return state


def _circle(state: Any) -> Any:
    state["self"] = state
    return {"model": state}


@spoiled("claim-of-storage", "a tensor that claims a petabyte of storage")
def _(scene: Scene, path: Path) -> None:
    import torch

    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, buffer)
    with zipfile.ZipFile(buffer) as file:
        name = file.namelist()[0].split("/")[0]
        data = file.read(f"{name}/data.pkl")
    # The pickle holds the number of elements, 3, as BININT1 (K\x03); LONG1 takes its place.
    huge = b"\x8a\x07" + (10**15).to_bytes(7, "little")
    archive(path, data.replace(b"K\x03", huge), name=name, data__0=bytes(12))


@spoiled("folder", "a folder under the name of the weights")
def _(scene: Scene, path: Path) -> None:
    path.mkdir()
    (path / "data.pkl").write_bytes(pickled(scene))


@spoiled("folder-unpacked", "an unpacked archive under the name of the weights")
def _(scene: Scene, path: Path) -> None:
    with zipfile.ZipFile(scene.base.bundle / "models" / "model.pt") as file:
        file.extractall(path)
    next(path.rglob("data.pkl")).write_bytes(pickled(scene))


@spoiled("fifo", "a FIFO under the name of the weights")
def _(scene: Scene, path: Path) -> None:
    os.mkfifo(path)


@spoiled("link-outside", "a link to the person's own file")
def _(scene: Scene, path: Path) -> None:
    path.symlink_to(scene.outside / "secret.txt")


@spoiled("link-to-a-device", "a link to /dev/zero")
def _(scene: Scene, path: Path) -> None:
    path.symlink_to("/dev/zero")


@spoiled("link-to-itself", "a link to itself")
def _(scene: Scene, path: Path) -> None:
    path.symlink_to(path.name)


@spoiled("sparse-file", "a file of a terabyte that takes no room")
def _(scene: Scene, path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


# Weights of these kinds are no weights of the network, so a mask made with them would lie.
FINE = {"legacy-sound", "archive-by-dots", "archive-two-pickles", "many-keys", "names-forge", "names-of-numbers",
        "nested", "of-itself", "integers", "archive-of-many-members", "sparse", "claim-by-stride"}  # fmt: skip


def _predicted(name: str) -> Callable[[Scene], list[Command]]:
    def build(scene: Scene) -> list[Command]:
        bundle = scene.bundle()
        path = bundle / "models" / "model.pt"
        path.unlink()
        SPOILED[name][0](scene, path)
        codes = {} if name in FINE else {"codes": REFUSED}
        return [scene.check(bundle), scene.predict(bundle, **codes)]

    return build


for _name, (_, _aim) in SPOILED.items():
    WEIGHTS.add(_name, _aim, _predicted(_name))


def _resumed(name: str, file: str) -> Callable[[Scene], list[Command]]:
    def build(scene: Scene) -> list[Command]:
        scene.data()
        bundle = scene.bundle()
        path = bundle / "runs" / "fold_0" / file
        path.unlink(missing_ok=True)
        SPOILED[name][0](scene, path)
        return [
            scene.train(bundle, "--data", scene.work / "data", "--epochs", "2"),
            scene.predict(bundle, None, "--fold", "0"),
        ]

    return build


for _file in ("last.pt", "best.pt", "final.pt"):
    for _name in ("pickle", "archive-pickle", "legacy", "fifo", "nan", "link-outside", "text", "folder"):
        WEIGHTS.add(f"{_name}-as-{_file}", f"{SPOILED[_name][1]}, as a run's {_file}", _resumed(_name, _file))


@WEIGHTS("beside", "other files with code beside the weights: model.ts, model.pkl, an algorithm of Auto3DSeg")
def _(scene: Scene) -> list[Command]:
    bundle = scene.bundle()
    for name in ("models/model.ts", "models/model.pkl", "algo_object.pkl", "models/model.onnx", "models/model_key.pt",
                 "models/search_code.pt", "configs/model.pt", "runs/fold_0/optimizer.pt"):  # fmt: skip
        (bundle / name).write_bytes(pickled(scene))
    (bundle / "models" / "evil.json").write_text(json.dumps({"path": str(scene.outside / "secret.txt")}))
    scene.data()
    return [scene.check(bundle), scene.predict(bundle), scene.train(bundle, "--data", scene.work / "data")]


@WEIGHTS("damaged-in-a-foreign-config", "damaged weights that another's config loads")
def _(scene: Scene) -> list[Command]:
    from tests.attacks.foreign import foreign_bundle

    bundle = foreign_bundle(scene)
    (bundle / "models" / "model.pt").write_bytes(b"damaged" * 1000)
    return [scene.check(bundle, codes=REFUSED), scene.trust(bundle), scene.predict(bundle, codes=REFUSED)]


@WEIGHTS("nan-in-a-foreign-config", "a weight that is no number in a trusted bundle")
def _(scene: Scene) -> list[Command]:
    from tests.attacks.foreign import foreign_bundle

    bundle = foreign_bundle(scene)
    SPOILED["nan"][0](scene, bundle / "models" / "model.pt")
    return [scene.trust(bundle, codes=frozenset({0})), scene.predict(bundle, codes=REFUSED)]

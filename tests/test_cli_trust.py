"""A stranger's bundle on the command line: nothing of it runs unasked, in no verb.

Each attack leaves a canary file when it runs. Most are live: once the bundle is trusted and built, the canary is there,
which shows that it was the refusal that kept it away.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from tests.conftest import uncounted
from volseg.bundle.folder import Bundle, open_bundle
from volseg.bundle.trust import judge
from volseg.cli.main import main
from volseg.verbs.trust import examine

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import MakeBundle, MakeDataset, WriteImage

    Config = dict[str, Any]

EVIL_MODULE = """
from pathlib import Path
Path({canary!r}).touch()

class Reader:
    def __init__(self, *args, **kwargs):
        pass

class Writer(Reader):
    pass
"""


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.canary,))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def image(tmp_path: Path, write_image: WriteImage) -> Path:
    return write_image(tmp_path / "scan.nii.gz", np.zeros((8, 8, 8), np.int16))


def touch(canary: Path) -> str:
    return f"__import__('pathlib').Path({str(canary)!r}).touch()"


def _expression(config: Config, canary: Path) -> None:
    config["network_def"]["in_channels"] = f"$[1, {touch(canary)}][0]"


def _nested(config: Config, canary: Path) -> None:
    config["network_def"]["strides"] = [[2, 2, f"$[2, {touch(canary)}][0]"], [2, 2, 2]]


def _description(config: Config, canary: Path) -> None:
    config["network_def"]["_desc_"] = ["about", {"this": f"${touch(canary)}"}]


def _required(config: Config, canary: Path) -> None:
    config["network_def"]["_requires_"] = f"${touch(canary)}"


def _disabled(config: Config, canary: Path) -> None:
    config["network_def"]["_disabled_"] = f"$str(bool({touch(canary)}))"


def _referred(config: Config, canary: Path) -> None:
    config["count"] = {"of": [f"$[1, {touch(canary)}][0]"]}
    config["network_def"]["in_channels"] = "@count#of#0"


def _import(config: Config, canary: Path) -> None:
    del canary
    config["imports"].append("$import evil")


def _import_from(config: Config, canary: Path) -> None:
    del canary
    config["imports"] = {"torch": "$import torch", "glob": "$import glob", "x": "$from evil import Reader"}


def _target(config: Config, canary: Path) -> None:
    config["network_def"]["dropout"] = {"_target_": "os.system", "command": f"touch '{canary}'"}


def _target_of_the_bundle(config: Config, canary: Path) -> None:
    del canary
    config["preprocessing"] = {"_target_": "evil.Reader"}


def _target_by_expression(config: Config, canary: Path) -> None:
    config["network_def"]["dropout"] = {"_target_": "$__import__('os').system", "command": f"touch '{canary}'"}


def _target_by_reference(config: Config, canary: Path) -> None:
    config["which"] = "os.system"
    config["network_def"]["dropout"] = {"_target_": "@which", "command": f"touch '{canary}'"}


def _target_as_callable(config: Config, canary: Path) -> None:
    steps = config["preprocessing"]["transforms"]
    steps.insert(0, {"_target_": "subprocess.call", "args": ["touch", str(canary)], "_mode_": "callable"})


def _reader(config: Config, canary: Path) -> None:
    del canary
    config["preprocessing"]["transforms"][0]["reader"] = "evil.Reader"


def _writer(config: Config, canary: Path) -> None:
    del canary
    config["postprocessing"]["transforms"][-1]["writer"] = "evil.Writer"


def _macro(config: Config, canary: Path) -> None:
    other = canary.parent / "bundle" / "configs" / "other.yaml"
    other.write_text(yaml.safe_dump({"count": f"$[1, {touch(canary)}][0]"}))
    config["network_def"]["in_channels"] = f"%{other}#count"


def _relative_macro(config: Config, canary: Path) -> None:
    config["network_def"]["in_channels"] = "%##count"
    config["count"] = f"$[1, {touch(canary)}][0]"


def _path_as_key(config: Config, canary: Path) -> None:
    config["volseg_postprocessing"] = {"a::b": f"$[1, {touch(canary)}][0]"}
    config["network_def"]["in_channels"] = "@volseg_postprocessing#a#b"


LIVE: dict[str, Callable[[dict[str, Any], Path], None]] = {
    function.__name__.lstrip("_"): function
    for function in (
        _expression, _nested, _description, _required, _disabled, _referred, _import, _import_from, _target,
        _target_of_the_bundle, _target_by_expression, _target_by_reference, _target_as_callable, _reader, _writer, _macro,
        _relative_macro, _path_as_key,
    )
}  # fmt: skip


def _requires_nothing_but_looks_odd(config: Config, canary: Path) -> None:
    config["preprocessing"]["transforms"] = [" $" + touch(canary)]


def _debugger(config: Config, canary: Path) -> None:
    del canary
    config["network_def"]["_mode_"] = "debug"


def _checkpoint(config: Config, canary: Path) -> None:
    config["handlers"][0]["load_path"] = str(canary.parent / "bundle" / "models" / "model.pt")


def _data(config: Config, canary: Path) -> None:
    """MONAI hands a file that one reader can't read to the next, numpy's among them."""
    evil = canary.parent / "bundle" / "evil.npy"
    with evil.open("wb") as file:
        pickle.dump(Bomb(canary), file)
    config["preprocessing"] = {
        "_target_": "monai.data.CacheDataset",
        "data": [{"image": str(evil)}],
        "transform": {"_target_": "monai.transforms.LoadImaged", "keys": "image", "reader": "NibabelReader"},
    }


def _place_to_write(config: Config, canary: Path) -> None:
    config["output_dir"] = str(canary)


def _modules(config: Config, canary: Path) -> None:
    del canary
    config["network_def"] = "@imports#1"


QUIET: dict[str, Callable[[dict[str, Any], Path], None]] = {
    function.__name__.lstrip("_"): function
    for function in (_requires_nothing_but_looks_odd, _debugger, _checkpoint, _data, _place_to_write, _modules)
}
"""Refused as well, although none of them is known to reach the canary."""


def attack(root: Path, canary: Path, change: Callable[[dict[str, Any], Path], None], name: str = "inference") -> None:
    (root / "evil.py").write_text(EVIL_MODULE.format(canary=str(canary)))
    path = root / "configs" / f"{name}.yaml"
    config = yaml.safe_load(path.read_text())
    change(config, canary)
    path.write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("name", [*LIVE, *QUIET])
def test_no_verb_runs_it(
    name: str,
    make_bundle: MakeBundle,
    make_dataset: MakeDataset,
    canary: Path,
    image: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = make_bundle()
    attack(root, canary, {**LIVE, **QUIET}[name])
    make_dataset()
    assert main(["predict", str(root), str(image), str(tmp_path / "out")]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(
        f"volseg: {root} goes beyond what runs without trust, and nobody has trusted it:\n  inference: "
    )
    assert f"volseg trust {root}" in err
    assert "Traceback" not in err
    assert main(["train", str(root)]) == 3
    assert main(["check", str(root)]) == 1
    assert "error [not-trusted] configs/inference.yaml: " in capsys.readouterr().out
    assert main(["trust", str(root), "--yes"]) == 0
    assert not canary.exists()
    assert not (tmp_path / "out").exists()
    assert not (root / "runs").exists()


@pytest.mark.parametrize("name", LIVE)
def test_it_is_live_once_trusted(
    name: str,
    make_bundle: MakeBundle,
    canary: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control: what the other test shows not to happen does happen after ``volseg trust``."""
    from volseg.bundle.parser import BundleParser
    from volseg.errors import BundleError

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    root = make_bundle()
    attack(root, canary, LIVE[name])
    assert main(["trust", str(root), "--yes"]) == 0
    capsys.readouterr()
    parser = BundleParser(open_bundle(root), "inference", {})
    for part in ("network_def", "preprocessing", "postprocessing"):
        try:
            built = parser.build(part)
            if name == "target_as_callable" and part == "preprocessing":
                built.transforms[0]()
        except BundleError:  # many attacks break what they ride on
            continue
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    assert canary.exists()


@pytest.mark.parametrize("name", ["expression", "target", "macro"])
def test_the_training_config_counts_in_every_verb(
    name: str, make_bundle: MakeBundle, canary: Path, image: Path, tmp_path: Path
) -> None:
    root = make_bundle()
    attack(root, canary, LIVE[name], "train")
    assert main(["predict", str(root), str(image), str(tmp_path / "out")]) == 3
    assert main(["train", str(root)]) == 3
    assert main(["check", str(root)]) == 1
    assert not canary.exists()


@pytest.mark.parametrize("verb", ["predict", "train", "check", "trust"])
def test_yaml_makes_no_objects(
    verb: str, make_bundle: MakeBundle, canary: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_bundle()
    with (root / "configs" / "inference.yaml").open("a") as file:
        file.write(f"x: !!python/object/apply:os.system [\"touch '{canary}'\"]\n")
    extra = [str(image), str(tmp_path / "out")] if verb == "predict" else []
    assert main([verb, str(root), *extra]) == (1 if verb == "check" else 2)
    assert "inference.yaml is not valid YAML" in "".join(capsys.readouterr())
    assert not canary.exists()


def test_pickles_in_the_place_of_weights_do_not_run(
    make_bundle: MakeBundle,
    make_dataset: MakeDataset,
    canary: Path,
    image: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import torch

    root, data = make_bundle(), make_dataset()
    places = [root / "models" / "model.pt", root / "runs" / "fold_0" / "last.pt", root / "runs" / "fold_0" / "best.pt"]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"model": Bomb(canary)}, place)
    torch.load(places[0], weights_only=False)
    assert canary.exists()
    canary.unlink()
    out = str(tmp_path / "out")
    for arguments in (
        ["predict", str(root), str(image), out],
        ["predict", str(root), str(image), out, "--fold", "0"],
        ["train", str(root), "--data", str(data), "--adopt-runs"],
    ):
        assert main(arguments) == 2, arguments
        assert "is damaged or holds more than tensors" in capsys.readouterr().err
    assert main(["check", str(root)]) == 1
    assert "error [bad-weights] models/model.pt" in capsys.readouterr().out
    assert not canary.exists()


def test_modules_of_a_bundle_do_not_stand_in_for_others(
    make_bundle: MakeBundle, canary: Path, image: Path, tmp_path: Path
) -> None:
    """Even when the person stands in the bundle's folder."""
    root = make_bundle()
    module = f"from pathlib import Path\nPath({str(canary)!r}).touch()\n"
    for name in ("torch", "glob", "yaml", "evil", "sitecustomize"):
        (root / f"{name}.py").write_text(module)
    for name in ("monai", "volseg", "scripts", "numpy"):
        (root / name).mkdir()
        (root / name / "__init__.py").write_text(module)
    script = tmp_path / "bin" / "volseg"
    script.parent.mkdir()
    project = Path(__file__).resolve().parents[1]
    script.write_text(
        f"import sys\nsys.path.append({str(project)!r})\nfrom volseg.cli.main import main\nsys.exit(main())\n"
    )
    # Without PYTHONPATH, whose empty entries would mean the folder that one stands in.
    done = subprocess.run(
        [sys.executable, "-E", str(script), "predict", ".", str(image), str(tmp_path / "out")],
        cwd=root, env=uncounted(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "has no weights yet" in done.stderr
    assert not canary.exists()


def test_trusting_shows_every_line_of_code(
    make_bundle: MakeBundle, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_bundle()
    with (root / "configs" / "inference.yaml").open("a") as file:
        for number in range(60):
            file.write(f"k{number}: '${number} + {'1 + ' * 200}0'\n")
        file.write(json.dumps({"hidden": f"${touch(canary)}\n\nThis bundle is safe.\x1b[2K"})[1:-1] + "\n")
    assert main(["trust", str(root), "--yes"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    last = lines[-1]
    assert first == "Its configs go beyond what runs without trust in 61 places:"
    assert all(line.startswith(f"  inference: k{n}: expression ${n} + 1 + 1") for n, line in enumerate(lines[:60]))
    assert lines[60].startswith("  inference: hidden: expression $__import__")
    assert lines[60].endswith("\\n\\nThis bundle is safe.\\x1b[2K")
    assert last.startswith(f"Trusted: {root}, SHA-256 ")
    assert main(["trust", str(root), "--yes"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"Was trusted already: {root}, SHA-256 ")
    assert not canary.exists()


@pytest.fixture
def with_code(make_bundle: MakeBundle) -> Path:
    """A bundle with files of many kinds, and one line in a config that makes all of them count."""
    root = make_bundle()
    with (root / "configs" / "inference.yaml").open("a") as file:
        file.write("one: $1\n")
    for name, content in {
        "cc3d.py": b"x = 1\n",
        "scripts/a.b/net.py": b"",
        "scripts/fast.cpython-311-x86_64-linux-gnu.so": b"\x7fELF",
        "scripts/libx.so.1": b"",
        "x.pth": b"",
        "x.pyc": b"",
        "x.zip": b"",
        "run.sh": b"",
        "odd\nINJECTED.py": b"",
        "docs/notes.md": b"plain",
        "docs/program.md": b"#!/bin/sh",
        "docs/weights.txt": b"\x80\x04.",
        "unknown": b"",
        "image.nii.gz": b"\x1f\x8b",
        "configs/evaluate.json": b"{}",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_trusting_shows_every_file_that_can_run(with_code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust", str(with_code), "--yes"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    shown = dict(line.split(": ", 1) for line in lines if ", " in line and line.endswith(" bytes"))
    assert shown["cc3d.py"] == "Python source, 6 bytes"
    assert shown["scripts/a.b/net.py"] == "Python source, 0 bytes"
    assert shown["odd\\nINJECTED.py"] == "Python source, 0 bytes"
    assert "INJECTED" not in {line[:8] for line in lines}
    assert shown["scripts/fast.cpython-311-x86_64-linux-gnu.so"] == shown["scripts/libx.so.1"].replace("0", "4")
    assert shown["docs/program.md"] == "program or script, 9 bytes"
    assert {"x.pth", "x.pyc", "x.zip", "run.sh", "docs/weights.txt", "unknown", "configs/evaluate.json"} <= set(shown)
    assert not {"docs/notes.md", "image.nii.gz", "LICENSE", "configs/inference.yaml"} & set(shown)
    assert any(line.endswith(f"less -- {with_code}/FILE") for line in lines)


def test_without_a_terminal_nothing_is_trusted(with_code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust", str(with_code)]) == 2
    shown = capsys.readouterr()
    assert "cc3d.py: Python source" in shown.out
    assert "no terminal" in shown.err
    assert "--yes" in shown.err
    assert not judge(Bundle(with_code)).trusted
    assert main(["trust", str(with_code), "--yes"]) == 0
    assert main(["trust", str(with_code)]) == 0  # nothing is left to ask


@pytest.mark.skipif(os.name != "posix", reason="terminals are POSIX's")
@pytest.mark.parametrize(("answer", "code"), [("yes", 0), ("y", 3), ("no", 3), ("", 3), ("\x04", 3), ("\x03", 130)])
def test_a_person_at_a_terminal_is_asked(with_code: Path, answer: str, code: int) -> None:
    import pty

    near, far = pty.openpty()
    command = [sys.executable, "-m", "volseg", "trust", str(with_code)]
    environment = uncounted()
    with subprocess.Popen(
        command,
        env=environment,
        stdin=far,
        stdout=far,
        stderr=far,
        start_new_session=True,
        preexec_fn=_own,  # noqa: PLW1509
    ) as run:
        os.close(far)
        shown = b""
        while b"Type yes: " not in shown:
            shown += os.read(near, 4096)
        assert b"cc3d.py: Python source, 6 bytes" in shown
        os.write(near, answer.encode() + b"\n" * (answer not in ("\x03", "\x04")))
        assert run.wait(timeout=60) == code
    os.close(near)
    assert judge(Bundle(with_code)).trusted == (code == 0)


def _own() -> None:
    """Make the terminal on stdin this process's, so that Ctrl-C reaches it."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_what_changes_while_a_person_reads_is_not_trusted(with_code: Path) -> None:
    examined = examine(with_code)
    (with_code / "cc3d.py").write_text("x = 2\n")
    examined.trust()
    assert not judge(Bundle(with_code)).trusted


def test_a_bundle_that_needs_no_trust(make_bundle: MakeBundle, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_bundle()
    assert main(["trust", str(root), "--yes"]) == 0
    assert capsys.readouterr().out == f"{root} runs nothing of its own, so it needs no trust.\n"


@pytest.mark.parametrize("what", ["absent", "file", "empty"])
def test_what_is_no_bundle(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bundle"
    if what == "file":
        path.write_text("x")
    elif what == "empty":
        path.mkdir()
    assert main(["trust", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_help_says_what_trusting_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust", "--help"]) == 0
    assert "Any change of any file revokes the trust" in " ".join(capsys.readouterr().out.split())

"""A bundle's own modules are the bytes that were hashed, and never stand in for what is installed."""

from __future__ import annotations

import importlib
import inspect
import multiprocessing
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from volseg.bundle.folder import Bundle
from volseg.bundle.modules import open_modules, own_sources, stand_ins
from volseg.bundle.parser import BundleParser
from volseg.bundle.tree import read_tree
from volseg.bundle.trust import judge, record_trust
from volseg.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import MakeBundle

INSTALLED = ("cc3d", "yaml", "colorsys", "wave")
"""Some that are loaded already, and some that nothing here loads."""


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    open_modules(Path("/nowhere"), {})


def opened(root: Path, **sources: str) -> Path:
    """A folder with modules, opened; two underscores stand for a slash."""
    for name, text in sources.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    open_modules(root.resolve(), own_sources(read_tree(root)))
    return root


def test_packages_modules_and_folders_without_init(tmp_path: Path) -> None:
    root = tmp_path / "bundle"
    (root / "parts").mkdir(parents=True)
    (root / "parts" / "__init__.py").write_text("from .deep.inner import value\nfrom parts import near\n")
    opened(root, parts__near="value = 2", parts__deep__inner="value = 1", alone="value = 3", bare__below="value = 4")
    parts = importlib.import_module("parts")
    assert (parts.value, parts.near.value) == (1, 2)
    assert importlib.import_module("alone").value == 3
    assert importlib.import_module("bare.below").value == 4
    assert importlib.import_module("bare.below").__file__ == str(root / "bare" / "below.py")
    assert str(root) not in sys.path
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("parts.absent")
    assert not list(root.rglob("__pycache__"))


def test_what_changes_on_the_disk_is_not_read_again(tmp_path: Path) -> None:
    root = opened(tmp_path / "bundle", plain="def f():\n    return 1\n", pack__one="value = 1")
    (root / "plain.py").write_text("def f():\n    return 2\n")
    (root / "pack" / "one.py").unlink()
    (root / "pack" / "late.py").write_text("value = 1")
    (root / "late.py").write_text("value = 1")
    (root / "late2").mkdir()
    (root / "late2" / "__init__.py").write_text("value = 1")
    sys.path.insert(0, str(root))  # as the code of a bundle may do
    plain = importlib.import_module("plain")
    assert plain.f() == 1
    assert "return 1" in inspect.getsource(plain.f)
    assert importlib.import_module("pack.one").value == 1
    for name in ("late", "late2", "pack.late"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)


def test_byte_code_and_compiled_modules_are_never_taken(tmp_path: Path) -> None:
    import py_compile

    root = tmp_path / "bundle"
    (root / "evil.txt").parent.mkdir()
    (root / "evil.txt").write_text("value = 'evil'")
    good = opened(root, good="value = 'good'") / "good.py"
    cache = Path(importlib.util.cache_from_source(str(good)))
    cache.parent.mkdir()
    py_compile.compile(
        str(root / "evil.txt"), cfile=str(cache), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    py_compile.compile(str(root / "evil.txt"), cfile=str(root / "only.pyc"))
    (root / "fast.so").write_bytes(b"\x7fELF")
    opened(root)
    sys.path.insert(0, str(root))
    assert importlib.import_module("good").value == "good"
    for name in ("only", "fast"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)


def test_installed_ones_go_first_wherever_the_bundle_puts_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in INSTALLED:
        monkeypatch.delitem(sys.modules, name, raising=False)
    root = opened(tmp_path / "bundle", cc3d="evil = 1", yaml="evil = 1", colorsys="evil = 1", scripts__wave="evil = 1")
    sys.path.insert(0, str(root))
    sys.path.insert(0, str(root / "scripts"))
    for name in INSTALLED:
        assert not hasattr(importlib.import_module(name), "evil")
    assert stand_ins(read_tree(root)) == ("cc3d", "colorsys", "yaml")


def test_a_folder_that_its_code_puts_on_the_path(tmp_path: Path) -> None:
    root = opened(tmp_path / "bundle", scripts__window="value = 1")
    sys.path.append(str(root / "scripts"))
    (root / "scripts" / "window.py").write_text("value = 2")
    assert importlib.import_module("window").value == 1


def test_a_folder_of_that_name_elsewhere_is_nothing_installed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "parts").mkdir(parents=True)
    (tmp_path / "elsewhere" / "parts" / "window.py").write_text("value = 2")
    sys.path.insert(0, str(tmp_path / "elsewhere"))
    opened(tmp_path / "bundle", parts__window="value = 1")
    assert importlib.import_module("parts.window").value == 1


def test_two_bundles_do_not_share_modules_of_one_name(tmp_path: Path) -> None:
    opened(tmp_path / "first", parts__window="value = 1", alone="")
    assert importlib.import_module("parts.window").value == 1
    opened(tmp_path / "second", parts__window="value = 2")
    assert importlib.import_module("parts.window").value == 2
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("alone")
    again = importlib.import_module("parts.window")
    opened(tmp_path / "second")
    assert importlib.import_module("parts.window") is again
    opened(tmp_path / "second", parts__window="value = 3")
    assert importlib.import_module("parts.window").value == 3


def test_other_encodings(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "old.py").write_bytes("# coding: latin-1\nvalue = 'é'\n".encode("latin-1"))
    opened(tmp_path / "bundle")
    assert importlib.import_module("old").value == "é"


def test_names_that_numpy_removed_are_read_as_present_ones(tmp_path: Path) -> None:
    opened(tmp_path / "bundle", older="import numpy as np\nvalue = np.array([1.7]).astype(np.int)\n")
    assert importlib.import_module("older").value.tolist() == [1]


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_processes_have_them_too(tmp_path: Path, method: str) -> None:
    """As a data loader's, to which transforms of the bundle are sent."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"the system has no {method}")
    code = "class Sent:\n    def __call__(self, path):\n        path.write_text('sent')\n"
    root = opened(tmp_path / "bundle", sending=code)
    sent = importlib.import_module("sending").Sent()
    (root / "sending.py").unlink()
    context = multiprocessing.get_context(method)
    process = context.Process(target=sent, args=(tmp_path / "told",))  # type: ignore[attr-defined]
    process.start()
    process.join(60)
    assert (tmp_path / "told").read_text() == "sent"
    assert type(pickle.loads(pickle.dumps(sent))) is type(sent)


def trusted(root: Path, expression: str) -> Bundle:
    with (root / "configs" / "inference.yaml").open("a") as file:
        file.write(f"own: {expression}\n")
    bundle = Bundle(root)
    record_trust(judge(bundle))
    return bundle


def test_a_parser_builds_from_what_was_judged(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    (root / "parts").mkdir()
    (root / "parts" / "own.py").write_text("def answer():\n    return 42\n")
    parser = BundleParser(trusted(root, "{_target_: parts.own.answer}"), "inference", {})
    (root / "parts" / "own.py").write_text("def answer():\n    return 43\n")
    assert parser.build("own") == 42


def test_each_of_two_parsers_builds_by_its_own_modules(make_bundle: MakeBundle) -> None:
    parsers = []
    for number in (1, 2):
        root = make_bundle(folder=f"bundle{number}")
        (root / "parts").mkdir()
        (root / "parts" / "own.py").write_text(f"def answer():\n    return {number}\n")
        parsers.append(BundleParser(trusted(root, "{_target_: parts.own.answer}"), "inference", {}))
    assert [parser.build("own") for parser in parsers] == [1, 2]


@pytest.mark.parametrize("expression", ["$import cc3d", "$cc3d.x", "{_target_: cc3d.connected_components}"])
def test_a_config_that_names_a_stand_in_is_refused(make_bundle: MakeBundle, expression: str) -> None:
    root = make_bundle()
    (root / "cc3d.py").write_text("")
    with pytest.raises(BundleError) as caught:
        BundleParser(trusted(root, f"'{expression}'" if expression[0] == "$" else expression), "inference", {})
    assert caught.value.code == "stand-in"


def test_a_stand_in_that_no_config_names_is_left_alone(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    (root / "cc3d.py").write_text("raise SystemExit")
    parser = BundleParser(
        trusted(root, "$__import__('importlib').import_module('cc' + '3d').__file__"), "inference", {}
    )
    assert not parser.build("own").startswith(str(root))

"""Reading a bundle's files: bounded, and running nothing."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from volseg.bundle import folder as bundle_folder
from volseg.bundle.folder import (
    MAX_CONFIG_BYTES,
    MAX_CONFIG_DEPTH,
    MAX_CONFIG_NODES,
    Bundle,
    is_bundle,
    open_bundle,
    walk,
)
from volseg.cli.main import main
from volseg.errors import BundleError, FileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from conftest import MakeBundle

ALIAS_BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGE_BOMB = "m0: &m0 {k: 1, l: 2}\n" + "".join(
    f"m{level}: &m{level} {{<<: [*m{level - 1}, *m{level - 1}]}}\n" for level in range(1, 60)
)


CALLS = 200_000
"""Of Python functions, which are more than any config of a few kilobytes may cost, and fewer than a bomb makes."""


@contextmanager
def few_calls() -> Iterator[None]:
    """Fail as soon as more functions are called: work that is counted is the same on every machine, unlike time."""
    left = CALLS

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal left
        left -= event == "call"
        if left < 0:
            pytest.fail(f"more than {CALLS} calls")

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text("{}")
    return Bundle(tmp_path)


def put(bundle: Bundle, text: str | bytes, name: str = "inference.yaml") -> None:
    raw = text if isinstance(text, bytes) else text.encode()
    (bundle.root / "configs" / name).write_bytes(raw)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("inference.yaml", "a: [1, 2.5, null, true, x]\nb: {c: '@a#0'}\n"),
        ("inference.yml", "a: [1, 2.5, null, true, x]\nb: {c: '@a#0'}\n"),
        ("inference.json", '{"a": [1, 2.5, null, true, "x"], "b": {"c": "@a#0"}}'),
        ("inference.json", '\ufeff{"a": [1, 2.5, null, true, "x"], "b": {"c": "@a#0"}}'),
    ],
)
def test_every_format_gives_the_same_data(bundle: Bundle, name: str, text: str) -> None:
    put(bundle, text, name)
    assert bundle.read_config("inference") == {"a": [1, 2.5, None, True, "x"], "b": {"c": "@a#0"}}
    assert bundle.config_path("inference").name == name


def test_of_two_formats_one_is_read_always_the_same(bundle: Bundle) -> None:
    put(bundle, '{"which": "json"}', "inference.json")
    assert bundle.read_config("inference") == {"which": "json"}
    put(bundle, "which: yml", "inference.yml")
    assert bundle.read_config("inference") == {"which": "yml"}
    put(bundle, "which: yaml")
    assert bundle.read_config("inference") == {"which": "yaml"}


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        "",
        "just words",
        "a: [1",
        "a: b: c",
        "a: \x00",
        b"a: \xff\xfe",
        "a: !!python/object/apply:os.getcwd []",
        "a: !!python/name:os.system",
        "a: !!int ''",
        "a: !!float ''",
        "a: !!bool maybe",
        "a: !!timestamp never",
        "a: 2024-13-45",
        "? [1]\n: 2",
        "? {a: 1}\n: 2",
        "a: *nowhere",
        "a: &a {<<: *a}",
        "<<: 5",
        "a: " + "1" * 5000,
        "a: " + ":".join(["1"] * 20_000),
        "a: " + "[" * 1500,
        "a: " + "{b: " * 1500,
        "%YAML 9.9\n---\na: 1",
        "a: 1\n---\nb: 2",
        "x: &x [*x]",
        ALIAS_BOMB,
        MERGE_BOMB,
    ],
    ids=lambda text: repr(text[:30]),
)
def test_what_is_no_config_is_refused_at_once(bundle: Bundle, text: str | bytes) -> None:
    put(bundle, text)
    with few_calls(), pytest.raises(BundleError) as caught:
        bundle.read_config("inference")
    assert caught.value.code == "bad-config"
    assert "configs/inference.yaml" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "",
        "{",
        '{"a": 1} {}',
        '{"a": ' + "[" * 100_000,
        '{"a": ' + "1" * 5000 + "}",
        "a: 1",
        '{"a": "\x01"}',
        '{"a": [' + "1," * MAX_CONFIG_NODES + "1]}",
    ],
    ids=lambda text: repr(text[:30]),
)
def test_what_is_no_json_is_refused(bundle: Bundle, text: str) -> None:
    put(bundle, text, "inference.json")
    with pytest.raises(BundleError) as caught:
        bundle.read_config("inference")
    assert caught.value.code == "bad-config"


def test_a_config_as_deep_as_allowed_is_read(bundle: Bundle) -> None:
    deep = "x"
    for _ in range(MAX_CONFIG_DEPTH - 1):
        deep = [deep]  # type: ignore[assignment]
    put(bundle, yaml.safe_dump({"a": deep}, default_flow_style=True))
    assert bundle.read_config("inference")["a"] == deep
    put(bundle, yaml.safe_dump({"a": [deep]}, default_flow_style=True))
    with pytest.raises(BundleError):
        bundle.read_config("inference")


def test_merge_keys_of_an_honest_config_are_read(bundle: Bundle) -> None:
    put(bundle, "base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\nmost: {<<: [*base, {c: 4}]}\n")
    config = bundle.read_config("inference")
    assert (config["more"], config["most"]) == ({"a": 1, "b": 3}, {"a": 1, "b": 2, "c": 4})


def test_a_large_file_is_refused_before_it_is_parsed(bundle: Bundle) -> None:
    put(bundle, b"a: 1\n" + b"#" * MAX_CONFIG_BYTES)
    with pytest.raises(BundleError, match="larger than 1 MiB"):
        bundle.read_config("inference")


def test_the_checksum_is_of_the_bytes_that_were_read(bundle: Bundle) -> None:
    import hashlib

    put(bundle, "a: 1 # a remark\n")
    assert bundle.load_config("inference").sha256 == hashlib.sha256(b"a: 1 # a remark\n").hexdigest()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_no_config(bundle: Bundle) -> None:
    os.mkfifo(bundle.root / "configs" / "inference.yaml")
    with pytest.raises(FileError, match="is a pipe") as caught:
        bundle.read_config("inference")
    assert caught.value.code == "no-plain-file"


def test_a_config_that_cannot_be_read_is_told(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bundle, "a: 1")

    def refuse(path: Path, *_: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(FileError, match="Permission denied"):
        bundle.read_config("inference")


def test_open_bundle(make_bundle: MakeBundle, tmp_path: Path) -> None:
    root = make_bundle()
    assert open_bundle(root).metadata["name"] == "bundle"
    assert is_bundle(root)
    with pytest.raises(UsageError, match="does not exist"):
        open_bundle(tmp_path / "absent")
    with pytest.raises(UsageError, match="is a file"):
        open_bundle(root / "LICENSE")
    (tmp_path / "empty").mkdir()
    assert not is_bundle(tmp_path / "empty")
    with pytest.raises(BundleError) as caught:
        open_bundle(tmp_path / "empty")
    assert caught.value.code == "no-config"


@pytest.mark.parametrize(
    "place",
    [
        "configs",
        "models",
        "runs",
        "runs/fold_0",
        "eval",
        "docs/deeper/still",
        "LICENSE",
        "configs/inference.yaml",
        "x.txt",
    ],
)
def test_a_link_anywhere_is_refused_by_every_verb(
    make_bundle: MakeBundle, tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_bundle()
    path, elsewhere = root / place, tmp_path / "elsewhere"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.rename(elsewhere)
    else:
        elsewhere.mkdir()
    path.symlink_to(elsewhere)
    with pytest.raises(BundleError) as caught:
        open_bundle(root)
    assert caught.value.code == "link"
    for verb in (["train", "--data", "."], ["predict", str(tmp_path), str(tmp_path / "out")]):
        assert main([verb[0], str(root), *verb[1:]]) == 2
        assert "is a link" in capsys.readouterr().err
    assert main(["check", str(root)]) == 1
    assert "[link]" in capsys.readouterr().out
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    if place != "configs":
        with pytest.raises(BundleError, match="is a link"):
            open_bundle(root)


def test_a_bundle_may_be_reached_through_a_link(make_bundle: MakeBundle, tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to(make_bundle())
    assert open_bundle(tmp_path / "mine").metadata["name"] == "bundle"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_in_a_bundle_is_refused(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    os.mkfifo(root / "models" / "model.pt")
    with pytest.raises(BundleError) as caught:
        open_bundle(root)
    assert caught.value.code == "link"


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys and values that were read of YAML since; of fewer than volseg allows, so that they are soon there."""
    monkeypatch.setattr(bundle_folder, "MAX_CONFIG_NODES", 1500)
    compose, found = yaml.composer.Composer.compose_scalar_node, []

    def counted(self: yaml.composer.Composer, anchor: dict[str, yaml.Node]) -> yaml.Node:
        node = compose(self, anchor)
        found.append(node.value)
        return node

    monkeypatch.setattr(yaml.composer.Composer, "compose_scalar_node", counted)
    return found


@pytest.mark.parametrize(("suffix", "end"), [(".yaml", "\n: {"), (".json", "")])
def test_thousands_of_keys_are_refused_before_the_last_is_read(
    make_bundle: MakeBundle, capsys: pytest.CaptureFixture[str], composed: list[str], suffix: str, end: str
) -> None:
    import json

    root = make_bundle()
    many = {f"key_{number}": number for number in range(4500)}
    (root / "configs" / "inference.yaml").unlink()
    text = json.dumps(many) if suffix == ".json" else "\n".join(f"{key}: {value}" for key, value in many.items())
    (root / "configs" / f"inference{suffix}").write_text(text + end)  # YAML that is no YAML at its end
    assert main(["check", str(root)]) == 1
    assert "too large" in capsys.readouterr().out
    assert "key_1600" not in composed


def test_as_many_keys_as_are_allowed_are_read_once(make_bundle: MakeBundle, composed: list[str]) -> None:
    from volseg.bundle.trust import judge

    root = make_bundle()
    keys = [f"key_{number}" for number in range(1000)]
    path = root / "configs" / "inference.yaml"
    path.write_text("\n".join([path.read_text(), *(f"{key}: {key}" for key in keys)]))
    for _ in range(4):
        assert judge(Bundle(root)).findings == ()
    assert [word for word in composed if word.startswith("key_")] == [key for key in keys for _ in range(2)]


def test_what_a_reader_changes_stays_his(bundle: Bundle) -> None:
    put(bundle, "a: [1]")
    bundle.read_config("inference")["a"].append(2)  # type: ignore[union-attr]
    assert bundle.read_config("inference") == {"a": [1]}


def test_walk_gives_every_node_parents_first_in_the_order_of_the_file() -> None:
    tree = {"a": [1, {"b": "x"}], "c": {}, "d": {"e": [[2]]}}
    assert [("#".join(place), node) for place, node in walk(tree)] == [
        ("", tree),
        ("a", tree["a"]),
        ("a#0", 1),
        ("a#1", {"b": "x"}),
        ("a#1#b", "x"),
        ("c", {}),
        ("d", tree["d"]),
        ("d#e", [[2]]),
        ("d#e#0", [2]),
        ("d#e#0#0", 2),
    ]

"""Trust is in a whole tree as it was judged, and any change revokes it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from volseg.bundle.folder import Bundle
from volseg.bundle.trust import judge, record_trust, require_trust, store_path, trust_kept
from volseg.errors import BundleError, FileError, TrustError

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import MakeBundle

CODE = "extra: $print('hello')\n"


@pytest.fixture
def foreign(make_bundle: MakeBundle) -> Bundle:
    """A bundle that needs trust, with a script."""
    root = make_bundle()
    with (root / "configs" / "inference.yaml").open("a") as file:
        file.write(CODE)
    (root / "scripts").mkdir()
    (root / "scripts" / "net.py").write_text("width = 3\n")
    return Bundle(root)


def test_what_plan_writes_runs_without_trust(make_bundle: MakeBundle, trust_store: Path) -> None:
    verdict = require_trust(Bundle(make_bundle()))
    assert (verdict.findings, verdict.trusted, verdict.may_run) == ((), False, True)
    assert set(verdict.configs) == {"train", "inference"}
    assert not trust_store.exists()


def test_another_is_refused_until_trusted(foreign: Bundle, trust_store: Path) -> None:
    with pytest.raises(TrustError) as caught:
        require_trust(foreign)
    assert caught.value.code == "not-trusted"
    assert "inference: extra: expression $print('hello')" in caught.value.message
    assert caught.value.message.endswith(f"volseg trust {foreign.root}")
    checksum = record_trust(judge(foreign))
    assert checksum == judge(foreign).sha256
    assert require_trust(foreign).trusted
    assert json.loads(trust_store.read_text())["trusted"] == [checksum]
    if os.name == "posix":
        assert stat.S_IMODE(trust_store.stat().st_mode) == 0o600


def test_a_refusal_shows_a_bounded_part_and_a_command_to_paste(make_bundle: MakeBundle) -> None:
    root = make_bundle(folder="it's; $(touch x)")
    (root / "configs" / "inference.yaml").write_text("".join(f"k{n}: ${'1 + ' * 500}1\n" for n in range(100)))
    with pytest.raises(TrustError) as caught:
        require_trust(Bundle(root))
    message = caught.value.message
    assert len(message) < 20_000
    assert "and 60 more" in message
    assert message.splitlines()[-1].endswith("/it'\"'\"'s; $(touch x)'")


def test_trust_goes_with_the_tree_wherever_it_lies(foreign: Bundle, tmp_path: Path) -> None:
    record_trust(judge(foreign))
    shutil.move(foreign.root, tmp_path / "elsewhere")
    assert require_trust(Bundle(tmp_path / "elsewhere")).trusted


def _write(path: str, content: str) -> Callable[[Path], object]:
    return lambda root: (root / path).write_text(content)


@pytest.mark.parametrize(
    "change",
    [
        _write("scripts/net.py", "width = 4\n"),
        _write("scripts/more.py", ""),
        _write("models/model.pt", "weights"),
        _write("configs/train.yaml", "{}"),
        _write("docs/README.md", "new"),
        _write(".hidden", ""),
        lambda root: (root / "scripts" / "net.py").unlink(),
        lambda root: (root / "scripts" / "net.py").rename(root / "scripts" / "net2.py"),
        lambda root: (root / "scripts").rename(root / "script"),
        lambda root: (root / "LICENSE").rename(root / "docs" / "LICENSE"),
    ],
)
def test_any_change_revokes(foreign: Bundle, change: Callable[[Path], object]) -> None:
    record_trust(judge(foreign))
    change(foreign.root)
    with pytest.raises(TrustError):
        require_trust(foreign)


LOG_NAMES = ["training.log", "eval/training.log", "eval/log.txt", "eval/run/events.out.tfevents.1700000000.host-1.7.0"]


@pytest.mark.parametrize("name", LOG_NAMES)
def test_what_monais_runner_tells_of_a_run_is_no_change(foreign: Bundle, name: str) -> None:
    record_trust(judge(foreign))
    (foreign.root / name).parent.mkdir(parents=True, exist_ok=True)
    (foreign.root / name).write_text("Epoch 1")
    assert require_trust(foreign).trusted
    (foreign.root / name).write_text("Epoch 2")
    assert require_trust(foreign).trusted


@pytest.mark.parametrize("name", LOG_NAMES)
def test_a_log_that_is_a_link_is_refused(foreign: Bundle, name: str) -> None:
    (foreign.root / name).parent.mkdir(parents=True, exist_ok=True)
    (foreign.root / name).symlink_to("/dev/null")
    with pytest.raises(BundleError, match="link"):
        judge(foreign)


@pytest.mark.parametrize(
    "name",
    [
        "Training.log", "training.log.py", "scripts/training.log", "eval/log.txt.py", "log.txt", "xtraining.log",
        "eval/events.out.tfevents.1.a.1.0.py", "eval/events.out.tfevents.1.pt", "events.out.tfevents.1.a.1.0", "training.log\n",
        "eval/a.csv", "models/training.log", "eval/events.out.tfevents.1/x.txt",
    ],
)  # fmt: skip
def test_what_is_only_called_alike_is_a_change(foreign: Bundle, name: str) -> None:
    record_trust(judge(foreign))
    (foreign.root / name).parent.mkdir(parents=True, exist_ok=True)
    (foreign.root / name).write_text("")
    with pytest.raises(TrustError):
        require_trust(foreign)


def test_the_mode_of_a_file_is_no_change(foreign: Bundle) -> None:
    record_trust(judge(foreign))
    (foreign.root / "scripts" / "net.py").chmod(0o755)
    assert require_trust(foreign).trusted


def test_names_and_contents_can_not_be_mistaken_for_each_other(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for root in (first, second):
        (root / "configs").mkdir(parents=True)
        (root / "configs" / "train.yaml").write_text("x: $1")
    inner = hashlib.sha256(b"x").hexdigest()
    (first / "a").write_text("x")
    (first / "b").write_text("x")
    (second / f"a:{inner}\n1:b").write_text("x")
    assert judge(Bundle(first)).sha256 != judge(Bundle(second)).sha256


@pytest.mark.parametrize("kind", ["link", "link to folder", "dead link", "pipe"])
def test_what_is_no_plain_file_is_refused(foreign: Bundle, tmp_path: Path, kind: str) -> None:
    odd = foreign.root / "scripts" / "odd"
    if kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("the system has no named pipes")
        os.mkfifo(odd)
    else:
        target = {"link": foreign.root / "LICENSE", "link to folder": tmp_path, "dead link": tmp_path / "absent"}[kind]
        odd.symlink_to(target)
    with pytest.raises(BundleError) as caught:
        judge(foreign)
    assert caught.value.code == "link"
    assert "odd" in caught.value.message


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(foreign: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at what it is and its opening."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("the system has no named pipes")
    really_open = os.open

    def swap_and_open(path: Path, flags: int) -> int:
        if Path(path).name == "net.py":
            Path(path).unlink()
            os.mkfifo(path)
        return really_open(path, flags)

    monkeypatch.setattr(os, "open", swap_and_open)
    with pytest.raises(FileError) as caught:
        judge(foreign)
    assert caught.value.code == "no-plain-file"


def test_a_folder_that_cannot_be_read_is_no_empty_one(foreign: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    really_scan = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "scripts":
            raise PermissionError(13, "Permission denied", str(path))
        return really_scan(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", scandir)
        with pytest.raises(FileError, match="scripts can't be read"):
            judge(foreign)


def test_a_config_that_is_swapped_after_it_was_read_changes_nothing(
    foreign: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is hashed, judged and built is one reading of the file."""
    trusted = record_trust(judge(foreign))
    path = foreign.root / "configs" / "inference.yaml"
    trusted_text = path.read_text()
    path.write_text("evil: $1\n")
    really_read = Bundle.load_config

    def read_and_swap(bundle: Bundle, name: str) -> object:
        found = really_read(bundle, name)
        if name == "inference":
            path.write_text(trusted_text)
        return found

    monkeypatch.setattr(Bundle, "load_config", read_and_swap)
    verdict = judge(foreign)
    assert not verdict.trusted
    assert verdict.configs["inference"].content == {"evil": "$1"}
    assert verdict.sha256 != trusted


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "{}", '{"trusted": 5}', '{"trusted": {"a": 1}}', '{"trusted": [1]}', "[" * 9999]
)
def test_a_damaged_record_is_told_and_trusts_nothing(foreign: Bundle, trust_store: Path, content: str) -> None:
    trust_store.write_text(content)
    trust_store.chmod(0o600)
    with pytest.raises(FileError) as caught:
        require_trust(foreign)
    assert caught.value.code == "trust-store"
    assert str(trust_store) in caught.value.message


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_record_that_others_may_write_is_refused(foreign: Bundle, trust_store: Path, mode: int) -> None:
    record_trust(judge(foreign))
    trust_store.chmod(mode)
    with pytest.raises(FileError) as caught:
        require_trust(foreign)
    assert caught.value.code == "trust-store"
    assert "can be changed by others" in caught.value.message


@pytest.mark.skipif(os.name != "posix", reason="owners are POSIX's")
def test_a_record_that_is_another_persons_is_refused(
    foreign: Bundle, trust_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_trust(judge(foreign))
    if os.getuid() == 0:
        os.chown(trust_store, 12345, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(FileError, match="can be changed by others"):
        require_trust(foreign)


def test_an_honest_bundle_does_not_look_at_the_record(make_bundle: MakeBundle, trust_store: Path) -> None:
    trust_store.write_text("{")
    assert require_trust(Bundle(make_bundle())).may_run


def test_where_the_record_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOLSEG_CONFIG_DIR", str(tmp_path))
    assert store_path() == tmp_path / "trusted.json"
    monkeypatch.delenv("VOLSEG_CONFIG_DIR")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert store_path() == tmp_path / "xdg" / "volseg" / "trusted.json"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert store_path() == tmp_path / "home" / ".config" / "volseg" / "trusted.json"


def test_a_record_in_a_new_folder_is_the_persons_own(
    foreign: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VOLSEG_CONFIG_DIR", str(tmp_path / "deep" / "config"))
    record_trust(judge(foreign))
    assert require_trust(foreign).trusted
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "deep" / "config").stat().st_mode) == 0o700


def test_training_keeps_trust(foreign: Bundle) -> None:
    record_trust(judge(foreign))
    with trust_kept(foreign, require_trust(foreign)):
        (foreign.root / "runs" / "fold_0").mkdir(parents=True)
        (foreign.root / "runs" / "fold_0" / "last.pt").write_text("tensors")
        (foreign.root / "models" / "model.pt").write_text("tensors")
        (foreign.root / "eval" / "case").mkdir(parents=True)
        (foreign.root / "eval" / "metrics.csv").write_text("0.5")
        (foreign.root / "eval" / "case" / "case_seg.nii.gz").write_text("voxels")
    assert require_trust(foreign).trusted


def test_an_interrupted_training_keeps_trust(foreign: Bundle) -> None:
    record_trust(judge(foreign))

    def train() -> None:
        with trust_kept(foreign, require_trust(foreign)):
            (foreign.root / "models" / "model.pt").write_text("tensors")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert require_trust(foreign).trusted


@pytest.mark.parametrize(
    "place",
    ["scripts/net.py", "runs/evil.py", "models/__init__.py", "configs/train.yaml", "eval/x.py", "eval/x.pkl", "eval/x"],
)
def test_code_that_comes_in_while_training_is_not_trusted(foreign: Bundle, place: str) -> None:
    record_trust(judge(foreign))
    with trust_kept(foreign, require_trust(foreign)):
        (foreign.root / place).parent.mkdir(exist_ok=True)
        (foreign.root / place).write_text("{}")
    with pytest.raises(TrustError):
        require_trust(foreign)


def test_a_link_that_comes_in_while_training_is_told_and_fails_nothing(
    foreign: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    record_trust(judge(foreign))
    with trust_kept(foreign, require_trust(foreign)):
        (foreign.root / "docs" / "link").symlink_to("README.md")
    assert "no longer trusted" in caplog.text


def test_training_gives_no_trust_to_what_needs_none(make_bundle: MakeBundle, trust_store: Path) -> None:
    bundle = Bundle(make_bundle())
    with trust_kept(bundle, require_trust(bundle)):
        (bundle.root / "models" / "model.pt").write_text("tensors")
    assert not trust_store.exists()

"""Names and pseudonyms by a keyed hash, and the key that belongs to one person."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from volseg.errors import FileError, InputError
from volseg.outcomes import Ledger, Provenance
from volseg.pseudonyms import KEY_FILE, PERSONAL_KEY_FILE, Identity, Naming, without_order

IDENTITY = Identity("MRN-0815", "1.2.3", "1.2.3.4")


def naming(key: int = 1) -> Naming:
    return Naming(bytes([key] * 32))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's configuration folder that is not there yet."""
    monkeypatch.setenv("VOLSEG_CONFIG_DIR", str(tmp_path / "config" / "volseg"))
    return tmp_path / "config" / "volseg"


def test_names_depend_on_the_key_and_the_series_alone() -> None:
    assert naming().case(IDENTITY, "CT") == naming().case(IDENTITY, "CT")
    assert naming().case(IDENTITY, "CT") != naming(2).case(IDENTITY, "CT")
    assert re.fullmatch(r"ct_[a-z2-7]{12}", naming().case(IDENTITY, "CT"))
    assert naming().case(replace(IDENTITY, part="echo2"), "MR").endswith("_echo2")


@pytest.mark.parametrize(
    ("case", "now"),
    [
        ("ct_02_abcdefgh2345", "ct_abcdefgh2345"),
        ("mr_104_abcdefgh2345_echo2", "mr_abcdefgh2345_echo2"),
        ("ct_abcdefgh2345", "ct_abcdefgh2345"),
        ("ct_abcdefgh2345_0001", "ct_abcdefgh2345_0001"),
        ("ct_02_mine", "ct_02_mine"),
        ("patient_12_abcdefgh234", "patient_12_abcdefgh234"),
    ],
)
def test_names_of_earlier_versions_are_known(case: str, now: str) -> None:
    assert without_order(case) == now


def test_pseudonyms_follow_their_level() -> None:
    other = replace(IDENTITY, series_uid="1.2.3.5")
    assert naming().patient(IDENTITY) == naming().patient(other)
    assert naming().study(IDENTITY) == naming().study(other)
    assert naming().series(IDENTITY) != naming().series(other)
    assert naming().patient(IDENTITY) != naming().patient(replace(IDENTITY, patient_id="MRN-0816"))
    # Without a PatientID, no two studies are taken for one patient's.
    nameless = replace(IDENTITY, patient_id="")
    assert naming().patient(nameless) != naming().patient(replace(nameless, study_uid="1.2.9"))
    assert len({naming().patient(IDENTITY), naming().study(IDENTITY), naming().series(IDENTITY)}) == 3


def test_digests_tell_lists_apart_that_join_to_the_same_text() -> None:
    assert naming().digest("ab", "c") != naming().digest("a", "bc")


def test_the_key_belongs_to_the_person_and_goes_into_no_output_folder(config: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert Naming.existing(tmp_path / "out") is None
    assert not config.exists()  # asking makes none
    made = Naming.of_folder(tmp_path / "out")
    assert Naming.of_folder(tmp_path / "another") == made == Naming.existing(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "another").exists()
    assert [path.name for path in config.iterdir()] == [PERSONAL_KEY_FILE]
    assert (config / PERSONAL_KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert config.stat().st_mode & 0o777 == 0o700


def test_a_folder_with_a_key_of_its_own_keeps_it(config: Path, tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text("ab" * 32 + "\n")
    assert Naming.of_folder(tmp_path) == Naming(bytes([0xAB] * 32)) == Naming.existing(tmp_path)
    assert not config.exists()


def test_a_key_moves_by_copying_its_file(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Naming.of_folder(tmp_path)
    other = tmp_path / "other machine"
    other.mkdir()
    (other / PERSONAL_KEY_FILE).write_bytes((config / PERSONAL_KEY_FILE).read_bytes())
    (other / PERSONAL_KEY_FILE).chmod(0o600)
    monkeypatch.setenv("VOLSEG_CONFIG_DIR", str(other))
    assert Naming.of_folder(tmp_path) == made
    # Renewed, it gives other names.
    (other / PERSONAL_KEY_FILE).unlink()
    assert Naming.of_folder(tmp_path) != made


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(config: Path, tmp_path: Path, mode: int) -> None:
    Naming.of_folder(tmp_path)
    (config / PERSONAL_KEY_FILE).chmod(mode)
    with pytest.raises(InputError, match="chmod 600") as caught:
        Naming.of_folder(tmp_path)
    assert caught.value.code == "key-not-private"


@pytest.mark.parametrize("content", ["", "no key", "ab" * 31, "ab" * 33, "ä" * 64, "ab" * 1000])
def test_a_file_that_holds_no_key_is_never_replaced(config: Path, tmp_path: Path, content: str) -> None:
    Naming.of_folder(tmp_path)
    (config / PERSONAL_KEY_FILE).write_text(content)
    with pytest.raises(InputError):
        Naming.of_folder(tmp_path)
    assert (config / PERSONAL_KEY_FILE).read_text() == content


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that can't be written to, not even by root: a file lies in its place."""
    (tmp_path / "closed").write_text("")
    return tmp_path / "closed"


def test_a_configuration_folder_that_can_t_be_written_is_told_with_the_remedy(
    closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLSEG_CONFIG_DIR", str(closed / "volseg"))
    with pytest.raises(FileError, match="VOLSEG_CONFIG_DIR"):
        Naming.of_folder(tmp_path)


def test_the_folder_follows_the_xdg_specification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOLSEG_CONFIG_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for base, place in (
        (str(tmp_path / "xdg"), "xdg/volseg"),
        ("relative", "home/.config/volseg"),
        ("", "home/.config/volseg"),
    ):
        monkeypatch.setenv("XDG_CONFIG_HOME", base)
        Naming.of_folder(tmp_path)
        (tmp_path / place / PERSONAL_KEY_FILE).unlink()


def test_runs_that_start_at_once_share_one_key(config: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: Naming.of_folder(tmp_path).key, range(32)))
    assert len(keys) == 1
    assert [path.name for path in config.iterdir()] == [PERSONAL_KEY_FILE]


def test_names_of_two_keys_never_mix_in_a_folder(tmp_path: Path) -> None:
    ledger = Ledger((), Provenance("convert", {}, {}, {"names": naming().mark}))
    naming().require_names_of(ledger, tmp_path)
    naming(2).require_names_of(None, tmp_path)
    naming(2).require_names_of(Ledger((), Provenance("convert", {}, {})), tmp_path)
    with pytest.raises(InputError, match="another key than yours") as caught:
        naming(2).require_names_of(ledger, tmp_path)
    assert caught.value.code == "other-key"
    assert naming().key.hex() not in naming().mark

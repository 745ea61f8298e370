"""Names and pseudonyms by a keyed hash."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from volseg.pseudonyms import Identity, Naming

IDENTITY = Identity("MRN-0815", "1.2.3", "1.2.3.4")


def test_names_depend_on_the_key_and_are_stable(tmp_path: Path) -> None:
    first, second = Naming.of_folder(tmp_path / "a"), Naming.of_folder(tmp_path / "b")
    assert Naming.of_folder(tmp_path / "a") == first == Naming.existing(tmp_path / "a")
    assert first.case(IDENTITY, "CT", 2) == first.case(IDENTITY, "CT", 2)
    assert first.case(IDENTITY, "CT", 2) != second.case(IDENTITY, "CT", 2)
    assert re.fullmatch(r"ct_02_[a-z2-7]{12}", first.case(IDENTITY, "CT", 2))
    assert first.case(replace(IDENTITY, part="echo2"), "MR", 1).endswith("_echo2")


def test_pseudonyms_follow_their_level(tmp_path: Path) -> None:
    naming = Naming.of_folder(tmp_path)
    other = replace(IDENTITY, series_uid="1.2.3.5")
    assert naming.patient(IDENTITY) == naming.patient(other)
    assert naming.study(IDENTITY) == naming.study(other)
    assert naming.series(IDENTITY) != naming.series(other)
    assert naming.patient(IDENTITY) != naming.patient(replace(IDENTITY, patient_id="MRN-0816"))
    # Without a PatientID, no two studies are taken for one patient's.
    nameless = replace(IDENTITY, patient_id="")
    assert naming.patient(nameless) != naming.patient(replace(nameless, study_uid="1.2.9"))
    assert len({naming.patient(IDENTITY), naming.study(IDENTITY), naming.series(IDENTITY)}) == 3


def test_digests_tell_lists_apart_that_join_to_the_same_text(tmp_path: Path) -> None:
    naming = Naming.of_folder(tmp_path)
    assert naming.digest("ab", "c") != naming.digest("a", "bc")


def test_runs_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: Naming.of_folder(tmp_path).key, range(32)))
    assert len(keys) == 1
    assert [path.name for path in tmp_path.iterdir()] == [".volseg-key"]

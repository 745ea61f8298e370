"""The record of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from volseg.errors import DataSetError
from volseg.outcomes import Provenance
from volseg.training.cases import FoldCases
from volseg.training.record import RunRecord
from volseg.verbs.train import TrainOptions

if TYPE_CHECKING:
    from pathlib import Path

SESSION = Provenance.of("train", TrainOptions(minutes=3), checksums={"data": "00"}, device="cpu bfloat16", seed=0)
RECORD = RunRecord("fold_0", FoldCases(("a", "b"), ("c",)), {"a": "1", "b": "2", "c": "3"}, (SESSION,))


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    RECORD.write(tmp_path / "training.json")
    assert RunRecord.read(tmp_path / "training.json") == RECORD


def test_another_session_is_kept_where_it_differs(tmp_path: Path) -> None:
    RECORD.write(tmp_path / "training.json")
    again = RunRecord.read(tmp_path / "training.json")
    assert again.with_session(SESSION) == RECORD
    other = replace(SESSION, device="cuda bfloat16")
    assert again.with_session(other).sessions == (SESSION, other)


def test_changed_voxels_are_told_and_change_the_digest_of_the_data() -> None:
    digests = {"a": "1", "b": "x", "d": "new"}
    assert RECORD.changed(digests) == ("b",)
    after = RECORD.with_digests(digests)
    assert after.digests == {"a": "1", "b": "x", "c": "3"}
    assert after.data_sha256 != RECORD.data_sha256
    assert replace(RECORD, digests=dict(reversed(RECORD.digests.items()))).data_sha256 == RECORD.data_sha256


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"run": "fold_0", "cases": {"training": ["a"]}}',
        '{"run": "fold_0", "format": 9}',
        "[" * 100_000,
    ],
)
def test_a_damaged_record_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "training.json").write_text(content)
    with pytest.raises(DataSetError, match="--fresh") as caught:
        RunRecord.read(tmp_path / "training.json")
    assert caught.value.code == "bad-record"

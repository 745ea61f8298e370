"""Names of image files."""

from __future__ import annotations

import pytest

from volseg.volume import channel_stem, split_channel


@pytest.mark.parametrize("number", [0, 7, 12, 9999])
def test_a_channel_and_its_case_come_back(number: int) -> None:
    assert split_channel(channel_stem("case_0001", number)) == ("case_0001", number)


@pytest.mark.parametrize("stem", ["case", "case_1", "case_00000", "_0000", "0000", "case-0000", "case_٠٠٠٠", ""])
def test_what_ends_in_no_channel_is_a_case(stem: str) -> None:
    assert split_channel(stem) == (stem, None)

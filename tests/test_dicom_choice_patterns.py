"""What a person writes for channels and masks."""

from __future__ import annotations

import pytest

from volseg.dicom.choice.patterns import Channel, parse_channels, parse_masks
from volseg.errors import UsageError


def test_names_and_patterns_are_split_alike() -> None:
    text = " T1 = *t1*post* ; FLAIR=*flair*, mr_05 ,;"
    expected = (Channel("T1", ("*t1*post*",)), Channel("FLAIR", ("*flair*", "mr_05")))
    assert parse_channels(text) == parse_masks(text) == expected
    assert parse_masks("left  lobe=a=b; *MASKS/*, c") == (
        Channel("left lobe", ("a=b",)),
        Channel("", ("*MASKS/*", "c")),
    )


@pytest.mark.parametrize("text", ["T1=a; *b*", "T1=a; =b", "T1=a; B=", "T1=a; B\x1b=b", "T1=a", "T1=a; T1=b", ""])
def test_channels_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="T1="):
        parse_channels(text)


@pytest.mark.parametrize(
    "text",
    ["=b", "a=", "a\x1b=b", "x" * 65 + "=b", " " * 90 + "\x1b" * 90 + "=b", "A=b; a=c", "Background=b", "a=b; ,"],
)
def test_masks_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="liver=") as caught:
        parse_masks(text)
    assert len(caught.value.message) < 500

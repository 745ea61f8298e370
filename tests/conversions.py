"""What tests of convert look at: how its series ended, and where their images lie."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from volseg.outcomes import Outcome, Status

if TYPE_CHECKING:
    from pathlib import Path


def codes(outcomes: tuple[Outcome, ...]) -> Counter[str]:
    return Counter("done" if outcome.status is Status.DONE else outcome.code for outcome in outcomes)


def the_image(folder: Path, outcome: Outcome) -> Path:
    assert outcome.status is Status.DONE, outcome
    return folder / outcome.outputs[0]


def only_image(folder: Path) -> Path:
    (path,) = (folder / "imagesTs").glob("*.nii.gz")
    return path

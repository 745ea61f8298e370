"""``volseg bundles``: what it prints of each; how bundles are found has tests of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from volseg.bundle.shipped import Shipped
from volseg.cli.main import main

ORGAN = Shipped(
    "organ", Path("/somewhere/organ"), ("shell", "core"), "CT", 1_250_000, "MIT", {"shell": 0.91, "core": 1.0}
)


def test_each_has_its_structures_figures_size_licence_and_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = Shipped("bare\x1b[2J", Path("/somewhere/bare"), ("one",), "MR", 0, "", {})
    monkeypatch.setattr("volseg.cli.bundles.shipped_bundles", lambda: (ORGAN, bare))
    assert main(["bundles"]) == 0
    told = capsys.readouterr().out
    assert told.splitlines()[:4] == [
        "organ: shell, core in CT",
        "  Dice in cross-validation: shell 0.910, core 1.000",
        "  weights 1.2 MB, licence MIT",
        "  /somewhere/organ",
    ]
    assert told.splitlines()[5:7] == ["  Dice in cross-validation: none", "  weights 0.0 MB, licence not named"]
    assert "\x1b" not in told


def test_where_none_comes_with_it_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("volseg.cli.bundles.shipped_bundles", lambda: ())
    assert main(["bundles"]) == 0
    assert capsys.readouterr().out == "No bundle comes with this volseg.\n"

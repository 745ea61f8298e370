"""``volseg export`` on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.cli.main import main

if TYPE_CHECKING:
    import pytest
    from conftest import CopyBundle


def test_it_says_what_was_written_and_how_well_it_agrees(
    copy_bundle: CopyBundle, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_bundle(trained=True)
    assert main(["export", str(bundle), "--torchscript"]) == 0
    out = capsys.readouterr().out
    assert str(bundle / "models" / "model.ts") in out
    assert (bundle / "models" / "model.ts").is_file()
    assert main(["export", str(bundle)]) == 2
    assert "--torchscript" in capsys.readouterr().err

"""The README's commands exist, parse, and the cheap ones run."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from volseg.cli.main import VERBS, build_app, main

ROOT = Path(__file__).parent.parent


def commands(text: str) -> list[str]:
    """The command lines of all console blocks, continued lines joined."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.removeprefix("$ ").strip() for line in joined.splitlines() if line.startswith("$ ")]


COMMANDS = commands((ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_readme_has_the_two_commands_first() -> None:
    assert COMMANDS[:2] == ["scripts/demo", "scripts/test"]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_exists_and_parses(line: str) -> None:
    program, *words = shlex.split(line, comments=True)
    if program == "volseg":
        if words[0].startswith("-"):
            assert main(words) == 0
            return
        # Parsing alone: a mistyped option, a missing argument or a value of the wrong kind raises.
        build_app(words[0]).parse_args(words, exit_on_error=False, print_error=False)
    elif program == "python":
        assert words[:2] == ["-m", "monai.bundle"], "a command that nobody checks"
    else:
        assert os.access(ROOT / program, os.X_OK), f"{program} is no command of this repository"


@pytest.mark.parametrize("verb", VERBS)
def test_the_readme_walks_through_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"volseg {verb}" in capsys.readouterr().out


def test_the_readme_points_at_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)", text)
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_commands_are_found() -> None:
    text = "```console\n$ volseg a \\\n  --b\nout\n$ x\n```\n"
    assert commands(text) == ["volseg a    --b", "x"]

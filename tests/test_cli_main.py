"""The roof of the command line: what is imported, what each end says, and with which exit code."""

from __future__ import annotations

import errno
import inspect
import os
import signal
import subprocess
import sys
import textwrap
import types
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import pytest
from cyclopts import Parameter

from tests.conftest import uncounted
from volseg import __version__
from volseg.cli.main import HELP, VERBS, build_app, examples_of, main
from volseg.errors import DataSetError, FileError, TrustError

if TYPE_CHECKING:
    from collections.abc import Callable

HEAVY = ("torch", "monai", "SimpleITK", "itk", "pydicom", "matplotlib", "scipy", "nibabel")


@dataclass(frozen=True)
class Options:
    """What the stand-in verb takes."""

    jobs: int = 1
    """How many series at once."""
    overwrite: bool = False
    """Write over what is there."""


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], None]:
    """Puts a stand-in for ``volseg convert`` that does what the test says."""

    def install(body: Callable[[], int]) -> None:
        def convert(source: str, /, *, options: Annotated[Options, Parameter(name="*")] = Options()) -> int:
            """Turn one thing into another.

            Examples:
                volseg convert SCANS IMAGES

            Args:
                source: where it lies.
            """
            print(source, options.jobs, options.overwrite)
            return body()

        # The signature is read at run time, where names of this module must be known.
        convert.__annotations__ = {k: eval(v) if isinstance(v, str) else v for k, v in convert.__annotations__.items()}
        module = types.ModuleType("volseg.cli.convert")
        module.convert = convert  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "volseg.cli.convert", module)

    return install


def raising(error: BaseException) -> Callable[[], int]:
    def body() -> int:
        raise error

    return body


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], env=uncounted(),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [["--help"], ["convert", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = python(
        f"""
        import sys
        from volseg.cli.main import main
        code = main({arguments!r})
        found = [name for name in {HEAVY!r} if name in sys.modules]
        print(code, found)
        """
    )
    assert done.stdout.splitlines()[-1:] == ["0 []"], done.stdout + done.stderr


def test_help_lists_every_verb_and_imports_none() -> None:
    done = python(
        """
        import sys
        from volseg.cli.main import VERBS, main
        main(["--help"])
        print([verb for verb in VERBS if f"volseg.cli.{verb}" in sys.modules])
        """
    )
    *page, imported = done.stdout.splitlines()
    assert imported == "[]"
    for name, summary in VERBS.items():
        assert any(name in line and summary.split()[0] in line for line in page), name


def test_help_tells_the_exit_codes() -> None:
    assert "3 the bundle is not trusted" in " ".join(HELP.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_no_arguments_shows_the_help_and_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "convert" in capsys.readouterr().out


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "volseg", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, __version__)


def test_a_mistyped_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tarin"]) == 2
    err = capsys.readouterr().err
    assert "'tarin'" in err
    assert "Did you mean train?" in err


def test_a_verb_gets_its_arguments_and_gives_the_exit_code(verb, capsys) -> None:
    verb(lambda: 1)
    assert main(["convert", "a", "--jobs", "3", "--overwrite"]) == 1
    assert capsys.readouterr().out == "a 3 True\n"


def test_help_of_a_verb_shows_options_and_examples(verb, capsys) -> None:
    verb(lambda: 0)
    assert main(["convert", "--help"]) == 0
    page = capsys.readouterr().out
    assert "How many series at once." in page
    assert "volseg convert SCANS IMAGES" in page
    assert "--no-overwrite" not in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "requires an argument"),
        (["a", "b"], "too many arguments: b"),
        (["a", "--jobs", "x"], "--jobs takes a whole number, not 'x'."),
        (["a", "--jbs", "3"], "Did you mean --jobs?"),
    ],
)
def test_bad_usage_is_one_line_and_2(verb, capsys, arguments: list[str], said: str) -> None:
    verb(lambda: 0)
    assert main(["convert", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert shown.err.rstrip().endswith("See volseg convert --help.")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DataSetError("images/a.nii.gz has no label. Draw one."), 2, "volseg: images/a.nii.gz has no label. Draw one."),
        (FileError("x does not exist."), 2, "volseg: x does not exist."),
        (TrustError("It would run os.system."), 3, "volseg: It would run os.system."),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left"), 2, "volseg: no space is left on the disk."),
        (MemoryError(), 1, "volseg: Memory ran out."),
        (ModuleNotFoundError("No module named 'dask'", name="dask"), 2, "volseg: the Python package dask"),
        (KeyError("Doe^John"), 1, "volseg: an unexpected KeyError in tests.test_cli_main.raising"),
    ],
)
def test_every_end_is_one_sentence_and_a_code(verb, capsys, error: BaseException, code: int, said: str) -> None:
    verb(raising(error))
    assert main(["convert", "a"]) == code
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert "Traceback" not in err
    assert "Doe" not in err  # the text of a foreign error may quote a patient's file


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_anywhere_shows_the_traceback(verb, capsys, place: int) -> None:
    verb(raising(KeyError("deep inside")))
    arguments = ["convert", "a"]
    arguments.insert(place, "--debug")
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "deep inside" in err


def test_debug_after_two_dashes_is_an_argument(verb, capsys) -> None:
    verb(lambda: 0)
    assert main(["convert", "--", "--debug"]) == 0
    assert capsys.readouterr().out == "--debug 1 False\n"


def test_an_error_can_not_drive_the_terminal(verb, capsys) -> None:
    verb(raising(FileError("name \x1b[2J\x07 is odd")))
    main(["convert", "a"])
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\x07" not in err


@pytest.mark.parametrize("debug", [False, True])
def test_warnings_of_libraries_show_only_with_debug(debug: bool) -> None:
    done = python(
        """
        import logging, sys, types, warnings
        def convert() -> int:
            warnings.warn("some library grows old", FutureWarning)
            logging.getLogger("somebody").warning("chatter")
            logging.getLogger("volseg.verbs.convert").warning("worth a look")
            return 0
        sys.modules["volseg.cli.convert"] = types.ModuleType("volseg.cli.convert")
        sys.modules["volseg.cli.convert"].convert = convert
        from volseg.cli.main import main
        sys.exit(main())
        """,
        "convert",
        *(["--debug"] if debug else []),
    )
    assert done.returncode == 0
    assert "worth a look" in done.stderr
    assert ("grows old" in done.stderr) is debug
    assert ("chatter" in done.stderr) is debug


def test_main_leaves_the_process_as_it_was(verb) -> None:
    verb(lambda: 0)
    handler, shown = signal.getsignal(signal.SIGTERM), warnings.showwarning
    main(["convert", "a"])
    assert signal.getsignal(signal.SIGTERM) is handler
    assert warnings.showwarning is shown


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_unwind_and_end_with_one_line(number: signal.Signals, code: int) -> None:
    sleeper = """
        import sys, time, types
        def convert() -> int:
            try:
                print("ready", flush=True)
                time.sleep(60)
            finally:
                print("tidied", flush=True)
            return 0
        sys.modules["volseg.cli.convert"] = types.ModuleType("volseg.cli.convert")
        sys.modules["volseg.cli.convert"].convert = convert
        from volseg.cli.main import main
        sys.exit(main(["convert"]))
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(sleeper)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (code, "tidied\n", "interrupted\n")


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "volseg", "--help"],
            stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_examples_of_a_docstring() -> None:
    def function() -> None:
        """Do.

        Examples:
            volseg do
              --more

        Args:
            none: at all.
        """

    assert examples_of(function) == "Examples:\n\n    volseg do\n      --more"
    assert examples_of(test_version) == ""


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help_examples_and_plain_flags(name: str) -> None:
    """Each command explains itself, and no flag that is on by default lacks a way to turn it off."""
    app = build_app(name)
    command = app[name]
    function = command.default_command
    assert function is not None
    assert function.__name__ == name
    assert inspect.getdoc(function)
    assert f"volseg {name}" in examples_of(function)
    for argument in command.assemble_argument_collection(parse_docstring=True):
        if argument.hint is bool and argument.field_info.default is True:
            assert argument.negatives, argument.name
        if argument.show:
            assert argument.parameter.help, f"{argument.name} has no help"

"""The entry point ``volseg``: dispatch to verbs, error messages and exit codes.

Each verb lives in ``volseg/cli/<verb>.py`` as one function of its name, imported only when it is asked for. Its
docstring is the help; the docstring's ``Examples:`` section ends the help page. It returns the exit code. Paths are
positional-only parameters; the verb's frozen options dataclass comes flattened, so that its field docstrings are the
help of the options:

    def convert(
        dicom_dir: Path,
        nifti_dir: Path,
        /,
        *,
        options: Annotated[ConvertOptions, Parameter(name="*")] = DEFAULTS,
    ) -> int:

Annotations are read at run time, so what they name is imported, not hidden behind ``TYPE_CHECKING``, and the module
of the options dataclass has to be light: ``volseg convert --help`` loads it.
"""

from __future__ import annotations

import atexit
import importlib
import inspect
import logging
import os
import re
import signal
import sys
import textwrap
import threading
import traceback
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from cyclopts import App, CoercionError, CycloptsError, Parameter, UnusedCliTokensError

from volseg import __version__
from volseg.atomic import is_disk_full
from volseg.causes import cause_of
from volseg.cli.arguments import set_paths_apart, tell_order
from volseg.device import memory_short
from volseg.errors import TrustError, UsageError, VolsegError
from volseg.safepath import SafeEnvironment, is_command
from volseg.words import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

ALL_DONE = 0
SOME_FAILED = 1
NOTHING_DONE = 2
NOT_TRUSTED = 3
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
PIPE_CLOSED = 141
"""128 + SIGPIPE: the reader of stdout went away, such as ``head``."""
TERMINATED = 143
"""128 + SIGTERM."""

VERBS = {
    "convert": "Turn a folder of DICOM into NIfTI images and labels.",
    "check": "List every fault of a data set or bundle before anything is trained.",
    "plan": "Measure a data set and write a MONAI bundle that fits it.",
    "train": "Train a bundle's network, or go on where it stopped.",
    "tune": "Search for settings that train better than a bundle's plan.",
    "predict": "Segment images or DICOM with a trained bundle.",
    "postprocess": "Clean masks: components, holes, surfaces, gaps, instances.",
    "evaluate": "Compare masks with reference masks, per case and label.",
    "trust": "Read what code a bundle would run, and trust it.",
    "export": "Write a bundle's network as ONNX, TorchScript or TensorRT.",
    "bundles": "List the bundles that come with volseg.",
    "demo": "Run the whole chain on phantoms made here as DICOM.",
}
"""Each verb and its line in ``volseg --help``, which imports none of them."""
VERBS_WITH_RULES = ("predict", "postprocess")
"""Those whose rules are applied in the order of their options."""

HELP = """From a folder of DICOM to a trained 3D segmentation model, and masks that open on the right voxels.

`volseg VERB --help` explains a verb. With any verb, `--debug` shows tracebacks and the debug log, which may name
the files of patients. Options go before, between or after the folders; several values may be one word, as in
`--series 2,5` or `--spacing 1x1x3`.

Exit codes: 0 all done, 1 some cases refused or failed, 2 nothing done, 3 the bundle is not trusted, 130 interrupted.
"""

ROOT_FLAGS = ("--help", "-h", "--version")


class Terminated(KeyboardInterrupt):
    """SIGTERM came: work ends as it does on Ctrl-C."""


def build_app(verb: str | None = None) -> App:
    """The command line, with all verbs registered by import path and only ``verb`` imported."""
    app = App(
        name="volseg",
        help=HELP,
        version=__version__,
        help_format="markdown",
        # No --no-overwrite beside --overwrite: every flag is off by default. Lists take words: --keep-largest 1 2.
        default_parameter=Parameter(negative=(), consume_multiple=True, show_default=_default),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for order, (name, summary) in enumerate(VERBS.items()):
        path = f"volseg.cli.{name}"
        if name == verb:
            module = importlib.import_module(path)
            function = getattr(module, name)
            epilogue = examples_of(function) + getattr(module, "EPILOGUE", "")
            app.command(function, name=name, help_epilogue=epilogue, sort_key=order)
        else:
            app.command(f"{path}:{name}", name=name, help=summary, sort_key=order)
    return app


def _default(value: object) -> str | None:
    """A default as a person types it; none where an option is off or empty."""
    if isinstance(value, tuple):
        return " ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value) or None
    return None if value is None or value is False or value == "" else str(value)


def examples_of(function: Callable[..., object]) -> str:
    """The ``Examples:`` section of a docstring as a markdown code block; empty without one."""
    found = re.search(r"^Examples:\n((?:[ \t]+\S.*\n?|\n)+)", inspect.getdoc(function) or "", re.MULTILINE)
    if not found:
        return ""
    return "Examples:\n\n" + textwrap.indent(textwrap.dedent(found[1]).strip(), "    ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    A verb's ``VolsegError`` becomes its sentence on stderr and 2 (3 for ``TrustError``); bad usage is 2; Ctrl-C is
    130 and SIGTERM 143, and both end with the one line ``interrupted``. Anything unforeseen is 1, because part of the
    work may be done, and only its kind is shown: its text may quote a patient's file. ``--debug`` shows it whole.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    ours = words.index("--") if "--" in words else len(words)
    debug = "--debug" in words[:ours]
    words = [word for place, word in enumerate(words) if word != "--debug" or place > ours]
    with SafeEnvironment(), _terminable(), _quiet_libraries(debug=debug):
        try:
            code = _run(words)
            sys.stdout.flush()
        except BrokenPipeError:
            # Python would complain once more when it flushes stdout at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = PIPE_CLOSED
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  the roof: every end becomes a sentence
            code, sentence = verdict(error)
            if debug:
                traceback.print_exc()
            print(printable(sentence, keep="\n"), file=sys.stderr)
    if code != ALL_DONE and is_command():
        _leave_strays(code)
    return code


def _leave_strays(code: int) -> None:
    """End this process without the threads that still compute, if there are some: Python's own end would abort."""
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    if not others:
        return
    from volseg.batch.strays import are_computing

    if are_computing(others):
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _run(words: list[str]) -> int:
    verb = words[0] if words else None
    if verb is not None and verb not in (*VERBS, *ROOT_FLAGS):
        # Left to itself, the parser would import every verb to find the nearest.
        near = get_close_matches(verb, VERBS, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(f"volseg has no verb {verb!r}.{meant} Type volseg --help for the list.")
    app = build_app(verb)
    if verb in VERBS:
        arguments = app[verb].assemble_argument_collection()
        words = [verb, *set_paths_apart(verb, words[1:], arguments)]
        if verb in VERBS_WITH_RULES:
            from volseg.postprocessing import RULE_OPTIONS

            words = [verb, *tell_order(words[1:], RULE_OPTIONS, arguments)]
    try:
        result = app(words, exit_on_error=False, print_error=False)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich ends so where a help page meets a closed pipe
            return PIPE_CLOSED
        return error.code if isinstance(error.code, int) else NOTHING_DONE
    if not words:
        return NOTHING_DONE  # the help was shown
    return result if isinstance(result, int) else ALL_DONE


def verdict(error: BaseException) -> tuple[int, str]:
    """The exit code and the sentence for what ended a command."""
    if isinstance(error, Terminated):
        return TERMINATED, "interrupted"
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if isinstance(error, TrustError):
        return NOT_TRUSTED, f"volseg: {error.message}"
    if isinstance(error, VolsegError):
        return SOME_FAILED if isinstance(error, MemoryError) else NOTHING_DONE, f"volseg: {error.message}"
    if isinstance(error, CycloptsError):
        return NOTHING_DONE, printable(f"volseg: {_usage(error)}")
    if isinstance(error, ModuleNotFoundError) and not (error.name or "volseg").startswith("volseg"):
        package = printable((error.name or "").partition(".")[0])
        return NOTHING_DONE, f"volseg: the Python package {package} is not installed. Install volseg again with pip."
    short = memory_short(error)
    if short is not None:
        return SOME_FAILED, f"volseg: {short.message}"
    if is_disk_full(error):
        return NOTHING_DONE, "volseg: no space is left on the disk. Free some space and run the command again."
    cause = cause_of(error)
    if cause.known:
        return SOME_FAILED, f"volseg: the work ended: {cause.clause}. Run it again with --debug to see where."
    return SOME_FAILED, f"volseg: an unexpected {cause.clause} ended the work. Run it again with --debug to see where."


def _usage(error: CycloptsError) -> str:
    verb = " ".join(error.command_chain or ("VERB",))
    said = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, UnusedCliTokensError):
        said = f"too many arguments: {' '.join(error.unused_tokens or ())}"
    elif isinstance(error, CoercionError) and error.token is not None and error.token.keyword:
        said = f"{error.token.keyword} takes {_kind(error.target_type)}, not {error.token.value!r}"
    stop = "" if said.endswith("?") else "."
    return f"{said}{stop} See volseg {verb} --help."


def _kind(hint: object) -> str:
    """What an option of a type takes, in words."""
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_args(hint):
        return " or ".join(_kind(one) for one in get_args(hint) if one is not type(None))
    return {float: "a number", int: "a whole number"}.get(hint, "a text")  # type: ignore[call-overload, no-any-return]


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that nothing half-written stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _OneLine(logging.Formatter):
    """A message as one line; a traceback keeps its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


@contextmanager
def _quiet_libraries(*, debug: bool) -> Iterator[None]:
    """Send Python's warnings to the log, and show of the log only volseg's own warnings unless ``debug``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(levelname)s %(name)s: %(message)s" if debug else "%(message)s"))
    root, ours = logging.getLogger(), logging.getLogger("volseg")
    levels = root.level, ours.level
    if debug:
        root.setLevel(logging.INFO)
        ours.setLevel(logging.DEBUG)
    else:
        handler.addFilter(logging.Filter("volseg"))
        ours.setLevel(logging.WARNING)
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(levels[0])
        ours.setLevel(levels[1])


if __name__ == "__main__":
    sys.exit(main())

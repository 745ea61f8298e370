"""Verbs as functions of paths and keyword options, which are the fields of their options dataclass."""

from __future__ import annotations

import ast
import functools
import inspect
import os
import re
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass, fields
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from volseg.api.reporting import listener
from volseg.errors import UsageError, VolsegError
from volseg.options import StrPath, holds_numbers, split_numbers
from volseg.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

P = ParamSpec("P")
R = TypeVar("R")
OptionsT = TypeVar("OptionsT")

SHOWN_CHARACTERS = 60
"""Of a value that can't be used."""


@dataclass(frozen=True, kw_only=True)
class Keywords(Generic[OptionsT]):
    """What every verb takes beside its options.

    A verb's keywords are a dataclass that inherits this one and the verb's options, so that its signature, for editors
    and for ``help``, is written nowhere else.
    """

    options: OptionsT | None = None
    """All options in one object; keywords beside it go before what it holds."""

    progress: Progress | bool = True
    """Who is told how far the work is: a bar in a terminal or notebook, else the log "volseg"; False for nobody."""


def one_path(
    run: Callable[[Path, OptionsT, Progress], R], keywords: Callable[P, Keywords[OptionsT]]
) -> Callable[Concatenate[StrPath, P], R]:
    """A verb of one path as a function of keywords."""
    return function_of(run, keywords)


def two_paths(
    run: Callable[[Path, Path, OptionsT, Progress], R], keywords: Callable[P, Keywords[OptionsT]]
) -> Callable[Concatenate[StrPath, StrPath, P], R]:
    """A verb of two paths as a function of keywords."""
    return function_of(run, keywords)


def function_of(
    run: Callable[..., Any], keywords: Any, in_memory: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """A verb as a function: texts become paths, keywords become options, and faults are told in Python's words.

    Args:
        run: the verb, of some paths, ``options`` and ``progress``.
        keywords: the dataclass that inherits the verb's options and ``Keywords``.
        in_memory: called instead where an argument is no path: with the options, the arguments and such keywords as it
            has of its own. Its docstring ends the function's.
    """
    name = run.__name__
    paths = [one.name for one in inspect.signature(run).parameters.values() if one.default is one.empty]

    def call(*given: object, options: object = None, progress: Progress | bool = True, **values: object) -> Any:
        if in_memory is not None and not all(isinstance(one, (str, os.PathLike)) for one in given):
            form = inspect.getfullargspec(in_memory)
            if len(given) >= len(form.args):  # the first is the options
                raise UsageError(
                    f"volseg.{name} takes {', '.join(paths)}; help(volseg.{name}) tells what else it takes."
                )
            own = {"progress": progress, **values}
            own = {key: own[key] for key in form.kwonlyargs if key in own}
            values = {key: value for key, value in values.items() if key not in own}
            with python_words(keywords):
                return in_memory(options_of(keywords, options, values, name), *given, **own)
        if len(given) != len(paths):
            raise UsageError(f"volseg.{name} takes {', '.join(paths)}, then options by name.")
        places = [path_of(path, what) for what, path in zip(paths, given, strict=True)]
        with python_words(keywords):
            return run(*places, options_of(keywords, options, values, name), listener(progress))

    call.__name__ = call.__qualname__ = name
    call.__module__ = "volseg"
    call.__doc__ = described(run, keywords)
    if in_memory is not None:
        call.__doc__ += f"\n\nIn memory: {inspect.getdoc(in_memory)}"
    positional = [inspect.Parameter(path, inspect.Parameter.POSITIONAL_ONLY, annotation=StrPath) for path in paths]
    returned = run.__annotations__["return"]
    call.__signature__ = inspect.Signature([*positional, *_parameters(keywords)], return_annotation=returned)  # type: ignore[attr-defined]
    return call


def worded(function: Callable[P, R]) -> Callable[P, R]:
    """A function that says in a sentence which arguments it can't take."""
    form, name = inspect.signature(function), function.__name__

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            form.bind(*args, **kwargs)
        except TypeError as error:
            raise UsageError(f"volseg.{name}: {error}. help(volseg.{name}) tells what it takes.") from error
        return function(*args, **kwargs)

    return call


def path_of(path: object, what: str) -> Path:
    """A path out of a text or a path; ``~`` is the home folder.

    Raises:
        UsageError: it is neither, or nothing can lie there.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(text := os.fspath(path), str) or not text:
        raise UsageError(f"{what} takes a path, not {_shown(path)}.")
    place = Path(text).expanduser()
    try:
        place.exists()
    except OSError as error:  # a name too long, a folder of others
        raise UsageError(f"{what} can't be {_shown(text)}: {error.strerror}.") from error
    return place


def spacings_of(spacing_mm: object) -> tuple[float, ...]:
    """The numbers of a spacing, given as one or several.

    Raises:
        UsageError: it is none.
    """
    return cast("tuple[float, ...]", _plain("spacing_mm", tuple[float, ...], spacing_mm))


def options_of(keywords: Any, options: object, values: Mapping[str, object], verb: str) -> Any:
    """A verb's options out of an object, keywords, or both.

    Raises:
        UsageError: an option is unknown, or its value can't be used.
    """
    kind = _options_type(keywords)
    hints = get_type_hints(kind)
    for name in values.keys() - hints.keys():
        near = get_close_matches(name, hints, n=1)
        meant = f"Did you mean {near[0]}?" if near else f"It has {', '.join(hints)}."
        raise UsageError(f"volseg.{verb} has no option {name!r}. {meant}", code="unknown-option")
    if options is not None and not isinstance(options, kind):
        raise UsageError(f"options takes {kind.__name__}, not {_shown(options)}.")
    given = {one.name: getattr(options, one.name) for one in fields(kind)} if options is not None else {}
    return kind(**{name: _plain(name, hints[name], value) for name, value in {**given, **values}.items()})


@contextmanager
def python_words(keywords: Any) -> Iterator[None]:
    """Let errors name options as Python spells them: ``all_cases`` for ``--all-cases``."""
    names = {one.name for one in fields(keywords)}
    try:
        yield
    except VolsegError as error:
        error.message = re.sub(
            r"--([a-z][a-z0-9-]*)",
            lambda found: name if (name := found[1].replace("-", "_")) in names else found[0],
            error.message,
        )
        raise


def described(run: Callable[..., object], keywords: Any) -> str:
    """The verb's docstring with its options among the arguments, each with the docstring of its field."""
    text = re.sub(r"\n {4}(?:options|progress): .*(?:\n {8}.*)*", "", inspect.getdoc(run) or "")
    told = "\n".join(
        textwrap.fill(f"{name}: {' '.join(said.split())}", 110, initial_indent="    ", subsequent_indent="        ")
        for name, said in _field_docs(keywords).items()
    )
    before, _, after = text.partition("\nArgs:\n")
    if not after:
        before, mark, after = re.match(r"(.*?)(\n\n(?=Returns:|Raises:)|\Z)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        return f"{before}\n\nArgs:\n{told}{mark}{after}"
    arguments, mark, after = after.partition("\n\n")
    return f"{before}\nArgs:\n{arguments}\n{told}{mark}{after}"


def _options_type(keywords: Any) -> Any:
    return next(base for base in keywords.__bases__ if base is not Keywords)


def _parameters(keywords: Any) -> Iterator[inspect.Parameter]:
    kind = _options_type(keywords)
    hints = get_type_hints(kind) | {"options": kind | None, "progress": Progress | bool}
    for one in fields(keywords):
        hint = {Path: StrPath, Path | None: StrPath | None}.get(hints[one.name], hints[one.name])
        yield inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hint)


def _field_docs(keywords: Any) -> dict[str, str]:
    """Each field's docstring, which Python itself doesn't keep; none where the source is not there."""
    docs = dict.fromkeys((one.name for one in fields(keywords)), "")
    for kind in (*_options_type(keywords).__mro__[-2::-1], Keywords):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        except OSError:
            continue
        assert isinstance(tree, ast.ClassDef), "the source of a class is a class"
        for one, below in pairwise(tree.body):
            match one, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                    docs[name] = said
    return docs


def _plain(name: str, hint: Any, value: object) -> object:
    """The value in the option's own type: numbers of numpy become Python's, lists tuples, one value a tuple of it.

    Raises:
        UsageError: it can't be.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    given = value
    if hasattr(value, "tolist"):  # of numpy or torch
        value = value.tolist()
    several = value if isinstance(value, (list, tuple)) else [value]
    truths = [isinstance(one, bool) for one in several]
    if _holds(hint, bool) != any(truths) and not (value is None and _holds(hint, type(None))):
        # pydantic would take "yes" for True, and True for 1.
        raise UsageError(
            f"{name} can't be {_shown(given)}: it takes {'True or False' if not any(truths) else _words(hint)}."
        )
    one_text = _holds(hint, str) and get_origin(hint) is not tuple
    if one_text and isinstance(value, (list, tuple, range)) and value and all(isinstance(one, int) for one in value):
        value = ",".join(map(str, value))  # such as folds, which the command line has in one word
    if isinstance(value, os.PathLike):
        value = Path(value)
    if isinstance(value, (str, int, float)) and get_origin(hint) is tuple:
        # As the command line has it, one text may hold several numbers.
        value = tuple(split_numbers(value)) if isinstance(value, str) and holds_numbers(hint) else (value,)
    try:
        found = TypeAdapter(hint, config=ConfigDict(coerce_numbers_to_str=True)).validate_python(value)
    except ValidationError as error:
        said = " or ".join(dict.fromkeys(fault["msg"].lower() for fault in error.errors(include_url=False)))
        raise UsageError(f"{name} can't be {_shown(given)}: {said}.") from error
    return found.expanduser() if isinstance(found, Path) else found


def _holds(hint: Any, kind: type) -> bool:
    return hint is kind or any(_holds(one, kind) for one in get_args(hint))


def _words(hint: Any) -> str:
    """What an option takes that is neither True nor False."""
    kinds = {int: "a whole number", float: "a number", Path: "a path"}
    return next((words for kind, words in kinds.items() if _holds(hint, kind)), "a text")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} [...]"

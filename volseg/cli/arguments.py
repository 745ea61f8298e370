"""Arguments of a command line: where the values of a list end and the folders begin.

A list option takes every word up to the next option, ``--keep-largest 1 2``, and so the folders too where they come
after it. How many folders a verb needs is known: they are the last words of a list, and are moved behind ``--``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from cyclopts.utils import UNSET, is_option_like

from volseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import ArgumentCollection

HELP_FLAGS = ("--help", "-h")
END_OF_OPTIONS = "--"


@dataclass(frozen=True)
class _Run:
    """The words that follow a list option, up to the next option: ``words[start:stop]``."""

    option: str
    hint: object
    start: int
    stop: int
    spare: int
    """How many of the words need not be values."""


def set_paths_apart(verb: str, words: Sequence[str], arguments: ArgumentCollection) -> list[str]:
    """Order a verb's words so that its paths come last, behind ``--``; unchanged where no list swallows a path.

    Args:
        verb: for the message.
        words: what follows the verb.
        arguments: the verb's parameters.

    Raises:
        UsageError: a word may be a path as well as a value; the message tells both ways to write it.
    """
    end = words.index(END_OF_OPTIONS) if END_OF_OPTIONS in words else len(words)
    if any(flag in words[:end] for flag in HELP_FLAGS):
        return list(words)
    free, runs = _read(words[:end], arguments)
    paths = [argument.names[0] for argument in arguments if argument.index is not None and argument.required]
    missing = len(paths) - len(free) - len(words[end + 1 :])
    if missing <= 0 or not runs:
        return list(words)
    if sum(max(0, run.spare) for run in runs) < missing:
        return list(words)  # the paths were left out, as the parser reports
    fitting = [
        run
        for run in runs
        if run.spare >= missing and _ends_in_paths(words[run.stop - missing : run.stop], run, alone=not free)
    ]
    if len(fitting) != 1:
        options = " and ".join(dict.fromkeys(run.option for run in runs))
        one = runs[0].option
        raise UsageError(
            f"{' and '.join(paths)} can't be told from the values of {options}. Put the paths first, "
            f"volseg {verb} {' '.join(paths)} {one} ..., or -- before them, "
            f"volseg {verb} {one} ... -- {' '.join(paths)}."
        )
    end_of_list = fitting[0].stop
    places = sorted({*free, *range(end_of_list - missing, end_of_list)})
    others = [word for place, word in enumerate(words[:end]) if place not in places]
    return [*others, END_OF_OPTIONS, *(words[place] for place in places), *words[end + 1 :]]


def _read(words: Sequence[str], arguments: ArgumentCollection) -> tuple[list[int], list[_Run]]:
    """The places of the words that no option takes, and what each list option takes."""
    free: list[int] = []
    runs: list[_Run] = []
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if not is_option_like(word):
            free.append(place - 1)
            continue
        option, equals, _ = word.partition("=")
        try:
            argument, _, implicit = arguments.match(option)
        except ValueError:
            continue  # an unknown option, which the parser reports
        count, takes_all = argument.token_count()
        if takes_all:
            start = place
            while place < len(words) and not is_option_like(words[place]):
                place += 1
            runs.append(_Run(option, get_args(argument.hint)[0], start, place, place - start - (0 if equals else 1)))
        elif implicit is UNSET and not equals:
            place += count
    return free, runs


def _ends_in_paths(last: Sequence[str], run: _Run, *, alone: bool) -> bool:
    """Whether the last words of a list are paths beyond doubt; ``alone`` where no path stands elsewhere.

    A number is a value rather than a folder. With one path elsewhere, a word that can be a value may well be one.
    """
    return not any(map(_is_number, last)) and (alone or not all(_is_value(word, run.hint) for word in last))


def _is_value(word: str, hint: object) -> bool:
    """Whether a word can be a value of this type."""
    if hint in (int, float):
        return _is_number(word)
    if get_origin(hint) is Literal:
        return word in map(str, get_args(hint))
    return any(_is_value(word, one) for one in get_args(hint)) if get_args(hint) else True


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True

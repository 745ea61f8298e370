"""Arguments of a command line: where the values of a list end and the folders begin.

A list option takes every word up to the next option, ``--keep-largest 1 2``, and so the folders too where they come
after it. How many folders a verb needs is known: they are the last words of a list, and are moved behind ``--``. Values
in one word, ``--keep-largest 1,2`` or ``--spacing 1x1x3``, are a list whole, and what follows is none of theirs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from cyclopts.utils import UNSET, is_option_like

from volseg.errors import UsageError
from volseg.options import holds_numbers, split_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import ArgumentCollection

HELP_FLAGS = ("--help", "-h")
END_OF_OPTIONS = "--"
ORDER = "--order"
ALONE = {"--probabilities": "all"}
"""What an option stands for that has no value."""
NEGATIVE = re.compile(r"-\.?[0-9]")


@dataclass(frozen=True)
class _Run:
    """The words that follow a list option, up to the next option: ``words[start:stop]``."""

    option: str
    hint: object
    start: int
    stop: int
    spare: int
    """How many of the words need not be values."""
    joined: bool
    """Whether a first value is joined to the option, ``--modality=CT``."""


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
    found = _read(verb, words[:end], arguments)
    free, runs, words, end = found.free, found.runs, [*found.words, *words[end:]], len(found.words)
    paths = [argument.names[0] for argument in arguments if argument.index is not None and argument.required]
    missing = len(paths) - len(free) - len(words[end + 1 :])
    places = free
    if missing > 0 and sum(max(0, run.spare) for run in runs) >= missing:  # else they were left out: the parser tells
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
        places = sorted({*free, *range(fitting[0].stop - missing, fitting[0].stop)})
    elif not found.is_mixed:
        return words
    others = [word for place, word in enumerate(words[:end]) if place not in places]
    return [*others, END_OF_OPTIONS, *(words[place] for place in places), *words[end + 1 :]]


def tell_order(words: Sequence[str], names: Sequence[str], arguments: ArgumentCollection) -> list[str]:
    """Put the order of some options into ``--order``, where a verb takes it: the parser keeps none between options.

    Args:
        words: what follows the verb, as ``set_paths_apart`` gives it.
        names: the fields of the options whose order counts, in the order that they have otherwise.
        arguments: the verb's parameters.
    """
    known = {name for argument in arguments for name in argument.names}
    options = {f"--{name.replace('_', '-')}": name for name in names}
    end = words.index(END_OF_OPTIONS) if END_OF_OPTIONS in words else len(words)
    if ORDER not in known or ORDER in (word.partition("=")[0] for word in words[:end]):
        return list(words)
    order: list[str] = []
    first, current = end, None
    for place, word in enumerate(words[:end]):
        if is_option_like(word):
            option, equals, _ = word.partition("=")
            current = options.get(option)
            first = min(first, place) if current else first
            order += [current] if current and equals else []
        elif current:
            order.append(current)
    if order == sorted(order, key=list(names).index):
        return list(words)
    return [*words[:first], ORDER, *order, *words[first:]]


@dataclass
class _Words:
    """A command line's words: those that no option takes, and what each list option takes."""

    words: list[str] = field(default_factory=list)
    """All of them, each value of a list in a word of its own."""
    free: list[int] = field(default_factory=list)
    """The places of those that no option takes."""
    runs: list[_Run] = field(default_factory=list)
    is_mixed: bool = False
    """Whether a free word follows a list, which would swallow it."""


def _read(verb: str, words: Sequence[str], arguments: ArgumentCollection) -> _Words:
    """What the options of a command line take.

    Raises:
        UsageError: a whole number is none, which the parser would round; or a list has no value, which would choose
            everything.
    """
    found = _Words()
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        found.words.append(word)
        if not is_option_like(word):
            found.free.append(len(found.words) - 1)
            continue
        option, equals, joined = word.partition("=")
        try:
            argument, _, implicit = arguments.match(option)
        except ValueError:
            continue  # an unknown option, which the parser reports
        count, takes_all = argument.token_count()
        if not takes_all:
            if implicit is UNSET:
                values = [joined] if equals else words[place : place + count]
                _require_whole(verb, option, values, argument.hint)
                if not equals and any(is_option_like(value) and NEGATIVE.match(value) for value in values[:1]):
                    found.words[-1] = f"{option}={values[0]}"  # else the parser takes a box from -80 for an option
                else:
                    found.words.extend([] if equals else values)
                place += 0 if equals else count
            continue
        hint = get_args(argument.hint)[0]
        stop = place
        while stop < len(words) and not is_option_like(words[stop]):
            stop += 1
        if not equals and place == stop and option in ALONE:
            found.words.append(ALONE[option])
            continue
        if not equals and place == stop:
            raise UsageError(f"{option} takes one value or more. See volseg {verb} --help.")
        first = joined if equals else words[place]
        if _is_list(first, hint):
            found.words[-1:] = [option, *(split_numbers(first) if holds_numbers(hint) else [first])]
            place += 0 if equals else 1
            found.is_mixed = found.is_mixed or place < stop
            continue
        start = len(found.words)
        found.words.extend(words[place:stop])
        spare = stop - place - (0 if equals else 1)
        found.runs.append(_Run(option, hint, start, start + stop - place, spare, bool(equals)))
        place = stop
    return found


def _require_whole(verb: str, option: str, values: Sequence[str], hint: object) -> None:
    if int in (hint, *get_args(hint)) and get_origin(hint) is not Literal:
        for value in values:
            if re.fullmatch(r"[+-]?[0-9]{1,18}", value) is None:
                raise UsageError(f"{option} takes a whole number, not {value!r}. See volseg {verb} --help.")


def _is_list(word: str, hint: object) -> bool:
    """Whether a word holds several values; a comma before a space is one in a name."""
    if holds_numbers(hint):
        values = split_numbers(word)
        return len(values) > 1 and all(_is_value(value, hint) for value in values)
    return re.search(r"[^\s,],[^\s,]", word) is not None


def _ends_in_paths(last: Sequence[str], run: _Run, *, alone: bool) -> bool:
    """Whether the last words of a list are paths beyond doubt; ``alone`` where no path stands elsewhere.

    A number is a value rather than a folder. With one path elsewhere, a word that can be a value may well be one, unless
    the option has its value already: ``--modality=CT``.
    """
    is_sure = alone or run.joined or not all(_is_value(word, run.hint) for word in last)
    return is_sure and not any(map(_is_number, last))


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

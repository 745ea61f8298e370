"""Where Python may import from: never from the folder that one stands in, which is often one of data.

Named after Python's own safe path (``-P``, ``PYTHONSAFEPATH``). This is loaded before anything else of volseg and
imports only what Python has loaded by then: any other import might already come from that folder.
"""
# ruff: noqa: PTH100, PTH117, PTH119, PTH120  pathlib would be such an import

import os
import sys

SAFE_VARIABLE = "PYTHONSAFEPATH"
PATH_VARIABLE = "PYTHONPATH"
COMMANDS = ("volseg", "volseg-script")
OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""Where volseg itself comes from."""
OWN_FOLDERS = ("site-packages", "dist-packages", "lib-dynload", os.path.basename(os.path.dirname(os.__file__)))
"""Of Python itself, should somebody stand there."""


def _relative_folders() -> frozenset[str]:
    """What relative and empty entries of PYTHONPATH mean here, where no absolute one names the same."""
    named = [] if sys.flags.ignore_environment else os.environ.get(PATH_VARIABLE, "").split(os.pathsep)
    if all(os.path.isabs(entry) for entry in named) or named == [""]:  # Python passes over an empty variable
        return frozenset()
    absolute = {os.path.abspath(entry) for entry in named if os.path.isabs(entry)}
    return frozenset(
        folder
        for entry in named
        if not os.path.isabs(entry)
        and (folder := os.path.abspath(entry)) not in absolute
        and folder != OWN
        and os.path.basename(folder) not in OWN_FOLDERS
    )


RELATIVE = _relative_folders()
"""The folders that this process imports from only because one stands where one does."""


def is_command() -> bool:
    """Whether this process is the command ``volseg`` or ``python -m volseg``, and no program that uses the package."""
    first = sys.argv[0] if sys.argv else ""
    if first == "-m":  # Python still looks for the module to run
        return any("volseg" in word for word in sys.orig_argv[1:])
    folder, name = os.path.split(first)
    return name.split(".")[0] in COMMANDS or (os.path.basename(folder), name) == ("volseg", "__main__.py")


def leave_current_folder() -> None:
    """Take the current folder off the path, where ``python -m`` or a relative entry of PYTHONPATH has put it.

    The folder that volseg itself comes from stays.
    """
    if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and os.path.abspath(sys.path[0]) != OWN:
        del sys.path[0]
    sys.path[:] = [entry for entry in sys.path if os.path.isabs(entry) and entry not in RELATIVE]


def absolute_path() -> list[str]:
    """The places that this process imports from, for another: those that mean the same wherever one stands."""
    return [
        entry
        for number, entry in enumerate(sys.path)
        if isinstance(entry, str) and os.path.isabs(entry) and (number == 0 or entry not in RELATIVE)
    ]


class SafeEnvironment:
    """For the time of a block: a Python that is started has neither its current folder nor relative ones on its path."""

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in (SAFE_VARIABLE, PATH_VARIABLE)}
        os.environ[SAFE_VARIABLE] = "1"
        named = self._before[PATH_VARIABLE]
        if named:
            kept = [entry for entry in named.split(os.pathsep) if os.path.isabs(entry)]
            _set(PATH_VARIABLE, os.pathsep.join(kept) or None)

    def __exit__(self, *error: object) -> None:
        for name, value in self._before.items():
            _set(name, value)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value

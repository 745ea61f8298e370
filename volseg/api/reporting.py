"""Who is told, from Python, how far work is."""

from __future__ import annotations

import io
import logging
import sys
from importlib.util import find_spec

from volseg.console import ConsoleProgress
from volseg.errors import UsageError
from volseg.progress import SILENT, Progress

log = logging.getLogger("volseg")


def listener(progress: Progress | bool) -> Progress:
    """Who is meant: True for a bar in a terminal or notebook and the log elsewhere, False for nobody.

    Raises:
        UsageError: it is none of them, nor a listener.
    """
    if not isinstance(progress, bool):
        if not hasattr(progress, "task") or not hasattr(progress, "say"):
            raise UsageError(f"progress takes True, False or a listener, not {progress!r}.")
        return progress
    if not progress:
        return SILENT
    notebook = _in_notebook()
    if not notebook and not sys.stderr.isatty():
        return ConsoleProgress(_LogStream())
    # Without ipywidgets, rich would leave a warning in place of the bars.
    return ConsoleProgress(in_notebook=notebook and find_spec("ipywidgets") is not None)


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


class _LogStream(io.StringIO):
    """The log "volseg" as a stream: one record for each line."""

    def write(self, text: str) -> int:
        if text.strip():
            log.info("%s", text.rstrip())
        return len(text)

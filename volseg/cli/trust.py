"""``volseg trust``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from volseg.errors import UsageError
from volseg.verbs.trust import Examined, examine
from volseg.words import counted, listed, printable

NOT_TRUSTED = 3
ANSWER = "yes"


def trust(bundle_dir: Path, /, *, yes: bool = False) -> int:
    """Read what code a bundle would run, and trust it as it is now.

    A bundle's config is code, and so are the scripts beside it. What volseg plan writes runs without trust; of any
    other bundle each line of its configs that runs code is listed here, and each file that can run. Only after the
    answer yes is its SHA-256 over all files recorded. Any change of any file revokes the trust.

    Args:
        bundle_dir: The bundle's folder.
        yes: Trust without asking, in scripts.

    Examples:
        volseg trust spleen_ct_segmentation/
    """
    examined = examine(bundle_dir)
    if not examined.findings:
        print(printable(f"{bundle_dir} runs nothing of its own, so it needs no trust."))
        return 0
    _show(bundle_dir, examined)
    if not (yes or examined.verdict.trusted or _is_agreed(bundle_dir)):
        print("Not trusted.", file=sys.stderr)
        return NOT_TRUSTED
    result = examined.trust()
    print(printable(f"{'Was trusted already' if result.already else 'Trusted'}: {bundle_dir}, SHA-256 {result.sha256}"))
    return 0


def _show(bundle_dir: Path, examined: Examined) -> None:
    print(f"Its configs go beyond what runs without trust in {counted(len(examined.findings), 'place')}:")
    for finding in examined.findings:
        print(f"  {finding}")
    if examined.unused:
        unused = listed(examined.unused)
        print(printable(f"Modules with the names of installed ones, which are imported in their place: {unused}"))
    if examined.code:
        print(f"It has {counted(len(examined.code), 'file')} that can run, or be run by what its configs name:")
        for file in examined.code:
            print(f"  {file}")
        folder = printable(shlex.quote(f"{bundle_dir}/"))
        print(f"Read each before you answer, in an editor or with: less -- {folder}FILE")


def _is_agreed(bundle_dir: Path) -> bool:
    """Ask the person at the terminal.

    Raises:
        UsageError: there is none.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            f"{bundle_dir} is not trusted, for there is no terminal to ask at. Read what is listed, then type the "
            "command at a terminal, or with --yes in a script."
        )
    print(f"All of this may do whatever you may do. Trust it? Type {ANSWER}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == ANSWER

"""``volseg trust``."""

from __future__ import annotations

from pathlib import Path

from volseg.verbs import trust as verb
from volseg.words import printable


def trust(bundle_dir: Path, /) -> int:
    """Read what code a bundle would run, and trust it as it is now.

    A bundle's config is code. What volseg plan writes runs without trust; any other bundle is listed here line by
    line, and its SHA-256 over all files is recorded. Any change of any file revokes the trust.

    Args:
        bundle_dir: The bundle's folder.

    Examples:
        volseg trust spleen_ct_segmentation/
    """
    result = verb.trust(bundle_dir)
    for finding in result.findings:
        print(printable(str(finding)))
    if not result.findings:
        print(f"{bundle_dir} runs nothing of its own, so it needs no trust.")
    else:
        print(f"{'Was trusted already' if result.already else 'Trusted'}: {bundle_dir}, SHA-256 {result.sha256}")
    return 0

"""``volseg bundles``."""

from __future__ import annotations

from volseg.bundle.shipped import shipped_bundles
from volseg.words import listed, printable


def bundles() -> int:
    """List the bundles that come with volseg: what each segments, its figures, its licence and where it lies.

    Its name alone is enough, in any folder: volseg predict NAME INPUT OUT_DIR.

    Examples:
        volseg bundles
    """
    found = shipped_bundles()
    if not found:
        print("No bundle comes with this volseg.")
    for one in found:
        figures = ", ".join(f"{name} {value:.3f}" for name, value in one.figures.items()) or "none"
        print(printable(f"{one.name}: {listed(list(one.labels))} in {one.modality}"))
        print(printable(f"  Dice in cross-validation: {figures}"))
        print(printable(f"  weights {one.size_bytes / 1e6:.1f} MB, licence {one.licence or 'not named'}"))
        print(printable(f"  {one.folder}"))
    return 0

"""Messages about converted series, for the ledger and the preview."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from volseg.dicom.series import notes
from volseg.dicom.series.repair import STRAIGHTENINGS
from volseg.outcomes import Outcome, Status
from volseg.volume import AXES_TURNED

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from volseg.dataset.sidecar import Sidecar
    from volseg.grid import Grid

ORIENTATION_NOT_HELD = "orientation-not-held"
"""The code of an image whose voxel axes point elsewhere than a person asked for."""
_CHANGES = {
    **notes.CHANGES,
    "channel-partly-covered": "It doesn't reach over the whole grid of the first channel; beyond it has its lowest value.",
    "bspline-clamped": "The spline swung beyond the lowest or highest value there is; such voxels were set to that value.",
    ORIENTATION_NOT_HELD: "NIfTI doesn't hold this oblique grid in the orientation that was asked for; it has another.",
}
"""What was put right, and what a person has to know of it."""
_STRAIGHTENED = "straightened by the positions of the slices"
_AS_SCANNED = "the scanner's grid"
_HEAD = frozenset({"HEAD", "BRAIN", "SKULL", "FACE", "ORBIT", "SINUS", "IAC", "JAW", "HEADNECK"})


def warnings_of(changes: Collection[str], told: Mapping[str, int]) -> list[str]:
    """What a person has to know of an image: what was put right, and the notes of its series."""
    return [*(sentence for change, sentence in _CHANGES.items() if change in changes), *notes.sentences(told)]


def outcome_of(sidecar: Sidecar, image: Path) -> Outcome:
    """What a finished series' outcome says; all of it stands in the sidecar, so that a later run says the same."""
    from volseg.dataset.sidecar import sidecar_path

    warnings = warnings_of(sidecar.changes, sidecar.notes)
    if sidecar.acquisition.get("burned_in_annotation") == "YES":
        warnings.append("The header says that text is burned into the pixels, which may name the patient.")
    if sidecar.acquisition.get("body_part") in _HEAD:
        warnings.append("This is a head: a face can be rebuilt from it.")
    outputs = tuple(f"{path.parent.name}/{path.name}" for path in (image, sidecar_path(image)))
    message = resampling(sidecar.source_grid, sidecar.target_grid, sidecar.changes, sidecar.shows)
    made = sidecar.made
    if made is not None:
        made = replace(made, files={f"{image.parent.name}/{name}": digest for name, digest in made.files.items()})
    return Outcome(sidecar.case, Status.DONE, "done", message, outputs, tuple(warnings), made=made)


def resampling(source: Grid, target: Grid, changes: Sequence[str], shows: str = "") -> str:
    """What an image shows, where that is to be told, and from which grid to which, and how."""
    way = _way(source, target, changes, told=True)
    return f"{shows}; {way[0].lower()}{way[1:]}." if shows else f"{way}."


def to_make(source: Grid, target: Grid, changes: Sequence[str]) -> str:
    """To which grid, and how, beside the words for the source's."""
    return _way(source, target, changes, told=False)


def _way(source: Grid, target: Grid, changes: Sequence[str], *, told: bool) -> str:
    turned = ""
    if source.orientation != target.orientation:
        turned = f", turned from {source.orientation} to {target.orientation}"
    if AXES_TURNED in changes:
        turned += ", which is how NIfTI holds this oblique grid"
    straightened = bool(STRAIGHTENINGS & set(changes))
    if _is_same(source, target):
        return f"{target.described}, " * told + (_STRAIGHTENED if straightened else _AS_SCANNED) + turned
    if not told:
        return f"{f'{_STRAIGHTENED}, ' * straightened}resampled to {target.described}{turned}"
    from volseg.resampling import reorient_grid

    source = reorient_grid(source, target.orientation)
    return f"Resampled from {source.described}{f', {_STRAIGHTENED},' * straightened} to {target.described}{turned}"


def _is_same(source: Grid, target: Grid) -> bool:
    """Whether two grids have the same voxels, whichever way their axes run."""
    if source.difference(target) is None:
        return True
    from volseg.resampling import is_turned

    return is_turned(source, target)

"""The conversion of one series to an image and its sidecar."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from volseg.batch import available_cores, choose_executor, run_cases
from volseg.dataset.pairing import TEST_IMAGES, TRAINING_IMAGES, TRAINING_LABELS
from volseg.dicom import Series, load_values
from volseg.dicom.series import notes
from volseg.dicom.series.digest import content_digest
from volseg.dicom.series.uptake import SUV, suv_factor
from volseg.errors import OutputExistsError, VolsegError
from volseg.kept import ANEW, State, file_digest, kept_outcome, require_replaceable, state_of
from volseg.outcomes import FileDigest, Made, Outcome, Status
from volseg.progress import Progress
from volseg.pseudonyms import Naming, without_order
from volseg.verbs.convert.options import ConvertOptions
from volseg.verbs.convert.sentences import ORIENTATION_NOT_HELD, outcome_of, to_make
from volseg.verbs.convert.throughput import Load, Throughput
from volseg.volume import (
    AXES_TURNED,
    for_nifti,
    grid_for_nifti,
    list_images,
    nifti_name,
    split_channel,
    stem_of,
    write_image,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from volseg.dataset.sidecar import Sidecar
    from volseg.grid import Grid

NO_FILE = FileDigest(0, "")
"""Of an image that is still to be written."""
_SPLINE = "bspline within the values of the source"
"""Stands for the interpolation in digests: images of before are not the same."""


@dataclass(frozen=True, eq=False)
class Conversion:
    """One series to convert and where to; sent to a worker process."""

    series: Series
    case: str
    image: Path
    patient: str
    study: str
    pseudonym: str
    naming: Naming
    method: str
    """Digest of the options that matter."""
    spacing_mm: tuple[float, float, float] | None
    orientation: str
    interpolation: Literal["linear", "bspline", "nearest"]
    suv: bool = False
    onto: Grid | None = None
    """The grid of another image that this one is resampled to; None for its own."""
    changes: tuple[str, ...] = ()
    """Codes of what is known before the voxels are read, beside those of the series."""
    decoders: int | None = None
    overwrite: bool = False
    """Whether an image that is there is replaced, whatever it was made from."""


def images_there(nifti_dir: Path) -> dict[str, Path]:
    """The images of earlier runs by the names that their cases get now."""
    # A person who has drawn a mask may have moved the image to the others with masks: that place goes first.
    folders = (nifti_dir / TEST_IMAGES, nifti_dir / TRAINING_IMAGES)
    return {without_order(stem_of(path)): path for folder in folders for path in list_images(folder)}


def conversion_of(
    series: Series,
    naming: Naming,
    images: Mapping[str, Path],
    nifti_dir: Path,
    options: ConvertOptions,
    spacing_mm: tuple[float, float, float] | None,
    name: str = "",
) -> Conversion:
    """What to do with a series, and the place of its image: where an earlier run put it, or a new one."""
    identity = series.identity
    case = name or naming.case(identity, series.modality)
    earlier = [nifti_dir / folder / nifti_name(case) for folder in (TRAINING_IMAGES, TEST_IMAGES)]
    there = next(filter(Path.is_file, earlier), None) if name else images.get(case)
    image = there or nifti_dir / TEST_IMAGES / nifti_name(case)
    suv = options.suv and series.modality == "PT"
    how = (
        repr(spacing_mm),
        _SPLINE if spacing_mm and options.interpolation == "bspline" else options.interpolation if spacing_mm else "",
        *([options.axes] if options.axes else []),
        *([SUV] if suv else []),
    )
    return Conversion(
        series,
        stem_of(image),
        image,
        naming.patient(identity),
        naming.study(identity),
        naming.series(identity),
        naming,
        naming.digest("method", *how),
        spacing_mm,
        options.axes,
        options.interpolation,
        suv,
        overwrite=options.overwrite,
    )


def run_conversions(
    conversions: Sequence[Conversion], jobs: int, progress: Progress, on_outcome: Callable[[Outcome], object]
) -> None:
    """Convert series, several at once where that pays; ``on_outcome`` gets the outcome of each as it comes."""
    if not conversions:
        return
    executor = choose_executor(jobs, (conversion.series.voxel_bytes for conversion in conversions))
    at_once = min(executor.workers, len(conversions))
    if at_once > 1:
        conversions = [replace(one, decoders=max(1, available_cores() // at_once)) for one in conversions]
    bar = Throughput(progress, {conversion.case: _load_of(conversion.series) for conversion in conversions})
    run_cases(
        convert_one,
        conversions,
        name_of=lambda conversion: conversion.case,
        private_of=lambda conversion: conversion.series.source,
        title="Converting",
        executor=executor,
        progress=bar,
        on_outcome=on_outcome,
    )


def _load_of(series: Series) -> Load:
    sizes = {one.header.path: one.header.file_size for one in series.slices}
    return Load(len(sizes), sum(sizes.values()))


def convert_one(conversion: Conversion) -> Outcome:
    """Read, resample and write one series, unless an earlier run did.

    Raises:
        VolsegError: it can't be converted.
    """
    from volseg.dataset.sidecar import Sidecar, sidecar_path

    series = conversion.series
    made, before, state = _look(conversion)
    if before is not None and state in (State.CURRENT, State.EDITED):
        now = _as_told_now(before, series)
        if now is not before:
            with suppress(OSError):  # the image is there, and the ledger tells the rest
                now.write(sidecar_path(conversion.image))
        return _kept(conversion, now, state)
    wanted = conversion.onto or wanted_grid(series, conversion.spacing_mm, conversion.orientation)
    loaded = load_values(series, jobs=conversion.decoders, suv=conversion.suv)
    volume = loaded.volume
    source = volume.grid
    if conversion.onto is None and conversion.orientation:
        from volseg.resampling import reorient

        volume = reorient(volume, conversion.orientation)
    resampled = wanted.difference(volume.grid) is not None
    clamped: tuple[str, ...] = ()
    if resampled:
        from volseg.resampling import BSPLINE_CLAMPED, resample_telling

        told = resample_telling(volume, wanted, interpolation=conversion.interpolation)
        volume, clamped = told.volume, (BSPLINE_CLAMPED,) if told.clamped else ()
    volume = for_nifti(volume)
    # A kill between the two leaves an image without a sidecar, which the next run makes anew.
    with suppress(OSError):  # where it can't be removed the image can't be written either, and that is told
        sidecar_path(conversion.image).unlink(missing_ok=True)
    write_image(conversion.image, volume)
    sidecar = Sidecar(
        case=conversion.case,
        modality=series.modality,
        patient=conversion.patient,
        study=conversion.study,
        series=conversion.pseudonym,
        source_grid=source,
        target_grid=volume.grid,
        resampled=resampled or series.is_straightened,
        changes=(
            *series.changes,
            *conversion.changes,
            *loaded.changes,
            *clamped,
            *_turns(wanted, volume.grid, conversion.orientation),
        ),
        acquisition=series.facts,
        shows=series.shows,
        made=replace(made, files={conversion.image.name: file_digest(conversion.image)}),
        notes=series.notes,
    )
    sidecar.write(sidecar_path(conversion.image))
    outcome = outcome_of(sidecar, conversion.image)
    anew = (ANEW,) if state is State.STALE else ()
    return replace(outcome, warnings=(*outcome.warnings, *anew), private=series.source)


def _look(conversion: Conversion) -> tuple[Made, Sidecar | None, State]:
    """From what an image is to be made, the sidecar of the one that is there, and what that one is.

    Raises:
        InputError, FileError: a file can't be read, or what lies there is none of volseg's.
        OutputExistsError: it is not to be replaced.
    """
    from volseg.dataset.sidecar import read_sidecar, sidecar_path

    made = Made(
        content_digest(conversion.series, conversion.naming), conversion.method, {conversion.image.name: NO_FILE}
    )
    beside = sidecar_path(conversion.image)
    if not conversion.image.exists() or not beside.exists():
        return made, None, State.ABSENT  # an image without its sidecar is one that a killed run left
    before = read_sidecar(beside)
    if conversion.overwrite:
        return made, before, State.ABSENT
    state = state_of(before.made, made, conversion.image.parent)
    require_replaceable(state)
    masks = conversion.image.parents[1] / TRAINING_LABELS
    names = {conversion.case, split_channel(conversion.case)[0]}
    if state is State.STALE and any((masks / nifti_name(name)).exists() for name in names):
        raise OutputExistsError(
            "Its files have changed, and a mask lies on the image that an earlier run made of them. Give --overwrite "
            "to replace the image; a mask that volseg drew is drawn anew, any other is left.",
            code="exists",
        )
    return made, before, state


def _as_told_now(before: Sidecar, series: Series) -> Sidecar:
    """The sidecar of an image that stays, with what is told of its series now: warnings and facts that a version before
    this one didn't have, or that other files beside it have changed."""
    now = replace(before, acquisition=dict(series.facts), notes=dict(series.notes), shows=series.shows)
    return before if now.to_json() == before.to_json() else now


def _kept(conversion: Conversion, before: Sidecar, state: State) -> Outcome:
    outcome = kept_outcome(outcome_of(before, conversion.image), state)
    return replace(outcome, private=conversion.series.source)


def wanted_grid(series: Series, spacing_mm: tuple[float, float, float] | None, orientation: str = "") -> Grid:
    """The grid that the options ask for; ``grid_for_nifti`` of it is that of the image.

    Raises:
        GeometryError: it would have more voxels than any scanner's.
    """
    grid = series.grid
    if orientation and orientation != grid.orientation:
        from volseg.resampling import reorient_grid

        grid = reorient_grid(grid, orientation)
    return grid if spacing_mm is None else grid.with_spacing(spacing_mm)


def _turns(wanted: Grid, held: Grid, orientation: str) -> tuple[str, ...]:
    """The codes of what NIfTI asks for where it doesn't hold the grid that is wanted in its voxel order."""
    if wanted.difference(held) is None:
        return ()
    return (AXES_TURNED, *([ORIENTATION_NOT_HELD] if orientation else []))


def planned(series: Series, options: ConvertOptions) -> str:
    """What would become of a series, in words.

    Raises:
        InputError: it would be refused.
    """
    if options.suv and series.modality == "PT":
        suv_factor(series)
    wanted = wanted_grid(series, options.spacing_mm, options.axes)
    held = grid_for_nifti(wanted)
    changes = (*series.changes, *_turns(wanted, held, options.axes))
    # Codes before sentences, which a narrow terminal cuts off.
    words = [*filter(None, [series.shows]), *series.notes, to_make(series.grid, held, changes)]
    return " ".join([", ".join(words) + "." * bool(series.notes), *notes.sentences(series.notes)])


def taken(conversion: Conversion) -> Outcome | None:
    """The refusal of a name that a person gave where an image of another origin has it; None where it is free."""
    if not conversion.image.exists():
        return None
    from volseg.dataset.sidecar import read_sidecar, sidecar_path

    beside = sidecar_path(conversion.image)
    try:
        if beside.exists() and read_sidecar(beside).series == conversion.pseudonym:
            return None
    except VolsegError as error:
        return Outcome.of_error(conversion.case, error, private=conversion.series.source)
    message = "An image of another series has this name. Choose another --name, or another output folder."
    return Outcome(conversion.case, Status.REFUSED, "name-collision", message, private=conversion.series.source)


def finished(conversion: Conversion) -> Outcome | None:
    """The outcome of a series that needs no work, or is refused for what is there; None where there is work to do."""
    try:
        _, before, state = _look(conversion)
    except VolsegError as error:
        return Outcome.of_error(conversion.case, error, private=conversion.series.source)
    if before is None or state not in (State.CURRENT, State.EDITED):
        return None
    return _kept(conversion, _as_told_now(before, conversion.series), state)

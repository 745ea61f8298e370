"""The records of a conversion: ``dataset.json`` and the ledger."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.dataset.pairing import CONVERSION_JSON, TEST_IMAGES, TRAINING_IMAGES, TRAINING_LABELS
from volseg.dicom.choice.selection import NOT_CHOSEN
from volseg.dicom.file.files import LABEL_KINDS
from volseg.errors import FileError, InputError
from volseg.kept import merged
from volseg.outcomes import Ledger, Outcome, Status
from volseg.pseudonyms import series_in
from volseg.verbs.convert.conversion import images_there
from volseg.verbs.convert.sentences import outcome_of
from volseg.volume import nifti_name, split_channel, stem_of

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from volseg.dataset.editing import DatasetFile
    from volseg.dataset.sidecar import Sidecar
    from volseg.dicom import Scan
    from volseg.masks import LabelPlan
    from volseg.pseudonyms import Naming


def kinds_of(found: Scan, plan: LabelPlan) -> dict[str, int]:
    """What was skipped, with the structures that were in place of the objects that hold them."""
    kinds = {kind: count for kind, count in found.skipped_kinds.items() if kind not in LABEL_KINDS}
    return kinds | dict(plan.passed_over)


def with_mask_of(outcome: Outcome, nifti_dir: Path) -> Outcome:
    """The outcome of an image, with what is to be said of its mask where volseg drew one."""
    if outcome.status is not Status.DONE or not (nifti_dir / TRAINING_LABELS).is_dir():
        return outcome
    from volseg.masks import with_mask  # with all that reads and draws label objects

    return with_mask(outcome, nifti_dir)


def record(
    ledger: Ledger,
    dataset: DatasetFile,
    nifti_dir: Path,
    before: Ledger | None,
    *,
    origin: str,
    aside: Container[str] = (),
) -> Ledger:
    """Write ``dataset.json`` and the ledger; what earlier runs made or refused stays in both, see ``kept.merged``.

    Returns:
        The same ledger, with the count of what was there before.
    """
    there = []
    modalities = set()
    unlabelled, labelled = [], []
    for folder in (TEST_IMAGES, TRAINING_IMAGES):
        for sidecar_file in sorted((nifti_dir / folder).glob("*.json")):
            image = sidecar_file.with_name(nifti_name(sidecar_file.stem))
            sidecar = _sidecar_of(image)
            if sidecar is None:
                continue
            modalities.add(sidecar.modality)
            if folder == TEST_IMAGES:
                unlabelled.append(image.name)
            elif _has_mask(nifti_dir, sidecar.case):
                labelled.append(image.name)
            # Not the ledger of that run: the sidecar is there still where a person has moved the image.
            there.append(with_mask_of(outcome_of(sidecar, image), nifti_dir))
    there = _whole(there, dataset.channels)
    of_channels = _of_channels(ledger.outcomes, there)
    told = replace(ledger, outcomes=(*ledger.outcomes, *of_channels))
    whole = merged(told, before, nifti_dir, there, origin=origin, aside=aside)
    whole.write(nifti_dir / CONVERSION_JSON)
    gone = _gone(before, nifti_dir)
    if unlabelled or labelled or gone:
        dataset.with_images(unlabelled, labelled, modalities, gone)
    return replace(ledger, done_before=whole.done_before)


def _whole(there: Sequence[Outcome], channels: int) -> list[Outcome]:
    """What is there, without cases that lack one of several channels, as an interrupted run leaves them."""
    counts = Counter(split_channel(one.case)[0] for one in there)
    return [
        one for one in there if split_channel(one.case)[1] is None or counts[split_channel(one.case)[0]] >= channels
    ]


def _gone(before: Ledger | None, nifti_dir: Path) -> set[str]:
    """The names of the images that earlier runs made and somebody has removed, with their masks where they had some."""
    names = {
        Path(one.outputs[0]).name
        for one in (before.outcomes if before else ())
        if one.status is Status.DONE and one.outputs
    }
    folders = (TEST_IMAGES, TRAINING_IMAGES, TRAINING_LABELS)
    return {name for name in names if not any((nifti_dir / folder / name).exists() for folder in folders)}


def _of_channels(outcomes: Sequence[Outcome], there: Sequence[Outcome]) -> list[Outcome]:
    """What this run says of cases that it didn't make, for each of their channels that earlier runs made."""
    told = {one.case for one in outcomes}
    refused = {one.case: one for one in outcomes if one.status is not Status.DONE}
    channels = (one.case for one in there if split_channel(one.case)[1] is not None and one.case not in told)
    return [replace(refused[case], case=one) for one in channels if (case := split_channel(one)[0]) in refused]


def _has_mask(nifti_dir: Path, case: str) -> bool:
    if not (nifti_dir / TRAINING_LABELS).is_dir():
        return False
    from volseg.masks import mask_record

    return any(mask_record(nifti_dir, name) is not None for name in {case, split_channel(case)[0]})


def outdated(found: Scan, names: Container[str], naming: Naming, nifti_dir: Path) -> tuple[Outcome, ...]:
    """The refusals of images of earlier runs whose series this run makes into others; see ``Scan.outdated``.

    Series of which a part was left out have none: names that a person chose are not known of that part.

    Args:
        found: the series.
        names: of the images that this run makes.
        naming: of the folder.
        nifti_dir: the folder.
    """
    left_out = {naming.series(one.identity) for one in found.rejected if one.code == NOT_CHOSEN}
    there = {}
    for image in images_there(nifti_dir).values():
        case = stem_of(image)
        if case in names:
            continue
        series = series_in(case)
        if not series:  # a name that a person chose
            sidecar = _sidecar_of(image)
            series = sidecar.series if sidecar else ""
        if series not in left_out:
            there[case] = series
    return found.outdated(naming, there, names)


def _sidecar_of(image: Path) -> Sidecar | None:
    """The sidecar of an image that is there; None where it has none, or one of another's making."""
    from volseg.dataset.sidecar import read_sidecar, sidecar_path

    beside = sidecar_path(image)
    if not image.exists() or not beside.exists():
        return None
    try:
        sidecar = read_sidecar(beside)
    except (FileError, InputError):
        return None
    return sidecar if sidecar.case == stem_of(image) else None

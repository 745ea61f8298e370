"""A data set on disk: its cases, its labels and its channels."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from volseg.dataset.case import Case, Fault
from volseg.dataset.listing import DATASET_JSON, Listing, read_listing
from volseg.dataset.pairing import TEST_IMAGES, TRAINING_IMAGES, TRAINING_LABELS, pair
from volseg.dataset.patients import PATIENTS_CSV, read_patients
from volseg.dataset.sidecar import Origin, read_origin, sidecar_path
from volseg.errors import DataSetError, UsageError, VolsegError
from volseg.labels import BACKGROUND, Label, LabelTable, Region
from volseg.volume import is_segmentation, read_header, read_mask, segments_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

_MODALITIES = {
    "CT": re.compile(r"(CTA?|CBCT)([^A-Z].*)?|COMPUTED TOMOGRAPHY", re.IGNORECASE),
    "MR": re.compile(r"MRI?|(.*[^A-Z])?(T[12]|FLAIR|ADC|DWI|PD|SWI)([^A-Z].*|W|WI|C|CE|GD|F)?", re.IGNORECASE),
    "PT": re.compile(r"PET|PT|FDG|.*FDG-?PET|SUV", re.IGNORECASE),
}
"""What data sets call their channels, and DICOM's term for it (PS3.3 C.7.3.1.1.1)."""
_OR = re.compile(r"\s+(?:or|and)\s+|[/+&|]", re.IGNORECASE)


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Args:
        folder: where it lies.
        labels: what the numbers in its masks stand for.
        channels: what each channel of an image is, such as ``("CT",)`` or ``("FLAIR", "T1c")``.
        training: the cases with a mask, sorted by name.
        test: the cases without one, sorted by name.
        faults: what the pairing of files met; ``find_faults`` adds what only the voxels tell.
        regions: unions of labels that ``dataset.json`` names.
    """

    folder: Path
    labels: LabelTable
    channels: tuple[str, ...]
    training: tuple[Case, ...]
    test: tuple[Case, ...]
    faults: tuple[Fault, ...] = ()
    regions: tuple[Region, ...] = ()

    @property
    def modality(self) -> str:
        """DICOM's term for the channels: ``CT``, ``MR`` or ``PT``, several joined by ``+``, or the name as it is."""
        return "+".join(dict.fromkeys(modality_of(channel) for channel in self.channels))

    @property
    def knows_modality(self) -> bool:
        """Whether the name of any channel tells its modality."""
        return any(knows_modality(channel) for channel in self.channels)

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases, sorted by name."""
        return tuple(sorted(self.training + self.test, key=lambda case: case.name))


def modality_of(channel: str) -> str:
    """DICOM's term for a channel's name: ``MR`` for ``T1c`` or ``MRI``; the name itself where it is not known.

    A name of several modalities, such as ``CT or MR``, is none of them.
    """
    several = modalities_of(channel)
    if len(several) > 1:
        return channel
    return several[0] if several else channel


def modalities_of(channel: str) -> tuple[str, ...]:
    """DICOM's terms for the modalities that a channel's name tells of: one, none, or all of ``CT or MR``, sorted."""
    parts = {term for part in _OR.split(channel) for term in [_term(part)] if term}
    if len(parts) < 2:
        parts = {_term(channel)} - {""} or parts
    return tuple(sorted(parts))


def mixed_channel(modalities: Iterable[str]) -> str:
    """The name of a channel whose images are of these modalities: ``CT or MR``. None of them normalises it."""
    return " or ".join(sorted(modalities))


def _term(name: str) -> str:
    return next((term for term, names in _MODALITIES.items() if names.fullmatch(name.strip())), "")


def knows_modality(channel: str) -> bool:
    """Whether a channel's name tells its modality, or that there are several."""
    return bool(modalities_of(channel))


def is_dataset(folder: Path) -> bool:
    """Whether a folder has a data set's ``dataset.json``, ``imagesTr`` or ``imagesTs``."""
    return (folder / DATASET_JSON).exists() or any((folder / name).is_dir() for name in (TRAINING_IMAGES, TEST_IMAGES))


def read_dataset(folder: Path, *, discover_labels: bool = True) -> Dataset:
    """Read a data set: the Medical Segmentation Decathlon's layout, nnU-Net's raw layout, or the folders alone.

    No voxel is read, except of the masks when nothing names their labels. Faults of single files or cases don't end
    the reading: they stand in ``faults``, and such cases are left out.

    Args:
        folder: where it lies.
        discover_labels: whether to look for the labels in the masks when nothing names them; else there are none.

    Raises:
        UsageError: the folder is absent, a file, or holds no data set.
        DataSetError: ``dataset.json`` or ``patients.csv`` makes no sense, or a folder is a link out of the data set.
    """
    if not folder.exists():
        raise UsageError(f"{folder} does not exist.", code="missing-folder")
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file, and a data set is a folder. Name the folder.", code="not-a-folder")
    is_listed = (folder / DATASET_JSON).exists()
    if not is_listed and not any((folder / name).is_dir() for name in (TRAINING_IMAGES, TRAINING_LABELS, TEST_IMAGES)):
        raise UsageError(
            f"{folder} holds no data set: there is no {DATASET_JSON}, {TRAINING_IMAGES} or {TEST_IMAGES}. "
            "Make one with volseg convert, or put images into imagesTr and their masks, of the same names, "
            "into labelsTr.",
            code="no-data-set",
        )
    listing = read_listing(folder / DATASET_JSON) if is_listed else Listing()
    discovers = discover_labels and not len(listing.labels)
    pairing = pair(folder, listing)
    faults = list(pairing.faults)
    origins = _origins(folder, pairing.cases, faults)
    cases = _with_patients(folder, pairing.cases, listing.patients, origins, faults)
    training = tuple(case for case in cases if case.label is not None)
    faults.extend(_mixed_modalities(listing, training, origins))
    test = tuple(case for case in cases if case.label is None)
    return Dataset(
        folder=folder,
        labels=_discovered_labels(training, listing.labels.ignore) if discovers else listing.labels,
        channels=_told_channels(listing.channels or _discovered_channels(training + test, origins), training, origins),
        training=training,
        test=test,
        faults=tuple(faults),
        regions=listing.regions,
    )


def count_labels(mask: NDArray[np.generic]) -> dict[int, int]:
    """How many voxels of a mask (i, j, k) bear each number, by ascending number; absent numbers are left out."""
    total = np.zeros(1, dtype=np.int64)
    for k in range(mask.shape[2]):  # by slice, since bincount makes 64-bit integers of what it counts
        counts = np.bincount(mask[:, :, k].ravel(order="K"), minlength=total.size)
        counts[: total.size] += total
        total = counts
    return {int(index): int(total[index]) for index in np.flatnonzero(total)}


def _discovered_labels(training: Iterable[Case], ignore: int | None) -> LabelTable:
    """The numbers that occur in any mask, with the names that the first segmentation of 3D Slicer gives them, else default ones.

    Masks that can't be read, and segmentations that differ in names, are for ``find_faults``.
    """
    found: set[int] = set()
    named: dict[int, Label] = {}
    unjudged: set[int] = set()
    for case in training:
        if case.label is None:
            continue
        try:
            found.update(count_labels(read_mask(case.label).array))
            segments = segments_in(case.label) if is_segmentation(case.label) else None
        except VolsegError:
            continue
        if segments is not None:
            unjudged.update(() if segments.ignore is None else (segments.ignore,))
            for label in segments.labels:
                if label.name not in (one.name for one in named.values()):
                    named.setdefault(label.index, label)
    if ignore is None:
        ignore = max(unjudged.difference(named), default=None)
    defaults = LabelTable.from_indices(sorted(found - {BACKGROUND, ignore}))
    return LabelTable(tuple(named.get(label.index, label) for label in defaults.labels), ignore)


def _discovered_channels(cases: Sequence[Case], origins: Mapping[str, Origin]) -> tuple[str, ...]:
    """Names for channels that nothing declares: the sidecar's modality, or ``image``, or numbers."""
    for case in cases:
        try:
            count = len(case.images) if len(case.images) > 1 else read_header(case.images[0]).channels
        except VolsegError:
            continue
        if count > 1:
            return tuple(f"channel_{number}" for number in range(count))
        origin = origins.get(case.name)
        return (origin.modality or "image",) if origin else ("image",)
    return ("image",)


def _told_channels(
    channels: tuple[str, ...], training: Sequence[Case], origins: Mapping[str, Origin]
) -> tuple[str, ...]:
    """The only channel by what the sidecars of the training cases say of it, where its name tells of other modalities.

    CT is normalised by fixed numbers, so a channel is called CT only where no case is known to be anything else.
    """
    declared = set(modalities_of(channels[0])) if len(channels) == 1 else set()
    told = [modalities_of(origins[case.name].modality or "") if case.name in origins else () for case in training]
    modalities = {term for terms in told for term in terms}
    if not declared or not modalities:
        return channels
    if len(declared) == 1 or () in told:
        modalities |= declared
    return channels if modalities == declared else (mixed_channel(modalities),)


def _origins(folder: Path, cases: Iterable[Case], faults: list[Fault]) -> dict[str, Origin]:
    found = {}
    for case in cases:
        first = case.images[0]
        for path in dict.fromkeys((sidecar_path(first), first.with_name(f"{case.name}.json"))):
            if path.exists():
                try:
                    found[case.name] = read_origin(path)
                except VolsegError as error:
                    faults.append(Fault.of_error(error, folder, case.name))
                break
    return found


def _with_patients(
    folder: Path,
    cases: Iterable[Case],
    listed: Mapping[str, str],
    origins: Mapping[str, Origin],
    faults: list[Fault],
) -> tuple[Case, ...]:
    """The cases with their patients: ``patients.csv`` before ``dataset.json`` before the sidecars."""
    table = read_patients(folder / PATIENTS_CSV) if (folder / PATIENTS_CSV).exists() else {}
    told = (
        {name: origin.patient for name, origin in origins.items() if origin.patient is not None} | dict(listed) | table
    )
    known = tuple(replace(case, patient=told.get(case.name)) for case in cases)
    without = [case.name for case in known if case.patient is None]
    if told and without:
        faults.append(
            Fault(
                "patient-unknown",
                "",
                f"{len(without)} of {len(known)} cases have no patient, among them {without[0]}, and count as patients "
                f"of their own when folds are made. Name them in {PATIENTS_CSV}.",
                is_error=False,
            )
        )
    return known


def _mixed_modalities(listing: Listing, training: Iterable[Case], origins: Mapping[str, Origin]) -> list[Fault]:
    """A warning where the sidecars of cases with one channel name another modality than the data set does."""
    if len(listing.channels) > 1:
        return []
    told = {case.name: origins[case.name].modality for case in training if case.name in origins}
    found = {modality_of(modality): name for name, modality in told.items() if modality is not None}
    for channel in listing.channels:
        if modality_of(channel) in _MODALITIES:
            found.setdefault(modality_of(channel), DATASET_JSON)
    if len(found) < 2:
        return []
    shown = ", ".join(f"{modality} ({name})" for modality, name in sorted(found.items()))
    message = f"several modalities are mixed: {shown}. A network learns one kind of image: make a data set for each."
    return [Fault("mixed-modalities", "", message, is_error=False)]


def require_cases(dataset: Dataset) -> None:
    """Refuse a data set without a single case.

    Raises:
        DataSetError: there is no case, with the code ``no-cases``.
    """
    if not dataset.training and not dataset.test and not dataset.faults:
        raise DataSetError(
            f"{dataset.folder} has no images in {TRAINING_IMAGES} or {TEST_IMAGES}. Put some there.",
            code="no-cases",
            path=dataset.folder,
        )

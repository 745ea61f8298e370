"""Which images and masks belong together: what ``dataset.json`` lists, and what lies in the folders beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from volseg.dataset.case import Case, Fault
from volseg.errors import DataSetError
from volseg.volume import list_images, split_channel, stem_of
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from volseg.dataset.listing import ListedCase, Listing

TRAINING_IMAGES = "imagesTr"
TRAINING_LABELS = "labelsTr"
TEST_IMAGES = "imagesTs"
REGIONS = "regions"
"""Masks of structures that may overlap, each in a folder of its own there, as ``predict --regions`` writes them."""
CONVERSION_JSON = "conversion.json"
"""The ledger of ``convert``, beside ``dataset.json``."""


@dataclass(frozen=True)
class Pairing:
    """All cases of a folder, sorted by name, and what kept others from being one."""

    cases: tuple[Case, ...]
    faults: tuple[Fault, ...]


@dataclass
class _Draft:
    """A case in the making."""

    images: tuple[Path, ...]
    label: Path | None = None
    in_training_folder: bool = False
    is_listed: bool = False
    is_broken: bool = False
    """A fault is known already: the case is none, and nothing more is said of it."""


@dataclass
class _Desk:
    folder: Path
    drafts: dict[str, _Draft] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    outside: set[Path] = field(default_factory=set)
    """Links out of the data set that were told already."""

    def fault(self, code: str, case: str, message: str, *, is_error: bool = True) -> None:
        self.faults.append(Fault(code, case, message, is_error))

    def relative(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def add(self, name: str, draft: _Draft) -> None:
        known = self.drafts.setdefault(name, draft)
        if known.is_broken or draft.is_broken:
            known.is_broken = True
        elif known is not draft:
            first, second = self.relative(known.images[0]), self.relative(draft.images[0])
            where = f"{first} is listed twice" if first == second else f"{first} and {second} share one name"
            self.fault("name-twice", name, f"{where}. Give every case one name and one place.")


def pair(folder: Path, listing: Listing) -> Pairing:
    """Find the cases of a data set.

    A mask in ``labelsTr`` belongs to the image of its name in ``imagesTr`` or ``imagesTs``, whether ``dataset.json``
    lists the pair or not. Nothing outside the folder is followed.

    Raises:
        DataSetError: one of the three folders is a link out of the data set.
    """
    desk = _Desk(folder)
    masks = _files(desk, TRAINING_LABELS)
    trained, tested = _files(desk, TRAINING_IMAGES), _files(desk, TEST_IMAGES)
    numbered = listing.numbered or _are_numbered(trained + tested, masks, len(listing.channels))
    groups = [(_grouped(desk, files, numbered=numbered), files is trained) for files in (trained, tested)]

    listed_masks: set[Path] = set()
    for entries, is_training in ((listing.training, True), (listing.test, False)):
        for entry in entries:
            listed_masks |= _add_listed(desk, entry, [group for group, _ in groups], is_training=is_training)
    listed_images = {image for draft in desk.drafts.values() for image in draft.images}
    for group, in_training_folder in groups:
        for name, images in group.items():
            if not listed_images.issuperset(images):
                desk.add(name, _Draft(images, in_training_folder=in_training_folder))
    _add_masks(desk, [mask for mask in masks if mask not in listed_masks])
    return _finish(desk, listing)


def _files(desk: _Desk, folder_name: str) -> list[Path]:
    """The images in one folder; links out of the data set are faults."""
    folder = desk.folder / folder_name
    if not folder.is_dir():
        return []
    if not _is_inside(desk.folder, folder):
        raise DataSetError(
            f"{folder} is a link out of the data set, which is not followed. Move or copy the files into the data set.",
            code="outside-folder",
            path=folder,
        )
    inside = []
    for path in list_images(folder):
        if _is_inside(desk.folder, path):
            inside.append(path)
        else:
            desk.outside.add(path)
            desk.fault(
                "outside-folder",
                stem_of(path),
                f"{desk.relative(path)} is a link out of the data set, which is not followed. Copy the file here.",
            )
    return inside


def _is_inside(folder: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a link that leads to itself
        return False


def _are_numbered(images: Sequence[Path], masks: Sequence[Path], channels: int) -> bool:
    """Whether image names end in channel numbers although nobody says so: masks without the number tell.

    Without masks, only what can't be a case's own number counts: all end in 0000, or in numbers of the declared
    channels.
    """
    stems = [stem_of(path) for path in images]
    split = [split_channel(stem) for stem in stems]
    if masks:
        labels = {stem_of(path) for path in masks}
        return any(case in labels for case, channel in split if channel is not None) and labels.isdisjoint(stems)
    numbers = {channel for _, channel in split}
    return numbers in ({0}, set(range(channels)))


def _grouped(desk: _Desk, images: Iterable[Path], *, numbered: bool) -> dict[str, tuple[Path, ...]]:
    """The images of each case, by its name, in the order of their channel numbers."""
    found: dict[str, dict[int, Path]] = {}
    for image in images:
        name, channel = split_channel(stem_of(image)) if numbered else (stem_of(image), None)
        known = found.setdefault(name, {}).setdefault(channel or 0, image)
        if known is not image:
            desk.fault(
                "name-twice",
                name,
                f"{desk.relative(known)} and {desk.relative(image)} share one name. "
                "Give every case one name and one place.",
            )
    groups = {}
    for name, channels in found.items():
        missing = sorted(set(range(max(channels) + 1)) - set(channels))
        if missing:
            numbers = listed([f"{number:04d}" for number in missing])
            desk.fault("missing-channel", name, f"the image of channel {numbers} is missing. Add it.")
            desk.add(name, _Draft((), is_broken=True))
        else:
            groups[name] = tuple(channels[number] for number in sorted(channels))
    return groups


def _add_listed(
    desk: _Desk, entry: ListedCase, groups: Sequence[dict[str, tuple[Path, ...]]], *, is_training: bool
) -> set[Path]:
    """Add one entry of ``dataset.json``; the masks that it lists, present or not."""
    images: list[Path] = []
    absent: list[str] = []
    is_broken = False
    name = stem_of(Path(entry.images[0])) if entry.images else ""
    for text in entry.images:
        path = _listed_path(desk, name, text)
        if path is None:
            is_broken = True
        elif _exists(path):
            images.append(path)
        else:
            # nnU-Net's first version lists CASE.nii.gz for CASE_0000.nii.gz, CASE_0001.nii.gz.
            numbered = next((group[name] for group in groups if name in group), ())
            if len(entry.images) == 1 and numbered:
                images.extend(numbered)
            else:
                absent.append(text)
    if not entry.images:
        is_broken = True
        desk.fault("missing-file", "", "dataset.json has an entry without an image. Name it, or drop the entry.")
    if len(entry.images) > 1:
        name, _ = split_channel(name)
    label = None
    if entry.label is not None:
        label = _listed_path(desk, name, entry.label)
        if label is None:
            is_broken = True
        elif not _exists(label):
            absent.append(entry.label)
    if absent:
        is_broken = True
        do, them = ("does", "it") if len(absent) == 1 else ("do", "them")
        desk.fault(
            "missing-file",
            name,
            f"dataset.json lists {listed(absent)}, which {do} not exist. Add {them}, or drop the entry.",
        )
    if name:
        draft = _Draft(tuple(images), label, in_training_folder=is_training, is_listed=True, is_broken=is_broken)
        desk.add(name, draft)
    return {label} if label is not None else set()


def _listed_path(desk: _Desk, case: str, text: str) -> Path | None:
    """The path that an entry names; None, with a fault, where it leads out of the data set."""
    written = PurePosixPath(text)
    if not text or "\0" in text or written.is_absolute() or ".." in written.parts:
        path = None
    else:
        path = desk.folder / written
    if path in desk.outside:
        return None
    if path is None or not _is_inside(desk.folder, path):
        desk.fault(
            "outside-folder",
            case,
            f"dataset.json lists {text[:200]!r}, which leads out of the data set. Write paths relative to the folder.",
        )
        return None
    return path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name longer than the file system allows
        return False


def _add_masks(desk: _Desk, masks: Iterable[Path]) -> None:
    """Give each mask that no entry lists to the case of its name."""
    for mask in masks:
        name = stem_of(mask)
        draft = desk.drafts.get(name)
        if draft is None:
            case, channel = split_channel(name)
            hint = (
                f" A mask is named without the channel number: {case}.nii.gz."
                if channel is not None and case in desk.drafts
                else f" Add the image as {TRAINING_IMAGES}/{name}.nii.gz, or remove the mask."
            )
            desk.fault("label-without-image", name, f"{desk.relative(mask)} has no image.{hint}")
            desk.drafts[name] = _Draft((), is_broken=True)
        elif draft.label is None:
            draft.label = mask
        elif not draft.is_broken:
            desk.fault(
                "name-twice",
                name,
                f"{desk.relative(draft.label)} and {desk.relative(mask)} are both masks of this case. Keep one.",
            )


def _finish(desk: _Desk, listing: Listing) -> Pairing:
    cases, unlisted = [], []
    for name, draft in sorted(desk.drafts.items()):
        if draft.is_broken:
            continue
        cases.append(Case(name, draft.images, draft.label))
        if draft.label is None and draft.in_training_folder:
            desk.fault(
                "image-without-label",
                name,
                f"{desk.relative(draft.images[0])} has no mask. Draw {TRAINING_LABELS}/{name}.nii.gz, "
                f"or move the image to {TEST_IMAGES}.",
            )
        if draft.label is not None and listing.training and not draft.is_listed:
            unlisted.append(name)
    if unlisted:
        desk.fault(
            "not-listed",
            "",
            f"{len(unlisted)} of the pairs in the folders are not in the list of dataset.json and are used "
            f"all the same: {listed(unlisted)}. Remove the files of those that you don't want.",
            is_error=False,
        )
    return Pairing(tuple(cases), tuple(desk.faults))

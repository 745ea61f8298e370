"""Images that may make a volume together: of one form, of one stack, of one orientation, each once."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from volseg.dicom.file import tags
from volseg.dicom.file.frame_tags import STACK_ID
from volseg.dicom.series.stack import MIN_SLICES, StackFault, axes_of, same_orientation
from volseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from volseg.dicom.file.header import Header
    from volseg.dicom.series.mosaic import Tile
    from volseg.dicom.series.slices import Slice

Axes = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Part:
    """Images that may make a volume: ``label`` names what tells them from the others of their series."""

    slices: tuple[Slice, ...]
    label: str = ""
    changes: tuple[str, ...] = ()

    def parted(self, slices: Iterable[Slice], word: str) -> Part:
        """Some of the images, with a word added to the label."""
        label = f"{self.label}_{word}" if self.label and word else self.label or word
        return replace(self, slices=tuple(slices), label=label)


_FORM_WORDS = ("kind", "series", "frame", "size", "spacing")


def by_form(members: list[tuple[Header, str]]) -> list[tuple[str, list[tuple[Header, str]]]]:
    """Images that can't share a volume apart: by SOP class, SeriesNumber, frame of reference, size, pixel spacing."""
    groups: dict[tuple[object, ...], list[tuple[Header, str]]] = defaultdict(list)
    for header, name in members:
        form = (
            header.uid(tags.SOP_CLASS_UID),
            series_number(header),
            header.text(tags.FRAME_OF_REFERENCE_UID),  # whatever it is, another one is another
            (header.unsigned(tags.ROWS), header.unsigned(tags.COLUMNS)),
            tuple(round(step, 4) for step in header.numbers(tags.PIXEL_SPACING)),
        )
        groups[form].append((header, name))
    forms = sorted(groups, key=repr)
    labels = ["" for _ in forms]
    for place, word in enumerate(_FORM_WORDS):
        values = sorted({form[place] for form in forms}, key=lambda value: (len(repr(value)), repr(value)))
        if len(values) > 1 and len(set(labels)) < len(forms):
            labels = [
                f"{label}_{word}{values.index(form[place]) + 1}".lstrip("_")
                for label, form in zip(labels, forms, strict=True)
            ]
    return [(label, groups[form]) for label, form in sorted(zip(labels, forms, strict=True), key=lambda pair: pair[0])]


def by_frame_form(part: Part) -> list[Part]:
    """Frames apart that one file may hold but no volume: by the stack that they say they are of, by pixel spacing.

    A stack is a group of frames that follow each other in space (PS3.3, C.7.6.16.2.2); a name that fewer frames bear
    than a volume needs is taken for something else.
    """
    stacks = Counter(image.header.text(STACK_ID) for image in part.slices)
    apart = min(stacks.values()) >= MIN_SLICES
    by_form: dict[tuple[str, tuple[float, ...]], list[Slice]] = defaultdict(list)
    for image in part.slices:
        spacing = tuple(round(step, 4) for step in image.header.numbers(tags.PIXEL_SPACING))
        by_form[image.header.text(STACK_ID) if apart else "", spacing].append(image)
    if len(by_form) == 1:
        return [part]
    word = "stack" if len({stack for stack, _ in by_form}) == len(by_form) else "frames"
    forms = sorted(by_form, key=lambda form: (len(form[0]), form))
    return [part.parted(by_form[form], f"{word}{number}") for number, form in enumerate(forms, start=1)]


def without_copies(part: Part) -> Part | StackFault:
    """Each image once, where files are copies of one another."""
    by_uid: dict[tuple[str, int, Tile | None], list[Slice]] = defaultdict(list)
    for image in part.slices:
        uid = image.header.uid(tags.SOP_INSTANCE_UID) or f"file {image.name}"
        by_uid[uid, image.frame, image.tile].append(image)
    if len(by_uid) == len(part.slices):
        return part
    for copies in by_uid.values():
        if len(copies) > 1 and not _are_copies(copies):
            return StackFault(
                "conflicting-copies", "Files with the same identifier hold different images, so one of them is wrong."
            )
    kept = tuple(copies[0] for copies in by_uid.values())
    return replace(part, slices=kept, changes=(*part.changes, "copies-dropped"))


def _are_copies(images: Sequence[Slice]) -> bool:
    """Whether images lie at one place and have the same pixels, be it in different transfer syntaxes."""
    if len({image.position_mm for image in images}) > 1:
        return False
    if len({image.pixel_digest() for image in images}) == 1:
        return True
    if len({image.header.syntax for image in images}) == 1:
        return False
    try:
        frames = [image.pixels() for image in images]
    except InputError:
        return False
    return all(np.array_equal(frames[0], frame) for frame in frames[1:])


def by_orientation(part: Part) -> list[tuple[Part, Axes]]:
    """Images of one orientation each, with their axes."""
    known: dict[tuple[float, ...], Axes] = {}
    clusters: list[tuple[Axes, list[Slice]]] = []
    for image in part.slices:
        cosines = image.header.numbers(tags.IMAGE_ORIENTATION_PATIENT)
        axes = known.get(cosines)
        if axes is None:
            found = axes_of(cosines)
            assert found is not None, "images without orientation were put aside before"
            axes = known.setdefault(cosines, found)
        for leader, members in clusters:
            if leader is axes or same_orientation(leader, axes):
                members.append(image)
                break
        else:
            clusters.append((axes, [image]))
    if len(clusters) == 1:
        return [(part, clusters[0][0])]
    return [
        (part.parted(members, f"orientation{number}"), axes) for number, (axes, members) in enumerate(clusters, start=1)
    ]


def series_number(header: Header) -> float:
    """SeriesNumber, infinite where absent."""
    number = header.number(tags.SERIES_NUMBER)
    return np.inf if number is None else number

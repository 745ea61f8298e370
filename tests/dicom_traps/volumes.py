"""Traps of several volumes in one place, and of many slices in one file."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom import Sequence as Items

from tests.dicom_traps.geometry import several, tampered
from tests.dicom_traps.stack import OBLIQUE, Form, Slice, Stack, Truth, decimal, padded, save, write_slices
from tests.dicom_traps.trap import Action, Trap

ENHANCED = {
    "CT": "1.2.840.10008.5.1.4.1.1.2.1",
    "MR": "1.2.840.10008.5.1.4.1.1.4.1",
    "PT": "1.2.840.10008.5.1.4.1.1.130",
}

SetTags = Callable[[Dataset, int], None]


def _set_time(data: Dataset, volume: int) -> None:
    data.TemporalPositionIdentifier = volume + 1
    data.NumberOfTemporalPositions = 3


def _set_echo(data: Dataset, volume: int) -> None:
    data.EchoNumbers, data.EchoTime = volume + 1, f"{4.6 * (volume + 1)}"


def _set_diffusion(data: Dataset, volume: int) -> None:
    data.DiffusionBValue = 500.0 * volume


def _set_direction(data: Dataset, volume: int) -> None:
    data.DiffusionBValue = 1000.0
    data.DiffusionGradientOrientation = list(np.eye(3)[volume])


def _set_phase(data: Dataset, volume: int) -> None:
    data.TriggerTime = f"{33.5 * volume}"


def _set_acquisition(data: Dataset, volume: int) -> None:
    data.AcquisitionNumber = volume + 1


def _set_complex(data: Dataset, volume: int) -> None:
    data.ImageType = ["ORIGINAL", "PRIMARY", "MP"[volume]]


def _set_inversion(data: Dataset, volume: int) -> None:
    data.InversionTime = f"{100 * (volume + 1)}"


def _set_nothing(_: Dataset, __: int) -> None:
    return


def _set_stated(count: int) -> SetTags:
    def set_count(data: Dataset, _: int) -> None:
        data.NumberOfTemporalPositions = count

    return set_count


def _stacked(
    set_tags: SetTags, folder: Path, *, count: int, interleaved: bool, modality: str = "MR"
) -> tuple[Truth, ...]:
    """Volumes at the same positions, told apart by what ``set_tags`` sets."""
    stacks = [
        Stack(modality=modality, offset=40 + 100 * volume, origin_mm=(-3.9, -4.1, 7.0)) for volume in range(count)
    ]
    slices = []
    for volume, stack in enumerate(stacks):
        for image in stack.slices():
            n = len(stack.positions_mm)
            instance = 1 + (image.number * count + volume if interleaved else volume * n + image.number)
            slices.append(image.changed(instance=instance, tamper=partial(_apply, set_tags, volume)))
    write_slices(folder, slices)
    return tuple(stack.truth() for stack in stacks)


def _apply(set_tags: SetTags, volume: int, data: Dataset) -> None:
    set_tags(data, volume)


def stacked(
    name: str,
    set_tags: SetTags,
    *,
    count: int = 3,
    action: Action = Action.SPLIT,
    code: str = "",
    interleaved: bool = False,
    modality: str = "MR",
) -> Trap:
    """A trap of several volumes at the same positions."""
    write = partial(_stacked, set_tags, count=count, interleaved=interleaved, modality=modality)
    if action is Action.REFUSE:
        return Trap(name, action, partial(_without_truth, write), code)
    return Trap(name, action, write)


def _without_truth(write: Callable[[Path], tuple[Truth, ...]], folder: Path) -> tuple[Truth, ...]:
    write(folder)
    return ()


def _unequal(folder: Path) -> tuple[Truth, ...]:
    first, second = Stack(modality="MR"), Stack(modality="MR", offset=300, number=50)
    write_slices(folder, first.slices() + second.slices([0, 1, 2, 3, 5, 6]))
    return (first.truth(),)


def _adjoining(folder: Path) -> tuple[Truth, ...]:
    """Acquisitions that follow one another along the body: one volume (a real head CT has 21 of them)."""
    stack = Stack(gaps_mm=(5.0,) * 8, tamper=tampered(AcquisitionNumber=lambda number: 1 + number // 3))
    write_slices(folder, stack.slices())
    return (stack.truth(),)


def _one_acquisition_two_uids(folder: Path) -> tuple[Truth, ...]:
    first, second = Stack(series=4), Stack(series=5, origin_mm=(-3.9, -4.1, 60.0))
    write_slices(folder, [image.changed(tamper=_same_acquisition) for image in first.slices() + second.slices()])
    return first.truth(), second.truth()


def _same_acquisition(data: Dataset) -> None:
    data.AcquisitionUID = "1.2.826.0.1.3680043.10.9999.77"
    data.AcquisitionNumber = 1


# Many slices in one file


def enhanced(
    stacks: Sequence[Stack], *, position: str = "shared-orientation", per_frame_rescale: bool = False
) -> Dataset:
    """An enhanced multi-frame object (PS3.3, A.36, A.38, A.56): frames in an order that only functional groups tell."""
    first = stacks[0]
    data = Slice(first, 0).dataset()
    data.SOPClassUID = ENHANCED[first.modality]
    data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
        "RescaleSlope",
        "RescaleIntercept",
        "RescaleType",
    ):
        if keyword in data:
            delattr(data, keyword)
    frames = [(time, stack, number) for time, stack in enumerate(stacks) for number in range(len(stack.positions_mm))]
    order = np.random.default_rng(5).permutation(len(frames))
    frames = [frames[place] for place in order]
    shared = Dataset()
    measures = Dataset()
    measures.PixelSpacing = [decimal(first.pixel_mm[1]), decimal(first.pixel_mm[0])]
    measures.SliceThickness = "5"
    shared.PixelMeasuresSequence = Items([measures])
    if position == "shared-orientation":
        shared.PlaneOrientationSequence = Items([_orientation(first)])
    if not per_frame_rescale:
        shared.PixelValueTransformationSequence = Items(
            [_transformation(first.form_of(0).slope, first.form_of(0).intercept)]
        )
    data.SharedFunctionalGroupsSequence = Items([shared])
    groups = []
    for time, stack, number in frames:
        group, content, plane = Dataset(), Dataset(), Dataset()
        content.StackID = "1"
        content.InStackPositionNumber = number + 1
        content.TemporalPositionIndex = time + 1
        content.DimensionIndexValues = [time + 1, number + 1]
        group.FrameContentSequence = Items([content])
        plane.ImagePositionPatient = [decimal(place) for place in stack.positions_mm[number]]
        group.PlanePositionSequence = Items([plane])
        if position != "shared-orientation":
            group.PlaneOrientationSequence = Items([_orientation(stack)])
        if per_frame_rescale:
            form = stack.form_of(number)
            group.PixelValueTransformationSequence = Items([_transformation(form.slope, form.intercept)])
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = Items(groups)
    data.DimensionIndexSequence = Items([_dimension(0x00209128), _dimension(0x00209057)])
    data.NumberOfFrames = len(frames)
    data.PixelData = padded(
        b"".join(stack.form_of(number).words(stack.phantom(number)).tobytes() for _, stack, number in frames)
    )
    return data


def _dimension(pointer: int) -> Dataset:
    """One of what DimensionIndexValues count: the point in time, the place in the stack (PS3.3, C.7.6.17)."""
    item = Dataset()
    item.DimensionIndexPointer, item.FunctionalGroupPointer = pointer, 0x00209111
    return item


def _orientation(stack: Stack) -> Dataset:
    item = Dataset()
    item.ImageOrientationPatient = [decimal(number) for number in stack.orientation]
    return item


def _transformation(slope: float, intercept: float) -> Dataset:
    item = Dataset()
    item.RescaleSlope, item.RescaleIntercept, item.RescaleType = decimal(slope), decimal(intercept), "US"
    return item


def _enhanced(stacks: tuple[Stack, ...], folder: Path, *, lost: bool = False, **more: object) -> tuple[Truth, ...]:
    save(folder / "frames", enhanced(stacks, **more))  # type: ignore[arg-type]
    return () if lost else tuple(stack.truth() for stack in stacks)


def _enhanced_lacking(folder: Path) -> tuple[Truth, ...]:
    stack = Stack(gaps_mm=(5.0, 5.0, 10.0, 5.0, 5.0), modality="MR")
    save(folder / "frames", enhanced([stack]))
    return ()


def mosaic(stack: Stack, tiles: int, *, against: bool = False) -> Dataset:
    """A Siemens mosaic: slices as tiles of one image, whose own position is that of a larger image about them.

    Where they follow each other ``against`` the normal of the image, the private header's normal says so.
    """
    count = len(stack.positions_mm)
    assert count <= tiles**2
    columns, rows = stack.size
    words = np.zeros((rows * tiles, columns * tiles), np.uint16)
    order = range(count)[::-1] if against else range(count)
    for place, number in enumerate(order):
        top, left = place // tiles * rows, place % tiles * columns
        words[top : top + rows, left : left + columns] = stack.form_of(number).words(stack.phantom(number))
    data = Slice(stack, 0).dataset()
    data.Manufacturer = "SIEMENS"
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    data.Rows, data.Columns = words.shape
    data.PixelData = words.tobytes()
    data.SpacingBetweenSlices = decimal(stack.gaps_mm[0])
    # The position is given as if the whole mosaic were one slice with the first tile's centre.
    outwards = (columns * tiles - columns) / 2 * stack.pixel_mm[0] * stack.axes[0] + (
        rows * tiles - rows
    ) / 2 * stack.pixel_mm[1] * stack.axes[1]
    data.ImagePositionPatient = [decimal(place) for place in stack.positions_mm[order[0]] - outwards]
    data.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    data.add_new(0x0019100A, "US", count)
    data.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
    data.add_new(
        0x00291010,
        "OB",
        csa(
            {
                "NumberOfImagesInMosaic": ("US", [str(count)]),
                "SliceNormalVector": ("FD", [f"{number:.8f}" for number in stack.axes[2] * (-1 if against else 1)]),
            }
        ),
    )
    return data


def csa(tags: dict[str, tuple[str, list[str]]]) -> bytes:
    """Siemens' private header of the second form: named lists of texts."""
    raw = b"SV10\x04\x03\x02\x01" + struct.pack("<II", len(tags), 77)
    for name, (vr, values) in tags.items():
        raw += name.encode().ljust(64, b"\0") + struct.pack("<i4siii", len(values), vr.encode(), 6, 6, 77)
        for text in [*values, *[""] * (6 - len(values))]:
            value = text.encode() + b"\0" if text else b""
            raw += struct.pack("<iiii", len(value), len(value), 77, len(value)) + value.ljust(
                -(-len(value) // 4) * 4, b"\0"
            )
    return padded(raw)


def _mosaic_against(folder: Path) -> tuple[Truth, ...]:
    stack = Stack(modality="MR", orientation=OBLIQUE)
    save(folder / "0", mosaic(stack, 3, against=True))
    return (stack.truth(),)


def _mosaic_alone(folder: Path) -> tuple[Truth, ...]:
    """What is left of a mosaic after private elements were taken out, as many archives do."""
    data = mosaic(Stack(modality="MR"), 3)
    data.remove_private_tags()
    save(folder / "0", data)
    return ()


def _enhanced_undescribed(folder: Path) -> tuple[Truth, ...]:
    data = enhanced([Stack()])
    data.PerFrameFunctionalGroupsSequence = data.PerFrameFunctionalGroupsSequence[:-1]
    save(folder / "frames", data)
    return ()


def _mosaic(stack: Stack, volumes: int, folder: Path) -> tuple[Truth, ...]:
    truths = []
    for volume in range(volumes):
        one = Stack(**{**vars(stack), "offset": stack.offset + 100 * volume, "number": 1 + volume})
        data = mosaic(one, 3)
        data.AcquisitionNumber = volume + 1
        save(folder / f"{volume}", data)
        truths.append(one.truth())
    return tuple(truths)


VOLUMES = (
    stacked("points-in-time", _set_time),
    stacked("echoes", _set_echo, count=2),
    stacked("diffusion-weights", _set_diffusion, count=2),
    stacked("diffusion-directions", _set_direction),
    stacked("cardiac-phases", _set_phase, interleaved=True),
    stacked("inversion-times", _set_inversion),
    stacked("magnitude-and-phase", _set_complex, count=2),
    stacked("two-acquisitions-of-one-place", _set_acquisition, count=2, modality="CT"),
    stacked("told-apart-by-instance-number-alone", _set_nothing, count=4),
    stacked("instance-numbers-interleaved", _set_nothing, count=4, interleaved=True),
    stacked("instance-numbers-with-count-stated", _set_stated(4), count=4),
    stacked("fewer-stated", _set_stated(3), count=4, action=Action.REFUSE, code="several-images-at-one-position"),
    Trap(
        "unequal-counts",
        Action.SPLIT,
        _unequal,
        refused=("incomplete-volume",),
        allowed=frozenset({"run-cut-short"}),
    ),
    Trap("adjoining-acquisitions", Action.PLAIN, _adjoining),
    several(
        "several-series-numbers-under-one-uid",
        Action.SPLIT,
        Stack(tamper=tampered(SeriesNumber=1)),
        Stack(tamper=tampered(SeriesNumber=2), number=50, offset=300),
    ),
    Trap(
        "one-acquisition-under-two-uids",
        Action.SPLIT,
        _one_acquisition_two_uids,
        warnings=("acquisition-in-several-series",),
    ),
    Trap("enhanced-ct", Action.PLAIN, partial(_enhanced, (Stack(),))),
    Trap(
        "enhanced-mr-oblique",
        Action.PLAIN,
        partial(_enhanced, (Stack(modality="MR", orientation=OBLIQUE),), position="per-frame"),
    ),
    Trap(
        "enhanced-mr-two-times",
        Action.SPLIT,
        partial(_enhanced, (Stack(modality="MR"), Stack(modality="MR", offset=300))),
    ),
    Trap("enhanced-pet", Action.PLAIN, partial(_enhanced, (Stack(modality="PT"),))),
    Trap("enhanced-missing-frame", Action.REFUSE, _enhanced_lacking, "missing-slice"),
    Trap(
        "enhanced-ct-rescale-per-frame",
        Action.PLAIN,
        partial(
            _enhanced,
            (Stack(form=[Form(slope=0.25 * (number + 1), intercept=-10.0) for number in range(7)]),),
            per_frame_rescale=True,
        ),
    ),
    Trap("enhanced-undescribed-frame", Action.REFUSE, _enhanced_undescribed, "damaged-file"),
    Trap("siemens-mosaic-against-the-normal", Action.FIX, _mosaic_against, changes=("mosaic",)),
    Trap("siemens-mosaic-without-private-elements", Action.REFUSE, _mosaic_alone, "siemens-mosaic"),
    Trap("siemens-mosaic", Action.FIX, partial(_mosaic, Stack(modality="MR"), 1), changes=("mosaic",)),
    Trap(
        "siemens-mosaics-over-time",
        Action.SPLIT,
        partial(_mosaic, Stack(modality="MR", orientation=OBLIQUE), 3),
        changes=("mosaic",),
    ),
)

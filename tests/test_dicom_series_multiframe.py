"""Enhanced multi-frame images, against references, dcm2niix, and made ones that lie."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
from pydicom import Dataset
from pydicom import Sequence as Items
from pydicom.tag import Tag

from tests.dicom_traps.stack import OBLIQUE, Form, Stack, Truth, save
from tests.dicom_traps.volumes import enhanced
from tests.world import EXACT_MM, assert_same_in_world
from volseg.dicom import Scan, Series, SliceFault, load_values, scan
from volseg.dicom.file.header import read_header
from volseg.dicom.pixels import layout_of, read_frames, read_series
from volseg.dicom.series.multiframe import frames_of
from volseg.errors import GeometryError
from volseg.outcomes import Status

if TYPE_CHECKING:
    from conftest import RealData

FLOAT32_STEP = 2**-23
"""References hold slope and intercept as float32."""
SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "deflated": "1.2.840.10008.1.2.1.99",
    "big endian": "1.2.840.10008.1.2.2",
    "RLE": "1.2.840.10008.1.2.5",
}
FIRST = Stack(modality="MR", orientation=OBLIQUE)
SECOND = Stack(modality="MR", orientation=OBLIQUE, offset=300)

Edit = Callable[[Dataset], None]


def only(found: Scan) -> Series:
    (series,) = found.series
    assert not found.rejected
    return series


def refusal(found: Scan) -> str:
    assert not found.series
    (rejected,) = found.rejected
    assert rejected.status is Status.REFUSED
    return rejected.code


def written(folder: Path, stacks: Sequence[Stack] = (FIRST,), *edits: Edit, **form: object) -> Scan:
    """An enhanced object of the stacks, frames in disorder, after changes."""
    data = enhanced(stacks, **form)  # type: ignore[arg-type]
    for edit in edits:
        edit(data)
    save(folder / "frames", data)
    return scan(folder)


def assert_is(series: Series, truth: Truth) -> None:
    """Each pixel at its place with its value."""
    volume = load_values(series, jobs=1).volume
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.grid.affine
    voxels = nibabel.affines.apply_affine(np.linalg.inv(to_lps), truth.lps_mm.reshape(-1, 3))
    nearest = np.rint(voxels).astype(int)
    off_mm = nibabel.affines.apply_affine(to_lps, nearest) - truth.lps_mm.reshape(-1, 3)
    assert np.linalg.norm(off_mm, axis=1).max() <= EXACT_MM
    assert volume.array.size == truth.values.size
    np.testing.assert_allclose(volume.array[tuple(nearest.T)], truth.values.ravel(), rtol=FLOAT32_STEP)


def each_frame(data: Dataset, change: Callable[[Dataset, int], None]) -> None:
    """Change each frame's functional groups, by the volume that it is of."""
    for group in data.PerFrameFunctionalGroupsSequence:
        content = group.FrameContentSequence[0]
        volume = content.TemporalPositionIndex - 1
        change(group, volume)


def told_by(change: Callable[[Dataset, int], None]) -> Edit:
    """Volumes that something else tells apart than their time."""

    def edit(data: Dataset) -> None:
        each_frame(data, change)
        for group in data.PerFrameFunctionalGroupsSequence:
            del group.FrameContentSequence[0].TemporalPositionIndex
            del group.FrameContentSequence[0].DimensionIndexValues

    return edit


def put(group: Dataset, sequence: str, **values: object) -> None:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    setattr(group, sequence, Items([item]))


def _echo(group: Dataset, volume: int) -> None:
    put(group, "MREchoSequence", EffectiveEchoTime=4.6 * (volume + 1))


def _diffusion(group: Dataset, volume: int) -> None:
    put(group, "MRDiffusionSequence", DiffusionBValue=700.0 * volume)


def _direction(group: Dataset, volume: int) -> None:
    direction = Dataset()
    direction.DiffusionGradientOrientation = [1.0, 0.0, 0.0] if volume else [0.0, 0.0, 1.0]
    put(
        group, "MRDiffusionSequence", DiffusionBValue=700.0, DiffusionGradientDirectionSequence=Items([direction])
    )  # fmt: skip


def _phase(group: Dataset, volume: int) -> None:
    put(group, "CardiacSynchronizationSequence", NominalCardiacTriggerDelayTime=33.5 * volume)


def _inversion(group: Dataset, volume: int) -> None:
    put(group, "MRModifierSequence", InversionTimes=[100.0 * (volume + 1)])


def _kind(group: Dataset, volume: int) -> None:
    kind = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    put(group, "MRImageFrameTypeSequence", FrameType=kind, ComplexImageComponent=("MAGNITUDE", "PHASE")[volume])


def _stack(group: Dataset, volume: int) -> None:
    group.FrameContentSequence[0].StackID = "AB"[volume]


def _moment(group: Dataset, volume: int) -> None:
    group.FrameContentSequence[0].FrameAcquisitionDateTime = f"2020010112000{volume}.5"


def _converted(group: Dataset, volume: int) -> None:
    put(group, "UnassignedPerFrameConvertedAttributesSequence", EchoTime=f"{4.6 * (volume + 1)}")


def test_siemens_frames_over_time_are_the_reference(real_data: RealData) -> None:
    folder = real_data("dicom/mr-enhanced")
    found = scan(folder / "In/Siemens/XA10")
    reference = nibabel.load(folder / "Ref/Siemens_REST1_w_SMS_PF7-8_6.nii")
    assert [series.identity.part for series in found.series] == ["time1", "time2", "time3", "time4"]
    for time, series in enumerate(found.series):
        assert_same_in_world(
            load_values(series, jobs=1).volume, np.asanyarray(reference.dataobj)[..., time], reference.affine
        )


def test_a_philips_field_map_and_its_magnitude_are_the_references(real_data: RealData) -> None:
    folder = real_data("dicom/mr-enhanced")
    found = scan(folder / "In/Philips")
    field_map, magnitude = found.series
    assert not found.rejected
    assert (field_map.identity.part, magnitude.identity.part) == ("type1", "type2")
    reference = nibabel.load(folder / "Ref/Philips_WIP_B0_NS_801_e2_fieldmaphz.nii")
    # Near zero of the field map, what float32 leaves of the intercept counts.
    loaded = load_values(field_map, jobs=1).volume
    stored = np.rint((reference.get_fdata() + 500) / 0.24420024420024)
    assert_same_in_world(loaded, (stored * 0.24420024420024 - 500).astype(np.float32), reference.affine)
    np.testing.assert_allclose(np.sort(loaded.array, axis=None), np.sort(reference.get_fdata(), axis=None), atol=0.01)
    # The reference's scale is that of Philips' private elements; the stored values are the same.
    reference = nibabel.load(folder / "Ref/Philips_WIP_B0_NS_801_e1.nii")
    stored = reference.dataobj.get_unscaled().astype(np.float64)
    assert_same_in_world(
        load_values(magnitude, jobs=1).volume, (stored * 1.27985347985347).astype(np.float32), reference.affine
    )


def test_what_a_pacs_does_to_private_elements_changes_nothing(real_data: RealData, tmp_path: Path) -> None:
    folder = real_data("dicom/mr-pacs-mangled")
    mangled, whole = scan(folder / "Agfa"), scan(folder / "Siemens")
    assert not mangled.rejected
    tool = shutil.which("dcm2niix", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert tool is not None, "dcm2niix is a development dependency"
    command = [tool, "-b", "n", "-f", "other", "-o", tmp_path, folder / "Siemens"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    other = nibabel.load(tmp_path / "other.nii")
    assert len(mangled.series) == len(whole.series) == other.shape[3] == 4
    for time, (one, same) in enumerate(zip(mangled.series, whole.series, strict=True)):
        assert one.identity.part == same.identity.part == f"time00{time + 1}", "of 200 that are stated"
        array = np.asanyarray(other.dataobj)[..., time]
        assert_same_in_world(load_values(one, jobs=1).volume, array, other.affine)
        assert_same_in_world(load_values(same, jobs=1).volume, array, other.affine)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_frames_of_two_volumes_come_out_right_in_every_kind_of_file(syntax: str, tmp_path: Path) -> None:
    stacks = [FIRST, SECOND]
    data = enhanced(stacks)
    if syntax == "RLE":
        save(tmp_path / "frames", data)
        import pydicom

        data = pydicom.dcmread(tmp_path / "frames")
        data.compress(SYNTAXES[syntax], generate_instance_uid=False)
    elif syntax == "big endian":
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    save(tmp_path / "frames", data, SYNTAXES[syntax])
    found = scan(tmp_path)
    assert [series.identity.part for series in found.series] == ["time1", "time2"]
    for series, stack in zip(found.series, stacks, strict=True):
        assert_is(series, stack.truth())


def test_frames_of_one_byte_come_out_right_where_bytes_are_swapped_in_pairs(tmp_path: Path) -> None:
    form = Form(allocated=8, stored=8, signed=False)
    stacks = [
        Stack(modality="MR", form=form, gaps_mm=(0.5,) * 4, size=(5, 7), pixel_mm=(0.2, 0.2), offset=offset)
        for offset in (110, 130)
    ]
    data = enhanced(stacks)
    raw = data.PixelData + bytes(len(data.PixelData) % 2)
    data.PixelData = np.frombuffer(raw, np.uint16).byteswap().tobytes()
    data["PixelData"].VR = "OW"
    data["PixelData"].is_undefined_length = False
    path = save(tmp_path / "frames", data, SYNTAXES["big endian"])
    if not path.read_bytes().endswith(data.PixelData):
        pytest.fail("the file was not written as it was meant")
    for series, stack in zip(scan(tmp_path).series, stacks, strict=True):
        assert_is(series, stack.truth())


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (_echo, ["echo1", "echo2"]),
        (_diffusion, ["b1", "b2"]),
        (_direction, ["direction1", "direction2"]),
        (_phase, ["phase1", "phase2"]),
        (_inversion, ["inversion1", "inversion2"]),
        (_kind, ["type1", "type2"]),
        (_stack, ["stack1", "stack2"]),
        (_moment, ["time1", "time2"]),
        (_converted, ["echo1", "echo2"]),
    ],
)
def test_volumes_part_by_what_tells_them_apart(
    change: Callable[[Dataset, int], None], parts: list[str], tmp_path: Path
) -> None:
    found = written(tmp_path, [FIRST, SECOND], told_by(change))
    assert [series.identity.part for series in found.series] == parts
    for series, stack in zip(found.series, [FIRST, SECOND], strict=True):
        assert_is(series, stack.truth())


def test_a_dimension_that_no_element_stands_for_tells_volumes_apart(tmp_path: Path) -> None:
    def edit(data: Dataset) -> None:
        for group in data.PerFrameFunctionalGroupsSequence:
            del group.FrameContentSequence[0].TemporalPositionIndex
        pointers = []
        for tag in (0x00189999, 0x00209057):
            item = Dataset()
            item.DimensionIndexPointer = Tag(tag)
            pointers.append(item)
        data.DimensionIndexSequence = Items(pointers)

    found = written(tmp_path, [FIRST, SECOND], edit)
    assert [series.identity.part for series in found.series] == ["dimension1", "dimension2"]
    for series, stack in zip(found.series, [FIRST, SECOND], strict=True):
        assert_is(series, stack.truth())


def test_volumes_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    found = written(tmp_path, [FIRST, SECOND], told_by(lambda *_: None))
    assert refusal(found) == "several-images-at-one-position"


def test_two_stacks_that_follow_each_other_are_two_volumes(tmp_path: Path) -> None:
    beyond = Stack(modality="MR", origin_mm=(-3.9, -4.1, 60.0))
    stacks = [Stack(modality="MR"), beyond]
    found = written(tmp_path, stacks, lambda data: each_frame(data, _stack))
    assert [series.identity.part for series in found.series] == ["stack1", "stack2"]
    for series, stack in zip(found.series, stacks, strict=True):
        assert_is(series, stack.truth())


def test_a_stack_of_its_own_for_each_frame_is_no_stack(tmp_path: Path) -> None:
    def edit(data: Dataset) -> None:
        for number, group in enumerate(data.PerFrameFunctionalGroupsSequence):
            group.FrameContentSequence[0].StackID = str(number)

    assert_is(only(written(tmp_path, [FIRST], edit)), FIRST.truth())


def test_frames_of_two_orientations_and_of_two_pixel_spacings_are_volumes_of_their_own(tmp_path: Path) -> None:
    turned = [Stack(modality="MR"), Stack(modality="MR", orientation=(0, 1, 0, 0, 0, -1))]
    (tmp_path / "a").mkdir()
    found = written(tmp_path / "a", turned, position="per-frame")
    assert [series.identity.part for series in found.series] == ["orientation1", "orientation2"]

    def edit(data: Dataset) -> None:
        del data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
        each_frame(data, lambda group, n: put(group, "PixelMeasuresSequence", PixelSpacing=[["0.6", "0.8"], [1, 1]][n]))

    (tmp_path / "b").mkdir()
    found = written(tmp_path / "b", [FIRST, SECOND], edit)
    assert [series.grid.spacing_mm[:2] for series in found.series] == [
        pytest.approx((0.8, 0.6)),
        pytest.approx((1, 1)),
    ]
    assert_is(found.series[0], FIRST.truth())


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_each_frame_is_rescaled_by_its_own_slope(modality: str, tmp_path: Path) -> None:
    forms = [Form(slope=0.25 * (number + 1), intercept=-10.0 * number) for number in range(7)]
    stack = Stack(modality=modality, form=forms)
    series = only(written(tmp_path, [stack], per_frame_rescale=True))
    assert_is(series, stack.truth())
    assert load_values(series).volume.array.dtype == np.float32


def test_what_stands_outside_of_functional_groups_places_and_scales_nothing(tmp_path: Path) -> None:
    def edit(data: Dataset) -> None:
        data.ImagePositionPatient = [1000, 1000, 1000]
        data.ImageOrientationPatient = [0, 1, 0, 0, 0, 1]
        data.PixelSpacing = [9, 9]
        data.RescaleSlope, data.RescaleIntercept = 7, 7
        for group in data.PerFrameFunctionalGroupsSequence:
            group.ImagePositionPatient = [5, 5, 5]
            group.FrameContentSequence[0].ImagePositionPatient = [6, 6, 6]

    assert_is(only(written(tmp_path, [FIRST], edit)), FIRST.truth())


def test_values_of_a_frame_go_before_those_that_all_share(tmp_path: Path) -> None:
    def edit(data: Dataset) -> None:
        put(data.SharedFunctionalGroupsSequence[0], "PlanePositionSequence", ImagePositionPatient=[0, 0, 0])

    assert_is(only(written(tmp_path, [FIRST], edit)), FIRST.truth())


def _concatenation(folder: Path) -> None:
    """One volume in two files (PS3.3, C.7.6.16.1)."""
    whole = enhanced([FIRST])
    groups = list(whole.PerFrameFunctionalGroupsSequence)
    size = len(whole.PixelData) // len(groups)
    for part, (first, last) in enumerate(pairwise((0, 3, len(groups))), start=1):
        data = enhanced([FIRST])
        data.SOPInstanceUID = f"{whole.SOPInstanceUID}.{part}"
        data.ConcatenationUID = f"{whole.SOPInstanceUID}.9"
        data.InConcatenationNumber, data.InConcatenationTotalNumber = part, 2
        data.PerFrameFunctionalGroupsSequence = Items(groups[first:last])
        data.NumberOfFrames = last - first
        data.PixelData = whole.PixelData[first * size : last * size]
        save(folder / str(part), data)


def test_one_volume_may_lie_in_two_files(tmp_path: Path) -> None:
    _concatenation(tmp_path)
    assert_is(only(scan(tmp_path)), FIRST.truth())


def test_a_volume_of_which_one_file_lacks_is_refused(tmp_path: Path) -> None:
    _concatenation(tmp_path)
    (tmp_path / "2").unlink()
    assert refusal(scan(tmp_path)) == "missing-part"


@pytest.mark.parametrize("name", ["23x38x3", "24x38x3"])
def test_an_enhanced_ct_is_the_classic_one_that_it_was_made_from(name: str, real_data: RealData) -> None:
    folder = real_data(f"dicom/segmentation-objects/dcmqi/{name}")
    classic = load_values(only(scan(folder / "image"))).volume
    assert_same_in_world(load_values(only(scan(folder / "multiframe"))).volume, classic.array, classic.grid.affine)


def test_copies_of_a_file_are_taken_once_and_others_of_its_name_are_not(tmp_path: Path) -> None:
    data = enhanced([FIRST, SECOND])
    save(tmp_path / "0", data)
    save(tmp_path / "1", data)
    found = scan(tmp_path)
    assert [series.changes for series in found.series] == [("copies-dropped",)] * 2
    for series, stack in zip(found.series, [FIRST, SECOND], strict=True):
        assert_is(series, stack.truth())
    data.PixelData = data.PixelData[:-2] + b"\x01\x02"
    save(tmp_path / "2", data)
    assert refusal(scan(tmp_path)) == "conflicting-copies"


def _frames(count: int) -> Edit:
    def edit(data: Dataset) -> None:
        data.NumberOfFrames = count

    return edit


def _described(count: int) -> Edit:
    def edit(data: Dataset) -> None:
        data.PerFrameFunctionalGroupsSequence = data.PerFrameFunctionalGroupsSequence[:count]

    return edit


def _without(sequence: str) -> Edit:
    def edit(data: Dataset) -> None:
        for group in (*data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence[2]):
            if sequence in group:
                delattr(group, sequence)

    return edit


def _in_first(sequence: str, **values: object) -> Edit:
    return lambda data: put(data.PerFrameFunctionalGroupsSequence[0], sequence, **values)


def _one_rescaled(data: Dataset) -> None:
    _without("PixelValueTransformationSequence")(data)
    put(
        data.PerFrameFunctionalGroupsSequence[0], "PixelValueTransformationSequence", RescaleSlope=2, RescaleIntercept=0
    )


def _mosaic(data: Dataset) -> None:
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]


def _cut_off(data: Dataset) -> None:
    data.PixelData = data.PixelData[: len(data.PixelData) // 2]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (_frames(1_000_000_000), "declares-too-much"),
        (_frames(8), "declares-too-much"),
        (_frames(6), "damaged-file"),
        (_frames(-1), "damaged-file"),
        (_described(6), "damaged-file"),
        (_described(0), "damaged-file"),
        (_cut_off, "declares-too-much"),
        (_without("PlanePositionSequence"), "no-position"),
        (_without("PlaneOrientationSequence"), "no-position"),
        (_without("PixelMeasuresSequence"), "no-position"),
        (_in_first("PlanePositionSequence", ImagePositionPatient=["1e300", "0", "0"]), "no-position"),
        (_in_first("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "no-position"),
        (_one_rescaled, "damaged-file"),
        (_mosaic, "siemens-mosaic"),
    ],
)
def test_frames_that_nobody_can_place_or_read_are_refused(edit: Edit, code: str, tmp_path: Path) -> None:
    assert refusal(written(tmp_path, [FIRST], edit)) == code


def test_one_bad_file_of_a_series_refuses_all_of_it(tmp_path: Path) -> None:
    """Whether the volume of its point in time is the only one that lacks, nobody could tell."""
    save(tmp_path / "0", enhanced([FIRST]))
    data = enhanced([SECOND])
    data.SOPInstanceUID += ".2"
    _described(3)(data)
    save(tmp_path / "1", data)
    found = scan(tmp_path)
    assert refusal(found) == "damaged-file"
    assert found.rejected[0].source == "1"


def test_functional_groups_nested_without_end_are_refused(tmp_path: Path) -> None:
    inner = Dataset()
    for _ in range(40):
        outer = Dataset()
        outer.PlanePositionSequence = Items([inner])
        inner = outer

    def edit(data: Dataset) -> None:
        data.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence = inner.PlanePositionSequence

    assert refusal(written(tmp_path, [FIRST], edit)) == "nested-too-deep"


def test_a_damaged_frame_names_its_file(tmp_path: Path) -> None:
    import pydicom

    save(tmp_path / "frames", enhanced([FIRST]))
    data = pydicom.dcmread(tmp_path / "frames")
    data.compress(SYNTAXES["RLE"], generate_instance_uid=False)
    before, head, after = data.PixelData.rpartition(struct.pack("<II", 2, 64))  # two segments, the first after the head
    data.PixelData = before + b"\xff" * len(head) + after
    save(tmp_path / "frames", data, SYNTAXES["RLE"])
    with pytest.raises(SliceFault) as caught:
        load_values(only(scan(tmp_path)), jobs=1)
    assert caught.value.private == "frames"


def test_each_frame_is_the_header_of_a_classic_image(tmp_path: Path) -> None:
    def edit(data: Dataset) -> None:
        each_frame(data, lambda group, _: put(group, "MRTimingAndRelatedParametersSequence", RepetitionTime=2300))
        each_frame(data, _echo)

    written(tmp_path, [FIRST, SECOND], edit)
    header = read_header(tmp_path / "frames")
    frames = frames_of(header)
    assert len(frames) == 14
    for frame in frames:
        assert frame.number(0x00180080) == 2300
        time = frame.integer(0x00200100)
        assert time is not None
        assert frame.number(0x00180081) == pytest.approx(4.6 * time)
        assert len(frame.numbers(0x00200032)) == 3


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_chosen_frames_are_read_to_chosen_planes(syntax: str, tmp_path: Path) -> None:
    import pydicom

    save(tmp_path / "0", enhanced([FIRST]))
    data = pydicom.dcmread(tmp_path / "0")
    if syntax == "RLE":
        data.compress(SYNTAXES[syntax], generate_instance_uid=False)
    elif syntax == "big endian":
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    layouts = [
        layout_of(read_header(save(tmp_path / "0", data, SYNTAXES[syntax]))),
        layout_of(read_header(save(tmp_path / "1", enhanced([SECOND])))),
    ]
    whole = [read_frames(layout) for layout in layouts]
    planes = [(0, 6), (1, 2), (0, 0), (0, 1), (0, 2), (1, 1), (0, 2)]
    out = np.empty((len(planes), *whole[0].shape[1:]), np.int32)
    seen: list[tuple[int, int]] = []
    read_series(layouts, out, planes=planes, jobs=1, advance=lambda number, count: seen.append((number, count)))
    np.testing.assert_array_equal(out, [whole[number][frame] for number, frame in planes])
    assert sum(count for _, count in seen) == len(planes)


def test_a_frame_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    layout = layout_of(read_header(save(tmp_path / "0", enhanced([FIRST]))))
    with pytest.raises(GeometryError):
        read_series([layout], np.empty((1, 12, 10), np.int16), planes=[(0, 7)])

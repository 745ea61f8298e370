"""Nested elements, compared with pydicom; and files that nest, declare or end as they must not."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from pydicom import Dataset, Sequence, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from volseg.dicom.file import elements
from volseg.dicom.file.elements import Item, Wanted
from volseg.dicom.file.header import read_header, read_items
from volseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

ROIS, NUMBER, NAME = 0x30060020, 0x30060022, 0x30060026
FRAMES, PLANE, POSITION, SEGMENT, SEGMENT_NUMBER = 0x52009230, 0x00209113, 0x00200032, 0x0062000A, 0x0062000B
WANTED = Wanted(
    frozenset({NUMBER, NAME, POSITION, SEGMENT_NUMBER}), frozenset({ROIS, FRAMES, PLANE, SEGMENT, 0x30060012})
)


def item(**values: object) -> Dataset:
    data = Dataset()
    for name, value in values.items():
        setattr(data, name, value)
    return data


def structures(*, undefined: bool) -> Dataset:
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.3"
    data.SeriesInstanceUID = "1.2.4"
    # What nobody asked for stands before, between and inside.
    data.OtherPatientIDsSequence = Sequence([item(PatientID="x", TypeOfPatientID="TEXT")])
    data.StructureSetROISequence = Sequence(
        [
            item(ROINumber=number, ROIName=f"structure {number}", ROIDescription="y" * 300,
                 DerivationCodeSequence=Sequence([item(CodeValue="1")]))
            for number in range(5)
        ]
    )  # fmt: skip
    data.PerFrameFunctionalGroupsSequence = Sequence(
        [
            item(
                PlanePositionSequence=Sequence([item(ImagePositionPatient=[1, 2, number])]),
                SegmentIdentificationSequence=Sequence([item(ReferencedSegmentNumber=number)]),
            )
            for number in range(3)
        ]
    )
    data.StructureSetROISequence.append(item(ROINumber=9, ROIName=""))
    if undefined:
        for element in data.iterall():
            if element.VR == "SQ":
                element.is_undefined_length = True
                for inner in element.value:
                    inner.is_undefined_length_sequence_item = True
    return data


def write(path: Path, data: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = data.SOPClassUID, "1.2.3"
    dcmwrite(path, data, enforce_file_format=True)
    return path


def read(path: Path, wanted: Wanted = WANTED) -> Item:
    return read_items(read_header(path), wanted)


@pytest.mark.parametrize("undefined", [False, True], ids=["known lengths", "delimiters"])
@pytest.mark.parametrize("pixels", [False, True], ids=["bare", "before pixels"])
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_the_tree_is_that_of_pydicom(syntax: str, pixels: bool, undefined: bool, tmp_path: Path) -> None:
    data = structures(undefined=undefined)
    if pixels:
        data.Rows = data.Columns = 2
        data.BitsAllocated, data.PixelData = 8, bytes(4)
        data["PixelData"].VR = "OB"
    found = read(write(tmp_path / "file", data, syntax))
    assert [(roi.integer(NUMBER), roi.text(NAME)) for roi in found.items(ROIS)] == [
        (int(roi.ROINumber), roi.ROIName) for roi in data.StructureSetROISequence
    ]
    assert [place.numbers(POSITION) for place in found.along(FRAMES, PLANE)] == [(1, 2, number) for number in range(3)]
    assert [segment.unsigned(SEGMENT_NUMBER) for segment in found.along(FRAMES, SEGMENT)] == [0, 1, 2]
    assert found.first(0x30060012) is None
    assert found.items(0x30060012) == found.along(0x30060012, ROIS) == ()


def test_a_sequence_of_unknown_vr_is_read(tmp_path: Path) -> None:
    """PS3.5, 6.2.2 note 2: such a sequence is implicit inside an explicit file."""
    path = write(tmp_path / "file", structures(undefined=False))
    inner = struct.pack("<HHI", 0x3006, 0x0022, 2) + b"7 "
    content = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    for length, end in ((len(content), b""), (0xFFFFFFFF, struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))):
        path.write_bytes(path.read_bytes() + struct.pack("<HH2sHI", 0x3006, 0x0012, b"UN", 0, length) + content + end)
        (found,) = read(path).items(0x30060012)
        assert found.integer(NUMBER) == 7


def opened(depth: int, tag: tuple[int, int]) -> bytes:
    """Sequences of undefined length, one in the other."""
    return (
        struct.pack("<HH2sHI", *tag, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ) * depth


def closed(depth: int) -> bytes:
    return (struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)) * depth


@pytest.mark.parametrize("tag", [(0x3006, 0x0020), (0x3006, 0x0099)], ids=["wanted", "not wanted"])
def test_deep_nests_inside_a_sequence_of_known_length_are_refused(tag: tuple[int, int], tmp_path: Path) -> None:
    """The header's reader steps over known lengths, so the bound must hold here as well."""
    path = write(tmp_path / "file", structures(undefined=False))
    inner = opened(50_000, tag) + closed(50_000)
    inner = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    path.write_bytes(path.read_bytes() + struct.pack("<HH2sHI", 0x3006, 0x0012, b"SQ", 0, len(inner)) + inner)
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.code == "nested-too-deep"


@pytest.mark.parametrize("wanted", [True, False], ids=["wanted", "not wanted"])
def test_more_elements_than_any_object_needs_are_refused(
    wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a sequence of known length, which the header's reader steps over."""
    monkeypatch.setattr(elements, "MAX_KEPT", 10_000)
    monkeypatch.setattr(elements, "MAX_ELEMENTS", 20_000)
    path = write(tmp_path / "file", structures(undefined=False))
    empty = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    if wanted:
        inner = empty * 10_001
    else:
        inner = struct.pack("<HH2sHI", 0x3006, 0x0099, b"SQ", 0, 0xFFFFFFFF) + empty * 20_000
        inner = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    with path.open("ab") as file:
        file.write(struct.pack("<HH2sHI", 0x3006, 0x0012, b"SQ", 0, len(inner)) + inner)
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.code == "declares-too-much"


@pytest.mark.parametrize("length", [12, 0x7FFFFFF0])
def test_a_length_that_reaches_out_of_its_item_is_refused(length: int, tmp_path: Path) -> None:
    path = write(tmp_path / "file", structures(undefined=False))
    inner = struct.pack("<HH2sHI", 0x3006, 0x0026, b"UT", 0, length) + b"ab"
    inner = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    content = struct.pack("<HH2sHI", 0x3006, 0x0012, b"SQ", 0, len(inner)) + inner
    path.write_bytes(path.read_bytes() + content + bytes(64))
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.code == "truncated-file"


def test_what_is_no_item_in_a_sequence_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "file", structures(undefined=False))
    inner = struct.pack("<HHI", 0x3006, 0x0026, 4) + b"abcd"
    path.write_bytes(path.read_bytes() + struct.pack("<HH2sHI", 0x3006, 0x0012, b"SQ", 0, len(inner)) + inner)
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.code == "damaged-file"


def test_stray_delimiters_at_the_top_level_hide_nothing(tmp_path: Path) -> None:
    """Some writers leave them. Inside a wanted sequence nothing stray is passed over."""
    path = write(tmp_path / "file", structures(undefined=True))
    stray = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    inner = struct.pack("<HHI", 0xFFFE, 0xE000, 10) + struct.pack("<HH2sH", 0x3006, 0x0022, b"IS", 2) + b"7 "
    whole = path.read_bytes()
    for content, number in ((inner, 7), (inner + stray, None)):
        sequence = struct.pack("<HH2sHI", 0x3006, 0x0012, b"SQ", 0, len(content)) + content
        path.write_bytes(whole + stray + sequence)
        if number is None:
            with pytest.raises(InputError) as caught:
                read(path)
            assert caught.value.code == "damaged-file"
        else:
            found = read(path)
            assert [item.integer(NUMBER) for item in found.items(0x30060012)] == [number]
            assert len(found.items(ROIS)) == 6

"""Traps of what a file is, what it is called, and what its texts say."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom import Sequence as Items
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.uid import ImplicitVRLittleEndian

from tests.dicom_traps.geometry import one, tampered
from tests.dicom_traps.stack import ROOT, Slice, Stack, Truth, save, write_slices, write_stack
from tests.dicom_traps.trap import CANARY, Action, Trap

STORAGE = "1.2.840.10008.5.1.4.1.1."
TEXT_VRS = {"PN": 64, "LO": 64, "SH": 16, "ST": 1024, "LT": 1024, "UT": 1024, "UC": 1024, "AE": 16}
SCRIPT = '<script>alert("x")</script>[red]$(id)'
PATH = "../../../etc/passwd/..\\..\\a\0b"


def _object(sop_class: str, folder: Path, *, tamper: Callable[[Dataset], None] | None = None) -> tuple[Truth, ...]:
    """One object that is no image of a volume, and nothing else."""
    data = Dataset()
    data.SOPClassUID = sop_class
    data.SOPInstanceUID = f"{ROOT}.5.1"
    data.PatientID, data.PatientName = "TRAP", "Phantom^Trap"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{ROOT}.5", f"{ROOT}.5.2"
    data.Modality = "OT"
    if tamper is not None:
        tamper(data)
    save(folder / "object", data)
    return ()


def skipped(name: str, sop_class: str, kind: str, tamper: Callable[[Dataset], None] | None = None) -> Trap:
    """A trap of one object that is counted as ``kind``."""
    return Trap(name, Action.SKIP, partial(_object, STORAGE + sop_class, tamper=tamper), kind)


def _give_pixels(samples: int = 1, interpretation: str = "MONOCHROME2") -> Callable[[Dataset], None]:
    def tamper(data: Dataset) -> None:
        data.SamplesPerPixel, data.PhotometricInterpretation = samples, interpretation
        data.Rows, data.Columns, data.BitsAllocated, data.BitsStored, data.HighBit = 4, 4, 8, 8, 7
        data.PixelRepresentation = 0
        if samples > 1:
            data.PlanarConfiguration = 0
        data.PixelData = bytes(16 * samples)
        data["PixelData"].VR = "OB"

    return tamper


def _colour(interpretation: str, samples: int) -> Stack:
    def tamper(data: Dataset, _: int) -> None:
        data.ImageOrientationPatient = data.ImageOrientationPatient
        _give_pixels(samples, interpretation)(data)

    return Stack(tamper=tamper)


def _bare(folder: Path, *, syntax: str) -> tuple[Truth, ...]:
    stack = Stack()
    for image in stack.slices():
        save(folder / f"{image.number}", image.dataset(), syntax, bare=True)
    return (stack.truth(),)


def _without_preamble(folder: Path) -> tuple[Truth, ...]:
    """The meta header is there, the 128 bytes and the word before it are not."""
    truth = write_stack(folder, Stack())
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    return truth


def _beside(extra: Callable[[Path], object], folder: Path) -> tuple[Truth, ...]:
    """A plain series with something else beside it."""
    truth = write_stack(folder / "series", Stack())
    extra(folder)
    return truth


def _directory(folder: Path) -> None:
    data = Dataset()
    data.FileSetID = "TRAP"
    record = Dataset()
    record.DirectoryRecordType = "PATIENT"
    data.DirectoryRecordSequence = Items([record])
    data.SOPClassUID = "1.2.840.10008.1.3.10"
    save(folder / "DICOMDIR", data)


def nested(depth: int) -> bytes:
    """A file whose private sequence holds itself ``depth`` times, of undefined length."""
    data = Slice(Stack(), 0).dataset()
    buffer = io.BytesIO()
    from pydicom import dcmwrite
    from pydicom.dataset import FileMetaDataset

    pixels = data.PixelData
    del data.PixelData
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    dcmwrite(buffer, data, enforce_file_format=True)
    opening = struct.pack("<HH2sHI", 0x7777, 0x1010, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    closing = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    end = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, len(pixels)) + pixels
    return buffer.getvalue() + opening * depth + closing * depth + end


def _nested(folder: Path) -> tuple[Truth, ...]:
    (folder / "deep").write_bytes(nested(50_000))
    return ()


def canary(data: Dataset, _: int = 0) -> None:
    """A word into each text element that the dictionary knows, dates and UIDs of persons and places included."""
    for tag, (vr, vm, _name, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        if (
            not keyword
            or retired
            or group not in (0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040, 0x4000)
        ):
            continue
        if vr in TEXT_VRS and tag not in data:
            data[tag] = DataElement(tag, vr, CANARY[: TEXT_VRS[vr]])
        elif vr == "DA" and vm == "1":
            data[tag] = DataElement(tag, vr, "19771231")
        elif vr == "AS":
            data[tag] = DataElement(tag, vr, "047Y")
    data.PatientID = data.PatientName = data.StudyDescription = data.SeriesDescription = data.ProtocolName = CANARY
    data.Manufacturer = data.InstitutionName = data.BodyPartExamined = CANARY
    data.add_new(0x00990010, "LO", CANARY)
    data.add_new(0x00991001, "LO", CANARY)


def _texts(text: str) -> Stack:
    return Stack(
        tamper=tampered(
            PatientName=text, PatientID=text[:60], SeriesDescription=text, StudyDescription=text, InstitutionName=text,
            ProtocolName=text, BodyPartExamined=text.encode("ascii", "replace").decode()[:16], Manufacturer=text,
        )
    )  # fmt: skip


def _named(names: tuple[str, ...], folder: Path) -> tuple[Truth, ...]:
    stack = Stack()
    for image, name in zip(stack.slices(), names, strict=True):
        save(folder / name, image.dataset())
    return (stack.truth(),)


def _packed(form: str, folder: Path) -> tuple[Truth, ...]:
    truth = write_stack(folder / "unpacked", Stack())
    files = sorted((folder / "unpacked").iterdir())
    if form == "zip":
        with zipfile.ZipFile(folder / "series.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in files:
                archive.write(path, f"inner/{path.name}")
    else:
        with tarfile.open(folder / "series.tar.gz", "w:gz") as archive:
            for path in files:
                archive.add(path, f"inner/{path.name}")
    for path in files:
        path.unlink()
    (folder / "unpacked").rmdir()
    return truth


def _bomb(folder: Path) -> tuple[Truth, ...]:
    """Half a gigabyte in half a megabyte, begun like DICOM."""
    head = bytes(128) + b"DICM"
    with (
        zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("image", "w", force_zip64=True) as file,
    ):
        file.write(head)
        block = bytes(2**24)
        for _ in range(32):
            file.write(block)
    return ()


def _climbing(folder: Path) -> tuple[Truth, ...]:
    """An archive whose names climb out of it."""
    truth = write_stack(folder / "unpacked", Stack())
    with zipfile.ZipFile(folder / "series.zip", "w") as archive:
        for path in sorted((folder / "unpacked").iterdir()):
            archive.write(path, f"../../../{path.name}")
            path.unlink()
    (folder / "unpacked").rmdir()
    return truth


def _links(folder: Path) -> None:
    outside = folder.parent / f"{folder.name}-outside"
    write_stack(outside, Stack(series=9, offset=400))
    (folder / "out").symlink_to(outside, target_is_directory=True)
    (folder / "round").symlink_to(folder, target_is_directory=True)
    (folder / "nowhere").symlink_to(folder / "absent")


def _text_file(folder: Path) -> None:
    (folder / "notes.txt").write_text(f"not DICOM, {CANARY}", encoding="utf-8")
    (folder / "empty").write_bytes(b"")
    (folder / "noise").write_bytes(np.random.default_rng(0).integers(0, 255, 4000).astype(np.uint8).tobytes())


def _header_cut(folder: Path) -> tuple[Truth, ...]:
    path = write_slices(folder, Stack().slices()[:1])[0]
    path.write_bytes(path.read_bytes()[:400])
    return ()


def _undefined_lengths(data: Dataset, _: int) -> None:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "T-A0100", "SRT", "Brain"
    # An icon has pixels, rows and a size of its own, which are not the image's (PS3.3, C.7.6.1.1.6).
    icon = Dataset()
    icon.Rows = icon.Columns = 2
    icon.SamplesPerPixel, icon.PhotometricInterpretation = 1, "MONOCHROME2"
    icon.BitsAllocated = icon.BitsStored = 8
    icon.HighBit, icon.PixelRepresentation = 7, 0
    icon.PixelData = bytes(4)
    icon["PixelData"].VR = "OB"
    data.AnatomicRegionSequence = Items([item])
    data["AnatomicRegionSequence"].is_undefined_length = True
    data.IconImageSequence = Items([icon])
    data["IconImageSequence"].is_undefined_length = True
    data.add_new(0x00290010, "LO", "VENDOR")
    data.add_new(0x00291020, "UN", bytes(100))


def _after_the_pixels(data: Dataset, _: int) -> None:
    data.add_new(0xFFFCFFFC, "OB", bytes(64))  # DataSetTrailingPadding


OBJECTS: tuple[Trap, ...] = (
    skipped("secondary-capture", "7", "secondary capture", _give_pixels()),
    skipped("structured-report", "88.33", "structured report"),
    skipped("key-objects", "88.59", "key object selection"),
    skipped("presentation-state", "11.1", "presentation state"),
    skipped("radiotherapy-plan", "481.5", "radiotherapy plan"),
    skipped("radiotherapy-dose", "481.2", "radiotherapy dose", _give_pixels()),
    skipped("raw-data", "66", "raw data"),
    skipped("document", "104.1", "encapsulated document"),
    skipped("video", "77.1.4.1", "visible-light image or video", _give_pixels(3, "RGB")),
    skipped("object-unknown", "999.1", "unknown object"),
    one("localizer", Action.SKIP, Stack(tamper=tampered(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])), "localizer"),
    one(
        "localizer-asked-for",
        Action.PLAIN,
        Stack(tamper=tampered(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
        options={"localizers": True},
    ),
    one("colour", Action.SKIP, _colour("RGB", 3), "colour image"),
    one("palette", Action.SKIP, _colour("PALETTE COLOR", 1), "colour image"),
    Trap("no-preamble", Action.PLAIN, _without_preamble, warnings=("no-preamble",)),
    Trap("no-meta-header", Action.PLAIN, partial(_bare, syntax="1.2.840.10008.1.2.1"), warnings=("no-preamble",)),
    Trap(
        "no-meta-header-implicit",
        Action.PLAIN,
        partial(_bare, syntax=ImplicitVRLittleEndian),
        warnings=("no-preamble",),
    ),
    Trap("directory-file", Action.PLAIN, partial(_beside, _directory)),
    Trap("files-that-are-not-dicom", Action.PLAIN, partial(_beside, _text_file)),
    Trap("symbolic-links", Action.PLAIN, partial(_beside, _links)),
    Trap("nested-too-deep", Action.REFUSE, _nested, "nested-too-deep"),
    Trap("header-cut-off", Action.REFUSE, _header_cut, "truncated-file"),
    one("sequences-of-undefined-length", Action.PLAIN, Stack(tamper=_undefined_lengths)),
    one("padding-after-the-pixels", Action.PLAIN, Stack(tamper=_after_the_pixels)),
    one("canary", Action.PLAIN, Stack(tamper=canary)),
    one("script-in-texts", Action.PLAIN, _texts(SCRIPT)),
    one("paths-in-texts", Action.PLAIN, _texts(PATH)),
    one("texts-beyond-ascii", Action.PLAIN, _texts("Łukasz^Žižek 山田 \u202e\U0001f9e0")),
    one(
        "burned-in-text",
        Action.PLAIN,
        Stack(tamper=tampered(BurnedInAnnotation="YES")),
        warnings=("burned-in-annotation",),
    ),
    one("a-head", Action.PLAIN, Stack(tamper=tampered(BodyPartExamined="HEAD")), warnings=("face",)),
    Trap(
        "names-that-tell-nothing",
        Action.PLAIN,
        partial(_named, ("a.txt", "b.nii", "c", "IM 1.jpg", "deep/er/d.DCM", "[red].dcm", "z.zip")),
    ),
    Trap("zip-archive", Action.PLAIN, partial(_packed, "zip")),
    Trap("tar-archive", Action.PLAIN, partial(_packed, "tar")),
    Trap("archive-that-climbs-out", Action.PLAIN, _climbing),
    Trap("archive-bomb", Action.REFUSE, _bomb, "declares-too-much"),
)

"""DICOM in files and archives that lead elsewhere, unpack to more than there is, or lie of what they hold."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from tests.attacks.attack import Attacks
from tests.attacks.bombs import GIGABYTES, deflated, write_zip
from tests.attacks.scene import Command, Scene

DICOM = Attacks("dicom")
FORGING = "a\nFORGED all is well\r\nFORGED\x1b[2J"


def image(number: int, series: str = "1", **changes: Any) -> FileDataset:
    """A slice of a small CT."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = generate_uid(entropy_srcs=["attack", series, str(number)])
    ds.StudyInstanceUID = generate_uid(entropy_srcs=["attack", "study"])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=["attack", "series", series])
    ds.FrameOfReferenceUID = generate_uid(entropy_srcs=["attack", "frame"])
    ds.Modality, ds.PatientID, ds.PatientName = "CT", "1", "Doe^Jane"
    ds.SeriesNumber, ds.InstanceNumber = 1, number
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2.0 * number]
    ds.PixelSpacing, ds.Rows, ds.Columns = [1, 1], 16, 16
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    voxels = np.random.default_rng(number).integers(-1000, 1000, (16, 16)).astype(np.int16)
    ds.PixelData = voxels.tobytes()
    ds["PixelData"].VR = "OW"
    for name, value in changes.items():
        setattr(ds, name, value)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    return ds


def encoded(ds: FileDataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def write_series(folder: Path, kind: str = "plain", count: int = 5, **changes: Any) -> Path:
    """A small CT series of so many slices."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        ds = image(number, **changes)
        if kind == "rle":
            ds.compress(RLELossless, generate_instance_uid=False)
        (folder / f"{number}.dcm").write_bytes(encoded(ds))
    return folder


def _converted(stage: Callable[[Scene, Path], object]) -> Callable[[Scene], list[Command]]:
    def build(scene: Scene) -> list[Command]:
        folder = scene.work / "dicom"
        write_series(folder / "sound")
        stage(scene, folder)
        return [scene.convert(folder, "--dry-run"), scene.convert(folder)]

    return build


Stage = Callable[[Scene, Path], object]


def staged(name: str, aim: str) -> Callable[[Stage], Stage]:
    def gather(stage: Stage) -> Stage:
        DICOM.add(name, aim, _converted(stage))
        return stage

    return gather


# Archives.


def _zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = method
            file.writestr(entry, content)
    return path


def _slices() -> dict[str, bytes]:
    return {f"{number}.dcm": encoded(image(number, "zip")) for number in range(5)}


ESCAPES = ("../../outside/victim/keep.txt", "/../../outside/victim/keep.txt", "..\\..\\outside\\victim\\keep.txt",
           "a/../../../outside/victim/keep.txt", "C:\\keep.txt", "//outside/victim/keep.txt", "~/keep.txt",
           "a\nFORGED.dcm", "-rf", "\x1b[2J", "$(touch canary)", "\u202emcd.a")  # fmt: skip


@staged("zip-slip", "members of a zip that lie outside")
def _(scene: Scene, folder: Path) -> None:
    one = encoded(image(9, "zip"))
    _zip(folder / "a.zip", _slices() | dict.fromkeys((*ESCAPES, str(scene.victim / "keep.txt")), one))


@staged("tar-slip", "members of a tar that lie outside, and links to there")
def _(scene: Scene, folder: Path) -> None:
    with tarfile.open(folder / "a.tar.gz", "w:gz") as file:
        for name, content in (_slices() | {name: encoded(image(9, "z")) for name in ESCAPES}).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
        for kind, target in (
            (tarfile.SYMTYPE, "../../outside"), (tarfile.SYMTYPE, str(scene.outside)),
            (tarfile.LNKTYPE, str(scene.outside / "secret.txt")), (tarfile.LNKTYPE, "../../outside/secret.txt"),
            (tarfile.FIFOTYPE, ""), (tarfile.CHRTYPE, ""), (tarfile.BLKTYPE, ""), (tarfile.DIRTYPE, ""),
        ):  # fmt: skip
            link = tarfile.TarInfo("link")
            link.type, link.linkname, link.devmajor, link.devminor = kind, target, 1, 5
            file.addfile(link)
            through = tarfile.TarInfo("link/victim/keep.txt")
            content = encoded(image(8, "t"))
            through.size = len(content)
            file.addfile(through, io.BytesIO(content))


@staged("tar-claims", "a tar whose member claims 2^60 bytes, and one that is cut")
def _(scene: Scene, folder: Path) -> None:
    entry = tarfile.TarInfo("a.dcm")
    entry.size = 2**60
    (folder / "a.tar").write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + b"DICM" * 100)
    entry.size = -1 & 0o7777777
    (folder / "b.tar").write_bytes(entry.tobuf() + b"DICM")
    (folder / "c.tar").write_bytes(b"\0" * 512 + entry.tobuf()[:300])


@staged("zip-bomb", "a zip whose member unpacks to 3.8 GB behind a DICOM header")
def _(scene: Scene, folder: Path) -> None:
    write_zip(folder / "a.zip", "a.dcm", encoded(image(0)), GIGABYTES)


@staged("zip-of-many", "a zip of 20,000 members")
def _(scene: Scene, folder: Path) -> None:
    _zip(folder / "a.zip", {f"{number}": b"" for number in range(20_000)}, zipfile.ZIP_STORED)


@staged("zip-quine", "zips in zips in zips")
def _(scene: Scene, folder: Path) -> None:
    content = _slices()
    for _ in range(40):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for name, part in content.items():
                file.writestr(name, part)
        content = (
            {"a.zip": buffer.getvalue(), "b.zip": buffer.getvalue()}
            if len(buffer.getvalue()) < 10**6
            else {"a.zip": buffer.getvalue()}
        )
    _zip(folder / "a.zip", content)


@staged("zip-overlap", "a zip whose many members are the same compressed bytes")
def _(scene: Scene, folder: Path) -> None:
    packed, crc = deflated(b"", 200 * 2**20)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(packed), 200 * 2**20, 1, 0) + b"a" + packed
    central = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, len(packed), 200 * 2**20, 5, 0, 0, 0, 0, 0, 0)
        + f"{number:05d}".encode()
        for number in range(2000)
    )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 2000, 2000, len(central), len(local), 0)
    (folder / "a.zip").write_bytes(local + central + end)


@staged("zip-claims", "a zip whose directory lies of sizes, offsets and encryption")
def _(scene: Scene, folder: Path) -> None:
    sound = bytearray(_zip(folder / "a.zip", _slices()).read_bytes())
    for number, offset in enumerate(range(len(sound) - 300, len(sound), 30)):
        spoiled = bytearray(sound)
        spoiled[offset : offset + 8] = b"\xff" * len(spoiled[offset : offset + 8])
        (folder / f"{number}.zip").write_bytes(spoiled)
    encrypted = sound.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00")
    (folder / "e.zip").write_bytes(encrypted)


@staged("gzip-bomb", "a file of gzip that unpacks to 3.8 GB, and one of bzip2 and xz")
def _(scene: Scene, folder: Path) -> None:
    import bz2
    import gzip
    import lzma

    part = encoded(image(0)) + bytes(64 * 2**20)
    (folder / "a.dcm.gz").write_bytes(gzip.compress(part, 1) * 60)
    (folder / "a.tar.gz").write_bytes(gzip.compress(part, 1) * 60)
    (folder / "a.tar.bz2").write_bytes(bz2.compress(part, 1) * 10)
    (folder / "a.tar.xz").write_bytes(lzma.compress(part, preset=0) * 10)


# Files.


@staged("dicomdir", "a DICOMDIR whose records lead outside")
def _(scene: Scene, folder: Path) -> None:
    ds = image(0)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.1.3.10"
    del ds.PixelData
    records = []
    for parts in (["..", "..", "outside", "secret.txt"], [str(scene.outside / "secret.txt")], ["/dev/zero"], ["."]):
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        record.ReferencedFileID = parts
        record.OffsetOfTheNextDirectoryRecord = 1
        records.append(record)
    ds.DirectoryRecordSequence = Sequence(records)
    (folder / "DICOMDIR").write_bytes(encoded(ds))


@staged("deflated-bomb", "a deflated data set that unpacks to 3.8 GB")
def _(scene: Scene, folder: Path) -> None:
    ds = image(0)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = encoded(ds)
    start = content.index(b"DICM") + 4
    length = struct.unpack("<I", content[start + 8 : start + 12])[0]
    head = content[: start + 12 + length]
    packed, _ = deflated(zlib.decompress(content[len(head) :], -15), GIGABYTES)
    (folder / "bomb.dcm").write_bytes(head + packed)


@staged("deep-sequences", "thirty thousand sequences in each other")
def _(scene: Scene, folder: Path) -> None:
    ds = image(0)
    content = encoded(ds)
    start = content.index(struct.pack("<HH2s", 0x0028, 0x0002, b"US"))
    undefined = b"\xff" * 4
    opened = (
        struct.pack("<HH2sH", 0x0008, 0x1140, b"SQ", 0) + undefined + struct.pack("<HH", 0xFFFE, 0xE000) + undefined
    )
    (folder / "deep.dcm").write_bytes(content[:start] + opened * 30_000 + content[start:])


@staged("claims-of-size", "slices that claim 65535 x 65535 pixels, frames, or elements of 4 GB")
def _(scene: Scene, folder: Path) -> None:
    for number in range(5):
        (folder / f"r{number}").write_bytes(encoded(image(number, "rows", Rows=65535, Columns=65535)))
        (folder / f"f{number}").write_bytes(encoded(image(number, "frames", NumberOfFrames=str(2**31 - 1))))
        (folder / f"n{number}").write_bytes(encoded(image(number, "negative", NumberOfFrames="-5", Rows=0)))
        content = encoded(image(number, "long"))
        tag = struct.pack("<HH2sH", 0x7FE0, 0x0010, b"OW", 0)
        place = content.index(tag) + len(tag)
        (folder / f"l{number}").write_bytes(content[:place] + b"\xfe\xff\xff\xff" + content[place + 4 :])


@staged("names-of-everything", "texts of the header with line breaks, escapes, paths and commands")
def _(scene: Scene, folder: Path) -> None:
    for number in range(5):
        ds = image(number, "names")
        for name in ("SeriesDescription", "StudyDescription", "ProtocolName", "PatientName", "PatientID", "Manufacturer",
                     "BodyPartExamined", "KVP", "StudyID", "AccessionNumber", "ConvolutionKernel"):  # fmt: skip
            ds.add_new(name, "LO", FORGING)
        ds.ImageType = ["ORIGINAL", FORGING, "../../x"]
        (folder / f"names{number}").write_bytes(encoded(ds))


@staged("identifiers-of-paths", "identifiers that are paths and commands")
def _(scene: Scene, folder: Path) -> None:
    for number in range(5):
        ds = image(number, "uids")
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            ds.add_new(name, "UI", f"../../outside/victim/{name}")
        ds.Modality = "../../../outside/victim/keep"
        (folder / f"uid{number}").write_bytes(encoded(ds))


@staged("character-sets", "character sets that there are not, and that switch")
def _(scene: Scene, folder: Path) -> None:
    for number in range(5):
        ds = image(number, "sets")
        # Put in afterwards: pydicom writes no text in such sets.
        known = ["ISO_IR 6"] * 7
        ds.SpecificCharacterSet = known
        ds.add_new("SeriesDescription", "LO", b"\x1b$B\x1b(J\x0aFORGED")
        place = "\\".join(known).encode()
        sets = b"ISO 2022 IR 87\\rot13\\unicode_escape\\idna\\../../x\\zlib_codec"
        content = encoded(ds)
        assert place in content
        (folder / f"set{number}").write_bytes(content.replace(place, sets.ljust(len(place))))


@staged("numbers-of-nothing", "positions, spacings and slopes that are no numbers")
def _(scene: Scene, folder: Path) -> None:
    for letter, tag, text in (("p", "ImagePositionPatient", b"nan\\inf\\1e999 "), ("s", "PixelSpacing", b"1e-300\\1e300"),
                              ("r", "RescaleSlope", b"inf "), ("o", "ImageOrientationPatient", b"0\\0\\0\\0\\0\\0 ")):  # fmt: skip
        for number in range(4):
            ds = image(number, letter)
            ds.add_new(tag, "UN", text)
            (folder / f"{letter}{number}").write_bytes(encoded(ds))


@staged("codec-bombs", "codes of JPEG, JPEG 2000, JPEG-LS and RLE that claim 60,000 x 60,000 pixels or nothing")
def _(scene: Scene, folder: Path) -> None:
    syntaxes = {
        "1.2.840.10008.1.2.4.90": bytes.fromhex("ff4fff510029000000010000000100000000000000000001000000010000000000000000000001070101") * 3,
        "1.2.840.10008.1.2.4.80": bytes.fromhex("ffd8fff7000b10ea60ea6001011100ffda0008010100000000"),
        "1.2.840.10008.1.2.4.70": bytes.fromhex("ffd8ffc3000b10ea60ea60010111ffc4001400010000000000000000000000000000000000ffda0008010100010000"),
        "1.2.840.10008.1.2.5": struct.pack("<16I", 15, *([0xFFFFFFFF] * 15)) + b"\x81\0" * 500,
    }  # fmt: skip
    for kind, (syntax, code) in enumerate(syntaxes.items()):
        for number in range(4):
            ds = image(number, f"codec{kind}", Rows=60000, Columns=60000)
            ds.file_meta.TransferSyntaxUID = syntax
            item = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack(
                "<HHI", 0xFFFE, 0xE000, len(code) + len(code) % 2
            )
            ds.PixelData = item + code + b"\0" * (len(code) % 2) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
            ds["PixelData"].VR = "OB"
            ds["PixelData"].is_undefined_length = True
            (folder / f"c{kind}{number}").write_bytes(encoded(ds))


def _structure_set(**changes: Any) -> FileDataset:
    ds = image(77)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    ds.Modality = "RTSTRUCT"
    del ds.PixelData
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=["attack", "rt"])
    names, contours = [], []
    for number, name in enumerate((FORGING, "../../outside/victim/keep", "/etc/x", 'a"b\n 9 1 1 1 1 1 1 "FORGED"')):
        roi = Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number + 1, name, ds.FrameOfReferenceUID
        names.append(roi)
        contour = Dataset()
        contour.ReferencedROINumber = number + 1
        one = Dataset()
        one.ContourGeometricType = "CLOSED_PLANAR"
        one.NumberOfContourPoints = 4
        one.ContourData = [2, 2, 4, 9, 2, 4, 9, 9, 4, 2, 9, 4]
        for key, value in changes.items():
            setattr(one, key, value)
        contour.ContourSequence = Sequence([one])
        contours.append(contour)
    ds.StructureSetROISequence, ds.ROIContourSequence = Sequence(names), Sequence(contours)
    return ds


@staged("structures-that-forge", "structures whose names are line breaks, paths and lines of a label file")
def _(scene: Scene, folder: Path) -> None:
    (folder / "rt.dcm").write_bytes(encoded(_structure_set()))


@staged("structures-far-away", "contours of coordinates that no grid has")
def _(scene: Scene, folder: Path) -> None:
    far = [1e30, -1e30, 4, 1e30, 1e30, 4, -1e30, 1e30, 4, -1e30, -1e30, 4]
    (folder / "rt.dcm").write_bytes(encoded(_structure_set(ContourData=far)))
    (folder / "rt2.dcm").write_bytes(encoded(_structure_set(ContourData=["1"] * 7)))


@staged("structures-of-a-hundred-thousand-points", "a contour of a hundred thousand points that cross each other")
def _(scene: Scene, folder: Path) -> None:
    random = np.random.default_rng(0).integers(0, 16, (100_000, 2))
    points = [str(value) for x, y in random for value in (x, y, 4)]
    (folder / "rt.dcm").write_bytes(encoded(_structure_set(ContourData=points, NumberOfContourPoints=100_000)))


@staged("links-and-devices", "links to files outside, FIFOs and devices among the slices")
def _(scene: Scene, folder: Path) -> None:
    write_series(scene.outside / "series", series="outside")
    os.mkfifo(folder / "fifo.dcm")
    os.mkfifo(folder / "fifo.zip")
    (folder / "secret.dcm").symlink_to(scene.outside / "secret.txt")
    (folder / "zero.dcm").symlink_to("/dev/zero")
    (folder / "terminal").symlink_to("/dev/tty")
    (folder / "self").symlink_to("self")
    (folder / "up").symlink_to("..")
    (folder / "memory").symlink_to("/proc/self/mem")
    (folder / "environ").symlink_to("/proc/self/environ")


@staged("names-of-files", "names of files and folders with line breaks, escapes, options and commands")
def _(scene: Scene, folder: Path) -> None:
    for number, name in enumerate(("a\nFORGED x", "\x1b[2J", "--overwrite", "$(touch canary)", "\u202ex", "a\rFORGED", "%s%n",
                                   "x" * 250, b"\xff\xfe".decode(errors="surrogateescape"))):  # fmt: skip
        write_series(folder / name, series=f"n{number}", count=3)
        (folder / name / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 50)


@staged("channels-and-labels", "descriptions that match patterns of a person and are labels of ITK-SNAP")
def _(scene: Scene, folder: Path) -> None:
    for number in range(4):
        (folder / f"k{number}").write_bytes(encoded(image(number, "k", SeriesDescription='" 1 0 0 0 1 1 "FORGED')))

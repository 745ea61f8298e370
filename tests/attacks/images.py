"""Images whose headers lead to other files, claim more than there is, or hold code."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.attacks.attack import Attacks
from tests.attacks.scene import Command, Scene
from tests.attacks.weights import Reduced, pickled

IMAGES = Attacks("image")

SHAPE = (14, 12, 10)
MHD = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 0 0 0
ElementSpacing = 1 1 1
DimSize = 14 12 10
ElementType = MET_SHORT
"""
NRRD = """NRRD0004
type: short
dimension: 3
space: left-posterior-superior
sizes: 14 12 10
space directions: (1,0,0) (0,1,0) (0,0,1)
space origin: (0,0,0)
endian: little
encoding: raw
"""


EVERYWHERE = ("fifo", "device", "link", "pickle", "numpy", "socket", "mhd-colon", "nrrd-dots", "gipl")
"""Attacks by the beginning of their names that every verb meets in its own way; the others are read and checked."""


def tried(scene: Scene, path: Path, *, everywhere: bool) -> list[Command]:
    """Give an image to the verbs that read one."""
    scene.out.mkdir()
    read = scene.python(
        f"import numpy, volseg\ntry:\n    volume = volseg.read({str(path)!r})\nexcept volseg.VolsegError as error:\n"
        f"    print(error)\nelse:\n    numpy.save({str(scene.out / 'read.npy')!r}, volume.array)\n"
    )
    check = scene.check(scene.work / "data")
    if not everywhere:
        return [read, check]
    return [
        read,
        check,
        scene.predict(scene.bundle(), path),
        scene.postprocess(path.parent),
        scene.evaluate(path.parent, path.parent),
    ]


Stage = Callable[[Scene, Path], object]


def staged(name: str, aim: str, file: str) -> Callable[[Stage], Stage]:
    """An image of this name, in a data set as an image and as a mask."""

    def gather(stage: Stage) -> Stage:
        def build(scene: Scene) -> list[Command]:
            data = scene.data()
            path = data / "imagesTr" / file
            stage(scene, path)
            if not path.exists() and not path.is_symlink():
                raise FileNotFoundError(path)
            beside = [other for other in data.joinpath("imagesTr").iterdir() if not other.name.startswith("case_")]
            for other in beside:
                target = data / "labelsTr" / other.name
                if other.is_symlink():
                    target.symlink_to(other.readlink())
                elif other.is_file():
                    target.write_bytes(other.read_bytes())
            return tried(scene, path, everywhere=name.startswith(EVERYWHERE))

        IMAGES.add(name, aim, build)
        return stage

    return gather


def _header(name: str, file: str, aim: str, text: Callable[[Scene], str], tail: bytes = b"") -> None:
    staged(name, aim, file)(lambda scene, path: path.write_bytes(text(scene).encode() + tail))


def _raw(scene: Scene) -> str:
    return str(scene.outside / "secret.raw")


DOTS = "../../../outside/secret.raw"
META = {
    "equals": lambda s: f"{MHD}ElementDataFile = {_raw(s)}\n",
    "colon": lambda s: f"{MHD}ElementDataFile : {_raw(s)}\n",
    "colon-without-space": lambda s: f"{MHD}ElementDataFile:{_raw(s)}\n",
    "equals-without-space": lambda s: f"{MHD}ElementDataFile={_raw(s)}\n",
    "tab": lambda s: f"{MHD}ElementDataFile\t=\t{_raw(s)}\n",
    "space-before": lambda s: f"{MHD}   ElementDataFile = {_raw(s)}\n",
    "dots": lambda _: f"{MHD}ElementDataFile = {DOTS}\n",
    "dots-and-colon": lambda _: f"{MHD}ElementDataFile : {DOTS}\n",
    "backslashes": lambda _: f"{MHD}ElementDataFile = {DOTS.replace('/', chr(92))}\n",
    "lower-case": lambda s: f"{MHD}elementdatafile = {_raw(s)}\n",
    "list": lambda s: f"{MHD}ElementDataFile = LIST\n" + f"{_raw(s)}\n" * 10,
    "list-colon": lambda s: f"{MHD}ElementDataFile : LIST 2\n" + f"{_raw(s)}\n" * 10,
    "list-three-dimensions": lambda s: f"{MHD}ElementDataFile = LIST 3\n{_raw(s)}\n",
    "pattern": lambda s: f"{MHD}ElementDataFile = {s.outside}/secret.raw%.0d 1 10 1\n",
    "pattern-format": lambda s: f"{MHD}ElementDataFile = %s%s%s%n%n 1 10 1\n",
    "local-in-mhd": lambda s: f"{MHD}ElementDataFile = LOCAL\n{_raw(s)}",
    "twice": lambda s: f"{MHD}ElementDataFile = LOCAL\nElementDataFile = {_raw(s)}\n",
    "twice-first": lambda s: f"{MHD}ElementDataFile = {_raw(s)}\nElementDataFile = LOCAL\n",
    "behind-comments": lambda s: MHD + "Comment = x\n" * 20_000 + f"ElementDataFile = {_raw(s)}\n",
    "behind-long-comment": lambda s: MHD + "Comment = " + "x" * 300_000 + f"\nElementDataFile = {_raw(s)}\n",
    "behind-blank-lines": lambda s: MHD + "\n" * 100_000 + f"ElementDataFile = {_raw(s)}\n",
    "behind-hashes": lambda s: MHD + "# x\n" * 30_000 + f"ElementDataFile = {_raw(s)}\n",
    "behind-nul": lambda s: MHD + "Comment = \0\n" + f"ElementDataFile = {_raw(s)}\n",
    "carriage-returns": lambda s: (MHD + f"ElementDataFile = {_raw(s)}\n").replace("\n", "\r\n"),
    "only-carriage-returns": lambda s: (MHD + f"ElementDataFile = {_raw(s)}\n").replace("\n", "\r"),
    "no-line-end": lambda s: MHD + f"ElementDataFile = {_raw(s)}",
    "header-size": lambda s: f"{MHD}HeaderSize = -1\nElementDataFile = {_raw(s)}\n",
    "home": lambda _: f"{MHD}ElementDataFile = ~/../outside/secret.raw\n",
    "address": lambda s: f"{MHD}ElementDataFile = file://{_raw(s)}\n",
    "quotes": lambda s: f'{MHD}ElementDataFile = "{_raw(s)}"\n',
    "first-line": lambda s: f"ElementDataFile = {_raw(s)}\n{MHD}",
    "first-line-colon": lambda s: f"ElementDataFile : {_raw(s)}\n{MHD}",
    "byte-order-mark": lambda s: f"\ufeff{MHD}ElementDataFile = {_raw(s)}\n",
    "equals-and-colon": lambda s: f"{MHD}ElementDataFile = : {_raw(s)}\n",
    "colon-in-all": lambda s: (MHD + f"ElementDataFile = {_raw(s)}\n").replace(" = ", " : "),
    "vertical-tab": lambda s: f"{MHD}ElementDataFile\v=\v{_raw(s)}\n",
    "huge": lambda _: MHD.replace("14 12 10", "2000000 2000000 2000000") + "ElementDataFile = LOCAL\n",
    "negative": lambda _: MHD.replace("14 12 10", "-14 12 10") + "ElementDataFile = LOCAL\n",
    "many-dimensions": lambda _: MHD.replace("NDims = 3", "NDims = 100000") + "ElementDataFile = LOCAL\n",
    "many-channels": lambda _: f"{MHD}ElementNumberOfChannels = 2000000000\nElementDataFile = LOCAL\n",
    "comment-before": lambda s: f"Comment = ElementDataFile = LOCAL\n{MHD}ElementDataFile : {_raw(s)}\n",
}
for _name, _content in META.items():
    _header(f"mhd-{_name}", "evil.mhd", "a MetaImage header that names a file outside", _content)
    if _name in (
        "equals",
        "colon",
        "list",
        "dots-and-colon",
        "behind-comments",
        "behind-hashes",
        "pattern",
        "twice",
        "huge",
    ):
        _header(f"mha-{_name}", "evil.mha", "the same under the other ending", _content, bytes(200))

DATA_FILE = {
    "data-file": lambda s: f"{NRRD}data file: {_raw(s)}\n",
    "datafile": lambda s: f"{NRRD}datafile: {_raw(s)}\n",
    "capitals": lambda s: f"{NRRD}Data File: {_raw(s)}\n",
    "dots": lambda _: f"{NRRD}data file: {DOTS}\n",
    "list": lambda s: f"{NRRD}data file: LIST\n" + f"{_raw(s)}\n" * 10,
    "list-of-dots": lambda _: f"{NRRD}data file: LIST 3\n{DOTS}\n",
    "pattern": lambda s: f"{NRRD}data file: {s.outside}/secret.raw%.0d 1 1 1 3\n",
    "skip": lambda s: f"{NRRD}byte skip: -1\ndata file: {_raw(s)}\n",
    "line-skip": lambda s: f"{NRRD}line skip: 1\ndata file: {_raw(s)}\n",
    "behind-comments": lambda s: NRRD + "# x\n" * 30_000 + f"data file: {_raw(s)}\n",
    "behind-long-comment": lambda s: NRRD + "# " + "x" * 300_000 + f"\ndata file: {_raw(s)}\n",
    "behind-keys": lambda s: NRRD + "".join(f"key{n}:=x\n" for n in range(20_000)) + f"data file: {_raw(s)}\n",
    "carriage-returns": lambda s: (NRRD + f"data file: {_raw(s)}\n").replace("\n", "\r\n"),
    "carriage-returns-alone": lambda s: (NRRD + f"data file: {_raw(s)}\n").replace("\n", "\r"),
    "without-space": lambda s: f"{NRRD}data file:{_raw(s)}\n",
    "with-tab": lambda s: f"{NRRD}data file:\t{_raw(s)}\n",
    "space-before": lambda s: f"{NRRD}  data file: {_raw(s)}\n",
    "space-between": lambda s: f"{NRRD}data  file: {_raw(s)}\n",
    "space-before-colon": lambda s: f"{NRRD}data file : {_raw(s)}\n",
    "as-key": lambda s: f"{NRRD}data file:={_raw(s)}\n",
    "twice": lambda s: f"{NRRD}data file: ./evil.raw\ndata file: {_raw(s)}\n",
    "standard-input": lambda _: f"{NRRD}data file: -\n",
    "gzip": lambda s: NRRD.replace("raw", "gzip") + f"data file: {_raw(s)}\n",
    "no-blank-line": lambda s: NRRD + f"data file: {_raw(s)}",
    "text": lambda s: NRRD.replace("raw", "text") + f"data file: {s.outside}/secret.txt\n",
    "huge": lambda _: NRRD.replace("14 12 10", "2000000 2000000 2000000") + "\n",
    "huge-gzip": lambda _: NRRD.replace("14 12 10", "2000 2000 2000").replace("raw", "gzip") + "\n",
    "many-dimensions": lambda _: NRRD.replace("dimension: 3", "dimension: 60000") + "\n",
    "negative": lambda _: NRRD.replace("14 12 10", "-14 12 10") + "\n",
}
for _name, _content in DATA_FILE.items():
    _header(f"nrrd-{_name}", "evil.nrrd", "an NRRD header that names a file outside", _content, b"")
    if _name in ("data-file", "dots", "list", "pattern", "behind-comments", "with-tab", "carriage-returns"):
        _header(f"nhdr-{_name}", "evil.nhdr", "the same as a header alone", _content)


@staged("nrrd-gzip-bomb", "an NRRD of gzip that unpacks to 4 GB", "evil.nrrd")
def _(scene: Scene, path: Path) -> None:
    bomb = gzip.compress(bytes(2**26), 1) * 60
    path.write_bytes(NRRD.replace("raw", "gzip").encode() + b"\n" + bomb)


@staged("mha-zlib-bomb", "a compressed MetaImage that unpacks to 4 GB", "evil.mha")
def _(scene: Scene, path: Path) -> None:
    bomb = zlib.compress(bytes(2**28), 9)
    head = MHD.replace("CompressedData = False", f"CompressedData = True\nCompressedDataSize = {len(bomb)}")
    path.write_bytes(head.encode() + b"ElementDataFile = LOCAL\n" + bomb)


@staged("mhd-through-a-link", "a header that names a link beside it, which leads outside", "evil.mhd")
def _(scene: Scene, path: Path) -> None:
    path.with_name("beside.raw").symlink_to(scene.outside / "secret.raw")
    path.write_text(MHD + "ElementDataFile = beside.raw\n")


@staged("mhd-through-a-folder", "a header that names a file in a linked folder beside it", "evil.mhd")
def _(scene: Scene, path: Path) -> None:
    path.with_name("folder").symlink_to(scene.outside)
    path.write_text(MHD + "ElementDataFile = folder/secret.raw\n")


@staged("mhd-of-a-fifo", "a header whose data are a FIFO", "evil.mhd")
def _(scene: Scene, path: Path) -> None:
    os.mkfifo(path.with_name("beside.raw"))
    path.write_text(MHD + "ElementDataFile = beside.raw\n")


@staged("mhd-of-a-device", "a header whose data are /dev/zero", "evil.mhd")
def _(scene: Scene, path: Path) -> None:
    path.write_text(MHD + "ElementDataFile = /dev/zero\n")


# NIfTI.


def nifti(voxels: bytes = b"", **fields: Any) -> bytes:
    """A NIfTI file whose header holds any nonsense."""
    header = bytearray(write_nifti_bytes()[:352])
    places = {
        "dim": (40, "<8h"), "datatype": (70, "<h"), "bitpix": (72, "<h"), "pixdim": (76, "<8f"), "vox_offset": (108, "<f"),
        "slope": (112, "<2f"), "sizeof": (0, "<i"), "srow": (280, "<12f"), "magic": (344, "<4s"), "extension": (348, "<4s"),
        "quatern": (256, "<6f"), "codes": (252, "<2h"), "descrip": (148, "<80s"), "aux": (228, "<24s"), "units": (123, "<B"),
    }  # fmt: skip
    for name, value in fields.items():
        offset, form = places[name]
        struct.pack_into(form, header, offset, *(value if isinstance(value, (tuple, list)) else (value,)))
    return bytes(header) + (voxels or bytes(2 * 14 * 12 * 10))


def write_nifti_bytes() -> bytes:
    import nibabel

    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), np.eye(4))
    image.set_sform(np.eye(4), 1)
    image.set_qform(np.eye(4), 1)
    return bytes(image.to_bytes())


NAN, INF = float("nan"), float("inf")
FIELDS: dict[str, dict[str, Any]] = {
    "huge-dims": {"dim": (3, 32767, 32767, 32767, 1, 1, 1, 1)},
    "huge-seven-dims": {"dim": (7, 32767, 32767, 32767, 32767, 32767, 32767, 32767)},
    "negative-dims": {"dim": (3, -14, 12, 10, 1, 1, 1, 1)},
    "zero-dims": {"dim": (3, 0, 12, 10, 1, 1, 1, 1)},
    "no-dims": {"dim": (0, 0, 0, 0, 0, 0, 0, 0)},
    "too-many-dims": {"dim": (200, 14, 12, 10, 1, 1, 1, 1)},
    "vox-offset-negative": {"vox_offset": -1e30},
    "vox-offset-huge": {"vox_offset": 1e30},
    "vox-offset-nan": {"vox_offset": NAN},
    "vox-offset-in-header": {"vox_offset": 0.0},
    "slope-nan": {"slope": (NAN, NAN)},
    "slope-infinite": {"slope": (INF, 0.0)},
    "slope-huge": {"slope": (3e38, 3e38)},
    "affine-nan": {"srow": (NAN,) * 12},
    "affine-zero": {"srow": (0.0,) * 12},
    "affine-huge": {"srow": (1e38, 0, 0, 1e38, 0, 1e38, 0, 0, 0, 0, 1e38, 0)},
    "pixdim-zero": {"pixdim": (0.0,) * 8},
    "pixdim-infinite": {"pixdim": (INF,) * 8},
    "datatype-unknown": {"datatype": 31999},
    "datatype-rgb": {"datatype": 128, "bitpix": 24},
    "datatype-complex": {"datatype": 1792, "bitpix": 128},
    "datatype-binary": {"datatype": 1, "bitpix": 1},
    "datatype-float128": {"datatype": 1536, "bitpix": 128},
    "bitpix-lies": {"bitpix": 1},
    "extension-huge": {"extension": b"\1\0\0\0", "vox_offset": 3e9},
    "texts-that-forge": {"descrip": b"x\nFORGED\x1b[2J", "aux": b"../../x\nFORGED"},
    "codes-unknown": {"codes": (32000, -5)},
    "sizeof-lies": {"sizeof": 540},
    "magic-of-a-pair": {"magic": b"ni1\0", "vox_offset": 0.0},
}
for _name, _fields in FIELDS.items():
    for _suffix in (".nii", ".nii.gz"):
        if _suffix == ".nii" and _name not in ("huge-dims", "magic-of-a-pair", "vox-offset-negative"):
            continue

        def _stage(scene: Scene, path: Path, fields: dict[str, Any] = _fields) -> None:
            content = nifti(**fields)
            if "extension" in fields:
                content = content[:352] + struct.pack("<2i", 2**31 - 16, 4) + content[352:]
            path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
            del scene

        _ending = "" if _suffix == ".nii.gz" else "-uncompressed"
        staged(f"nifti-{_name}{_ending}", "a NIfTI header of nonsense", f"evil{_suffix}")(_stage)


@staged("nifti-gzip-bomb", "a small volume with 8 GB of zeros behind it", "evil.nii.gz")
def _(scene: Scene, path: Path) -> None:
    path.write_bytes(gzip.compress(nifti()) + gzip.compress(bytes(2**26), 1) * 128)


@staged("nifti-gzip-bomb-of-extensions", "an extension of gigabytes before the voxels", "evil.nii.gz")
def _(scene: Scene, path: Path) -> None:
    head = nifti(extension=b"\1\0\0\0", vox_offset=float(2**31))[:352] + struct.pack("<2i", 2**31 - 352, 4)
    path.write_bytes(gzip.compress(head) + gzip.compress(bytes(2**26), 1) * 33)


@staged("nifti-that-unpacks-to-what-it-claims", "a volume of 6 GB in 6 MB", "evil.nii.gz")
def _(scene: Scene, path: Path) -> None:
    head = nifti(dim=(3, 1500, 1500, 1500, 1, 1, 1, 1))[:352]
    path.write_bytes(gzip.compress(head) + gzip.compress(bytes(2**26), 1) * 101)


@staged("nifti-cut-gzip", "a gzip that ends in the middle", "evil.nii.gz")
def _(scene: Scene, path: Path) -> None:
    path.write_bytes(gzip.compress(nifti(os.urandom(3360)))[:-200])


@staged("nifti-many-members", "a gzip of 100,000 empty members", "evil.nii.gz")
def _(scene: Scene, path: Path) -> None:
    path.write_bytes(gzip.compress(b"") * 100_000 + gzip.compress(nifti()))


@staged("analyze-pair-outside", "a header of a pair whose image is a link outside", "evil.hdr")
def _(scene: Scene, path: Path) -> None:
    path.write_bytes(nifti(magic=b"ni1\0", vox_offset=0.0)[:348])
    path.with_suffix(".img").symlink_to(scene.outside / "secret.raw")


@staged("analyze-pair-of-a-fifo", "a header of a pair whose image is a FIFO", "evil.hdr")
def _(scene: Scene, path: Path) -> None:
    path.write_bytes(nifti(magic=b"ni1\0", vox_offset=0.0)[:348])
    os.mkfifo(path.with_suffix(".img"))


# Formats whose readers run code, or follow links of their own.


@staged("numpy-pickle", "an array of NumPy that is a pickle", "evil.npy")
def _(scene: Scene, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([Reduced(exec, scene.marker)], dtype=object), allow_pickle=True)


@staged("numpy-archive", "an archive of NumPy that holds a pickle", "evil.npz")
def _(scene: Scene, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.array([Reduced(exec, scene.marker)], dtype=object))


@staged("numpy-header", "a header of NumPy that is an expression", "evil.npy")
def _(scene: Scene, path: Path) -> None:
    head = f"{{'descr': '<i2', 'fortran_order': False, 'shape': {scene.marker}, }}".encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head)


for _ending in (".pt", ".pkl", ".nii", ".nii.gz", ".mha", ".nrrd", ".png", ".dcm", ".h5", ".tif", ".ima", ""):

    @staged(f"pickle{_ending or '-without-ending'}", f"a pickle under the ending {_ending}", f"evil{_ending}")
    def _(scene: Scene, path: Path) -> None:
        content = pickled(scene)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@staged("hdf5-external", "HDF5 whose data set lies in an external file", "evil.h5")
def _(scene: Scene, path: Path) -> None:
    try:
        import h5py
    except ImportError:
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
        return
    with h5py.File(path, "w") as file:
        file.create_dataset("ITKImage/0/VoxelData", SHAPE, "<i2", external=[(_raw(scene), 0, 3360)])
        file["link"] = h5py.ExternalLink(str(scene.outside / "secret.nii"), "/")


@staged("vtk-xml-entities", "an image of XML with entities of a file outside, and that multiply", "evil.vti")
def _(scene: Scene, path: Path) -> None:
    laughs = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    path.write_text(
        f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "x">{laughs}<!ENTITY b SYSTEM "file://{scene.outside}/secret.txt">]>'
        '<VTKFile type="ImageData">&b;&a11;</VTKFile>'
    )


@staged("vtk-huge", "a legacy VTK file that claims more than there is", "evil.vtk")
def _(scene: Scene, path: Path) -> None:
    path.write_text(
        "# vtk DataFile Version 3.0\nx\nBINARY\nDATASET STRUCTURED_POINTS\nDIMENSIONS 200000 200000 200000\n"
        "SPACING 1 1 1\nORIGIN 0 0 0\nPOINT_DATA 8000000000000000\nSCALARS s short 1\nLOOKUP_TABLE default\n"
    )


@staged("png-bomb", "a PNG that claims 100,000 x 100,000 pixels", "evil.png")
def _(scene: Scene, path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">2I5B", 100_000, 100_000, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**7))) + chunk(b"IEND", b"")
    )


@staged("gipl-and-others", "names of formats over noise", "evil.gipl")
def _(scene: Scene, path: Path) -> None:
    for ending in (".gipl", ".mnc", ".vtk", ".tif", ".bmp", ".lsm", ".pic", ".spr", ".fdf", ".mrc", ".nii.bz2", ".mgh",
                   ".mgz", ".img", ".ima", ".dcm", ".xml", ".json", ".csv", ".zip", ".seg.nrrd"):  # fmt: skip
        path.with_name(f"noise{ending}").write_bytes(os.urandom(5000))
    path.write_bytes(os.urandom(5000))


@staged("link-outside", "an image that is a link to the person's own", "evil.nii.gz")
def _(scene: Scene, path: Path) -> None:
    path.symlink_to(scene.outside / "secret.nii.gz")


for _device in (
    "/dev/zero",
    "/dev/random",
    "/dev/tty",
    "/dev/stdin",
    "/proc/self/mem",
    "/proc/self/environ",
    "/proc/kmsg",
):

    @staged(f"device-{_device.strip('/').replace('/', '-')}", f"an image that is a link to {_device}", "evil.nii.gz")
    def _(scene: Scene, path: Path, device: str = _device) -> None:
        path.symlink_to(device)
        path.with_name("other.nii").symlink_to(device)
        path.with_name("other.mha").symlink_to(device)
        del scene


for _ending in (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".dcm", ".json", ""):

    @staged(f"fifo{_ending or '-without-ending'}", f"a FIFO under the ending {_ending}", f"evil{_ending}")
    def _(scene: Scene, path: Path) -> None:
        os.mkfifo(path)
        os.mkfifo(path.parent.parent / "labelsTr" / path.name)
        os.mkfifo(path.parent.parent / f"evil{path.suffix}")
        del scene


@staged("socket", "a socket among the images", "evil.nii.gz")
def _(scene: Scene, path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        short = Path("/tmp") / f"s{os.getpid()}{id(scene)}"
        server.bind(str(short))
        short.rename(path)

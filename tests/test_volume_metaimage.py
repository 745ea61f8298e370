"""MetaImage, against SimpleITK: what programs write is read, and what could be taken for two things is refused."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.text_headers import ITK, RAW, VOXELS, by_simpleitk, refused_as
from volseg.errors import FileError, InputError
from volseg.volume import files_of, read_header, read_volume

if TYPE_CHECKING:
    from pathlib import Path

ELASTIX = ITK.replace("Offset", "Position").replace("LOCAL", "result.0.raw")
BARE = "NDims = 3\nDimSize = 2 3 4\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
REMARKS = "# made by: hand\nComment = \nName: a\n0008|0060 = CT\nModality = MET_MOD_CT\nITK_InputFilterName = x = y\n"
DEFLATED = f"CompressedData = True\nCompressedDataSize = {len(zlib.compress(RAW))}"


def same_as_itk(path: Path) -> None:
    found, (voxels, grid) = read_volume(path), by_simpleitk(path)
    assert found.array.dtype == voxels.dtype
    np.testing.assert_array_equal(found.array, voxels)
    assert found.grid.difference(grid) is None
    assert read_header(path).grid.difference(found.grid) is None


@pytest.mark.parametrize(
    ("header", "data"),
    {
        "ITK": (ITK, RAW),
        "deflated": (ITK.replace("CompressedData = False", DEFLATED), zlib.compress(RAW)),
        "gzip": (
            ITK.replace(
                "CompressedData = False", f"CompressedData = True\nCompressedDataSize = {len(gzip.compress(RAW))}"
            ),
            gzip.compress(RAW),
        ),
        "colons": (ITK.replace(" = ", " : "), RAW),
        "no blanks": (ITK.replace(" = ", "="), RAW),
        "Windows": (ITK.replace("\n", "\r\n"), RAW),
        "indented": ("\n  \n" + ITK.replace("DimSize", "\t DimSize"), RAW),
        "bare": (BARE, RAW),
        "remarks": (REMARKS + ITK, RAW),
        "big endian": (ITK.replace("MSB = False", "MSB = True"), VOXELS.astype(">i2").tobytes(order="F")),
        "element order": (
            ITK.replace("BinaryDataByteOrderMSB = False", "ElementByteOrderMSB = True"),
            VOXELS.astype(">i2").tobytes(order="F"),
        ),
        "size for spacing": (ITK.replace("ElementSpacing", "ElementSize"), RAW),
        "many remarks": ("Comment = " + "x" * 400 + "\n" + ("Comment = y\n" * 20_000) + ITK, RAW),
        "behind others": (ITK.replace("NDims", "HeaderSize = -1\nNDims"), b"others" + RAW),
    }.values(),
)
def test_what_programs_write_is_read_as_itk_reads_it(header: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_bytes(header.encode() + data)
    same_as_itk(tmp_path / "a.mha")


@pytest.mark.parametrize(
    ("name", "header", "data"),
    [
        ("result.0.raw", ELASTIX, RAW),
        ("a b.zraw", ELASTIX.replace("result.0.raw", "a b.zraw").replace("CompressedData = False", DEFLATED),
         zlib.compress(RAW)),
        ("Müller.raw", ELASTIX.replace("result.0.raw", "Müller.raw"), RAW),
        ("a.raw", ELASTIX.replace("result.0.raw", "a.raw").replace("NDims", "HeaderSize = 7\nNDims"), b"seven b" + RAW),
    ],
)  # fmt: skip
def test_voxels_beside_the_header_are_read_as_itk_reads_them(
    name: str, header: str, data: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    (tmp_path / "a.mhd").write_text(header, encoding="utf-8")
    same_as_itk(tmp_path / "a.mhd")
    assert files_of(tmp_path / "a.mhd") == (tmp_path / "a.mhd", tmp_path / name)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", ["mha", "mhd"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_type_that_simpleitk_writes(dtype: str, suffix: str, compress: bool, tmp_path: Path) -> None:
    import SimpleITK as sitk

    for channels in (1, 3):
        array = np.arange(60 * channels).astype(dtype).reshape(3, 4, 5, channels)
        image = sitk.GetImageFromArray(array if channels > 1 else array[..., 0], isVector=channels > 1)
        image.SetSpacing((0.7, 0.8, 2.5))
        image.SetOrigin((1, -2, 3))
        path = tmp_path / f"a{channels}.{suffix}"
        sitk.WriteImage(image, str(path), useCompression=compress)
        same_as_itk(path)


@pytest.mark.parametrize(
    "line",
    [
        "ElementDataFile : {canary}",
        "ElementDataFile={canary}",
        "ElementDataFile == {canary}",
        "ElementDataFile = : {canary}",
        "ElementDataFile\n= {canary}",
        "ElementDataFile =\n{canary}",
        "  ElementDataFile = {canary}",
        "Element DataFile = {canary}",
        "ElementDataFile = ../canary",
        "ElementDataFile = link",
        "ElementDataFile = .hidden",
        "ElementDataFile = LIST\n{canary}",
        "ElementDataFile = LIST 3\n{canary}",
        "ElementDataFile = canary%d 1 4 1",
        "ElementDataFile = c%%nary",
        "ElementDataFile = .",
        "ElementDataFile = ..",
        "ElementDataFile = ",
        "Comment = x\n" * 400_000 + "ElementDataFile = {canary}",
        "elementdatafile = LOCAL\nElementDataFile = {canary}",
    ],
)
def test_no_header_leads_to_another_file(line: str, tmp_path: Path) -> None:
    """Whatever it names: what is opened is the header, and a plain file beside it."""
    folder = tmp_path / "images"
    folder.mkdir()
    for place in (tmp_path / "canary", folder / ".hidden"):
        place.write_bytes(RAW)
    (folder / "link").symlink_to(tmp_path / "canary")
    header = ITK.replace("ElementDataFile = LOCAL\n", line.format(canary=tmp_path / "canary") + "\n")
    (folder / "a.mhd").write_text(header)
    for read in (read_header, read_volume, files_of):
        with pytest.raises(InputError) as caught:
            read(folder / "a.mhd")
        assert caught.value.code in ("detached-data", "damaged-file")


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ("ElementSpacing = 0.5 0.75 2.5", "ElementSpacing = 0.5 0.75 2.5\nElementSpacing = 1 1 1", "damaged-file"),
        ("ElementSpacing", "elementspacing", "damaged-file"),
        ("ElementSpacing", "# a remark\nElementSpacing", "damaged-file"),  # ITK leaves the next line out
        ("0.5 0.75 2.5", "0.5 0.75", "damaged-file"),
        ("0.5 0.75 2.5", "0.5 0.75 nan", "damaged-file"),
        ("0.5 0.75 2.5", "0.5 0.75 -2.5", "damaged-file"),
        ("0.5 0.75 2.5", "0.5 0.75 0", "damaged-file"),
        ("0.5 0.75 2.5", "0.5 0,75 2.5", "damaged-file"),
        ("0 1 0 -1 0 0 0 0 1", "0 0 0 0 0 0 0 0 0", "geometry"),
        ("Offset = -10.5 20.25 3e1", "Offset = -10.5 20.25 3e1\nOrigin = 0 0 0", "damaged-file"),
        ("NDims = 3", "NDims = 2", "not-a-volume"),
        ("NDims = 3", "NDims = 4", "not-a-volume"),
        ("ObjectType = Image", "ObjectType = Scene", "damaged-file"),
        ("BinaryData = True", "BinaryData = False", "bad-input"),
        ("CompressedData = False", "CompressedData = Maybe", "damaged-file"),
        ("MET_SHORT", "MET_STRING", "bad-input"),
        ("2 3 4", "2 3 5", "damaged-file"),
        ("2 3 4", "2 3 0", "damaged-file"),
        ("2 3 4", "2 3 -4", "damaged-file"),
        ("NDims = 3", "NDims = 3\nDistanceUnits = um", "bad-input"),
        ("NDims = 3", "NDims = 3\nElementToIntensityFunctionSlope = 2", "bad-input"),
        ("NDims = 3", "NDims = 3\nElementNumberOfChannels = 1000000000000000", "damaged-file"),
        ("NDims = 3", "NDims = 3\nHeaderSize = 99999999999", "damaged-file"),
    ],
)
def test_what_tells_of_no_certain_volume_is_refused(before: str, after: str, code: str, tmp_path: Path) -> None:
    assert before in ITK
    assert refused_as(tmp_path / "a.mha", ITK.replace(before, after).encode() + RAW) == {code}


@pytest.mark.parametrize(
    "data",
    [
        zlib.compress(RAW)[:-3],
        zlib.compress(RAW[:-2]),
        zlib.compress(RAW + b"xx"),
        zlib.compress(RAW)[:20] + b"\0" + zlib.compress(RAW)[21:],
        RAW,
        b"",
    ],
)
def test_deflated_voxels_that_are_damaged_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_bytes(ITK.replace("CompressedData = False", "CompressedData = True").encode() + data)
    with pytest.raises(InputError) as caught:
        read_volume(tmp_path / "a.mha")
    assert caught.value.code == "damaged-file"


def test_a_link_or_pipe_in_the_voxels_place_is_refused(tmp_path: Path) -> None:
    import os

    (tmp_path / "a.mhd").write_text(ITK.replace("LOCAL", "a.raw"))
    with pytest.raises(FileError, match="which holds the voxels of") as caught:
        read_volume(tmp_path / "a.mhd")
    assert caught.value.code == "missing-file"
    os.mkfifo(tmp_path / "a.raw")
    with pytest.raises(FileError, match="is a pipe") as caught:
        read_volume(tmp_path / "a.mhd")
    assert caught.value.code == "no-plain-file"

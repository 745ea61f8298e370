"""Siemens mosaics, against references, NiBabel's own reader, dcm2niix, and made ones that lie."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from tests.dicom_traps.stack import OBLIQUE, Stack, save
from tests.dicom_traps.volumes import csa, mosaic
from tests.world import assert_same_in_world
from volseg.dicom import Scan, Series, SliceFault, load_values, scan
from volseg.dicom.file.csa import read_csa
from volseg.errors import InputError
from volseg.outcomes import Status

if TYPE_CHECKING:
    from conftest import RealData
    from pydicom import Dataset

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # NiBabel calls its readers experimental
    from nibabel.nicom import csareader, dicomwrappers

STACK = Stack(modality="MR", orientation=OBLIQUE)
CSA, COUNT = 0x00291010, 0x0019100A
NORMAL = tuple(f"{number:.8f}" for number in STACK.axes[2])
REVERSED = tuple(f"{-number:.8f}" for number in STACK.axes[2])


def first_form(tags: dict[str, list[str]]) -> bytes:
    """A CSA header of the first form, whose lengths are too large by the count of values of the first name."""
    raw = struct.pack("<II", len(tags), 77)
    for name, values in tags.items():
        raw += name.encode().ljust(64, b"\0") + struct.pack("<i4siii", len(values), b"DS\0\0", 3, 6, 205)
        for text in [*values, *[""] * (6 - len(values))]:
            value = text.encode() + b"\0" if text else b""
            raw += struct.pack("<iiii", len(value) + 6, len(value), 77, len(value))
            raw += value.ljust(-(-len(value) // 4) * 4, b"\0")
    return raw


def header_of(count: str = "7", normal: tuple[str, ...] = NORMAL) -> bytes:
    return csa(
        {
            "NumberOfImagesInMosaic": ("US", [count]),
            "SliceNormalVector": ("FD", list(normal)),
            "AcquisitionMatrixText": ("SH", ["12*10"]),
        }
    )


def written(folder: Path, edit: Callable[[Dataset], None] = lambda _: None, stack: Stack = STACK) -> Scan:
    """A mosaic of seven slices in nine tiles, after a change."""
    data = mosaic(stack, 3)
    edit(data)
    save(folder / "mosaic", data)
    return scan(folder)


def only(found: Scan) -> Series:
    (series,) = found.series
    assert not found.rejected
    return series


def test_nine_transfer_syntaxes_of_one_mosaic_are_the_nine_references(real_data: RealData) -> None:
    folder = real_data("dicom/one-image-nine-syntaxes")
    found = scan(folder / "In")
    assert not found.rejected
    assert [series.identity.part for series in found.series] == [f"series{number}" for number in range(1, 10)]
    for number, series in enumerate(found.series, start=1):
        reference = nibabel.load(folder / f"Ref/{number}.nii")
        assert_same_in_world(load_values(series, jobs=1).volume, np.asanyarray(reference.dataobj), reference.affine)
        assert series.changes == ("mosaic",)


@pytest.mark.parametrize("name", ["AP_3", "PA_4", "RL_5", "LR_6"])
def test_mosaics_over_time_are_the_volumes_of_the_reference(name: str, real_data: RealData) -> None:
    folder = real_data("dicom/mr-4d-nih")
    found = scan(folder / f"In/20180918Si/mr_000{name[-1]}")
    reference = nibabel.load(folder / f"Ref/EPI_PE={name}.nii")
    assert len(found.series) == reference.shape[3] == 2
    for time, series in enumerate(found.series):
        assert_same_in_world(
            load_values(series, jobs=1).volume, np.asanyarray(reference.dataobj)[..., time], reference.affine
        )


def test_dcm2niix_makes_the_same_of_a_mosaic(real_data: RealData, tmp_path: Path) -> None:
    folder = real_data("dicom/one-image-nine-syntaxes/In")
    (tmp_path / "in").mkdir()
    shutil.copy(folder / "1.dcm", tmp_path / "in")
    tool = shutil.which("dcm2niix", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert tool is not None, "dcm2niix is a development dependency"
    subprocess.run(
        [tool, "-b", "n", "-f", "other", "-o", tmp_path, tmp_path / "in"], check=True, capture_output=True, timeout=60
    )
    other = nibabel.load(tmp_path / "other.nii")
    assert_same_in_world(
        load_values(only(scan(tmp_path / "in")), jobs=1).volume, np.asanyarray(other.dataobj), other.affine
    )


@pytest.mark.parametrize("normal", [NORMAL, REVERSED], ids=["along", "against"])
def test_slices_follow_the_normal_of_the_csa_header_whichever_way_it_points(
    normal: tuple[str, ...], tmp_path: Path
) -> None:
    def edit(data: Dataset) -> None:
        data[CSA].value = header_of(normal=normal)

    series = only(written(tmp_path, edit))
    wrapper = dicomwrappers.wrapper_from_file(tmp_path / "mosaic")
    assert isinstance(wrapper, dicomwrappers.MosaicWrapper)
    to_ras = np.diag([-1, -1, 1, 1]) @ wrapper.affine
    # NiBabel takes the first axis down the columns, as its affine does.
    assert_same_in_world(load_values(series).volume, np.asanyarray(wrapper.get_unscaled_data()), to_ras)
    first = series.geometry.positions_mm[0 if normal == NORMAL else -1]
    np.testing.assert_allclose(first, STACK.positions_mm[0], atol=1e-4)


def test_a_header_of_the_first_form_tells_the_same(tmp_path: Path) -> None:
    def edit(data: Dataset) -> None:
        data[CSA].value = first_form(
            {"EchoLinePosition": ["32"], "NumberOfImagesInMosaic": ["7"], "SliceNormalVector": list(NORMAL)}
        )

    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    second = load_values(only(written(tmp_path / "second"))).volume
    assert_same_in_world(load_values(only(written(tmp_path / "first", edit))).volume, second.array, second.grid.affine)


def test_private_elements_are_found_in_the_block_that_a_pacs_gave_them(tmp_path: Path) -> None:
    def edit(data: Dataset) -> None:
        raw = data[CSA].value
        del data[CSA], data[0x00290010]
        data.add_new(0x00290010, "LO", "SOMEBODY ELSE")
        data.add_new(CSA, "OB", b"no header of an image")
        data.add_new(0x002900E1, "LO", "SIEMENS CSA HEADER")
        data.add_new(0x0029E110, "OB", raw)

    only(written(tmp_path, edit))


def test_without_the_count_beside_it_the_csa_header_suffices(tmp_path: Path) -> None:
    only(written(tmp_path, lambda data: data.__delitem__(COUNT)))


def test_without_the_count_in_it_the_one_beside_the_csa_header_suffices(tmp_path: Path) -> None:
    def edit(data: Dataset) -> None:
        data[CSA].value = csa({"SliceNormalVector": ("FD", list(NORMAL))})

    only(written(tmp_path, edit))


def _delete(*tags: int | str) -> Callable[[Dataset], None]:
    def edit(data: Dataset) -> None:
        for tag in tags:
            del data[tag]

    return edit


def _with_header(raw: bytes) -> Callable[[Dataset], None]:
    def edit(data: Dataset) -> None:
        data[CSA].value = raw

    return edit


def _with_two_headers(data: Dataset) -> None:
    data.add_new(0x00290011, "LO", "SIEMENS CSA HEADER")
    data.add_new(0x00291110, "OB", header_of("8"))


def _spaced(text: str) -> Callable[[Dataset], None]:
    def edit(data: Dataset) -> None:
        data.SpacingBetweenSlices = text

    return edit


def _counted(count: int) -> Callable[[Dataset], None]:
    def edit(data: Dataset) -> None:
        data[COUNT].value = count
        data[CSA].value = header_of(str(count))

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        _delete(CSA),
        _delete(CSA, 0x00290010, COUNT, 0x00190010),
        _delete(0x00290010),
        _with_header(header_of()[:200]),
        _with_header(b"SV10" + b"\xff" * 400),
        _with_header(header_of("8")),
        _with_header(header_of("1000000000")),
        _with_header(header_of("seven")),
        _with_header(header_of(normal=())),
        _with_header(header_of(normal=("0", "0", "1"))),
        _with_header(header_of(normal=("nan", "nan", "nan"))),
        _with_two_headers,
        _delete("SpacingBetweenSlices"),
        _spaced("0"),
        _spaced("-5"),
        _counted(20),
        _counted(65535),
        _counted(0),
    ],
)
def test_a_mosaic_whose_geometry_nobody_can_tell_is_refused(edit: Callable[[Dataset], None], tmp_path: Path) -> None:
    found = written(tmp_path, edit)
    assert not found.series
    (rejected,) = found.rejected
    assert rejected.status is Status.REFUSED
    assert rejected.code == "siemens-mosaic"


def test_slices_beyond_the_count_are_seen_when_the_pixels_are_read(tmp_path: Path) -> None:
    series = only(written(tmp_path, _counted(5)))
    with pytest.raises(SliceFault) as caught:
        load_values(series)
    assert caught.value.code == "siemens-mosaic"
    assert caught.value.private == "mosaic"


def test_a_mosaic_without_its_position_is_refused(tmp_path: Path) -> None:
    (rejected,) = written(tmp_path, _delete("ImagePositionPatient")).rejected
    assert rejected.code == "no-position"


def test_an_extract_without_private_elements_is_refused(real_data: RealData) -> None:
    (rejected,) = scan(real_data("dicom/vendors/siemens-fmri-001")).rejected
    assert (rejected.code, rejected.status) == ("siemens-mosaic", Status.REFUSED)


def test_copies_of_a_mosaic_are_taken_once_and_others_of_its_name_are_not(tmp_path: Path) -> None:
    data = mosaic(STACK, 3)
    save(tmp_path / "0", data)
    save(tmp_path / "1", data)
    assert only(scan(tmp_path)).changes == ("mosaic", "copies-dropped")
    data.PixelData = bytes(reversed(data.PixelData))
    save(tmp_path / "2", data)
    (rejected,) = scan(tmp_path).rejected
    assert rejected.code == "conflicting-copies"


def test_the_csa_header_reads_as_nibabel_reads_it(real_data: RealData) -> None:
    import pydicom

    raw = pydicom.dcmread(real_data("dicom/one-image-nine-syntaxes/In") / "1.dcm", stop_before_pixels=True)[CSA].value
    theirs = csareader.read(raw)["tags"]
    ours = read_csa(raw)
    assert ours.keys() == theirs.keys()
    for name, texts in ours.items():
        expected = [item for item in theirs[name]["items"] if item != ""]
        assert [type(item)(text) for item, text in zip(expected, texts, strict=True)] == expected


def test_no_damage_to_a_csa_header_does_more_than_to_be_refused() -> None:
    rng = np.random.default_rng(4)
    whole = header_of()
    for start in (b"", whole[:16]):
        for _ in range(100):
            raw = start + rng.bytes(int(rng.integers(0, 600)))
            with pytest.raises(InputError):
                read_csa(raw)
    for _ in range(200):
        changed = bytearray(whole)
        changed[int(rng.integers(0, len(whole)))] = int(rng.integers(0, 256))
        try:
            texts = read_csa(bytes(changed))
        except InputError:
            continue
        assert len(texts) <= 3
    for length in range(0, len(whole) - 2, 7):
        with pytest.raises(InputError):
            read_csa(whole[:length])

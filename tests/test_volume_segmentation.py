"""3D Slicer's segmentations, against SimpleITK's reader and what Slicer itself wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk

from tests.conftest import OBLIQUE
from volseg.dataset.beside import labels_beside
from volseg.errors import InputError
from volseg.grid import Grid
from volseg.labels import Label, LabelCode, LabelTable
from volseg.volume import read_header, read_mask, segments_in, stem_of, write_segmentation

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RealData

LIVER = LabelCode("10200004", "SCT", "Liver")
ORGAN, TISSUE = LabelCode("123037004", "SCT", "Anatomical Structure"), LabelCode("85756007", "SCT", "Tissue")
TABLE = LabelTable((Label(1, "liver", (221, 130, 101), LIVER), Label(300, 'Milz "ä" \\n=cmd()|~^', (0, 1, 255))))


def written(path: Path, table: LabelTable = TABLE, highest: int = 300) -> tuple[np.ndarray, Grid]:
    mask = np.zeros((5, 6, 4), np.uint16)
    mask[1:3, 2, 3], mask[4, 5, 0] = 1, highest
    grid = Grid(mask.shape, OBLIQUE)
    write_segmentation(path, mask, grid, table, {1: (ORGAN, LIVER), 300: (TISSUE, TISSUE)})
    return mask, grid


@pytest.mark.parametrize("highest", [200, 300])
def test_voxels_and_geometry_are_what_simpleitk_reads(tmp_path: Path, highest: int) -> None:
    path = tmp_path / "a.seg.nrrd"
    mask, grid = written(path, highest=highest)
    image = sitk.ReadImage(path)
    assert np.array_equal(np.swapaxes(sitk.GetArrayFromImage(image), 0, 2), mask)
    theirs = Grid.from_lps(image.GetSize(), image.GetOrigin(), image.GetDirection(), image.GetSpacing())
    assert theirs.difference(grid, 1e-6) is None
    assert image.GetMetaData("Segment0_Name") == "liver"
    assert image.GetMetaData("Segment1_LabelValue") == "300"
    assert image.GetMetaData("Segment0_Tags") == (  # as Slicer itself writes it, but for the name of its list
        "TerminologyEntry:Segmentation category and type - DICOM master list~SCT^123037004^Anatomical Structure"
        "~SCT^10200004^Liver~^^~Anatomic codes - DICOM master list~^^~^^|"
    )
    ours = read_mask(path)
    assert np.array_equal(ours.array, mask)
    assert ours.array.dtype == (np.uint16 if highest > 255 else np.uint8)
    assert np.allclose(ours.grid.affine, grid.affine, atol=1e-12)


def test_names_colours_and_codes_come_back_and_the_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    written(tmp_path / "a.seg.nrrd")
    written(tmp_path / "b.seg.nrrd")
    assert (tmp_path / "a.seg.nrrd").read_bytes() == (tmp_path / "b.seg.nrrd").read_bytes()
    assert segments_in(tmp_path / "a.seg.nrrd") == TABLE
    assert labels_beside(tmp_path / "a.seg.nrrd") == TABLE
    assert stem_of(tmp_path / "a.seg.nrrd") == "a"


def test_what_slicer_wrote_is_read_with_its_names(real_data: RealData) -> None:
    folder = real_data("volumes/chest-ct")
    table = segments_in(folder / "Segmentation.seg.nrrd")
    assert table is not None
    assert (table.name_of(5), table.name_of(7)) == ("right lung", "tissue")
    assert table.labels[4].rgb == (22, 197, 71)
    assert table.labels[4].code == LabelCode("39607008", "SCT", "Lung")
    mask = read_mask(folder / "Segmentation.seg.nrrd")
    assert mask.grid.difference(read_header(folder / "CTChest4.nrrd").grid) is None


def test_segments_that_overlap_are_refused_with_the_remedy(real_data: RealData) -> None:
    path = real_data("volumes/chest-ct") / "SegmentationOverlapping.seg.nrrd"
    for read in (segments_in, read_mask):
        with pytest.raises(InputError, match="export each segment") as caught:
            read(path)
        assert caught.value.code == "overlapping-segments"


def test_masks_that_call_one_number_by_two_names_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "a.seg.nrrd", LabelTable((Label(1, "Liver"),)))
    written(tmp_path / "b.seg.nrrd", LabelTable((Label(2, "spleen"),)))
    both = labels_beside(tmp_path)
    assert both is not None
    assert both.names == ("Liver", "spleen")
    (tmp_path / "labels.txt").write_text(LabelTable((Label(1, "liver"),)).to_itksnap())
    assert labels_beside(tmp_path / "a.seg.nrrd") is not None  # another case of letters is no other name
    written(tmp_path / "c.seg.nrrd", LabelTable((Label(1, "spleen"), Label(2, "liver"))))
    with pytest.raises(InputError, match="give the segments of all cases") as caught:
        labels_beside(tmp_path)
    assert caught.value.code == "labels-differ"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"Segment1_LabelValue:=300", b"Segment1_LabelValue:=1", "bad-input"),
        (b"Segment1_LabelValue:=300", b"Segment1_LabelValue:=0", "damaged-file"),
        (b"Segment0_Name:=liver", b"Segment0_Name:= ", "damaged-file"),
        (b"Segment1_LabelValue:=300\n", b"", "damaged-file"),
    ],
)
def test_segments_that_make_no_sense_are_refused(tmp_path: Path, old: bytes, new: bytes, code: str) -> None:
    path = tmp_path / "a.seg.nrrd"
    written(path)
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(InputError) as caught:
        segments_in(path)
    assert caught.value.code == code

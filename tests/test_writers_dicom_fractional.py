"""Fractional DICOM segmentations: what highdicom and convert read of the probabilities that were written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import highdicom as hd
import numpy as np
import pydicom
import pytest

from tests.dicom_objects import TABLE, image_grid, read_back
from tests.dicom_traps.stack import AXIAL, OBLIQUE, SAGITTAL, Stack, write_stack
from volseg.dicom import Series, scan
from volseg.errors import InputError
from volseg.volume import PROBABILITY_ONE
from volseg.writers import WRITERS, Algorithm, MaskedImage
from volseg.writers.dicom import segmentation
from volseg.writers.dicom.slices import on_slices

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.grid import Grid


@dataclass
class Known:
    """Probabilities of labels by their numbers."""

    by_label: dict[int, np.ndarray]

    @property
    def labels(self) -> set[int]:
        return set(self.by_label)

    def of(self, label: int) -> np.ndarray:
        return self.by_label[label]


def known(grid: Grid) -> Known:
    """Of two labels; the first is on some slices alone."""
    random = np.random.default_rng(3)
    parts = {label: random.integers(0, PROBABILITY_ONE // 2 + 1, grid.shape).astype(np.uint16) for label in (1, 5)}
    parts[1][:, :, :2] = 0
    parts[5][2, 3, 3], parts[1][2, 3, 3] = PROBABILITY_ONE, 0
    parts[5][1, 1, 1] = 40  # less than half a step of 255
    return Known(parts)


def write(folder: Path, series: Series, grid: Grid, probabilities: Known) -> Path:
    image = MaskedImage("case", folder / "case.nii.gz", series, Algorithm("net", "1.2.3"), probabilities=probabilities)
    (path,) = WRITERS["dicom-fractional"].write(folder, np.zeros(grid.shape, np.uint8), grid, TABLE, image)
    return path


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, OBLIQUE])
def test_others_read_the_probabilities(orientation: tuple[float, ...], tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_stack(source / "ct", Stack(size=(7, 9), gaps_mm=(2.0,) * 5, orientation=orientation))
    (series,) = scan(source / "ct").series
    grid = image_grid(series)
    probabilities = known(grid)
    path = write(source, series, grid, probabilities)
    data = pydicom.dcmread(path)
    assert (data.SegmentationType, data.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    assert (data.MaximumFractionalValue, data.BitsAllocated, data.SegmentsOverlap) == (255, 8, "UNDEFINED")
    seg = hd.seg.segread(path)
    assert [seg.get_segment_description(number).segment_label for number in (1, 2)] == ["Liver", "thing"]
    uids = [image.header.uid(0x00080018) for image in series.slices]
    read = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True, rescale_fractional=True)
    for place, label in enumerate((1, 5)):
        planes = on_slices(probabilities.of(label), grid, series.geometry) / PROBABILITY_ONE
        np.testing.assert_allclose(read[..., place], planes, atol=0.5 / 255 + 1e-6)
    assert path.read_bytes() == write(tmp_path, series, grid, probabilities).read_bytes()
    # convert takes what is at least half, and tells it.
    ledger, found = read_back(source, tmp_path / "out")
    (mask,) = found.values()
    np.testing.assert_array_equal(mask.array == 5, probabilities.of(5) >= PROBABILITY_ONE * 127.5 / 255)
    assert "cut at one half of their maximum" in str(ledger.outcomes)


def test_what_is_nowhere_probable_and_what_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stack(tmp_path / "ct", Stack(size=(7, 9), gaps_mm=(2.0,) * 3))
    (series,) = scan(tmp_path / "ct").series
    grid = image_grid(series)
    data = pydicom.dcmread(write(tmp_path, series, grid, Known({1: np.zeros(grid.shape, np.uint16)})))
    assert data.NumberOfFrames == len(data.SegmentSequence) == 1
    assert not data.pixel_array.any()
    (tmp_path / "case.fractional.dcm").unlink()
    monkeypatch.setattr(segmentation, "MAX_PIXEL_BYTES", 100)
    with pytest.raises(InputError, match="don't fit into one DICOM object") as refused:
        write(tmp_path, series, grid, known(grid))
    assert refused.value.code == "too-large"
    assert [path.name for path in tmp_path.iterdir()] == ["ct"]

"""Structures whose contours run through pixel centres or along pixel edges, through ``convert``: exactly the drawn mask."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.dicom_traps.oblique import turned
from tests.dicom_traps.stack import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Stack
from tests.drawn import Roi, on_slice
from tests.label_study import NATIVE, Study, done, names_of
from volseg.verbs.convert import convert

SIZE = (16, 14)
"""Columns and rows that each shape has for itself."""
ACROSS, DOWN = 4, 3
"""How many of these lie beside and below each other in an image."""
SLICES = range(1, 5)
"""Those that are drawn on, of six."""
PLANES = {
    "axial": AXIAL,
    "sagittal": SAGITTAL,
    "coronal": CORONAL,
    "oblique": OBLIQUE,
    "axial-tilted": turned(AXIAL, ("x", 17.0), ("y", 0.2), ("z", 0.2)),
    "prone-tilted": turned((-1, 0, 0, 0, -1, 0), ("x", -9.0), ("z", 3.0)),
}
PIXELS_MM = {"axial": (0.8, 0.6), "sagittal": (0.48828125, 0.48828125), "oblique": (0.9375, 0.9375)}
Points = Sequence[tuple[float, float]]
"""Columns and rows, of pixel centres."""
rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]


@dataclass(frozen=True)
class Shape:
    """What is drawn: its pixels on a slice, and its contours in columns and rows."""

    pixels: np.ndarray
    contours: tuple[Points, ...]

    def moved(self, column: int, row: int) -> Shape:
        """The same in an image, that many columns and rows further on."""
        pixels = np.zeros((DOWN * SIZE[1], ACROSS * SIZE[0]), bool)
        pixels[row : row + SIZE[1], column : column + SIZE[0]] = self.pixels
        return Shape(pixels, tuple([(x + column, y + row) for x, y in points] for points in self.contours))


def box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """Pixels from one column and row to another, these included."""
    return np.asarray((columns >= left) & (columns <= right) & (rows >= top) & (rows <= bottom))


def around(left: float, top: float, right: float, bottom: float, out: float) -> Points:
    """A box of pixels, ``out`` pixels outside of its outer centres."""
    return (
        (left - out, top - out),
        (right + out, top - out),
        (right + out, bottom + out),
        (left - out, bottom + out),
    )


def boxed(out: float) -> tuple[Shape, ...]:
    """One box."""
    return (Shape(box(4, 3, 11, 9), (around(4, 3, 11, 9, out),)),)


def first_corner(out: float) -> tuple[Shape, ...]:
    """A box that fills the image's corner."""
    return (Shape(box(0, 0, 5, 4), (around(0, 0, 5, 4, out),)),)


def last_corner(out: float) -> tuple[Shape, ...]:
    """The same on the other side."""
    return (Shape(box(9, 8, 15, 13), (around(9, 8, 15, 13, out),)),)


def ell(out: float) -> tuple[Shape, ...]:
    """A corner that points inwards."""
    points = (
        (3 - out, 2 - out),
        (6 + out, 2 - out),
        (6 + out, 7 - out),
        (12 + out, 7 - out),
        (12 + out, 11 + out),
        (3 - out, 11 + out),
    )
    return (Shape(box(3, 2, 6, 11) | box(3, 7, 12, 11), (points,)),)


def with_hole(out: float) -> tuple[Shape, ...]:
    """A hole, whose contour runs through the pixels about it, as programs trace it."""
    pixels = box(2, 2, 13, 11) & ~box(6, 5, 9, 7)
    return (Shape(pixels, (around(2, 2, 13, 11, out), around(6, 5, 9, 7, 1 - out))),)


def with_cut_hole(_: float) -> tuple[Shape, ...]:
    """A hole whose contour leaves the corners out, as OpenCV traces it."""
    hole = ((5, 5), (6, 4), (9, 4), (10, 5), (10, 7), (9, 8), (6, 8), (5, 7))
    return (Shape(box(2, 2, 13, 11) & ~box(6, 5, 9, 7), (around(2, 2, 13, 11, 0), hole)),)


def with_island(out: float) -> tuple[Shape, ...]:
    """A box in the hole."""
    pixels = box(1, 1, 14, 12) & ~box(4, 3, 11, 9) | box(6, 5, 9, 7)
    return (Shape(pixels, (around(1, 1, 14, 12, out), around(4, 3, 11, 9, 1 - out), around(6, 5, 9, 7, out))),)


def keyhole(out: float) -> tuple[Shape, ...]:
    """A hole that a channel of no width joins to the outside (PS3.3, C.8.8.6.3)."""
    left, top, right, bottom = 6 - (1 - out), 5 - (1 - out), 9 + (1 - out), 7 + (1 - out)
    outer = ((2 - out, top), (2 - out, 2 - out), (13 + out, 2 - out), (13 + out, 11 + out), (2 - out, 11 + out))
    inner = ((left, top), (left, bottom), (right, bottom), (right, top), (left, top))
    return (Shape(box(2, 2, 13, 11) & ~box(6, 5, 9, 7), ((*outer, (2 - out, top), *inner),)),)


def neighbours(out: float) -> tuple[Shape, ...]:
    """Two structures beside each other."""
    return (Shape(box(2, 3, 6, 9), (around(2, 3, 6, 9, out),)), Shape(box(7, 3, 12, 9), (around(7, 3, 12, 9, out),)))


def diamond(out: float) -> tuple[Shape, ...]:
    """Edges through the centres of pixels on a diagonal, or half way between these and the next."""
    reach = 4 + out
    points = ((8, 7 - reach), (8 + reach, 7), (8, 7 + reach), (8 - reach, 7))
    return (Shape(np.abs(columns - 8) + np.abs(rows - 7) <= 4, (points,)),)


def small(out: float) -> tuple[Shape, ...]:
    """Two pixels by three, of which a lost border would be most."""
    return (Shape(box(7, 6, 8, 8), (around(7, 6, 8, 8, out),)),)


def apart(out: float) -> tuple[Shape, ...]:
    """Two parts of one structure."""
    pixels = box(2, 2, 5, 5) | box(8, 6, 13, 11)
    return (Shape(pixels, (around(2, 2, 5, 5, out), around(8, 6, 13, 11, out))),)


SHAPES: tuple[Callable[[float], tuple[Shape, ...]], ...] = (
    first_corner,
    boxed,
    ell,
    with_hole,
    with_cut_hole,
    with_island,
    keyhole,
    neighbours,
    diamond,
    small,
    apart,
    last_corner,
)
"""In the order in which they lie in the image."""
PLACES = {"centres": 0.0, "edges": 0.5, "between": 0.3}


def turned_about(points: Points, k: int) -> np.ndarray:
    """The same contour from another point on, and the other way round on every other slice."""
    found = np.roll(np.array(points, float), k, axis=0)
    return found[:: 1 if k % 2 else -1]


def laid_out(out: float) -> dict[str, Shape]:
    """All shapes, each at its place in the image."""
    assert len(SHAPES) == ACROSS * DOWN
    return {
        f"{shapes.__name__} {number}": shape.moved(place % ACROSS * SIZE[0], place // ACROSS * SIZE[1])
        for place, shapes in enumerate(SHAPES)
        for number, shape in enumerate(shapes(out))
    }


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("plane", PLANES)
def test_the_mask_is_what_was_drawn(plane: str, place: str, tmp_path: Path) -> None:
    stack = Stack(
        orientation=PLANES[plane],
        size=(ACROSS * SIZE[0], DOWN * SIZE[1]),
        pixel_mm=PIXELS_MM.get(plane, (0.7, 0.9)),
        gaps_mm=(2.5,) * 5,
    )
    shapes = laid_out(PLACES[place])
    study = Study(tmp_path / "dicom", stack)
    study.structures(
        *(
            Roi(
                name,
                [
                    on_slice(stack, k, turned_about(points, k) * stack.pixel_mm)
                    for k, points in itertools.product(SLICES, shape.contours)
                ],
            )
            for name, shape in shapes.items()
        )
    )
    ledger = convert(tmp_path / "dicom", tmp_path / "nifti", NATIVE)
    mask = nibabel.load(tmp_path / "nifti" / "labelsTr" / f"{done(ledger).case}.nii.gz")
    values = np.asanyarray(mask.dataobj)
    lps_mm = stack.truth().lps_mm
    voxels = nibabel.affines.apply_affine(np.linalg.inv(mask.affine), lps_mm.reshape(-1, 3) * (-1, -1, 1))
    nearest = np.rint(voxels).astype(int)
    assert np.abs(voxels - nearest).max() < 0.01
    assert values.size == lps_mm[..., 0].size
    found = values[tuple(nearest.T)].reshape(lps_mm.shape[:3])
    labels = names_of(tmp_path / "nifti")
    assert labels.keys() >= shapes.keys()
    for name, shape in shapes.items():
        drawn = np.zeros(found.shape, bool)
        drawn[list(SLICES)] = shape.pixels
        np.testing.assert_array_equal(found == labels[name], drawn, err_msg=name)

"""Oblique grids as scanners make them, and where readers of NIfTI place them."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from volseg.grid import LPS_FROM_RAS, Grid
from volseg.volume import Volume, write_image

PLANES = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
}
"""Row and column direction of a patient on the back, head first; LPS."""
ROLLS = {"S": 0, "DR": 90, "P": 180, "DL": 270}
POSITIONS = [f"{end}{roll}" for end in ("HF", "FF") for roll in ROLLS]
"""PatientPosition (PS3.3, C.7.3.1.1.2)."""
TILTS = ("none", "one", "two", "three", "tiny", "hair")
CORNERS = np.array(list(np.ndindex(2, 2, 2)))


def axes_of(plane: str, position: str, tilt_degrees: np.ndarray) -> np.ndarray:
    """(3, 3) rows, columns and normal as columns, LPS: the plane in the scanner, tilted, as that patient lies."""
    row, column = np.array(PLANES[plane], float)
    scanner = np.stack((row, column, np.cross(row, column)), axis=1)
    pose = Rotation.from_euler("z", ROLLS[position[2:]], degrees=True)
    if position.startswith("FF"):
        pose = Rotation.from_euler("y", 180, degrees=True) * pose
    return np.rint(pose.as_matrix()) @ Rotation.from_euler("xyz", tilt_degrees, degrees=True).as_matrix() @ scanner


def tilt_of(kind: str, random: np.random.Generator) -> np.ndarray:
    """(3,) degrees about x, y and z."""
    tilt, signs = np.zeros(3), random.choice((-1, 1), 3)
    if kind in ("tiny", "hair"):
        chosen = random.permutation(3)[: random.integers(1, 4)]
        tilt[chosen] = 10.0 ** random.uniform(-4, np.log10(0.5), len(chosen))
        if kind == "hair":  # one of them beside a plain one
            tilt[random.integers(3)] = random.uniform(0, 45)
    elif kind != "none":
        chosen = random.permutation(3)[: TILTS.index(kind)]
        tilt[chosen] = random.choice((random.uniform(0, 45, len(chosen)), np.full(len(chosen), 45.0)), p=(0.95, 0.05))
    return tilt * signs


def grids(count: int, seed: int, *, whole: bool = False) -> Iterator[Grid]:
    """Grids of 512 x 512 x 300 voxels of 0.5 to 1 mm, 1 to 5 mm apart, some of them mirrored.

    But for ``whole`` they are made of eight voxels, the corners, so that a file of them is small.
    """
    random = np.random.default_rng(seed)
    for number in range(count):
        plane = list(PLANES)[number % 3]
        position = POSITIONS[number // 3 % 8]
        axes = axes_of(plane, position, tilt_of(TILTS[number // 24 % 6], random))
        pixel = random.uniform(0.5, 1.0)
        spacing = np.array((pixel, pixel, random.choice((1.0, 2.5, 5.0))))
        if random.random() < 0.2:
            axes[:, random.integers(3)] *= -1
        shape = (512, 512, 300)
        origin = random.uniform(-800, 800, 3)
        if whole:
            yield Grid.from_lps(shape, origin, axes, spacing)
        else:
            yield Grid.from_lps((2, 2, 2), origin, axes, spacing * (np.array(shape) - 1))


def by_nibabel(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    image = nibabel.load(path)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    array = np.asarray(image.dataobj)
    return {"nibabel sform": (array, image.get_sform()), "nibabel qform": (array, image.get_qform())}


def by_itk(image: Any) -> tuple[np.ndarray, np.ndarray]:
    """Of a SimpleITK image, which Convert3D gives as well."""
    import SimpleITK as sitk

    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, LPS_FROM_RAS @ affine


def by_qform_alone(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """As ITK reads a file whose sform has no code, by the formula of nifti1_io.c."""
    import SimpleITK as sitk

    raw = path.read_bytes()
    raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    with tempfile.NamedTemporaryFile(suffix=".nii") as file:
        file.write(raw[:254] + b"\0\0" + raw[256:])
        file.flush()
        return by_itk(sitk.ReadImage(file.name))


def readings(path: Path, *, convert3d: Any = None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The voxels and the RAS affine of a file, by each reader."""
    import SimpleITK as sitk

    found = by_nibabel(path) | {"SimpleITK": by_itk(sitk.ReadImage(str(path)))}
    found["SimpleITK by the qform alone"] = by_qform_alone(path)
    if convert3d is not None:
        convert3d.execute(f'"{path}" -as X')
        found["Convert3D"] = by_itk(convert3d.peek(-1))
    return found


def apart_mm(volume: Volume, array: np.ndarray, affine: np.ndarray) -> float:
    """How far corners lie from where the volume has them; the voxels may be counted from other ends, never changed."""
    step = np.linalg.inv(affine) @ volume.grid.affine
    turn = np.rint(step[:3, :3])
    assert sorted(np.abs(turn).argmax(axis=0)) == [0, 1, 2]
    assert np.abs(turn).sum() == 3
    corners = CORNERS * (np.array(volume.grid.shape) - 1)
    start = np.where(turn.sum(axis=1) < 0, np.array(array.shape) - 1, 0)
    there = (corners @ turn.T + start).astype(int)
    np.testing.assert_array_equal(array[tuple(there.T)], volume.array[tuple(corners.T)])
    return float(np.linalg.norm(apply_affine(affine, there) - volume.grid.corners_mm, axis=1).max())


def worst_mm(volume: Volume, path: Path, *, convert3d: Any = None) -> dict[str, float]:
    """How far each reader is off, once the volume is written."""
    write_image(path, volume)
    return {name: apart_mm(volume, *found) for name, found in readings(path, convert3d=convert3d).items()}


def cornered(grid: Grid) -> Volume:
    """A volume whose eight corners differ."""
    array = np.zeros(grid.shape, np.uint8)
    array[tuple((CORNERS * (np.array(grid.shape) - 1)).T)] = np.arange(1, 9)
    return Volume(array, grid)


_SLANT = axes_of("axial", "HFS", np.array([2.0, 2.0, 0.0]))
SLANTED = tuple(float(number) for number in (*_SLANT[:, 0], *_SLANT[:, 1]))
"""ImageOrientationPatient of an axial image that is tilted twice by 2 degrees; NIfTI's qform can't hold it in LPS."""


def slanted(shape: tuple[int, int, int], origin_mm: tuple[float, float, float] = (-30.0, -40.0, 5.0)) -> Grid:
    """A grid of that orientation, in LPS order."""
    return Grid.from_lps(shape, origin_mm, _SLANT, (0.8, 0.7, 2.5))

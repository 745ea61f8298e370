"""Surfaces, as their files tell them: closed, the mask's volume, in its place, normals outward."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.conftest import OBLIQUE
from volseg.grid import LPS_FROM_RAS, Grid
from volseg.labels import Label, LabelTable
from volseg.writers import MaskedImage
from volseg.writers.surface import SurfaceWriter

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

TABLE = LabelTable((Label(1, "left Lunge ä/../", (1, 2, 3)), Label(2, "=dot"), Label(3, "absent"), Label(40, "cut")))
FLIPPED = np.diag((-1.0, 1.0, 1.0, 1.0))


def phantom() -> np.ndarray:
    """A ball with a hole in it, one voxel, and a block that the image cuts."""
    voxels = np.stack(np.meshgrid(*map(np.arange, (40, 36, 20)), indexing="ij"), axis=-1)
    away = np.linalg.norm((voxels - (18, 18, 9)) * (0.8, 0.8, 2.0), axis=-1)
    mask = ((away < 12) & (away > 4)).astype(np.uint8)
    mask[2, 2, 2] = 2
    mask[36:, :6, 15:] = 40
    return mask


def read_stl(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The corners (m, 3, 3) and normals (m, 3) of a binary STL."""
    raw = path.read_bytes()
    assert not raw.startswith(b"solid")
    assert b"SPACE=LPS" in raw[:80]
    count = int.from_bytes(raw[80:84], "little")
    assert len(raw) == 84 + 50 * count
    rows = np.frombuffer(raw[84:], np.uint8).reshape(count, 50)[:, :48].copy().view("<f4").reshape(count, 4, 3)
    return rows[:, 1:].astype(np.float64), rows[:, 0].astype(np.float64)


def read_obj(path: Path) -> np.ndarray:
    lines = path.read_text().splitlines()
    assert "SPACE=LPS" in lines[0]
    vertices = np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)
    faces = np.array([line.split()[1:] for line in lines if line.startswith("f ")], int) - 1
    return vertices[faces]


def volume_of(corners: np.ndarray) -> float:
    a, b, c = np.moveaxis(corners - corners.mean(axis=(0, 1)), 1, 0)
    return float((a * np.cross(b, c)).sum() / 6)


def is_closed(corners: np.ndarray) -> bool:
    """Whether each side of a triangle is met by one that runs the other way."""
    _, names = np.unique(np.round(corners.reshape(-1, 3), 4), axis=0, return_inverse=True)
    triangles = names.reshape(-1, 3)
    sides = np.concatenate([triangles[:, [n, (n + 1) % 3]] for n in range(3)])
    sides = sides[sides[:, 0] != sides[:, 1]]
    one, counts = np.unique(sides, axis=0, return_counts=True)
    other, back = np.unique(sides[:, ::-1], axis=0, return_counts=True)
    return bool(np.array_equal(one, other) and np.array_equal(counts, back))


@pytest.mark.parametrize("affine", [OBLIQUE, OBLIQUE @ FLIPPED], ids=["oblique", "flipped"])
@pytest.mark.parametrize("kind", ["stl", "obj"])
def test_each_label_has_a_closed_surface_of_its_volume_in_its_place(
    tmp_path: Path, kind: Literal["stl", "obj"], affine: np.ndarray
) -> None:
    mask = phantom()
    grid = Grid(mask.shape, affine)
    writer, image = SurfaceWriter(kind), MaskedImage("case", tmp_path)
    paths = writer.write(tmp_path, mask, grid, TABLE, image)
    folder = tmp_path / kind / "case"
    names = [f"1-left-lunge-a.{kind}", f"2-dot.{kind}", f"40-cut.{kind}"]
    assert paths == (folder / "surfaces.csv", *(folder / name for name in names))
    assert writer.names(image) == (f"{kind}/case/surfaces.csv",)
    with (folder / "surfaces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], row["name"], row["file"]) for row in rows] == [
        ("1", "left Lunge ä/../", names[0]), ("2", "'=dot", names[1]), ("40", "cut", names[2]),
    ]  # fmt: skip
    for row, label in zip(rows, (1, 2, 40), strict=True):
        path = folder / row["file"]
        corners = read_stl(path)[0] if kind == "stl" else read_obj(path)
        assert is_closed(corners)
        wanted = np.count_nonzero(mask == label) * grid.voxel_volume_mm3
        assert volume_of(corners) == pytest.approx(wanted, rel=0.011)  # positive: the normals point outward
        assert float(row["surface_ml"]) * 1000 == pytest.approx(volume_of(corners), rel=1e-3)
        assert float(row["mask_ml"]) * 1000 == pytest.approx(wanted, rel=1e-6)
        centre = (LPS_FROM_RAS @ np.append(grid.to_world(np.argwhere(mask == label)).mean(axis=0), 1))[:3]
        a, b, c = np.moveaxis(corners, 1, 0)
        shares = (a * np.cross(b, c)).sum(axis=1)
        assert np.linalg.norm(((a + b + c) / 4 * shares[:, None]).sum(axis=0) / shares.sum() - centre) < 0.25
    if kind == "stl":
        corners, normals = read_stl(folder / names[0])
        outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert ((outward * normals).sum(axis=1) >= 0).all()


def test_a_sheet_of_one_voxel_is_not_lost_beside_a_block(tmp_path: Path) -> None:
    mask = np.zeros((30, 30, 30), np.uint8)
    mask[4:14, 4:26, 4:26] = 1
    mask[14:26, 15, 6:24] = 1
    SurfaceWriter("stl").write(tmp_path, mask, Grid(mask.shape, np.eye(4)), TABLE, MaskedImage("case", tmp_path))
    corners, _ = read_stl(next((tmp_path / "stl" / "case").glob("1-*.stl")))
    assert (LPS_FROM_RAS[:3, :3] @ corners.reshape(-1, 3).T)[0].max() > 24

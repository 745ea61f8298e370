"""Surfaces of labels as meshes, one file for each label: ``stl/<case>/1-liver.stl``, or ``obj/...``, in the patient's LPS mm.

LPS is what 3D Slicer takes a mesh for, and DICOM's own; the header says it. The voxels of a label, 1 inside and 0 outside, are
blurred by a Gaussian of ``SMOOTHING`` steps along each axis, which takes the stairs and keeps sheets of one voxel. The surface
lies at the level at which it encloses the volume of the voxels, within ``VOLUME_TOLERANCE``. It is closed, also where the image
ends, and its normals point outward. Islands of a few voxels beside a larger part may fall below that level.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from volseg.atomic import write_bytes, write_text
from volseg.labels import plain_word
from volseg.words import harmless, printable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.labels import LabelTable
    from volseg.writers.writer import MaskedImage

SMOOTHING = 0.7
"""Standard deviation, in steps of the grid along each axis."""
REACH = 4.0
"""The Gaussian is cut off after so many of these."""
MARGIN = 4
"""Voxels around a label, beyond that reach."""
VOLUME_TOLERANCE = 0.01
MAX_STEPS = 16
"""Each halves the levels that are left: enough for a label of one voxel."""
HEADER = "volseg, millimetres, SPACE=LPS"
INDEX = "surfaces.csv"
COLUMNS = ("label", "name", "file", "red", "green", "blue", "mask_ml", "surface_ml")
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


@dataclass(frozen=True, eq=False)
class Mesh:
    """A closed surface of triangles.

    Args:
        vertices_mm: (n, 3) in LPS.
        triangles: (m, 3) which vertices, anticlockwise as seen from outside.
    """

    vertices_mm: NDArray[np.float64]
    triangles: NDArray[np.intp]

    @property
    def volume_mm3(self) -> float:
        """What it encloses, by the divergence theorem; negative where it is inside out."""
        middle = self.vertices_mm.mean(axis=0) if len(self.vertices_mm) else 0
        a, b, c = np.moveaxis((self.vertices_mm - middle)[self.triangles], 1, 0)
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def surface_of(inside: NDArray[np.bool_], lps_affine: NDArray[np.float64]) -> Mesh:
    """The surface of the voxels that are true, by the rule of this module.

    Args:
        inside: (i, j, k), at least one of them true.
        lps_affine: (4, 4) from its voxel indices to LPS mm.
    """
    from scipy.ndimage import gaussian_filter

    padded = np.pad(inside, MARGIN).astype(np.float32)
    field = gaussian_filter(padded, SMOOTHING, mode="constant", truncate=REACH)
    affine = lps_affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, MARGIN)
    voxels = int(np.count_nonzero(inside))
    wanted_mm3 = voxels * abs(float(np.linalg.det(affine[:3, :3])))
    # As many voxels lie above this level as the label has, so the first guess is near.
    around = np.partition(field, field.size - voxels - 1, axis=None)[field.size - voxels - 1 :]
    low, level, high = 0.0, float(around[0] + around[1:].min()) / 2, float(field.max())
    for _ in range(MAX_STEPS):
        mesh = _at(field, level, affine)
        share = mesh.volume_mm3 / wanted_mm3
        if abs(share - 1) <= VOLUME_TOLERANCE:
            break
        low, high = (level, high) if share > 1 else (low, level)
        level = (low + high) / 2
    return mesh


def _at(field: NDArray[np.float32], level: float, affine: NDArray[np.float64]) -> Mesh:
    from skimage.measure import marching_cubes

    voxels, triangles, _, _ = marching_cubes(field, level)
    mesh = Mesh(voxels.astype(np.float64) @ affine[:3, :3].T + affine[:3, 3], triangles)
    return mesh if mesh.volume_mm3 >= 0 else Mesh(mesh.vertices_mm, triangles[:, ::-1])


def to_stl(mesh: Mesh) -> bytes:
    """The mesh as binary STL."""
    corners = mesh.vertices_mm[mesh.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    content = np.zeros(len(corners), _TRIANGLE)
    content["normal"], content["corners"] = normals / np.where(lengths, lengths, 1), corners
    return HEADER.encode().ljust(80) + len(corners).to_bytes(4, "little") + content.tobytes()


def to_obj(mesh: Mesh) -> bytes:
    """The mesh as Wavefront OBJ, whose first vertex is number 1."""
    lines = [f"# {HEADER}"]
    lines += [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in mesh.vertices_mm.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (mesh.triangles + 1).tolist()]
    return "\n".join([*lines, ""]).encode()


@dataclass(frozen=True)
class SurfaceWriter:
    """Writes the surface of each label that is there, and a list of them; see ``MaskWriter``.

    Args:
        kind: of the files, and the folder that they go to.
    """

    kind: Literal["stl", "obj"]

    def names(self, image: MaskedImage) -> tuple[str, ...]:
        """The list; how many surfaces there are, the mask tells."""
        return (f"{self.kind}/{image.case}/{INDEX}",)

    def write(
        self, folder: Path, mask: NDArray[np.unsignedinteger], grid: Grid, table: LabelTable, image: MaskedImage
    ) -> tuple[Path, ...]:
        """Write the surfaces, and the list with names, colours and volumes."""
        from scipy.ndimage import find_objects

        index = folder / self.names(image)[0]
        boxes = find_objects(mask)
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(COLUMNS)
        paths = [index]
        for label in table.labels:
            box = boxes[label.index - 1] if label.index <= len(boxes) else None
            if box is None:
                continue
            inside = mask[box] == label.index
            affine = grid.lps_affine.copy()
            affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
            mesh = surface_of(inside, affine)
            paths.append(index.parent / f"{label.index}-{plain_word(label.name) or 'label'}.{self.kind}")
            write_bytes(paths[-1], to_stl(mesh) if self.kind == "stl" else to_obj(mesh))
            mask_ml = np.count_nonzero(inside) * grid.voxel_volume_mm3 / 1000
            volumes = (f"{mask_ml:.7g}", f"{mesh.volume_mm3 / 1000:.7g}")
            rows.writerow((label.index, harmless(printable(label.name)), paths[-1].name, *label.rgb, *volumes))
        write_text(index, text.getvalue())
        return tuple(paths)

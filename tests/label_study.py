"""Studies with label objects, converted: what the tests of masks share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.dicom_traps.stack import Stack, write_stack
from tests.drawn import Roi, circle, read_images, segmentation, structure_set
from volseg.dataset.listing import read_listing
from volseg.outcomes import Ledger, Outcome, Status
from volseg.verbs.convert import ConvertOptions
from volseg.volume import Volume, read_mask

NATIVE = ConvertOptions(spacing=("native",), jobs=1)
STACK = Stack(size=(40, 44), pixel_mm=(0.8, 0.7), gaps_mm=(2.0,) * 11)


class Study:
    """A series in a folder of its own, and the label objects on it."""

    def __init__(self, root: Path, stack: Stack = STACK, name: str = "a") -> None:
        self.root, self.stack, self.name = root, stack, name
        write_stack(root / name / "ct", stack)
        self.images = read_images(root / name / "ct")

    def centre(self, radius: float = 9.0, shift: tuple[float, float] = (0, 0)) -> Ball:
        middle = np.mean([self.stack.world_of(k).reshape(-1, 3).mean(axis=0) for k in (0, -1)], axis=0)
        return Ball(middle + np.array(shift) @ self.stack.axes[:2], radius)

    def contours(self, ball: Ball) -> list[np.ndarray]:
        """The cuts of a ball with the slices."""
        found = []
        for k, position in enumerate(self.stack.positions_mm):
            along = self.stack.axes @ (ball.lps_mm - position)
            if abs(along[2]) < ball.radius:
                found.append(
                    circle(self.stack, k, (along[0], along[1]), float(np.sqrt(ball.radius**2 - along[2] ** 2)))
                )
        return found

    def structures(self, *rois: Roi, file: str = "rs", **options: object) -> Path:
        return structure_set(self.root / self.name / file, self.images, rois, **options)  # type: ignore[arg-type]

    def segments(self, pixels: np.ndarray, *names: str, file: str = "seg", **options: object) -> Path:
        return segmentation(self.root / self.name / file, self.images, pixels, names, **options)  # type: ignore[arg-type]

    def pixels(self, ball: Ball) -> np.ndarray:
        return np.stack([ball.holds(self.stack.world_of(k)) for k in range(len(self.images))]).astype(np.uint8)


class Ball:
    def __init__(self, lps_mm: np.ndarray, radius: float) -> None:
        self.lps_mm, self.radius = lps_mm, radius

    def holds(self, lps_mm: np.ndarray, margin: float = 0.0) -> np.ndarray:
        return np.linalg.norm(lps_mm - self.lps_mm, axis=-1) < self.radius + margin


def by_code(ledger: Ledger) -> dict[str, Outcome]:
    return {outcome.code: outcome for outcome in ledger.outcomes}


def done(ledger: Ledger) -> Outcome:
    (outcome,) = [outcome for outcome in ledger.outcomes if outcome.status is Status.DONE]
    return outcome


def the_mask(out: Path, ledger: Ledger) -> Volume:
    return read_mask(out / "labelsTr" / f"{done(ledger).case}.nii.gz")


def names_of(out: Path) -> dict[str, int]:
    return {label.name: label.index for label in read_listing(out / "dataset.json").labels.labels}


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

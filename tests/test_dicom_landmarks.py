"""Every voxel of phantoms in all orientations and patient positions, at its place in the patient with its value.

Each voxel of all series holds a number of its own, so it is a landmark that tells where it came from, whatever file,
axis and direction it ends up in.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import Dataset

from tests.dicom_traps.stack import Stack, write_slices
from volseg.outcomes import Status
from volseg.verbs.convert import ConvertOptions, convert

LANDMARK_MM = 0.001
SIZE, SLICES = (5, 6), 4
VOXELS = SIZE[0] * SIZE[1] * SLICES
POSITIONS = ("HFS", "HFP", "HFDR", "HFDL", "FFS", "FFP", "FFDR", "FFDL")
"""PS3.3 C.7.3.1.1.2; what they say must not matter, since the position and orientation of the image are the patient's."""


def orthogonal() -> list[tuple[float, ...]]:
    """All 24 ways to lay an image's rows and columns along the patient's axes."""
    axes = [np.eye(3)[axis] * sign for axis in range(3) for sign in (1, -1)]
    return [tuple(np.r_[row, column]) for row, column in itertools.permutations(axes, 2) if not row @ column]


def oblique() -> list[tuple[float, ...]]:
    """The same, turned about an axis of its own each, by up to half a turn."""
    random = np.random.default_rng(4)
    found = []
    for number, orientation in enumerate(orthogonal()):
        axis = random.normal(size=3)
        axis /= np.linalg.norm(axis)
        # From a turn near to nothing, just beyond what counts as rounding, to any.
        angle = np.radians(np.geomspace(0.3, 180, 24)[number])
        cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
        found.append(tuple(np.r_[turn @ orientation[:3], turn @ orientation[3:]]))
    return found


def phantom(number: int, orientation: tuple[float, ...], position: str, *, downwards: bool) -> Stack:
    """A series of which each voxel holds a number that no other series' voxels hold."""
    random = np.random.default_rng(number)
    stack = Stack(
        gaps_mm=(3.7,) * (SLICES - 1),
        orientation=orientation,
        origin_mm=tuple(random.uniform(-400, 400, 3)),  # type: ignore[arg-type]
        size=SIZE,
        pixel_mm=(0.83, 1.31),
        modality="MR",
        series=number,
        study=1 + number % 5,
    )

    def tamper(data: Dataset, place: int) -> None:
        data.PatientPosition = position
        data.InstanceNumber = SLICES - place if downwards else 1 + place
        words = number * VOXELS + place * SIZE[0] * SIZE[1] + np.arange(SIZE[0] * SIZE[1])
        data.PixelRepresentation = 0
        data.PixelData = words.astype("<u2").tobytes()

    return replace(stack, tamper=tamper)


def check(folder: Path, stacks: list[Stack]) -> float:
    """Convert all series at once and compare every voxel; the greatest error in mm."""
    for stack in stacks:
        write_slices(folder / "dicom" / str(stack.series), stack.slices())
    ledger = convert(folder / "dicom", folder / "nifti", ConvertOptions(spacing=("native",), jobs=1))
    assert [outcome.status for outcome in ledger.outcomes] == [Status.DONE] * len(stacks)
    assert not any(outcome.warnings for outcome in ledger.outcomes)
    truth = np.stack([np.stack([stack.world_of(place) for place in range(SLICES)]) for stack in stacks])
    truth = (truth * (-1, -1, 1)).reshape(len(stacks), VOXELS, 3)
    number_of = {stack.series: place for place, stack in enumerate(stacks)}
    seen, greatest = [], 0.0
    for outcome in ledger.outcomes:
        image = nibabel.load(folder / "nifti" / outcome.outputs[0])
        assert isinstance(image, nibabel.Nifti1Image)
        values = np.asanyarray(image.dataobj)
        assert values.dtype.kind in "iu"
        series, voxel = np.unique(values // VOXELS), (values % VOXELS).ravel()
        assert len(series) == 1
        assert np.array_equal(np.sort(voxel), np.arange(VOXELS)), "each value once, unchanged"
        seen.append(int(series[0]))
        places = np.argwhere(np.ones(values.shape, bool))
        for affine in (image.get_sform(), image.get_qform()):
            off_mm = nibabel.affines.apply_affine(affine, places) - truth[number_of[int(series[0])], voxel]
            greatest = max(greatest, float(np.linalg.norm(off_mm, axis=1).max()))
    assert sorted(seen) == sorted(number_of)
    return greatest


def test_there_are_48_orientations_and_none_twice() -> None:
    assert len({tuple(orientation) for orientation in orthogonal()}) * len((False, True)) == 48


@pytest.mark.parametrize("positions", [POSITIONS[:4], POSITIONS[4:]], ids=["head-first", "feet-first"])
def test_all_axes_and_directions_in_all_patient_positions(positions: tuple[str, ...], tmp_path: Path) -> None:
    choices = itertools.product(orthogonal(), (False, True), positions)
    stacks = [
        phantom(number, orientation, position, downwards=downwards)
        for number, (orientation, downwards, position) in enumerate(choices, 1)
    ]
    assert len(stacks) == 48 * 4
    assert check(tmp_path, stacks) <= LANDMARK_MM


def test_oblique_orientations(tmp_path: Path) -> None:
    stacks = [
        phantom(number, orientation, POSITIONS[number % 8], downwards=downwards)
        for number, (orientation, downwards) in enumerate(itertools.product(oblique(), (False, True)), 1)
    ]
    assert check(tmp_path, stacks) <= LANDMARK_MM


def test_a_landmark_that_is_off_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = [phantom(1, oblique()[9], "HFS", downwards=False)]
    right = Stack.world_of
    monkeypatch.setattr(Stack, "world_of", lambda stack, number: right(stack, number) + np.array([0.0, 0.002, 0.0]))
    assert check(tmp_path, stacks) > LANDMARK_MM

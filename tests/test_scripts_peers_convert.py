"""scripts/peers/convert: the judge calls right what is right in world space, and wrong what is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np
import pytest

from tests.conftest import uncounted
from tests.dicom_traps import Action, Stack, Trap
from tests.dicom_traps.corpus import TRAPS
from tests.scripts import SCRIPTS, loaded

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    return loaded("peers/convert")


def trap(action: Action, **more: object) -> Trap:
    return Trap("made", action, lambda _: (), **more)  # type: ignore[arg-type]


def volume(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
    """[i, j, k] and the affine to RAS, of a stack whose gaps are even."""
    truth = stack.truth()
    affine = np.eye(4)
    affine[:3, :3] = stack.axes.T * (*stack.pixel_mm, stack.gaps_mm[0])
    affine[:3, 3] = stack.origin_mm
    return truth.values.T, LPS_TO_RAS @ affine


def judged(peers: ModuleType, one: Trap, stacks: list[Stack], made: list[tuple[np.ndarray, np.ndarray]]) -> str:
    found = [peers.Found(array, affine) for array, affine in made]
    word = peers.verdict(one, tuple(stack.truth() for stack in stacks), found, 0, warned=False)
    assert word in peers.LEGEND
    return str(word)


def test_right_in_any_order_of_axes(peers: ModuleType) -> None:
    array, affine = volume(Stack())
    assert judged(peers, trap(Action.PLAIN), [Stack()], [(array, affine)]) == "right"
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(array, affine))
    turned = np.asanyarray(image.dataobj).transpose(2, 0, 1)
    columns = image.affine[:, [2, 0, 1, 3]]
    assert not np.array_equal(columns, affine)
    assert judged(peers, trap(Action.PLAIN), [Stack()], [(turned, columns)]) == "right"


def test_wrong_place_spacing_and_values(peers: ModuleType) -> None:
    array, affine = volume(Stack())
    moved, wide = affine.copy(), affine.copy()
    moved[0, 3] += 0.4
    wide[:3, 2] *= 1.1
    for made in ((array, moved), (array, wide), (array + 1, affine), (array[::-1], affine), (array[..., :-1], affine)):
        assert judged(peers, trap(Action.PLAIN), [Stack()], [made]) == "WRONG"


def test_some_of_several(peers: ModuleType) -> None:
    stacks = [Stack(), Stack(offset=300, origin_mm=(50.0, 0.0, 0.0))]
    both = [volume(stack) for stack in stacks]
    assert judged(peers, trap(Action.SPLIT), stacks, both) == "right"
    assert judged(peers, trap(Action.SPLIT), stacks, both[:1]) == "part"
    wrong = (both[0][0] + 7, both[0][1])
    assert judged(peers, trap(Action.SPLIT), stacks, [*both, wrong]) == "right + wrong"


def test_where_nothing_should_come_out(peers: ModuleType) -> None:
    array, affine = volume(Stack())
    assert judged(peers, trap(Action.REFUSE), [], []) == "refused"
    assert judged(peers, trap(Action.SKIP), [], []) == "right"
    assert judged(peers, trap(Action.PLAIN), [Stack()], []) == "refused"
    assert judged(peers, trap(Action.REFUSE), [], [(array, affine)]) == "right"
    spread = affine.copy()
    spread[:3, 2] *= 7 / 6
    assert judged(peers, trap(Action.REFUSE), [], [(array, spread)]) == "WRONG"
    cut = array.copy()
    cut[2, 3:, 4] = 0
    assert judged(peers, trap(Action.REFUSE), [], [(cut, affine)]) == "WRONG"


def test_what_lacks_a_slice_may_come_out_in_its_place_but_never_mixed(peers: ModuleType) -> None:
    first, second = Stack(), Stack(offset=140)
    whole, (array, affine) = volume(first), volume(second)
    part = (array[..., :-1], affine)
    mixed = array.copy()
    mixed[..., 3] = whole[0][..., 3]
    one = trap(Action.SPLIT, refused=("incomplete-volume",))
    assert judged(peers, one, [first], [whole]) == "right"
    assert judged(peers, one, [first], [whole, part]) == "right"
    assert judged(peers, one, [first], [part]) == "part"
    assert judged(peers, one, [first], [whole, (mixed, affine)]) == "right + wrong"
    either = trap(Action.SPLIT, cautious=True)
    assert peers.well(either, judged(peers, either, [first, second], [whole]))
    assert peers.well(either, judged(peers, either, [first, second], []))
    assert judged(peers, either, [first, second], [(mixed, affine)]) == "WRONG"
    assert not peers.well(one, judged(peers, one, [first], []))


def test_interpolated_slices_may_lie_on_another_grid(peers: ModuleType) -> None:
    uneven = Stack(gaps_mm=(4.0,) * 4 + (7.0,) * 4)
    even = Stack(gaps_mm=(2.0,) * 22)
    array, affine = volume(even)
    fix = trap(Action.FIX, exact=False)
    assert judged(peers, fix, [uneven], [(array.round(), affine)]) == "right"
    squeezed, mean = volume(Stack(gaps_mm=(5.5,) * 8))
    assert judged(peers, fix, [uneven], [(uneven.truth().values.T, mean)]) == "WRONG"
    assert squeezed.shape == uneven.truth().values.T.shape


def test_a_crash_and_a_warning_are_told(peers: ModuleType) -> None:
    array, affine = volume(Stack())
    wrong = [peers.Found(array + 5, affine)]
    truths = (Stack().truth(),)
    assert peers.verdict(trap(Action.PLAIN), truths, wrong, -11, warned=False) == "crashed"
    assert peers.verdict(trap(Action.PLAIN), truths, wrong, 0, warned=True) == "wrong, warned"
    assert peers.verdict(trap(Action.PLAIN), truths, wrong, 1, warned=False) == "wrong, warned"
    assert peers.complaints("Warning: 7 slices in /a/b\nall well") == peers.complaints("Warning: 12 slices in /c/d")


def test_points_in_time_and_saved_arrays_are_found(peers: ModuleType, tmp_path: Path) -> None:
    array, affine = volume(Stack())
    nibabel.save(nibabel.Nifti1Image(np.stack([array, array + 1], -1).astype(np.int16), affine), tmp_path / "4d.nii")
    np.savez(tmp_path / "0.npz", array=array, affine=affine)
    np.savez(tmp_path / "1.npz", array=np.zeros((3, 4, 5, 6, 3)), affine=affine)
    found = peers.volumes_of(tmp_path)
    assert [None if one is None else one.array.shape for one in found] == [array.shape, None, array.shape, array.shape]


def test_the_page_of_three_traps(tmp_path: Path) -> None:
    names = {"missing-slice", "points-in-time"}
    assert names < {trap.name for trap in TRAPS}
    command = [
        sys.executable,
        SCRIPTS / "peers" / "convert",
        "--readers",
        "volseg",
        "SimpleITK",
        "--out",
        tmp_path / "page.md",
        "--traps",
        *names,
    ]
    done = subprocess.run(command, env=uncounted(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.md").read_text()
    assert "| plain | one volume | right | right |" in page
    assert "| missing-slice | refused | refused | **" in page
    assert "| points-in-time | several volumes | right | **" in page
    assert "| as it should be | 3 | 1 |" in page

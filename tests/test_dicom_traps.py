"""Every trap of the corpus through ``convert``: the right action, and each voxel at its place."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from tests.dicom_traps import Action, Trap, Truth
from tests.dicom_traps.corpus import TRAPS
from tests.dicom_traps.stack import ROOT, SLOPE_PER_MM
from tests.dicom_traps.trap import CANARY
from volseg.errors import VolsegError
from volseg.outcomes import Ledger, Outcome, Status
from volseg.verbs.convert import ConvertOptions, convert

LANDMARK_MM = 0.001
JITTER_MM = 0.12
"""How far scanner rounding may put a slice from the regular grid that is laid through all: 1 % of up to 7 mm, and the
drift of 0.07 degrees from the middle to the end of 130 mm."""
STRAIGHTENED_MM = 0.01
OF_CONTENT = {"burned-in-annotation", "face"}
"""Warnings of what an image shows, by its acquisition facts; all others are of its files."""
OF_HEADERS = ("TRAP", "PHANTOM", ROOT, "OMNIPAQUE", "20200102")
"""Texts of the headers, of which no output may hold one."""


def run(trap: Trap, folder: Path) -> tuple[tuple[Truth, ...], Ledger | VolsegError]:
    """Write a trap, convert it; its truth, and the ledger or the error that ended the run."""
    source = folder / "dicom"
    source.mkdir()
    truths = trap.write(source)
    known = {field.name for field in dataclasses.fields(ConvertOptions)}
    if not trap.options.keys() <= known:
        pytest.fail(f"convert has no option {trap.options}")
    try:
        return truths, convert(source, folder / "nifti", ConvertOptions(spacing=("native",), jobs=1, **trap.options))
    except VolsegError as error:
        return truths, error


def done(ledger: Ledger) -> list[Outcome]:
    return [outcome for outcome in ledger.outcomes if outcome.status is Status.DONE]


def matches(truth: Truth, image: Path, *, action: Action, exact: bool) -> bool:
    """Whether an image holds a volume: each pixel at its place with its value."""
    found = nibabel.load(image)
    array = np.asanyarray(found.dataobj)
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ found.affine
    if action is Action.FIX and not exact:
        return follows(truth, array, to_lps)
    voxels = nibabel.affines.apply_affine(np.linalg.inv(to_lps), truth.lps_mm.reshape(-1, 3))
    nearest = np.rint(voxels).astype(int)
    if (nearest < 0).any() or (nearest >= array.shape).any() or array.size != truth.values.size:
        return False
    off_mm = nibabel.affines.apply_affine(to_lps, nearest) - truth.lps_mm.reshape(-1, 3)
    if np.linalg.norm(off_mm, axis=1).max() > (LANDMARK_MM if exact else JITTER_MM):
        return False
    values, expected = array[tuple(nearest.T)], truth.values.ravel()
    if array.dtype.kind in "iu":
        return np.array_equal(values, expected)
    rounded = expected.astype(np.float32)
    return bool((np.abs(values.astype(np.float32) - rounded) <= np.spacing(np.abs(rounded))).all())


def follows(truth: Truth, array: np.ndarray, to_lps: np.ndarray) -> bool:
    """Whether interpolated voxels follow the truth's linear function, but for the border and what no slice reaches."""
    known = array != array.min()
    inner = known.copy()
    for axis in (0, 1):
        inner &= np.roll(known, 1, axis) & np.roll(known, -1, axis)
    inner[[0, -1]] = inner[:, [0, -1]] = False
    if inner.sum() < 0.5 * truth.values.size:
        return False
    lps_mm = nibabel.affines.apply_affine(to_lps, np.argwhere(inner))
    error = array[inner] - truth.linear(lps_mm)
    steepness = float(np.linalg.norm(SLOPE_PER_MM))
    # Stored and interpolated values are rounded by half a unit each; their mean tells the place more finely.
    return bool(
        np.abs(error).max() <= 1 + STRAIGHTENED_MM * steepness and abs(error.mean()) <= STRAIGHTENED_MM * steepness
    )


def assert_volumes(trap: Trap, truths: tuple[Truth, ...], ledger: Ledger, folder: Path) -> None:
    """Each image is a volume, with what it should record; where a trap may be refused, some may lack."""
    images = [folder / "nifti" / outcome.outputs[0] for outcome in done(ledger)]
    left = list(truths)
    for image in images:
        found = [truth for truth in left if matches(truth, image, action=trap.action, exact=trap.exact)]
        assert len(found) == 1, f"an image is {len(found)} of the volumes"
        left.remove(found[0])
        assert_readers_agree(image)
    assert trap.cautious or not left, f"{len(left)} volumes lack"
    for image, outcome in zip(images, done(ledger), strict=True):
        sidecar = json.loads(image.with_name(f"{outcome.case}.json").read_text())
        changes, notes = tuple(sidecar.get("changes", ())), tuple(sidecar["notes"])
        assert tuple(code for code in changes if code not in trap.allowed) == trap.changes
        wanted = tuple(code for code in trap.warnings if code not in OF_CONTENT)
        assert tuple(code for code in notes if code not in trap.allowed) == wanted
        if not trap.allowed & {*changes, *notes}:
            assert bool(outcome.warnings) is bool(changes or trap.warnings), outcome.warnings


def assert_readers_agree(image: Path) -> None:
    """Both of NIfTI's transforms, as nibabel and SimpleITK read them, put the corners at the same place."""
    found = nibabel.load(image)
    corners = np.array(list(itertools.product(*((0, size - 1) for size in found.shape))), dtype=float)
    by_sform, by_qform = (
        nibabel.affines.apply_affine(affine, corners) for affine in (found.get_sform(), found.get_qform())
    )
    read = sitk.ReadImage(image)
    by_itk = np.array([read.TransformContinuousIndexToPhysicalPoint(corner) for corner in corners.tolist()])
    for others in (by_qform, by_itk * (-1, -1, 1)):
        assert np.linalg.norm(by_sform - others, axis=1).max() < LANDMARK_MM


def assert_refusals(trap: Trap, ledger: Ledger) -> None:
    """What is refused is what should be, and says what it should."""
    bad = [outcome for outcome in ledger.outcomes if outcome.status in (Status.REFUSED, Status.FAILED)]
    codes = sorted(outcome.code for outcome in bad)
    if trap.action is Action.REFUSE:
        assert trap.code in codes if trap.code else codes
        assert not done(ledger)
        assert ledger.exit_code == 2
    elif not trap.cautious:
        assert codes == sorted(trap.refused)
    assert all(outcome.status is Status.REFUSED for outcome in bad)
    if bad and trap.says and not trap.cautious:
        assert any(re.search(trap.says, outcome.message) for outcome in bad), [outcome.message for outcome in bad]


def assert_silence(folder: Path) -> None:
    """No text of a header is in what was written."""
    for path in (folder / "nifti").rglob("*.json"):
        words = path.read_text().upper()
        assert not [word for word in OF_HEADERS if word in words], path.name


@pytest.mark.parametrize("trap", TRAPS, ids=str)
def test_trap(trap: Trap, tmp_path: Path) -> None:
    truths, ledger = run(trap, tmp_path)
    assert isinstance(ledger, Ledger), ledger
    assert_refusals(trap, ledger)
    assert_silence(tmp_path)
    if trap.action is Action.REFUSE:
        return
    if trap.action is Action.SKIP:
        assert ledger.exit_code == 2
        assert not done(ledger)
        skipped = {outcome.code for outcome in ledger.outcomes if outcome.status is Status.SKIPPED}
        assert trap.code in skipped | ledger.skipped_kinds.keys()
        return
    if not trap.cautious:
        assert ledger.exit_code == bool(trap.refused)
    assert_volumes(trap, truths, ledger, tmp_path)


def test_there_are_enough_traps_and_each_has_its_own_name() -> None:
    names = [trap.name for trap in TRAPS]
    assert len(set(names)) == len(names) >= 60
    assert {trap.action for trap in TRAPS} == set(Action)


def test_the_canary_is_in_no_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import gzip

    trap = next(trap for trap in TRAPS if trap.name == "canary")
    source = tmp_path / "dicom"
    source.mkdir()
    trap.write(source)
    assert all(CANARY.encode() in path.read_bytes() for path in source.iterdir())
    convert(source, tmp_path / "nifti", ConvertOptions(jobs=1))
    for path in (tmp_path / "nifti").rglob("*"):
        assert CANARY.lower() not in path.name.lower()
        if path.is_file():
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            for word in (CANARY.encode(), b"19771231", b"047Y", b"1.2.826.0.1.3680043.10.9999"):
                assert word not in raw, (path, word)
    assert CANARY not in "".join(capfd.readouterr())

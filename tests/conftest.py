"""What many tests need: real data where it is there, and small data sets written by nibabel, not by volseg."""

from __future__ import annotations

import functools
import gc
import itertools
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import nibabel
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray
    from pydicom.dataset import Dataset
    from torch.nn import Module

    from volseg.labels import Region
    from volseg.planning.networks import Topology
    from volseg.planning.plan import Plan

# A shell starts what runs in its background deaf to Ctrl-C, and the commands that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_NUMBERS = itertools.count()
SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name no test by bytes: gzip puts the time into them, and workers must find the same names; nor by a long text."""
    if isinstance(val, str) and len(val) > 100:  # a name goes to and from the workers several times
        return f"{val[:60]} {len(val)}"
    return argname if isinstance(val, bytes) else None


LONGEST = (
    "test_workflows_cross_validation", "test_attacks", "test_safepath", "test_verbs_predict_kept", "test_cli_train",
    "test_training_standalone", "test_verbs_train", "test_verbs_train_split", "test_batch_strays", "test_cli_trust",
    "test_training_ranks", "test_networks_cost", "test_verbs_train_networks", "test_verbs_predict",
    "test_verbs_predict_foreign", "test_api_calling", "test_training_checkpoint", "test_verbs_export",
    "test_workflows_tune", "test_verbs_plan", "test_dicom_landmarks", "test_verbs_train_publishing",
)  # fmt: skip
"""Modules with tests of 5 seconds and more, about by the longest of each."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, so that no worker is left alone with one at the end."""
    turns = {name: turn for turn, name in enumerate(LONGEST)}
    items.sort(key=lambda item: turns.get(item.path.stem, len(turns)))


def pytest_collection_finish() -> None:
    """Leave what was imported out of Python's search for garbage, of which each turn would look through millions of it."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup() -> None:
    """What a window costs is found once for all networks that are built alike: each test that predicts builds one."""
    module = sys.modules.get("volseg.networks.cost")
    if module is None or hasattr(module._window_cost, "__wrapped__"):
        return
    reckon, known = module._window_cost, dict[object, object]()

    @functools.wraps(reckon)
    def kept(network: Module, shape: tuple[int, ...]) -> object:
        # All that a layer keeps, what nobody can describe by its address, which no other has.
        layers = [(name, type(part), vars(part) | _TENSORS) for name, part in network.named_modules()]
        tensors = [(name, one.shape, one.dtype) for name, one in network.state_dict().items()]
        key = repr((layers, tensors, shape))
        if key not in known:
            known[key] = reckon(network, shape)
        return known[key]

    module._window_cost = kept


_TENSORS = {"_parameters": None, "_buffers": None, "_modules": None}
"""What a layer has of the shapes and layers that are told beside it."""


def uncounted() -> dict[str, str]:
    """The environment without what counts lines, which makes imports a third slower, for a command whose lines others run."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


def _oblique() -> NDArray[np.float64]:
    """A rotated grid of 0.8 x 0.8 x 2.5 mm, as an oblique scan has it."""
    around_x, around_z = np.radians((17.0, -24.0))
    x = [[1, 0, 0], [0, np.cos(around_x), -np.sin(around_x)], [0, np.sin(around_x), np.cos(around_x)]]
    z = [[np.cos(around_z), -np.sin(around_z), 0], [np.sin(around_z), np.cos(around_z), 0], [0, 0, 1]]
    affine = np.eye(4)
    affine[:3, :3] = (np.array(x) @ np.array(z)) * (0.8, 0.8, 2.5)
    affine[:3, 3] = -31.5, 12.25, -7.125
    return affine


OBLIQUE = _oblique()


class RealData(Protocol):
    def __call__(self, relative: str) -> Path: ...


class WriteImage(Protocol):
    def __call__(self, path: Path, array: ArrayLike, affine: ArrayLike | None = None) -> Path: ...


class MakeDataset(Protocol):
    def __call__(self, cases: int = 3, channels: int = 1, folder: str = "data") -> Path: ...


class CopyBundle(Protocol):
    def __call__(self, name: str = "bundle", *, trained: bool = False, **edits: object) -> Path: ...


class WriteSeries(Protocol):
    def __call__(
        self,
        folder: Path,
        *,
        positions: Sequence[Sequence[float]] | None = None,
        orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
        array: NDArray[np.generic] | None = None,
        edit: Callable[[Dataset, int], object] | None = None,
        name: str = "{:03d}.dcm",
        syntax: str = "1.2.840.10008.1.2.1",
        seed: int = 0,
    ) -> NDArray[np.generic]: ...


class MakePlan(Protocol):
    def __call__(
        self,
        *,
        channels: Sequence[str] = ("CT",),
        labels: Sequence[int] = (1, 2),
        network: str = "dynunet-residual",
        topology: Topology | None = None,
        **changes: object,
    ) -> Plan: ...


class MakeBundle(Protocol):
    def __call__(self, plan: Plan | None = None, *, folder: str = "bundle") -> Path: ...


def _own_folder(folder: Path, environment: pytest.MonkeyPatch) -> None:
    """Make a folder this person's, with a key of names that all tests share."""
    key = folder / "names.key"
    key.write_text("5e" * 32)
    key.chmod(0o600)
    environment.setenv("VOLSEG_CONFIG_DIR", str(folder))
    environment.setenv("XDG_CONFIG_HOME", str(folder))
    environment.setenv("VOLSEG_CACHE_DIR", str(folder / "cache"))


@pytest.fixture(scope="session", autouse=True)
def personal_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where volseg keeps what belongs to a person during the tests; never in this person's home."""
    folder = tmp_path_factory.mktemp("person")
    with pytest.MonkeyPatch.context() as environment:
        _own_folder(folder, environment)
        yield folder


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_disks() -> Iterator[None]:
    """Files are flushed to no disk, which takes its time and helps only where power fails."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def trust_store(personal_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where trust in bundles is kept during a test, which finds none."""
    # Not by mktemp, which looks through the folders of all tests for a free number.
    folder = personal_folder / f"of_test_{next(_NUMBERS)}"
    folder.mkdir(mode=0o700)
    _own_folder(folder, monkeypatch)
    return folder / "trusted.json"


@pytest.fixture
def make_plan() -> MakePlan:
    """Makes a plan for a network small enough to build and run in a blink; ``changes`` replace its fields."""
    from dataclasses import replace

    from volseg.labels import Label, LabelTable
    from volseg.planning.augmentations import SmallChanges
    from volseg.planning.losses import parse_loss
    from volseg.planning.networks import NETWORKS, Topology
    from volseg.planning.normalisation import Normalisation
    from volseg.planning.optimizers import AdamW
    from volseg.planning.plan import Plan
    from volseg.planning.schedules import Polynomial
    from volseg.planning.target import Target
    from volseg.postprocessing import KeepLargest, PostprocessingRules

    def make(
        *,
        channels: Sequence[str] = ("CT",),
        labels: Sequence[int] = (1, 2),
        network: str = "dynunet-residual",
        topology: Topology | None = None,
        regions: Sequence[Region] = (),
        ignore: int | None = None,
        **changes: object,
    ) -> Plan:
        table = LabelTable(tuple(Label(index, f"structure {index}") for index in labels), ignore)
        target = Target.of(table, regions)
        kind, patch = NETWORKS[network], (8, 8, 8)
        if topology is None and kind.rules.least > 3:
            levels = kind.rules.least
            patch = (2**levels, 2 ** (levels - 1), 2 ** (levels - 1))
            topology = Topology(kind.widths(4, 8, levels), ((2, 2, 2),) * (levels - 1), ((3, 3, 3),) * levels)
        topology = topology or Topology(
            (4, 6, 8) if kind.rules.halving == "each" else (4, 8, 16), ((2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 3
        )
        plan = Plan(
            preset="fast",
            name="bundle",
            target=target,
            channels=tuple(channels),
            spacing_mm=(1.0, 1.0, 1.0),
            patch=patch,
            batch=2,
            network=kind(topology, len(channels), target.outputs, patch),
            normalisations=(Normalisation("percentiles", -100.0, 300.0, 40.0, 25.0),) * len(channels),
            rules=PostprocessingRules(() if regions else (KeepLargest(labels=(labels[0],)),)),
            steps_per_epoch=2,
            max_epochs=1,
            loss=parse_loss("dice-ce"),
            optimizer=AdamW(1e-3),
            schedule=Polynomial(),
            augmentation=SmallChanges((1.0, 1.0, 1.0)),
            whole_volumes=False,
            channels_in_one_file=False,
            cached_gib=0.1,
            reasons=(("spacing 1 x 1 x 1 mm", "the median"),),
            warnings=(),
            training_cases=3,
        )
        return replace(plan, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_bundle(tmp_path: Path, make_plan: MakePlan) -> MakeBundle:
    """Writes a bundle as ``volseg plan`` does, beside the data set ``data``; without weights."""
    from volseg.bundle.write import write_bundle

    def make(plan: Plan | None = None, *, folder: str = "bundle") -> Path:
        write_bundle(plan or make_plan(), tmp_path / "data", tmp_path / folder)
        return tmp_path / folder

    return make


@pytest.fixture
def real_data() -> RealData:
    """A path of the third-party data; the test is skipped where it is absent."""

    def find(relative: str) -> Path:
        path = SHARED_DATA / relative
        if not path.exists():
            pytest.skip(f"the third-party data {relative} is not beside the project")
        return path

    return find


@pytest.fixture
def write_image() -> WriteImage:
    """Writes an array as NIfTI by nibabel; sform and qform from the affine, 1 mm RAS by default."""

    def write(path: Path, array: ArrayLike, affine: ArrayLike | None = None) -> Path:
        image = nibabel.Nifti1Image(np.asarray(array), np.eye(4) if affine is None else np.asarray(affine))
        image.set_sform(image.affine, code=1)
        image.set_qform(image.affine, code=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(image, path)
        return path

    return write


@pytest.fixture
def make_dataset(tmp_path: Path, write_image: WriteImage) -> MakeDataset:
    """Makes a sound data set of small random cases, ``case_0`` and so on, without a ``dataset.json``.

    Each has labels 1 and 2. With several channels the images are named as nnU-Net does, ``case_0_0000.nii.gz``.
    """

    def make(cases: int = 3, channels: int = 1, folder: str = "data") -> Path:
        root = tmp_path / folder
        random = np.random.default_rng(7)
        for case in range(cases):
            shape = (6, 7, 5 + case)
            for channel in range(channels):
                name = f"case_{case}_{channel:04d}" if channels > 1 else f"case_{case}"
                voxels = random.normal(100, 20, shape).astype(np.float32)
                write_image(root / "imagesTr" / f"{name}.nii.gz", voxels, OBLIQUE)
            mask = np.zeros(shape, np.uint8)
            mask[1:3, 1:4, 1:3] = 1
            mask[4:, 4:, 2:] = 2
            write_image(root / "labelsTr" / f"case_{case}.nii.gz", mask, OBLIQUE)
        return root

    return make


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set that a small network learns in seconds: ten MR-like cases, a core inside a shell, two more without.

    Every third case is stored with its axes in another order and direction.
    """
    root = tmp_path_factory.mktemp("cohort") / "data"
    random = np.random.default_rng(0)
    for case in range(12):
        shape = (20, 24, 20)
        places = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
        centre = np.array(shape) / 2 + random.uniform(-2, 2, 3)
        mask = np.zeros(shape, np.uint8)
        mask[np.linalg.norm((places - centre) / (7, 8, 7), axis=-1) < 1] = 1
        mask[np.linalg.norm((places - centre - random.uniform(-1, 1, 3)) / 4, axis=-1) < 1] = 2
        image = (np.array([100, 200, 320])[mask] + random.normal(0, 12, shape)).astype(np.float32)
        affine = np.diag([1, 1, 1.2, 1])
        affine[:3, 3] = -10, 5, 3 * case
        if case % 3 == 2:
            image, mask = image.transpose(2, 0, 1)[::-1, :, ::-1], mask.transpose(2, 0, 1)[::-1, :, ::-1]
            turn = np.array([[0, 1, 0, 0], [0, 0, -1, 19], [-1, 0, 0, 19], [0, 0, 0, 1]])
            affine = affine @ turn
        folder = "imagesTr" if case < 10 else "imagesTs"
        for place, voxels in ((root / folder, image), (root / "labelsTr", mask)):
            if case < 10 or place.name == "imagesTs":
                place.mkdir(parents=True, exist_ok=True)
                nifti = nibabel.Nifti1Image(voxels, affine)
                nifti.set_sform(affine, code=1)
                nifti.set_qform(affine, code=1)
                nibabel.save(nifti, place / f"case_{case:02d}.nii.gz")
    content = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "shell": 1, "core": 2},
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="session")
def planned_bundle(cohort: Path) -> Path:
    """What ``volseg plan`` makes of the cohort, with epochs of four steps of two volumes."""
    from volseg.cli.main import main

    bundle = cohort.parent / "planned"
    assert main(["plan", str(cohort), str(bundle)]) == 0
    _edit_config(bundle / "configs" / "train.yaml", steps_per_epoch=4, batch_size=2)
    return bundle


@pytest.fixture(scope="session")
def trained_bundle(cohort: Path, planned_bundle: Path) -> Path:
    """That bundle after some seconds of training on fold 0. Copy it before anything is written into it."""
    from volseg.cli.main import main

    bundle = cohort.parent / "trained"
    shutil.copytree(planned_bundle, bundle)
    _edit_config(bundle / "configs" / "train.yaml", learning_rate=0.01)
    assert main(["train", str(bundle), "--data", str(cohort), "--epochs", "12"]) == 0
    return bundle


@pytest.fixture
def copy_bundle(tmp_path: Path, cohort: Path, planned_bundle: Path, request: pytest.FixtureRequest) -> CopyBundle:
    """Copies the planned (or trained) bundle to where a test may write; keyword arguments edit ``train.yaml``."""

    from volseg.bundle.planned import remember_plan

    def copy(name: str = "bundle", *, trained: bool = False, **edits: object) -> Path:
        source = request.getfixturevalue("trained_bundle") if trained else planned_bundle
        shutil.copytree(source, tmp_path / name)
        edits = {"dataset_dir": str(cohort)} | edits
        _edit_config(tmp_path / name / "configs" / "train.yaml", **edits)
        remember_plan(tmp_path / name, tmp_path / name / str(edits["dataset_dir"]))  # as if it was planned here
        return adopted(tmp_path / name)

    return copy


def adopted(bundle: Path) -> Path:
    """A copy of a bundle whose runs count as made here."""
    from volseg.bundle.own_runs import remember_run

    for place in (bundle / "runs").glob("*"):
        remember_run(place)
    return bundle


def _edit_config(path: Path, **values: object) -> None:
    """Change values at the top of a YAML config."""
    text = path.read_text(encoding="utf-8")
    for key, value in values.items():
        text, count = re.subn(
            rf"^{key}: .*$", lambda _, k=key, v=value: f"{k}: {json.dumps(v)}", text, flags=re.MULTILINE
        )
        assert count == 1, key
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def write_series() -> WriteSeries:
    """Writes a CT series by pydicom, one file a slice, and gives the stored values (slices, rows, columns).

    Five slices 2.5 mm apart of 12 x 10 pixels at 0.5 (rows) x 0.75 (columns) mm, unless told otherwise. ``edit`` is
    called with each data set and its number before it is written.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, generate_uid

    def write(
        folder: Path,
        *,
        positions: Sequence[Sequence[float]] | None = None,
        orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
        array: NDArray[np.generic] | None = None,
        edit: Callable[[Dataset, int], object] | None = None,
        name: str = "{:03d}.dcm",
        syntax: str = "1.2.840.10008.1.2.1",
        seed: int = 0,
    ) -> NDArray[np.generic]:
        if positions is None:
            positions = [(-30.0, -40.0, 2.5 * number) for number in range(5)]
        if array is None:
            array = np.random.default_rng(seed).integers(0, 4096, (len(positions), 12, 10)).astype(np.uint16)
        folder.mkdir(parents=True, exist_ok=True)

        def uid(*what: object) -> str:
            return str(generate_uid(entropy_srcs=["volseg", str(seed), *map(str, what)]))

        for number, (position, plane) in enumerate(zip(positions, array, strict=True)):
            meta = FileMetaDataset()
            meta.TransferSyntaxUID = syntax
            implicit, big = syntax == "1.2.840.10008.1.2", syntax == "1.2.840.10008.1.2.2"
            ds = FileDataset(
                None, {}, file_meta=meta, preamble=b"\0" * 128, is_implicit_VR=implicit, is_little_endian=not big
            )
            ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, uid("image", number)
            ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("study"), uid("series")
            ds.FrameOfReferenceUID = uid("frame")
            ds.Modality, ds.PatientID, ds.PatientName = "CT", f"patient {seed}", "Doe^Jane"
            ds.SeriesNumber, ds.InstanceNumber = 3, number + 1
            ds.ImageOrientationPatient, ds.ImagePositionPatient = list(orientation), list(position)
            ds.PixelSpacing = [0.5, 0.75]
            ds.Rows, ds.Columns = plane.shape
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.BitsAllocated = 8 * plane.dtype.itemsize
            ds.BitsStored = 12 if plane.dtype == np.uint16 else ds.BitsAllocated
            ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(plane.dtype.kind == "i")
            ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
            ds.PixelData = plane.astype(plane.dtype.newbyteorder(">" if big else "<")).tobytes()
            ds["PixelData"].VR = "OW" if ds.BitsAllocated > 8 else "OB"
            if edit is not None:
                edit(ds, number)
            meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
            path = folder / name.format(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            ds.save_as(path, enforce_file_format=True)
        return array

    return write

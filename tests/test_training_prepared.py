"""Prepared cases: the same numbers as MONAI's cached ones, from memory, from files, and made anew where these are damaged."""

from __future__ import annotations

import functools
import pickle
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, ITKReader, NumpyReader, PILReader
from monai.transforms import (
    ClassesToIndicesd,
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    Lambdad,
    LoadImaged,
    Orientationd,
    RandCropByLabelClassesd,
    RandFlipd,
    RandGaussianNoised,
    ScaleIntensityd,
    Spacingd,
)

from tests.heard import Heard
from volseg.batch import voxel_bytes
from volseg.errors import DataSetError, DiskFullError, FileError, InputError
from volseg.training import PreparedDataset, StepLoader
from volseg.training.prepared import Store, opened
from volseg.training.prepared.dataset import COPIES
from volseg.training.prepared.description import NoDescriptionError, describe
from volseg.training.prepared.entry import as_case, read_entry, size_of, write_entry

if TYPE_CHECKING:
    from tests.conftest import MakeDataset

BOTH = ["image", "label"]


def fixed(factor: float = 0.0) -> list[Any]:
    return [
        LoadImaged(keys=BOTH, reader="NibabelReader", image_only=True),
        EnsureChannelFirstd(keys=BOTH),
        Orientationd(keys=BOTH, axcodes="RAS", labels=None),
        Spacingd(keys=BOTH, pixdim=(1.0, 1.0, 2.0), mode=["bilinear", "nearest"]),
        ScaleIntensityd(keys="image", minv=0.0, maxv=1.0 + factor),
        EnsureTyped(keys=BOTH),
    ]


def random() -> list[Any]:
    return [
        ClassesToIndicesd(keys="label", num_classes=3),
        RandCropByLabelClassesd(
            keys=BOTH, label_key="label", spatial_size=(4, 4, 4), num_classes=3, num_samples=1,
            indices_key="label_cls_indices", warn=False,
        ),
        RandFlipd(keys=BOTH, prob=0.5, spatial_axis=0),
        RandGaussianNoised(keys="image", prob=0.5),
        EnsureTyped(keys=BOTH, track_meta=False),
    ]  # fmt: skip


@pytest.fixture
def items(make_dataset: MakeDataset) -> list[dict[str, str]]:
    root = make_dataset(3)
    names = sorted(path.name for path in (root / "imagesTr").iterdir())
    return [{"image": str(root / "imagesTr" / name), "label": str(root / "labelsTr" / name)} for name in names]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "prepared"


@pytest.mark.parametrize(("key", "kept"), [("image", 0.01), ("image", 0.9), ("label", 0.6)])
def test_a_file_that_is_cut_short_is_told_and_no_other_reader_is_tried(
    items: list[dict[str, str]], folder: Path, key: str, kept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(items[1][key])
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    tried = []
    for reader in (ITKReader, NumpyReader, PILReader):
        monkeypatch.setattr(reader, "read", lambda *_, **__: tried.append(1))
    with opened(Store(2**20, folder)), pytest.raises(InputError, match=f"{path.name} is cut short") as caught:
        PreparedDataset(items, Compose(fixed() + random()))
    assert caught.value.code == "damaged-file"
    assert not tried


def numbers_of(case: Any) -> dict[str, Any]:
    found = case[0] if isinstance(case, list) else case
    return {name: torch.as_tensor(found[name]).numpy() for name in BOTH}


def same(first: Any, second: Any) -> bool:
    first, second = numbers_of(first), numbers_of(second)
    return all(first[name].dtype == second[name].dtype and np.array_equal(first[name], second[name]) for name in BOTH)


@pytest.mark.parametrize("memory", [0, 10**9])
def test_cases_are_those_of_monai_s_cache(items: list[dict[str, str]], folder: Path, memory: int) -> None:
    theirs = CacheDataset(items, Compose(fixed() + random()), progress=False, num_workers=1)
    theirs.transform.set_random_state(seed=3)
    with opened(Store(memory, folder)):
        ours = PreparedDataset(items, Compose(fixed() + random()))
    expected = theirs[1]
    for _ in range(2):  # at first use, and again
        assert same(ours.sample(1, 3), expected)
    with opened(Store(memory, folder)):
        whole = PreparedDataset(items, Compose(fixed()))
    assert same(whole[2], CacheDataset(items, Compose(fixed()), progress=False)[2])


def test_a_later_run_opens_no_source(
    items: list[dict[str, str]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volseg.stamps.RACY_SECONDS", -1.0)
    steps = [*fixed(), *random()]
    with opened(Store(0, folder)):
        first = PreparedDataset(items, Compose(steps))
    expected = first.sample(0, 5)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a source was read")

    monkeypatch.setattr("volseg.stamps.file_digest", refuse)
    monkeypatch.setattr(LoadImaged, "__call__", refuse)
    with opened(Store(0, folder)):
        assert same(PreparedDataset(items, Compose(fixed() + random())).sample(0, 5), expected)
        assert same(PreparedDataset(items, Compose(steps)).sample(0, 5), expected)  # used before


def test_other_transforms_make_other_entries(items: list[dict[str, str]], folder: Path) -> None:
    with opened(Store(0, folder)):
        PreparedDataset(items, Compose(fixed()))
        PreparedDataset(items, Compose(fixed(factor=0.001)))
        assert len(list(folder.glob("*.case"))) == 6
        PreparedDataset(items, Compose(fixed()))
        assert len(list(folder.glob("*.case"))) == 6
        # What a lambda does its name doesn't tell: never taken for that of another run.
        PreparedDataset(items, Compose([*fixed(), Lambdad("image", lambda x: x + 1)]))
        PreparedDataset(items, Compose([*fixed(), Lambdad("image", lambda x: x + 2)]))
        assert len(list(folder.glob("*.case"))) == 12
    assert len(list(folder.glob("*.case"))) == 6


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "pickle", "other", "gone", "link"])
def test_a_damaged_or_foreign_entry_is_made_anew(
    items: list[dict[str, str]], folder: Path, tmp_path: Path, harm: str
) -> None:
    with opened(Store(0, folder)):
        expected = PreparedDataset(items, Compose(fixed()))[0]
    paths = sorted(folder.glob("*.case"))
    good = [path.read_bytes() for path in paths]
    for path, content, other in zip(paths, good, good[1:] + good[:1], strict=True):
        path.unlink()
        if harm == "flip":
            path.write_bytes(content[:-700] + bytes([content[-700] ^ 1]) + content[-699:])
        elif harm == "cut":
            path.write_bytes(content[: len(content) // 2])
        elif harm == "empty":
            path.write_bytes(b"")
        elif harm == "pickle":
            torch.save({"image": torch.zeros(3)}, path)
        elif harm == "other":
            path.write_bytes(other)
        elif harm == "link":
            (tmp_path / path.name).write_bytes(content)
            path.symlink_to(tmp_path / path.name)
    with opened(Store(0, folder)):
        data = PreparedDataset(items, Compose(fixed()))
        assert same(data[0], expected)
        assert same(data[0], expected)
    assert sum(path.read_bytes() in good for path in paths) >= 1


def test_entries_hold_whole_numbers_as_bytes_and_give_them_back(tmp_path: Path) -> None:
    item = {
        "label": torch.tensor([[0.0, 3.0, 255.0]]),
        "image": torch.tensor([0.5, -1.0]),
        "many": [np.arange(3), np.arange(300)],
        "name": "Doe^Jane",
    }
    write_entry(tmp_path / "a.case", "key", as_case(item))
    assert b"Doe" not in (tmp_path / "a.case").read_bytes()
    case: Any = read_entry(tmp_path / "a.case", "key", verify=True)
    assert (case["label"].numbers.dtype, case["label"].given) == (np.uint8, "float32")
    assert case["image"].numbers.dtype == np.float32
    assert [one.numbers.tolist() for one in case["many"]] == [list(range(3)), list(range(300))]
    assert read_entry(tmp_path / "a.case", "another", verify=True) is None
    case["image"].numbers[:] = 7  # on memory of its own
    again: Any = read_entry(tmp_path / "a.case", "key", verify=True)
    assert again["image"].numbers.tolist() == [0.5, -1.0]


def test_a_folder_that_others_write_into_is_refused(items: list[dict[str, str]], folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    with opened(Store(0, folder)), pytest.raises(FileError, match="others than you"):
        PreparedDataset(items, Compose(fixed()))


def test_a_disk_without_room(items: list[dict[str, str]], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volseg.training.prepared.store.DISK_SHARE", 0.0)
    with opened(Store(0, folder)), pytest.raises(DiskFullError, match=r"--cache, or give --memory-for-data more"):
        PreparedDataset(items, Compose(fixed()))
    with opened(Store(10**9, folder)):
        assert len(PreparedDataset(items, Compose(fixed()))[0]) == 2
    assert not list(folder.glob("*.case"))


def test_what_goes_to_the_disk_is_told_before(items: list[dict[str, str]], folder: Path) -> None:
    heard = Heard()
    with opened(Store(0, folder, heard)):
        PreparedDataset(items, Compose(fixed()))
    assert [line for line in heard.lines if "3 prepared cases take about" in line and str(folder) in line]


def test_an_image_that_is_not_finite_after_preparing_is_named(items: list[dict[str, str]], folder: Path) -> None:
    with (
        opened(Store(0, folder)),
        pytest.raises(DataSetError, match=r"case_2.*its image has numbers that are not finite"),
    ):
        PreparedDataset(items, Compose([*fixed(), Lambdad("image", lambda x: x / 0)]))


def test_descriptions_tell_numbers_apart_and_refuse_what_they_can_t_tell() -> None:
    assert describe(fixed()) == describe(fixed())
    assert describe(fixed()) != describe(fixed(1e-9))
    assert describe([1]) != describe([1.0]) != describe(["1"])
    for odd in (lambda x: x, threading.Lock(), torch.nn.Conv3d(1, 1, 1)):
        with pytest.raises(NoDescriptionError):
            describe(odd)


class Numbers:
    """Stands for prepared cases: a sample is its case and a draw."""

    def __init__(self, count: int, breaks: int | None = None) -> None:
        self.count, self.breaks = count, breaks

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int, seed: int) -> dict[str, torch.Tensor]:
        if index == self.breaks:
            raise MemoryError
        return {"image": torch.tensor([index, np.random.RandomState(seed).randint(10**6)])}

    def name(self, index: int) -> str:
        return f"case_{index}"


def batches(loader: StepLoader, count: int) -> list[list[list[int]]]:
    found: list[list[list[int]]] = []
    while len(found) < count:
        for batch in loader:
            found.append(batch["image"].tolist())
            if len(found) == count:
                break
    return found


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_are_the_same_wherever_a_run_goes_on_and_however_many_threads_make_them(threads: int) -> None:
    data: Any = Numbers(5)
    whole = batches(StepLoader(data, 2, 4, seed=9), 10)
    loader = StepLoader(data, 2, 4, seed=0, num_workers=threads)
    loader.begin(seed=9, position=0)
    assert batches(loader, 3) == whole[:3]
    loader.begin(seed=9, position=3)
    assert batches(loader, 7) == whole[3:]
    assert sorted(index for batch in whole for index, _ in batch) == sorted(list(range(5)) * 4)
    assert loader.names(4) == tuple(f"case_{index}" for index, _ in whole[3])
    assert whole != batches(StepLoader(data, 2, 4, seed=8), 10)
    loader.stop()


def test_an_error_in_a_thread_is_raised_in_training() -> None:
    data: Any = Numbers(5, breaks=3)
    loader = StepLoader(data, 2, 4, num_workers=2)
    with pytest.raises(MemoryError):
        batches(loader, 10)
    loader.stop()


def test_a_case_that_changed_after_its_key_was_made_is_not_kept_under_it(
    items: list[dict[str, str]], folder: Path
) -> None:
    """Another run would take the new content for the old."""
    with opened(Store(0, folder)):
        data = PreparedDataset(items[:1], Compose(fixed()))
        shutil.copyfile(items[1]["image"], items[0]["image"])
        for path in folder.glob("*.case"):
            path.write_bytes(b"damaged")
        with pytest.raises(FileError, match="were changed after this training began"):
            data[0]
    assert not any(path.stat().st_size > 7 for path in folder.glob("*.case"))


def test_what_partial_calls_is_no_part_of_a_description() -> None:
    """Two of them would have the same key, and the second would get the cases of the first."""
    with pytest.raises(NoDescriptionError):
        describe(functools.partial(np.clip, a_min=0, a_max=1))


def test_threads_that_read_one_case_take_its_memory_once(items: list[dict[str, str]], folder: Path) -> None:
    with opened(Store(0, folder)):
        key = PreparedDataset(items[:1], Compose(fixed()))._keys[0]
    store = Store(10**9, folder)
    together = threading.Barrier(8)

    def get(_: int) -> Any:
        together.wait()
        return store.get(key)

    with ThreadPoolExecutor(8) as pool:
        cases = list(pool.map(get, range(8)))
    assert all(case is not None for case in cases)
    assert store.left_bytes == 10**9 - size_of(cases[0])


def test_preparing_keeps_within_the_memory_for_data(
    items: list[dict[str, str]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = COPIES * max(voxel_bytes([Path(path) for path in item.values()]) for item in items)
    running, most = 0, 0
    make, lock = PreparedDataset._make, threading.Lock()

    def counted(self: PreparedDataset, index: int) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        found = make(self, index)
        with lock:
            running -= 1
        return found

    monkeypatch.setattr(PreparedDataset, "_make", counted)
    for memory, wanted in ((one, 1), (2 * one, 2)):
        most = 0
        store = Store(memory, folder / str(wanted))
        with opened(store):
            PreparedDataset(items, Compose(fixed()), num_workers=4)
        assert most == wanted
        assert store.left_bytes == memory  # what was prepared is in files until it is used


def test_a_case_that_takes_much_to_prepare_is_told(
    items: list[dict[str, str]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volseg.training.prepared.dataset.voxel_bytes", lambda _: 2**27)
    heard = Heard()
    with opened(Store(10**9, folder, heard)):
        PreparedDataset(items, Compose(fixed()))
    assert any(line.startswith("To prepare the largest case takes about 2.0 GiB") for line in heard.lines)


def test_another_process_reads_the_files(
    items: list[dict[str, str]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(Store(10**9, folder)):
        ours = PreparedDataset(items, Compose(fixed() + random()))
    expected = ours.sample(1, 3)
    other = pickle.loads(pickle.dumps(ours))
    assert same(other.sample(1, 3), expected)
    assert other.store.left_bytes == 0
    monkeypatch.setattr("volseg.training.prepared.store.DISK_SHARE", 0.0)
    with opened(Store(10**9, folder / "full")):
        alone = PreparedDataset(items, Compose(fixed()))
    with pytest.raises(FileError, match=r"in the memory of this process alone.*num_workers=0"):
        pickle.dumps(alone)

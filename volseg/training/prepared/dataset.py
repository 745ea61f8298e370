"""The cases of a fold, prepared once by the deterministic transforms; the random ones are drawn at each use."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor, as_completed
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.transforms import Compose, RandomizableTrait, Transform
from torch.utils.data import Dataset

from volseg.batch import available_cores, voxel_bytes
from volseg.device import GIB
from volseg.errors import DataSetError, FileError
from volseg.outcomes import installed_version
from volseg.stamps import content_digest
from volseg.training.prepared.description import NoDescriptionError, describe
from volseg.training.prepared.entry import Array, Case, as_case, size_of
from volseg.training.prepared.store import ONCE, current_store
from volseg.volume import is_nifti, read_header, read_volume
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COPIES = 16
"""Bytes that preparing takes for each byte of voxels on the disk: integers become float32, and two copies live at once."""


class PreparedDataset(Dataset[Any]):
    """Cases as the deterministic transforms leave them, kept in memory or files; random transforms come at each use.

    The transforms before the first random one are run once for each content of a case. What they give is kept in the
    store that is open (``volseg.training.prepared.store``): in memory up to a budget, the rest is mapped from files. A
    random crop that comes first therefore reads only its part. Whole numbers from 0 to 255 are kept as bytes, and are
    given back in the type that they had. What is no number, such as names of files, is not kept.

    Random transforms have to draw from MONAI's ``self.R`` alone.

    Args:
        data: for each case its files by their keys.
        transform: MONAI's ``Compose`` or one transform.
        num_workers: how many threads prepare cases, as far as memory allows; as many as cores by default.

    Raises:
        DiskFullError: there is no room for the prepared cases.
        DataSetError: a prepared image has numbers that are not finite.
        InputError, FileError: a file of NIfTI can't be read.
    """

    def __init__(
        self, data: Sequence[Mapping[str, Any]], transform: Any = None, num_workers: int | None = None
    ) -> None:
        self.data = list(data)
        self.transform = transform if isinstance(transform, Compose) else Compose(transform)
        self.store = current_store()
        self.store.open()
        self._first_random = _first_random(self.transform)
        self._crops = self._first_random < len(self.transform.transforms) and "Crop" in (
            type(self.transform.transforms[self._first_random]).__name__
        )
        self._local = threading.local()
        files = [_files_of(item) for item in self.data]
        self._digests = [[content_digest(path) for path in paths] for paths in files]
        self._keys = self._make_keys()
        self._prepare_all(files, num_workers)

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to a thread: workers of a loader may be other processes."""
        return {name: value for name, value in self.__dict__.items() if name != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._local = threading.local()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        """A case after all transforms; random ones draw from their own states."""
        return self._finished(index, self.transform)

    def sample(self, index: int, seed: int) -> Any:
        """A case after all transforms, the random ones seeded; threads may call it at the same time."""
        transform = getattr(self._local, "transform", None)
        if transform is None:
            transform = self._local.transform = deepcopy(self.transform)
        transform.set_random_state(seed=seed)
        return self._finished(index, transform)

    def name(self, index: int) -> str:
        """A case's name: that of its first file without its suffixes, and the channel's number."""
        files = _files_of(self.data[index])
        return files[0].name.partition(".")[0].removesuffix("_0000") if files else f"case {index}"

    def _finished(self, index: int, transform: Compose) -> Any:
        case = self.store.get(self._keys[index])
        if case is None:  # damaged, or removed by another run
            case = self._prepare(index)
        if not self._crops:
            return transform(_own(case, case), start=self._first_random)
        found = transform(_shared(case), start=self._first_random, end=self._first_random + 1)
        found = [_own(one, case) for one in (found if isinstance(found, list) else [found])]
        return transform(found, start=self._first_random + 1)

    def _make_keys(self) -> list[str]:
        prefix = ""
        try:
            fixed = describe(self.transform.transforms[: self._first_random])
        except NoDescriptionError:
            # What it does can't be told from what it was another time.
            fixed, prefix = uuid.uuid4().hex, ONCE
        fixed = f"{_versions()}\n{fixed}"
        keys = []
        for item, digests in zip(self.data, self._digests, strict=True):
            others = {name: value for name, value in item.items() if not _is_files(value)}
            shape = {name: len(value) if isinstance(value, list) else 1 for name, value in item.items()}
            try:
                told = describe(others)
            except NoDescriptionError:
                told, prefix = uuid.uuid4().hex, ONCE
            text = "\n".join((fixed, told, repr(shape), *digests))
            keys.append(prefix + hashlib.blake2b(text.encode(), digest_size=20).hexdigest())
        return keys

    def _prepare_all(self, files: Sequence[Sequence[Path]], num_workers: int | None) -> None:
        numbers = list({key: number for number, key in enumerate(self._keys)}.values())
        missing = [number for number in numbers if not self.store.holds(self._keys[number])]
        if not missing:
            return
        bytes_of = {number: max(1, voxel_bytes(files[number])) for number in missing}
        with self.store.progress.task("Preparing", len(missing), "cases") as task:
            first, *others = sorted(missing, key=lambda number: -bytes_of[number])
            needed = COPIES * bytes_of[first]
            if needed > max(GIB, self.store.preparing_bytes):
                self.store.progress.say(
                    f"To prepare the largest case takes about {needed / GIB:.1f} GiB for a moment, more than the memory for "
                    "data; cases are prepared one at a time."
                )
            case = self._make(first)
            # It tells how large all will be.
            self.store.make_room(int(size_of(case) / bytes_of[first] * sum(bytes_of.values())), len(missing))
            self.store.put(self._keys[first], case)
            del case
            task.advance()
            threads = min(available_cores() if num_workers is None else max(1, num_workers), self.store.at_once(needed))
            with ThreadPoolExecutor(min(threads, max(1, len(others)))) as pool:
                coming = [pool.submit(self._kept, number) for number in others]
                try:
                    for done in as_completed(coming):
                        done.result()
                        task.advance()
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise

    def _prepare(self, index: int) -> Case:
        case = self._make(index)
        self.store.put(self._keys[index], case)
        return case

    def _kept(self, index: int) -> None:
        self._prepare(index)  # and given back to nobody, who would hold all of them

    def _make(self, index: int) -> Case:
        images = [path for path in _files_of(self.data[index]) if is_nifti(path)]
        for path in images:
            read_header(path)  # where its own reader fails, MONAI tries all others on the file
        try:
            item = self.transform(dict(self.data[index]), end=self._first_random, threading=True)
        except Exception:
            for path in images:
                read_volume(path)  # says what is wrong with a file that is damaged
            raise
        case = as_case(item)
        bad = [name for name, value in case.items() if isinstance(value, Array) and not _is_finite(value)]
        if bad:
            raise DataSetError(
                f"{self.name(index)}: after the transforms that prepare it, its {listed(bad)} has numbers that are not "
                "finite (NaN or infinity). Look at the image's values, or at the normalisation in the train config.",
                code="not-finite",
            )
        # Those of the key: what is kept under it stands for that content in later runs, too.
        if [content_digest(path) for path in _files_of(self.data[index])] != self._digests[index]:
            raise FileError(
                f"The files of {self.name(index)} were changed after this training began. Run the command again.",
                code="changed",
            )
        return case


def _first_random(transform: Compose) -> int:
    steps = transform.transforms
    return next(
        (
            place
            for place, step in enumerate(steps)
            if isinstance(step, RandomizableTrait) or not isinstance(step, Transform)
        ),
        len(steps),
    )


def _is_files(value: Any) -> bool:
    several = value if isinstance(value, (list, tuple)) else [value]
    return bool(several) and all(isinstance(one, (str, os.PathLike)) and Path(one).is_file() for one in several)


def _files_of(item: Mapping[str, Any]) -> list[Path]:
    return [
        Path(one)
        for value in item.values()
        if _is_files(value)
        for one in (value if isinstance(value, (list, tuple)) else [value])
    ]


def _versions() -> str:
    return repr([(name, installed_version(name)) for name in ("volseg", "monai", "torch", "numpy", "nibabel")])


def _is_finite(array: Array) -> bool:
    numbers = array.numbers
    return (
        numbers.dtype.kind != "f" or not numbers.size or bool(np.isfinite(numbers.min()) & np.isfinite(numbers.max()))
    )


def _shared(case: Case) -> dict[str, Any]:
    """Tensors on the case's own memory, in the types that they are kept in."""
    return {
        name: value.tensor() if isinstance(value, Array) else [one.tensor() for one in value]
        for name, value in case.items()
    }


def _own(item: Mapping[str, Any], case: Case) -> dict[str, Any]:
    """Tensors in memory of their own and in the types that they were given in, since a transform may write to them."""
    found: dict[str, Any] = {}
    for name, value in item.items():
        given = case.get(name)
        if isinstance(value, Array):
            found[name] = _owned(value.tensor(), value.given)
        elif isinstance(value, torch.Tensor) and isinstance(given, Array):
            found[name] = _owned(value.as_subclass(torch.Tensor), given.given)
        elif isinstance(value, (list, tuple)):
            found[name] = [_owned(one.tensor(), one.given) if isinstance(one, Array) else one for one in value]
        else:
            found[name] = value
    return found


def _owned(tensor: torch.Tensor, given: str) -> torch.Tensor:
    return tensor.to(getattr(torch, given), copy=True, memory_format=torch.contiguous_format)

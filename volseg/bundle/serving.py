"""How a foreign config is given a person's images: what its own list of data would have given it.

Its list of files (a glob, a JSON list, a CSV of its author's machine) is never read. What its preprocessing loads, and
under which keys, tells what a case has to be.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volseg.bundle.folder import target_name, walk
from volseg.errors import BundleError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from volseg.bundle.parser import BundleParser
    from volseg.dataset.case import Case

IMAGE, LABEL = "image", "label"
"""MONAI's names of what a network gets, and of the mask that it is compared with."""
MAX_DEPTH = 4
"""Of what a transform holds, looked through for keys."""


@dataclass(frozen=True)
class Serving:
    """What a config's preprocessing loads.

    Args:
        keys: of images, in the config's order: one file each where there are several, all files where there is one.
        omitted: keys that it loads and that no image is made of, such as a label's.
        one_file: whether one file may hold all channels: a key of their own for each, or a preprocessing that leaves the
            channels where the file has them, last, want a file of each.
    """

    keys: tuple[str, ...] = (IMAGE,)
    omitted: tuple[str, ...] = ()
    one_file: bool = True

    def item(self, images: Sequence[Path]) -> dict[str, Any]:
        """A case for the preprocessing.

        Args:
            images: its files in the order of the channels.

        Raises:
            InputError: there are not as many as keys.
        """
        names = [str(path) for path in images]
        if len(self.keys) == 1:
            return {self.keys[0]: names[0] if len(names) == 1 else names}
        if len(names) != len(self.keys):
            raise InputError(
                f"The bundle reads {len(self.keys)} images of a case, {', '.join(self.keys)} in this order, and there "
                f"{'is' if len(names) == 1 else 'are'} {len(names)}. Name them CASE_0000, CASE_0001 and so on, with "
                "the ending of an image.",
                code="channels",
            )
        return dict(zip(self.keys, names, strict=True))


def serving_of(preprocessing: object, postprocessing: object = None) -> Serving:
    """What the preprocessing of a config loads; what nothing of it needs is no longer asked for by any step.

    A key that is loaded and that no other step of the preprocessing names can't be part of the image.
    """
    from monai.transforms import AsChannelLastd, EnsureChannelFirstd, LoadImaged, Transposed

    steps = list(_steps(preprocessing))
    loaded = _loaded(steps)
    used = {text for step in steps if not isinstance(step, LoadImaged) for text in _texts(step)}
    keys = tuple(key for key in loaded if key == IMAGE or (key in used and key != LABEL))
    if not keys:
        keys = tuple(key for key in loaded if key != LABEL) or (IMAGE,)
    omitted = tuple(key for key in loaded if key not in keys)
    for step in (*steps, *_steps(postprocessing)):
        if any(key in omitted for key in getattr(step, "keys", ())):
            step.allow_missing_keys = True  # type: ignore[attr-defined]
    moves = any(isinstance(step, (EnsureChannelFirstd, AsChannelLastd, Transposed)) for step in steps)
    moves = moves or any(getattr(getattr(step, "_loader", None), "ensure_channel_first", False) for step in steps)
    return Serving(keys, omitted, one_file=len(keys) == 1 and moves)


def serve_cases(parser: BundleParser, training: Sequence[Case], validation: Sequence[Case]) -> None:
    """Give the data sets of a foreign train config a person's cases, in the place of its own lists.

    What it keeps of prepared cases on the disk, by their names alone, is left out: images may have changed since.

    Args:
        parser: of the train config, of which nothing is built yet.
        training: cases to train on, with masks.
        validation: cases that are held out.

    Raises:
        BundleError: the config names no data set, or loads no mask.
        InputError: cases have other images than the config loads.
    """
    for part, loader, cases in (
        ("train#trainer", "train_data_loader", training),
        ("validate#evaluator", "val_data_loader", validation),
    ):
        place = locate(parser, part, loader, "dataset")
        transform = None if place is None else locate(parser, part, loader, "dataset", "transform")
        if place is None or transform is None or not parser.has(f"{place}#data"):
            if part == "train#trainer":
                raise BundleError(
                    f"{parser.path}: {part} has no {loader} with a dataset, data and transform, so it can't be given "
                    "other data.",
                    code="missing-part",
                    path=parser.path,
                )
            continue
        serving, label = _with_label(parser, transform)
        parser.put(f"{place}#data", [serving.item(case.images) | {label: str(case.label)} for case in cases])
        if parser.has(f"{place}#cache_dir"):
            parser.put(f"{place}#cache_dir", None)


def _with_label(parser: BundleParser, transform: str) -> tuple[Serving, str]:
    """What a transform of training loads: images, and the key of the mask.

    Raises:
        BundleError: it loads no mask.
    """
    loaded = _loaded(_steps(parser.build(transform)))
    others = [key for key in loaded if key != IMAGE]
    label = LABEL if LABEL in loaded else others[0] if len(others) == 1 and IMAGE in loaded else None
    if label is None:
        named = f"loads {', '.join(loaded)}" if loaded else "loads nothing by LoadImaged"
        raise BundleError(
            f"{parser.path}: {transform} {named}, and none of it is called {LABEL}: it isn't known what the mask is.",
            code="missing-part",
            path=parser.path,
        )
    return Serving(tuple(key for key in loaded if key != label)), label


def _loaded(steps: Iterable[object]) -> list[str]:
    """The keys of images and masks that a config loads, in its order."""
    from monai.transforms import LoadImaged

    found = [key for step in steps if isinstance(step, LoadImaged) for key in step.keys if isinstance(key, str)]
    return list(dict.fromkeys(found))


def _steps(transform: object) -> Iterator[object]:
    """The transforms one by one."""
    below = getattr(transform, "transforms", None)
    if isinstance(below, (list, tuple)):
        for step in below:
            yield from _steps(step)
    elif transform is not None:
        yield transform


def _texts(thing: object, depth: int = 0) -> Iterator[str]:
    """The texts that a transform holds, keys among them."""
    if isinstance(thing, str):
        yield thing
    elif depth < MAX_DEPTH:
        inside = thing.values() if isinstance(thing, dict) else thing if isinstance(thing, (list, tuple, set)) else ()
        for one in inside or vars(thing).values() if hasattr(thing, "__dict__") else inside:
            yield from _texts(one, depth + 1)


def locate(parser: BundleParser, *steps: str) -> str | None:
    """The id of a part that others name, as ``evaluator``, ``val_data_loader``, ``dataset``, ``transform``.

    Each step is an argument of the part before; references such as ``@dataloader`` are followed.
    """
    place = ""
    for step in steps:
        place = f"{place}#{step}" if place else step
        for _ in range(MAX_DEPTH):
            node = parser.plain(place) if parser.has(place) else None
            if not (isinstance(node, str) and node.startswith("@")):
                break
            place = node[1:].replace("::", "#")
        if node is None:
            return None
    return place


def weights_path(parser: BundleParser) -> Path:
    """The file that the config's ``CheckpointLoader`` reads, where it lies in the bundle; else ``models/model.pt``.

    Raises:
        BundleError: the config's path can't be made out.
    """
    root = parser.bundle.root.resolve()
    named = []
    for place, node in walk(parser.plain("")):
        if target_name(node) == "CheckpointLoader":
            path = parser.build("#".join((*place, "load_path")))
            if not isinstance(path, (str, Path)):
                raise BundleError(
                    f"{parser.path}: load_path of the CheckpointLoader is no path. Repair the config.",
                    code="cannot-build",
                    path=parser.path,
                )
            named.append(Path(root, path).resolve())
    inside = [path for path in named if path.is_relative_to(root)]
    found = next((path for path in inside if path.is_file()), inside[0] if inside else None)
    return parser.bundle.model_path if found is None else parser.bundle.root / found.relative_to(root)

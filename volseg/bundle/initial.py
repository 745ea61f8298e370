"""Weights to begin a training with: of another bundle, of which nothing is run, or of a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.bundle.folder import Bundle, is_bundle, refuse_links
from volseg.bundle.metadata import NETWORK_FORMAT, at, is_whole
from volseg.bundle.parser import searched_arrays
from volseg.bundle.published import Published
from volseg.bundle.shipped import find_bundle
from volseg.bundle.weights import NESTED, read_state_dict
from volseg.device import memory_lacking
from volseg.errors import BundleError, UsageError, VolsegError
from volseg.outcomes import sha256_of
from volseg.training.checkpoint import RunFolder
from volseg.training.record import RunRecord
from volseg.training.transfer import Ends, Sides

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from volseg.bundle.parser import BundleParser
    from volseg.planning.component import ConfigValue

CHECKPOINTS = ("average", "state_dict", "network_weights", "model_state_dict", "model_state", *NESTED)
"""Where trainers keep the network: the average of volseg's own checkpoints first, nnU-Net's, Lightning's, MONAI's."""
IN_CHANNELS = ("in_channels", "input_channels")
OUT_CHANNELS = ("out_channels", "num_classes")
"""What networks call the channels at their ends."""
COPIES = 2
"""Of the file's size, while it is read."""


@dataclass(frozen=True, eq=False)
class Source:
    """Weights of another network.

    Args:
        path: the file that they are from.
        sha256: of that file.
        weights: finite, by their names.
        sides: what its channels and classes are called, where it lies in a bundle.
        trained_on: digests of the voxels of the cases that trained it; None where that is not known.
    """

    path: Path
    sha256: str
    weights: Mapping[str, Tensor]
    sides: Sides
    trained_on: frozenset[str] | None


def read_source(place: Path) -> Source:
    """Read the weights of a bundle or file; of a bundle, its metadata is read as plain data, and nothing is run.

    Raises:
        UsageError: nothing is there, or a bundle has several files of weights and none is ``model.pt``.
        BundleError: the file is damaged, holds more than tensors, or a weight is not finite.
        FileError: it can't be read.
    """
    path = source_path(find_bundle(place))
    before = sha256_of(path)
    lacking = memory_lacking(COPIES * path.stat().st_size, "cpu")
    if lacking:
        raise BundleError(f"{path}: to read its weights {lacking}.", code="too-large", path=path)
    with searched_arrays():  # nnU-Net keeps numbers of numpy beside its weights
        weights = read_state_dict(path, CHECKPOINTS)
    if sha256_of(path) != before:
        raise BundleError(f"{path} changed while it was read. Run the command again.", code="changed", path=path)
    home = _bundle_of(path)
    if home is None:
        return Source(path, before, weights, Sides(), None)
    return Source(path, before, weights, sides_of(home), _trained_on(home, path))


def source_path(place: Path) -> Path:
    """The file of weights that a bundle's folder or a path means.

    Raises:
        UsageError: as ``read_source``.
        BundleError: there is a link in the bundle.
    """
    if not place.exists():
        raise UsageError(f"--init-from: {place} does not exist. Name a bundle's folder or a file of weights.")
    if not place.is_dir():
        return place
    if not is_bundle(place):
        raise UsageError(f"--init-from: {place} is no bundle's folder. Name one, or a file of weights.")
    refuse_links(Bundle(place))
    model = Bundle(place).model_path
    if model.exists():
        return model
    others = sorted(model.parent.glob("*.pt")) if model.parent.is_dir() else []
    if len(others) == 1:
        return others[0]
    what = "several files of weights" if others else "no weights: it was never trained, or came without them"
    raise UsageError(f"--init-from: {place} has {what} in models/. Name the file to begin with.")


def sides_of(bundle: Bundle) -> Sides:
    """What the channels and classes of a bundle's network are called, by its metadata."""
    try:
        metadata = bundle.metadata
    except VolsegError:  # a weights file may lie in a folder whose metadata nobody can read
        return Sides()
    return Sides(
        _names(at(metadata, NETWORK_FORMAT, "inputs", "image", "channel_def")),
        _names(at(metadata, NETWORK_FORMAT, "outputs", "pred", "channel_def")),
    )


def _names(found: ConfigValue) -> tuple[str, ...]:
    """Names by number from 0 without a gap, else none."""
    if not isinstance(found, dict):
        return ()
    names = [found.get(str(number)) for number in range(len(found))]
    return tuple(str(name) for name in names) if all(isinstance(name, str) for name in names) else ()


def _bundle_of(path: Path) -> Bundle | None:
    """The bundle that a file lies in as ``models/X.pt`` or ``runs/RUN/X.pt``."""
    for folder in list(path.resolve().parents)[1:3]:
        if Bundle(folder).find_config("metadata") is not None:
            return Bundle(folder)
    return None


def _trained_on(bundle: Bundle, path: Path) -> frozenset[str] | None:
    """Digests of the cases that trained a file of weights, by the records of its bundle."""
    try:
        folder = path.resolve().parent
        if folder.parent.name == bundle.runs.name:
            run: str | None = folder.name
        else:
            published = Published.read(bundle)
            run = None if published is None else published.run_of(path)
        if run is None:
            return None
        record = RunRecord.read(RunFolder(bundle.runs / run).record)
    except VolsegError:
        return None
    return frozenset(record.digests[name] for name in record.cases.training if name in record.digests)


def ends_of(parser: BundleParser) -> Ends:
    """Which weights of a config's network lie at its ends.

    Those whose shape changes when the network is sketched with other channels, along the axes that change.
    """
    described = parser.plain("network_def")
    if not isinstance(described, dict):
        return Ends()
    found = []
    for names in (IN_CHANNELS, OUT_CHANNELS):
        key = next((key for key in names if is_whole(described.get(key))), None)
        found.append({} if key is None else _axes(parser, key, int(described[key])))  # type: ignore[arg-type]
    return Ends(*found)


def _axes(parser: BundleParser, key: str, count: int) -> dict[str, tuple[int, ...]]:
    network = parser.sketch("network_def")
    if network is None:
        return {}
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for other in (count + 1, 2 * count):  # some networks take powers of two alone
        try:
            changed = parser.sketch("network_def", {key: other})
        except BundleError:
            continue
        if changed is None:
            return {}
        others = {name: tuple(tensor.shape) for name, tensor in changed.state_dict().items()}
        return {
            name: axes
            for name, shape in shapes.items()
            if (
                axes := tuple(n for n, (a, b) in enumerate(zip(shape, others.get(name, shape), strict=False)) if a != b)
            )
        }
    return {}

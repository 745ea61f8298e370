"""What training a foreign bundle would take of the memory, reckoned before anything of it is built.

The figures are those that can be reckoned: the network's step on the meta device, the volumes that are kept, what each
loader process holds. They are of float32, rounded down where a config can't be read; the sum is a floor in most cases.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.bundle.folder import target_name, walk
from volseg.bundle.metadata import NETWORK_FORMAT, at, input_channels
from volseg.bundle.serving import locate
from volseg.device import GIB, machine_bytes, memory_lacking
from volseg.errors import BundleError, VolsegError
from volseg.networks.cost import cost_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volseg.bundle.parser import BundleParser
    from volseg.grid import Grid

FLOAT = 4
"""Bytes of a voxel in float32, in which MONAI keeps images and masks."""
PROCESS_BYTES = int(0.7 * GIB)
"""Of Python with torch and MONAI imported, measured; loader processes share most of it."""
LOADER_BYTES = int(0.15 * GIB)
PREFETCHED = 2
"""Batches that torch has each loader process make ahead."""
PREPARED_COPIES = 3
"""Of a volume, alive while a transform makes one out of another."""
SCORED_COPIES = 3
"""Of one value for each output and voxel: the output, as probabilities, as one of several, beside the mask's own."""
SIZED = re.compile(r"(Crop|Pad|Resize)")
SIZES = ("spatial_size", "roi_size")
GPU_HALVES = 0.6
"""Of what a step keeps on a GPU with amp, where most is kept in half precision."""


@dataclass(frozen=True)
class Share:
    """One thing that takes memory.

    Args:
        bytes_needed: how much.
        words: what it is, with its numbers.
        keys: which keys of the config it depends on.
        device: ``cpu`` or ``cuda``: whose memory.
    """

    bytes_needed: int
    words: str
    keys: str
    device: str


def require_memory(parser: BundleParser, grids: Sequence[Grid], device: str) -> None:
    """Refuse a training that the machine can't hold, with the numbers and what to change.

    Args:
        parser: of a trusted bundle's train config.
        grids: of the cases' images.
        device: ``cpu`` or ``cuda``.

    Raises:
        BundleError: it needs more than there is, with the code ``too-large``.
    """
    shares = reckon(parser, grids, device)
    for place in sorted({share.device for share in shares}):
        here = sorted((one for one in shares if one.device == place), key=lambda one: -one.bytes_needed)
        lacking = memory_lacking(sum(one.bytes_needed for one in here), place)
        if lacking:
            listed = "; ".join(f"{one.words} {one.bytes_needed / GIB:.1f} GiB" for one in here[:3])
            keys = " or ".join(dict.fromkeys(one.keys for one in here[:2] if one.keys))
            raise BundleError(
                f"{parser.path}: this training {lacking}. Most of it: {listed}. Lower {keys} in this config and trust "
                "the bundle again, or train elsewhere.",
                code="too-large",
                path=parser.path,
            )


def smaller_step(parser: BundleParser, device: str) -> str:
    """What to change so that a step takes less memory than the one that found too little, with numbers.

    Args:
        parser: of the train config.
        device: ``cpu`` or ``cuda``.
    """
    room = machine_bytes(device)
    batch, (pieces, patch) = _number(parser, "batch_size") or 1, _patch(parser, ())
    channels = _number(parser, "network_def#in_channels") or input_channels(parser.bundle.metadata) or 1
    again = (
        f"Plan another bundle with --memory {max(1, int(0.4 * room / 1e9))}GB, a coarser --spacing or --preset fast."
    )
    if batch < 2 or patch is None:
        return again
    takes = {count: _step(parser, count * pieces, channels, patch) for count in {batch, *range(1, batch)}}
    fits = [count for count in range(1, batch) if takes[count] <= min(0.8 * room, 0.75 * takes[batch])]
    smaller = max(fits, default=1)
    if not takes[smaller]:
        return f"Give batch_size in {parser.path} the value {batch // 2} instead of {batch}. {again}"
    return (
        f"A step of {batch} patches takes about {takes[batch] / GIB:.2g} GiB; with batch_size: {smaller} in {parser.path} it "
        f"takes about {takes[smaller] / GIB:.2g}. {again}"
    )


def reckon(parser: BundleParser, grids: Sequence[Grid], device: str) -> tuple[Share, ...]:
    """What takes memory in a training; what can't be reckoned is left out."""
    volume = max((_voxels(parser, grid) for grid in grids), default=0)
    channels = _number(parser, "network_def#in_channels") or input_channels(parser.bundle.metadata) or 1
    outputs = _outputs(parser)
    pieces, patch = _patch(parser, grids)
    loader = locate(parser, "train#trainer", "train_data_loader") or "train#dataloader"
    batch = (_number(parser, f"{loader}#batch_size") or 1) * pieces
    shares = [Share(PROCESS_BYTES, "Python and its libraries", "", "cpu")]
    if patch is not None:
        shape = f"{batch} patches of {' x '.join(map(str, patch))} voxels at once"
        kept = _step(parser, batch, channels, patch)
        if device == "cuda" and parser.plain("train#trainer#amp") is True:
            kept = int(kept * GPU_HALVES)
        scored = SCORED_COPIES * batch * outputs * math.prod(patch) * FLOAT
        shares.append(Share(kept + scored, f"a step over {shape}", "batch_size, num_samples or spatial_size", device))
    if parser.has("validate#evaluator"):
        seen = min(volume, _validated(parser) or volume)
        words = f"a validation of {outputs} outputs over {seen / 1e6:.1f} million voxels"
        size = SCORED_COPIES * outputs * seen * FLOAT
        shares.append(Share(size, words, "the roi_size of a CenterSpatialCropd in validate#preprocessing", device))
    shares += _caches(parser, grids, channels)
    # Those of the validation wait while these work.
    workers = _number(parser, f"{loader}#num_workers") or 0
    made = PREPARED_COPIES * (channels + 1) * volume * FLOAT
    ahead = PREFETCHED * batch * (channels + 1) * math.prod(patch) * FLOAT if patch is not None else 0
    shares.append(Share(workers * (LOADER_BYTES + made + ahead), f"{workers} loader processes", "num_workers", "cpu"))
    return tuple(shares)


def _step(parser: BundleParser, batch: int, channels: int, patch: tuple[int, ...]) -> int:
    """The bytes of one step of training; 0 where the network can't be sketched."""
    try:
        network = parser.sketch("network_def")
        return 0 if network is None else cost_of(network, batch, channels, patch).training_bytes()
    except VolsegError:
        return 0


def _outputs(parser: BundleParser) -> int:
    told = at(parser.bundle.metadata, NETWORK_FORMAT, "outputs", "pred", "num_channels")
    return _number(parser, "network_def#out_channels") or (told if isinstance(told, int) else 1)


def _patch(parser: BundleParser, grids: Sequence[Grid]) -> tuple[int, tuple[int, ...] | None]:
    """How many pieces a case is cut into, and their voxels: of the last step that sets a size, else of a whole image."""
    pieces, patch = 1, None
    for place, node in walk(parser.plain("")):
        name = target_name(node)
        if (
            not SIZED.search(name)
            or place[0].startswith("val")
            or place[0] in ("evaluator", "inferer", "postprocessing")
        ):
            continue
        if "Crop" in name:
            pieces = max(pieces, _number(parser, "#".join((*place, "num_samples"))) or 1)
        for key in SIZES:
            sides = _sides(parser, "#".join((*place, key)))
            patch = sides or patch
    if patch is None and grids:
        largest = max(grids, key=lambda grid: _voxels(parser, grid))
        patch = _resampled(parser, largest)
    return pieces, patch


def _validated(parser: BundleParser) -> int | None:
    """The voxels that a crop of the validation's own leaves of an image."""
    steps = [place for place, _ in walk(parser.plain("")) if place[:1] == ("validate",) and place[-1] in SIZES]
    crops = [_sides(parser, "#".join(place)) for place in steps if place[1] == "preprocessing"]
    return min((math.prod(sides) for sides in crops if sides), default=None)


def _caches(parser: BundleParser, grids: Sequence[Grid], channels: int) -> list[Share]:
    """What data sets keep of all cases; each case is in one of them."""
    rates = []
    for place, node in walk(parser.plain("")):
        if target_name(node) in ("CacheDataset", "SmartCacheDataset"):
            rates.append(_real(parser, "#".join((*place, "cache_rate")), 1.0))
    if not rates:
        return []
    voxels = sum(_voxels(parser, grid) for grid in grids)
    rate = max(rates)
    words = f"a cache of {rate:.0%} of {len(grids)} cases"
    return [Share(int(rate * (channels + 1) * voxels * FLOAT), words, "cache_rate", "cpu")]


def _voxels(parser: BundleParser, grid: Grid) -> int:
    return math.prod(_resampled(parser, grid))


def _resampled(parser: BundleParser, grid: Grid) -> tuple[int, ...]:
    """An image's voxels at the spacing that the config resamples to."""
    for place, node in walk(parser.plain("")):
        if target_name(node) in ("Spacingd", "SpacingD", "SpacingDict"):
            pixdim = _built(parser, "#".join((*place, "pixdim")))
            if isinstance(pixdim, (list, tuple)) and len(pixdim) == 3 and all(_is_length(one) for one in pixdim):
                sizes = zip(grid.shape, grid.spacing_mm, pixdim, strict=True)
                return tuple(max(1, round(count * mm / float(wanted))) for count, mm, wanted in sizes)
    return tuple(grid.shape)


def _built(parser: BundleParser, place: str) -> object:
    """A part of the config, built: a number, or what an expression gives; None where there is none."""
    try:
        return parser.build(place) if parser.has(place) else None
    except VolsegError:
        return None


def _number(parser: BundleParser, place: str) -> int | None:
    found = _built(parser, place)
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None


def _real(parser: BundleParser, place: str, default: float) -> float:
    found = _built(parser, place)
    return float(found) if isinstance(found, (int, float)) and 0 <= found <= 1 else default


def _sides(parser: BundleParser, place: str) -> tuple[int, ...] | None:
    found = _built(parser, place)
    if not isinstance(found, (list, tuple)) or len(found) != 3:
        return None
    sides = tuple(one for one in found if isinstance(one, int) and one > 0)
    return sides if len(sides) == 3 else None


def _is_length(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0

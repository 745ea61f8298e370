"""What a person asks of the sliding window beyond what the bundle's config says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from volseg.errors import BundleError, UsageError
from volseg.labels import LabelTable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from volseg.bundle.folder import Bundle
    from volseg.bundle.outputs import Meaning

MOST_OVERLAP = 0.9
"""Of neighbouring windows: there are a thousand times as many as without."""
FLIPS = ("RandFlip", "RandFlipd", "RandFlipD", "RandFlipDict")
ANY_FLIPS = ("RandAxisFlip", "RandAxisFlipd", "RandAxisFlipD", "RandAxisFlipDict")


@dataclass(frozen=True)
class WindowWishes:
    """What is asked of the sliding window.

    Args:
        tta: whether each window is seen mirrored as well.
        overlap: of neighbouring windows; None for the config's.
        labels: names or numbers of those that are written; none for all.
        memory: bytes that the process may take; None for what is free.
        scratch: where a file of class values may lie.
    """

    tta: bool = False
    overlap: float | None = None
    labels: tuple[str, ...] = ()
    memory: int | None = None
    scratch: Path | None = None

    def __post_init__(self) -> None:
        if self.overlap is not None and not 0 <= self.overlap <= MOST_OVERLAP:
            raise UsageError(f"--overlap takes a share from 0 to {MOST_OVERLAP}, not {self.overlap:g}.")

    @property
    def method(self) -> str:
        """What of it changes a mask, in words; empty where nothing does."""
        found = {"tta": self.tta, "overlap": self.overlap, "labels": self.labels}
        return "\n".join(f"{name} {value}" for name, value in found.items() if value not in (False, None, ()))


def with_labels(meaning: Meaning, labels: tuple[str, ...]) -> tuple[Meaning, tuple[int, ...]]:
    """What masks mean that hold some labels only, and the numbers of these; none where all are wanted.

    Raises:
        UsageError: there is no such label.
    """
    if not labels:
        return meaning, ()
    table = meaning.table
    chosen = table.find(labels)
    if table and not set(chosen) <= set(table.indices):
        known = ", ".join(map(table.told, table.indices))
        raise UsageError(f"--labels names numbers that the bundle doesn't have. It has {known}.", code="no-label")
    kept = LabelTable(tuple(label for label in table.labels if label.index in chosen))
    return replace(meaning, table=kept), tuple(sorted(set(chosen)))


def with_overlap(inferer: Any, overlap: float | None) -> Any:
    """A bundle's inferer, with another overlap where one is asked for.

    Raises:
        UsageError: it is no sliding window.
    """
    from monai.inferers import SlidingWindowInferer

    if overlap is not None:
        if type(inferer) is not SlidingWindowInferer:
            raise UsageError("--overlap is for bundles whose inferer is a sliding window, and this one's is not.")
        inferer.overlap = overlap
    return inferer


def tta_axes(bundle: Bundle, preprocessing: Any) -> tuple[int, ...]:
    """The axes of the network's grid along which a mirrored window is one that the network may know.

    Those that its training mirrored. Of a bundle without a training config the names of the labels decide: none where a side may
    tell two of them apart.

    Args:
        bundle: the bundle.
        preprocessing: of its inference.

    Raises:
        UsageError: there are none.
    """
    from volseg.bundle.folder import target_name, walk

    if bundle.find_config("train") is None:
        return _axes_by_names(bundle, preprocessing)
    axes: set[int] = set()
    for _, node in walk(bundle.read_config("train")):
        if target_name(node) in ANY_FLIPS:
            axes |= {0, 1, 2}
        elif target_name(node) in FLIPS and isinstance(node, dict):
            along = node.get("spatial_axis")
            named = along if isinstance(along, list) else [0, 1, 2] if along is None else [along]
            axes |= {one for one in named if type(one) is int and 0 <= one <= 2}
    if not axes:
        raise UsageError(
            "--tta shows the network mirrored images, and this bundle's training mirrored none: a mirrored body may show "
            "one label as the other. Leave --tta out.",
            code="no-tta",
        )
    return tuple(sorted(axes))


def _axes_by_names(bundle: Bundle, preprocessing: Any) -> tuple[int, ...]:
    from monai.transforms import Orientationd

    from volseg.planning.mirroring import mirrored_axes

    steps: Sequence[Any] = getattr(preprocessing, "transforms", ())
    codes = [str(step.ornt_transform.axcodes) for step in steps if type(step) is Orientationd]
    try:
        allowed, words = mirrored_axes(bundle.labels)
    except BundleError:
        allowed, words = (), "nothing tells the names of its labels"
    places = [next(at for at, pair in enumerate(("RL", "AP", "SI")) if one in pair) for one in (codes or [""])[-1]]
    axes = tuple(axis for axis, place in enumerate(places) if place in allowed)
    if not axes:
        why = words if places else "its preprocessing doesn't turn images to known axes"
        raise UsageError(f"--tta shows the network mirrored images, and this bundle allows none: {why}.", code="no-tta")
    return axes

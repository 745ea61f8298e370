"""What kind of images a bundle was made for, as far as its plan and its configs tell."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from volseg.bundle.folder import CONFIGS
from volseg.bundle.metadata import NETWORK_FORMAT, at, is_whole
from volseg.bundle.write import PLAN_JSON
from volseg.errors import FileError, InputError
from volseg.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volseg.bundle.folder import Bundle

MAX_PLAN_BYTES = 2**26
Steps = tuple[float, float, float]


@dataclass(frozen=True)
class MadeFor:
    """What images a bundle was made for; None where nothing tells.

    Args:
        spacing_mm: that the network sees, along R, A and S.
        coarsest_mm: of the training images, along R, A and S.
        volumes_mm3: of the smallest and the largest training image.
        values: of each channel, the lowest and highest value of the labelled structures, but for half a percent each.
        is_3d: whether the network sees several slices at once.
    """

    spacing_mm: Steps | None = None
    coarsest_mm: Steps | None = None
    volumes_mm3: tuple[float, float] | None = None
    values: tuple[tuple[float, float], ...] = ()
    is_3d: bool = False

    @classmethod
    def of(cls, bundle: Bundle, preprocessing: Any) -> MadeFor:
        """Read it: the spacing from the built preprocessing, the rest from metadata and plan, which may be a stranger's.

        Args:
            bundle: the bundle.
            preprocessing: its, built.
        """
        shape = at(bundle.metadata, NETWORK_FORMAT, "inputs", "image", "spatial_shape")
        is_3d = isinstance(shape, list) and len(shape) == 3 and all(is_whole(size) and size > 1 for size in shape)
        spacing = _spacing_of(preprocessing)
        try:
            plan = json.loads(read_bounded(bundle.root / CONFIGS / PLAN_JSON, MAX_PLAN_BYTES, "plan", follow=False))
            measured = plan["measured"]
            steps = [_triple(one) for one in measured["spacings_mm"]]
            sizes = [_triple(one) for one in measured["shapes_voxels"]]
            volumes = [math.prod(size) * math.prod(step) for size, step in zip(sizes, steps, strict=True)]
            bounds = [channel["foreground_intensity_percentiles"].values() for channel in measured["channels"]]
            values = tuple((float(min(one)), float(max(one))) for one in bounds)
            coarsest = (max(one[0] for one in steps), max(one[1] for one in steps), max(one[2] for one in steps))
            return cls(spacing, coarsest, (min(volumes), max(volumes)), values, is_3d)
        except (FileError, InputError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return cls(spacing, is_3d=is_3d)


def _triple(numbers: Sequence[float]) -> Steps:
    first, second, third = (float(number) for number in numbers)
    if not all(math.isfinite(number) and number > 0 for number in (first, second, third)):
        raise ValueError("no sizes")
    return first, second, third


def _spacing_of(preprocessing: Any) -> Steps | None:
    """The spacing that a preprocessing brings images to; None where it keeps one, or where axes may not be R, A, S."""
    from monai.transforms import Orientationd, Spacingd

    found, axes = None, ""
    for step in getattr(preprocessing, "transforms", [preprocessing]):
        if isinstance(step, Orientationd):
            axes = str(step.ornt_transform.axcodes)
        elif isinstance(step, Spacingd) and axes.upper() in ("RAS", "LPS", "LAS"):
            try:
                found = _triple([float(size) for size in step.spacing_transform.pixdim])
            except (TypeError, ValueError):
                return None
    return found

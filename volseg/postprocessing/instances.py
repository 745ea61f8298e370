"""Number the components of a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from volseg.components import find_components
from volseg.distances import distances_mm
from volseg.errors import InputError, UsageError
from volseg.labels import MAX_INDEX, Label, LabelTable
from volseg.postprocessing.edit import INSTANCE_STEP
from volseg.postprocessing.rule import UNNAMED, ComponentRule
from volseg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from volseg.distances import Spacing
    from volseg.postprocessing.edit import MaskEdit


@dataclass(frozen=True, kw_only=True)
class Instances(ComponentRule):
    """Each component of a label gets a number of its own, from the largest to the smallest.

    Instance n of a label is ``1000 * label + n``. Touching ones are split by a watershed on the distance to the surface,
    where the way from one to the other narrows by more than ``split_mm``, as the radius of the balls that fit in tells.
    The image's border is no surface: what it cuts is split as if it were whole.
    Of equally large ones the first is the one that begins first when k runs fastest and i slowest.

    Raises:
        UsageError: as ``ComponentRule``, there are groups, a label is above 65, or the depth is not from 0 to 100 mm.
    """

    key: ClassVar[str] = "instances"

    split_mm: float = 0.0
    """By how much a neck is narrower, in mm of its radius, than what it joins; 0 splits nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split_mm != 0.0:
            self.require_mm("split_mm")
        if self.groups:
            raise UsageError(f"{self.key}: instances are of one label each, and not of a group.")
        _require_room(self.flat)

    def apply(self, edit: MaskEdit) -> None:
        """Number the components of the rule's labels."""
        boxes = edit.boxes()
        labels = [label for (label,) in self.parts(boxes)]
        try:
            _require_room(labels)
        except UsageError as error:
            raise InputError(error.message, code="no-numbers-left") from error
        taken = sorted(
            {label // INSTANCE_STEP for label in boxes if label > INSTANCE_STEP and label % INSTANCE_STEP}.intersection(
                labels
            )
        )
        if taken:
            raise InputError(
                f"The mask has numbers that the instances of label {taken[0]} would get, above {taken[0] * INSTANCE_STEP}. "
                "Give its labels lower numbers first.",
                code="no-numbers-left",
            )
        for label in labels:
            box = boxes[label]
            region = edit.mask[box] == label
            numbers = find_components(region, self.connectivity).numbers.astype(np.int64)
            if self.split_mm:
                cut = [(part.start == 0, part.stop == size) for part, size in zip(box, edit.mask.shape, strict=True)]
                numbers = _split(numbers, self.split_mm, edit.spacing_mm, cut)
            which = numbers[region]
            sizes = np.bincount(which)
            count = len(sizes) - 1
            if label * INSTANCE_STEP + count > min(MAX_INDEX, label * INSTANCE_STEP + INSTANCE_STEP - 1):
                raise InputError(
                    f"Label {label} has {counted(count, 'instance')}, more than there are numbers for. "
                    "Remove the small ones first.",
                    code="no-numbers-left",
                )
            # A voxel's place in the row tells which began first.
            begins = np.unique(which, return_index=True)[1]
            order = np.lexsort((begins, -sizes[1:]))
            final = np.zeros(count + 1, np.int64)
            final[order + 1] = label * INSTANCE_STEP + 1 + np.arange(count)
            edit.split(label, box, region, final[which])

    def words(self, table: LabelTable = UNNAMED) -> str:
        """The rule in words."""
        split = f", split at necks narrower by {self.split_mm:g} mm" if self.split_mm else ""
        return self.of_labels("numbered instances", table) + split


def _split(
    numbers: NDArray[np.int64], depth_mm: float, spacing_mm: Spacing, cut: Sequence[tuple[bool, bool]]
) -> NDArray[np.int64]:
    """Components (i, j, k) numbered from 1, those with necks taken apart (Beucher and Meyer, 1993, The morphological
    approach to segmentation: the watershed transformation).

    Args:
        numbers: of the components.
        depth_mm: by how much a neck is narrower.
        spacing_mm: of the voxels.
        cut: for each axis, whether the array's first and last plane are the image's: where the image ends, a structure
            that goes on has no surface.
    """
    import SimpleITK as sitk
    from scipy.ndimage import find_objects

    result = numbers.copy()
    last = int(numbers.max(initial=0))
    for number, box in enumerate(find_objects(numbers), 1):
        around = [
            (int(part.start > 0 or not low), int(part.stop < size or not high))
            for part, size, (low, high) in zip(box, numbers.shape, cut, strict=True)
        ]
        region = np.pad(numbers[box] == number, around)
        inside = tuple(slice(low, size - high) for (low, high), size in zip(around, region.shape, strict=True))
        inner = distances_mm(~region, spacing_mm)
        if not depth_mm < float(inner.max()) < np.inf:  # too thin, or the whole image
            continue
        image = sitk.GetImageFromArray(-inner)
        basins = sitk.MorphologicalWatershed(image, level=depth_mm, markWatershedLine=False, fullyConnected=True)
        found = sitk.GetArrayFromImage(basins).astype(np.int64)[region]
        parts = np.unique(found, return_inverse=True)[1]
        result[box][region[inside]] = np.where(parts == 0, number, last + parts)
        last += int(parts.max())
    return result


def _require_room(labels: Iterable[int]) -> None:
    highest = max(labels, default=0)
    if highest * INSTANCE_STEP >= MAX_INDEX:
        raise UsageError(
            f"instances: those of label {highest} would be numbered from {highest * INSTANCE_STEP + 1}, and a mask's numbers end "
            f"at {MAX_INDEX}. Give the label a number up to {MAX_INDEX // INSTANCE_STEP}."
        )


def named_instances(table: LabelTable, labels: Iterable[int] | None, values: Iterable[int]) -> LabelTable:
    """A table with a name for each instance, such as ``tumour 2``.

    Args:
        table: of the labels.
        labels: those whose instances were numbered; None for all.
        values: of the masks.
    """
    split = {label.index: label for label in table.labels}
    wanted = None if labels is None else set(labels)
    taken = set(table.names)
    added = []
    for value in sorted({*values}.difference(table.indices)):
        label, number = divmod(value, INSTANCE_STEP)
        if number and label and (wanted is None or label in wanted):
            of = split[label].name if label in split else f"label {label}"
            name = f"{of} {number}"
            added.append(Label(value, name if name not in taken else f"{name} (instance)"))
    return LabelTable((*table.labels, *added), table.ignore)

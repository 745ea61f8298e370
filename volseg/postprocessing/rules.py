"""The rules of a bundle or a command in their order, and their registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.errors import BundleError
from volseg.postprocessing.closing import Closing
from volseg.postprocessing.edit import Changes, MaskEdit
from volseg.postprocessing.fill_between_labels import FillBetweenLabels
from volseg.postprocessing.fill_holes import FillHoles
from volseg.postprocessing.instances import Instances, named_instances
from volseg.postprocessing.keep_inside import KeepInside
from volseg.postprocessing.keep_largest import KeepLargest
from volseg.postprocessing.opening import Opening
from volseg.postprocessing.remove_small import RemoveSmall
from volseg.postprocessing.remove_touching_border import RemoveTouchingBorder
from volseg.postprocessing.rule import ALL, Rule
from volseg.postprocessing.smoothing import Smoothing
from volseg.postprocessing.threshold import Threshold

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.labels import LabelTable

KINDS: tuple[type[Rule], ...] = (
    KeepLargest,
    RemoveSmall,
    FillHoles,
    KeepInside,
    RemoveTouchingBorder,
    Opening,
    Closing,
    Smoothing,
    FillBetweenLabels,
    Instances,
    Threshold,
)
RULES: dict[str, type[Rule]] = {rule.key: rule for rule in KINDS}
"""The kinds of rules, by their names in plain data."""
MAX_RULES = 1000
"""Of a bundle's, each of which costs a pass over the mask."""

FIRST_FORM = ("keep_largest", "minimum_size_mm3", "fill_holes", "connectivity")
"""The keys of the mapping that bundles had before rules had an order."""


@dataclass(frozen=True)
class PostprocessingRules:
    """What to do with a mask, in this order."""

    rules: tuple[Rule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rules)

    @property
    def labels(self) -> frozenset[int]:
        """The labels that the rules name."""
        inside = (label for rule in self.rules if isinstance(rule, KeepInside) for label in rule.inside)
        return frozenset((*(label for rule in self.rules for label in rule.flat), *inside))

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """Those that go by probabilities."""
        return tuple(rule for rule in self.rules if isinstance(rule, Threshold))

    @property
    def on_masks(self) -> PostprocessingRules:
        """The others, which a mask is all that they need for."""
        return PostprocessingRules(tuple(rule for rule in self.rules if not isinstance(rule, Threshold)))

    def named(self, table: LabelTable, values: Iterable[int]) -> LabelTable:
        """A table with names for the instances among the values of masks, such as ``tumour 2`` for 2002."""
        for rule in self.rules:
            if isinstance(rule, Instances):
                table = named_instances(table, None if rule.labels == ALL else rule.flat, values)
        return table

    def table_of(self, table: LabelTable, values: Iterable[int]) -> LabelTable:
        """A table with a name for each of the values of masks: those of instances, and neutral ones for the rest."""
        values = tuple(values)
        return self.named(table, values).with_values(values)

    def __add__(self, other: PostprocessingRules) -> PostprocessingRules:
        return PostprocessingRules(self.rules + other.rules)

    def apply(self, mask: NDArray[np.generic], grid: Grid) -> tuple[NDArray[np.generic], Changes]:
        """Apply the rules to one mask.

        Args:
            mask: (i, j, k) whole numbers, 0 is the background.
            grid: where the voxels lie; sizes are in mm3.

        Returns:
            A new mask, and what was changed. It is of the same type, unless the numbers of instances need uint16.

        Raises:
            InputError: the mask is not three-dimensional, or not of whole numbers; or a rule can't be applied to it.
            GeometryError: a rule needs lengths, and the grid's axes are not at right angles.
        """
        edit = MaskEdit(mask, grid)
        for rule in self.rules:
            rule.apply(edit)
        return edit.result()

    def to_transforms(self, table: Collection[int]) -> tuple[list[dict[str, object]], PostprocessingRules]:
        """The first rules as stock MONAI transforms, for a bundle's config, and the rest that MONAI has none for.

        Args:
            table: all labels that the mask may hold.
        """
        transforms: list[dict[str, object]] = []
        for place, rule in enumerate(self.rules):
            transform = rule.to_transform(table)
            if transform is None:
                return transforms, PostprocessingRules(self.rules[place:])
            transforms.append(transform)
        return transforms, PostprocessingRules()

    @classmethod
    def from_transforms(
        cls, transforms: Sequence[Mapping[str, object]], table: Collection[int]
    ) -> tuple[int, PostprocessingRules]:
        """How many of the last transforms say the same as rules, and these rules in their order.

        Args:
            transforms: each with its ``_target_`` and arguments.
            table: all labels that the mask may hold.
        """
        found: list[Rule] = []
        for transform in reversed(transforms):
            rule = next(filter(None, (kind.from_transform(transform, table) for kind in RULES.values())), None)
            if rule is None:
                break
            found.insert(0, rule)
        return len(found), cls(tuple(found))

    def to_config(self) -> list[dict[str, object]]:
        """The rules as plain data for a bundle's config; ``from_config`` gives the same rules back."""
        return [rule.to_config() for rule in self.rules]

    @classmethod
    def from_config(cls, config: object) -> PostprocessingRules:
        """Read the rules from a bundle's plain data, such as ``[{rule: keep_largest, labels: [1, 2]}]``.

        The mapping of earlier bundles, such as ``{keep_largest: [1, 2], fill_holes: all}``, is read as well.

        Raises:
            BundleError: it is neither, a key is unknown, or a value is of the wrong type or out of range.
        """
        if isinstance(config, Mapping):
            return cls(tuple(_of_first_form(config)))
        if not isinstance(config, (list, tuple)):
            raise BundleError("The postprocessing rules have to be a list of rules.")
        if len(config) > MAX_RULES:
            raise BundleError(f"There are {len(config)} postprocessing rules, and {MAX_RULES} at most are applied.")
        rules = []
        for entry in config:
            key = entry.get("rule") if isinstance(entry, Mapping) else None
            if not isinstance(key, str) or key not in RULES:
                raise BundleError(f"A postprocessing rule is a mapping whose rule is one of {', '.join(RULES)}.")
            rules.append(RULES[key].from_config({name: value for name, value in entry.items() if name != "rule"}))
        return cls(tuple(rules))


def _of_first_form(config: Mapping[str, object]) -> Iterator[Rule]:
    unknown = sorted(str(key) for key in config if key not in FIRST_FORM)
    if unknown:
        raise BundleError(f"The postprocessing rules have no {', '.join(unknown)}. They have {', '.join(FIRST_FORM)}.")
    common = {"connectivity": config.get("connectivity", 26)}
    sizes = config.get("minimum_size_mm3", 0.0)
    # JSON has no whole numbers as keys.
    each = {(int(k) if str(k).isdecimal() else k,): v for k, v in sizes.items()} if isinstance(sizes, Mapping) else {}
    wanted = [
        KeepLargest.from_config({"labels": config.get("keep_largest", []), **common}),
        *(RemoveSmall.from_config({"minimum_mm3": v, "labels": k, **common}) for k, v in each.items()),
        *([] if isinstance(sizes, Mapping) else [RemoveSmall.from_config({"minimum_mm3": sizes, **common})]),
        FillHoles.from_config({"labels": config.get("fill_holes", []), **common}),
    ]
    for rule in wanted:
        if rule.labels and not (isinstance(rule, RemoveSmall) and not rule.minimum_mm3):
            yield rule

"""Rules in place of the MONAI transforms that say the same, in a bundle's postprocessing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monai import transforms

from volseg.postprocessing.rules import PostprocessingRules

if TYPE_CHECKING:
    from collections.abc import Collection


def without_rules(postprocessing: Any, table: Collection[int]) -> tuple[Any, PostprocessingRules]:
    """The transforms without the last ones that say the same as rules, and these rules, which are faster.

    Args:
        postprocessing: a bundle's, without steps that write files.
        table: all labels that the mask may hold.
    """
    steps = getattr(postprocessing, "transforms", None)
    if steps is None:
        return postprocessing, PostprocessingRules()
    count, rules = PostprocessingRules.from_transforms([_plain(step) for step in steps], table)
    return transforms.Compose(steps[: len(steps) - count]), rules


def _plain(step: object) -> dict[str, object]:
    """A stock transform for masks as a config has it; nothing for another."""
    name = type(step).__name__
    if type(step) is not getattr(transforms, name, None) or not hasattr(step, "converter"):
        return {}
    return {"_target_": f"monai.transforms.{name}", "keys": getattr(step, "keys", None), **vars(step.converter)}

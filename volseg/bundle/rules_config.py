"""The rules for masks in an inference config: read from it, and others in their place."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, cast

from volseg.bundle.metadata import at
from volseg.errors import BundleError
from volseg.postprocessing import PostprocessingRules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from volseg.planning.component import ConfigValue

RULES = "volseg_postprocessing"


def without_rules(
    inference: Mapping[str, ConfigValue], labels: Sequence[int]
) -> tuple[PostprocessingRules, dict[str, ConfigValue]]:
    """The rules that an inference config has, and the config without them.

    Args:
        inference: the config.
        labels: the numbers of its labels.

    Raises:
        BundleError: its postprocessing is no list of transforms, or its rules are none.
    """
    bare = deepcopy(dict(inference))
    steps = _steps(bare)
    saving = _saving(steps)
    plain = [step if isinstance(step, dict) else {} for step in steps[:saving]]
    count, rules = PostprocessingRules.from_transforms(plain, labels)
    del steps[saving - count : saving]
    named = bare.pop(RULES, None)
    return rules + PostprocessingRules.from_config(named or []), bare


def with_rules(
    bare: Mapping[str, ConfigValue], rules: PostprocessingRules, labels: Sequence[int]
) -> dict[str, ConfigValue]:
    """A config without rules with these; arguments as ``without_rules``."""
    config = deepcopy(dict(bare))
    steps = _steps(config)
    stock, others = rules.to_transforms(labels)
    saving = _saving(steps)
    steps[saving:saving] = cast("list[ConfigValue]", stock)
    config[RULES] = cast("list[ConfigValue]", others.to_config())
    return config


def _steps(config: Mapping[str, ConfigValue]) -> list[ConfigValue]:
    steps = at(dict(config), "postprocessing", "transforms")
    if not isinstance(steps, list):
        raise BundleError("The postprocessing of the inference config is no list of transforms.", code="edited")
    return steps


def _saving(steps: Sequence[ConfigValue]) -> int:
    """The place of the step that saves the mask."""
    targets = (str(step.get("_target_")) if isinstance(step, dict) else "" for step in steps)
    return next((place for place, target in enumerate(targets) if target.endswith(".SaveImaged")), len(steps))

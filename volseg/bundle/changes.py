"""Another plan's choices carried into a config that a person may have changed since it was planned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.errors import BundleError

if TYPE_CHECKING:
    from volseg.planning.component import ConfigValue

EDITED = "edited"
"""The code of what a person wrote in a place that another plan would change."""


def carried(current: ConfigValue, before: ConfigValue, after: ConfigValue, place: tuple[str, ...] = ()) -> ConfigValue:
    """A config with all in which one plan differs from another; what neither of them touches stays as a person has it.

    Args:
        current: the config as it is.
        before: as the plan would write it that it was written from.
        after: as the other plan would.
        place: of these, within the whole.

    Raises:
        BundleError: a person changed a place in which the plans differ, with the code ``edited``.
    """
    if before == after:
        return current
    if current == before:
        return after
    if isinstance(current, dict) and isinstance(before, dict) and isinstance(after, dict):
        if before.keys() == after.keys() and before.keys() <= current.keys():
            return {
                key: carried(value, before[key], after[key], (*place, key)) if key in before else value
                for key, value in current.items()
            }
    elif (
        isinstance(current, list)
        and isinstance(before, list)
        and isinstance(after, list)
        and len(current) == len(before) == len(after)
    ):
        return [
            carried(value, before[number], after[number], (*place, str(number))) for number, value in enumerate(current)
        ]
    raise BundleError(f"{'#'.join(place)} is not as it was planned", code=EDITED)

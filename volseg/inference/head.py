"""The last layer of a network, where it makes the classes of a voxel of its features and does nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Head:
    """The last layer of a network, a linear one.

    Args:
        weights: (class, feature).
        bias: (class,).
    """

    weights: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def of(cls, layer: torch.nn.Module) -> Head:
        """That of a convolution of single voxels, in float32."""
        weights = layer.get_parameter("weight").detach().flatten(1).float()
        bias = weights.new_zeros(len(weights)) if layer.bias is None else layer.get_parameter("bias").detach().float()
        return cls(weights, bias)

    def some(self, begin: int, end: int) -> Head:
        """That of some classes alone."""
        return Head(self.weights[begin:end], self.bias[begin:end])

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """The values (class, ...) of features (feature, ...)."""
        flat = features.reshape(len(features), -1)
        weights, bias = self.weights.to(flat.device), self.bias.to(flat.device)
        return torch.addmm(bias[:, None], weights, flat).reshape(len(weights), *features.shape[1:])

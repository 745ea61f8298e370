"""The optimizers that a plan may choose, each with the learning rate that it begins at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from volseg.planning.component import Built, Component, ConfigValue, by_name, component

OptimizerName = Literal["adamw", "adam", "sgd", "novograd"]
PARAMETERS = "$@network_def.parameters()"
RATE = "@learning_rate"


@dataclass(frozen=True)
class Optimizer(Built):
    """An optimizer of the network's weights."""

    learning_rate: float = 1e-3
    """What the schedule begins at; it stands in the config's key of that name."""

    target: ClassVar[str]
    """The class that the config names."""
    settings: ClassVar[Mapping[str, ConfigValue]] = {}
    """Its arguments beside weights and rate."""

    def component(self) -> Component:
        """Its target and arguments."""
        return component(self.target, params=PARAMETERS, lr=RATE, **self.settings)


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""

    learning_rate: float = 2e-3

    target: ClassVar[str] = "torch.optim.AdamW"
    settings: ClassVar[Mapping[str, ConfigValue]] = {"weight_decay": 1e-4}
    name: ClassVar[str] = "adamw"
    words: ClassVar[str] = "Adam with decoupled weight decay, quick in short trainings"


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba, ICLR 2015), without weight decay."""

    target: ClassVar[str] = "torch.optim.Adam"
    name: ClassVar[str] = "adam"
    words: ClassVar[str] = "Adam without weight decay"


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent as nnU-Net has it."""

    learning_rate: float = 1e-2

    target: ClassVar[str] = "torch.optim.SGD"
    settings: ClassVar[Mapping[str, ConfigValue]] = {"momentum": 0.99, "nesterov": True, "weight_decay": 3e-5}
    name: ClassVar[str] = "sgd"
    words: ClassVar[str] = "stochastic gradient descent with Nesterov momentum 0.99, nnU-Net's"


@dataclass(frozen=True)
class Novograd(Optimizer):
    """MONAI's Novograd (Ginsburg et al., 2019): gradients are normed by layer, so it keeps half of Adam's state."""

    learning_rate: float = 1e-2

    target: ClassVar[str] = "monai.optimizers.Novograd"
    settings: ClassVar[Mapping[str, ConfigValue]] = {"weight_decay": 1e-4}
    name: ClassVar[str] = "novograd"
    words: ClassVar[str] = "Novograd, which scales gradients layer by layer and keeps half of Adam's state"


OPTIMIZERS: dict[str, type[Optimizer]] = by_name(AdamW, Adam, SGD, Novograd)

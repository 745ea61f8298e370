"""The optimizers that a plan may choose, each with the learning rate that it begins at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from volseg.planning.component import Built, Component, by_name, component

OptimizerName = Literal["adamw", "adam", "sgd", "novograd"]
PARAMETERS = "$@network_def.parameters()"
RATE = "@learning_rate"


@dataclass(frozen=True)
class Optimizer(Built):
    """An optimizer of the network's weights."""

    learning_rate: float = 1e-3
    """What the schedule begins at; it stands in the config's key of that name."""


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""

    learning_rate: float = 2e-3

    name: ClassVar[str] = "adamw"
    words: ClassVar[str] = "Adam with decoupled weight decay, quick in short trainings"

    def component(self) -> Component:
        """Its target and arguments."""
        return component("torch.optim.AdamW", params=PARAMETERS, lr=RATE, weight_decay=1e-4)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba, ICLR 2015), without weight decay."""

    name: ClassVar[str] = "adam"
    words: ClassVar[str] = "Adam without weight decay"

    def component(self) -> Component:
        """Its target and arguments."""
        return component("torch.optim.Adam", params=PARAMETERS, lr=RATE)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent as nnU-Net has it."""

    learning_rate: float = 1e-2

    name: ClassVar[str] = "sgd"
    words: ClassVar[str] = "stochastic gradient descent with Nesterov momentum 0.99, nnU-Net's"

    def component(self) -> Component:
        """Its target and arguments."""
        return component("torch.optim.SGD", params=PARAMETERS, lr=RATE, momentum=0.99, nesterov=True, weight_decay=3e-5)


@dataclass(frozen=True)
class Novograd(Optimizer):
    """MONAI's Novograd (Ginsburg et al., 2019): gradients are normed by layer, so it keeps half of Adam's state."""

    learning_rate: float = 1e-2

    name: ClassVar[str] = "novograd"
    words: ClassVar[str] = "Novograd, which scales gradients layer by layer and keeps half of Adam's state"

    def component(self) -> Component:
        """Its target and arguments."""
        return component("monai.optimizers.Novograd", params=PARAMETERS, lr=RATE, weight_decay=1e-4)


OPTIMIZERS: dict[str, type[Optimizer]] = by_name(AdamW, Adam, SGD, Novograd)

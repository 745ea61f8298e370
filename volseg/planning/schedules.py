"""The learning-rate schedules that a plan may choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from volseg.planning.component import Built, Component, by_name, component

ScheduleName = Literal["polynomial", "cosine", "one-cycle"]


@dataclass(frozen=True)
class Schedule(Built):
    """A handler that sets the learning rate as the budget is used up, over epochs or minutes."""

    warm_up: ClassVar[float] = 0.02
    """The part of the budget over which the rate rises."""

    def component(self) -> Component:
        """Its target and arguments."""
        return component(
            "volseg.training.BudgetedRate",
            optimizer="@optimizer",
            budget="@budget",
            curve=self.name,
            warm_up=self.warm_up,
        )


@dataclass(frozen=True)
class Polynomial(Schedule):
    """nnU-Net's polynomial decay, after a short warm-up."""

    name: ClassVar[str] = "polynomial"
    words: ClassVar[str] = "polynomial decay to 0 over the epochs or minutes, after a short warm-up"


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine, after a short warm-up."""

    name: ClassVar[str] = "cosine"
    words: ClassVar[str] = "half a cosine down to 0 over the epochs or minutes, after a short warm-up"


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up over the first third, then down; momentum stays as it is."""

    name: ClassVar[str] = "one-cycle"
    words: ClassVar[str] = (
        "up over the first 30 % of the epochs or minutes and down to 0, by half cosines; same momentum"
    )
    warm_up: ClassVar[float] = 0.3


SCHEDULES: dict[str, type[Schedule]] = by_name(Polynomial, Cosine, OneCycle)

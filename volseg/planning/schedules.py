"""The learning-rate schedules that a plan may choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from volseg.planning.component import Built, Component, by_name, component

ScheduleName = Literal["polynomial"]


class Schedule(Built):
    """A handler that sets the learning rate as the budget is used up."""


@dataclass(frozen=True)
class Polynomial(Schedule):
    """nnU-Net's polynomial decay, over epochs or minutes, after a short warm-up."""

    name: ClassVar[str] = "polynomial"
    words: ClassVar[str] = "polynomial decay to 0 over the epochs or minutes, after a short warm-up"

    def component(self) -> Component:
        """Its target and arguments."""
        return component("volseg.training.BudgetedRate", optimizer="@optimizer", budget="@budget")


SCHEDULES: dict[str, type[Schedule]] = by_name(Polynomial)

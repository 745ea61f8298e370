"""What a network is to a plan: its levels, what they may be, and how a config describes it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from volseg.planning.component import Built, Component, ConfigValue, component

Triple = tuple[int, int, int]
Halving = Literal["each", "thick-wait", "together"]


@dataclass(frozen=True)
class Topology:
    """The levels of a network; the kernel is 3 except across slices that lie far apart."""

    features: tuple[int, ...]
    """Of each level."""
    strides: tuple[Triple, ...]
    """From each level to the next, one fewer than levels; their product is what the patch must be a multiple of."""
    kernels: tuple[Triple, ...]
    """Of each level."""


@dataclass(frozen=True)
class LevelRules:
    """What levels a network can have.

    Args:
        halving: ``each``: an axis is halved or not at each level. ``thick-wait``: at first axes of thick slices may
            wait, then all are halved. ``together``: all axes are halved alike.
        least: levels; so many there are even where the volume is too short for them and has to be padded.
        most: levels.
    """

    halving: Halving = "each"
    least: int = 3  # MONAI's DynUNet takes no fewer
    most: int = 12

    @property
    def words(self) -> str:
        """Why the levels are so, for a person; ``{}`` stands for the fewest voxels that an axis is halved down to."""
        if self.least == self.most:
            return f"the network always halves each axis {self.least - 1} times"
        if self.halving == "together":
            return "the network halves all axes alike, the shortest down to {} voxels or more"
        waiting = "thick ones wait for the others to catch up"
        if self.halving == "thick-wait":
            return f"the network halves axes together, down to {{}} voxels or more; {waiting}"
        return f"axes are halved down to {{}} voxels or more; {waiting}"


@dataclass(frozen=True)
class Network(Built):
    """A network as a config describes it.

    Args:
        topology: its levels, within its rules.
        in_channels: of the image.
        out_channels: one for each label and one for the background.
        patch: voxels of what it is trained on and run over, along R, A, S.

    Raises:
        UsageError: it takes no image of so many channels.
    """

    topology: Topology
    in_channels: int
    out_channels: int
    patch: Triple

    target: ClassVar[str]
    """The class that the config names."""
    encoder_parts: ClassVar[tuple[str, ...]] = ()
    """What the names of the encoder's weights begin with, as regular expressions, down to the lowest level."""
    packages: ClassVar[tuple[str, ...]] = ()
    """From PyPI, that it needs beside MONAI wherever it runs."""
    rules: ClassVar[LevelRules] = LevelRules()

    def component(self) -> Component:
        """Its target and arguments."""
        dimensions: Component = {"spatial_dims": 3} if self.target.startswith("monai.") else {}
        return component(
            self.target, **dimensions, in_channels=self.in_channels, out_channels=self.out_channels, **self.arguments()
        )

    @abstractmethod
    def arguments(self) -> Component:
        """What it takes beside its channels."""

    @classmethod
    def widths(cls, features: int, most: int, levels: int) -> tuple[int, ...]:
        """The features of each level.

        Args:
            features: of the first level, as the preset has them; a network may round them to what it can have.
            most: of any level, where the network leaves a choice.
            levels: how many there are.
        """
        return tuple(min(most, features * 2**level) for level in range(levels))

    @property
    def heads(self) -> int:
        """Number of deep-supervision outputs beside the main one in training."""
        return 0

    @property
    def training_only(self) -> tuple[str, ...]:
        """Parts of names of weights that the plain form lacks."""
        return ()

    @property
    def for_inference(self) -> Network:
        """Its plain form: the same weights without the heads that only training needs."""
        return self


@dataclass(frozen=True)
class DeepSupervised(Network):
    """A network with heads at lower levels, which only training needs.

    Args:
        deep: whether they are there.
    """

    deep: bool = True

    @property
    def heads(self) -> int:
        """One at each level between the first and the last."""
        return len(self.topology.strides) - 1 if self.deep else 0

    @property
    def for_inference(self) -> Self:
        """Without the heads."""
        return replace(self, deep=False)


def lists(triples: tuple[Triple, ...]) -> list[ConfigValue]:
    """As a config has them."""
    return [list(triple) for triple in triples]

"""An attack: a name, what it tries, and how to stage it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tests.attacks.scene import Command, Scene

Build = Callable[[Scene], Iterable[Command] | Command]
"""Commands may be drawn one after the other, with changes of the files between them."""


@dataclass(frozen=True)
class Attack:
    """What a stranger may send, as ``kind/name``."""

    name: str
    aim: str
    build: Build
    slow: bool = False
    """Starts processes of its own, or works for seconds: only the script runs it."""

    @property
    def kind(self) -> str:
        return self.name.split("/")[0]

    def stage(self, scene: Scene) -> Iterator[Command]:
        commands = self.build(scene)
        return iter((commands,) if isinstance(commands, Command) else commands)


class Attacks(list[Attack]):
    """The attacks of one kind, gathered by decorating the functions that stage them."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def add(self, name: str, aim: str, build: Build, *, slow: bool = False) -> None:
        self.append(Attack(f"{self.kind}/{name}", aim, build, slow))

    def __call__(self, name: str, aim: str, *, slow: bool = False) -> Callable[[Build], Build]:
        def gather(build: Build) -> Build:
            self.add(name, aim, build, slow=slow)
            return build

        return gather

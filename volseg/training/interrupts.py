"""Interrupts that wait for the end of an optimizer's step."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Self


class WholeSteps:
    """Lets Ctrl-C, and an order to end, wait until an optimizer's step is counted; a second one doesn't wait.

    Weights of which half were stepped are no state to go on from. Signals are looked after where they come, in the main
    thread, while the block lasts.

    Args:
        optimizer: torch's; another one's steps are not waited for.
    """

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._before: dict[int, Callable[[int, FrameType | None], object]] = {}
        self._waiting: int | None = None
        self._hook: Any = None
        self.is_inside = False
        """Whether a step has begun and is not counted."""

    def __enter__(self) -> Self:
        if hasattr(self._optimizer, "register_step_pre_hook"):
            self._hook = self._optimizer.register_step_pre_hook(self._begin)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        if self._hook is not None:
            self._hook.remove()
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._heard:  # the one before may have put another one in its place
                signal.signal(number, handler)

    def _begin(self, *_: object) -> None:
        self.is_inside = True

    def end(self) -> None:
        """Say that the step is counted; an interrupt that waited comes now."""
        self.is_inside = False
        number, self._waiting = self._waiting, None
        if number is not None:
            self._before[number](number, None)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.is_inside and self._waiting is None:
            self._waiting = number
        else:
            self._before[number](number, frame)

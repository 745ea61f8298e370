"""Listeners to the results of a training run. A new one is a file here and a line in ``LISTENERS``."""

from volseg.training.listeners.checkpoint import Checkpoint
from volseg.training.listeners.curve import Curve
from volseg.training.listeners.listener import Listener, RunView
from volseg.training.listeners.table import Table

LISTENERS: tuple[type[Listener], ...] = (Checkpoint, Table, Curve)
"""Those of every run, in the order in which they hear."""

__all__ = ["LISTENERS", "Checkpoint", "Curve", "Listener", "RunView", "Table"]

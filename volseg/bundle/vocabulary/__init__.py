"""The words that a config may use without being trusted: what ``volseg plan`` writes, and the likes of it.

Each key of a config is of a kind; each target is of one, and takes arguments of certain kinds. Numbers have bounds, far
beyond what anybody trains and far below what stops a machine. A bundle that needs more can be trusted.
"""

from volseg.bundle.vocabulary.kinds import (
    CHANNEL_FILES,
    COPIED_NETWORK,
    FOLD_WEIGHTS,
    IMPORTS,
    KINDS,
    ONE_FILE,
    channel_files,
    fold_weights,
)
from volseg.bundle.vocabulary.targets import COMPONENT_KEYS, KEYS, MODEL_KEY, TARGETS, Arguments

__all__ = [
    "CHANNEL_FILES",
    "COMPONENT_KEYS",
    "COPIED_NETWORK",
    "FOLD_WEIGHTS",
    "IMPORTS",
    "KEYS",
    "KINDS",
    "MODEL_KEY",
    "ONE_FILE",
    "TARGETS",
    "Arguments",
    "channel_files",
    "fold_weights",
]

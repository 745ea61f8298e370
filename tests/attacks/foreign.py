"""A bundle of another's hand, with a module of its own: what needs a person's trust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.attacks.scene import Scene, edit

MODULE = '''\
"""A transform of the bundle's own."""

from monai.transforms import MapTransform

from .numbers import OFFSET


class Shiftd(MapTransform):
    def __call__(self, data):
        found = dict(data)
        for key in self.key_iterator(found):
            found[key] = found[key] + OFFSET
        return found
'''


def foreign_bundle(scene: Scene, name: str = "foreign") -> Path:
    """The sound bundle with a transform of its own in the preprocessing, from ``scripts/shift.py``."""

    def foreign(config: dict[str, Any]) -> None:
        config["preprocessing"]["transforms"].insert(2, {"_target_": "scripts.shift.Shiftd", "keys": "image"})

    bundle = scene.bundle(name, inference=foreign)
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "__init__.py").write_text("")
    (bundle / "scripts" / "numbers.py").write_text("OFFSET = 0.0\n")
    (bundle / "scripts" / "shift.py").write_text(MODULE)
    return bundle


__all__ = ["edit", "foreign_bundle"]

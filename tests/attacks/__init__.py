"""What strangers may send: bundles, weights, images, data sets, DICOM and folders of results, each with its aim.

``ATTACKS`` holds them all by kind and name. A few dozen run in the tests; ``scripts/fuzz/bundles`` runs them all.
"""

from __future__ import annotations

from tests.attacks.attack import Attack
from tests.attacks.configs import CONFIGS
from tests.attacks.dicom import DICOM
from tests.attacks.images import IMAGES
from tests.attacks.interface import PYTHON
from tests.attacks.results import RESULTS
from tests.attacks.sets import SETS
from tests.attacks.sizes import NUMBERS
from tests.attacks.standing import STANDING
from tests.attacks.trusting import TRUST, edits
from tests.attacks.weights import WEIGHTS

ATTACKS: tuple[Attack, ...] = (
    *STANDING, *CONFIGS, *NUMBERS, *WEIGHTS, *TRUST, *IMAGES, *SETS, *DICOM, *RESULTS, *PYTHON,
)  # fmt: skip

__all__ = ["ATTACKS", "Attack", "edits"]

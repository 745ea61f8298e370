"""Plans of data sets that were never there: fingerprints made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from volseg.labels import Label, LabelTable
from volseg.planning.fingerprint import CaseMeasures, Fingerprint
from volseg.planning.plan import Plan, choose
from volseg.planning.wishes import Wishes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volseg.planning.presets import Preset

LABELS = LabelTable((Label(1, "organ"), Label(2, "lesion")))
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


def fingerprint(
    shapes: Sequence[Shape],
    spacings: Sequence[Spacing],
    *,
    channels: tuple[str, ...] = ("MR",),
    volumes_mm3: dict[int, float] | None = None,
    pieces: Sequence[frozenset[int]] | None = None,
    foreground: Sequence[np.ndarray] | None = None,
    zero_share: float = 0.0,
    resampled: int = 0,
) -> Fingerprint:
    values = foreground or [np.linspace(-100, 300, 101, dtype=np.float32) + n for n in range(len(channels))]
    cases = tuple(
        CaseMeasures(
            name=f"case_{number}",
            shape=shape,
            spacing_mm=spacing,
            samples=tuple(one.astype("<f4").tobytes() for one in values),
            zero_share=(zero_share,) * len(channels),
            label_volumes_mm3=volumes_mm3 or {1: 1e5, 2: 1e5},
            single_piece=pieces[number] if pieces else frozenset({1}),
            resampled=number < resampled,
        )
        for number, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True))
    )
    return Fingerprint(cases, channels, channels_in_one_file=False)


def planned(
    shape: Shape, spacing: Spacing, preset: Preset = "fast", labels: LabelTable = LABELS, **more: object
) -> Plan:
    return choose(fingerprint([shape], [spacing], **more), labels, "bundle", Wishes(preset=preset))  # type: ignore[arg-type]


VOLUMES: list[tuple[Shape, Spacing]] = [
    ((35, 51, 35), (1.0, 1.0, 1.0)),  # hippocampus crops
    ((512, 512, 600), (0.8, 0.8, 0.8)),  # a thorax
    ((512, 512, 120), (0.7, 0.7, 5.0)),  # an abdomen in thick slices
    ((320, 320, 20), (0.6, 0.6, 3.6)),  # a prostate
    ((24, 400, 300), (3.3, 0.5, 0.5)),  # a spine, sagittal
    ((20, 400, 400), (1.0, 1.0, 1.0)),  # a thin slab
    ((200, 200, 1), (1.0, 1.0, 1.0)),
    ((3, 5, 4), (2.0, 2.0, 2.0)),
    ((12, 11, 9), (1.0, 1.0, 1.0)),
    ((64, 64, 64), (2e-5, 2e-5, 2e-5)),  # a micrograph
]

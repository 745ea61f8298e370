"""What was measured of a data set, as a table for a person and as plain data beside the choices."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from volseg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from volseg.labels import LabelTable
    from volseg.planning.component import ConfigValue
    from volseg.planning.fingerprint import Fingerprint
    from volseg.planning.plan import Plan

HEADER = ("measured", "least", "median", "most")
PERCENTILES = (0.5, 50.0, 99.5)
RECORD_FORMAT = 1
"""Of ``plan.json``."""
WIDTH = 118
"""Of a line in it that holds numbers."""


def measured_rows(fingerprint: Fingerprint, labels: LabelTable) -> list[tuple[str, str, str, str]]:
    """Rows below ``HEADER``: sizes, spacing, intensities, and each label's cases, volume and pieces.

    Args:
        fingerprint: of the data set.
        labels: whose names are shown.
    """
    cases = fingerprint.cases
    rows = [
        ("size, voxels (R x A x S)", *_spread(np.array([case.shape for case in cases]))),
        ("  without empty margins", *_spread(np.array([case.cropped or case.shape for case in cases]))),
        ("spacing, mm", *_spread(fingerprint.spacings_mm)),
    ]
    for number, channel in enumerate(fingerprint.channels):
        values = np.percentile(fingerprint.foreground(number), PERCENTILES)
        least, median, most = (f"{value:.4g}" for value in values)
        shares = ", ".join(f"{percent:g}" for percent in PERCENTILES)
        rows.append((f"{channel} values in structures ({shares} %)", least, median, most))
    for label in labels.labels:
        volumes = fingerprint.label_volumes_mm3(label.index) / 1000
        name = f"{label.name}, ml, in {len(volumes)} of {counted(len(cases), 'case')}"
        rows.append((name, *_numbers(volumes)) if len(volumes) else (name, "", "", ""))
        pieces = fingerprint.components(label.index)
        if len(pieces) and pieces.max() > 1:
            rows.append(("  pieces", *_numbers(pieces)))
    return rows


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right."""
    cells = [[*row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def plan_record(plan: Plan, fingerprint: Fingerprint) -> dict[str, ConfigValue]:
    """``plan.json``: what was measured, case by case without names, and each choice with its reason."""
    cases = fingerprint.cases
    channels: list[ConfigValue] = []
    for number, name in enumerate(fingerprint.channels):
        values = fingerprint.foreground(number).astype(np.float64)
        percentiles: ConfigValue = {
            f"{percent:g}": _rounded(value)
            for percent, value in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)
        }
        channels.append(
            {
                "name": name,
                "foreground_intensity_percentiles": percentiles,
                "foreground_intensity_mean": _rounded(values.mean()),
                "foreground_intensity_standard_deviation": _rounded(values.std()),
                "median_share_of_zero_voxels": _rounded(fingerprint.zero_share(number)),
            }
        )
    labels: list[ConfigValue] = [
        {
            "index": label.index,
            "name": label.name,
            "volumes_mm3": [_rounded(case.label_volumes_mm3.get(label.index, 0.0)) for case in cases],
            "component_counts": [(case.components or {}).get(label.index, 0) for case in cases],
        }
        for label in plan.labels.labels
    ]
    orientations = Counter(case.orientation for case in cases)
    return {
        "format": RECORD_FORMAT,
        "preset": plan.preset,
        "chosen": plan.wishes.to_plain(),
        "choices": choices_record(plan.reasons),
        "warnings": list(plan.warnings),
        "measured": {
            "number_of_cases": len(cases),
            "axes": "R, A, S",
            "shapes_voxels": [list(case.shape) for case in cases],
            "shapes_without_margins_voxels": [list(case.cropped or case.shape) for case in cases],
            "spacings_mm": [[_rounded(step) for step in case.spacing_mm] for case in cases],
            "orientation_counts": {name: orientations[name] for name in sorted(orientations)},
            "number_of_resampled_cases": sum(case.resampled for case in cases),
            "channels": channels,
            "labels": labels,
        },
    }


def choices_record(reasons: Iterable[tuple[str, str]]) -> list[ConfigValue]:
    """What was chosen and why, as ``plan.json`` keeps it."""
    return [{"choice": choice, "reason": reason} for choice, reason in reasons]


def recorded_choices(record: Mapping[str, ConfigValue]) -> tuple[tuple[str, str], ...]:
    """What a ``plan.json`` says was chosen and why; what a person made of it that is no choice is passed over."""
    rows = record.get("choices")
    plain = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    told = [(row.get("choice"), row.get("reason")) for row in plain]
    return tuple((choice, why) for choice, why in told if isinstance(choice, str) and isinstance(why, str))


def readable(value: ConfigValue, indent: int = 0) -> str:
    """Plain data as JSON for people: numbers that belong together, such as a shape, on one line, long lists wrapped."""
    inner, outer = " " * (indent + 1), " " * indent
    if isinstance(value, dict) and value:
        rows = (f"{inner}{json.dumps(name)}: {readable(one, indent + 1)}" for name, one in value.items())
        return "{\n" + ",\n".join(rows) + f"\n{outer}}}"
    if isinstance(value, list) and value:
        if not any(isinstance(one, (dict, list, str)) for one in value):
            return textwrap.fill(json.dumps(value), WIDTH, subsequent_indent=inner)
        return "[\n" + ",\n".join(f"{inner}{readable(one, indent + 1)}" for one in value) + f"\n{outer}]"
    return json.dumps(value)


def _spread(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> tuple[str, str, str]:
    """Least, median and most of each axis (cases, 3)."""
    rows = (function(values.astype(np.float64), axis=0) for function in (np.min, np.median, np.max))
    least, median, most = (" x ".join(f"{value:.4g}" for value in row) for row in rows)
    return least, median, most


def _numbers(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> tuple[str, str, str]:
    found = [float(function(values.astype(np.float64))) for function in (np.min, np.median, np.max)]
    least, median, most = (f"{value:.0f}" if value >= 1000 else f"{value:.3g}" for value in found)
    return least, median, most


def _rounded(value: float) -> float:
    return float(f"{float(value):.6g}")

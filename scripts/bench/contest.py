"""What the benchmarks of masks share: generated masks, and contenders in turn, each in a fresh process."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

Answer = np.ndarray


@dataclass(frozen=True)
class Contender:
    """One way to the answer, and the memory order that it likes best: volseg's is that of a NIfTI file."""

    answer: Callable[[np.ndarray, np.ndarray], Answer]
    order: Literal["C", "F"] = "C"


def make_masks(shape: tuple[int, int, int], labels: int) -> tuple[np.ndarray, np.ndarray]:
    """A reference of ``labels`` balls, and a prediction that is off by a voxel or two and strewn with crumbs.

    Both (i, j, k) uint8.
    """
    random = np.random.default_rng(0)
    reference = np.zeros(shape, np.uint8)
    for label in range(1, labels + 1):
        centre = random.uniform(0.15, 0.85, 3) * shape
        radius = random.uniform(0.03, 0.12) * shape[0]
        box = tuple(slice(max(0, int(c - radius - 1)), int(c + radius + 2)) for c in centre)
        part = reference[box]
        axes = np.ogrid[tuple(slice(b.start, b.start + size) for b, size in zip(box, part.shape, strict=True))]
        part[sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) < radius**2] = label
    predicted = np.roll(reference, (2, 1, 1), (0, 1, 2))
    places = random.integers(0, shape, (reference.size // 4000, 3))
    predicted[tuple(places.T)] = random.integers(0, labels + 1, len(places))
    return predicted, reference


def run(title: str, contenders: Mapping[str, Contender], agree: Callable[[Answer, Answer], str]) -> int:
    """Run each contender in a process of its own and print times, ratios to the first, and peak memory."""
    arguments = _arguments(title)
    if arguments.contender:
        _compete(contenders[arguments.contender], arguments)
        return 0
    shape = (arguments.size, arguments.size, arguments.slices)
    print(f"{title}: {'x'.join(map(str, shape))} voxels, {arguments.labels} labels, best of {arguments.rounds}")
    wall_s: dict[str, list[float]] = {name: [] for name in contenders}
    cpu_s: dict[str, list[float]] = {name: [] for name in contenders}
    peaks = dict.fromkeys(contenders, 0.0)
    answers = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for name in contenders:
                path = Path(folder) / "answer.npz"
                command = [sys.executable, *sys.argv, "--contender", name, "--answer", str(path)]
                subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
                with np.load(path) as found:
                    wall_s[name].append(float(found["wall_s"]))
                    cpu_s[name].append(float(found["cpu_s"]))
                    peaks[name] = max(peaks[name], float(found["peak_mib"]))
                    answers[name] = found["answer"]
    first = next(iter(contenders))
    print(f"{'':38s} {'wall s':>8s} {'ratio':>7s} {'CPU s':>8s} {'ratio':>7s} {'MiB above the input':>20s}")
    for name in contenders:
        wall, cpu = min(wall_s[name]), min(cpu_s[name])
        ratios = wall / min(wall_s[first]), cpu / min(cpu_s[first])
        print(f"{name:38s} {wall:8.2f} {ratios[0]:7.1f} {cpu:8.2f} {ratios[1]:7.1f} {peaks[name]:20.0f}", end="")
        print("" if name == first else f"   {agree(answers[first], answers[name])}")
    return 0


def _arguments(title: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--size", type=int, default=224, help="voxels along i and j")
    parser.add_argument("--slices", type=int, default=128, help="voxels along k")
    parser.add_argument("--labels", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _compete(contender: Contender, arguments: argparse.Namespace) -> None:
    small = make_masks((32, 32, 16), 2)
    contender.answer(*small)  # imports what it needs
    masks = make_masks((arguments.size, arguments.size, arguments.slices), arguments.labels)
    predicted, reference = (np.asarray(mask, order=contender.order) for mask in masks)
    del masks
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here (Linux)
    before = _status("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    answer = contender.answer(predicted, reference)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    np.savez(arguments.answer, wall_s=wall, cpu_s=cpu, peak_mib=_status("VmHWM") - before, answer=answer)


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

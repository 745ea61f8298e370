"""Folders of results that a stranger has prepared: links, FIFOs, and ledgers that claim files of others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.attacks.attack import Attacks
from tests.attacks.dicom import write_series
from tests.attacks.scene import Command, Scene
from tests.attacks.sets import FORGING, ledger

RESULTS = Attacks("results")

TARGETS = ("../../outside/victim/keep.nii.gz", "../../outside/victim/keep.txt", "../../outside/victim/case_0.nii.gz")
LEDGERS = ("prediction.json", "conversion.json", "evaluation.json", "postprocessing.json", "training.json")

Stage = Callable[[Scene, Path], object]


def staged(name: str, aim: str) -> Callable[[Stage], Stage]:
    """A folder of results as this leaves it, to which every verb writes."""

    def gather(stage: Stage) -> Stage:
        def build(scene: Scene) -> list[Command]:
            scene.out.mkdir()
            stage(scene, scene.out)
            bundle, data = scene.bundle(), scene.data()
            write_series(scene.work / "dicom")
            masks = scene.work / "masks"
            shutil.copytree(data / "labelsTr", masks)
            images = data / "imagesTr"
            return [
                scene.predict(bundle, images),
                scene.predict(bundle, scene.work / "dicom", "--overwrite"),
                scene.postprocess(masks, "--fill-holes", "all", "--overwrite"),
                scene.convert(scene.work / "dicom"),
                scene.evaluate(masks, data, "--overwrite"),
            ]

        RESULTS.add(name, aim, build)
        return stage

    return gather


FILES = ("case_0.nii.gz", "case_1.nii.gz", "labels.txt", "evaluation.csv", "dataset.json", *LEDGERS)
FOLDERS = ("images", "imagesTr", "imagesTs", "labelsTr", "configs", "models", "docs", "runs")


@staged("files-are-links", "files that will be written are links to the person's own")
def _(scene: Scene, out: Path) -> None:
    # A link in the place of dataset.json is read on purpose: collections are kept so.
    for name in FILES:
        if name == "dataset.json":
            continue
        (out / name).symlink_to(scene.victim / ("keep.nii.gz" if name.endswith(".gz") else "keep.txt"))


@staged("files-are-links-to-new-ones", "files that will be written are links to where none are yet")
def _(scene: Scene, out: Path) -> None:
    for name in FILES:
        (out / name).symlink_to(scene.victim / f"new-{name}")


@staged("files-are-hard-links", "files that will be written are hard links to the person's own")
def _(scene: Scene, out: Path) -> None:
    for name in FILES:
        (out / name).hardlink_to(scene.victim / ("keep.nii.gz" if name.endswith(".gz") else "keep.txt"))


@staged("folders-are-links", "folders that will be written to are links outside")
def _(scene: Scene, out: Path) -> None:
    for name in FOLDERS:
        (out / name).symlink_to(scene.victim)


@staged("folders-are-links-by-dots", "the same by relative links")
def _(scene: Scene, out: Path) -> None:
    for name in FOLDERS:
        (out / name).symlink_to("../../outside/victim")


@staged("files-are-fifos", "files that will be written are FIFOs")
def _(scene: Scene, out: Path) -> None:
    for name in FILES:
        os.mkfifo(out / name)


@staged("files-are-devices", "files that will be written are links to devices")
def _(scene: Scene, out: Path) -> None:
    for name in FILES:
        (out / name).symlink_to("/dev/zero")


@staged("files-are-folders", "files that will be written are folders with something in them")
def _(scene: Scene, out: Path) -> None:
    for name in FILES:
        (out / name).mkdir()
        (out / name / "x").write_text("x")


@staged("temporary-names-are-links", "names that a writer may use for a while are links outside")
def _(scene: Scene, out: Path) -> None:
    for name in FILES:
        for form in (
            f".{name}.tmp",
            f"{name}.tmp",
            f".{name}.part",
            f"{name}.part",
            f"{name}~",
            f".{name}",
            f".tmp-{name}",
            ".lock",
            "lock",
        ):
            if not os.path.lexists(out / form):
                (out / form).symlink_to(scene.victim / "keep.txt")


def _ledgers(content: Callable[[Scene], Any]) -> Stage:
    def stage(scene: Scene, out: Path) -> None:
        for name in LEDGERS:
            value = content(scene)
            (out / name).write_text(value if isinstance(value, str) else json.dumps(value))

    return stage


def _absolute(scene: Scene) -> Any:
    return ledger(scene, *(str(scene.victim / Path(target).name) for target in TARGETS))


CLAIMS: dict[str, tuple[str, Callable[[Scene], Any]]] = {
    "dots": ("ledgers that claim files outside by dots", lambda s: ledger(s, *TARGETS)),
    "absolute": ("ledgers that claim files outside by their whole path", _absolute),
    "within": ("ledgers that claim files outside by a path through the folder", lambda s: ledger(
        s, *(f"images/../{target}" for target in TARGETS))),
    "patterns": ("ledgers that claim patterns", lambda s: ledger(s, "../../outside/victim/*", "**", "*")),
    "backslashes": ("ledgers that claim by backslashes", lambda s: ledger(s, *(t.replace("/", "\\") for t in TARGETS))),
    "nul": ("ledgers that claim names with a NUL", lambda s: ledger(s, *(t + "\0" for t in TARGETS))),
    "folders": ("ledgers that claim folders", lambda s: ledger(s, "../../outside/victim", "../..", ".", "", "/")),
    "forging": ("ledgers whose texts forge lines", lambda s: json.loads(
        json.dumps(ledger(s, "case_0.nii.gz")).replace('"case_0"', json.dumps(FORGING)).replace(
            '"done"', json.dumps(FORGING)))),
    "deep": ("ledgers of a hundred thousand nested lists", lambda _: "[" * 100_000 + "]" * 100_000),
    "wrong-kinds": ("ledgers whose values are of other kinds", lambda _: {
        "format": "x", "outcomes": {"a": [1]}, "skipped_kinds": 5, "provenance": [None]}),
    "numbers": ("ledgers of numbers that no machine holds", lambda _: '{"format": 1e400, "outcomes": [' + "9" * 5000 + "]}"),
    "many": ("ledgers of ten thousand outcomes", lambda s: ledger(s, "x") | {
        "outcomes": ledger(s, "x")["outcomes"] * 5_000}),
    "another-form": ("ledgers of a later form", lambda s: ledger(s, *TARGETS) | {"format": 99}),
    "text": ("ledgers that are no JSON", lambda _: "\0\xff not JSON"),
}  # fmt: skip
for _name, (_aim, _content) in CLAIMS.items():
    staged(f"ledger-{_name}", _aim)(_ledgers(_content))


@staged("ledger-behind-a-link", "a ledger that claims files behind a linked folder")
def _(scene: Scene, out: Path) -> None:
    (out / "through").symlink_to(scene.victim)
    (out / "images").symlink_to(scene.victim)
    _ledgers(lambda s: ledger(s, "through/keep.nii.gz", "through/keep.txt", "images/case_0.nii.gz"))(scene, out)


# What training writes into a bundle.

RUNS = ("runs", "runs/fold_0", "models", "runs/fold_0/last.pt", "runs/fold_0/best.pt", "runs/fold_0/history.csv",
        "runs/fold_0/curve.png", "runs/fold_0/training.json", "runs/folds.json", "models/model.pt",
        "models/published.json", "runs/fold_0/final.pt")  # fmt: skip


def _trained(place: str, *options: str) -> Callable[[Scene], list[Command]]:
    def build(scene: Scene) -> list[Command]:
        scene.data()
        bundle = scene.bundle()
        path = bundle / place
        target = scene.victim if path.is_dir() else scene.victim / "keep.txt"
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.symlink_to(target)
        return [scene.train(bundle, "--data", scene.work / "data", *options), scene.predict(bundle)]

    return build


for _place in RUNS:
    for _options in (("--epochs", "2"), ("--fresh", "--publish")):
        _which = "fresh" if "--fresh" in _options else "resumed"
        RESULTS.add(
            f"link-at-{_place.replace('/', '.')}-{_which}", f"{_place} is a link outside", _trained(_place, *_options)
        )


def _forged(file: str, content: Callable[[Scene], Any]) -> Callable[[Scene], list[Command]]:
    def build(scene: Scene) -> list[Command]:
        scene.data()
        bundle = scene.bundle()
        value = content(scene)
        (bundle / file).write_text(value if isinstance(value, str) else json.dumps(value))
        return [
            scene.check(bundle),
            scene.train(bundle, "--data", scene.work / "data", "--epochs", "2"),
            scene.predict(bundle, None, "--fold", "0"),
            scene.predict(bundle),
        ]  # fmt: skip

    return build


FORGED_FILES: dict[str, tuple[str, Callable[[Scene], Any]]] = {
    "folds-of-elsewhere": ("runs/folds.json", lambda s: [
        {"train": ["case_0", "../../outside/secret"], "val": [str(s.outside / "secret"), "../../../outside/secret"]}]),
    "folds-that-forge": ("runs/folds.json", lambda _: [{"train": [FORGING, "case_0"], "val": [FORGING]}]),
    "folds-deep": ("runs/folds.json", lambda _: "[" * 100_000 + "]" * 100_000),
    "folds-many": ("runs/folds.json", lambda _: [{"train": ["case_0"], "val": ["case_1"]}] * 100_000),
    "folds-of-wrong-kinds": ("runs/folds.json", lambda _: {"train": 5}),
    "published-of-elsewhere": ("models/published.json", lambda s: {
        "run": "../../../outside/victim", "sha256": "x", "replaces": str(s.outside), "score": 1e400, "replaces_run": "/"}),
    "published-that-forges": ("models/published.json", lambda _: {
        "run": FORGING, "sha256": FORGING, "replaces": FORGING, "score": 0.5, "replaces_run": FORGING}),
    "training-that-forges": ("runs/fold_0/training.json", lambda _: {"run": FORGING, "cases": {"training": [FORGING]}, "format": 1}),
    "training-deep": ("runs/fold_0/training.json", lambda _: "[" * 100_000 + "]" * 100_000),
    "history-that-forges": ("runs/fold_0/history.csv", lambda _: "epoch,loss\n1,x\r\nFORGED,1\n" * 10),
    "history-long": ("runs/fold_0/history.csv", lambda _: "1," * 2_000_000),
    "license-that-forges": ("LICENSE", lambda _: "FORGED\n" * 10),
}  # fmt: skip
for _name, (_file, _value) in FORGED_FILES.items():
    RESULTS.add(f"forged-{_name}", f"a forged {_file}", _forged(_file, _value))

"""Data sets whose tables, sidecars, names and links lead elsewhere or forge what is printed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.attacks.attack import Attacks
from tests.attacks.scene import Command, Scene, edit

SETS = Attacks("data")
FORGING = "a\nFORGED all is well"


def every_verb(scene: Scene, data: Path, *, few: bool) -> list[Command]:
    """Give the data set to the verbs; a few of them that read all of it where the same code answers."""
    bundle = scene.bundle()
    commands = [
        scene.check(data),
        scene.predict(bundle, data),
        scene.evaluate(data / "labelsTr", data),
        scene.plan(data),
    ]
    if few:
        return commands
    clean = scene.work / "clean"
    return [
        *commands,
        scene.train(bundle, "--data", data, "--fresh"),
        scene.volseg("postprocess", data / "labelsTr", clean, "--fill-holes", "all", writes=(clean,)),
        scene.convert(data),
    ]


Stage = Callable[[Scene, Path], object]


def staged(name: str, aim: str) -> Callable[[Stage], Stage]:
    def gather(stage: Stage) -> Stage:
        def build(scene: Scene) -> list[Command]:
            data = scene.data()
            stage(scene, data)
            return every_verb(scene, data, few=name.startswith(("list-", "name-")))

        SETS.add(name, aim, build)
        return stage

    return gather


def _listed(image: str, **more: Any) -> Callable[[Scene, Path], None]:
    """dataset.json in the Decathlon's form with such an image in its lists."""

    def stage(scene: Scene, data: Path) -> None:
        def spelled(text: str) -> str:
            return text.replace("OUTSIDE", str(scene.outside))

        listed = [{"image": f"./imagesTr/case_{n}.nii.gz", "label": f"./labelsTr/case_{n}.nii.gz"} for n in range(3)]
        listed.append({"image": spelled(image), "label": spelled(image)})
        content = {
            "name": "x", "tensorImageSize": "3D", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "a", "2": "b"},
            "numTraining": 4, "numTest": 1, "training": listed, "test": [spelled(image)], "validation": listed[-1:],
        } | more  # fmt: skip
        (data / "dataset.json").write_text(json.dumps(content))

    return stage


PATHS = {
    "absolute": "OUTSIDE/secret.nii.gz", "dots": "../../outside/secret.nii.gz", "dots-within": "imagesTr/../../../outside/secret.nii.gz",
    "home": "~/../outside/secret.nii.gz", "environment": "$CAMPAIGN_SECRET/x.nii.gz", "file-address": "file://OUTSIDE/secret.nii.gz",
    "web-address": "http://127.0.0.1:9/secret.nii.gz", "glob": "../../outside/*.nii.gz", "glob-of-all": "/**/*.nii.gz",
    "backslashes": "..\\..\\outside\\secret.nii.gz", "nul": "OUTSIDE/secret.nii.gz\0.nii.gz", "device": "/dev/zero",
    "folder": "OUTSIDE", "standard-input": "-", "descriptor": "/dev/fd/0", "itself": "../data/../../outside/secret.nii.gz",
    "table": "OUTSIDE/secret.json", "command": "|sh -c 'touch canary'", "long": "x" * 100_000, "forging": FORGING,
    "option": "--overwrite", "archive": "OUTSIDE/secret.nii.gz::x", "processes": "/proc/self/root/../OUTSIDE/secret.nii.gz",
}  # fmt: skip
for _name, _path in PATHS.items():
    staged(f"list-{_name}", f"dataset.json lists {_path[:60]!r} as an image")(_listed(_path))


def _table(**changes: Any) -> Callable[[Scene, Path], None]:
    def stage(scene: Scene, data: Path) -> None:
        edit(data / "dataset.json", lambda content: content.update(
            json.loads(json.dumps(changes).replace("OUTSIDE", str(scene.outside)))))  # fmt: skip

    return stage


TABLES: dict[str, dict[str, Any]] = {
    "ending-of-dots": {"file_ending": "/../../../outside/secret.nii.gz"},
    "ending-of-nothing": {"file_ending": ""},
    "ending-of-a-glob": {"file_ending": "*"},
    "reader-of-code": {"overwrite_image_reader_writer": "os.system", "transpose_forward": "$exec"},
    "labels-that-forge": {"labels": {"background": 0, FORGING: 1, "b\r\nFORGED": 2}},
    "labels-of-itksnap": {"labels": {"background": 0, '" 1 1 1\n    9 0 0 0 1 1 1 "FORGED': 1, "\x1b[2J\x1b]0;x\x07": 2}},
    "labels-of-markup": {"labels": {"background": 0, "<script>alert(1)</script>|x|": 1, "=cmd|' /C calc'!A0": 2}},
    "labels-of-direction": {"labels": {"background": 0, "liver\u202erevil": 1, "\u2028FORGED": 2}},
    "labels-twice": {"labels": {"background": 0, "a": 1, "A": 1, "а": 2}},
    "labels-swapped-with-background": {"labels": {"background": 1, "shell": 0}},
    "labels-of-huge-numbers": {"labels": {"background": 0, "a": 10**30, "b": -5}},
    "labels-of-no-numbers": {"labels": {"background": 0, "a": float("nan"), "b": 1.5}},
    "labels-a-million": {"labels": {f"l{n}": n for n in range(200_000)}},
    "labels-of-regions": {"labels": {"background": 0, "a": [1] * 100_000}, "regions_class_order": [1]},
    "channels-that-forge": {"channel_names": {"0": FORGING}},
    "channels-a-million": {"channel_names": {str(n): "T1" for n in range(200_000)}},
    "of-wrong-kinds": {"labels": [1, [2]], "channel_names": 5, "file_ending": {"a": 1}, "training": "x"},
    "that-lies-of-numbers": {"numTraining": 10**18, "numTest": -1},
    "nested": {"labels": json.loads("[" * 500 + "]" * 500)},
    "dataset-of-elsewhere": {"dataset": {"evil": {"images": ["OUTSIDE/secret.nii.gz"], "label": "OUTSIDE/secret.nii.gz"}}},
}  # fmt: skip
for _name, _changes in TABLES.items():
    staged(f"table-{_name}", "a dataset.json of nonsense")(_table(**_changes))


@staged("table-deep", "dataset.json of a hundred thousand nested lists")
def _(scene: Scene, data: Path) -> None:
    (data / "dataset.json").write_text("[" * 100_000 + "]" * 100_000)


@staged("table-long", "dataset.json of 500 MB of blanks")
def _(scene: Scene, data: Path) -> None:
    with (data / "dataset.json").open("wb") as file:
        file.truncate(500 * 2**20)


@staged("table-is-a-fifo", "dataset.json that is a FIFO")
def _(scene: Scene, data: Path) -> None:
    (data / "dataset.json").unlink()
    os.mkfifo(data / "dataset.json")


@staged("table-is-a-link", "dataset.json that is a link outside")
def _(scene: Scene, data: Path) -> None:
    (data / "dataset.json").unlink()
    (data / "dataset.json").symlink_to(scene.outside / "secret.json")


@staged("table-is-a-device", "dataset.json that is a link to /dev/zero")
def _(scene: Scene, data: Path) -> None:
    (data / "dataset.json").unlink()
    (data / "dataset.json").symlink_to("/dev/zero")


@staged("folders-are-links", "imagesTr and labelsTr that are links outside")
def _(scene: Scene, data: Path) -> None:
    for name in ("imagesTr", "labelsTr"):
        shutil.rmtree(data / name)
        (data / name).symlink_to(scene.outside)


@staged("folders-are-circles", "folders that are links to their own parents")
def _(scene: Scene, data: Path) -> None:
    (data / "imagesTr" / "a").symlink_to("..")
    (data / "imagesTs").symlink_to(".")
    (data / "labelsTs").symlink_to("imagesTs/labelsTs")


@staged("folders-are-fifos", "FIFOs where folders are expected")
def _(scene: Scene, data: Path) -> None:
    os.mkfifo(data / "imagesTs")
    shutil.rmtree(data / "labelsTr")
    os.mkfifo(data / "labelsTr")


NAMES = {
    "forging": "a\nFORGED all is well", "forging-return": "a\rFORGED", "escape": "\x1b[2J\x1b]0;x\x07", "option": "--overwrite",
    "options": "-rf", "command": "$(touch canary)", "command-too": ";touch canary;", "direction": "a\u202egnp", "line": "a\u2028FORGED",
    "next-line": "a\x85FORGED", "glob": "[a-z]*?", "glob-of-outside": "..*", "percent": "%s%n%d", "braces": "{0.__class__}",
    "markup": "[bold]FORGED[@click=exit]", "html": "<script>alert(1)<script>", "dots": "...", "blank": " ", "blanks": "a  b ",
    "quotes": "a\"b'c`d", "backslash": "a\\nFORGED", "long": "x" * 240, "zero-width": "case_0\u200b", "look-alike": "саse_0",
    "upper": "CASE_0", "composed": "é", "bytes": b"\xff\xfe\xc3".decode(errors="surrogateescape"), "formula": "=1+1",
    "comma": "a,b;c\td", "null-device": "nul", "hidden": ".hidden", "tilde": "~root", "expression": "$__import__('os')", "reference": "@network",
    "macro": "%secret", "hash": "a#b::c",
}  # fmt: skip
for _name, _file in NAMES.items():

    @staged(f"name-{_name}", f"a case of the name {_file[:40]!r}")
    def _(scene: Scene, data: Path, file: str = _file) -> None:
        for folder, source in (("imagesTr", "case_1"), ("labelsTr", "case_1"), ("imagesTs", "case_2")):
            (data / folder).mkdir(exist_ok=True)
            kind = "imagesTr" if folder != "labelsTr" else folder
            shutil.copy(data / kind / f"{source}.nii.gz", data / folder / f"{file}.nii.gz")
            # A damaged one, whose fault is told by name.
            (data / folder / f"{file}x.nii.gz").write_bytes(b"damaged")
        (data / "imagesTr" / f"{file}.json").write_text(json.dumps({"a": "x\nFORGED"}))
        del scene


@staged("sidecars", "sidecars of nonsense, of paths and of a hundred thousand nested lists")
def _(scene: Scene, data: Path) -> None:
    folder = data / "imagesTr"
    (folder / "case_0.json").write_text("[" * 100_000 + "]" * 100_000)
    (folder / "case_1.json").write_text(json.dumps({
        "grid": {"shape": [10**9] * 3, "affine": "x"}, "modality": FORGING, "patient": FORGING, "study": "../../x",
        "warnings": [FORGING, {"code": FORGING, "message": FORGING}], "source": str(scene.outside / "secret.txt"),
        "notes": [FORGING] * 10, "image": str(scene.outside / "secret.nii.gz")}))  # fmt: skip
    (folder / "case_2.json").symlink_to(scene.outside / "secret.json")


@staged("ledger-of-the-conversion", "conversion.json that names files outside as its own")
def _(scene: Scene, data: Path) -> None:
    (data / "conversion.json").write_text(json.dumps(ledger(scene, "../../outside/victim/keep.nii.gz")))


@staged("folds-of-elsewhere", "splits_final.json and folds.json with paths and lies")
def _(scene: Scene, data: Path) -> None:
    split = [{"train": ["case_0", "../../outside/secret", FORGING], "val": [str(scene.outside / "secret"), "case_1"]}]
    for name in ("splits_final.json", "folds.json", "splits.json"):
        (data / name).write_text(json.dumps(split))


@staged("many-cases", "five thousand empty files")
def _(scene: Scene, data: Path) -> None:
    for number in range(5_000):
        (data / "imagesTr" / f"z{number}.nii.gz").touch()


@staged("deep-folders", "five hundred folders in each other")
def _(scene: Scene, data: Path) -> None:
    folder = data / "imagesTr"
    for _ in range(300):
        folder = folder / "d"
    folder.mkdir(parents=True)


@staged("folders-under-names-of-images", "folders named as images")
def _(scene: Scene, data: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        (data / folder / "evil.nii.gz").mkdir()
        (data / folder / "evil.nii.gz" / "x").write_text("x")


@staged("links-to-images-outside", "images and masks that are links outside")
def _(scene: Scene, data: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        (data / folder / "evil.nii.gz").symlink_to("../../../outside/secret.nii.gz")


def ledger(scene: Scene, *outputs: str) -> dict[str, Any]:
    """A ledger of an earlier run that claims these files as its outputs, by their true sizes and digests."""
    import xxhash

    outcomes = []
    for output in outputs:
        path = scene.victim / Path(output).name
        content = path.read_bytes() if path.is_file() else b""
        made = {"size": len(content), "xxh3": xxhash.xxh3_128_hexdigest(content)}
        outcomes.append({
            "case": "case_0", "status": "done", "code": "done", "outputs": [output],
            "made": {"input": "0" * 64, "method": "0" * 64, "files": {output: made}},
        })  # fmt: skip
        outcomes.append(outcomes[-1] | {"case": f"../../outside/victim/{Path(output).stem}"})
    return {"format": 1, "outcomes": outcomes, "skipped_kinds": {}, "provenance": {
        "command": "predict", "options": {}, "versions": {}, "checksums": {}, "device": None, "seed": None}}  # fmt: skip

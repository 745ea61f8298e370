"""The same through Python: what a program that calls volseg may be given."""

from __future__ import annotations

import os

from tests.attacks.attack import Attacks
from tests.attacks.images import MHD, NRRD
from tests.attacks.scene import Command, Scene, edit
from tests.attacks.weights import pickled

PYTHON = Attacks("python")

CALL = """
import volseg
try:
    found = {call}
except volseg.VolsegError as error:
    print(type(error).__name__, error.code, error)
else:
    print(type(found).__name__)
"""


def called(scene: Scene, call: str) -> Command:
    return scene.python(CALL.format(call=call))


@PYTHON("read-headers", "volseg.read of headers that name files outside")
def _(scene: Scene) -> list[Command]:
    (scene.work / "a.mhd").write_text(f"{MHD}ElementDataFile : {scene.outside}/secret.raw\n")
    (scene.work / "a.nhdr").write_text(f"{NRRD}data file: {scene.outside}/secret.raw\n")
    return [
        called(scene, f"volseg.read({str(scene.work / name)!r}).array.tobytes() and print(1)")
        for name in ("a.mhd", "a.nhdr")
    ]


@PYTHON("read-devices", "volseg.read of FIFOs and devices")
def _(scene: Scene) -> list[Command]:
    os.mkfifo(scene.work / "a.nii.gz")
    (scene.work / "b.nii.gz").symlink_to("/dev/zero")
    (scene.work / "c.mha").symlink_to("/dev/tty")
    return [called(scene, f"volseg.read({str(scene.work / name)!r})") for name in ("a.nii.gz", "b.nii.gz", "c.mha")]


@PYTHON("predict-with-code", "volseg.predict of a volume with a bundle that would run code")
def _(scene: Scene) -> list[Command]:
    bundle = scene.bundle(inference={"device": f"${scene.marker}"})
    image = scene.image()
    return [
        called(scene, f"volseg.predict({str(bundle)!r}, volseg.read({str(image)!r}))"),
        called(scene, f"volseg.predict({str(bundle)!r}, {str(image)!r}, {str(scene.out)!r})"),
        called(scene, f"volseg.check({str(bundle)!r})"),
        called(scene, f"volseg.train({str(bundle)!r}, epochs=1)"),
    ]


@PYTHON("predict-with-pickles", "volseg.predict with weights that run code")
def _(scene: Scene) -> list[Command]:
    bundle = scene.bundle()
    (bundle / "models" / "model.pt").write_bytes(pickled(scene))
    image = scene.image()
    return [called(scene, f"volseg.predict({str(bundle)!r}, volseg.read({str(image)!r}))")]


@PYTHON("predictor", "volseg.load of a bundle that would run code")
def _(scene: Scene) -> list[Command]:
    bundle = scene.bundle(inference={"inferer": {"_target_": "os.system", "command": scene.shell}})
    return [called(scene, f"volseg.load({str(bundle)!r})")]


@PYTHON("trust-in-memory", "volseg.trust called without a yes")
def _(scene: Scene) -> list[Command]:
    bundle = scene.bundle(inference={"device": f"${scene.marker}"})
    image = scene.image()
    return [
        called(scene, f"volseg.check({str(bundle)!r})"),
        called(scene, f"volseg.predict({str(bundle)!r}, {str(image)!r}, {str(scene.out)!r})"),
    ]


@PYTHON("verbs-of-links", "the verbs called on data sets with links and FIFOs")
def _(scene: Scene) -> list[Command]:
    data = scene.data()
    edit(data / "dataset.json", {"labels": {"background": 0, "a\nFORGED": 1}})
    (data / "labelsTr" / "evil.nii.gz").symlink_to("/dev/zero")
    os.mkfifo(data / "imagesTr" / "evil.nii.gz")
    masks = data / "labelsTr"
    return [
        called(scene, f"volseg.check({str(data)!r})"),
        called(scene, f"volseg.evaluate({str(masks)!r}, {str(data)!r})"),
        called(scene, f"volseg.postprocess({str(masks)!r}, {str(scene.out)!r}, fill_holes='all')"),
        called(scene, f"volseg.convert({str(data)!r}, {str(scene.out)!r})"),
    ]

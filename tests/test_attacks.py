"""A part of the campaign of scripts/fuzz/bundles, and that its judges see what they are to see."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.attacks import ATTACKS, Attack, edits
from tests.attacks.judging import make_base, try_attack
from tests.attacks.running import Runner
from tests.attacks.weights import SPOILED
from tests.conftest import uncounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.attacks.judging import Verdict
    from tests.attacks.scene import Base, Command, Scene

ROOT = Path(__file__).parent.parent
PART = (
    "config/expression-at-network_def.in_channels", "config/expression-in-train-optimizer.params",
    "config/spelled-through-reference", "config/target-os.system", "config/target-scripts.evil.Evil",
    "config/mode-debug", "config/macro-of-a-file-outside", "config/saver-by-reference-and-link",
    "config/saver-in-nested-compose", "config/second-config-json", "config/text-yaml-python-apply",
    "config/text-yaml-billion-laughs", "number/unet-of-8192-features", "number/workers-5000",
    "number/placed-network-is-a-dataset", "weights/archive-pickle", "weights/legacy", "weights/nan",
    "weights/archive-bomb-of-data", "weights/link-to-a-device", "trust/after-unchecked-bytecode",
    "trust/after-code-of-a-module", "trust/stand-in-of-a-library", "trust/without-yes", "image/mhd-colon",
    "image/mhd-behind-comments", "image/nrrd-behind-comments", "image/nrrd-list", "image/nifti-huge-dims",
    "image/nifti-gzip-bomb", "image/mhd-of-a-fifo", "image/mhd-of-a-device", "data/list-dots", "dicom/zip-slip",
    "dicom/structures-that-forge", "results/link-at-runs.fold_0-fresh", "python/read-headers",
)  # fmt: skip
EDITS = 5


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = Runner(tmp_path_factory.mktemp("warm"), traced=False)
    yield runner
    runner.close()


@pytest.fixture
def attempt(tmp_path: Path, base: Base, runner: Runner) -> Callable[[Attack], Verdict]:
    return lambda attack: try_attack(attack, runner, base, tmp_path)


def test_a_part_of_the_attacks_holds(attempt: Callable[[Attack], Verdict]) -> None:
    chosen = {attack.name: attack for attack in ATTACKS if attack.name in PART}
    assert set(chosen) == set(PART)
    assert {name: hits for name, attack in chosen.items() if (hits := attempt(attack).hits)} == {}


def test_one_byte_edits_after_trust_revoke_it(attempt: Callable[[Attack], Verdict]) -> None:
    verdict = attempt(edits(EDITS, seed=1))
    assert verdict.hits == {}
    codes = [ran.code for ran in verdict.ran]
    # Untrusted, then trusted; after the edits were taken back trusted as before.
    assert (codes[:2], codes[-1]) == ([3, 0], 0)
    assert len(codes) == EDITS + 3
    assert set(codes[2:-1]) <= {2, 3}


def test_there_are_attacks_of_all_kinds() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert len(ATTACKS) >= 160
    kinds = Counter(attack.kind for attack in ATTACKS)
    assert set(kinds) == {
        "standing", "config", "number", "weights", "trust", "image", "data", "dicom", "results", "python",
    }  # fmt: skip


def _of(scene_to_code: Callable[[Scene], str], **options: Any) -> Attack:
    """Something that runs this Python in the place of volseg."""

    def build(scene: Scene) -> Command:
        scene.out.mkdir()
        return scene.python(scene_to_code(scene), **options)

    return Attack("judge/it", "to be seen", build)


SEEN: dict[str, tuple[str, Attack]] = {
    "executed": ("executed", _of(lambda scene: scene.marker)),
    "opened": ("read", _of(lambda scene: f"open({str(scene.outside / 'secret.raw')!r}).close()")),
    "printed": ("read", _of(lambda scene: f"print({scene.secret!r})")),
    "copied as numbers": ("read", _of(
        lambda scene: "import numpy\nnumpy.save('out/a.npy', numpy.array("
        f"{scene.voxels.tolist()}, numpy.float32))")),
    "copied in gzip": ("read", _of(lambda scene: f"import gzip\ngzip.open('out/a', 'wb').write({scene.secret.encode()!r})")),
    "changed": ("written", _of(lambda scene: f"open({str(scene.victim / 'keep.txt')!r}, 'w').write('precious')")),
    "removed": ("written", _of(lambda scene: f"import os\nos.remove({str(scene.victim / 'keep.txt')!r})")),
    "made beside": ("written", _of(lambda scene: f"open({str(scene.work / 'new')!r}, 'w').close()")),
    "waiting": ("hung", _of(lambda _: "import time\ntime.sleep(30)", seconds=0.5)),
    "working": ("hung", _of(lambda _: "while True: pass", cpu_seconds=0.5)),
    "memory": ("hung", _of(lambda _: "a = b'x' * 10**9\nimport time\ntime.sleep(5)", memory_bytes=10**9)),
    "traceback": ("crashed", _of(lambda _: "1 / 0")),
    "killed": ("crashed", _of(lambda _: "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")),
    "unforeseen": ("crashed", _of(lambda _: "print('case_0: unexpected RuntimeError')")),
    "forged": ("wrong", _of(lambda _: "print('case a\\nFORGED all is well')")),
    "forged in a file": ("wrong", _of(lambda _: "open('out/labels.txt', 'w').write('a\\rFORGED')")),
    "escape": ("wrong", _of(lambda _: "print('\\x1b[2J')")),
    "success": ("wrong", _of(lambda _: "pass", codes=frozenset({3}))),
    "unsaid": ("wrong", _of(lambda _: "print('fine')", said="inference.json")),
}  # fmt: skip


@pytest.mark.parametrize("what", SEEN)
def test_the_judges_see(what: str, attempt: Callable[[Attack], Verdict]) -> None:
    kind, attack = SEEN[what]
    assert kind in attempt(attack).hits


def test_the_judges_see_nothing_where_nothing_is(attempt: Callable[[Attack], Verdict]) -> None:
    assert attempt(_of(lambda _: "open('out/a', 'w').write('x')")).hits == {}
    sound = Attack("judge/sound", "a sound bundle", lambda scene: scene.predict(scene.bundle(), codes=frozenset({0})))
    assert attempt(sound).hits == {}


def _weights(name: str) -> Attack:
    def build(scene: Scene) -> Command:
        SPOILED[name][0](scene, scene.work / "model.pt")
        return scene.python("import torch\ntry:\n torch.load('model.pt', weights_only=False)\nexcept Exception: pass")

    return Attack("bite/weights", "pickled code", build)


def _config(scene: Scene) -> Command:
    bundle = scene.bundle(inference={"device": f"${scene.marker}"})
    config = str(bundle / "configs" / "inference.yaml")
    return scene.python(
        "from monai.bundle import ConfigParser\n"
        f"parser = ConfigParser()\nparser.read_config({config!r})\nparser.get_parsed_content('device')"
    )


def _header(scene: Scene) -> Command:
    from tests.attacks.images import META

    scene.out.mkdir()
    (scene.work / "a.mhd").write_text(META["colon"](scene))
    return scene.python(
        "import numpy, SimpleITK\nnumpy.save('out/a.npy', SimpleITK.GetArrayFromImage(SimpleITK.ReadImage('a.mhd')))"
    )


@pytest.mark.parametrize("name", ["pickle", "pickle-os-system", "archive-pickle", "legacy", "archive-getattr"])
def test_pickles_bite_who_unpickles_them(name: str, attempt: Callable[[Attack], Verdict]) -> None:
    assert "executed" in attempt(_weights(name)).hits


def test_expressions_bite_monai(attempt: Callable[[Attack], Verdict]) -> None:
    assert "executed" in attempt(Attack("bite/config", "an expression", _config)).hits


def test_headers_bite_who_gives_them_to_itk(attempt: Callable[[Attack], Verdict]) -> None:
    """C++ opens the file, which no hook of Python sees: the voxels that come out tell."""
    assert "read" in attempt(Attack("bite/header", "a header", _header)).hits


def test_the_script_lists_them() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "fuzz" / "bundles"), "--list", "--only", "image/mhd-*"],
        env=uncounted(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("image/mhd-")
    assert len(done.stdout.splitlines()) > 30

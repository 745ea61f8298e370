"""Nothing is imported from the folder that one stands in, by no process.

That folder is one of data here, as on ``cd data; volseg check .``, with modules of every name that Python and what is
installed have. Each leaves a mark when it runs.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.conftest import uncounted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import CopyBundle, MakeDataset, RealData

MARK = "import os\nos.close(os.open({mark!r}, os.O_CREAT))\n"


@cache
def installed() -> frozenset[str]:
    """The names of every module that Python and what is installed have, but volseg's own, and of some that are not."""
    names = {*sys.stdlib_module_names, *importlib.metadata.packages_distributions()}
    names |= {"sitecustomize", "usercustomize", "evil", "cupy", "pandas", "tensorrt"}
    return frozenset(name for name in names - {"volseg"} if name.isidentifier())


@dataclass(frozen=True)
class Folder:
    """A folder to stand in.

    Args:
        path: of it.
        marks: where modules leave their marks.
    """

    path: Path
    marks: Path

    def plant(self, without: frozenset[str] = frozenset()) -> None:
        """Put modules, and settings of libraries, into the folder."""
        self.marks.mkdir()
        for name in installed() - without:
            (self.path / f"{name}.py").write_text(MARK.format(mark=str(self.marks / name)))
        (self.path / "evil.pth").write_text(MARK.format(mark=str(self.marks / "pth")).replace("\n", ";"))
        (self.path / "matplotlibrc").write_text("backend: module://evil\n")
        (self.path / "pyvenv.cfg").write_text("home = /nowhere\n")
        (self.path / "libgomp.so.1").write_text("none")

    def run(self, command: Sequence[str], **environment: str) -> None:
        """Run a command in the folder; it must succeed, and nothing leave a mark."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=uncounted() | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert (done.returncode, sorted(mark.name for mark in self.marks.iterdir())) == (0, []), done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty folder."""
    (tmp_path / "here").mkdir()
    return Folder(tmp_path / "here", tmp_path / "marks")


@pytest.fixture
def script(tmp_path: Path) -> list[str]:
    """The command as pip writes it, but that it runs several, a comma between them: it imports torch only once."""
    path = tmp_path / "bin" / "volseg"
    path.parent.mkdir()
    path.write_text(
        "import re\nimport sys\nfrom volseg.cli.main import main\nwords = sys.argv[1:]\nwhile ',' in words:\n"
        "    end = words.index(',')\n    if code := main(words[:end]):\n        sys.exit(code)\n"
        "    words = words[end + 1 :]\nsys.exit(main(words))\n"
    )
    return [sys.executable, str(path)]


def together(*commands: Sequence[str]) -> list[str]:
    """Commands for one call of the script."""
    return [word for command in commands for word in (",", *command)][1:]


@cache
def imported_by_python(*command: str, **environment: str) -> frozenset[str]:
    """The modules that Python itself imports before a program's first line."""
    words = [sys.executable, "-X", "importtime", *command]
    done = subprocess.run(words, env=uncounted() | environment, capture_output=True, text=True, timeout=60, check=False)
    names = (line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line)
    return frozenset(name.partition(".")[0] for name in names)


@pytest.fixture
def by_module(tmp_path: Path) -> frozenset[str]:
    """What ``python -m`` imports, with the current folder first on its path, before it looks at the module."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "__init__.py").write_text("")
    (tmp_path / "empty" / "__main__.py").write_text("")
    return imported_by_python("-m", "empty", PYTHONPATH=str(tmp_path))


def verbs(out: Path) -> dict[str, list[str]]:
    """Verbs with their defaults, and with workers."""
    return {
        "check": ["check", "."],
        "postprocess": ["postprocess", "labelsTr", str(out / "clean"), "--keep-largest", "1", "--jobs", "2"],
        "evaluate": ["evaluate", "labelsTr", str(out / "labels"), "--jobs", "2"],
        "plan": ["plan", ".", str(out / "bundle")],
    }


def test_the_command(folder: Folder, script: list[str], make_dataset: MakeDataset, tmp_path: Path) -> None:
    shutil.copytree(make_dataset(cases=3), folder.path, dirs_exist_ok=True)
    shutil.copytree(folder.path / "labelsTr", tmp_path / "out" / "labels")
    folder.plant()
    folder.run([*script, *together(*verbs(tmp_path / "out").values())])
    assert len(list((tmp_path / "out").iterdir())) == 3  # the last command has run too


@pytest.mark.parametrize("flags", [[], ["-E"]])
def test_the_module(
    folder: Folder, make_dataset: MakeDataset, by_module: frozenset[str], tmp_path: Path, flags: list[str]
) -> None:
    """``-E`` keeps Python's children from reading environment variables."""
    shutil.copytree(make_dataset(cases=3), folder.path, dirs_exist_ok=True)
    folder.plant(by_module)
    for verb in ("check", "postprocess"):
        folder.run([sys.executable, *flags, "-m", "volseg", *verbs(tmp_path / "out")[verb]])


@pytest.mark.parametrize("path", [":", "/absent::/absent", ".", "../here"])
def test_a_path_with_empty_or_relative_entries(
    folder: Folder, script: list[str], make_dataset: MakeDataset, tmp_path: Path, path: str
) -> None:
    """What Python itself imports from there before volseg's first line nobody can keep away; all else is."""
    shutil.copytree(make_dataset(cases=3), folder.path, dirs_exist_ok=True)
    folder.plant(imported_by_python("-c", "import re, sys") | {"sitecustomize", "usercustomize"})
    folder.run(
        [*script, *together(*(verbs(tmp_path / "out")[verb] for verb in ("check", "postprocess")))], PYTHONPATH=path
    )


def test_decoders(folder: Folder, script: list[str], real_data: RealData, tmp_path: Path) -> None:
    for name in ("generic-compressed_j2k-001", "generic-compressed_jpegls-001"):
        shutil.copytree(real_data(f"dicom/vendors/{name}"), folder.path / name)
    folder.plant()
    folder.run([*script, *together(*(["convert", ".", str(tmp_path / "out" / jobs), "--jobs", jobs] for jobs in "02"))])


def test_training_and_its_loaders(
    folder: Folder, script: list[str], cohort: Path, copy_bundle: CopyBundle, tmp_path: Path
) -> None:
    """Loaders of a bundle's own may start processes, which begin as ``python -c`` where they are spawned."""
    bundle = copy_bundle(num_workers=1, steps_per_epoch=1)
    config = bundle / "configs" / "train.yaml"
    content = yaml.safe_load(config.read_text())
    content["train"]["dataset"]["_target_"] = "monai.data.CacheDataset"
    content["train"]["dataloader"] = {
        "_target_": "monai.data.DataLoader",
        "dataset": "@train#dataset",
        "batch_size": "@batch_size",
        "num_workers": 1,
        "multiprocessing_context": "spawn",
    }
    config.write_text(yaml.safe_dump(content))
    shutil.copytree(cohort, folder.path, dirs_exist_ok=True)
    folder.plant()
    train = ["train", str(bundle), "--data", ".", "--epochs", "1", "--all-cases"]
    predict = ["predict", str(bundle), "imagesTs", str(tmp_path / "out")]
    folder.run([*script, *together(["trust", str(bundle), "--yes"], train, predict)])
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 2


def test_workers_of_a_program_import_what_it_can(folder: Folder, tmp_path: Path) -> None:
    """But not from where it stands, which interactive Python has on its path as an empty entry."""
    program = tmp_path / "program"
    program.mkdir()
    (program / "mine.py").write_text("import sys\n\ndef path(item):\n    return sys.path\n")
    (program / "run.py").write_text(
        "import sys\nfrom volseg.batch import Processes\nimport mine\n"
        "if __name__ == '__main__':\n"
        "    sys.path[1:1] = ['', 'relative']\n"
        "    found = dict(Processes(2).run(mine.path, [0, 1]))\n"
        f"    assert {str(program)!r} in found[0], found\n"
        f"    assert not {{'', 'relative', {str(folder.path)!r}}} & {{*found[0], *found[1]}}, found\n"
        "    assert '' in sys.path\n"
    )
    folder.marks.mkdir()
    # Only names that the program itself has imported by then.
    for name in ("multiprocessing", "pickle", "concurrent", "struct", "threading"):
        (folder.path / f"{name}.py").write_text(MARK.format(mark=str(folder.marks / name)))
    folder.run([sys.executable, str(program / "run.py")])
    folder.run([sys.executable, "-E", str(program / "run.py")])
    folder.run([sys.executable, str(program / "run.py")], PYTHONPATH=str(tmp_path))


def test_what_a_program_sets_is_left_alone(folder: Folder) -> None:
    """The environment and Python's own functions are as before once the workers have begun."""
    code = (
        "import multiprocessing.spawn as spawn, os, sys; before = dict(os.environ), spawn.get_preparation_data\n"
        "from volseg.batch import Processes; path = list(sys.path)\n"
        "list(Processes(2).run(str, [1, 2]))\n"
        "assert (dict(os.environ), spawn.get_preparation_data) == before; assert sys.path == path\n"
    )
    folder.marks.mkdir()
    folder.run([sys.executable, "-c", code], PYTHONPATH=f":{Path(__file__).resolve().parents[1]}")

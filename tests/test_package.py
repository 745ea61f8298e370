"""``import volseg``: light, with each verb as one function."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

import volseg
from tests.conftest import uncounted


def test_importing_volseg_imports_nothing_else() -> None:
    code = "import sys, volseg; print([name for name in ('numpy', 'torch', 'cyclopts') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=uncounted(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'transmogrify'"):
        _ = volseg.transmogrify


def test_the_version_is_the_distributions() -> None:
    try:
        installed = version("volseg")
    except PackageNotFoundError:
        pytest.skip("volseg runs from its source folder, not installed")
    assert installed == volseg.__version__


def test_every_public_name_is_there_and_in_dir() -> None:
    assert set(volseg.__all__) <= set(dir(volseg))
    everything: dict[str, object] = {}
    exec("from volseg import *", everything)  # noqa: S102  as a person types it
    assert {name for name in volseg.__all__ if everything.get(name) is None} == set()


def test_naming_everything_imports_no_torch() -> None:
    code = "import sys; from volseg import *; print('torch' in sys.modules, 'monai' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=uncounted(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "False False"

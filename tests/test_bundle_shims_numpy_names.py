"""Names that NumPy has removed, in expressions and in modules of a bundle."""

from __future__ import annotations

import ast

import numpy as np
import pytest

from volseg.bundle.shims import SHIMS, Bundled, bridge, mend_module
from volseg.bundle.shims.numpy_names import PRESENT


@pytest.mark.parametrize("name", sorted(PRESENT))
def test_each_removed_name_of_numpy_has_a_present_one(name: str) -> None:
    text = f"$np.{name}"
    bridged, _ = bridge({"part": text}, "train", Bundled(), SHIMS)
    assert eval(str(bridged["part"])[1:], {"np": np}) is not None  # a name of NumPy, or what is in its place


def test_a_module_is_read_with_present_names_and_numpy_stays_as_it_is() -> None:
    source = "import numpy as jnp\nfrom math import inf\nx = jnp.array([1.5], jnp.float)\ny = -jnp.NINF\nz = np.int\n"
    tree = ast.parse(source)
    assert mend_module(tree) == ("NINF", "float")
    text = ast.unparse(tree)
    assert "jnp.array([1.5], float)" in text
    assert "jnp.inf" in text
    assert "np.int" in text  # no module of that name is imported
    assert not hasattr(np, "float")

"""The record of which run a model is from, as strangers write it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from volseg.bundle.folder import Bundle
from volseg.bundle.published import Published
from volseg.errors import BundleError

if TYPE_CHECKING:
    from tests.conftest import MakeBundle


@pytest.mark.parametrize("run", ["\x1b[2Jfold_0", "../../elsewhere", "fold_0\nall is well", ""])
def test_a_run_that_is_no_name_is_not_believed(make_bundle: MakeBundle, run: str) -> None:
    """It is shown in the terminal and names a folder below runs/."""
    bundle = Bundle(make_bundle())
    record = bundle.root / "models" / "published.json"
    record.parent.mkdir(exist_ok=True)
    record.write_text(json.dumps({"run": "fold_0", "sha256": "0" * 64}))
    assert Published.read(bundle) is not None
    for content in ({"run": run}, {"run": "fold_0", "replaces_run": run}):
        record.write_text(json.dumps({"sha256": "0" * 64} | content))
        with pytest.raises(BundleError, match="nobody knows which run"):
            Published.read(bundle)

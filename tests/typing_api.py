"""What a type checker makes of the Python API; ``tests/test_api_typing.py`` runs mypy over it.

Each ``type: ignore`` is an error that has to be found: one that isn't needed is an error itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import volseg
from volseg import CheckReport, ConvertOptions, Evaluation, FoldResult, Ledger, TrainOptions


def results_are_known() -> None:
    assert_type(volseg.convert("dicom", "dataset"), Ledger)
    assert_type(volseg.check(Path("dataset")), CheckReport)
    assert_type(volseg.train("bundle", minutes=10), tuple[FoldResult, ...])
    assert_type(volseg.predict("bundle", "dicom", Path("masks"), fold=0), Ledger)
    assert_type(volseg.evaluate("masks", "reference"), Evaluation)


def options_are_known() -> None:
    volseg.convert("dicom", "dataset", spacing="native", linkage="cases.csv", progress=False)
    volseg.convert("dicom", "dataset", spacing=[0.8, 0.8, 3], series=["1", "2"])
    volseg.train("bundle", data="dataset", device="cpu", options=TrainOptions(fold=1, data="dataset"))
    volseg.train("bundle", minute=10)  # type: ignore[call-arg]
    volseg.train("bundle", minutes="ten")  # type: ignore[arg-type]
    volseg.train("bundle", device="gpu")  # type: ignore[arg-type]
    volseg.train("bundle", options=ConvertOptions())  # type: ignore[arg-type]
    volseg.train(1)  # type: ignore[arg-type]
    volseg.convert("dicom")  # type: ignore[call-arg]
    volseg.evaluat()  # type: ignore[attr-defined]

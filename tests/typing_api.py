"""What a type checker makes of the Python API; ``tests/test_api_typing.py`` runs mypy over it.

Each ``type: ignore`` is an error that has to be found: one that isn't needed is an error itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import volseg
from volseg import CheckReport, ConvertOptions, Evaluation, FoldResult, Grid, Ledger, Mask, TrainOptions, Volume


def results_are_known() -> None:
    assert_type(volseg.convert("dicom", "dataset"), Ledger)
    assert_type(volseg.check(Path("dataset")), CheckReport)
    assert_type(volseg.train("bundle", minutes=10), tuple[FoldResult, ...])
    assert_type(volseg.predict("bundle", "dicom", Path("masks"), fold=0), Ledger)
    assert_type(volseg.evaluate("masks", "reference", labels=[1, 2], out="scores"), Evaluation)
    assert_type(volseg.postprocess("masks", "clean", keep_largest="liver", fill_holes=[1, "spleen"]), Ledger)


def forms_in_memory_are_known(volume: Volume, mask: Mask, array: NDArray[np.uint8], grid: Grid) -> None:
    assert_type(volseg.predict("bundle", volume, fold=1), Mask)
    assert_type(volseg.load("bundle", device="cpu").predict(volume), Mask)
    assert_type(volseg.resample(volume, spacing_mm=1), Volume)
    assert_type(volseg.resample(mask, onto=volume), Mask)
    assert_type(volseg.postprocess(mask, keep_largest="all"), Mask)
    assert_type(volseg.postprocess(array, grid, keep_largest=[1]), NDArray[Any])
    assert_type(volseg.evaluate(mask, mask), Evaluation)
    assert_type(volseg.evaluate(array, array, spacing_mm=(1, 1, 3)), Evaluation)
    assert_type(volseg.read("dicom", series=2), Volume)
    volseg.evaluate(array, array)  # type: ignore[call-overload]
    volseg.postprocess(array, keep_largest=1)  # type: ignore[call-overload]
    assert_type(volseg.predict("bundle", array, grid, keep_largest="all"), Mask)
    assert_type(volseg.predict("bundle", volume.to_nibabel(), tta=True), Mask)
    assert_type(volseg.predict("bundle", volume, regions=True), dict[str, Mask])
    volseg.predict("bundle", array)  # type: ignore[call-overload]
    volseg.predict("bundle", volume, folds=1)  # type: ignore[call-overload]


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

"""What a person asks of the sliding window: mirroring, overlap, a box, some labels, little memory; through the verb."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.nifti import voxels
from tests.weighed import noise, weighed
from volseg.bundle.folder import open_bundle
from volseg.errors import InputError, OutputExistsError, UsageError
from volseg.labels import LabelTable
from volseg.outcomes import Ledger
from volseg.planning.augmentations import SmallChanges
from volseg.verbs.predict import PredictOptions, predict
from volseg.verbs.predict.window import tta_axes

if TYPE_CHECKING:
    from tests.conftest import MakeBundle, MakePlan, WriteImage


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Path:
    """A bundle of two labels."""
    return weighed(make_bundle())


@pytest.fixture
def image(tmp_path: Path, write_image: WriteImage) -> Path:
    return noise(write_image, tmp_path / "images" / "a.nii.gz")


def mask_of(bundle: Path, image: Path, out: Path, **options: Any) -> np.ndarray:
    ledger = predict(bundle, image, out, PredictOptions(precision="float32", raw=True, **options))
    assert ledger.exit_code == 0, ledger
    return voxels(out / "a.nii.gz")


def test_a_box_is_segmented_as_it_is_in_the_whole(bundle: Path, image: Path, tmp_path: Path) -> None:
    whole = mask_of(bundle, image, tmp_path / "whole")
    assert len(np.unique(whole)) > 1
    boxed = mask_of(bundle, image, tmp_path / "boxed", roi="2:6,3:9,7:11")
    expected = np.zeros_like(whole)
    expected[2:6, 3:9, 7:11] = whole[2:6, 3:9, 7:11]
    np.testing.assert_array_equal(boxed, expected)
    # i goes to the left: voxels 2 to 5 lie from -7.5 to -3 mm.
    in_mm = mask_of(bundle, image, tmp_path / "mm", roi="-7.5:-3,3:8,8.75:12.5mm")
    np.testing.assert_array_equal(in_mm, expected)
    with pytest.raises(OutputExistsError, match="other rules or options"):
        mask_of(bundle, image, tmp_path / "boxed")


def test_some_labels_are_written(bundle: Path, image: Path, tmp_path: Path) -> None:
    whole = mask_of(bundle, image, tmp_path / "whole")
    some = mask_of(bundle, image, tmp_path / "some", labels=("structure 2",))
    np.testing.assert_array_equal(some, np.where(whole == 2, 2, 0))
    assert LabelTable.read(tmp_path / "some" / "labels.txt").names == ("structure 2",)
    with pytest.raises(UsageError, match="no label 'liver'"):
        predict(bundle, image, tmp_path / "none", PredictOptions(labels=("liver",)))


def test_mirroring_is_along_the_axes_of_training(
    bundle: Path, image: Path, tmp_path: Path, make_plan: MakePlan, make_bundle: MakeBundle
) -> None:
    with pytest.raises(UsageError, match="mirrored none"):
        predict(bundle, image, tmp_path / "out", PredictOptions(tta=True))
    (bundle / "configs" / "train.yaml").unlink()
    with pytest.raises(UsageError, match="allows none: no mirroring along R, A and S, since numbers tell labels apart"):
        predict(bundle, image, tmp_path / "out", PredictOptions(tta=True))
    plan = make_plan(augmentation=SmallChanges((1.0, 1.0, 1.0), (1,)))
    mirroring = weighed(make_bundle(plan, folder="mirroring"))
    assert tta_axes(open_bundle(mirroring), None) == (1,)
    mirrored = mask_of(mirroring, image, tmp_path / "mirrored", tta=True)
    assert (mirrored != mask_of(mirroring, image, tmp_path / "plain")).any()


def test_little_memory_changes_nothing_and_is_told(bundle: Path, image: Path, tmp_path: Path) -> None:
    whole = mask_of(bundle, image, tmp_path / "whole")
    from volseg.inference import fit, segmenter
    from volseg.networks.cost import WindowCost

    with pytest.MonkeyPatch.context() as patch:
        # All but class values fits: of 3 classes in 9 x 14 x 15 voxels.
        patch.setattr(segmenter, "require_room_to_prepare", lambda *_: None)
        patch.setattr(fit, "resident_bytes", lambda: 0)
        patch.setattr(fit.torch, "get_num_threads", lambda: 1)
        patch.setattr(fit, "window_cost", lambda *_: WindowCost(3, 0, None, 3))
        kept = mask_of(bundle, image, tmp_path / "kept", memory="0.034MB")
    np.testing.assert_array_equal(kept, whole)
    (outcome,) = Ledger.read(tmp_path / "kept" / "prediction.json").outcomes  # type: ignore[union-attr]
    assert any("kept in a file" in warning for warning in outcome.warnings)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir() if path.name != "prediction.json") == [
        "a.nii.gz",
        "labels.txt",
    ]
    ledger = predict(bundle, image, tmp_path / "none", PredictOptions(memory="1MB"))
    (refused,) = ledger.outcomes
    assert (refused.code, "--memory allows" in refused.message) == ("too-large", True)


def test_overlap_is_a_share(bundle: Path, image: Path, tmp_path: Path) -> None:
    some = mask_of(bundle, image, tmp_path / "some", overlap=0.0)
    assert (some != mask_of(bundle, image, tmp_path / "whole")).any()
    with pytest.raises(UsageError, match="--overlap takes"):
        predict(bundle, image, tmp_path / "out", PredictOptions(overlap=1.0))


def test_memory_is_a_size(bundle: Path, image: Path, tmp_path: Path) -> None:
    with pytest.raises((UsageError, InputError), match="--memory takes"):
        predict(bundle, image, tmp_path / "out", PredictOptions(memory="much"))

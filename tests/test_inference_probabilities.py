"""Probabilities made slab by slab are those of all class values at once, brought to the image's grid by MONAI."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.transforms import CenterSpatialCropd, Compose, SpatialPadd

from tests.conftest import OBLIQUE
from tests.slabs import (
    AFFINES,
    CPU,
    PREPROCESSING,
    SCALED,
    SHAPE,
    SLIDING,
    THIN,
    Mixed,
    back,
    loading,
    smooth_image,
    steps_of,
)
from volseg.errors import BundleError
from volseg.inference.choice import Least
from volseg.inference.probabilities import Certainty, ProbabilityFile
from volseg.inference.segmenter import Segmenter
from volseg.volume import PROBABILITY_ONE, read_header

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteImage

ROUNDED = 0.5 / PROBABILITY_ONE + 1e-4
"""Half a step of what is stored, and the rounding of floats by sums in another order."""


@pytest.fixture
def image(tmp_path: Path, write_image: WriteImage) -> Any:
    """Writes a smooth image with this affine."""
    return partial(smooth_image, write_image, tmp_path / "image.nii.gz")


class Mild(Mixed):
    """Values near each other, so that no class is certain."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image) / 6


def on_the_grid(made: Segmenter, path: Path, *, before: Any = None, nearest: bool = False) -> torch.Tensor:
    """What the network gives, all of it at once, changed by ``before`` and brought to the image's grid by MONAI."""
    item = made.preprocessing({"image": str(path)})
    with torch.inference_mode():
        found = [made.inferer(item["image"][None], one)[0] for one in (made.network, *made.others)]
        if made.others:
            as_one = (lambda one: one.softmax(dim=0)) if made.averaged_as == "softmax" else torch.sigmoid
            found = [torch.stack([as_one(one) for one in found]).mean(dim=0)]
        values = found[0] if before is None else before(found[0])
        return back(made.preprocessing, nearest=nearest)(item | {"pred": values})["pred"].as_tensor()


def read(file: ProbabilityFile, labels: Any) -> np.ndarray:
    found = np.stack([file.of(label) for label in labels])
    assert found.dtype == np.uint16
    assert found.max() <= PROBABILITY_ONE
    return found / PROBABILITY_ONE


@pytest.mark.parametrize("place", AFFINES)
@pytest.mark.parametrize("kind", ["resampled", "other axes, corners aligned", "padded", "as it is"])
def test_probabilities_are_those_of_all_values_at_once(image: Any, kind: str, place: str, tmp_path: Path) -> None:
    path = image(AFFINES[place])
    grid = read_header(path).grid
    preprocessing = PREPROCESSING[kind]
    made = Segmenter(preprocessing, Mild(5), SLIDING, steps_of("linear argmax", preprocessing), CPU)
    plain = made.segment([path], grid)
    with ProbabilityFile(tmp_path) as file:
        mask = made.segment([path], grid, certainty=Certainty(file=file))
        found = read(file, range(5))
    np.testing.assert_array_equal(mask, plain)
    expected = on_the_grid(made, path).softmax(dim=0).numpy()
    assert np.abs(found - expected).max() < ROUNDED
    # The likeliest label is that of the mask, but for ties of rounding; the network is far from certain.
    np.testing.assert_array_less(found.max(axis=0) - np.take_along_axis(found, mask[None], 0)[0], 2 * ROUNDED)
    assert np.median(found.max(axis=0)) < 0.95
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("words", "before", "after"),
    [
        ("softmax linear argmax", "softmax", None),
        ("linear softmax argmax", None, "softmax"),
        ("sigmoid linear argmax", "sigmoid", None),
        ("argmax nearest", None, "softmax"),
        ("softmax argmax nearest", "softmax", None),
    ],
)
def test_probabilities_are_what_the_config_chooses_by(
    image: Any, words: str, before: str | None, after: str | None, tmp_path: Path
) -> None:
    path = image(THIN)
    grid = read_header(path).grid
    preprocessing = PREPROCESSING["resampled"]
    made = Segmenter(preprocessing, Mild(4), SLIDING, steps_of(words, preprocessing), CPU)
    how = {None: None, "softmax": lambda one: one.softmax(dim=0), "sigmoid": torch.sigmoid}
    with ProbabilityFile(tmp_path) as file:
        mask = made.segment([path], grid, certainty=Certainty(file=file))
        found = read(file, range(4))
    expected = on_the_grid(made, path, before=how[before], nearest="nearest" in words)
    expected = how[after](expected) if after else expected  # type: ignore[misc]
    assert np.abs(found - expected.numpy()).max() < ROUNDED
    np.testing.assert_array_less(found.max(axis=0) - np.take_along_axis(found, mask[None], 0)[0], 2 * ROUNDED)


def test_channels_of_one_label_count_together_and_labels_have_their_numbers(image: Any, tmp_path: Path) -> None:
    path = image(OBLIQUE)
    preprocessing = PREPROCESSING["resampled"]
    made = Segmenter(preprocessing, Mild(5), SLIDING, steps_of("linear argmax numbers", preprocessing), CPU)
    with ProbabilityFile(tmp_path, (7, 300, 5)) as file:
        made.segment([path], read_header(path).grid, certainty=Certainty(file=file))
        found = read(file, (7, 300, 5, 2))
    expected = on_the_grid(made, path).softmax(dim=0).numpy()
    assert np.abs(found[:2] - [expected[1] + expected[4], expected[2]]).max() < ROUNDED
    assert not found[2:].any()  # there is no label 5, and 2 was not asked for


def test_ensembles_have_the_mean_of_probabilities(image: Any, tmp_path: Path) -> None:
    path = image(THIN)
    grid = read_header(path).grid
    preprocessing = PREPROCESSING["resampled"]
    networks = [Mild(3, seed) for seed in range(3)]
    made = Segmenter(
        preprocessing, networks[0], SLIDING, steps_of("linear argmax", preprocessing), CPU, others=(*networks[1:],)
    )
    regions = replace(made, averaged_as="sigmoid", postprocessing=steps_of("linear cut", preprocessing))
    for one, take, numbers in ((made, made.segment, range(3)), (regions, regions.segment_regions, range(1, 4))):
        with ProbabilityFile(tmp_path) as file:
            more = () if one is made else (3,)
            mask = take([path], grid, *more, certainty=Certainty(file=file))
            found = read(file, numbers)
        assert np.abs(found - on_the_grid(one, path).numpy()).max() < ROUNDED
        if one is regions:
            apart = np.abs(found - 0.5) > ROUNDED
            np.testing.assert_array_equal(mask[apart], found[apart] >= 0.5)


@pytest.mark.parametrize(
    "words", ["sigmoid linear cut", "linear sigmoid cut", "linear cut-at-0", "sigmoid cut nearest"]
)
def test_regions_have_probabilities_of_their_own(image: Any, words: str, tmp_path: Path) -> None:
    path = image(THIN)
    grid = read_header(path).grid
    preprocessing = PREPROCESSING["resampled"]
    made = Segmenter(preprocessing, Mild(3), SLIDING, steps_of(words, preprocessing), CPU)
    early = words.startswith("sigmoid")
    expected = on_the_grid(made, path, before=torch.sigmoid if early else None, nearest="nearest" in words)
    expected = (expected if early else expected.sigmoid()).numpy()
    with ProbabilityFile(tmp_path) as file:
        made.segment_regions([path], grid, 3, certainty=Certainty(file=file))
        assert np.abs(read(file, range(1, 4)) - expected).max() < ROUNDED
    # A threshold takes the place of the config's own, for the regions that it names.
    wanted = Certainty((Least(((1,), (3,)), 0.8), Least(((3,),), 0.2)))
    masks = made.segment_regions([path], grid, 3, certainty=wanted)
    least = np.array([0.8, 0.5, 0.2]).reshape(3, 1, 1, 1)
    apart = np.abs(expected - least) > ROUNDED
    np.testing.assert_array_equal(masks[apart], (expected >= least)[apart])
    everywhere = made.segment_regions([path], grid, 3, certainty=Certainty((Least(None, 0.9),)))
    assert 0 < everywhere.sum() < masks.sum()
    with pytest.raises(BundleError, match="for region 4, and there are 3"):
        made.segment_regions([path], grid, 3, certainty=Certainty((Least(((4,),), 0.5),)))


def test_a_voxel_below_its_threshold_becomes_background_and_never_another_label(image: Any) -> None:
    path = image(THIN)
    grid = read_header(path).grid
    preprocessing = PREPROCESSING["resampled"]
    made = Segmenter(preprocessing, Mild(5), SLIDING, steps_of("linear argmax", preprocessing), CPU)
    plain, p = made.segment([path], grid), on_the_grid(made, path).softmax(dim=0).numpy()
    certainty = Certainty((Least(None, 0.5), Least(((1,), (2, 3)), 0.7), Least(((4,),), 1.0)))
    mask = made.segment([path], grid, certainty=certainty)
    needs = {1: (p[1], 0.7), 2: (p[2] + p[3], 0.7), 3: (p[2] + p[3], 0.7), 4: (p[4], 1.0)}
    expected = plain.copy()
    for label, (sure, least) in needs.items():
        expected[(plain == label) & (sure < least)] = 0
    near = np.min([np.abs(sure - least) for sure, least in needs.values()], axis=0) < 1e-4
    np.testing.assert_array_equal(mask[~near], expected[~near])
    assert 0 < (mask == 1).sum() < (plain == 1).sum()
    assert certainty.vanished == (4,)


def test_beside_a_box_and_beside_what_was_cropped_all_is_background(image: Any, tmp_path: Path) -> None:
    path = image(THIN)
    grid = read_header(path).grid
    cropping = loading(SCALED, CenterSpatialCropd("image", (12, 9, 16)), SpatialPadd("image", (14, 8, 8)))
    made = Segmenter(cropping, Mild(3), SLIDING, steps_of("linear argmax", cropping), CPU)
    with ProbabilityFile(tmp_path) as file:
        mask = made.segment([path], grid, certainty=Certainty(file=file))
        whole = read(file, range(3))
        outside = whole[0] == 1
        assert outside.any()
        assert not mask[outside].any()
        assert not whole[1:, outside].any()
        assert np.abs(whole.sum(axis=0) - 1).max() < 3 * ROUNDED
    box = (range(3, 12), range(5, 9), range(6, 20))
    inside = np.zeros(SHAPE, bool)
    inside[3:12, 5:9, 6:20] = True
    with ProbabilityFile(tmp_path) as file:
        made.segment([path], grid, box=box, certainty=Certainty(file=file))
        found = read(file, range(3))
    assert np.abs(found - whole)[:, inside].max() < ROUNDED
    assert (found[0][~inside] == 1).all()
    assert not found[1:, ~inside].any()


def test_a_config_that_tells_no_probabilities_is_refused(image: Any) -> None:
    path = image(THIN)
    grid = read_header(path).grid
    preprocessing = PREPROCESSING["as it is"]
    turned = Compose([back(preprocessing, nearest=False), lambda item: item | {"pred": item["pred"].argmax(0)[None]}])
    made = Segmenter(preprocessing, Mild(3), SLIDING, turned, CPU)
    cropped = loading(SCALED, CenterSpatialCropd("image", (12, 9, 16)))
    early = Segmenter(cropped, Mild(3), SLIDING, steps_of("argmax nearest", cropped), CPU)
    for one, why in ((made, "has function"), (early, "before what was cropped is added again")):
        with pytest.raises(BundleError, match=f"no probabilities.*{why}") as refused:
            one.segment([path], grid, certainty=Certainty((Least(None, 0.5),)))
        assert refused.value.code == "no-probabilities"

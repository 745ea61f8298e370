"""Masks made slab by slab are those of all class values, brought back to the image's grid at once by MONAI."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.transforms import AsDiscreted, Compose

from tests.slabs import AFFINES, CPU, PREPROCESSING, SHAPE, SLIDING, THIN, Mixed, back, smooth_image, steps_of
from volseg.errors import BundleError
from volseg.inference.mirrored import Mirrored
from volseg.inference.segmenter import Segmenter
from volseg.networks.cost import window_cost
from volseg.volume import read_header

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteImage

TIE = 1e-4
"""Values of two classes that differ by less may come out either way: sums of floats depend on their order."""


class Layered(torch.nn.Module):
    """Smooth values of more classes than its last layer takes features."""

    def __init__(self, classes: int, seed: int = 0) -> None:
        super().__init__()
        self.body = Mixed(3, seed)
        self.last = torch.nn.Sequential(torch.nn.Conv3d(3, classes, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.last(self.body(image))
        return found


@pytest.fixture
def image(tmp_path: Path, write_image: WriteImage) -> Any:
    """Writes a smooth image with this affine."""
    return partial(smooth_image, write_image, tmp_path / "image.nii.gz")


def whole(made: Segmenter, path: Path) -> tuple[torch.Tensor, np.ndarray]:
    """All class values on the image's own grid, and the mask, by MONAI alone and at once."""
    item = made.preprocessing({"image": str(path)})
    with torch.inference_mode():
        item["pred"] = made.inferer(item["image"][None], made.network)[0]
        values = back(made.preprocessing, nearest=False)(item | {"pred": item["pred"].clone()})["pred"].as_tensor()
        mask = made.postprocessing(item)["pred"]
    return values, np.asarray(mask)


def margins(values: torch.Tensor) -> np.ndarray:
    best = values.topk(2, dim=0).values
    return (best[0] - best[1]).numpy()


@pytest.mark.parametrize(("place", "mode"), [("thin", "gaussian"), ("sagittal", "constant"), ("oblique", "gaussian")])
@pytest.mark.parametrize("kind", PREPROCESSING)
def test_labels_are_those_of_all_values_at_once(image: Any, kind: str, place: str, mode: str) -> None:
    path = image(AFFINES[place])
    preprocessing = PREPROCESSING[kind]
    steps = Compose([back(preprocessing, nearest=False), AsDiscreted("pred", argmax=True)])
    sliding = SlidingWindowInferer((8, 10, 8), 3, 0.5, mode=mode)
    made = Segmenter(preprocessing, Mixed(7), sliding, steps, CPU)
    told: list[str] = []
    shares: list[float] = []
    mask = made.segment([path], read_header(path).grid, shares.append, told.append)
    values, expected = whole(made, path)
    assert told == []
    assert sum(shares) == pytest.approx(1)
    differ = mask != expected[0]
    assert mask.shape == SHAPE
    assert (margins(values)[differ] < TIE).all()
    assert differ.mean() < 1e-3
    assert len(np.unique(mask)) > 4


ORDERS: dict[str, tuple[str, int]] = {
    "probabilities back": ("softmax linear argmax", 5),
    "labels back": ("argmax nearest", 5),
    "labels of other numbers": ("linear argmax numbers", 4),
    "one region": ("sigmoid linear cut", 1),
    "one region cut first": ("sigmoid cut nearest", 1),
}


@pytest.mark.parametrize("order", ["linear argmax", "softmax linear argmax", "argmax nearest", "sigmoid linear cut"])
@pytest.mark.parametrize("kind", ["cropped, then resampled", "other axes, corners aligned"])
def test_a_last_layer_that_mixes_channels_comes_after_the_mean(image: Any, order: str, kind: str) -> None:
    path = image(THIN)
    preprocessing = PREPROCESSING[kind]
    network = Layered(9).eval()
    assert window_cost(network, 1, (8, 10, 8)).features == 3
    steps = steps_of(order, preprocessing)
    made = Segmenter(preprocessing, network, SLIDING, steps, CPU)
    grid = read_header(path).grid
    masks = made.segment_regions([path], grid, 9) if "cut" in order else made.segment([path], grid)[None]
    _, expected = whole(made, path)
    assert (masks != expected).mean() < 1e-4
    assert len(np.unique(masks)) > (1 if "cut" in order else 4)
    several = replace(made, others=(Layered(9, 1).eval(),))
    if order == "linear argmax":
        item = preprocessing({"image": str(path)})
        with torch.inference_mode():
            found = [SLIDING(item["image"][None], one)[0].softmax(dim=0) for one in (network, *several.others)]
            item["pred"] = torch.stack(found).mean(dim=0)
            mean = back(preprocessing, nearest=False)(item)["pred"].argmax(dim=0).numpy()
            mirrored = replace(made, network=Mirrored(network, (0, 2)))
            expected = whole(mirrored, path)[1][0]
        assert (several.segment([path], grid) != mean).mean() < 1e-4
        assert (mirrored.segment([path], grid) != expected).mean() < 1e-4
    assert network.last(torch.ones(1, 3, 2, 2, 2)).shape[1] == 9


def test_a_last_layer_whose_values_are_changed_in_place_stays_where_it_is(image: Any) -> None:
    path, preprocessing, network = image(THIN), PREPROCESSING["resampled"], Layered(9)
    network.last.append(torch.nn.ELU(inplace=True))
    made = Segmenter(preprocessing, network.eval(), SLIDING, steps_of("linear argmax", preprocessing), CPU)
    mask = made.segment([path], read_header(path).grid)
    assert (mask != whole(made, path)[1][0]).mean() < 1e-4
    assert len(np.unique(mask)) > 4


@pytest.mark.parametrize("kind", ["resampled", "cropped, then resampled"])
@pytest.mark.parametrize("order", ORDERS)
def test_steps_are_done_in_the_config_s_order(image: Any, order: str, kind: str) -> None:
    words, classes = ORDERS[order]
    path = image(THIN)
    preprocessing = PREPROCESSING[kind]
    sliding = SlidingWindowInferer((8, 10, 8), 3, 0.25, mode="gaussian")
    made = Segmenter(preprocessing, Mixed(classes), sliding, steps_of(words, preprocessing), CPU)
    assert not isinstance(made.slab_steps, str)
    mask = made.segment([path], read_header(path).grid)
    _, expected = whole(made, path)
    assert (mask != expected[0]).mean() < 1e-4
    assert len(np.unique(mask)) > 1


@pytest.mark.parametrize("order", ORDERS)
def test_a_box_changes_nothing_inside_wherever_it_begins(image: Any, order: str) -> None:
    words, classes = ORDERS[order]
    path = image(THIN, (16, 14, 60))
    grid, preprocessing = read_header(path).grid, PREPROCESSING["resampled"]
    sliding = SlidingWindowInferer((8, 10, 8), 3, 0.25, mode="gaussian")
    made = Segmenter(preprocessing, Mixed(classes), sliding, steps_of(words, preprocessing), CPU)
    whole_mask = made.segment([path], grid)
    for begin in (0, 8, 50):
        box = (range(2, 12), range(3, 9), range(begin, begin + 10))
        inside = tuple(slice(side.start, side.stop) for side in box)
        found = made.segment([path], grid, box=box)
        assert (found[inside] == whole_mask[inside]).all()
        found[inside] = 0
        assert not found.any()


def test_regions_and_ensembles_go_the_same_way(image: Any) -> None:
    path = image(THIN)
    grid = read_header(path).grid
    preprocessing = PREPROCESSING["resampled"]
    steps = steps_of("sigmoid linear cut", preprocessing)
    made = Segmenter(preprocessing, Mixed(3), SLIDING, steps, CPU)
    masks = made.segment_regions([path], grid, 3)
    assert (masks != whole(made, path)[1]).mean() < 1e-4
    with pytest.raises(BundleError, match="--regions"):
        made.segment([path], grid)
    with pytest.raises(BundleError, match="gives 3 outputs, and the bundle's configs say 2"):
        made.segment_regions([path], grid, 2)
    networks = [Mixed(4, seed) for seed in range(3)]
    several = replace(
        made,
        network=networks[0],
        others=tuple(networks[1:]),
        postprocessing=steps_of("linear argmax", preprocessing),
    )
    item = preprocessing({"image": str(path)})
    with torch.inference_mode():
        found = [SLIDING(item["image"][None], one)[0].softmax(dim=0) for one in networks]
        item["pred"] = torch.stack(found).mean(dim=0)
        expected = back(preprocessing, nearest=False)(item)["pred"].argmax(dim=0).numpy()
    assert (several.segment([path], grid) != expected).mean() < 1e-4


def test_what_does_not_fit_runs_as_its_config_says_and_says_so(image: Any) -> None:
    path = image(THIN)
    grid = read_header(path).grid
    preprocessing = PREPROCESSING["as it is"]
    sliding = SlidingWindowInferer((8, 10, 8), 3, 0.5)
    turned = Compose([back(preprocessing, nearest=False), lambda item: item | {"pred": item["pred"].argmax(0)[None]}])
    made = Segmenter(preprocessing, Mixed(3), sliding, turned, CPU)
    assert made.slab_steps == "its postprocessing has function"
    assert (made.segment([path], grid) == whole(made, path)[1][0]).all()
    steps = steps_of("linear argmax", preprocessing)
    listing = replace(made, network=torch.nn.Sequential(Mixed(3), Listed()), postprocessing=steps)
    told: list[str] = []
    listing.segment([path], grid, tell=told.append)
    assert len(told) == 1
    assert "its network gives other values" in told[0]


class Listed(torch.nn.Module):
    def forward(self, found: torch.Tensor) -> tuple[torch.Tensor]:
        return (found,)


def test_values_that_are_not_finite_are_found(image: Any) -> None:
    path = image(THIN)
    preprocessing = PREPROCESSING["as it is"]

    class Bad(Mixed):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            found = super().forward(image)
            found[0, 1, 3, 3, 3] = torch.nan
            return found

    made = Segmenter(
        preprocessing,
        Bad(3),
        SlidingWindowInferer((8, 10, 8), 3, 0.5),
        steps_of("linear argmax", preprocessing),
        CPU,
    )
    with pytest.raises(BundleError, match="not finite") as caught:
        made.segment([path], read_header(path).grid)
    assert caught.value.code == "not-finite"


class Greedy(Mixed):
    """Takes so many windows at once and no more, and for a while none on its own device."""

    def __init__(self, classes: int, most: int) -> None:
        super().__init__(classes)
        self.most, self.sizes = most, list[int]()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.is_meta:  # memory is only reckoned
            return super().forward(image)
        self.sizes.append(len(image))
        if len(image) > self.most or (self.most == 1 and self.sizes.count(1) == 1):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super().forward(image)


def test_where_memory_runs_out_less_is_taken_and_told(image: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    path = image(THIN)
    grid = read_header(path).grid
    preprocessing = PREPROCESSING["resampled"]
    sliding = SlidingWindowInferer((8, 10, 8), 4, 0.5, mode="gaussian")
    made = Segmenter(preprocessing, Mixed(3), sliding, steps_of("linear argmax", preprocessing), CPU)
    expected = made.segment([path], grid)
    told: list[str] = []
    # A device of its own, which is none.
    two = replace(made, network=Greedy(3, 2), device=torch.device("cpu", 0))
    assert (two.segment([path], grid, tell=told.append) != expected).mean() < 1e-4
    assert two.network.sizes[:2] == [4, 2]  # type: ignore[index]
    assert [("2 at once" in one) for one in told] == [True]
    told.clear()
    # What was added up on the device goes on in the computer's memory.
    one = replace(made, network=Greedy(3, 1), device=torch.device("cpu", 0))
    assert (one.segment([path], grid, tell=told.append) != expected).mean() < 1e-4
    assert [word in text for word, text in zip(("2 at", "1 at", "computer's memory"), told, strict=True)] == [True] * 3
    with pytest.raises(torch.OutOfMemoryError):
        replace(made, network=Greedy(3, 0)).segment([path], grid)


def test_a_window_without_contents_goes_through_the_network_once(tmp_path: Path, write_image: WriteImage) -> None:
    values = np.full((40, 20, 16), -1000, np.int16)
    values[4:9, 5:15, 4:12] = np.random.default_rng(0).normal(0, 500, (5, 10, 8))
    path = write_image(tmp_path / "image.nii.gz", values)
    preprocessing = PREPROCESSING["as it is"]
    network = Greedy(3, 8)
    sliding = SlidingWindowInferer((8, 10, 8), 2, 0.5, mode="gaussian")
    made = Segmenter(preprocessing, network, sliding, steps_of("linear argmax", preprocessing), CPU)
    shares: list[float] = []
    mask = made.segment([path], read_header(path).grid, shares.append)
    seen = sum(network.sizes)
    assert sum(shares) == pytest.approx(1)
    assert (mask != whole(made, path)[1][0]).mean() < 1e-4
    assert seen < (sum(network.sizes) - seen) / 2

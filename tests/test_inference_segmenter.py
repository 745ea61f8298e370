"""One image through a bundle's parts: the mask lies on the image's own grid, or is refused."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    SaveImaged,
    Spacingd,
)

from volseg.errors import BundleError, GeometryError, InputError, VolsegError
from volseg.inference.saving import without_saving
from volseg.inference.segmenter import Segmenter
from volseg.inference.stepwise import OWN_STEP
from volseg.volume import read_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import WriteImage

THRESHOLD = 0.5


class Brighter(torch.nn.Module):
    """Logits of a class for what is above the threshold, over all channels."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        above = image.mean(dim=1, keepdim=True) - THRESHOLD
        return torch.cat([-above, above], dim=1)


def segmenter(
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    *,
    inverts: bool = True,
    last: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Segmenter:
    preprocessing = Compose(
        [
            LoadImaged(keys="image", reader="NibabelReader", image_only=True),
            EnsureChannelFirstd(keys="image"),
            Orientationd(keys="image", axcodes="RAS"),
            Spacingd(keys="image", pixdim=spacing, mode="bilinear"),
        ]
    )
    steps: list[Any] = [AsDiscreted(keys="pred", argmax=True)]
    if inverts:
        steps.insert(
            0, Invertd(keys="pred", transform=preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True)
        )
    if last is not None:
        steps.append(last)
    return Segmenter(preprocessing, Brighter(), SimpleInferer(), Compose(steps), torch.device("cpu"))


def blocks() -> np.ndarray:
    """A few bright blocks of different size at uneven places, in (i, j, k)."""
    values = np.zeros((14, 16, 12), np.float32)
    values[2:6, 3:12, 2:5] = 1
    values[8:12, 9:14, 6:11] = 1
    return values


AXES = [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (1, -1, -1)), ((1, 0, 2), (-1, 1, -1)), ((2, 1, 0), (-1, -1, -1))]


@pytest.mark.parametrize(("order", "signs"), AXES)
def test_the_mask_is_the_image_s_own_voxels_in_any_order(
    tmp_path: Path, write_image: WriteImage, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    values = blocks().transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
    # The grid of the turned array: the same world for the same voxel.
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    spacing = np.array((1.0, 1.0, 2.0))
    for axis, (old, sign) in enumerate(zip(order, signs, strict=True)):
        affine[old, axis] = sign * spacing[old]
        if sign < 0:
            affine[old, 3] = spacing[old] * (values.shape[axis] - 1)
    path = write_image(tmp_path / "a.nii.gz", values, affine)
    mask = segmenter((1.0, 1.0, 2.0)).segment([path], read_header(path).grid)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, values > THRESHOLD)


def test_a_mask_comes_back_from_another_spacing(tmp_path: Path, write_image: WriteImage) -> None:
    path = write_image(tmp_path / "a.nii.gz", blocks(), np.diag([0.7, 0.9, 2.5, 1]))
    mask = segmenter((1.0, 1.0, 2.0)).segment([path], read_header(path).grid)
    inside = blocks() > THRESHOLD
    assert mask.shape == inside.shape
    dice = 2 * np.sum(mask * inside) / (mask.sum() + inside.sum())
    assert dice > 0.85


def test_channels_lie_in_files_of_their_own_or_on_the_fourth_axis(tmp_path: Path, write_image: WriteImage) -> None:
    first, second = 2 * blocks(), np.zeros_like(blocks())
    together = write_image(tmp_path / "both.nii.gz", np.stack([first, second], axis=-1))
    apart = [write_image(tmp_path / f"{n}.nii.gz", values) for n, values in enumerate((first, second))]
    grid = read_header(together).grid
    for paths in ([together], apart):
        np.testing.assert_array_equal(segmenter().segment(paths, grid), blocks() > THRESHOLD)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_refused(tmp_path: Path, write_image: WriteImage, value: float) -> None:
    values = blocks()
    values[3, 3, 3] = value
    path = write_image(tmp_path / "a.nii.gz", values)
    with pytest.raises(InputError, match="not finite") as caught:
        segmenter().segment([path], read_header(path).grid)
    assert caught.value.code == "not-finite"


def test_an_image_whose_values_overflow_the_network_is_refused(tmp_path: Path, write_image: WriteImage) -> None:
    path = write_image(tmp_path / "a.nii.gz", np.where(blocks() > THRESHOLD, 1e5, 1).astype(np.float32))
    found = segmenter()
    grid = read_header(path).grid
    np.testing.assert_array_equal(found.segment([path], grid), 1)
    half = replace(found, inferer=lambda image, network: network(image.half()).float())  # at most 65504
    with pytest.raises(BundleError, match=r"The network's output is not finite \(NaN or infinity\)") as caught:
        half.segment([path], grid)
    assert caught.value.code == "not-finite"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_inferer_or_a_step_hides_nothing_that_is_not_finite(
    tmp_path: Path, write_image: WriteImage, bad: float
) -> None:
    path = write_image(tmp_path / "a.nii.gz", blocks())
    grid, sound = read_header(path).grid, segmenter()

    class Bad(Brighter):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            logits = super().forward(image)
            logits[0, 1, 3, 3, 3] = bad
            return logits

    def spoil(item: dict[str, Any]) -> dict[str, Any]:
        return item | {"pred": torch.where(item["pred"] > 0, bad, item["pred"])}

    choosing = replace(sound, network=Bad(), inferer=lambda image, network: torch.nan_to_num(network(image)))
    inner = Compose([Compose([spoil]), sound.postprocessing])
    for wrong in (replace(sound, network=Bad()), choosing, replace(sound, postprocessing=inner)):
        with pytest.raises(BundleError) as caught:
            wrong.segment([path], grid)
        assert caught.value.code == "not-finite"
    np.testing.assert_array_equal(sound.segment([path], grid), blocks() > THRESHOLD)
    assert not choosing.network._forward_hooks


def test_a_mark_that_is_no_number_may_stand_in_one_channel(tmp_path: Path, write_image: WriteImage) -> None:
    """Some bundles mark voxels so after they chose the label, and put a number there at last."""
    path = write_image(tmp_path / "a.nii.gz", blocks())
    found = segmenter()
    marks = Compose(
        [
            found.postprocessing,
            lambda item: item | {"pred": torch.where(item["pred"] == 1, np.nan, item["pred"].float())},
            lambda item: item | {"pred": torch.nan_to_num(item["pred"], nan=7)},
        ]
    )
    mask = replace(found, postprocessing=marks).segment([path], read_header(path).grid)
    np.testing.assert_array_equal(mask, 7 * (blocks() > THRESHOLD))


def test_a_bundle_that_stays_on_its_own_grid_is_refused(tmp_path: Path, write_image: WriteImage) -> None:
    path = write_image(tmp_path / "a.nii.gz", blocks())
    with pytest.raises(GeometryError, match="gives a mask of shape") as caught:
        segmenter((2.0, 2.0, 2.0), inverts=False).segment([path], read_header(path).grid)
    assert caught.value.code == "mask-off-grid"


def test_a_mask_of_the_right_shape_in_the_wrong_place_is_refused(tmp_path: Path, write_image: WriteImage) -> None:
    # Flipped to RAS and never back: the shape is the image's, the voxels are not.
    values = blocks()
    path = write_image(tmp_path / "a.nii.gz", values, np.diag([-1.0, 1.0, 1.0, 1.0]))
    with pytest.raises(GeometryError, match="lies elsewhere than its image"):
        segmenter(inverts=False).segment([path], read_header(path).grid)


@pytest.mark.parametrize("change", [0.5, -1.0, np.nan, 1e6])
def test_what_is_no_label_is_refused(tmp_path: Path, write_image: WriteImage, change: float) -> None:
    path = write_image(tmp_path / "a.nii.gz", blocks())

    def spoil(item: dict[str, Any]) -> dict[str, Any]:
        return item | {"pred": item["pred"] + change}

    with pytest.raises(BundleError, match="no whole numbers") as caught:
        segmenter(last=spoil).segment([path], read_header(path).grid)
    assert caught.value.code == "no-mask"


def test_labels_above_255_take_two_bytes(tmp_path: Path, write_image: WriteImage) -> None:
    path = write_image(tmp_path / "a.nii.gz", blocks())
    large = segmenter(last=lambda item: item | {"pred": item["pred"] * 700})
    mask = large.segment([path], read_header(path).grid)
    assert mask.dtype == np.uint16
    np.testing.assert_array_equal(mask, 700 * (blocks() > THRESHOLD))


LEVELS = (0.5, 0.2, 1.5)


class Overlapping(torch.nn.Module):
    """Logits of one output for each level: where the image is above it."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image - level for level in LEVELS], dim=1)


def overlapping(*last: Any) -> Segmenter:
    found = segmenter()
    inverts = Invertd(keys="pred", transform=found.preprocessing, orig_keys="image", nearest_interp=False)
    sigmoid, cut = Activationsd(keys="pred", sigmoid=True), AsDiscreted(keys="pred", threshold=0.5)
    steps = {"sigmoid": sigmoid, "invert": inverts, "cut": cut}
    chosen = [steps.get(one, one) if isinstance(one, str) else one for one in last]
    return replace(found, network=Overlapping(), postprocessing=Compose(chosen))


def merge(item: dict[str, Any]) -> dict[str, Any]:
    found = item["pred"]
    found[0] *= 0  # whatever it does to what it was given
    return item | {"pred": found[[0]] + 2 * found[[1]]}


def keep_first(item: dict[str, Any]) -> dict[str, Any]:
    return item | {"pred": item["pred"] * 3}


@pytest.mark.parametrize(
    "steps",
    [
        ("sigmoid", "invert", "cut"),
        ("sigmoid", "invert", "cut", merge),
        ("sigmoid", "cut", merge, "invert"),
        ("sigmoid", "cut", merge, keep_first, "invert"),
    ],
)
def test_regions_are_what_each_output_gives(tmp_path: Path, write_image: WriteImage, steps: tuple[Any, ...]) -> None:
    values = 2 * blocks()
    values[3:5, 4:8, 3] = 0.3
    path = write_image(tmp_path / "a.nii.gz", values, np.diag([-1.0, 1.0, 1.0, 1.0]))
    told: list[str] = []
    masks = overlapping(*steps).segment_regions([path], read_header(path).grid, 3, tell=told.append)
    assert masks.dtype == np.uint8
    np.testing.assert_array_equal(masks, np.stack([values > level for level in LEVELS]))
    assert told == []


def test_a_step_of_the_bundle_s_own_that_changes_regions_is_told(tmp_path: Path, write_image: WriteImage) -> None:
    path = write_image(tmp_path / "a.nii.gz", blocks())
    turned = overlapping("sigmoid", "invert", "cut", lambda item: item | {"pred": item["pred"].flip(0)})
    told: list[str] = []
    masks = turned.segment_regions([path], read_header(path).grid, 3, tell=told.append)
    np.testing.assert_array_equal(masks, np.stack([blocks() > level for level in LEVELS[::-1]]))
    assert told == [OWN_STEP]


@pytest.mark.parametrize(
    ("steps", "count", "code"),
    [
        (("sigmoid", "invert", "cut"), 2, "channels"),
        (("sigmoid", "invert"), 3, "no-mask"),
        (("sigmoid", "invert", "cut", keep_first), 3, "no-regions"),
        (("sigmoid", "cut"), 3, "mask-off-grid"),
    ],
)
def test_what_are_no_regions_is_refused(
    tmp_path: Path, write_image: WriteImage, steps: tuple[Any, ...], count: int, code: str
) -> None:
    path = write_image(tmp_path / "a.nii.gz", 2 * blocks(), np.diag([-1.0, 1.0, 1.0, 1.0]))
    with pytest.raises(VolsegError) as caught:
        overlapping(*steps).segment_regions([path], read_header(path).grid, count)
    assert caught.value.code == code


def test_overlapping_masks_that_nothing_merges_are_refused_with_what_to_do(
    tmp_path: Path, write_image: WriteImage
) -> None:
    path = write_image(tmp_path / "a.nii.gz", blocks())
    with pytest.raises(BundleError, match=r"gives 3 masks that may overlap.* --regions") as caught:
        overlapping("sigmoid", "invert", "cut").segment([path], read_header(path).grid)
    assert caught.value.code == "needs-regions"


def test_a_step_may_change_its_input_in_place(tmp_path: Path, write_image: WriteImage) -> None:
    path = write_image(tmp_path / "a.nii.gz", blocks())

    def double(item: dict[str, Any]) -> dict[str, Any]:
        item["pred"].mul_(2)
        return item

    mask = segmenter(last=double).segment([path], read_header(path).grid)
    np.testing.assert_array_equal(mask, 2 * (blocks() > THRESHOLD))


def test_steps_that_save_are_left_out(tmp_path: Path) -> None:
    save = SaveImaged(keys="pred", output_dir=tmp_path / "out")
    discrete = AsDiscreted(keys="pred", argmax=True)
    assert [type(step) for step in without_saving(Compose([discrete, save])).transforms] == [AsDiscreted]
    assert without_saving(discrete) is discrete
    assert list(tmp_path.iterdir()) == []


class Halving(torch.nn.Module):
    """As U-Nets: what it halved has to fit what it kept."""

    def __init__(self) -> None:
        super().__init__()
        self.down = torch.nn.MaxPool3d(2, ceil_mode=True)
        self.up = torch.nn.Upsample(scale_factor=2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        above = image - THRESHOLD + 0 * self.up(self.up(self.down(self.down(image))))
        return torch.cat([-above, above], dim=1)


def test_an_image_is_padded_where_the_network_takes_multiples_alone(tmp_path: Path, write_image: WriteImage) -> None:
    values = blocks()  # 14 x 16 x 12
    path = write_image(tmp_path / "image.nii.gz", values)
    grid = read_header(path).grid
    halving = replace(segmenter(), network=Halving())
    told: list[str] = []
    mask = halving.segment([path], grid, tell=told.append)
    np.testing.assert_array_equal(mask, values > THRESHOLD)
    assert len(told) == 1
    assert "multiples of 4 voxels alone" in told[0]
    assert "14 x 16 x 12 was made 16 x 16 x 12" in told[0]
    fits = write_image(tmp_path / "fits.nii.gz", values[:12])
    halving.segment([fits], read_header(fits).grid, tell=told.append)
    assert len(told) == 1


class TwoChannels(Brighter):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv3d(2, 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.convolution(image)
        return logits


def test_channels_are_counted_after_preprocessing(tmp_path: Path, write_image: WriteImage) -> None:
    path = write_image(tmp_path / "image.nii.gz", blocks())
    two = replace(segmenter(), network=TwoChannels(), channels=2)
    with pytest.raises(InputError, match="has 1 channels after the bundle's preprocessing, and the network takes 2"):
        two.segment([path], read_header(path).grid)

    def twice(item: dict[str, Any]) -> dict[str, Any]:
        item["image"] = torch.cat([item["image"], item["image"]])
        return item

    added = replace(
        two, preprocessing=Compose([two.preprocessing, twice]), postprocessing=AsDiscreted("pred", argmax=True)
    )
    assert added.segment([path], read_header(path).grid).shape == blocks().shape


def test_a_batch_is_prepared_as_the_config_says(tmp_path: Path, write_image: WriteImage) -> None:
    values = blocks()
    path = write_image(tmp_path / "image.nii.gz", values)
    seen: list[Any] = []

    def prepare(batch: dict[str, Any], device: torch.device, _: bool) -> tuple[Any, ...]:
        return 1 - batch["image"].to(device), None, ("more",), {"also": 1}

    def inferer(inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append((args, kwargs))
        result: torch.Tensor = network(inputs)
        return result

    turned = replace(segmenter(), prepare_batch=prepare, inferer=inferer)
    np.testing.assert_array_equal(turned.segment([path], read_header(path).grid), values < THRESHOLD)
    assert seen == [(("more",), {"also": 1})]


def test_labels_that_a_bundle_interpolates_are_rounded_and_told(tmp_path: Path, write_image: WriteImage) -> None:
    """A mask of labels on a coarser grid, inverted linearly: MONAI's own result, rounded."""
    path = write_image(tmp_path / "image.nii.gz", blocks())
    coarse = segmenter((1.7, 1.0, 1.0))
    assert isinstance(coarse.postprocessing, Compose)
    inverting, argmax = coarse.postprocessing.transforms
    first = replace(coarse, postprocessing=Compose([argmax, inverting]))
    told: list[str] = []
    mask = first.segment([path], read_header(path).grid, tell=told.append)
    item = first.preprocessing({"image": str(path)})
    item["pred"] = Brighter()(item["image"][None])[0]
    theirs = np.asarray(inverting(argmax(item))["pred"][0])
    between = int((theirs != np.round(theirs)).sum())
    assert between > 0
    np.testing.assert_array_equal(mask, np.round(theirs))
    assert len(told) == 1
    assert f": {between} voxels at borders were rounded" in told[0]


class Shifted(torch.nn.Module):
    """Logits of three classes, each of its own mixture of the image."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.mix = torch.nn.Parameter(torch.randn(3, 2, generator=random))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        gain, offset = self.mix.T.reshape(2, 1, 3, 1, 1, 1)
        return gain * image + offset


@pytest.mark.parametrize("how", ["softmax", "sigmoid"])
def test_an_ensemble_averages_probabilities_one_network_after_the_other(
    tmp_path: Path, write_image: WriteImage, how: Any
) -> None:
    image = np.random.default_rng(3).normal(size=(6, 7, 5)).astype(np.float32)
    path = write_image(tmp_path / "a.nii.gz", image)
    networks = [Shifted(seed) for seed in range(3)]
    seen: list[np.ndarray] = []
    found: list[float] = []

    def look(item: dict[str, Any]) -> dict[str, Any]:
        seen.append(np.asarray(item["pred"]).copy())
        return item

    made = segmenter(inverts=False)
    steps = Compose([look, AsDiscreted(keys="pred", argmax=True)])
    made = replace(made, network=networks[0], others=tuple(networks[1:]), averaged_as=how, postprocessing=steps)
    mask = made.segment([path], read_header(path).grid, found.append)
    logits = [
        network.mix.detach().numpy()[:, 0, None, None, None] * image
        + network.mix.detach().numpy()[:, 1, None, None, None]
        for network in networks
    ]
    if how == "softmax":
        each = [np.exp(one) / np.exp(one).sum(axis=0) for one in logits]
    else:
        each = [1 / (1 + np.exp(-one)) for one in logits]
    np.testing.assert_allclose(seen[0], np.mean(each, axis=0), rtol=1e-5)
    np.testing.assert_array_equal(mask, np.mean(each, axis=0).argmax(axis=0))


def test_no_image_is_prepared_while_the_steps_of_another_are_undone(tmp_path: Path, write_image: WriteImage) -> None:
    """MONAI lets a transform remember nothing while it is inverted."""
    path = write_image(tmp_path / "image.nii.gz", blocks())
    grid = read_header(path).grid
    prepared = threading.Event()

    def beside() -> None:
        found.prepare([path], grid)
        prepared.set()

    def start(item: dict[str, Any]) -> dict[str, Any]:
        other.start()
        assert not prepared.wait(0.3)
        return item

    other, found = threading.Thread(target=beside), segmenter(last=start)
    np.testing.assert_array_equal(found.segment([path], grid), blocks() > THRESHOLD)
    other.join()
    assert prepared.is_set()

"""Random patches: what lies near a border is seen, labels stay on their image, and shapes keep their millimetres."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import ClassesToIndicesd, RandSimulateLowResolutiond
from scipy import ndimage
from scipy.spatial.transform import Rotation

from volseg.errors import UsageError
from volseg.training.patches import RandMarginCropd, RandSpatiald

KEYS = ["image", "label"]
MODES = ["bilinear", "nearest"]


def spatial(**more: Any) -> RandSpatiald:
    found = RandSpatiald(KEYS, MODES, **({"spacing": [1, 1, 1]} | more))
    found.set_random_state(more.pop("seed", 0))
    return found


def blob(shape: tuple[int, ...], radius: float = 6.0) -> dict[str, torch.Tensor]:
    """An ellipsoid off the middle, smooth in the image."""
    places = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij"), axis=-1)
    distance = np.linalg.norm((places - (3, -2, 1)) / (1, 1.5, 0.7), axis=-1)
    image = torch.tensor(1 / (1 + np.exp(distance - radius)), dtype=torch.float32)[None]
    return {"image": image, "label": (image > 0.5).to(torch.uint8)}


def crop(margin: int = 3, size: int = 10, **more: Any) -> RandMarginCropd:
    found = RandMarginCropd(KEYS, "label", [size] * 3, [margin] * 3, 2, "label_cls_indices", **more)
    found.set_random_state(0)
    return found


def test_a_crop_with_a_margin_reaches_every_border() -> None:
    """The middle is what MONAI's crop without a margin gives; of the margin, what is outside is 0."""
    from monai.transforms import RandCropByLabelClassesd

    volume = torch.arange(1, 1 + 9 * 8 * 7, dtype=torch.float32).reshape(1, 9, 8, 7)
    label = torch.zeros(1, 9, 8, 7, dtype=torch.uint8)
    label[0, ::8, ::7, ::6] = 1  # the corners
    item = ClassesToIndicesd("label", num_classes=2)({"image": volume, "label": label})
    plain = RandCropByLabelClassesd(KEYS, "label", [4] * 3, num_classes=2, indices_key="label_cls_indices", warn=False)
    plain.set_random_state(0)
    padded, cropper, seen = (
        torch.nn.functional.pad(volume, [3] * 6),
        crop(),
        torch.zeros(9 * 8 * 7 + 1, dtype=torch.bool),
    )
    for _ in range(150):
        [expected] = plain(dict(item))
        [found] = cropper(dict(item))
        assert found["image"].shape == found["label"].shape == (1, 10, 10, 10)
        assert torch.equal(found["image"][:, 3:7, 3:7, 3:7], expected["image"].as_tensor())
        i, j, k = np.unravel_index(int(expected["image"][0, 0, 0, 0]) - 1, (9, 8, 7))
        assert torch.equal(found["image"], padded[:, i : i + 10, j : j + 10, k : k + 10])
        seen[expected["image"].long().flatten()] = True
    assert seen[1:].all()


@pytest.mark.parametrize("margin", [[5, 0, 0], [-1, 0, 0]])
def test_margins_leave_something(margin: list[int]) -> None:
    with pytest.raises(UsageError, match="leave nothing"):
        RandMarginCropd(KEYS, "label", [10, 10, 10], margin, 2, "label_cls_indices")


def test_where_nothing_is_drawn_the_middle_is_cut_out_as_it_is() -> None:
    item = blob((20, 22, 24))
    found = spatial(margin=[2, 3, 0], rotate_range=[1, 1, 1], scale_range=[0.5, 2])(item)
    for key in KEYS:
        assert torch.equal(found[key], item[key][:, 2:18, 3:19])
        assert found[key].dtype == item[key].dtype


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.1, 2.0)])
def test_a_rotation_and_scaling_is_that_of_millimetres(spacing: tuple[float, float, float]) -> None:
    """Against scipy's rotation and its interpolation at the places that they give."""
    item = blob((24, 26, 22))
    changed = spatial(spacing=list(spacing), margin=[4, 5, 3], rotate_prob=1, rotate_range=[0.4, 0.5, 0.3], scale_prob=1,
                      scale_range=[0.7, 1.4])  # fmt: skip
    random = np.random.RandomState(0)
    random.rand(3)
    turned = Rotation.from_euler("xyz", random.uniform([-0.4, -0.5, -0.3], [0.4, 0.5, 0.3])).as_matrix()
    ranges = [(0.7, 1.0), (1.0, 1.4)]
    factor = random.uniform(*ranges[random.randint(2)])
    size = (16, 16, 16)
    mm = np.stack(np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * step for n, step in zip(size, spacing, strict=True)],
                              indexing="ij"))  # fmt: skip
    seen = np.einsum("ab,bijk->aijk", turned, mm) * factor / np.reshape(spacing, (3, 1, 1, 1))
    places = seen + np.reshape([(n - 1) / 2 for n in (24, 26, 22)], (3, 1, 1, 1))
    found = changed(item)
    expected = ndimage.map_coordinates(item["image"][0].numpy(), places, order=1, mode="grid-constant")
    np.testing.assert_allclose(found["image"][0].numpy(), expected, atol=1e-4)
    # The label lies where the image has it, but for voxels whose nearest neighbour is on the other side of its edge.
    clear = np.abs(expected - 0.5) > 0.2
    assert np.array_equal((found["label"][0].numpy() > 0)[clear], (expected > 0.5)[clear])
    assert found["label"].dtype == torch.uint8


def test_a_deformation_moves_points_by_about_what_it_says_and_keeps_labels_on_their_image() -> None:
    shape = (40, 40, 40)
    ramps = torch.stack(torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in shape], indexing="ij"))
    inside = (slice(None), *[slice(8, -8)] * 3)
    moves = []
    for seed in range(6):
        changed = spatial(deform_prob=1, deform_range=[2.0, 2.0])
        changed.set_random_state(seed)
        found = changed({"image": ramps, "label": ramps})
        moves.append((found["image"] - ramps)[inside].flatten())
        assert (found["label"] - found["image"])[inside].abs().max() <= 0.51
        # Nothing is folded: a place further along an axis shows what lies further along.
        assert all((found["image"][axis].diff(dim=axis)[inside[1:]] > 0).float().mean() > 0.99 for axis in range(3))
    assert 0.8 < float(torch.cat(moves).std()) < 2.0  # between the points it is interpolated, which makes it less
    assert abs(float(torch.cat(moves).mean())) < 0.5


def test_rotation_scaling_and_deformation_come_as_often_as_asked_for() -> None:
    changed, counts = (
        spatial(rotate_prob=0.3, rotate_range=[0.1] * 3, deform_prob=0.1, deform_range=[1, 1]),
        np.zeros(2),
    )
    for _ in range(400):
        changed.randomize([8, 8, 8])
        counts += changed._matrix is not None, changed._moved is not None
    assert counts / 400 == pytest.approx([0.37, 0.1], abs=0.06)


def test_the_seed_decides_also_in_a_copy() -> None:
    item = blob((16, 16, 16))
    changed = spatial(rotate_prob=1, rotate_range=[1, 1, 1], scale_prob=1, scale_range=[0.7, 1.4], deform_prob=1,
                      deform_range=[0, 2])  # fmt: skip
    torch.manual_seed(1)
    first = [changed(item)["image"] for _ in range(3)]
    other = deepcopy(changed)
    torch.manual_seed(2)
    np.random.seed(3)  # noqa: NPY002  a draw from anybody else's state would show
    for transform in (changed, other):
        transform.set_random_state(0)
        assert all(torch.equal(one, transform(item)["image"]) for one in first)


def test_a_simulated_low_resolution_leaves_the_image_where_it_is() -> None:
    """MONAI's with "nearest", its default, moves it by up to half a voxel against the label."""
    item = blob((32, 32, 32))["image"]

    def moved(mode: str) -> float:
        offsets = []
        for seed in range(40):
            lower = RandSimulateLowResolutiond(
                "image", prob=1, zoom_range=(0.5, 1.0), downsample_mode=mode, upsample_mode="trilinear"
            )
            lower.set_random_state(seed)
            centre = ndimage.center_of_mass(lower({"image": item})["image"][0].numpy())
            offsets.append(np.subtract(centre, ndimage.center_of_mass(item[0].numpy())))
        return float(np.abs(np.mean(offsets, axis=0)).max())

    assert moved("nearest-exact") < 0.1
    assert moved("nearest") > 0.15


def test_modes_are_as_many_as_keys() -> None:
    with pytest.raises(UsageError, match="as many modes"):
        RandSpatiald(KEYS, ["bilinear"], spacing=[1, 1, 1])


def test_voxels_that_are_very_long_take_no_more_points_than_voxels() -> None:
    found = spatial(spacing=[1e-6, 1e4, 1e4], deform_prob=1.0, deform_range=[1, 1])(blob((8, 9, 10)))
    assert found["image"].shape == (1, 8, 9, 10)
    assert torch.isfinite(found["image"]).all()

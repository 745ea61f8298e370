"""Augmentations: what a plan may choose, as MONAI builds it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from scipy.spatial.transform import Rotation

from tests.plans import LABELS, fingerprint
from volseg.bundle.vocabulary import KINDS
from volseg.errors import UsageError
from volseg.labels import Label, LabelTable
from volseg.planning.augmentations import FULL_RADIANS, LIGHT_RADIANS, AllChanges, SmallChanges
from volseg.planning.plan import choose
from volseg.planning.wishes import Wishes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakePlan, WriteImage


def named(steps: list[Any], name: str) -> list[Any]:
    return [step for step in steps if str(step["_target_"]).endswith(f".{name}")]


def built(description: Any, **parts: object) -> Any:
    return ConfigParser({"it": description, **parts}).get_parsed_content("it")


@pytest.mark.parametrize(
    ("spacing", "turned"),
    [((1, 1, 1), (1, 1, 1)), ((0.8, 0.8, 5), (0, 0, 1)), ((5, 0.8, 0.8), (1, 0, 0)), ((1, 4, 4), (0, 0, 0)), ((1, 1, 2), (1, 1, 1))],
)  # fmt: skip
def test_no_rotation_mixes_thick_slices(spacing: Any, turned: Any) -> None:
    """Both turn about each axis of the array in turn (the first angle leaves the first axis alone)."""
    [light] = named(SmallChanges(spacing).components(), "RandAffined")
    [full] = named(AllChanges(spacing).components(), "RandSpatiald")
    assert light["rotate_range"] == [LIGHT_RADIANS * one for one in turned]
    assert full["rotate_range"] == [FULL_RADIANS * one for one in turned]
    assert bool(named(AllChanges(spacing).components(), "RandSimulateLowResolutiond")) == (max(spacing) <= 2)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.8, 5.0), (1.0, 1.1, 0.9)])
def test_a_margin_holds_what_a_rotation_brings_in(spacing: Any) -> None:
    """Every corner of a patch that is turned about one axis lies inside the larger one, and none wastes much."""
    patch = (40, 48, 40)
    margin = AllChanges(spacing).margin(patch)
    half = (np.array(patch) - 1) / 2
    corners = np.array(np.meshgrid(*[(-n, n) for n in half])).reshape(3, -1)
    [changed] = named(AllChanges(spacing).components(), "RandSpatiald")
    matrices = [np.eye(3)]
    for axis, largest in enumerate(changed["rotate_range"]):
        for angle in np.linspace(-1, 1, 9) * largest:
            turned = Rotation.from_rotvec(np.eye(3)[axis] * angle).as_matrix()
            matrices.append(turned * np.array(spacing) / np.array(spacing)[:, None])
    reach = np.max([np.abs(matrix @ corners).max(axis=1) for matrix in matrices], axis=0)
    assert (reach <= half + margin).all()
    assert (1.2 * (reach + 1) + 1 >= half + margin).all()


@pytest.mark.parametrize("patch", [(256, 256, 256), (64, 512, 512), (1, 4096, 4096)])
def test_a_margin_never_makes_a_patch_that_needs_trust(patch: Any) -> None:
    crop = [side + 2 * more for side, more in zip(patch, AllChanges((1.0, 1.0, 1.0)).margin(patch), strict=True)]
    assert KINDS["size"].values[0].takes(crop)


def test_full_mirrors_where_names_allow_and_light_never() -> None:
    measured = fingerprint([(40, 40, 40)], [(1.0, 1.0, 1.0)])
    table = LabelTable((Label(1, "Anterior"), Label(2, "Posterior")))
    plan = choose(measured, table, "b", Wishes(augment="full"))
    assert [step["spatial_axis"] for step in named(plan.augmentation.components(), "RandFlipd")] == [0, 2]
    [reason] = [why for choice, why in plan.reasons if choice == "augmentation full"]
    assert "mirroring along R and S, none along A, since sides tell labels apart (Anterior, Posterior)" in reason
    light = choose(measured, table, "b", Wishes(augment="light"))
    assert not named(light.augmentation.components(), "RandFlipd")
    sided = choose(measured, LabelTable((Label(1, "lung left"), Label(2, "lung right"))), "b", Wishes(augment="full"))
    assert [step["spatial_axis"] for step in named(sided.augmentation.components(), "RandFlipd")] == [1, 2]
    assert choose(measured, LABELS, "b").augmentation.name == "light"


def test_a_person_may_know_better_what_can_be_mirrored() -> None:
    measured = fingerprint([(40, 40, 40)], [(1.0, 1.0, 1.0)])
    sides = LabelTable((Label(1, "lung left"), Label(2, "lung right")))
    none = choose(measured, sides, "b", Wishes(augment="full", mirror=()))
    assert not named(none.augmentation.components(), "RandFlipd")
    assert any("no mirroring, as asked for; by the names of the labels" in why for _, why in none.reasons)
    assert none.warnings == choose(measured, sides, "b", Wishes(augment="full")).warnings
    light = choose(measured, sides, "b", Wishes(mirror=(0, 2)))
    assert [step["spatial_axis"] for step in named(light.augmentation.components(), "RandFlipd")] == [0, 2]
    [reason] = [why for choice, why in light.reasons if choice == "augmentation light"]
    assert "mirroring along R and S, as asked for; by the names of the labels it would be mirroring along A" in reason
    assert any("sides tell labels apart (lung left, lung right)" in warning for warning in light.warnings)
    with pytest.raises(UsageError, match="--mirror can't"):
        choose(measured, sides, "b", Wishes(augment="none", mirror=(0,)))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_is_mirrored_is_the_patient_s_axis_however_it_is_stored(
    axis: int, order: tuple[int, int, int], make_plan: MakePlan, tmp_path: Path, write_image: WriteImage
) -> None:
    from volseg.bundle.configs import train_config

    plan = make_plan(augmentation=AllChanges((1.0, 1.0, 1.0), (axis,)), patch=(12, 12, 12), whole_volumes=True)
    steps: Any = train_config(plan, "data")["train"]
    [flip] = named(steps["random_transforms"], "RandFlipd")
    values = np.zeros((12, 12, 12), np.float32)
    values[1, 3, 5] = 100  # along R, A, S
    angle, signs = math.radians(8), (-1, 1, -1)
    tilt = np.eye(4)
    tilt[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    stored = values.transpose(order)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for own, world in enumerate(order):
        affine[world, own] = signs[own]
        stored = np.flip(stored, own) if signs[own] < 0 else stored
    for folder in ("image", "label"):
        write_image(tmp_path / f"{folder}.nii.gz", stored, tilt @ affine)
    transforms = [step for step in steps["deterministic_transforms"] if "Spacingd" not in str(step["_target_"])]
    transforms = [step for step in transforms if "Intensity" not in str(step["_target_"])]
    pipeline = built({"_target_": "monai.transforms.Compose", "transforms": [*transforms, flip | {"prob": 1.0}]})
    found = pipeline({key: str(tmp_path / f"{key}.nii.gz") for key in ("image", "label")})
    for key in ("image", "label"):
        place = [int(one) for one in torch.nonzero(found[key][0])[0]]
        assert place == [11 - one if own == axis else one for own, one in enumerate((1, 3, 5))]

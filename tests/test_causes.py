"""Exceptions of libraries as a person needs them: the cause, with its numbers, and no text of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import monai
import pytest
import torch
from monai.utils import optional_import

from volseg.causes import cause_of

if TYPE_CHECKING:
    from collections.abc import Callable


def raised(work: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:
        work()
    return caught.value


def unet() -> torch.nn.Module:
    network: torch.nn.Module = monai.networks.nets.UNet(3, 4, 2, (4, 8, 16), (2, 2), num_res_units=1)
    return network


class Boxes(torch.utils.data.Dataset[torch.Tensor]):
    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.zeros(1, 4 + index, 4, 4)

    def __len__(self) -> int:
        return 2


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda: unet()(torch.zeros(1, 1, 8, 8, 8)), "the network takes 4 channels and is given 1"),
        (lambda: unet()(torch.zeros(1, 4, 9, 8, 8)), "have to be multiples"),
        (
            lambda: monai.losses.DiceLoss()(torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4)),
            "the labels have the",
        ),
        (lambda: next(iter(torch.utils.data.DataLoader(Boxes(), 2))), "pieces of different shapes"),
        (lambda: next(iter(torch.utils.data.DataLoader(Boxes(), 2, num_workers=1))), "[1, 4, 4, 4] and [1, 5, 4, 4]"),
        (lambda: torch.utils.data.DataLoader([], shuffle=True), "finds no case"),
        (lambda: optional_import("no_such_module")[0].part, "the Python module no_such_module is not installed"),
        (lambda: monai.networks.nets.SwinUNETR(in_channels=1, out_channels=2, img_size=3), "takes no img_size"),
        (lambda: monai.transforms.EnsureChannelFirstd(["image"])({}), "EnsureChannelFirstd wants the part image"),
        (lambda: torch.nn.Conv3d(1, 1, 1).to("cuda:7"), "a GPU that this machine doesn't have"),
        (lambda: torch.linalg.vector_norm(torch.ones(2, dtype=torch.bool)), "numbers and is given Bool"),
        (lambda: torch.distributed.get_rank(torch.distributed.group.WORLD), "several GPUs"),
        (lambda: torch.nn.Linear(2, 3).load_state_dict({}), "the weights are those of another network than Linear"),
        (lambda: monai.bundle.ConfigParser({"a": {"_target_": "AddNothing"}}).get_parsed_content("a"), "no AddNothing"),
    ],
)
def test_what_libraries_say_is_recognised(work: Callable[[], object], words: str) -> None:
    if "GPU that" in words and torch.cuda.device_count() > 7:
        pytest.skip("this machine has it")
    cause = cause_of(raised(work))
    assert words in cause.clause
    assert cause.known


def test_the_step_that_failed_is_named() -> None:
    steps: Any = monai.transforms.Compose([monai.transforms.Lambdad("image", func=lambda x: x["JANE"])])
    cause = cause_of(raised(lambda: steps({"image": {"DOE": 1}})))
    assert cause.clause.startswith("KeyError in tests") or cause.clause.startswith("KeyError in test_causes")
    assert cause.clause.endswith("(in the step Lambdad)")
    assert "JANE" not in cause.clause
    assert not cause.known


def test_what_nobody_knows_tells_its_kind_and_place_alone() -> None:
    def fail() -> None:
        raise ValueError("Jane Doe's scan in /data/doe.nii.gz")

    cause = cause_of(raised(fail))
    assert "ValueError in " in cause.clause
    assert "Doe" not in cause.clause
    assert "doe" not in cause.clause


def test_chains_without_an_end_and_long_texts() -> None:
    first, second = ValueError("x" * 10**6), KeyError("y")
    first.__cause__, second.__cause__ = second, first
    assert cause_of(first).clause == "KeyError"

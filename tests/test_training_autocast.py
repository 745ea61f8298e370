"""bfloat16 where it pays, float32 out of it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import torch

from volseg.training import autocast as module
from volseg.training.autocast import AutocastInferer, cpu_has_bfloat16, use_bfloat16

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fresh() -> Iterator[None]:
    cpu_has_bfloat16.cache_clear()
    yield
    cpu_has_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512f avx512_bf16 sse", True), ("fpu amx_bf16", True), ("fpu avx512f avx512_bf16x", False), ("", False)],
)
@pytest.mark.usefixtures("fresh")
def test_the_processor_s_flags_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    monkeypatch.setattr(module, "Path", lambda _: tmp_path / "cpuinfo")
    assert cpu_has_bfloat16() is expected
    assert use_bfloat16(torch.device("cpu")) is expected


@pytest.mark.usefixtures("fresh")
def test_without_that_file_float32_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Path", lambda _: tmp_path / "absent")
    assert not cpu_has_bfloat16()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_network_runs_in_bfloat16_and_gives_float32(monkeypatch: pytest.MonkeyPatch, enabled: bool) -> None:
    monkeypatch.setattr(module, "use_bfloat16", lambda _: enabled)
    seen = []

    def network(image: torch.Tensor) -> torch.Tensor:
        found = torch.nn.functional.conv3d(image, torch.ones(2, 1, 1, 1, 1))
        seen.append(found.dtype)
        return found

    logits = AutocastInferer()(torch.full((1, 1, 4, 4, 4), 1.25), network)
    assert seen == [torch.bfloat16 if enabled else torch.float32]
    assert isinstance(logits, torch.Tensor)
    assert logits.dtype == torch.float32
    assert logits.shape == (1, 2, 4, 4, 4)
    assert (logits == 1.25).all()  # a number that bfloat16 holds


def test_stacked_heads_come_back_as_a_list() -> None:
    stacked = torch.stack([torch.full((2, 3, 4, 4, 4), float(head)) for head in range(3)], dim=1)
    heads = AutocastInferer()(torch.zeros(2, 1, 4, 4, 4), lambda _: stacked)
    assert isinstance(heads, list)
    assert [tuple(head.shape) for head in heads] == [(2, 3, 4, 4, 4)] * 3
    assert [float(head.mean()) for head in heads] == [0.0, 1.0, 2.0]
    smaller = [
        torch.ones(2, 3, 4 // 2**head, 4, 4, dtype=torch.bfloat16) for head in range(2)
    ]  # SegResNetDS gives a list
    heads = AutocastInferer()(torch.zeros(2, 1, 4, 4, 4), lambda _: smaller)
    assert [(tuple(head.shape), head.dtype) for head in heads] == [
        ((2, 3, 4, 4, 4), torch.float32), ((2, 3, 2, 4, 4), torch.float32)
    ]  # fmt: skip


def test_another_inferer_is_run_inside() -> None:
    from monai.inferers import SlidingWindowInferer

    window = SlidingWindowInferer(roi_size=(4, 4, 4), sw_batch_size=2, overlap=0.25)
    found = AutocastInferer(window)(torch.ones(1, 1, 9, 8, 7), lambda image: image * 2)
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found, torch.full((1, 1, 9, 8, 7), 2.0))


def test_bfloat16_anywhere_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "use_bfloat16", lambda _: False)
    convolution = torch.nn.Conv3d(1, 1, 1)
    seen = []
    convolution.register_forward_hook(lambda *found: seen.append(found[-1].dtype))
    for anywhere in (False, True):
        assert AutocastInferer(anywhere=anywhere)(torch.ones(1, 1, 4, 4, 4), convolution).dtype == torch.float32
    assert seen == [torch.float32, torch.bfloat16]


def test_channels_of_slim_convolutions_lie_last_while_a_network_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the gradient is slow otherwise, and nowhere else; it stays what float32 gives, but for rounding."""
    layouts: dict[str, bool] = {}

    class Spied(torch.nn.Conv3d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            layouts[f"{self.in_channels}-{self.out_channels}"] = (
                input.is_contiguous(memory_format=torch.channels_last_3d) and not input.is_contiguous()
            )
            return super().forward(input)

    torch.manual_seed(0)
    network = torch.nn.Sequential(Spied(2, 16, 3, padding=1), Spied(16, 3, 3, padding=1), Spied(3, 3, 3, padding=1))
    image, gradients = torch.randn(2, 2, 6, 7, 8), []
    for enabled in (False, True):
        monkeypatch.setattr(module, "use_bfloat16", lambda _, enabled=enabled: enabled)
        network.zero_grad()
        found = AutocastInferer()(image, network)
        assert isinstance(found, torch.Tensor)
        assert found.is_contiguous()
        found.square().sum().backward()
        gradients.append([one.grad for one in network.parameters() if one.grad is not None])
        assert layouts == {"2-16": False, "16-3": False, "3-3": enabled}
    for exact, quick in zip(*gradients, strict=True):
        assert float((exact - quick).norm() / exact.norm()) < 0.02
    with torch.no_grad():
        AutocastInferer()(image, network)
    assert not any(layouts.values())
    assert not any("forward" in vars(one) for one in network)


@pytest.mark.parametrize("side", [2, 6])
def test_convolutions_are_called_as_networks_call_them(side: int) -> None:
    class Child(torch.nn.Conv3d):
        def forward(self, input: torch.Tensor, factor: float = 1.0) -> Any:  # type: ignore[override]
            return super().forward(input) * factor, factor

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = (
                Child(1, 2, 3, padding=1),
                *(torch.nn.Conv3d(2, 2, 3, padding=1) for _ in range(2)),
            )

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            found, _ = self.one(image, factor=2.0)
            return torch.stack([self.three(item) for item in self.two(input=found)])

    image = torch.randn(2, 1, side, side, 2)
    for network in (Network(), Network().double()):
        given = image.to(next(network.parameters()).dtype)
        found = AutocastInferer(AutocastInferer(anywhere=True), anywhere=True)(given, network)
        assert isinstance(found, torch.Tensor)
        torch.testing.assert_close(found, network(given).float(), atol=0.1, rtol=0.1)
        assert not any("forward" in vars(one) for one in network.modules())


def test_a_forward_that_somebody_gave_a_convolution_stays() -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 1, 3, padding=1))
    network[0].forward = lambda image: image + 7  # type: ignore[method-assign]
    for _ in range(2):
        found = AutocastInferer(anywhere=True)(torch.zeros(1, 1, 2, 4, 4), network)
        assert isinstance(found, torch.Tensor)
        assert (found == 7).all()


def test_gradients_come_of_the_data_and_not_of_what_lay_in_memory() -> None:
    """Short images in bfloat16, in a process whose new memory is full of large numbers; float32 is the oracle."""
    script = """
        import torch
        from volseg.training.autocast import AutocastInferer
        torch.manual_seed(0)
        plain, transposed = torch.nn.Conv3d, torch.nn.ConvTranspose3d
        for kind, kernel, stride, size in [
            (plain, 3, 1, (2, 2, 2)), (plain, 3, 1, (2, 8, 8)), (plain, 3, (1, 2, 2), (8, 2, 1)), (plain, 5, 1, (4, 4, 4)),
            (plain, 2, 1, (1, 4, 4)), (transposed, 3, 2, (4, 4, 1)), (transposed, 3, 1, (2, 2, 2)),
        ]:
            convolution = kind(17, 32, kernel, stride, padding=kernel // 2)
            image = torch.randn(2, 17, *size)
            found = []
            for inferer in (AutocastInferer(anywhere=True), lambda image, network: network(image)):
                convolution.zero_grad()
                inferer(image, convolution).square().sum().backward()
                found.append(convolution.weight.grad)
            print(float((found[0] - found[1]).norm() / found[1].norm()))
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "MALLOC_PERTURB_": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    away = [float(one) for one in ran.stdout.split()]
    assert len(away) == 7
    assert all(one < 0.02 for one in away)

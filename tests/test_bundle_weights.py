"""Weights that inference loads: published whole, read as tensors, and never of another network."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch

from volseg.bundle.folder import Bundle, open_bundle
from volseg.bundle.published import publish
from volseg.bundle.weights import inference_network, load_into, misfit, read_state_dict, require_fit
from volseg.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import MakeBundle


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Bundle:
    return open_bundle(make_bundle())


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))


def test_a_state_dict_flat_or_nested(network: torch.nn.Module, tmp_path: Path) -> None:
    nested = ({key: network.state_dict(), "optimizer": {"step": 1}} for key in ("model", "net", "network"))
    for number, content in enumerate((network.state_dict(), *nested)):
        path = tmp_path / f"{number}.pt"
        torch.save(content, path)
        found = read_state_dict(path)
        assert all(torch.equal(found[name], tensor) for name, tensor in network.state_dict().items())
        assert len(found) == 4


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {"model": 5}, {1: torch.zeros(1)}, {"a": 1}, torch.zeros(2), None, "text"]
)
def test_what_is_no_state_dict(network: torch.nn.Module, tmp_path: Path, content: Any) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(BundleError) as caught:
        load_into(network, path)
    assert caught.value.code == ("weights-differ" if content == {} else "bad-weights")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_and_never_published(
    network: torch.nn.Module, bundle: Bundle, tmp_path: Path, bad: float
) -> None:
    state = network.state_dict()
    state["1.weight"][0, 1] = bad
    torch.save({"model": state}, tmp_path / "model.pt")
    for refuse in (
        lambda: load_into(network, tmp_path / "model.pt"),
        lambda: read_state_dict(tmp_path / "model.pt"),
        lambda: publish(bundle, None, state, "fold_0", 0.9),
    ):
        with pytest.raises(
            BundleError, match=r"model.pt: the weight 1.weight has numbers that are not finite"
        ) as caught:
            refuse()
        assert caught.value.code == "not-finite"
    assert not bundle.model_path.exists()


def test_weights_that_overflow_the_network_s_own_type_are_refused(network: torch.nn.Module, tmp_path: Path) -> None:
    wide = {name: tensor.double() * 1e300 for name, tensor in network.state_dict().items()}
    torch.save(wide, tmp_path / "model.pt")
    with pytest.raises(BundleError) as caught:
        load_into(network, tmp_path / "model.pt")
    assert caught.value.code == "not-finite"


@pytest.mark.parametrize("stride", [(0, 0, 0), (1, 1, 1), (0, 1, 0)])
def test_a_tensor_that_only_claims_to_be_huge_is_refused_at_once(tmp_path: Path, stride: tuple[int, ...]) -> None:
    huge = torch.zeros(2**17).as_strided((2**15, 2**15, 2**15), stride)
    torch.save({"weight": huge}, tmp_path / "model.pt")
    with pytest.raises(BundleError) as caught:
        read_state_dict(tmp_path / "model.pt")
    assert caught.value.code == "bad-weights"
    torch.save({"positions": torch.arange(196).expand(1, 196), "i": torch.eye(3).to_sparse()}, tmp_path / "model.pt")
    with pytest.raises(BundleError):
        read_state_dict(tmp_path / "model.pt")
    torch.save({"positions": torch.arange(196).expand(4, 196)}, tmp_path / "model.pt")
    assert read_state_dict(tmp_path / "model.pt")["positions"].shape == (4, 196)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(2, 3, device="meta"),
        lambda: torch.ones(2, 3).to(torch.float8_e4m3fn),
        lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
    ],
    ids=["meta", "float8", "nested"],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_numbers_are_refused(tmp_path: Path, make: Callable[[], torch.Tensor]) -> None:
    torch.save({"weight": make()}, tmp_path / "model.pt")
    with pytest.raises(BundleError) as caught:
        read_state_dict(tmp_path / "model.pt")
    assert caught.value.code == "bad-weights"


def test_every_weight_is_put_in_its_place(network: torch.nn.Module, tmp_path: Path) -> None:
    wanted = {name: torch.full_like(tensor, 3.0) for name, tensor in network.state_dict().items()}
    torch.save(wanted | {"heads.0.weight": torch.zeros(9)}, tmp_path / "model.pt")
    assert load_into(network, tmp_path / "model.pt") is network
    assert all((parameter == 3.0).all() for parameter in network.parameters())


def test_weights_of_another_network_change_nothing(network: torch.nn.Module, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    missing = {name: torch.zeros_like(tensor) for name, tensor in before.items() if name != "1.weight"}
    for content, says in (
        (missing, "1.weight of its 4 weights are missing"),
        ({}, "0.weight and 3 more of its 4 weights are missing"),
        (missing | {"1.weight": torch.zeros(2, 2)}, "1.weight has the shape (2, 2) instead of (1, 2)"),
        (missing | {"1.weight": torch.zeros(())}, "1.weight has the shape () instead of (1, 2)"),
    ):
        assert misfit(network, content) == says
        torch.save(content, tmp_path / "model.pt")
        with pytest.raises(BundleError) as caught:
            load_into(network, tmp_path / "model.pt")
        assert caught.value.code == "weights-differ"
        assert says in caught.value.message
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_numbers_of_another_kind_are_no_weights(network: torch.nn.Module, tmp_path: Path, dtype: torch.dtype) -> None:
    """Quantised ones without their scale, say: torch would take 117 for a weight, and drop what is imaginary."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.save(before | {"1.weight": torch.ones(1, 2).to(dtype)}, tmp_path / "model.pt")
    with pytest.raises(BundleError, match=r"1\.weight has numbers of type \w+ instead of float32") as caught:
        load_into(network, tmp_path / "model.pt")
    assert caught.value.code == "weights-differ"
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_other_precisions_and_counts_are_taken(tmp_path: Path) -> None:
    network = torch.nn.BatchNorm3d(2)
    state = {name: tensor.double() for name, tensor in network.state_dict().items()}  # as an average makes of counts
    torch.save(state | {"weight": torch.ones(2, dtype=torch.float16)}, tmp_path / "model.pt")
    assert load_into(network, tmp_path / "model.pt") is network


def test_what_is_no_network(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(BundleError) as caught:
        load_into("a text", tmp_path / "model.pt")  # type: ignore[arg-type]
    assert caught.value.code == "cannot-build"


def test_publishing_leaves_out_what_inference_lacks(bundle: Bundle) -> None:
    network = inference_network(bundle)
    assert network is not None
    trained = dict(network.state_dict()) | {"heads.0.weight": torch.zeros(9)}
    require_fit(bundle, network, trained)
    publish(bundle, network, trained, "fold_0", None)
    assert set(read_state_dict(bundle.model_path)) == set(network.state_dict())
    assert sorted(path.name for path in (bundle.root / "models").iterdir()) == ["model.pt", "published.json"]


def test_publishing_never_makes_weights_up(bundle: Bundle) -> None:
    network = inference_network(bundle)
    assert network is not None
    trained = dict(network.state_dict())
    del trained[next(iter(trained))]
    bundle.model_path.write_bytes(b"the last good ones")
    for act in (require_fit, partial(publish, run="fold_0", score=None)):
        with pytest.raises(BundleError) as caught:
            act(bundle, network, trained)
        assert caught.value.code == "networks-differ"
    assert bundle.model_path.read_bytes() == b"the last good ones"


def test_a_bundle_that_does_not_describe_its_network(bundle: Bundle) -> None:
    (bundle.root / "configs" / "inference.yaml").write_text("device: cpu\n")
    assert inference_network(bundle) is None
    (bundle.root / "configs" / "inference.yaml").unlink()
    assert inference_network(bundle) is None
    publish(bundle, None, {"a": torch.ones(2)}, "fold_0", None)
    assert read_state_dict(bundle.model_path)["a"].tolist() == [1, 1]


def test_nothing_is_published_through_a_link(bundle: Bundle, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (bundle.root / "models").rename(elsewhere)
    (bundle.root / "models").symlink_to(elsewhere)
    with pytest.raises(BundleError) as caught:
        publish(bundle, None, {"a": torch.ones(2)}, "fold_0", None)
    assert caught.value.code == "link"
    assert not list(elsewhere.iterdir())

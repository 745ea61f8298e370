"""Training that begins with other weights: a stranger's bundle, other labels, a run that goes on, what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml

from tests.conftest import adopted
from tests.heard import Heard
from volseg.bundle.folder import open_bundle
from volseg.bundle.weights import inference_network
from volseg.errors import BundleError, UsageError
from volseg.training.transfer import Initial
from volseg.verbs.train import TrainOptions, train

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import CopyBundle

QUICK: dict[str, Any] = {"steps_per_epoch": 1, "batch_size": 1, "max_epochs": 1}


@pytest.fixture
def drawn_bundle(copy_bundle: CopyBundle) -> Path:
    """A bundle whose weights are as they were drawn, of no run."""
    bundle = copy_bundle("source")
    network = inference_network(open_bundle(bundle))
    assert network is not None
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    return bundle


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(path, weights_only=True))


def initial_of(bundle: Path, run: str = "fold_0") -> Initial:
    found = Initial.read(bundle / "runs" / run / "initial.json")
    assert found is not None
    return found


def test_a_run_begins_with_anothers_weights_and_freezes_their_encoder(
    copy_bundle: CopyBundle, drawn_bundle: Path
) -> None:
    source, bundle = drawn_bundle, copy_bundle(**QUICK)
    heard = Heard()
    options = TrainOptions(init_from=source, freeze="encoder:1", taken_rate=0.5)
    assert train(bundle, options, heard)[0].complete
    told = "\n".join(heard.lines)
    assert "taken" in told
    assert "Frozen for 1 epoch" in told
    assert "trained these weights is not known" in told
    initial = initial_of(bundle)
    assert initial.seen is None
    assert {row.fate for row in initial.rows} <= {"taken", "fresh"}
    before, after = (weights_of(one) for one in (source / "models" / "model.pt", bundle / "runs/fold_0/final.pt"))
    assert initial.frozen
    assert all(torch.equal(before[name], after[name]) for name in initial.frozen)
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert moved
    assert not set(moved) & set(initial.frozen)
    # It goes on without being told again, thawed, at the same rates.
    train(bundle, TrainOptions(epochs=2))
    last = weights_of(bundle / "runs/fold_0/last.pt")
    assert any(not torch.equal(before[name], last["network"][name]) for name in initial.frozen)
    rates = [group["lr"] for group in last["optimizer"]["param_groups"]]
    assert len(rates) == 1  # all of the network was taken
    for wrong, said in (
        ({"init_from": bundle}, "another file"),
        ({"init_from": source, "freeze": "encoder:2"}, "--freeze"),
        ({"taken_rate": 0.1}, "--taken-rate"),
    ):
        with pytest.raises(UsageError, match=said):
            train(bundle, TrainOptions(epochs=3, **wrong))  # type: ignore[arg-type]
    assert train(bundle, TrainOptions(epochs=2, init_from=source, freeze="encoder:1"))[0].already


def test_a_strangers_weights_are_read_and_nothing_of_its_bundle_runs(
    copy_bundle: CopyBundle, drawn_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = drawn_bundle
    config = yaml.safe_load((source / "configs" / "inference.yaml").read_text())
    config["imports"] = ["$__import__('pathlib').Path('ran').touch()"]
    (source / "configs" / "inference.yaml").write_text(yaml.safe_dump(config))
    metadata = json.loads((source / "configs" / "metadata.json").read_text())
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "background", "1": "core", "2": "rind"}
    (source / "configs" / "metadata.json").write_text(json.dumps(metadata))
    monkeypatch.chdir(tmp_path)
    bundle = copy_bundle(**QUICK)
    heard = Heard()
    train(bundle, TrainOptions(init_from=source, all_cases=True), heard)
    assert not (tmp_path / "ran").exists()
    initial = initial_of(bundle, "all_cases")
    adapted = [row for row in initial.rows if row.fate == "adapted"]
    assert adapted
    assert {row.why for row in adapted} == {"2 of 3 classes, by their names"}  # core, and the background


def test_it_is_told_where_held_out_cases_trained_the_weights(copy_bundle: CopyBundle) -> None:
    bundle = copy_bundle(**QUICK)
    train(bundle)
    with pytest.raises(UsageError, match="as they were drawn"):
        train(bundle, TrainOptions(init_from=bundle))
    heard = Heard()
    train(bundle, TrainOptions(init_from=bundle / "runs" / "fold_0" / "last.pt", fold=1), heard)
    assert initial_of(bundle, "fold_1").seen == 2
    assert any("2 cases that fold_1 holds out trained these weights" in line for line in heard.lines)


def test_weights_with_nothing_in_common_are_refused_before_a_step(copy_bundle: CopyBundle, tmp_path: Path) -> None:
    bundle = copy_bundle(**QUICK)
    other = tmp_path / "other.pt"
    torch.save({"state_dict": {"a.weight": torch.zeros(3, 3)}}, other)
    with pytest.raises(BundleError, match="nothing in common"):
        train(bundle, TrainOptions(init_from=other))
    assert not (bundle / "runs" / "fold_0" / "last.pt").exists()
    assert not (bundle / "runs" / "fold_0" / "initial.json").exists()
    torch.save({"model": {"a.weight": torch.full((3, 3), torch.nan)}}, other)
    with pytest.raises(BundleError, match="not finite"):
        train(bundle, TrainOptions(init_from=other))
    other.write_bytes(b"no weights")
    with pytest.raises(BundleError, match="damaged"):
        train(bundle, TrainOptions(init_from=other))


def test_a_run_that_stopped_before_its_first_checkpoint_is_not_begun_from_scratch(
    copy_bundle: CopyBundle,
) -> None:
    bundle = copy_bundle(**QUICK)
    Initial("0" * 64, (), 0.3).write(bundle / "runs" / "fold_0" / "initial.json")
    adopted(bundle)
    with pytest.raises(UsageError, match="--init-from"):
        train(bundle, TrainOptions())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"freeze": "encoder"}, "--init-from"),
        ({"taken_rate": 0.5}, "--init-from"),
        ({"freeze": "decoder:3"}, "encoder:5"),
        ({"freeze": "encoder:0"}, "encoder:5"),
        ({"taken_rate": 0.0}, "above 0"),
        ({"init_from": "nowhere"}, "does not exist"),
    ],
)
def test_options_that_make_no_sense(copy_bundle: CopyBundle, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        train(copy_bundle(), TrainOptions(**options))


def test_folders_without_weights_or_with_several(copy_bundle: CopyBundle, drawn_bundle: Path, tmp_path: Path) -> None:
    bundle, source = copy_bundle(), drawn_bundle
    with pytest.raises(UsageError, match="no weights"):
        train(bundle, TrainOptions(init_from=copy_bundle("untrained")))
    model = source / "models" / "model.pt"
    for name in ("a.pt", "b.pt"):
        (source / "models" / name).write_bytes(model.read_bytes())
    model.unlink()
    with pytest.raises(UsageError, match="several"):
        train(bundle, TrainOptions(init_from=source))
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="no bundle"):
        train(bundle, TrainOptions(init_from=tmp_path / "folder"))
    (source / "models" / "b.pt").unlink()
    (source / "models" / "a.pt").replace(tmp_path / "a.pt")
    (source / "models" / "model.pt").symlink_to(tmp_path / "a.pt")
    with pytest.raises(BundleError, match="link"):
        train(bundle, TrainOptions(init_from=source))

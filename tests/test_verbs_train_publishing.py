"""Which run's model becomes the bundle's."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.heard import Heard
from volseg.atomic import exclusive
from volseg.bundle.folder import Bundle
from volseg.errors import BundleError, FileError
from volseg.verbs.train import TrainOptions, train
from volseg.verbs.train.publishing import Publisher, published_run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import CopyBundle
    from volseg.training.listeners import RunView


@pytest.fixture
def bundle(copy_bundle: CopyBundle) -> Path:
    """A bundle whose epochs are one step of one volume."""
    return copy_bundle(steps_per_epoch=1, batch_size=1)


def is_of(bundle: Path, run: str) -> bool:
    first, second = (
        torch.load(path, weights_only=True)
        for path in (bundle / "runs" / run / "best.pt", bundle / "models" / "model.pt")
    )
    return bool(first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first))


def published(bundle: Path) -> dict[str, Any]:
    content = json.loads((bundle / "models" / "published.json").read_text())
    assert isinstance(content, dict)
    return content


def test_the_first_run_is_published_and_others_only_when_asked_for(bundle: Path) -> None:
    assert train(bundle, TrainOptions(fold=3, epochs=1))[0].published == "fold_3"
    assert is_of(bundle, "fold_3")
    train(bundle, TrainOptions(fold=3, epochs=4))  # its later, better weights too
    assert is_of(bundle, "fold_3")
    model = hashlib.sha256((bundle / "models" / "model.pt").read_bytes()).hexdigest()
    assert (published(bundle)["run"], published(bundle)["sha256"]) == ("fold_3", model)
    heard = Heard()
    for options in (TrainOptions(epochs=1), TrainOptions(all_cases=True, epochs=1)):
        assert train(bundle, options, heard)[0].published == "fold_3"
    stays = [line for line in heard.lines if "is the model of fold_3. It stays; with --publish" in line]
    assert len(stays) == 2
    assert is_of(bundle, "fold_3")
    assert train(bundle, TrainOptions(all_cases=True, epochs=2, publish=True))[0].published == "all_cases"
    assert is_of(bundle, "all_cases")
    assert published(bundle)["score"] is None


def test_a_complete_run_is_published_without_training(bundle: Path) -> None:
    train(bundle, TrainOptions(epochs=1))
    train(bundle, TrainOptions(fold=1, epochs=1))
    (result,) = train(bundle, TrainOptions(fold=1, publish=True))
    assert (result.already, result.published) == (True, "fold_1")
    assert is_of(bundle, "fold_1")
    assert result.best is not None
    assert published(bundle)["score"] == pytest.approx(result.best.validation.score)  # type: ignore[union-attr]


def test_a_model_that_changed_under_its_name_is_told_and_stays(bundle: Path) -> None:
    train(bundle, TrainOptions(epochs=1))
    path = bundle / "models" / "model.pt"
    torch.save({name: tensor + 1 for name, tensor in torch.load(path, weights_only=True).items()}, path)
    before, heard = path.read_bytes(), Heard()
    (result,) = train(bundle, TrainOptions(epochs=3), heard)
    assert any("is not the file that fold_0 published: it was changed under its name" in line for line in heard.lines)
    assert result.published is None
    assert path.read_bytes() == before
    assert train(bundle, TrainOptions(publish=True))[0].published == "fold_0"
    assert is_of(bundle, "fold_0")


def test_a_model_that_came_with_the_bundle_stays(bundle: Path) -> None:
    train(bundle, TrainOptions(epochs=1))
    (bundle / "models" / "published.json").unlink()
    before, heard = (bundle / "models" / "model.pt").read_bytes(), Heard()
    train(bundle, TrainOptions(epochs=2), heard)
    assert any("model.pt is of no run of this bundle. It stays" in line for line in heard.lines)
    assert (bundle / "models" / "model.pt").read_bytes() == before


def test_a_damaged_record_is_told(bundle: Path) -> None:
    train(bundle, TrainOptions(epochs=1))
    (bundle / "models" / "published.json").write_text("[]")
    with pytest.raises(BundleError, match="nobody knows which run"):
        train(bundle, TrainOptions(epochs=2))


def test_a_kill_between_the_record_and_the_model_changes_nothing(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(bundle, TrainOptions(epochs=1))
    train(bundle, TrainOptions(fold=1, epochs=1))
    from volseg.bundle import published as module

    whole = module.write_bytes

    def killed(path: Path, content: bytes) -> None:
        if path.name == "model.pt":
            raise KeyboardInterrupt
        whole(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            train(bundle, TrainOptions(fold=1, publish=True))
    assert is_of(bundle, "fold_0")
    assert published_run(Bundle(bundle)) == "fold_0"  # whatever the record says that was to come
    heard = Heard()
    train(bundle, TrainOptions(fold=1, epochs=5), heard)
    assert not any("changed under its name" in line for line in heard.lines)
    assert is_of(bundle, "fold_1")


def test_a_run_that_goes_on_without_improving_is_published_where_that_is_asked_for(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(bundle, TrainOptions(epochs=1))
    train(bundle, TrainOptions(fold=1, epochs=1))
    monkeypatch.setattr(Publisher, "improved", lambda *_: None)  # as where no validation is better than before
    assert train(bundle, TrainOptions(fold=1, epochs=2, publish=True))[0].published == "fold_1"


def test_a_model_that_another_run_publishes_meanwhile_stays(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Publisher.began

    def overtaken(self: Publisher, run: RunView) -> None:
        whole(self, run)
        if run.folder.folder.name == "fold_1":
            train(bundle, TrainOptions(epochs=1))

    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "began", overtaken)
        heard = Heard()
        assert train(bundle, TrainOptions(fold=1, epochs=1), heard)[0].published == "fold_0"
    assert is_of(bundle, "fold_0")
    assert sum("is the model of fold_0. It stays" in line for line in heard.lines) == 1


def test_a_fold_is_trained_by_one_run_at_a_time(bundle: Path) -> None:
    folder = bundle / "runs" / "fold_0"
    with exclusive(folder), pytest.raises(FileError, match="Another run of volseg is writing into"):
        train(bundle, TrainOptions(epochs=1))
    assert not folder.exists()  # nothing was written into it
    assert train(bundle, TrainOptions(epochs=1))[0].complete

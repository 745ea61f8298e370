"""The ensemble of all folds: which of them belong together, and its config for MONAI's own runner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.bundle.ensemble import publish_folds
from volseg.bundle.folder import CONFIGS
from volseg.bundle.folds_config import FOLDS_CONFIG, folds_config
from volseg.bundle.model_digest import MODEL, model_digest
from volseg.bundle.weights import inference_network, read_state_dict
from volseg.bundle.write import write_config
from volseg.dataset.folds import Split
from volseg.errors import BundleError
from volseg.outcomes import sha256_of
from volseg.training.checkpoint import RunFolder
from volseg.training.history import best_epoch, read_history, steps_of_model
from volseg.training.record import RunRecord
from volseg.verbs.train.fold import TRAIN_CONFIG
from volseg.verbs.train.split import RUN_PREFIX, split_path
from volseg.words import listed

if TYPE_CHECKING:
    from volseg.bundle.folder import Bundle


def publish_ensemble(bundle: Bundle) -> None:
    """Put the models of all folds, each at its best validation, where inference loads them.

    Raises:
        InputError: the split, or the history of a run, can't be read.
        BundleError: folds are of different models or held out the same cases, or weights don't fit.
        FileError: a file can't be written.
    """
    split, network = Split.read(split_path(bundle)), inference_network(bundle)
    config = bundle.read_config("train")
    sha256, digest = sha256_of(bundle.config_path("train")), model_digest(config)
    trained, others, held_out = {}, [], list[str]()
    for number in range(len(split.folds)):
        run = RunFolder(bundle.runs / f"{RUN_PREFIX}{number}")
        record = RunRecord.read(run.record)
        held_out += record.cases.validation
        sessions = [session.checksums for session in record.sessions] or [{}]
        if any(
            checksums.get(MODEL, digest if checksums.get(TRAIN_CONFIG) == sha256 else None) != digest
            for checksums in sessions
        ):
            others.append(run.folder.name)
        history, _ = read_history(run.history)
        best = best_epoch(history)
        score = None if best is None or best.validation is None else best.validation.score
        trained[number] = (read_state_dict(run.best), sha256_of(run.best), score, steps_of_model(history))
    if others:
        raise BundleError(
            f"{listed(others)} of {bundle.root} had another network or preprocessing than configs/train.yaml has now, so "
            "the folds are no ensemble. Train such a fold again with --fold and --fresh.",
            code="folds-differ",
        )
    if len(held_out) != len(set(held_out)):
        raise BundleError(
            f"Folds of {bundle.root} held out the same cases. Train all folds by one split with --fresh --cv.",
            code="folds-differ",
        )
    publish_folds(bundle, network, trained, sha256_of(split_path(bundle)), digest)
    write_folds_config(bundle, tuple(trained))


def write_folds_config(bundle: Bundle, folds: tuple[int, ...]) -> None:
    """Write ``configs/inference_folds.yaml`` from the inference config, where it is not the same already.

    Raises:
        BundleError: the inference config's postprocessing tells no probabilities.
        FileError: it can't be written.
    """
    config = folds_config(bundle.read_config("inference"), folds)
    there = bundle.find_config(FOLDS_CONFIG)
    if there is None or bundle.read_config(FOLDS_CONFIG) != config:
        write_config(bundle.root / CONFIGS / f"{FOLDS_CONFIG}.yaml", config)

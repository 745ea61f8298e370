"""The models of several folds that predict together: ``models/folds/``, a file of weights for each and their record."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter

from volseg.atomic import remove_partials, write_bytes
from volseg.bundle.folder import refuse_links
from volseg.bundle.published import MAX_BYTES, tensors_of
from volseg.bundle.weights import require_finite, require_fit
from volseg.errors import BundleError, FileError, UsageError
from volseg.files import read_bounded
from volseg.outcomes import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor
    from torch.nn import Module

    from volseg.bundle.folder import Bundle
    from volseg.planning.component import ConfigValue

ALL_FOLDS = "all"
MAX_MEMBERS = 32
"""Of an ensemble: more folds than anybody trains."""
REMEDY = "Bring the ensemble up to date with volseg train --cv."

Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class Member:
    """One model of an ensemble.

    Args:
        fold: its number.
        sha256: of ``models/folds/fold_K.pt``.
        trained_sha256: of the weights of its run, ``runs/fold_K/best.pt``, when the ensemble was made.
        score: its validation Dice; None where it has none.
        steps: the optimizer steps that made it; None where that is not known.
    """

    fold: int
    sha256: str
    trained_sha256: str
    score: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Ensemble:
    """The models of folds of one split, trained by one plan.

    Args:
        members: in the order of their folds.
        split_sha256: of ``runs/folds.json``, by which they were trained.
        model_sha256: of what they were trained as: network and preprocessing; see ``model_digest``.
    """

    members: tuple[Member, ...]
    split_sha256: str
    model_sha256: str

    @classmethod
    def read(cls, bundle: Bundle) -> Ensemble | None:
        """The record of a bundle; None where it has none.

        Raises:
            BundleError: the record is damaged.
            FileError: it can't be read.
        """
        path = record_path(bundle)
        if not path.exists():
            return None
        try:
            found = TypeAdapter(cls).validate_json(read_bounded(path, MAX_BYTES, "record of an ensemble"))
            folds = [member.fold for member in found.members]
            if not folds or folds != sorted(set(folds)) or not 0 <= folds[0] <= folds[-1] < MAX_MEMBERS:
                raise ValueError("no ensemble")
        except ValueError as error:  # pydantic's, too
            raise BundleError(f"{path} can't be read. {REMEDY}", code="bad-record", path=path) from error
        return found

    def chosen(self, folds: Sequence[int] | None) -> tuple[Member, ...]:
        """The members of these folds; None for all.

        Raises:
            BundleError: the ensemble lacks one.
        """
        there = {member.fold: member for member in self.members}
        for fold in folds or ():
            if fold not in there:
                raise BundleError(
                    f"The bundle's ensemble has no fold {fold}: it has {', '.join(map(str, there))}. {REMEDY}",
                    code="no-weights",
                )
        return self.members if folds is None else tuple(there[fold] for fold in sorted(set(folds)))

    def outdated(self, bundle: Bundle) -> Iterator[str]:
        """What was trained since the ensemble was made, a sentence each.

        Raises:
            FileError: a file can't be read.
        """
        for member in self.members:
            run = bundle.runs / f"fold_{member.fold}"  # a bundle that was handed on may have none
            trained = run / "best.pt"
            if run.is_dir() and (not trained.is_file() or sha256_of(trained) != member.trained_sha256):
                yield f"fold {member.fold} was trained on since the ensemble was made, which has its model of before. {REMEDY}"
        split = bundle.runs / "folds.json"
        if split.is_file() and sha256_of(split) != self.split_sha256:
            yield f"the data set was split anew since the ensemble was made, which is of the split of before. {REMEDY}"


def outdated_words(bundle: Bundle) -> tuple[str, ...]:
    """What was trained since a bundle's ensemble was made, a sentence each; none where there is no ensemble.

    Raises:
        BundleError, FileError: as ``Ensemble.read``.
    """
    ensemble = Ensemble.read(bundle)
    return () if ensemble is None else tuple(ensemble.outdated(bundle))


def ensemble_folder(bundle: Bundle) -> Path:
    """``models/folds``; MONAI Label offers every ``.pt`` that lies in ``models`` itself as a model to choose."""
    return bundle.model_path.parent / "folds"


def record_path(bundle: Bundle) -> Path:
    """``models/folds/ensemble.json``."""
    return ensemble_folder(bundle) / "ensemble.json"


def member_path(bundle: Bundle, fold: int) -> Path:
    """``models/folds/fold_K.pt``."""
    return ensemble_folder(bundle) / f"fold_{fold}.pt"


def parse_folds(text: str) -> tuple[int, ...] | None:
    """The folds that a person names: ``all`` (None) or numbers such as ``0,2``.

    Raises:
        UsageError: it is neither.
    """
    if text.strip() == ALL_FOLDS:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,2}", word, re.ASCII) for word in words):
        raise UsageError("--folds takes all, or the numbers of folds such as 0,2.")
    return tuple(sorted({int(word) for word in words}))


def require_members(bundle: Bundle, folds: Sequence[int] | None) -> tuple[Member, ...]:
    """The members of a bundle's ensemble, each file as it was recorded.

    Args:
        bundle: the bundle.
        folds: which; None for all.

    Raises:
        BundleError: there is no ensemble, it lacks a fold, or a file is gone or not the one that was recorded.
        FileError: a file can't be read.
    """
    ensemble = Ensemble.read(bundle)
    if ensemble is None:
        raise BundleError(
            f"{bundle.root} has no ensemble of its folds. Train all of them with volseg train --cv.", code="no-weights"
        )
    members = ensemble.chosen(folds)
    for member in members:
        path = member_path(bundle, member.fold)
        if not path.is_file():
            raise BundleError(f"{path} is gone. {REMEDY}", code="no-weights", path=path)
        if sha256_of(path) != member.sha256:
            raise BundleError(
                f"{path} is not the file that the ensemble was made with. {REMEDY}", code="model-changed", path=path
            )
    return members


def publish_folds(
    bundle: Bundle,
    network: Module | None,
    trained: Mapping[int, tuple[Mapping[str, Tensor], str, float | None, int | None]],
    split_sha256: str,
    model_sha256: str,
) -> Ensemble:
    """Write the weights of each fold, then the record; what is there already and the same stays.

    Between the files and the record, or where one of them can't be written, the ensemble is refused and not mixed.

    Args:
        bundle: the bundle.
        network: from ``inference_network``; None publishes all weights.
        trained: by fold: the weights, the SHA-256 of their file, the validation Dice and the optimizer steps.
        split_sha256: of the split.
        model_sha256: from ``model_digest``.

    Raises:
        BundleError: weights don't fit the bundle's inference network or are not finite, or there is a link.
        FileError: a file can't be written.
    """
    for weights, *_ in trained.values():
        require_fit(bundle, network, weights)
        require_finite(weights, ensemble_folder(bundle))
    refuse_links(bundle)
    folder = ensemble_folder(bundle)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder} can't be made: {error.strerror}.") from error
    remove_partials(folder)
    members = []
    for fold, (weights, trained_sha256, score, steps) in sorted(trained.items()):
        content = tensors_of(network, weights)
        path, sha256 = member_path(bundle, fold), hashlib.sha256(content).hexdigest()
        if not path.is_file() or sha256_of(path) != sha256:
            write_bytes(path, content)
        members.append(Member(fold, sha256, trained_sha256, score, steps))
    ensemble = Ensemble(tuple(members), split_sha256, model_sha256)
    if not record_path(bundle).exists() or Ensemble.read(bundle) != ensemble:
        write_bytes(record_path(bundle), TypeAdapter(Ensemble).dump_json(ensemble, indent=1) + b"\n")
    for path in folder.glob("fold_*.pt"):  # of an earlier split with more folds
        if path.name not in {member_path(bundle, member.fold).name for member in members}:
            path.unlink()
    return ensemble


def averaged_as(steps: Sequence[ConfigValue]) -> tuple[Activation, int | None]:
    """As which probabilities the outputs of several networks are averaged, and the step that is then done already.

    Args:
        steps: the postprocessing as it stands in a config.

    Raises:
        BundleError: it doesn't tell.
    """
    for place, step in enumerate(steps):
        plain = step if isinstance(step, dict) else {}
        name = str(plain.get("_target_")).removeprefix("monai.transforms.")
        if name == "Activationsd" and (plain.get("sigmoid") is True) != (plain.get("softmax") is True):
            return ("sigmoid" if plain.get("sigmoid") else "softmax"), place
        if name == "AsDiscreted" and plain.get("argmax"):
            return "softmax", None
        if name not in ("Invertd", "EnsureTyped"):
            break
    raise BundleError(
        "The postprocessing doesn't tell which probabilities the network gives, so several networks can't be averaged.",
        code="no-ensemble",
    )

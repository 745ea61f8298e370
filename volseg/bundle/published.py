"""Which run the model of a bundle is from: ``models/published.json``."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from volseg.atomic import remove_partials, write_bytes
from volseg.bundle.folder import refuse_links
from volseg.bundle.weights import require_finite, require_fit
from volseg.errors import BundleError
from volseg.files import read_bounded
from volseg.outcomes import sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor
    from torch.nn import Module

    from volseg.bundle.folder import Bundle

MAX_BYTES = 2**16
RUN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Published:
    """What ``models/model.pt`` is.

    Args:
        run: the run that it is from, such as ``fold_0``; ``runs/<run>/training.json`` tells how that was made.
        sha256: of ``model.pt``.
        replaces: the same of the file that was there before, which a killed run may have left in its place.
        score: its validation Dice; None where no case was held out.
        replaces_run: the run of the file that was there before; None where that is not known.
        steps: after how many optimizer steps the run had these weights; None where that is not known.
    """

    run: str
    sha256: str
    replaces: str | None = None
    score: float | None = None
    replaces_run: str | None = None
    steps: int | None = None

    @classmethod
    def read(cls, bundle: Bundle) -> Published | None:
        """The record of a bundle; None where it has none.

        Raises:
            BundleError: the record is damaged.
            FileError: it can't be read.
        """
        path = record_path(bundle)
        if not path.exists():
            return None
        try:
            found = TypeAdapter(cls).validate_json(read_bounded(path, MAX_BYTES, "record of a model"))
            # A stranger's may be a path or an order to the terminal; it is shown, and names a folder.
            if not all(RUN_NAME.fullmatch(run) for run in (found.run, found.replaces_run) if run is not None):
                raise ValueError("no run")
            return found
        except ValueError as error:  # pydantic's, too
            raise BundleError(
                f"{path} can't be read, so nobody knows which run {bundle.model_path.name} is from. Remove it, and name "
                "a run with volseg train --publish.",
                code="bad-record",
                path=path,
            ) from error

    def is_of(self, model: Path) -> bool:
        """Whether a file is the model that was published, and not another one under its name.

        Raises:
            OSError: it can't be read.
        """
        return sha256_of(model) in (self.sha256, self.replaces)

    def run_of(self, model: Path) -> str | None:
        """The run that a file is from; None where it is from none that the record knows.

        Raises:
            OSError: it can't be read.
        """
        return {self.replaces: self.replaces_run, self.sha256: self.run}.get(sha256_of(model))

    def steps_of(self, model: Path) -> int | None:
        """The optimizer steps that made a file; None where that is not known.

        Raises:
            OSError: it can't be read.
        """
        return self.steps if sha256_of(model) == self.sha256 else None


def record_path(bundle: Bundle) -> Path:
    """``models/published.json``."""
    return bundle.model_path.with_name("published.json")


def publish(
    bundle: Bundle,
    network: Module | None,
    weights: Mapping[str, Tensor],
    run: str,
    score: float | None,
    steps: int | None = None,
) -> None:
    """Write ``models/model.pt`` and the record of which run it is from, each atomically.

    The network of inference may lack heads that only training needs (deep supervision); theirs are left out. A weight
    that inference needs and training did not make is an error, never a silent default.

    Args:
        bundle: the bundle.
        network: from ``inference_network``; None publishes all.
        weights: the state dict of the network that was trained.
        run: the name of the run.
        score: its validation Dice.
        steps: the optimizer steps that made the weights.

    Raises:
        BundleError: the weights don't fit the bundle's inference network or are not finite, or ``models`` is a link.
        FileError: a file can't be written.
    """
    require_fit(bundle, network, weights)
    require_finite(weights, bundle.model_path)
    refuse_links(bundle)
    remove_partials(bundle.model_path.parent)
    content = tensors_of(network, weights)
    before, known = None, None
    if bundle.model_path.exists():
        before, known = sha256_of(bundle.model_path), Published.read(bundle)
    replaced = known.run_of(bundle.model_path) if known else None
    record = Published(run, hashlib.sha256(content).hexdigest(), before, score, replaced, steps)
    write_bytes(record_path(bundle), TypeAdapter(Published).dump_json(record, indent=1) + b"\n")
    write_bytes(bundle.model_path, content)


def tensors_of(network: Module | None, weights: Mapping[str, Tensor]) -> bytes:
    """A file of the weights that a network needs, as ``torch.save`` writes it; of all weights without a network."""
    import torch

    names = weights.keys() if network is None else network.state_dict().keys()
    buffer = io.BytesIO()
    torch.save({name: weights[name] for name in names}, buffer)
    return buffer.getvalue()

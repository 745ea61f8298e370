"""Training of a fold by several processes, as those do it that only help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from volseg.errors import BundleError
from volseg.progress import SILENT
from volseg.verbs.train.fold import Fold

if TYPE_CHECKING:
    from volseg.bundle.parser import BundleParser
    from volseg.training.ranks import Group
    from volseg.verbs.train.options import TrainOptions


def follow_message(fold: Fold, parser: BundleParser, seed: int) -> dict[str, object]:
    """What the others have to know of a fold."""
    place = parser.plain("dataset_dir")
    return {
        "fold": fold.number,
        "data": place if isinstance(place, str) else None,
        "config": parser.verdict.configs["train"].sha256,
        "seed": seed,
    }


def follow_training(bundle_dir: Path, options: TrainOptions, group: Group) -> None:
    """Help the leader with a fold, if it trains one.

    Args:
        bundle_dir: the bundle, on a disk that all of them see.
        options: as the leader's.
        group: the processes.

    Raises:
        BundleError: the bundle is not the leader's, or another process ended.
        TrustError: the bundle would run code that nobody has trusted.
    """
    from volseg.batch.children import safe_children
    from volseg.bundle.folder import open_bundle
    from volseg.bundle.trust import require_trust, trust_kept
    from volseg.training.prepared.store import opened
    from volseg.training.ranks import follow, receive

    message = receive(group)
    if message is None:
        return
    bundle = open_bundle(bundle_dir)
    verdict = require_trust(bundle)
    with trust_kept(bundle, verdict), safe_children(), opened(options.store(SILENT)):
        # What the run was begun with is the leader's business, who may have just written it.
        fold = Fold(bundle, message["fold"], options, group.device, bundle.read_config("train"), complete=False)
        parser = fold.config(None if message["data"] is None else Path(message["data"]))
        if parser.verdict.configs["train"].sha256 != message["config"]:
            raise BundleError(
                f"{bundle.root}: the train config of process {group.ranks.rank} is not that of the first. All of them need the "
                "same bundle, on a disk that they share.",
                code="rank-differs",
                path=bundle.root,
            )
        follow(group, parser.build("train#trainer"), message["seed"])

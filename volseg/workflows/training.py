"""Training, and with ``--cv`` what all folds come to together."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.errors import DiskFullError, VolsegError
from volseg.progress import SILENT, Progress
from volseg.verbs.train import FoldResult, TrainOptions
from volseg.verbs.train import train as train_folds

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.training.cross_validation import CrossValidation


@dataclass(frozen=True)
class Trained:
    """What training came to.

    Args:
        folds: one result each.
        cross_validation: of all folds; None without ``cv``, before all folds are complete, and for bundles of others.
        error: why complete folds came to no ensemble or no scores.
    """

    folds: tuple[FoldResult, ...]
    cross_validation: CrossValidation | None = None
    error: VolsegError | None = None


def train(bundle_dir: Path, options: TrainOptions | None = None, progress: Progress = SILENT) -> tuple[FoldResult, ...]:
    """Train what ``train.yaml`` describes, or go on where it stopped; see ``volseg.verbs.train.train``.

    With ``cv``, each case is then predicted by the fold that held it out, and the bundle's rules for labels are chosen by
    these masks; ``runs/cross_validation.json`` holds the scores.

    Args:
        bundle_dir: the bundle.
        options: how to train.
        progress: receives the progress.

    Returns:
        One result for each fold that was asked for.

    Raises:
        VolsegError: as ``volseg.verbs.train.train`` and ``volseg.workflows.cross_validation.cross_validate``.
    """
    trained = train_and_validate(bundle_dir, options, progress)
    if trained.error is not None:
        raise trained.error
    return trained.folds


def train_and_validate(bundle_dir: Path, options: TrainOptions | None = None, progress: Progress = SILENT) -> Trained:
    """Train, and with ``cv`` cross-validate once all folds are complete; arguments and errors as ``train``.

    What ends only the work on complete folds is told beside them.
    """
    options = options or TrainOptions()
    folds = train_folds(bundle_dir, options, progress)
    if not options.cv or not all(fold.complete for fold in folds):
        return Trained(folds)
    from volseg.workflows.cross_validation import cross_validate

    gc.collect()
    try:
        return Trained(folds, cross_validate(bundle_dir, options, progress))
    except DiskFullError:
        raise
    except VolsegError as error:
        return Trained(folds, error=error)

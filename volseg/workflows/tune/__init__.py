"""``volseg tune``: a search for settings that train better than a bundle's plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.progress import SILENT, Progress
from volseg.workflows.tune.options import Tuned, TuneOptions, TuneTrial

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TuneOptions", "TuneTrial", "Tuned", "tune"]


def tune(bundle_dir: Path, options: TuneOptions | None = None, progress: Progress = SILENT) -> Tuned:
    """Search for settings that train better than a bundle's plan, and write the best into the bundle.

    Learning rate, weights of the loss, patch, width and augmentation are tried in short trainings on the same cases, each
    scored by its mean Dice on the same held-out ones; the first is the plan itself. Called again, it goes on. What was in
    the bundle before stays beside.

    Args:
        bundle_dir: a bundle that ``volseg plan`` wrote.
        options: how to search.
        progress: receives the progress.

    Raises:
        UsageError: Optuna is not installed, options contradict each other, or there is no bundle or no data set.
        TrustError: the bundle would run code that nobody has trusted.
        BundleError: it is none that can be searched; another data set, plan or search than before; or the search so far
            is damaged or of others.
        DataSetError: the data set has faults; the message lists all of them.
        FileError: a file can't be written, or another run is under way.
    """
    from volseg.workflows.tune.search import search

    return search(bundle_dir, options or TuneOptions(), progress)

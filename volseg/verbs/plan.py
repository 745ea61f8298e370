"""Plan: measure a data set and write a bundle that fits it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from volseg.errors import FileError, UsageError
from volseg.options import Many, each
from volseg.planning.networks import NetworkName
from volseg.planning.optimizers import OptimizerName
from volseg.progress import SILENT, Progress

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.planning.plan import Plan


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How to plan."""

    preset: Literal["fast", "full"] = "fast"
    """fast: minutes on two cores. full: nnU-Net's topology and length, for a GPU."""

    spacing: Many[float] = ()
    """Target spacing in mm, instead of the one that the data suggest: one number for all axes, or three, such as
    1x1x3, along right-left, back-front, feet-head."""

    network: NetworkName | None = None
    """The network, instead of the one that preset and patch suggest."""

    optimizer: OptimizerName | None = None
    """The optimizer, instead of the preset's."""

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """The spacing along R, A and S; None where the data decide.

        Raises:
            UsageError: it makes no sense.
        """
        from volseg.grid import three_spacings

        return three_spacings(each(self.spacing)) if self.spacing else None


def plan(dataset_dir: Path, bundle_dir: Path, options: PlanOptions | None = None, progress: Progress = SILENT) -> Plan:
    """Measure a data set, choose how to train on it, and write a complete MONAI bundle.

    Args:
        dataset_dir: the data set.
        bundle_dir: where the bundle goes; must be absent or empty.
        options: how to plan.
        progress: receives the progress.

    Raises:
        UsageError: there is no data set, or an option makes no sense.
        DataSetError: it has faults; the message lists all of them.
        OutputExistsError: ``bundle_dir`` holds something.
        FileError: the bundle can't be written.
    """
    from volseg.bundle.planned import remember_plan
    from volseg.bundle.write import require_free, write_bundle
    from volseg.dataset.dataset import is_dataset, read_dataset, require_cases
    from volseg.dataset.faults import require_sound
    from volseg.planning.fingerprint import measure
    from volseg.planning.plan import choose

    options = options or PlanOptions()
    spacing_mm = options.spacing_mm
    if is_dataset(bundle_dir):
        raise UsageError(f"{bundle_dir} is a data set. Name the data set first, then a new folder for the bundle.")
    require_free(bundle_dir)
    dataset = read_dataset(dataset_dir)
    require_cases(dataset)
    require_sound(dataset, progress=progress)
    fingerprint = measure(dataset, progress)
    name = bundle_dir.resolve().name
    chosen = choose(
        fingerprint,
        dataset.labels,
        name,
        preset=options.preset,
        spacing_mm=spacing_mm,
        network=options.network,
        optimizer=options.optimizer,
    )
    write_bundle(chosen, dataset_dir, bundle_dir)
    try:
        remember_plan(bundle_dir, dataset_dir)
    except FileError as error:  # the bundle is whole all the same
        progress.say(f"{error.message} Name the data set to volseg train with --data.")
    return chosen

"""Plan: measure a data set and write a bundle that fits it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.errors import FileError, UsageError
from volseg.options import Many, each
from volseg.planning.augmentations import AugmentationName
from volseg.planning.losses import parse_loss
from volseg.planning.networks import NetworkName
from volseg.planning.optimizers import OptimizerName
from volseg.planning.presets import Preset
from volseg.planning.schedules import ScheduleName
from volseg.planning.wishes import Wishes, parse_memory, parse_mirror
from volseg.progress import SILENT, Progress

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.planning.plan import Plan


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How to plan."""

    preset: Preset = "fast"
    """fast: minutes on two cores. full: nnU-Net's topology and length, for a GPU. large: nnU-Net's ResEnc L within
    24 GB of a GPU."""

    spacing: Many[float] = ()
    """Target spacing in mm, instead of the one that the data suggest: one number for all axes, or three, such as
    1x1x3, along right-left, back-front, feet-head."""

    network: NetworkName | None = None
    """The network, instead of the one that preset and patch suggest."""

    loss: str | None = None
    """The loss, instead of the preset's: a name such as focal, or a weighted sum such as dice+0.5*ce."""

    optimizer: OptimizerName | None = None
    """The optimizer, instead of the preset's."""

    schedule: ScheduleName | None = None
    """How the learning rate changes, instead of the preset's way."""

    augment: AugmentationName | None = None
    """The random changes of patches, instead of the preset's."""

    mirror: str | None = None
    """The axes along which patches are mirrored in training, instead of what the labels' names suggest: none, or R (right
    to left), A (front to back), S (head to feet), such as RA."""

    regions: Many[str] = ()
    """Structures that overlap, learnt in the place of labels, as unions of labels by their numbers or names: "whole
    tumor=1,2,4; tumor core=1,4". A dataset.json of nnU-Net's may name them itself."""

    memory: str | None = None
    """What a training step may take, such as 24GB, instead of what this device has. full and large make their patches
    as large as it takes; every preset keeps within it."""

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """The spacing along R, A and S; None where the data decide.

        Raises:
            UsageError: it makes no sense.
        """
        from volseg.grid import three_spacings

        return three_spacings(each(self.spacing)) if self.spacing else None

    @property
    def wishes(self) -> Wishes:
        """What was asked for.

        Raises:
            UsageError: an option makes no sense.
        """
        return Wishes(
            preset=self.preset,
            spacing_mm=self.spacing_mm,
            network=self.network,
            loss=parse_loss(self.loss) if self.loss is not None else None,
            optimizer=self.optimizer,
            schedule=self.schedule,
            augment=self.augment,
            memory_bytes=parse_memory(self.memory) if self.memory is not None else None,
            mirror=parse_mirror(self.mirror) if self.mirror is not None else None,
        )


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
    from volseg.planning.fingerprint import measure
    from volseg.planning.memory import Memory
    from volseg.planning.plan import choose
    from volseg.planning.presets import PRESETS
    from volseg.planning.target import Target
    from volseg.regions import parse_regions

    options = options or PlanOptions()
    wishes = options.wishes
    if is_dataset(bundle_dir):
        raise UsageError(f"{bundle_dir} is a data set. Name the data set first, then a new folder for the bundle.")
    require_free(bundle_dir)
    dataset = read_dataset(dataset_dir)
    require_cases(dataset)
    regions = parse_regions(each(options.regions), dataset.labels) or dataset.regions
    Target.of(dataset.labels, regions)  # what makes no sense is said before all is measured
    memory = Memory.of(wishes.memory_bytes, PRESETS[wishes.preset].memory_bytes)
    fingerprint = measure(dataset, progress)
    name = bundle_dir.resolve().name
    chosen = choose(fingerprint, dataset.labels, name, wishes, regions, memory)
    write_bundle(chosen, dataset_dir, bundle_dir)
    try:
        remember_plan(bundle_dir, dataset_dir)
    except FileError as error:  # the bundle is whole all the same
        progress.say(f"{error.message} Name the data set to volseg train with --data.")
    return chosen

"""The train verb: one fold, cross-validation, or all cases."""

from __future__ import annotations

import shlex
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.errors import BundleError, UsageError, VolsegError
from volseg.progress import SILENT, Progress
from volseg.verbs.train.options import FoldResult, TrainOptions
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import torch

    from volseg.bundle.folder import Bundle
    from volseg.bundle.trust import Verdict
    from volseg.dataset.dataset import Dataset
    from volseg.dataset.folds import Split
    from volseg.planning.component import ConfigValue
    from volseg.training.ranks import Followers
    from volseg.verbs.train.fold import Data


def train(bundle_dir: Path, options: TrainOptions | None = None, progress: Progress = SILENT) -> tuple[FoldResult, ...]:
    """Train what ``train.yaml`` describes, through MONAI's ``SupervisedTrainer``.

    Runs any trusted MONAI bundle that has ``train#trainer`` (and ``validate#evaluator``). Checkpoints are written
    atomically; called again, it goes on from the last. A run that is complete is left alone. Started by ``torchrun``, the
    processes share each batch.

    Args:
        bundle_dir: the bundle.
        options: how to train.
        progress: receives the progress.

    Returns:
        One result for each fold that was asked for; none in processes that only help another one.

    Raises:
        UsageError: options that contradict each other, or no bundle.
        TrustError: the bundle would run code that nobody has trusted.
        BundleError: the bundle is incomplete, its checkpoint doesn't fit, or its runs were not made here.
        DataSetError: the data set has faults; the message lists all of them.
        FileError: a checkpoint can't be written.
    """
    started = time.monotonic()
    import torch

    from volseg.device import choose_device
    from volseg.training.ranks import Followers, Ranks
    from volseg.verbs.train.following import follow_training

    options = options or TrainOptions()
    options.require_sense()
    ranks = Ranks.from_environment()
    if ranks is None:
        return _train(bundle_dir, options, torch.device(choose_device(options.device)), None, started, progress)
    if options.cv:
        raise UsageError("Several processes train one fold at a time. Name it with --fold, one after the other.")
    options = options.shared_by(ranks.local_world)
    device = ranks.device(choose_device(options.device))
    with ranks.joined(device) as group:
        if not ranks.leads:
            follow_training(bundle_dir, options, group)
            return ()
        followers = Followers(group)
        progress.say(f"Each batch is shared by {ranks.world} processes")
        try:
            results = _train(bundle_dir, options, device, followers, started, progress)
        except BaseException:
            with suppress(VolsegError):  # they would wait for as long as this process lives
                followers.release()
            raise
        followers.release()
        return results


def _train(
    bundle_dir: Path,
    options: TrainOptions,
    device: torch.device,
    followers: Followers | None,
    started: float,
    progress: Progress,
) -> tuple[FoldResult, ...]:
    from volseg.batch.children import safe_children
    from volseg.bundle.folder import open_bundle
    from volseg.bundle.initial import read_source
    from volseg.bundle.own_runs import require_own_runs
    from volseg.bundle.scope import require_segmentation
    from volseg.bundle.trust import require_trust, trust_kept
    from volseg.bundle.weights import inference_network
    from volseg.dataset.folds import FOLDS
    from volseg.verbs.train.fold import RECORD_KEY, Fold, run_folder
    from volseg.verbs.train.scores import write_scores
    from volseg.verbs.train.session import train_fold
    from volseg.verbs.train.side_by_side import train_all
    from volseg.verbs.train.split import known_split, write_split

    bundle = open_bundle(bundle_dir)
    require_segmentation(bundle)
    verdict = require_trust(bundle)
    source = None if options.init_from is None else read_source(Path(options.init_from))
    known = bundle.read_config("train")
    served = bool(verdict.findings) and RECORD_KEY not in known and options.data is not None
    if not served:
        _require_folds(bundle, known, options)
    place = data_folder(bundle, known, options)
    is_split = (RECORD_KEY in known or served) and not options.all_cases
    with trust_kept(bundle, verdict), safe_children():  # a data loader may start some
        split = known_split(bundle, options) if is_split else None
        numbers = options.numbers(FOLDS if split is None else len(split.folds))
        if not options.fresh:
            require_own_runs(bundle, [run_folder(bundle, n).folder for n in numbers], adopt=options.adopt_runs)
        folds = [
            # Of several the first is the bundle's model, however long each takes.
            Fold.open(
                bundle, number, options, device, known, served=served, source=source, publishes=number == numbers[0]
            )
            for number in numbers
        ]
        results = {fold.name: fold.finished() for fold in folds if fold.complete}
        for fold in folds:
            if fold.complete:
                fold.tell_changed(verdict.configs["train"].sha256, progress)
        pending = [fold for fold in folds if not fold.complete]
        for fold in pending:
            fold.require_same_source()
        if pending:
            data = read_data(bundle, verdict, known, place, split, options, [fold.name for fold in pending], progress)
            if data is not None:
                split = data.split
                if split is not None and options.cv:  # how many there are may be known only now
                    folds, pending = (
                        [f for f in these if (f.number or 0) < len(split.folds)] for these in (folds, pending)
                    )
                for fold in pending:
                    fold.record(data)  # refuses a fold that is empty before another one is trained
            # All configs are judged before anything is written, which would end the trust in a bundle that needs it.
            parsers = {fold.name: fold.config(place) for fold in pending}
            for used in dict.fromkeys(used for parser in parsers.values() for used in parser.bridged):
                progress.say(f"warning: {used.config} config: {used}")
            network = inference_network(bundle)
            if split is not None:
                write_split(bundle, split, options, progress)
            if options.cv:
                results |= train_all(pending, parsers, data, place, network, started, progress)
            else:
                (fold,) = pending
                results[fold.name] = train_fold(fold, parsers[fold.name], data, network, started, progress, followers)
                write_scores(bundle)
        elif options.publish:
            results = {fold.name: fold.publish() for fold in folds}
            write_scores(bundle)
    return tuple(results[fold.name] for fold in folds)


def read_data(
    bundle: Bundle,
    verdict: Verdict,
    known: dict[str, ConfigValue],
    place: Path | None,
    split: Split | None,
    options: TrainOptions,
    pending: Collection[str],
    progress: Progress,
) -> Data | None:
    """Read and check the data set of a training, and settle its split.

    Args:
        bundle: the bundle.
        verdict: on it.
        known: its train config.
        place: the folder of the data set.
        split: the one that is known already.
        options: how to train.
        pending: names of the runs that read it.
        progress: receives the progress.

    Returns:
        The data set; None where only the bundle knows it.

    Raises:
        UsageError: there is no data set, or a person has to name it.
        DataSetError: it has faults, or doesn't fit the split.
        BundleError: it has labels or channels that the bundle has no place for.
    """
    from volseg.bundle.lint import rounds_masks
    from volseg.dataset.faults import require_sound
    from volseg.verbs.train.fold import RECORD_KEY, Data
    from volseg.verbs.train.split import settle_split, tell_older_data

    require_own_data(bundle, verdict, place, options)
    dataset = _dataset(place, options)
    if dataset is None:
        return None
    contents = require_sound(dataset, whole_masks=not rounds_masks(known), progress=progress, anew=options.fresh)
    _require_same_kind(bundle, dataset)
    served = bool(verdict.findings) and options.data is not None
    if (RECORD_KEY in known or served) and not options.all_cases:
        split = settle_split(bundle, split, dataset, contents, options, progress)
        if not options.splits_anew:
            tell_older_data(bundle, contents, pending, progress)
    return Data(dataset, contents, split)


def _require_folds(bundle: Bundle, known: Mapping[str, object], options: TrainOptions) -> None:
    asked = options.cv or options.all_cases or options.fold is not None or options.folds is not None
    if "fold" not in known and asked:
        raise UsageError(
            f"{bundle.root} splits its data in its own way: its train config has no 'fold'. "
            "Leave --fold, --folds, --cv and --all-cases out, or name a data set with --data, which volseg splits."
        )


def require_own_data(bundle: Bundle, verdict: Verdict, place: Path | None, options: TrainOptions) -> None:
    """Refuse to read a data set that nobody but the config names; what a person trusted was read by that person.

    Raises:
        UsageError: the data set has to be named.
    """
    from volseg.bundle.planned import is_planned

    if place is None or options.data is not None or verdict.trusted or not place.is_dir():
        return
    if not is_planned(bundle.root, place):
        raise UsageError(
            f"{bundle.root} names the data set {place}, and you did not plan it there for that. If it is the one to "
            f"train on, say so: --data {shlex.quote(str(place))}"
        )


def _require_same_kind(bundle: Bundle, dataset: Dataset) -> None:
    """Refuse a data set that the bundle was not planned for, as when structures were added to it since.

    Raises:
        BundleError: the data set has labels or channels that the bundle's network has no place for.
    """
    from volseg.bundle.metadata import input_channels
    from volseg.bundle.targets import trained_labels

    if "label_table" not in bundle.metadata:
        return  # third-party, which may map labels as it likes
    planned = trained_labels(bundle.metadata) or bundle.labels
    unknown = [label for label in dataset.labels.labels if label.index not in planned.indices]
    if dataset.labels.ignore not in (None, planned.ignore):
        raise BundleError(
            f"{dataset.folder} has the ignore label {dataset.labels.ignore}, and {bundle.root} was planned "
            f"{'without one' if planned.ignore is None else f'for {planned.ignore}'}. Plan a new bundle.",
            code="labels-differ",
        )
    if unknown:
        named = listed([f"{label.index} ({label.name})" for label in unknown])
        raise BundleError(
            f"{dataset.folder} has labels that {bundle.root} was not planned for: {named}. Plan a new bundle.",
            code="labels-differ",
        )
    channels = input_channels(bundle.metadata)
    if channels is not None and channels != len(dataset.channels):
        raise BundleError(
            f"The images of {dataset.folder} have {len(dataset.channels)} channels, and {bundle.root} was planned for "
            f"{channels}. Plan a new bundle.",
            code="channels",
        )


def data_folder(bundle: Bundle, known: Mapping[str, object], options: TrainOptions) -> Path | None:
    """The folder of the data set; None where a third-party bundle brings its data in its own way."""
    if options.data is not None:
        return Path(options.data)
    named = known.get("dataset_dir")
    return bundle.root / named if isinstance(named, str) and not named.startswith(("$", "@", "%")) else None


def _dataset(folder: Path | None, options: TrainOptions) -> Dataset | None:
    """The data set; None where the folder is laid out in another way, as only foreign bundles know.

    Raises:
        UsageError: there is no data set.
        DataSetError: it can't be read.
    """
    from volseg.dataset.dataset import is_dataset, read_dataset, require_cases

    if folder is None:
        return None
    if not folder.is_dir():
        raise UsageError(f"The data set {folder} does not exist. Name it with --data.")
    if not is_dataset(folder):
        if options.data is None:
            return None
        raise UsageError(f"{folder} is no data set: it has no dataset.json, imagesTr or imagesTs.")
    dataset = read_dataset(folder)
    require_cases(dataset)
    return dataset

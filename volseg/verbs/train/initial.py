"""A training that begins with other weights: what it takes of them, told and recorded, and how these are trained on."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from volseg.bundle.initial import ends_of, sides_of
from volseg.bundle.weights import require_finite
from volseg.errors import BundleError, UsageError
from volseg.planning.networks import encoder_parts_of
from volseg.training.transfer import Freezing, Initial, common_core, split_rates, take_weights
from volseg.words import counted

if TYPE_CHECKING:
    from torch.nn import Module

    from volseg.bundle.initial import Source
    from volseg.bundle.parser import BundleParser
    from volseg.progress import Progress
    from volseg.training.budget import Budget
    from volseg.training.record import RunRecord
    from volseg.training.transfer import Row
    from volseg.verbs.train.fold import Fold

TAKEN_RATE = 0.3
"""What the learning rate of taken weights is multiplied by unless told otherwise."""
SHOWN_GROUPS = 8


def begin(fold: Fold, parser: BundleParser, record: RunRecord, progress: Progress, *, goes_on: bool) -> Initial | None:
    """Put other weights into the network before its trainer is built, and record them; a run that goes on has its own.

    Args:
        fold: what is trained; its source is None where no other weights were asked for.
        parser: the train config; the network and the optimizer that it builds are changed in place.
        record: the run's cases, with digests of their voxels.
        progress: is told what became of which weights.
        goes_on: whether the run has a checkpoint to go on from.

    Raises:
        UsageError: the config calls no network or optimizer by MONAI's names, or no encoder is known that could be frozen.
        BundleError: the weights have nothing in common with the network.
        FileError: the record can't be written.
    """
    path = fold.folder.initial
    initial = Initial.read(path) if goes_on else None
    if initial is None and (fold.source is None or goes_on):
        return None
    network, optimizer = _parts(parser)
    if initial is None and fold.source is not None:
        initial = _take(fold, fold.source, parser, network, record)
        _tell(initial, fold, progress)
        path.parent.mkdir(parents=True, exist_ok=True)
        initial.write(path)
    if initial is not None:
        split_rates(optimizer, network, initial)
    return initial


def freeze(initial: Initial | None, parser: BundleParser, trainer: Any, budget: Budget) -> None:
    """Keep what a run froze as it is while its first epochs last.

    Raises:
        BundleError: the trainer has another network or optimizer than the config calls so.
    """
    if initial is None:
        return
    network, optimizer = _parts(parser)
    if trainer.network is not network or trainer.optimizer is not optimizer:
        raise BundleError(
            f"{parser.path}: train#trainer has another network or optimizer than those that the config calls so, so "
            "other weights can't be given to it. Let it refer to @network and @optimizer.",
            code="cannot-build",
            path=parser.path,
        )
    if initial.frozen:
        steps = None if initial.frozen_epochs is None else initial.frozen_epochs * trainer.state.epoch_length
        Freezing(network, initial.frozen, budget, steps).attach(trainer)


def _parts(parser: BundleParser) -> tuple[Module, Any]:
    for key in ("network", "optimizer"):
        if not parser.has(key):
            raise UsageError(
                f"{parser.path} calls no part {key!r}, as MONAI bundles do by convention, so other weights can't be given "
                "to it. Leave --init-from out, or name the part so."
            )
    return parser.build("network"), parser.build("optimizer")


def _take(fold: Fold, source: Source, parser: BundleParser, network: Module, record: RunRecord) -> Initial:
    ends = ends_of(parser)
    rows = take_weights(network, source.weights, ends, sides_of(fold.bundle), source.sides)
    if not common_core(rows, ends):
        raise BundleError(
            f"{source.path} has nothing in common with the network of {fold.bundle.root}: no weight between its ends has "
            "the same name and shape. Name weights of such a network, plan the bundle with the same --network and as "
            "many levels and features, or leave --init-from out.",
            code="nothing-in-common",
            path=source.path,
        )
    require_finite(network.state_dict(), source.path)  # numbers of 64 bits may have become infinite
    held_out = {record.digests[name] for name in record.cases.validation if name in record.digests}
    freezing = fold.options.freezing
    return Initial(
        source.sha256,
        rows,
        TAKEN_RATE if fold.options.taken_rate is None else fold.options.taken_rate,
        () if freezing is None else _encoder(fold, parser, rows),
        None if freezing is None else freezing.epochs,
        None if source.trained_on is None else len(held_out & source.trained_on),
    )


def _encoder(fold: Fold, parser: BundleParser, rows: tuple[Row, ...]) -> tuple[str, ...]:
    """The weights of the encoder that were taken as they were; adapted and fresh ones have to learn."""
    described = parser.plain("network_def")
    target = str(described.get("_target_")) if isinstance(described, dict) else ""
    patterns = encoder_parts_of(target)
    if not patterns:
        raise UsageError(
            f"--freeze encoder: which part of the network of {fold.bundle.root} is its encoder is not known. "
            "Leave --freeze out."
        )
    taken = [row.name for row in rows if row.fate == "taken" and any(re.match(one, row.name) for one in patterns)]
    if not taken:
        raise UsageError(
            "--freeze encoder: no weight of the encoder was taken as it is, and one that was drawn has to learn. "
            "Leave --freeze out."
        )
    return tuple(taken)


def _tell(initial: Initial, fold: Fold, progress: Progress) -> None:
    """Say what was taken, the largest groups first; the record has every weight."""
    own = sum(row.numbers for row in initial.rows if row.fate != "left")
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in initial.rows:
        groups[row.fate, row.why].append(row)
    path = fold.source.path if fold.source is not None else fold.folder.initial
    progress.say(f"Begins with {path}, SHA-256 {initial.sha256[:12]}; shares of this network's numbers:")
    sized = sorted(groups.items(), key=lambda found: -sum(row.numbers for row in found[1]))
    for (fate, why), rows in sized[:SHOWN_GROUPS]:
        share = 100 * sum(row.numbers for row in rows) / max(1, own)
        largest = max(rows, key=lambda row: row.numbers)
        shape = "x".join(map(str, largest.shape)) or "one number"
        said = f": {why}" if why else ""
        progress.say(
            f"  {fate:8}{share:6.2f} %  {counted(len(rows), 'weight')}, the largest {largest.name} ({shape}){said}"
        )
    if len(sized) > SHOWN_GROUPS:
        progress.say(f"  and {len(sized) - SHOWN_GROUPS} more groups")
    if initial.taken_rate != 1:
        progress.say(f"  What was taken or adapted learns at {initial.taken_rate:g} times the rate.")
    if initial.frozen:
        epochs = "to the end" if initial.frozen_epochs is None else f"for {counted(initial.frozen_epochs, 'epoch')}"
        progress.say(f"  Frozen {epochs}: {counted(len(initial.frozen), 'weight')} of the encoder.")
    if fold.number is None:
        return
    if initial.seen is None:
        progress.say(
            "  Which cases trained these weights is not known: where cases held out here are among them, the validation "
            "Dice is too high."
        )
    elif initial.seen:
        progress.say(
            f"warning: {counted(initial.seen, 'case')} that {fold.name} holds out trained these weights, so its "
            "validation Dice will be too high."
        )

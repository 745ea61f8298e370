"""``volseg train``."""

from __future__ import annotations

import math
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from volseg.console import ConsoleProgress
from volseg.training.history import steps_of_model, trial_words
from volseg.verbs.train import TrainOptions
from volseg.words import counted, printable
from volseg.workflows.training import train_and_validate

if TYPE_CHECKING:
    from volseg.training.cross_validation import CrossValidation
    from volseg.verbs.train import FoldResult

DEFAULTS = TrainOptions()


def train(
    bundle_dir: Path,
    /,
    *,
    options: Annotated[TrainOptions, Parameter(name="*")] = DEFAULTS,
) -> int:
    """Train a bundle's network, or go on where it stopped.

    Fold 0 is held out unless told otherwise. Checkpoints, history.csv and curve.png go to the bundle's runs/fold_K/,
    the best weights of the first run to models/model.pt; those of another run only with --publish. Called again, it
    goes on; a run that is complete is left alone. The data set is split once, into runs/folds.json: cases that come
    later are in no fold until --fresh --cv splits anew. --cv trains all folds, scores each case by the one that held it
    out, and makes their models an ensemble.

    Args:
        bundle_dir: The bundle's folder.

    Examples:
        volseg train bundle/ --minutes 10
        volseg train bundle/ --cv --minutes 10
        volseg train bundle/ --all-cases --data liver/
        volseg train bundle/ --init-from other-bundle/ --freeze encoder:5
    """
    with redirect_stdout(sys.stderr):  # handlers of a bundle may print; stdout is for results
        trained = train_and_validate(bundle_dir, options, ConsoleProgress())
    results = trained.folds
    for result in results:
        _show(result)
    if trained.cross_validation is not None:
        _show_all(trained.cross_validation)
    elif len(results) > 1:
        scores = [found.best.validation.score for found in results if found.best and found.best.validation]
        if scores:
            print(f"{len(scores)} folds: mean validation Dice {sum(scores) / len(scores):.4f}")
    if not results:
        return 0  # this process only helped another one
    run = results[-1].published
    print(
        printable(f"The bundle's model is that of {run}.")
        if run
        else "The bundle's model is of no run that volseg knows."
    )
    if trained.error is not None:
        print(f"volseg: {trained.error}", file=sys.stderr)
    return 0 if all(result.complete for result in results) and trained.error is None else 1


def _show(result: FoldResult) -> None:
    cases = f"{counted(result.training, 'case')} trained, {result.validation} held out"
    minutes = result.history[-1].minutes if result.history else 0.0
    steps = result.history[-1].step if result.history else 0
    if result.failed:
        print(printable(f"{result.name}: ended: {result.failed}"))
        return
    if result.already:
        print(
            f"{result.name}: already complete after {minutes:.1f} minutes; give more --minutes or --epochs, or --fresh."
        )
    else:
        state = "complete" if result.complete else "stopped"
        print(f"{result.name}: {state} after {minutes:.1f} minutes and {counted(steps, 'step')}; {cases}.")
    best = result.best
    if best is not None and best.validation is not None:
        some = "" if result.validated is None else f", of {result.validated} of the {result.validation} held out"
        print(f"  best validation, epoch {best.epoch}{some}: mean Dice {best.validation.score:.4f}")
        for label, dice in zip(result.labels, best.validation.per_label, strict=False):
            print(printable(f"    {label}: {dice:.4f}" if math.isfinite(dice) else f"    {label}: in no case held out"))
    if result.complete and (words := trial_words(steps_of_model(result.history))):
        print(f"  warning: {words}")
    print(printable(f"  {result.folder / 'curve.png'}"))


def _show_all(found: CrossValidation) -> None:
    """All folds together: each label over all cases, and what rules gave."""
    folds = counted(len(found.folds), "fold")
    head = [
        f"{folds}, {counted(len(found.cases), 'case')}",
        "Dice",
        "spread",
        *(f"fold {n}" for n in found.folds),
        "HD95 mm",
    ]
    rows = [
        [name, _figure(found.dice(n).mean), _figure(found.dice(n).standard_deviation)]
        + [_figure(found.dice(n, fold).mean) for fold in found.folds]
        + [_figure(found.hd95_mm(n).mean, 2)]
        for n, name in enumerate(found.labels)
    ]
    rows.append(["mean", _figure(found.mean()), "", *(_figure(found.mean(fold)) for fold in found.folds), ""])
    first = max(len(row[0]) for row in (head, *rows))
    for row in (head, *rows):
        print(printable(f"{row[0]:<{first}}  " + "  ".join(f"{value:>7}" for value in row[1:])).rstrip())
    for rule in found.rules:
        if rule.kept:
            print(
                printable(
                    f"counted with this rule: {rule.rule}: Dice {rule.before:.4f} without, {rule.after:.4f} with ({rule.gain:+.4f})"
                )
            )


def _figure(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"

"""``volseg tune``."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from volseg.cli.results import print_table
from volseg.console import ConsoleProgress
from volseg.words import counted, listed, printable
from volseg.workflows.tune import TuneOptions
from volseg.workflows.tune import tune as workflow

if TYPE_CHECKING:
    from volseg.workflows.tune import Tuned, TuneTrial

DEFAULTS = TuneOptions()


def tune(
    bundle_dir: Path,
    /,
    *,
    options: Annotated[TuneOptions, Parameter(name="*")] = DEFAULTS,
) -> int:
    """Search for settings that train better than the plan, and write them into the bundle.

    Learning rate, weights of the loss, patch, width and augmentation are tried in short trainings of equal length on the
    same cases. The first is the plan as it is; each is scored by the mean Dice of the same held-out cases at its end.
    Trials that do badly half-way are ended. At the end the plan and the best are trained once more with another seed, to
    tell a gain from chance. The best configs are written where their mean is above the plan's, and what was there before
    goes to before_tune/. Short trials favour settings that learn quickly.

    Called again, it goes on where it was. The table, the picture and each trial's curve lie in runs/tune/.

    Args:
        bundle_dir: A bundle that volseg plan wrote.

    Examples:
        volseg tune bundle/ --minutes 60
        volseg tune bundle/ --minutes 480 --trial-minutes 20
        volseg tune bundle/ --trials 20 --trial-epochs 10
    """
    with redirect_stdout(sys.stderr):  # handlers of a bundle may print; stdout is for results
        found = workflow(bundle_dir, options, ConsoleProgress())
    _show(found, _next(found, bundle_dir, options))
    if found.failed:
        print(f"volseg: The search ended early: {printable(found.failed)}", file=sys.stderr)
    return 1 if found.failed else 0


def _next(found: Tuned, bundle_dir: Path, options: TuneOptions) -> str:
    """The command that trains the settings that were found; empty where the bundle is as it was."""
    if not found.best and found.kept is None:
        return ""
    data = () if options.data is None else ("--data", str(options.data))
    return shlex.join(("volseg", "train", str(bundle_dir), *data))


def _show(found: Tuned, command: str) -> None:
    header = ["trial", "score", "state", "steps", *found.parameters]
    print_table(header, [_row(one, found) for one in found.trials], left=(0, 2))
    for sentence in found.left_out:
        print(printable(f"not searched: {sentence}"))
    if found.already:
        print("The search was complete; give more --minutes or --trials to go on, or --fresh to begin another.")
    done = [one for one in found.trials if one.state == "complete"]
    print(f"{counted(len(done), 'trial')} trained to their end, of {len(found.trials)}.")
    _show_best(found)
    print(printable(f"  {found.folder / 'search.png'}"))
    if found.kept is not None:
        print(printable(f"Wrote {listed([f'configs/{name}' for name in found.written])}; before: {found.kept}"))
        if (found.kept / "runs").is_dir():
            print("The runs there were trained by the settings before, and none goes on by those of now.")
        if (found.kept / "models").is_dir():
            print("The models there are of the network before; train the bundle for one of its own.")
    if command:
        print(printable(f"Next: {command}"))


def _show_best(found: Tuned) -> None:
    """What won, and whether that may be chance."""
    if not found.best:
        print("Nothing was better than the plan; the bundle stays with it.")
    else:
        print(f"The best is trial {found.best}: mean Dice {found.gain:+.4f} against the plan.")
    if found.spread is None:
        print("No settings were tried with another seed, so nobody knows how much of a difference is chance.")
        return
    chance = f"Two trainings of the same settings differed by up to {found.spread:.4f}"
    if found.best and found.gain <= found.spread:
        print(f"{chance}: this gain may be chance.")
    else:
        print(f"{chance}.")


def _row(one: TuneTrial, found: Tuned) -> list[str]:
    planned = found.trials[0].settings
    name = f"{one.number}{' (best)' if one.number == found.best else ''}"
    state = one.state + (f" [{one.reason}]" if one.reason else "")
    if one.repeats is not None:
        state = f"{one.repeats} again" if one.state == "complete" else f"{one.repeats} again, {state}"
    settings = [_value(one.settings[key], planned[key], one.number) for key in found.parameters]
    return [name, "" if one.score is None else f"{one.score:.4f}", state, str(one.steps), *settings]


def _value(value: str | float, planned: str | float, number: int) -> str:
    """A setting; a dot where it is the plan's."""
    if number and value == planned:
        return "."
    return value if isinstance(value, str) else f"{value:.3g}"

"""The result of a search in the place of the bundle's configs, all of them at once."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

from volseg.atomic import exclusive, write_bytes, write_error, write_text
from volseg.bundle.folder import CONFIGS
from volseg.bundle.folds_config import FOLDS_CONFIG
from volseg.bundle.write import MAX_README_BYTES, PLAN_JSON, SCORES_BEGIN, SCORES_END, as_yaml, cell
from volseg.errors import FileError, InputError
from volseg.files import read_bounded
from volseg.workflows.tune.space import MAX_PLAN_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.bundle.folder import Bundle
    from volseg.planning.component import ConfigValue
    from volseg.planning.plan import Plan
    from volseg.workflows.tune.space import Configs

MADE_READY = ".configs.tuned"
"""The new folder of configs, whole before it is put into its place."""
KEPT = "before_tune"
FOUND = "found by volseg tune"


def finish_writing(root: Path) -> bool:
    """End what a kill interrupted: the new configs are whole, and the old ones were moved away or were not.

    Returns:
        Whether the new configs were put into their place.

    Raises:
        FileError: a folder can't be moved.
    """
    ready = root / MADE_READY
    if not ready.is_dir() or ready.is_symlink():
        return False
    try:
        if not (root / CONFIGS).exists():
            ready.replace(root / CONFIGS)
            return True
        shutil.rmtree(ready)
    except OSError as error:
        raise write_error(ready, error) from error
    return False


def write_result(bundle: Bundle, now: Configs, found: Configs, before: Plan | None, after: Plan | None) -> Path:
    """Put other configs into a bundle; what was there stays in a folder beside.

    The weights in ``models/`` go there as well where inference changes, since they belong to what was. The new configs
    are made ready in a folder that then takes the place of the old one, so that no kill leaves some of both.

    Args:
        bundle: the bundle.
        now: its configs.
        found: the others.
        before: the plan of its configs; None where nobody knows it.
        after: that of the others.

    Returns:
        The folder of what was there before.

    Raises:
        FileError: a run of the bundle is under way (``in-use``), or a file can't be written.
    """
    root, kept = bundle.root, _free(bundle.root / KEPT)
    with ExitStack() as held:
        # A training that is under way would publish weights of the network of before.
        for folder in sorted(bundle.runs.iterdir()):
            if folder.is_dir() and folder.name != "tune":
                held.enter_context(exclusive(folder))
        ready = _make_ready(bundle, now, found, before, after)
        models, moves = bundle.model_path.parent, now.inference != found.inference
        try:
            kept.mkdir()
            if (root / "docs").is_dir():
                shutil.copytree(root / "docs", kept / "docs")
            if moves and models.is_dir() and any(models.iterdir()):
                models.replace(kept / models.name)
                models.mkdir()
            (root / CONFIGS).replace(kept / CONFIGS)
            ready.replace(root / CONFIGS)
        except OSError as error:
            raise write_error(root, error) from error
        _tell_choices(root, before, after, trained=not moves)
    return kept


def _make_ready(bundle: Bundle, now: Configs, found: Configs, before: Plan | None, after: Plan | None) -> Path:
    ready = bundle.root / MADE_READY
    try:
        shutil.rmtree(ready, ignore_errors=True)
        shutil.copytree(bundle.root / CONFIGS, ready)
    except OSError as error:
        raise write_error(ready, error) from error
    for name, old, new in (
        ("train", now.train, found.train),
        ("inference", now.inference, found.inference),
        ("metadata", now.metadata, found.metadata),
    ):
        if old != new:
            path = ready / bundle.config_path(name).name
            write_text(path, json.dumps(new, indent=1) + "\n" if path.suffix == ".json" else as_yaml(new))
    if now.inference != found.inference:
        for path in ready.glob(f"{FOLDS_CONFIG}.*"):  # of an ensemble whose weights move away
            path.unlink()
    if before is not None and after is not None:
        _update_plan(ready / PLAN_JSON, before, after)
    return ready


def _update_plan(path: Path, before: Plan, after: Plan) -> None:
    """Bring ``plan.json`` up to date, so that another search makes this plan again of it."""
    content = json.loads(read_bounded(path, MAX_PLAN_BYTES, "plan"))
    changed = _changed(before, after)
    content["chosen"] = after.wishes.to_plain()
    content["choices"] = [_choice(one, changed) for one in content.get("choices", [])]
    write_text(path, json.dumps(content, indent=1) + "\n")


def _choice(told: ConfigValue, changed: dict[str, str]) -> ConfigValue:
    old = told.get("choice") if isinstance(told, dict) else None
    return {"choice": changed[old], "reason": FOUND} if isinstance(old, str) and old in changed else told


def _changed(before: Plan, after: Plan) -> dict[str, str]:
    """The choices that are others by now, by their words before."""
    pairs = zip(_first_word(before), _first_word(after), strict=False)
    return {old: new for (kind, old), (same, new) in pairs if kind == same and old != new}


def _first_word(plan: Plan) -> list[tuple[str, str]]:
    """The choices that a search may change, each with its kind."""
    kinds = ("patch", "loss", "augmentation")
    found = [(choice.split()[0], choice) for choice, _ in plan.reasons]
    told = [(kind, choice) for kind, choice in found if kind in kinds]
    levels = next(choice for choice, _ in plan.reasons if " levels of " in choice)
    return [*told, ("levels", levels)]


def _tell_choices(root: Path, before: Plan | None, after: Plan | None, *, trained: bool) -> None:
    """Say in ``docs/README.md`` what is chosen by now; what a person wrote in a row's place stays.

    The scores go where the weights went that they are of.
    """
    path = root / "docs" / "README.md"
    if before is None or after is None or path.is_symlink():
        return
    try:
        text = read_bounded(path, MAX_README_BYTES, "README").decode("utf-8", "surrogateescape")
    except (FileError, InputError):  # not ours to tell of
        return
    changed = {f"| {cell(old)} | ": f"| {cell(new)} | {FOUND} |" for old, new in _changed(before, after).items()}
    lines = [next((new for begin, new in changed.items() if line.startswith(begin)), line) for line in text.split("\n")]
    if not trained and lines.count(SCORES_BEGIN) == lines.count(SCORES_END) == 1:
        lines[lines.index(SCORES_BEGIN) + 1 : lines.index(SCORES_END)] = []
    if lines != text.split("\n"):
        write_bytes(path, "\n".join(lines).encode("utf-8", "surrogateescape"))


def _free(folder: Path) -> Path:
    """A folder of that name, or of the first number that is free."""
    number, found = 1, folder
    while found.exists():
        number += 1
        found = folder.with_name(f"{folder.name}_{number}")
    return found

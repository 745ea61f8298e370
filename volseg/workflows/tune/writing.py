"""The result of a search in the place of the bundle's configs, all of them at once."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from volseg.atomic import exclusive, write_bytes, write_error, write_text
from volseg.bundle.folder import CONFIGS
from volseg.bundle.folds_config import FOLDS_CONFIG
from volseg.bundle.rules_config import without_rules
from volseg.bundle.write import (
    MAX_README_BYTES,
    PLAN_JSON,
    SCORES_BEGIN,
    SCORES_END,
    as_yaml,
    replace_choices,
    replace_rules_words,
)
from volseg.errors import BundleError, FileError, InputError
from volseg.files import read_bounded
from volseg.planning.table import readable, recorded_choices
from volseg.training.cross_validation import NAME as CROSS_VALIDATION
from volseg.training.cross_validation import PICTURE
from volseg.workflows.tune.record import FOLDER
from volseg.workflows.tune.space import read_plan

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.bundle.folder import Bundle
    from volseg.planning.component import ConfigValue
    from volseg.progress import Progress
    from volseg.workflows.tune.space import Configs

MADE_READY = ".configs.tuned"
"""The new folder of configs, whole before it is put into its place."""
KEPT = "before_tune"


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


def write_result(
    bundle: Bundle, now: Configs, found: Configs, record: dict[str, ConfigValue] | None, progress: Progress
) -> Path:
    """Put other configs into a bundle; what was there stays in a folder beside.

    The runs go there as well, since none may pass for one by the new settings, and the weights in ``models/`` where
    inference changes. The new configs are made ready in a folder that then takes the place of the old one, so that no
    kill leaves some of both.

    Args:
        bundle: the bundle.
        now: its configs.
        found: the others.
        record: ``plan.json`` of the others; None leaves it as it is.
        progress: is told what the README can't say.

    Returns:
        The folder of what was there before.

    Raises:
        FileError: a run of the bundle is under way (``in-use``), or a file can't be written.
    """
    root, kept = bundle.root, _free(bundle.root / KEPT)
    with ExitStack() as held:
        runs = sorted(path for path in bundle.runs.iterdir() if path.is_dir() and path.name != FOLDER)
        for folder in runs:  # a training that is under way would publish weights of the network of before
            held.enter_context(exclusive(folder))
        ready = _make_ready(bundle, now, found, record)
        models, moves = bundle.model_path.parent, now.inference != found.inference
        if moves:
            runs += [path for name in (CROSS_VALIDATION, PICTURE) if (path := bundle.runs / name).exists()]
        try:
            kept.mkdir()
            if (root / "docs").is_dir():
                shutil.copytree(root / "docs", kept / "docs")
            # From here on things are only renamed, but for the README, which a call after a kill writes again.
            _tell(bundle, now, found, record, progress)
            if moves and models.is_dir() and any(models.iterdir()):
                models.replace(kept / models.name)
                models.mkdir()
            for path in runs:
                (kept / bundle.runs.name).mkdir(exist_ok=True)
                path.replace(kept / bundle.runs.name / path.name)
            (root / CONFIGS).replace(kept / CONFIGS)
            ready.replace(root / CONFIGS)
        except FileError:
            raise
        except OSError as error:
            raise write_error(root, error) from error
    return kept


def _make_ready(bundle: Bundle, now: Configs, found: Configs, record: dict[str, ConfigValue] | None) -> Path:
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
    if record is not None:
        write_text(ready / PLAN_JSON, readable(record) + "\n")
    return ready


def _tell(
    bundle: Bundle, now: Configs, found: Configs, record: dict[str, ConfigValue] | None, progress: Progress
) -> None:
    """Say in ``docs/README.md`` what is chosen by now, and which rules the masks have; scores go with their weights."""
    readme = bundle.root / "docs" / "README.md"
    before = recorded_choices(read_plan(bundle))
    after = before if record is None else recorded_choices(record)
    if after != before and not replace_choices(bundle.root, before, after) and readme.exists():
        progress.say(f"{readme} tells the choices in your words, which stay; configs/plan.json has those of now.")
    if now.inference == found.inference:
        return
    with suppress(BundleError):  # a person has own rules, which stay
        old, new = (without_rules(one.inference, bundle.labels.indices)[0] for one in (now, found))
        if old != new:
            replace_rules_words(bundle.root, old, new, bundle.labels)
    _forget_scores(readme)


def _forget_scores(path: Path) -> None:
    """Take the scores out of a README: they go where the weights went that they are of."""
    try:
        text = read_bounded(path, MAX_README_BYTES, "README", follow=False).decode("utf-8", "surrogateescape")
    except (FileError, InputError):  # not ours to tell of
        return
    lines = text.split("\n")
    if lines.count(SCORES_BEGIN) == lines.count(SCORES_END) == 1:
        lines[lines.index(SCORES_BEGIN) + 1 : lines.index(SCORES_END)] = []
        write_bytes(path, "\n".join(lines).encode("utf-8", "surrogateescape"))


def _free(folder: Path) -> Path:
    """A folder of that name, or of the first number that is free."""
    number, found = 1, folder
    while found.exists():
        number += 1
        found = folder.with_name(f"{folder.name}_{number}")
    return found

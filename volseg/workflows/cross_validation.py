"""Cross-validation: each case predicted by the fold that held it out, scored, and the rules for labels chosen by that."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from typing import TYPE_CHECKING

from volseg.bundle.folder import Bundle, open_bundle
from volseg.bundle.lint import lint_config, rounds_masks
from volseg.bundle.outputs import Outputs
from volseg.bundle.own_runs import is_own_run, remember_made
from volseg.bundle.rules_config import with_rules, without_rules
from volseg.bundle.targets import trained_regions
from volseg.bundle.trust import require_trust
from volseg.bundle.write import as_yaml, replace_rules_words, write_config
from volseg.dataset.dataset import read_dataset
from volseg.dataset.faults import require_sound
from volseg.dataset.folds import Split
from volseg.errors import BundleError, OutputExistsError
from volseg.evaluation import Evaluation
from volseg.kept import EDITED
from volseg.labels import LabelTable, regions_table
from volseg.metrics import compare
from volseg.outcomes import Status, sha256_of
from volseg.pictures.spread import draw_spread
from volseg.postprocessing import KeepLargest, PostprocessingRules
from volseg.postprocessing.selection import LEAST_LOSS, Selection, Trial
from volseg.progress import SILENT, Progress
from volseg.resampling import turned_onto
from volseg.training.checkpoint import RunFolder
from volseg.training.cross_validation import NAME, PICTURE, CrossValidation, HeldOut, RuleGain, figures
from volseg.training.record import RunRecord
from volseg.verbs.evaluate import EvaluateOptions, evaluate
from volseg.verbs.predict import PredictOptions, predict
from volseg.verbs.train.ensemble import publish_ensemble, write_folds_config
from volseg.verbs.train.fold import RECORD_KEY
from volseg.verbs.train.scores import write_scores
from volseg.verbs.train.split import RUN_PREFIX, split_path, tell_older_data
from volseg.verbs.train.verb import require_own_data
from volseg.volume import nifti_name, read_mask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.verbs.train import TrainOptions


def cross_validate(bundle_dir: Path, options: TrainOptions, progress: Progress = SILENT) -> CrossValidation | None:
    """Make the folds an ensemble, score every case by the fold that held it out, and choose rules for labels by that.

    The masks are those of ``volseg predict BUNDLE DATASET --fold K``, and stay in ``runs/fold_K/held_out`` as they are
    before any rule. The rules go into the inference config, unless a person put own ones there.

    Args:
        bundle_dir: a bundle of which all folds are trained.
        options: of the training.
        progress: receives the progress.

    Returns:
        The scores with the rules that the bundle has then; None for a bundle that runs code of its own.

    Raises:
        BundleError: a case can't be predicted or scored.
        VolsegError: as ``volseg.predict`` and ``volseg.evaluate``.
    """
    bundle = open_bundle(bundle_dir)
    known = bundle.read_config("train")
    verdict = require_trust(bundle)
    if verdict.findings or RECORD_KEY not in known:
        return None
    publish_ensemble(bundle)
    place = bundle.root / str(known["dataset_dir"]) if options.data is None else _path(options.data)
    names = (f"{RUN_PREFIX}{number}" for number in range(len(Split.read(split_path(bundle)).folds)))
    runs = {name: RunFolder(bundle.runs / name) for name in names}
    work = _Work(bundle, place, options, runs, progress)
    record = bundle.runs / NAME
    before = CrossValidation.read(bundle.runs) if is_own_run(record) else None
    if before is not None and before.key == work.key and before.bundle_rules == _plain(work.rules + work.thresholds):
        return before
    require_own_data(bundle, verdict, place, options)
    # Folds that were done before: another data set may have cases of the same names.
    contents = require_sound(read_dataset(place), whole_masks=not rounds_masks(known), progress=progress)
    tell_older_data(bundle, contents, (), progress)
    for run in runs:
        work.predict(run)
    found = work.of_regions() if work.overlap else work.of_labels(before)
    found.write(bundle.runs)
    remember_made(record, progress)
    by_label = {name: [case.dice[place] for case in found.cases] for place, name in enumerate(found.labels)}
    draw_spread(
        bundle.runs / PICTURE, {name: [x for x in dice if x is not None] for name, dice in by_label.items()}, "Dice"
    )
    write_scores(Bundle(bundle.root))
    return found


class _Work:
    """The cross-validation of a bundle."""

    def __init__(
        self, bundle: Bundle, place: Path, options: TrainOptions, runs: Mapping[str, RunFolder], progress: Progress
    ) -> None:
        self.bundle, self.place, self.options, self.runs, self.progress = bundle, place, options, runs, progress
        self.records = {name: RunRecord.read(run.record) for name, run in runs.items()}
        self.inference = bundle.read_config("inference")
        self.rules, self.bare = without_rules(self.inference, bundle.labels.indices)
        self.weights = {name: sha256_of(run.best) for name, run in runs.items()}
        data = {name: one.data_sha256 for name, one in self.records.items()}
        # Applied while a mask is made, so that the other rules are tried on what is left.
        self.thresholds = PostprocessingRules(self.rules.thresholds)
        self.rules = self.rules.on_masks
        parts = [self.weights, self.bare, bundle.metadata, data, options.keep_rules, *_plain(self.thresholds)]
        self.key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def overlap(self) -> bool:
        """Whether the structures may overlap."""
        return self.bundle.meaning.outputs is Outputs.REGIONS and bool(self.bundle.meaning.regions)

    def predict(self, run: str) -> None:
        """Predict the cases that a fold held out; those that are there already stay.

        Raises:
            BundleError: one can't be predicted.
        """
        out = self.runs[run].held_out
        regions = regions_table(self.bundle.meaning.regions) if self.overlap else LabelTable(())
        names = {label: str(label) for label in self.bundle.labels.indices} | dict(
            zip(regions.indices, regions.names, strict=True)
        )
        options = PredictOptions(
            fold=_number(run),
            raw=True,
            device=self.options.device,
            regions=self.overlap,
            threshold=tuple(word for rule in self.thresholds.thresholds for word in rule.option(names)),
        )
        self.progress.say(f"{run}: the cases that it held out")
        try:
            ledger = predict(self.bundle.root, self.place, out, options, self.progress)
            changed = any(EDITED in outcome.warnings for outcome in ledger.outcomes)
        except OutputExistsError:  # of earlier weights
            changed = True
        if changed:
            shutil.rmtree(out, ignore_errors=True)
            ledger = predict(self.bundle.root, self.place, out, options, self.progress)
        bad = [outcome for outcome in ledger.outcomes if outcome.status is not Status.DONE]
        if bad:
            raise BundleError(
                f"{run}: {len(bad)} of the cases that it held out can't be predicted, {bad[0].case} for one: "
                f"{bad[0].message}",
                code="held-out",
            )

    def pairs(self, title: str) -> Iterator[tuple[str, int, NDArray[np.generic], NDArray[np.generic], Grid]]:
        """Each held-out case, one after the other: name, fold, predicted mask, reference, the reference's grid."""
        dataset = read_dataset(self.place, discover_labels=False)
        labels = {case.name: case.label for case in dataset.training}
        with self.progress.task(
            title, sum(len(one.cases.validation) for one in self.records.values()), "cases"
        ) as task:
            for run, record in self.records.items():
                for case in sorted(record.cases.validation):
                    path = labels.get(case)
                    if path is None:
                        raise BundleError(f"{case}, which {run} held out, has no mask any more.", code="held-out")
                    found = read_mask(self.runs[run].held_out / nifti_name(case))
                    reference = read_mask(path)
                    same = found.grid.difference(reference.grid) is None
                    predicted = found if same else turned_onto(found, reference.grid)
                    if predicted is None:
                        raise BundleError(f"{case}: image and mask lie on different grids.", code="held-out")
                    yield case, _number(run), predicted.array, reference.array, reference.grid
                    task.advance(1.0, case)

    def of_regions(self) -> CrossValidation:
        """The scores of structures that may overlap; no rules are chosen for them."""
        cases, names = list[HeldOut](), tuple[str, ...]()
        regions = (
            () if read_dataset(self.place, discover_labels=False).regions else trained_regions(self.bundle.metadata)
        )
        asked = "; ".join(f"{region.name}={','.join(map(str, region.labels))}" for region in regions)
        for run in self.runs:
            folder = self.runs[run].held_out
            evaluation = evaluate(folder, self.place, EvaluateOptions(regions=asked), self.progress)
            names = evaluation.labels.names
            cases += _cases_of(evaluation, _number(run))
        self.progress.say(
            "No rules were tried: such as the largest piece are for labels that exclude each other, and these are regions."
        )
        return CrossValidation(names, tuple(cases), (), self.weights, self.key, _plain(self.rules + self.thresholds))

    def of_labels(self, before: CrossValidation | None) -> CrossValidation:
        """Choose the rules, store them, and score all cases with them."""
        labels = self.bundle.labels.indices
        chosen = before is not None and before.chosen and before.bundle_rules == _plain(self.rules + self.thresholds)
        ours = chosen or _only_largest(self.rules)
        why = self._may_not_store() if ours else "has rules of your own"
        if self.options.keep_rules:
            why = "keeps its rules, as you asked"
        trial = Trial(labels, self._volumes_mm3(), _largest(self.rules), self.bundle.ignore)
        for _, _, mask, reference, grid in self.pairs("Trying rules"):
            trial.add(mask, reference, grid)
        selection = self._proved(trial)
        rules = self.rules if why else selection.rules
        cases = []
        for name, fold, mask, reference, grid in self.pairs("Scoring"):
            cleaned, _ = rules.apply(mask, grid)
            ignored = None if self.bundle.ignore is None else reference == self.bundle.ignore
            scores = compare(cleaned, reference, grid, labels, ignored)
            cases.append(
                HeldOut(name, fold, figures(one.dice for one in scores), figures(one.hd95_mm for one in scores))
            )
        if why:
            if selection.rules != self.rules:
                self.progress.say(
                    f"{self.bundle.config_path('inference')} {why}, so it stays as it is; what was tried stands in "
                    f"{self.bundle.runs / 'cross_validation.json'}."
                )
        elif rules != self.rules:
            self._store(rules)
        tried = tuple(
            RuleGain(
                one.label,
                one.rule.words(self.bundle.labels),
                _finite(one.before),
                _finite(one.after),
                one.kept and not why,
            )
            for one in selection.tried
            if not math.isnan(one.before)
        )
        return CrossValidation(
            self.bundle.labels.names,
            tuple(cases),
            tried,
            self.weights,
            self.key,
            _plain(rules + self.thresholds),
            chosen=ours,
        )

    def _proved(self, trial: Trial) -> Selection:
        """The rules that lower no label's mean when all of them are applied together."""
        without: set[int] = set()
        while True:
            selection = trial.choose(without)
            if not selection.rules or not any(rule.key == "fill_holes" for rule in selection.rules.rules):
                return selection  # to remove components of one label changes no other
            rows = [
                trial.dice_of(selection.rules.apply(mask, grid)[0], reference)
                for _, _, mask, reference, grid in self.pairs("Proving rules")
            ]
            means = [_mean(column) for column in zip(*rows, strict=True)]
            worse = {
                label
                for label, plain, mean in zip(trial.labels, trial.plain_means(), means, strict=True)
                if mean < plain - LEAST_LOSS
            }
            if not worse - without:
                return selection
            without |= worse

    def _volumes_mm3(self) -> dict[int, float]:
        """The median volume of each label in the references that have it."""
        found: dict[int, list[float]] = {label: [] for label in self.bundle.labels.indices}
        for _, _, _, reference, grid in self.pairs("Measuring"):
            for overlap in _present(reference, self.bundle.labels.indices):
                if overlap[1]:
                    found[overlap[0]].append(overlap[1] * grid.voxel_volume_mm3)
        return {label: sorted(sizes)[len(sizes) // 2] for label, sizes in found.items() if sizes}

    def _may_not_store(self) -> str:
        """Why the inference config can't be written anew; empty where it can."""
        path = self.bundle.config_path("inference")
        if path.suffix != ".yaml" or path.read_text(encoding="utf-8") != as_yaml(self.inference):
            return "was edited by hand (comments would be lost)"
        return ""

    def _store(self, rules: PostprocessingRules) -> None:
        """Write the rules into the inference config, and into that of the ensemble."""
        config = with_rules(self.bare, rules + self.thresholds, self.bundle.labels.indices)
        if lint_config("inference", config):  # never so: rules are of the vocabulary
            raise BundleError("The rules go beyond what a bundle may have.", code="rules")
        write_config(self.bundle.config_path("inference"), config)
        bundle = Bundle(self.bundle.root)
        write_folds_config(bundle, tuple(_number(run) for run in self.runs))
        replace_rules_words(bundle.root, self.rules, rules, self.bundle.labels)
        self.progress.say(f"The rules for labels in {bundle.config_path('inference')} were chosen by these cases.")


def _path(data: object) -> Path:
    from pathlib import Path

    return Path(str(data))


def _number(run: str) -> int:
    return int(run.removeprefix(RUN_PREFIX))


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _mean(values: Sequence[float]) -> float:
    found = [value for value in values if not math.isnan(value)]
    return sum(found) / len(found) if found else math.nan


def _present(reference: NDArray[np.generic], labels: Sequence[int]) -> list[tuple[int, int]]:
    import numpy as np

    counts = np.bincount(reference.ravel(order="K"), minlength=max(labels, default=0) + 1)
    return [(label, int(counts[label])) for label in labels]


def _plain(rules: PostprocessingRules) -> tuple[dict[str, object], ...]:
    return tuple(rules.to_config())


def _only_largest(rules: PostprocessingRules) -> bool:
    """Whether the rules are such as ``volseg plan`` chooses."""
    return all(
        type(rule) is KeepLargest and rule.labels != "all" and rule == KeepLargest(labels=rule.flat)
        for rule in rules.rules
    )


def _largest(rules: PostprocessingRules) -> frozenset[int]:
    return frozenset(
        label for rule in rules.rules if type(rule) is KeepLargest and rule.count == 1 for label in rule.flat
    )


def _cases_of(evaluation: Evaluation, fold: int) -> list[HeldOut]:
    return [
        HeldOut(case.case, fold, figures(one.dice for one in case.scores), figures(one.hd95_mm for one in case.scores))
        for case in evaluation.cases
    ]

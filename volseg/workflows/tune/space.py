"""What a search tries: parameters around a plan, and the configs of any choice of them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from volseg.bundle.changes import EDITED, carried
from volseg.bundle.configs import inference_config, train_config
from volseg.bundle.folder import CONFIGS
from volseg.bundle.metadata import at
from volseg.bundle.rules_config import with_rules, without_rules
from volseg.bundle.targets import trained_regions
from volseg.bundle.write import PLAN_JSON, bundle_metadata
from volseg.errors import BundleError, FileError
from volseg.files import read_bounded
from volseg.planning.augmentations import AUGMENTATIONS, AugmentationName, NoChanges
from volseg.planning.losses import LARGEST_WEIGHT, CrossEntropy, Dice, DiceCrossEntropy, Loss, Term
from volseg.planning.memory import Memory, StepCosts, shown
from volseg.planning.optimizers import RATE
from volseg.planning.plan import choose
from volseg.planning.presets import PRESETS
from volseg.planning.table import choices_record, recorded_choices
from volseg.planning.wishes import Wishes
from volseg.training.cross_validation import CrossValidation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from volseg.bundle.folder import Bundle
    from volseg.dataset.dataset import Dataset
    from volseg.planning.component import ConfigValue
    from volseg.planning.fingerprint import Fingerprint
    from volseg.planning.plan import Plan
    from volseg.workflows.tune.options import Value

RATE_FACTOR = 10.0
"""The learning rate is searched up to so many times the plan's, and down to as small a part of it."""
WEIGHT_FACTOR = 4.0
LEAST_WEIGHT = 1e-3
PATCHES = (0.75, 1.25)
WIDTHS = (0.5, 0.75, 1.5)
FEATURES = 4
"""Features are multiples of it."""
MAX_PLAN_BYTES = 64 * 2**20

FOUND = "found by volseg tune"

LEARNING_RATE, PATCH, WIDTH, AUGMENTATION, WEIGHT = "learning rate", "patch", "width", "augmentation", "weight of "


@dataclass(frozen=True)
class Parameter:
    """One thing that is searched.

    Args:
        name: in words.
        planned: the plan's value.
        choices: all values; none where it is any number between ``low`` and ``high``, searched by its logarithm.
    """

    name: str
    planned: Value
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0

    def holds(self, value: object) -> bool:
        """Whether a value is one of those that are searched."""
        if self.choices:
            return any(value == one and type(value) is type(one) for one in self.choices)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and self.low <= cast("float", value) <= self.high


@dataclass(frozen=True)
class Configs:
    """The configs of a bundle, as plain data."""

    train: dict[str, ConfigValue]
    inference: dict[str, ConfigValue]
    metadata: dict[str, ConfigValue]

    def texts(self) -> str:
        """All of them in one form that tells them from any others."""
        return repr((self.train, self.inference, self.metadata))  # JSON has no dates or numbers as keys, and YAML has

    @classmethod
    def read(cls, bundle: Bundle) -> Configs:
        """Those of a bundle.

        Raises:
            BundleError, FileError: one can't be read.
        """
        return cls(*(bundle.read_config(name) for name in ("train", "inference", "metadata")))


class Space:
    """The parameters that can be searched around a bundle's plan.

    Args:
        bundle: the bundle.
        dataset: that it was planned for.
        fingerprint: of that.

    Attributes:
        parameters: what is searched.
        left_out: what is not, and why, in words.
        has_chosen_rules: whether the bundle's rules for labels were chosen by its network's own masks.
    """

    def __init__(self, bundle: Bundle, dataset: Dataset, fingerprint: Fingerprint) -> None:
        self.configs = Configs.read(bundle)
        self._record = read_plan(bundle)
        self._fingerprint, self._labels = fingerprint, dataset.labels
        self._regions = trained_regions(self.configs.metadata) or dataset.regions
        wishes = _planned_wishes(self._record)
        self._costs: StepCosts | None = None
        self._memory = Memory.of(None, math.inf)
        self.left_out: tuple[str, ...] = ()
        self.plan = None if wishes is None else self._choose(wishes)
        found = [self._learning_rate()]
        if self.plan is None:
            self._leave("loss, patch, width and augmentation", "configs/plan.json doesn't tell the plan; plan anew")
        else:
            found += [*self._weights(self.plan), self._patch(self.plan), self._width(self.plan), self._augmentation()]
        self._befores = () if self.plan is None else _written(self.plan)
        self.has_chosen_rules = has_chosen_rules(bundle)
        candidates = [one for one in found if one is not None]
        self._planned = {one.name: one.planned for one in candidates}
        self.parameters = tuple(filter(self._is_free, candidates))

    @property
    def planned(self) -> dict[str, Value]:
        """The plan itself."""
        return {one.name: one.planned for one in self.parameters}

    def plan_of(self, settings: Mapping[str, Value]) -> Plan | None:
        """The plan that has these settings, but for the learning rate; None where nobody knows the bundle's plan."""
        if self.plan is None:
            return None
        plan, wishes = self.plan, self.plan.wishes
        shape, loss = wishes.shape, plan.loss
        assert shape is not None, "a plan has a shape"
        changed = {name: value for name, value in settings.items() if value != self._planned[name]}
        if not changed.keys() - {LEARNING_RATE}:
            return plan
        if WIDTH in changed:
            topology = replace(shape.topology, features=_widened(plan, float(changed[WIDTH])))
            shape = replace(shape, topology=topology)
        if PATCH in changed:
            shape = replace(shape, patch=_triple(str(changed[PATCH])))
        augment = cast("AugmentationName", changed.get(AUGMENTATION, wishes.augment))
        if any(name.startswith(WEIGHT) for name in changed):
            first, *others = _terms(loss)
            loss = Loss(
                (first, *((_rounded(changed.get(WEIGHT + term.name, weight)), term) for weight, term in others))
            )
        mirror = None if augment == NoChanges.name else wishes.mirror
        return self._choose(replace(wishes, shape=shape, augment=augment, mirror=mirror, loss=loss))

    def of(self, settings: Mapping[str, Value]) -> Configs:
        """The bundle's configs with these settings; what they don't touch stays as a person has it.

        Rules that were chosen by another network's masks give way to the plan's.

        Raises:
            BundleError: a person changed what a setting would change, with the code ``edited``.
        """
        plan = self.plan_of(settings)
        train, inference, metadata = self.configs.train, self.configs.inference, self.configs.metadata
        if plan is not None and plan is not self.plan:
            afters = _written(plan)
            train, inference, metadata = (
                cast("dict[str, ConfigValue]", carried(current, before, after))
                for current, before, after in zip((train, inference, metadata), self._befores, afters, strict=True)
            )
            if self.has_chosen_rules and inference != self.configs.inference:
                _, bare = without_rules(inference, self._labels.indices)
                inference = with_rules(bare, plan.rules, self._labels.indices)
        rate = settings.get(LEARNING_RATE)
        if rate is not None and rate != self._planned[LEARNING_RATE]:
            train = {**train, "learning_rate": _rounded(rate)}
        return Configs(train, inference, metadata)

    def record_of(self, settings: Mapping[str, Value]) -> dict[str, ConfigValue] | None:
        """``plan.json`` with these settings, of which another search makes their plan again; None where it tells no plan.

        What is not chosen otherwise keeps the reason that it was planned for.
        """
        plan = self.plan_of(settings)
        if plan is None or self.plan is None:
            return None
        by_hand = self._befores[0]["network_def"] != self.configs.train.get("network_def")
        memory = None if by_hand else self._memory
        before, after = (self._choose(one.wishes, memory).reasons for one in (self.plan, plan))
        known = dict(recorded_choices(self._record))
        reasons = [(row[0], known.get(row[0], "as planned")) if row in before else row for row in after]
        return {**self._record, "chosen": plan.wishes.to_plain(), "choices": choices_record(reasons)}

    def lacks_memory(self, settings: Mapping[str, Value]) -> str:
        """Why a step with these settings doesn't fit into this machine's memory; empty where it does."""
        plan = self.plan_of(settings)
        if plan is None or self.plan is None or plan.network == self.plan.network:
            return ""
        if self._befores[0]["network_def"] != self.configs.train.get("network_def"):
            return ""  # another network by hand, which the training itself judges
        self._costs = self._costs or StepCosts(self._memory)
        need = self._costs.bytes_of(plan.network, plan.batch)
        return f"about {shown(need)} for a step" if need > self._memory.size else ""

    def _choose(self, wishes: Wishes, memory: Memory | None = None) -> Plan:
        return choose(self._fingerprint, self._labels, "", wishes, self._regions, memory, FOUND)

    def _leave(self, what: str, why: str) -> None:
        self.left_out = (*self.left_out, f"{what}: {why}")

    def _is_free(self, parameter: Parameter) -> bool:
        """Whether all values of a parameter can be written without touching what a person changed."""
        values = parameter.choices or (math.sqrt(parameter.low * parameter.high) * 1.01,)
        try:
            for value in values:
                self.of({parameter.name: value})
        except BundleError as error:
            if error.code != EDITED:
                raise
            self._leave(parameter.name, f"{error.message}, and what you wrote there stays")
            return False
        return True

    def _learning_rate(self) -> Parameter | None:
        rate = self.configs.train.get("learning_rate")
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < 1000:
            self._leave(LEARNING_RATE, "learning_rate in train.yaml is no number above 0")
        elif at(self.configs.train, "optimizer", "lr") != RATE:
            self._leave(LEARNING_RATE, f"the optimizer in train.yaml doesn't take {RATE}")
        else:
            return Parameter(LEARNING_RATE, float(rate), low=rate / RATE_FACTOR, high=rate * RATE_FACTOR)
        return None

    def _weights(self, plan: Plan) -> list[Parameter]:
        _, *others = _terms(plan.loss)
        if not others:
            self._leave("weights of the loss", f"{plan.loss.name} is one term")
        return [
            Parameter(
                WEIGHT + term.name,
                weight,
                low=max(LEAST_WEIGHT, weight / WEIGHT_FACTOR),
                high=min(LARGEST_WEIGHT, weight * WEIGHT_FACTOR),
            )
            for weight, term in others
            if weight > LEAST_WEIGHT
        ]

    def _patch(self, plan: Plan) -> Parameter | None:
        """Patches of other multiples of what the levels halve, none larger than the largest volume has use for."""
        multiple = np.prod(np.array(plan.network.topology.strides), axis=0)
        repeats = np.array(plan.patch) // multiple
        shapes = self._fingerprint.shapes_at(plan.spacing_mm)
        most = np.maximum(repeats, np.ceil(shapes.max(axis=0) / multiple)).astype(int)
        found = {plan.patch}
        for factor in PATCHES:
            other = np.clip(np.rint(repeats * factor).astype(int), 1, most)
            if other.prod() > 1 or multiple.prod() == 1:  # norms need more than one voxel at the lowest level
                sides = other * multiple
                found.add((int(sides[0]), int(sides[1]), int(sides[2])))
        return self._choice(PATCH, _patch_name(plan.patch), [_patch_name(one) for one in sorted(found, key=math.prod)])

    def _width(self, plan: Plan) -> Parameter | None:
        # A network may round several to the same features.
        factors = {_widened(plan, factor): factor for factor in (*WIDTHS, 1.0)}
        return self._choice(WIDTH, 1.0, sorted(factors.values()))

    def _augmentation(self) -> Parameter | None:
        planned = self.plan.augmentation.name if self.plan else ""
        return self._choice(AUGMENTATION, planned, list(AUGMENTATIONS))

    def _choice(self, name: str, planned: Value, values: Sequence[Value]) -> Parameter | None:
        if len(values) < 2:
            self._leave(name, "the network leaves no choice")
            return None
        return Parameter(name, planned, tuple(values))


def read_plan(bundle: Bundle) -> dict[str, ConfigValue]:
    """``configs/plan.json``; empty where it can't be read."""
    path = bundle.root / CONFIGS / PLAN_JSON
    try:
        found = json.loads(read_bounded(path, MAX_PLAN_BYTES, "plan", follow=False))
    except (FileError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _planned_wishes(record: Mapping[str, ConfigValue]) -> Wishes | None:
    """What gives the bundle's plan again, by its ``plan.json``; None where that doesn't tell it.

    Whether it tells the truth shows in the configs, which have to be those of that plan wherever something is changed.
    """
    try:
        return Wishes.from_plain(record["chosen"])
    except (ValueError, LookupError, RecursionError):  # pydantic's, and a loss's of no such name
        return None


def has_chosen_rules(bundle: Bundle) -> bool:
    """Whether cross-validation chose the rules for labels that the bundle has.

    Raises:
        InputError: its record is damaged.
        FileError: it can't be read.
    """
    scored = CrossValidation.read(bundle.runs)
    if scored is None or not scored.chosen:
        return False
    try:
        rules, _ = without_rules(bundle.read_config("inference"), bundle.labels.indices)
    except BundleError:  # a person changed more than the rules
        return False
    return scored.bundle_rules == tuple(rules.to_config())


def _written(plan: Plan) -> tuple[dict[str, ConfigValue], ...]:
    """Train config, inference config and metadata as the plan writes them, without the place of the data."""
    return train_config(plan, ""), inference_config(plan, ""), bundle_metadata(plan)


def _terms(loss: Loss) -> tuple[tuple[float, Term], ...]:
    """The terms of a loss, soft Dice and cross-entropy apart where they are one."""
    (weight, term), *others = loss.terms
    if not others and isinstance(term, DiceCrossEntropy):
        return ((weight, Dice()), (weight, CrossEntropy()))
    return loss.terms


def _widened(plan: Plan, factor: float) -> tuple[int, ...]:
    """The features of each level, so many times as many."""
    kind, limits, now = type(plan.network), PRESETS[plan.preset], plan.network.topology.features
    if factor == 1:
        return now
    base = kind.widths(limits.features, limits.max_features, len(now))
    share = factor * now[0] / base[0]
    return kind.widths(
        FEATURES * max(1, round(limits.features * share / FEATURES)),
        FEATURES * max(1, round(limits.max_features * share / FEATURES)),
        len(now),
    )


def _patch_name(patch: tuple[int, int, int]) -> str:
    return "x".join(map(str, patch))


def _triple(name: str) -> tuple[int, int, int]:
    first, second, third = map(int, name.split("x"))
    return first, second, third


def _rounded(value: Value) -> float:
    """To three digits, which a person can read; no training tells more apart."""
    return float(f"{float(value):.3g}")

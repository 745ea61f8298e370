"""The rules by which a bundle is sound. Nothing of it is run unless it may run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.bundle.folder import Bundle, refuse_links
from volseg.bundle.lint import RUN_CONFIGS
from volseg.bundle.metadata import NETWORK_FORMAT, at, label_faults, metadata_faults, older_keys
from volseg.bundle.outputs import Outputs, meaning_of
from volseg.bundle.packages import missing_packages
from volseg.bundle.scope import beyond_masks
from volseg.bundle.trust import SHOWN_FINDINGS, Verdict, judge
from volseg.dataset.case import Fault
from volseg.errors import VolsegError
from volseg.files import NO_PLAIN_FILE
from volseg.postprocessing import PostprocessingRules
from volseg.training.history import trial_words
from volseg.words import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch.nn import Module

    from volseg.planning.component import ConfigValue

PARTS = {
    "inference": ("network_def", "preprocessing", "inferer", "postprocessing"),
    "train": ("train#trainer",),
}
"""What volseg builds from each config, by the names that MONAI bundles agree on."""
RULES = "volseg_postprocessing"
UNREADABLE = ("bad-config", "cannot-read", "file", "link", NO_PLAIN_FILE)
"""The codes of configs that can't be read, or that nobody judges."""

Configs = dict[str, dict[str, "ConfigValue"]]


def find_faults(bundle: Bundle) -> tuple[Fault, ...]:
    """Every fault of a bundle at once; ``case`` is the file that has it, relative to the bundle.

    The networks are built, to see whether the weights fit, only when the bundle may run.

    Raises:
        FileError: the record of what is trusted can't be read.
    """
    faults: list[Fault] = []
    linked = None
    try:
        refuse_links(bundle)
    except VolsegError as error:
        linked = error.path
        faults.append(Fault.of_error(error, bundle.root))
    configs = _configs(bundle, faults, linked)
    is_readable = not any(fault.code in UNREADABLE for fault in faults)
    beyond = beyond_masks(configs)
    if beyond is not None:
        return (*faults, Fault(beyond[0], "", f"the bundle {beyond[1]}"))
    if "metadata" in configs:
        place, metadata = _place(bundle, "metadata"), configs["metadata"]
        faults += [Fault("metadata", place, f"{clause}.", is_error=False) for clause in older_keys(metadata)]
        faults += [Fault("metadata", place, f"{clause}.") for clause in metadata_faults(metadata)]
        faults += [Fault("labels", place, f"{clause}.") for clause in label_faults(metadata)]
        faults += _meaning_faults(place, metadata, configs.get("inference", {}))
    for name in RUN_CONFIGS:
        if name in configs:
            faults += _part_faults(bundle, name, configs[name])
    if "inference" in configs:
        faults += _agreement_faults(bundle, configs["inference"], configs.get("metadata", {}))
    for need in missing_packages(bundle, configs):
        faults.append(Fault("missing-package", need.place, f"{need}", is_error=need.stops == "predicting"))
    verdict = _verdict(bundle, faults) if is_readable else None
    faults += _weight_faults(bundle, configs, may_run=verdict is not None and verdict.may_run)
    return tuple(faults)


def summary(bundle: Bundle) -> str:
    """What the bundle is, in a few words, as far as its metadata can be read."""
    try:
        meaning = bundle.meaning
    except VolsegError:
        return "bundle"
    if meaning.outputs is Outputs.REGIONS and meaning.regions:
        return f"bundle of {counted(len(meaning.regions), 'region')} that may overlap"
    return f"bundle of {counted(len(meaning.table), 'label')}" if len(meaning.table) else "bundle"


def _configs(bundle: Bundle, faults: list[Fault], linked: Path | None) -> Configs:
    """The configs that can be read; what is missing or can't be read becomes a fault, but for a link that is told."""
    found: Configs = {}
    for name in ("metadata", *RUN_CONFIGS):
        if bundle.find_config(name) in (None, linked):
            continue
        try:
            found[name] = bundle.read_config(name)
        except VolsegError as error:
            faults.append(Fault.of_error(error, bundle.root, _place(bundle, name)))
        read, *others = bundle.find_configs(name)
        faults += [
            Fault(
                "two-configs",
                other.relative_to(bundle.root).as_posix(),
                f"volseg reads {read.name} beside it and not this one, which nobody has checked; other programs may run "
                "it. Remove one of them.",
            )
            for other in others
        ]
    if bundle.find_config("metadata") is None:
        faults.append(
            Fault("no-config", "", "configs/metadata.json is missing, which every bundle has. Get the bundle anew.")
        )
    if bundle.find_config("inference") is None:
        faults.append(
            Fault("no-config", "", "configs/inference.yaml or .json is missing, so the bundle can't predict. Add it.")
        )
    if bundle.find_config("train") is None:
        message = "configs/train.yaml or .json is missing, so the bundle can't be trained."
        faults.append(Fault("no-config", "", message, is_error=False))
    return found


def _part_faults(bundle: Bundle, name: str, config: dict[str, ConfigValue]) -> Iterator[Fault]:
    place = _place(bundle, name)
    for part in PARTS[name]:
        if at(config, *part.split("#")) is None and at(config, part.rpartition("#")[2]) is None:
            yield Fault(
                "missing-part", place, f"there is no {part}, which MONAI bundles have by convention. Name the part so."
            )
    if name == "train" and at(config, "validate", "evaluator") is None and at(config, "evaluator") is None:
        yield Fault(
            "missing-part", place, "there is no validate#evaluator, so training doesn't validate.", is_error=False
        )


def _meaning_faults(place: str, metadata: dict[str, ConfigValue], inference: dict[str, ConfigValue]) -> Iterator[Fault]:
    """Why masks would be named neutrally; of a table that volseg writes, that is an error."""
    if inference.get("postprocessing") is None and "label_table" not in metadata:
        return  # which is told as such
    meaning = meaning_of(metadata, inference)
    if meaning.why:
        message = f"{meaning.why}, so the values of masks get neutral names, such as label 1."
        yield Fault("labels", place, message, is_error="label_table" in metadata)
    if meaning.regions_why and meaning.outputs is Outputs.REGIONS:
        message = f"{meaning.regions_why}, so regions get neutral names, such as region 1."
        yield Fault("labels", place, message, is_error=False)


def _agreement_faults(
    bundle: Bundle, config: dict[str, ConfigValue], metadata: dict[str, ConfigValue]
) -> Iterator[Fault]:
    """Where the inference config and the metadata contradict each other."""
    place = _place(bundle, "inference")
    for key, side, entry in (("in_channels", "inputs", "image"), ("out_channels", "outputs", "pred")):
        built = at(config, "network_def", key)
        told = at(metadata, NETWORK_FORMAT, side, entry, "num_channels")
        if isinstance(built, int) and isinstance(told, int) and built != told:
            yield Fault(
                "channels", place, f"the network has {key} {built}, and the metadata says {told} for {entry}. Make "
                "them agree.",
            )  # fmt: skip
    meaning = meaning_of(metadata, config)
    table = meaning.table
    indices = table.indices
    steps = at(config, "postprocessing", "transforms")
    # Alone each, as a transform that stands before others is no less wrong.
    found = [
        PostprocessingRules.from_transforms([step], indices)[1]
        for step in (steps if isinstance(steps, list) else [])
        if isinstance(step, dict)
    ]
    try:
        found.append(PostprocessingRules.from_config(config.get(RULES) or []))
    except VolsegError as error:
        yield Fault("rules", place, error.message)
    regions = len(meaning.regions)
    if meaning.outputs is Outputs.REGIONS and regions:  # whose number a threshold has, from 1
        beyond = sorted(
            {label for rules in found for rule in rules.thresholds for label in rule.flat if label > regions}
        )
        if beyond:
            yield Fault("rules", place, f"a threshold is for region {beyond[0]}, and the network gives {regions}.")
        found = [rules.on_masks for rules in found]
    unknown = sorted({label for rules in found for label in rules.labels}.difference(indices))
    if len(table) and unknown:
        named = listed([str(label) for label in unknown])
        yield Fault("rules", place, f"its rules name the labels {named}, which are not in the label table.")


def _verdict(bundle: Bundle, faults: list[Fault]) -> Verdict | None:
    try:
        verdict = judge(bundle)
    except VolsegError as error:
        if error.code == "trust-store":
            raise
        faults.append(Fault.of_error(error, bundle.root))
        return None
    if not verdict.may_run:
        for finding in verdict.findings[:SHOWN_FINDINGS]:
            place = _place(bundle, finding.config)
            what = f"{finding.place}: {finding.kind} {finding.text}"
            faults.append(Fault("not-trusted", place, f"it goes beyond what runs without trust: {what}"))
        more = len(verdict.findings) - SHOWN_FINDINGS
        if more > 0:
            faults.append(Fault("not-trusted", "", f"{more} more such findings; volseg trust lists all."))
    return verdict


def _weight_faults(bundle: Bundle, configs: Mapping[str, object], *, may_run: bool) -> list[Fault]:
    faults: list[Fault] = []
    weights = _weights_path(bundle) if may_run else bundle.model_path
    place = weights.relative_to(bundle.root).as_posix()
    has_weights = weights.exists()
    if not has_weights:
        message = "there are no weights yet. Train the bundle with volseg train, or get its weights."
        faults.append(Fault("no-weights", place, message, is_error=False))
        if not may_run:
            return faults
    from volseg.bundle.weights import misfit, read_state_dict  # torch takes seconds to import

    state = None
    if has_weights:
        try:
            state = read_state_dict(weights)
        except VolsegError as error:
            faults.append(Fault.of_error(error, bundle.root, place))
        else:
            faults += _published_faults(bundle, place)
    faults += _ensemble_faults(bundle)
    if not may_run:
        return faults
    networks = {name: _network(bundle, name, faults) for name in RUN_CONFIGS if name in configs}
    inference, training = networks.get("inference"), networks.get("train")
    if inference is not None and state is not None:
        wrong = misfit(inference, state)
        if wrong is not None:
            message = f"the weights are another network's than the one in the inference config: {wrong}."
            faults.append(Fault("weights-differ", place, message))
    if inference is not None and training is not None:
        wrong = misfit(inference, training.state_dict())
        if wrong is not None:
            message = f"the network is another than the one in the inference config: {wrong} here."
            faults.append(Fault("networks-differ", _place(bundle, "train"), message))
    return faults


def _weights_path(bundle: Bundle) -> Path:
    """The file that the inference config loads; ``models/model.pt`` where that can't be made out."""
    from volseg.bundle.parser import BundleParser
    from volseg.bundle.serving import weights_path

    try:
        return weights_path(BundleParser(bundle, "inference", {}))
    except VolsegError:  # what is wrong with the config is told elsewhere
        return bundle.model_path


def _published_faults(bundle: Bundle, place: str) -> Iterator[Fault]:
    """Whether the weights are those that a run of volseg published."""
    from volseg.bundle.published import Published

    try:
        record = Published.read(bundle)
    except VolsegError as error:
        yield Fault.of_error(error, bundle.root, place)
        return
    if record is None:
        return
    if not record.is_of(bundle.model_path):
        message = f"the file is not the one that {record.run} published: it was changed under its name."
        yield Fault("model-changed", place, message, is_error=False)
    elif words := trial_words(record.steps_of(bundle.model_path)):
        yield Fault("trial", place, words, is_error=False)


def _ensemble_faults(bundle: Bundle) -> Iterator[Fault]:
    """Whether the weights of several folds, and the config that runs them elsewhere, are those that belong together."""
    from volseg.bundle.ensemble import Ensemble, record_path, require_members
    from volseg.bundle.folds_config import FOLDS_CONFIG, folds_config
    from volseg.bundle.trials import trials_among

    place = record_path(bundle).relative_to(bundle.root).as_posix()
    try:
        ensemble = Ensemble.read(bundle)
        if ensemble is None:
            return
        members = require_members(bundle, None)
        for sentence in ensemble.outdated(bundle):
            yield Fault("ensemble", place, sentence, is_error=False)
        for sentence in trials_among(members):
            yield Fault("trial", place, sentence, is_error=False)
        if bundle.find_config(FOLDS_CONFIG) is None or bundle.find_config("inference") is None:
            return
        wanted = folds_config(bundle.read_config("inference"), [member.fold for member in members])
        if bundle.read_config(FOLDS_CONFIG) != wanted:
            message = (
                "it is not made of configs/inference.yaml as that is now, so other programs give other masks by it than "
                "volseg predict --folds. volseg train --cv writes it anew."
            )
            yield Fault("ensemble", _place(bundle, FOLDS_CONFIG), message, is_error=False)
    except VolsegError as error:
        yield Fault.of_error(error, bundle.root, place)


def _network(bundle: Bundle, name: str, faults: list[Fault]) -> Module | None:
    """The network that a config describes; None, with a fault, where it can't be built."""
    from torch.nn import Module

    from volseg.bundle.parser import BundleParser

    try:
        parser = BundleParser(bundle, name, {})
        faults += [Fault("shim", _place(bundle, name), f"{used}", is_error=False) for used in parser.bridged]
        if not parser.has("network_def"):
            return None
        network = parser.build("network_def")
    except VolsegError as error:
        faults.append(Fault.of_error(error, bundle.root, _place(bundle, name)))
        return None
    if not isinstance(network, Module):
        message = f"network_def is no network but of type {type(network).__name__}."
        faults.append(Fault("cannot-build", _place(bundle, name), message))
        return None
    return network


def _place(bundle: Bundle, name: str) -> str:
    path = bundle.find_config(name)
    return f"configs/{name}" if path is None else path.relative_to(bundle.root).as_posix()

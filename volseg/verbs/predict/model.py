"""A bundle's model, loaded once in each process."""

from __future__ import annotations

import functools
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from volseg.errors import BundleError, UsageError
from volseg.labels import folders_of
from volseg.postprocessing import PostprocessingRules
from volseg.verbs.predict.model_file import ModelFile, RoiBundle, weights_of
from volseg.verbs.predict.sources import IMAGES
from volseg.verbs.predict.window import tta_axes, with_labels, with_overlap
from volseg.writers import FOLDERS, Algorithm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from monai.inferers import Inferer
    from torch.nn import Module

    from volseg.bundle.ensemble import Activation
    from volseg.bundle.folder import Bundle
    from volseg.bundle.made_for import MadeFor
    from volseg.bundle.outputs import Meaning
    from volseg.bundle.parser import BundleParser
    from volseg.bundle.serving import Serving
    from volseg.bundle.shims import Used
    from volseg.inference.probabilities import Certainty, ProbabilityFile
    from volseg.inference.segmenter import Segmenter
    from volseg.labels import LabelTable, Region
    from volseg.planning.component import ConfigValue
    from volseg.postprocessing import Threshold
    from volseg.verbs.predict.model_file import AnyRoi

MODALITIES = ("CT", "MR", "PT")
"""Those that convert makes images of; what else a channel may be called tells nothing for certain."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model in memory.

    Args:
        load: loads the network, and gives what makes masks of images; what is called is ``segmenter``.
        rules: for labels, applied to the mask.
        thresholds: of probabilities, applied while the mask is made.
        meaning: of its masks.
        channels: how many files a case has at most, or channels in one file.
        exact: whether an image has to have just these; the preprocessing of a foreign bundle may add some.
        one_file: whether the bundle can read all channels from one file.
        order: what the channels of a case are, in their order; empty where the bundle is ours or takes one.
        modality: what its first channel is, as DICOM names it; None where the bundle doesn't tell.
        device: in words, with the precision where it is not float32.
        made_for: what images it was made for.
        bridged: the shims that its config needed.
        told: what a person should know of it with each mask.
        only: the labels that are written; none for all.
        roi: the part of each image that is segmented; None for the whole of it.
        roi_model: that of the bundle which finds this part.
        step_by_step: that and why its config can't be worked on slab by slab; empty where it can.
        algorithm: what DICOM objects call it.
        channel_names: of the channels of a case, in their order; empty where nobody knows.
    """

    load: Callable[[], Segmenter]
    rules: PostprocessingRules
    thresholds: tuple[Threshold, ...]
    meaning: Meaning
    channels: int
    exact: bool
    one_file: bool
    order: tuple[str, ...]
    modality: str | None
    device: str
    made_for: MadeFor
    bridged: tuple[Used, ...] = ()
    told: tuple[str, ...] = ()
    only: tuple[int, ...] = ()
    roi: AnyRoi | None = None
    roi_model: Model | None = None
    step_by_step: str = ""
    algorithm: Algorithm = field(default_factory=Algorithm)
    channel_names: tuple[str, ...] = ()

    @cached_property
    def segmenter(self) -> Segmenter:
        """From images to masks; the network is loaded when it is first asked for.

        Raises:
            BundleError: the weights are of another network, or the bundle is another than when the run began.
        """
        return self.load()

    def load_weights(self) -> None:
        """Load what is needed for masks now, so that weights that don't fit are told before the first case.

        Raises:
            BundleError: as ``segmenter``.
        """
        self.segmenter  # noqa: B018
        if self.roi_model:
            self.roi_model.load_weights()

    def certainty(self, file: ProbabilityFile | None) -> Certainty | None:
        """What is done with the probabilities of a case, which ``file`` takes; None where nothing is."""
        from volseg.inference.choice import Least
        from volseg.inference.probabilities import Certainty

        wanted = [Least(rule.each, rule.minimum) for rule in self.thresholds]
        return Certainty(wanted, file) if wanted or file else None

    @property
    def table(self) -> LabelTable:
        """Of its labels; empty where nobody knows which values its masks have."""
        return self.meaning.table

    @property
    def regions(self) -> Mapping[str, Region]:
        """Its regions by the folders that their masks go to."""
        regions = self.meaning.regions
        return dict(zip(folders_of(regions, (IMAGES, *FOLDERS)), regions, strict=True))


@functools.lru_cache(maxsize=1)
def load_model(file: ModelFile) -> Model:
    """Load a model but for its weights; the last one stays in memory until ``load_model.cache_clear()``.

    The parts of ``inference.yaml`` that are needed are built, and no other: not its evaluator, nor its data.

    Raises:
        TrustError: the bundle would run code that nobody has trusted.
        BundleError: the bundle is incomplete, or is another than when the run began.
    """
    import torch

    from volseg.bundle.ensemble import averaged_as, member_path, require_members
    from volseg.bundle.folder import open_bundle
    from volseg.bundle.made_for import MadeFor
    from volseg.bundle.metadata import channel_names, input_channels
    from volseg.bundle.outputs import Outputs
    from volseg.bundle.parser import BundleParser
    from volseg.bundle.serving import serving_of
    from volseg.bundle.trials import trials_among, trials_of
    from volseg.bundle.weights import load_into
    from volseg.inference.mirrored import Mirrored
    from volseg.inference.saving import without_saving
    from volseg.inference.segmenter import AS_CONFIGURED, Segmenter, slab_steps_of
    from volseg.postprocessing.transforms import without_rules

    bundle = open_bundle(file.bundle_dir)
    _require_same(file, bundle)
    device = torch.device(file.device)
    parser = BundleParser(bundle, "inference", {"device": device})
    ours = not parser.verdict.findings
    weights = [member_path(bundle, fold) for fold in file.folds] or [
        weights_of(bundle, file.fold, None if ours else parser)
    ]
    empty = parser.build(_network(parser))
    preprocessing = without_saving(
        parser.build(_part(parser, "preprocessing", "val_data_loader", "dataset", "transform"))
    )
    axes = tta_axes(bundle, preprocessing) if file.window.tta else ()
    postprocessing = without_saving(parser.build(_part(parser, "postprocessing", "postprocessing")))
    activation: Activation | None = None
    if file.folds:
        activation, place = averaged_as(_steps(parser))
        if place is not None:
            each = postprocessing.transforms
            postprocessing.transforms = [step for number, step in enumerate(each) if number != place]
    serving = serving_of(preprocessing, postprocessing)
    rules = PostprocessingRules()
    if file.raw or bundle.meaning.outputs is not Outputs.REGIONS:  # those are MONAI's own, on the channels too
        # What transforms say the same as rules is done as rules, before those that the config names.
        postprocessing, rules = without_rules(postprocessing, bundle.labels.indices)
    named = parser.plain("volseg_postprocessing")
    if named is not None:
        rules += PostprocessingRules.from_config(named)
    channels = _channels(bundle, serving, ours=ours)
    batch = None if ours or not parser.has("evaluator#prepare_batch") else parser.build("evaluator#prepare_batch")
    inferer = _inferer(parser, file)

    def load() -> Segmenter:
        _require_same(file, bundle)  # it may be hours later
        networks = [load_into(one, path) for one, path in zip(_copies(empty, len(weights)), weights, strict=True)]
        if axes:
            networks = [Mirrored(one, axes) for one in networks]
        network, *others = [one.to(device).eval() for one in networks]
        return Segmenter(
            preprocessing=preprocessing,
            network=network,
            inferer=inferer,
            postprocessing=postprocessing,
            device=device,
            item_of=serving.item,
            channels=input_channels(bundle.metadata),
            prepare_batch=batch,
            others=tuple(others),
            averaged_as=activation or "softmax",
            half=file.precision == "bfloat16",
            memory=file.window.memory,
            scratch=file.window.scratch,
        )

    steps = slab_steps_of(preprocessing, inferer, postprocessing, batch)
    roi = file.roi
    rules = file.rules if file.raw else rules + file.rules
    meaning, only = with_labels(bundle.meaning, file.window.labels)
    order = () if ours else serving.keys if len(serving.keys) > 1 else channel_names(bundle.metadata)
    return Model(
        load,
        rules.on_masks,
        rules.thresholds,
        meaning,
        channels,
        ours,
        ours or serving.one_file,
        order,
        _modality(bundle),
        file.device_words,
        MadeFor.of(bundle, preprocessing),
        parser.bridged,
        trials_among(require_members(bundle, file.folds)) if file.folds else trials_of(bundle, weights[0]),
        only,
        roi,
        load_model.__wrapped__(roi.model) if isinstance(roi, RoiBundle) else None,
        AS_CONFIGURED.format(steps) if isinstance(steps, str) else "",
        _algorithm(bundle),
        order or channel_names(bundle.metadata),
    )


def _require_same(file: ModelFile, bundle: Bundle) -> None:
    """Refuse a bundle that was changed since the run began.

    Raises:
        BundleError: with the code ``changed``.
    """
    same = ModelFile.of(
        bundle,
        file.fold,
        file.device,
        raw=file.raw,
        regions=file.regions,
        precision=file.precision,
        folds=file.named_folds,
        window=file.window,
        rules=file.rules,
        roi=file.roi,
    )
    if same != file:
        raise BundleError(f"{bundle.root} changed while it was used. Run the command again.", code="changed")


def _algorithm(bundle: Bundle) -> Algorithm:
    """The bundle by its metadata; its folder may be called after anybody."""
    name, version = (bundle.metadata.get(key) for key in ("name", "version"))
    words = Algorithm()
    return Algorithm(name if isinstance(name, str) and name.strip() else words.name, str(version or words.version))


def _copies(network: Module, count: int) -> list[Module]:
    return [network, *(deepcopy(network) for _ in range(count - 1))]


def _steps(parser: BundleParser) -> list[ConfigValue]:
    """The postprocessing as it stands in the config, step by step; none where it is no list of them."""
    plain = parser.plain("postprocessing")
    steps = plain.get("transforms") if isinstance(plain, dict) else None
    return steps if isinstance(steps, list) else []


def _network(parser: BundleParser) -> str:
    """The id of the network: by MONAI's name of it, else the one that the evaluator uses."""
    return "network_def" if parser.has("network_def") else _part(parser, "network_def", "network")


def _part(parser: BundleParser, name: str, *steps: str) -> str:
    """The id of a part: the one that the evaluator uses, in a foreign config by whatever name; else MONAI's name."""
    from volseg.bundle.serving import locate

    return (locate(parser, "evaluator", *steps) if parser.verdict.findings else None) or name


def require_regions(model: Model) -> Mapping[str, Region]:
    """The regions of a model by their folders.

    Raises:
        UsageError: the bundle has no regions, with the code ``no-regions``.
    """
    if not model.regions:
        raise UsageError(
            "The bundle's labels exclude each other, or nothing tells how many outputs its network has: it has no "
            "regions. Leave --regions out.",
            code="no-regions",
        )
    return model.regions


def _inferer(parser: BundleParser, file: ModelFile) -> Inferer:
    from volseg.training import AutocastInferer

    inferer: Inferer = with_overlap(parser.build(_part(parser, "inferer", "inferer")), file.window.overlap)
    return inferer if file.precision == "float32" else AutocastInferer(inferer, anywhere=True)


def _channels(bundle: Bundle, serving: Serving, *, ours: bool) -> int:
    """How many files a case has, by what the config loads and by the metadata.

    Raises:
        BundleError: the metadata of a bundle of ours doesn't say.
    """
    from volseg.bundle.metadata import input_channels

    if len(serving.keys) > 1:
        return len(serving.keys)
    channels = input_channels(bundle.metadata)
    if channels is None and ours:
        raise BundleError(
            f"{bundle.config_path('metadata')} doesn't say how many channels the input image has "
            "(network_data_format, inputs, image, num_channels)."
        )
    return channels or 1


def _modality(bundle: Bundle) -> str | None:
    """What the bundle's first channel is, as DICOM names it; None where its name doesn't tell."""
    from volseg.bundle.metadata import first_channel
    from volseg.dataset.dataset import modality_of

    name = first_channel(bundle.metadata)
    known = None if name is None else modality_of(name)
    return known if known in MODALITIES else None

"""Export a bundle's network to formats of other programs, each compared with the network itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from volseg.errors import BundleError, OutputExistsError, UsageError
from volseg.options import Many, PathOption, each
from volseg.progress import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.nn import Module

    from volseg.bundle.exports import Format
    from volseg.bundle.folder import Bundle
    from volseg.bundle.parser import BundleParser

TOLERANCE = 1e-3
"""Of the largest logit (at least 1): float32 sums in another order differ by less, another network by far more."""
EXPORTED_AS = "volseg"
"""The key of what volseg says of the network inside the file."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """To what to export."""

    onnx: bool = False
    """Write models/model.onnx; needs the extra onnx."""

    torchscript: bool = False
    """Write models/model.ts, as MONAI Deploy takes it."""

    tensorrt: bool = False
    """Write models/model_trt.ts for the GPU of this machine; needs torch-tensorrt."""

    image: Many[PathOption] = ()
    """Compare on a patch of this image, one file for each channel or one for all, instead of one of the data set."""

    overwrite: bool = False
    """Replace what was exported before."""


@dataclass(frozen=True)
class Exported:
    """One file that was written.

    Args:
        path: where it lies.
        patch: voxels of what it takes, along the axes.
        of: what it was compared on, in words.
        real: whether that was an image rather than random numbers.
        difference: the largest between its output and the network's.
        tolerance: what would have been refused.
        relabelled: of so many voxels the likeliest class is another one, of ``voxels``.
        any_batch: whether it takes batches of more than one.
    """

    path: Path
    patch: tuple[int, ...]
    of: str
    real: bool
    difference: float
    tolerance: float
    relabelled: int
    voxels: int
    any_batch: bool


def export(bundle_dir: Path, options: ExportOptions | None = None, progress: Progress = SILENT) -> tuple[Exported, ...]:
    """Write a bundle's network in other formats into ``models/``; a file that differs from the network is not written.

    The file takes what the network takes: a batch (B, channel, i, j, k) of windows in float32, preprocessed as the
    bundle's inference config says, and gives its logits (B, class, i, j, k). Inside are the bundle's metadata, its
    labels and its spacing; nothing of any image.

    Args:
        bundle_dir: the bundle.
        options: which formats, and what to compare on.
        progress: is told what is under way.

    Returns:
        One for each format.

    Raises:
        UsageError: no format, or what it needs is missing on this machine.
        OutputExistsError: a file is there already.
        TrustError: the bundle would run code that nobody has trusted.
        BundleError: the network can't be exported, or the exported one differs.
        FileError: a file can't be read or written.
    """
    from volseg.atomic import write_bytes
    from volseg.bundle.exports import FORMATS
    from volseg.bundle.folder import open_bundle
    from volseg.bundle.parser import BundleParser
    from volseg.bundle.scope import require_segmentation
    from volseg.bundle.trials import trials_of
    from volseg.bundle.trust import trust_kept

    options = options or ExportOptions()
    asked = [form for form in FORMATS if getattr(options, form.option)]
    if not asked:
        raise UsageError(f"Name a format: {', '.join(f'--{form.option}' for form in FORMATS)}.")
    for form in asked:
        form.require()
    bundle = open_bundle(bundle_dir)
    require_segmentation(bundle)
    paths = {form: bundle.model_path.with_name(form.name) for form in asked}
    there = [path for path in paths.values() if path.exists() and not options.overwrite]
    if there:
        raise OutputExistsError(f"{there[0]} is there already. Replace it with --overwrite.", path=there[0])
    parser = BundleParser(bundle, "inference", {"device": "cpu"})
    weights, network = _network(bundle, parser)
    for words in trials_of(bundle, weights):
        progress.say(f"warning: {words}")
    patch, of, real = _patch(bundle, parser, options)
    about = _about(bundle, parser, tuple(patch.shape[2:]), weights)
    found = []
    with trust_kept(bundle, parser.verdict, written=tuple(f"models/{path.name}" for path in paths.values())):
        for form, path in paths.items():
            progress.say(f"Making {path}")
            content, result = _made(form, network, patch, about)
            write_bytes(path, content)
            found.append(Exported(path, tuple(patch.shape[2:]), of, real, *result))
    return tuple(found)


def _network(bundle: Bundle, parser: BundleParser) -> tuple[Path, Module]:
    """The file of the weights that inference loads, and the network with them."""
    from volseg.bundle.parser import require_weights
    from volseg.bundle.serving import locate, weights_path
    from volseg.bundle.weights import load_into

    weights = weights_path(parser) if parser.verdict.findings else bundle.model_path
    require_weights(weights)
    place = "network_def" if parser.has("network_def") else locate(parser, "evaluator", "network") or "network_def"
    return weights, load_into(parser.build(place), weights).eval()


def _patch(bundle: Bundle, parser: BundleParser, options: ExportOptions) -> tuple[Tensor, str, bool]:
    """A batch of one window (1, channel, i, j, k), what it is of, and whether that is an image."""
    import torch

    from volseg.bundle.metadata import input_channels

    channels = input_channels(bundle.metadata)
    if channels is None:
        raise BundleError(
            f"{bundle.config_path('metadata')} doesn't say how many channels the input image has, so no batch can be made.",
            code="bad-metadata",
        )
    size = _window(bundle, parser)
    images = [Path(one) for one in each(cast("Many[Path]", options.image))]
    of = "the image that was named"
    if not images:
        images, of = _planned_images(bundle), "an image of the data set"
    if not images:
        draws = torch.Generator().manual_seed(0)
        synthetic = torch.randn((1, channels, *size), generator=draws)
        return synthetic, "random numbers, for no image was named and no data set is at hand", False
    image = _preprocessed(parser, images)
    if image.shape[0] != channels:
        raise UsageError(
            f"--image: {image.shape[0]} channels come out of the bundle's preprocessing, and the network takes {channels}."
        )
    from monai.transforms import ResizeWithPadOrCrop

    cut = torch.as_tensor(ResizeWithPadOrCrop(size)(image)).float()
    return cut[None].contiguous(), of, True


def _window(bundle: Bundle, parser: BundleParser) -> tuple[int, ...]:
    """The size of a window of inference, by the inferer, else by the metadata."""
    from volseg.bundle.metadata import NETWORK_FORMAT, at, is_whole

    size: Any = None
    if parser.has("inferer"):
        size = getattr(parser.build("inferer"), "roi_size", None)
    size = size or at(bundle.metadata, NETWORK_FORMAT, "inputs", "image", "spatial_shape")
    if not isinstance(size, (list, tuple)) or len(size) != 3 or not all(is_whole(one) and one > 0 for one in size):
        raise BundleError(
            f"{bundle.root} doesn't say which size its network takes: neither its inferer nor spatial_shape in "
            "configs/metadata.json names three whole numbers.",
            code="cannot-export",
        )
    return tuple(int(one) for one in size)


def _planned_images(bundle: Bundle) -> list[Path]:
    """The images of a case of the data set that this person planned the bundle for; empty where there is none."""
    from volseg.bundle.planned import is_planned
    from volseg.dataset.dataset import is_dataset, read_dataset

    named = bundle.read_config("inference").get("dataset_dir")
    if not isinstance(named, str) or named.startswith(("$", "@", "%")):
        return []
    folder = bundle.root / named
    if not folder.is_dir() or not is_planned(bundle.root, folder) or not is_dataset(folder):
        return []
    cases = read_dataset(folder).training
    return list(cases[0].images) if cases else []


def _preprocessed(parser: BundleParser, images: Sequence[Path]) -> Tensor:
    import torch

    from volseg.bundle.serving import locate, serving_of
    from volseg.errors import InputError
    from volseg.finite import all_finite
    from volseg.inference.saving import without_saving
    from volseg.volume import read_header

    for image in images:
        read_header(image)  # refuses what is no volume
    steps = ("val_data_loader", "dataset", "transform")
    place = (locate(parser, "evaluator", *steps) if parser.verdict.findings else None) or "preprocessing"
    preprocessing = without_saving(parser.build(place))
    found = torch.as_tensor(preprocessing(serving_of(preprocessing).item(images))["image"])
    if not bool(all_finite(found)):
        raise InputError("The image has voxels that are not finite numbers. Name another with --image.")
    return found


def _about(bundle: Bundle, parser: BundleParser, patch: Sequence[int], weights: Path) -> dict[str, bytes]:
    """What the file says of itself: the bundle's metadata, its inference config without paths, and a summary."""
    from volseg.bundle.exports import describe
    from volseg.bundle.folder import target_name, walk
    from volseg.outcomes import installed_versions, sha256_of

    config = parser.verdict.configs["inference"].content
    spacing = next(
        (node.get("pixdim") for _, node in walk(config) if isinstance(node, dict) and target_name(node) == "Spacingd"),
        None,
    )
    summary = {
        "input": "image: float32 (batch, channel, i, j, k), preprocessed, axes as the preprocessing leaves them",
        "output": "pred: logits (batch, class, i, j, k)",
        "patch_voxels": list(patch),
        "spacing_mm": spacing,
        "labels": {str(label.index): label.name for label in bundle.labels.labels},
        "weights_sha256": sha256_of(weights),
        "versions": installed_versions(),
    }
    without_paths = {key: value for key, value in config.items() if key not in ("dataset_dir", "bundle_root")}
    return {
        "metadata.json": describe(bundle.metadata),
        "inference.json": describe(without_paths | {"dataset_dir": ".", "bundle_root": "."}),
        f"{EXPORTED_AS}.json": describe(summary),
    }


def _made(
    form: type[Format], network: Module, patch: Tensor, about: dict[str, bytes]
) -> tuple[bytes, tuple[float, float, int, int, bool]]:
    """The content of a file that gives what the network gives.

    Raises:
        BundleError: the network can't be exported, or the file gives something else.
    """
    import torch

    from volseg.bundle.exports import refusals
    from volseg.finite import all_finite

    with torch.no_grad():
        truth = network(patch)
    if not isinstance(truth, torch.Tensor):
        raise BundleError(
            f"{type(network).__name__} gives several outputs, and one is exported. Describe its plain form in the "
            "inference config.",
            code="cannot-export",
        )
    if not bool(all_finite(truth)):
        raise BundleError("The network's output is not finite on this patch.", code="not-finite")
    with refusals(form, network):
        content = form.make(network, patch, about)
        found = form.run(content, patch)
    any_batch = _takes_any_batch(form, content, network, patch)
    tolerance = TOLERANCE * max(1.0, float(truth.abs().max()))
    difference = float((found - truth).abs().max()) if found.shape == truth.shape else float("inf")
    if not difference <= tolerance:
        raise BundleError(
            f"The network exported with --{form.option} gives something else than the network itself: logits up to "
            f"{difference:.3g} apart, and {tolerance:.3g} would be rounding. Nothing was written.",
            code="export-differs",
        )
    relabelled = int((found.argmax(1) != truth.argmax(1)).sum()) if truth.shape[1] > 1 else int(
        ((found > 0) != (truth > 0)).sum()
    )  # fmt: skip
    return content, (difference, tolerance, relabelled, truth[0, 0].numel(), any_batch)


def _takes_any_batch(form: type[Format], content: bytes, network: Module, patch: Tensor) -> bool:
    """Whether a batch of two other windows comes out as from the network."""
    import torch

    pair = torch.cat([patch.flip(-1), patch])
    with torch.no_grad():
        truth = network(pair)
    try:
        found = form.run(content, pair)
    except Exception:  # noqa: BLE001  the file takes batches of one alone
        return False
    bound = TOLERANCE * max(1.0, float(truth.abs().max()))
    return found.shape == truth.shape and float((found - truth).abs().max()) <= bound

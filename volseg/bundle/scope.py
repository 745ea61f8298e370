"""What a bundle makes, judged by its metadata and configs: whether it is a mask out of an image alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from volseg.bundle.folder import walk
from volseg.bundle.metadata import NETWORK_FORMAT, at
from volseg.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from volseg.bundle.folder import Bundle
    from volseg.planning.component import ConfigValue

OTHER_TYPES = {
    "tuples": "points or numbers", "object": "a list of findings", "probabilities": "probabilities of classes",
    "series": "a series of values", "feature": "features", "noise": "noise", "text": "text",
}  # fmt: skip
"""Types of outputs in MONAI's specification of bundles and in the Zoo that are no image, and what they are."""
OTHER_FORMATS = {
    "magnitude": "an image", "hounsfield": "an image", "kspace": "an image", "raw": "an image", "image": "an image",
    "rgb": "an image", "points": "points", "dict": "a list of findings", "boxes": "boxes", "displacement": "a deformation",
}  # fmt: skip
"""Formats of outputs that are no labels, and what they are; ``segmentation``, ``labels`` and ``classes`` are."""
OTHER_PARTS = (
    (re.compile(r"RetinaNet|Detector|AnchorGenerator|Box(Coder|Selector|es?To)|ClipBox", re.IGNORECASE), "finds boxes"),
    (re.compile(r"Diffusion|AutoencoderKL|VQVAE|Discriminator|Scheduler(DDPM|DDIM|PNDM)|(DDPM|DDIM|PNDM|RFlow)Scheduler"
                r"|GANTrainer|LatentGenerator"), "makes images"),
    (re.compile(r"(^|\.)(Warp|DVF2DDF|GlobalNet|LocalNet|VoxelMorph(UNet)?|RegUNet|AffineTransform)$"), "aligns images"),
    (re.compile(r"(^|\.)(DenseNet\w*|EfficientNet(BN)?|SENet\w*|SEResNe\w*|ResNet\w*|TorchVisionFCModel|MILModel|Classifier)$"),
     "puts images into classes"),
)  # fmt: skip
"""Networks and inferers of MONAI that give something else than a mask."""
PROMPT = re.compile(
    r"(?<![a-z])(label|point|points|box|text|user|class)_?prompts?(?![a-z])|(?<![a-z])prompts?_", re.IGNORECASE
)
"""Names of what a person clicks or chooses for each image."""
SLICES = re.compile(r"(^|\.)SliceInferer$")
"""A network of two axes whose inferer goes through a volume slice by slice."""
MASK_STEP = re.compile(r"(^|\.)AsDiscrete(d|D|Dict)?$")


def require_segmentation(bundle: Bundle) -> None:
    """Refuse a bundle that is more, or something else, than a network from an image to a mask.

    Raises:
        BundleError: it needs prompts (``needs-prompts``), or makes no mask of a volume (``no-segmentation``).
    """
    configs = {}
    for name in ("metadata", "inference", "train"):
        if bundle.find_config(name) is not None:
            configs[name] = bundle.read_config(name)
    fault = beyond_masks(configs)
    if fault is not None:
        code, clause = fault
        raise BundleError(f"{bundle.root} {clause}", code=code, path=bundle.root)


def beyond_masks(configs: Mapping[str, dict[str, ConfigValue]]) -> tuple[str, str] | None:
    """The code, and the end of a sentence about the bundle, where it isn't a predictor of masks; None where it is.

    Args:
        configs: plain data by name: ``metadata``, ``inference``, ``train``, as far as there are.
    """
    metadata = configs.get("metadata", {})
    built = [configs[name] for name in ("inference", "train") if name in configs]
    if "label_table" in metadata:
        return None  # one of ours
    if any(_asks_for_prompts(config) for config in built):
        return "needs-prompts", (
            "needs prompts for each image, such as points or chosen labels, and volseg segments without any."
        )
    for clause in (*_other_output(metadata, built), *_other_parts(built), *_flat(metadata, built)):
        return "no-segmentation", f"{clause}, and volseg takes networks that give a mask of a volume."
    return None


def _asks_for_prompts(config: dict[str, ConfigValue]) -> bool:
    for place, node in walk(config):
        if PROMPT.search(place[-1]) if place else False:
            return True
        if isinstance(node, str) and node.startswith("$") and PROMPT.search(node):
            return True
    return False


def _other_output(metadata: dict[str, ConfigValue], built: list[dict[str, ConfigValue]]) -> Iterator[str]:
    """What the metadata says of the output, unless a config makes labels of it all the same."""
    formats = at(metadata, NETWORK_FORMAT)
    outputs = at(metadata, NETWORK_FORMAT, "outputs")
    if not isinstance(formats, dict):
        others = [key for key in metadata if isinstance(key, str) and key.endswith("_data_format")]
        if others:
            yield "has several networks and none that its metadata calls the network"
        return
    if _makes_labels(built):
        return
    kind, form = at(outputs, "pred", "type"), at(outputs, "pred", "format")
    if isinstance(kind, str) and kind.lower() in OTHER_TYPES:
        yield f"gives {OTHER_TYPES[kind.lower()]} and no mask"
    elif isinstance(form, str) and form.lower() in OTHER_FORMATS:
        yield f"gives {OTHER_FORMATS[form.lower()]} and no mask"


def _makes_labels(built: list[dict[str, ConfigValue]]) -> bool:
    """Whether a config's last steps make whole numbers of the network's output."""
    for config in built:
        for root in (at(config, "postprocessing"), at(config, "validate", "postprocessing")):
            for _, node in walk(root):
                if isinstance(node, dict) and MASK_STEP.search(str(node.get("_target_", ""))):
                    return True
    return False


def _other_parts(built: list[dict[str, ConfigValue]]) -> Iterator[str]:
    """What the network or the inferer is by MONAI's name of it."""
    for config in built:
        for key in ("network_def", "network", "net", "detector", "inferer"):
            part = config.get(key)
            text = str(part.get("_target_", "")) if isinstance(part, dict) else part if isinstance(part, str) else ""
            for pattern, does in OTHER_PARTS:
                if pattern.search(text):
                    yield f"{does} and gives no mask"


def _flat(metadata: dict[str, ConfigValue], built: list[dict[str, ConfigValue]]) -> Iterator[str]:
    """Whether it works on images of two axes, and nothing goes through a volume's slices for it."""
    inferers = [str(at(config, "inferer", "_target_") or "") for config in built]
    if any(SLICES.search(one) or ("." in one and not one.startswith("monai.")) for one in inferers):
        return  # what an inferer of the bundle's own does, nobody knows
    told = [at(config, "network_def", "spatial_dims") for config in built]
    shape = at(metadata, NETWORK_FORMAT, "inputs", "image", "spatial_shape")
    if 2 in told or (isinstance(shape, list) and len(shape) == 2 and 3 not in told):
        yield "works on flat images of two axes"

"""Shims for components: arguments and transforms that MONAI and torch have renamed or removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from volseg.bundle.shims.shim import Bundled, Shim
    from volseg.planning.component import ConfigValue

OLDER_AXES: list[ConfigValue] = [["L", "R"], ["P", "A"], ["I", "S"]]
"""The axes that Orientation named in any space before MONAI 1.5.1."""


def class_of(node: ConfigValue, packages: tuple[str, ...] = ("monai.",)) -> str:
    """The name of the class that a component builds, without its module; empty for what is not of these packages.

    MONAI looks a name without a module up among its own classes.
    """
    target = node.get("_target_") if isinstance(node, dict) else None
    if not isinstance(target, str) or ("." in target and not target.startswith(packages)):
        return ""
    return target.rpartition(".")[2]


@dataclass(frozen=True)
class RemovedArguments:
    """Arguments that decided on nothing any more when they were removed."""

    name: str
    classes: frozenset[str]
    arguments: frozenset[str]
    sentence: str
    packages: tuple[str, ...] = ("monai.",)

    def applies(self, node: ConfigValue, bundled: Bundled) -> bool:
        """Whether a component has such an argument."""
        del bundled
        return (
            isinstance(node, dict)
            and class_of(node, self.packages) in self.classes
            and not self.arguments.isdisjoint(node)
        )

    def apply(self, node: ConfigValue) -> ConfigValue:
        """The component without them."""
        assert isinstance(node, dict)
        return {key: value for key, value in node.items() if key not in self.arguments}


@dataclass(frozen=True)
class RenamedArgument:
    """An argument under its new name; where both stand, the config contradicts itself and stays as it is."""

    name: str
    classes: frozenset[str]
    before: str
    after: str
    sentence: str

    def applies(self, node: ConfigValue, bundled: Bundled) -> bool:
        """Whether a component has the old name and not the new."""
        del bundled
        return (
            isinstance(node, dict) and class_of(node) in self.classes and self.before in node and self.after not in node
        )

    def apply(self, node: ConfigValue) -> ConfigValue:
        """The component with the new name, in the same place."""
        assert isinstance(node, dict)
        return {self.after if key == self.before else key: value for key, value in node.items()}


@dataclass(frozen=True)
class RenamedTransform:
    """A transform that another does the work of: on arrays (``X``) and on dictionaries (``Xd``, ``XD``, ``XDict``)."""

    name: str
    before: str
    after: str
    sentence: str
    fixed: tuple[tuple[str, str | int], ...] = ()
    """Arguments that the new one takes beside, where the old had no word for them."""
    renamed: tuple[tuple[str, str], ...] = ()

    def applies(self, node: ConfigValue, bundled: Bundled) -> bool:
        """Whether a component is the old transform."""
        del bundled
        return class_of(node) in {self.before + ending for ending in ("", "d", "D", "Dict")}

    def apply(self, node: ConfigValue) -> ConfigValue:
        """The component as the new transform."""
        assert isinstance(node, dict)
        ending = class_of(node).removeprefix(self.before)
        names = dict(self.renamed)
        kept = {names.get(key, key): value for key, value in node.items()}
        return {**dict(self.fixed), **kept, "_target_": f"{self.after}{'d' if ending else ''}"}


@dataclass(frozen=True)
class OneHotArguments:
    """``AsDiscrete`` that was told its classes and its threshold apart from whether they count."""

    name: str = "as-discrete-arguments"
    sentence: str = (
        "AsDiscrete has said to_onehot with the number of classes, and threshold with its value, since MONAI 0.9; "
        "these are the same numbers in its present words"
    )

    def applies(self, node: ConfigValue, bundled: Bundled) -> bool:
        """Whether a component says it in the old way, in single values."""
        del bundled
        if not isinstance(node, dict) or class_of(node) not in ("AsDiscrete", "AsDiscreted"):
            return False
        single = (int, float, bool, type(None))
        told = [node.get(key) for key in ("to_onehot", "n_classes", "num_classes", "threshold_values", "logit_thresh")]
        old = {"n_classes", "num_classes", "threshold_values", "logit_thresh"}
        return not old.isdisjoint(node) and all(isinstance(value, single) for value in told)

    def apply(self, node: ConfigValue) -> ConfigValue:
        """The component in the present way."""
        assert isinstance(node, dict)
        kept = {
            key: value
            for key, value in node.items()
            if key not in ("n_classes", "num_classes", "threshold_values", "logit_thresh", "to_onehot")
        }
        one_hot = node.get("to_onehot")
        if one_hot is True:
            kept["to_onehot"] = node.get("num_classes", node.get("n_classes"))
        elif one_hot:
            kept["to_onehot"] = one_hot
        if node.get("threshold_values"):
            kept["threshold"] = node.get("logit_thresh", 0.5)
        return kept


@dataclass(frozen=True)
class FormerDefault:
    """An argument that is left out, with its default of an earlier MONAI, where something depends on it."""

    name: str
    classes: frozenset[str]
    argument: str
    value: ConfigValue
    until: tuple[int, int]
    matters: Callable[[Bundled], bool]
    sentence: str

    def applies(self, node: ConfigValue, bundled: Bundled) -> bool:
        """Whether a component relies on a default that has changed since, and it matters."""
        return (
            isinstance(node, dict)
            and class_of(node) in self.classes
            and self.argument not in node
            and self.matters(bundled)
            and bundled.is_before(*self.until)
        )

    def apply(self, node: ConfigValue) -> ConfigValue:
        """The component with the default of its day."""
        assert isinstance(node, dict)
        return {**node, self.argument: self.value}


CAST = "its channels are cast to numbers"
"""The description of a component that is taken care of; MONAI ignores it."""


@dataclass(frozen=True)
class BooleanChannels:
    """``ConvertToMultiChannelBasedOnBratsClassesd``, whose channels are booleans, followed by a cast."""

    name: str = "boolean-channels"
    sentence: str = (
        "losses of MONAI since 1.5 take no booleans, which ConvertToMultiChannelBasedOnBratsClassesd makes of a label; "
        "they are cast to the numbers 0 and 1"
    )

    def applies(self, node: ConfigValue, bundled: Bundled) -> bool:
        """Whether a component is that transform in a bundle of a MONAI before 1.5."""
        names = {f"ConvertToMultiChannelBasedOnBratsClasses{ending}" for ending in ("d", "D", "Dict")}
        return (
            isinstance(node, dict)
            and class_of(node) in names
            and node.get("_desc_") != CAST
            and "keys" in node
            and bundled.is_before(1, 5)
        )

    def apply(self, node: ConfigValue) -> ConfigValue:
        """The component, and the cast of the same keys."""
        assert isinstance(node, dict)
        cast: ConfigValue = {"_target_": "CastToTyped", "keys": node["keys"], "dtype": "$torch.float32"}
        return {"_target_": "Compose", "transforms": [{**node, "_desc_": CAST}, cast]}


def _spatial(*names: str) -> frozenset[str]:
    return frozenset(f"{name}{ending}" for name in names for ending in ("d", "D", "Dict"))


COMPONENT_SHIMS: tuple[Shim, ...] = (
    RemovedArguments(
        "swin-unetr-img-size",
        frozenset({"SwinUNETR"}),
        frozenset({"img_size"}),
        "SwinUNETR takes its size from its input since MONAI 1.5, so img_size is left out; its weights are the same",
    ),
    RemovedArguments(
        "scheduler-verbose",
        frozenset(
            ["StepLR", "MultiStepLR", "LambdaLR", "ExponentialLR", "CosineAnnealingLR", "ReduceLROnPlateau", "CosineAnnealingWarmRestarts", "PolynomialLR", "LinearLR", "ConstantLR", "CyclicLR", "OneCycleLR", "MultiplicativeLR"]
        ),
        frozenset({"verbose"}),
        "schedulers of torch no longer print what they do, so verbose is left out",
        ("torch.",),
    ),
    RemovedArguments(
        "meta-keys",
        _spatial(
            "EnsureChannelFirst", "Spacing", "Orientation", "Rotate", "RandRotate", "Rotate90", "RandRotate90", "Resize",
            "Affine", "RandAffine", "Flip", "RandFlip",
        ),
        frozenset({"meta_keys", "meta_key_postfix"}),
        "images carry their header themselves since MONAI 0.9, so where to find it is left out",
    ),
    RemovedArguments(
        "as-tensor-output",
        _spatial("Affine", "RandAffine", "Rand2DElastic", "Rand3DElastic"),
        frozenset({"as_tensor_output"}),
        "transforms give tensors since MONAI 0.9, so as_tensor_output is left out",
    ),
    RenamedArgument(
        "spatial-dims",
        frozenset({"UNet", "BasicUNet", "DynUNet", "SegResNet", "VNet", "HighResNet", "AttentionUnet"}),
        "dimensions",
        "spatial_dims",
        "networks call dimensions spatial_dims since MONAI 0.6",
    ),
    RenamedArgument(
        "patch-projection",
        frozenset({"UNETR", "ViT", "ViTAutoEnc"}),
        "pos_embed",
        "proj_type",
        "networks call pos_embed, how patches are projected, proj_type since MONAI 1.4",
    ),
    RenamedTransform(
        "add-channel",
        "AddChannel",
        "EnsureChannelFirst",
        "MONAI 1.3 removed AddChannel; EnsureChannelFirst adds the same axis",
        fixed=(("channel_dim", "no_channel"),),
    ),
    RenamedTransform(
        "as-channel-first",
        "AsChannelFirst",
        "EnsureChannelFirst",
        "MONAI 1.3 removed AsChannelFirst; EnsureChannelFirst moves the same axis",
        fixed=(("channel_dim", -1),),
    ),
    RenamedTransform(
        "split-channel",
        "SplitChannel",
        "SplitDim",
        "MONAI 1.3 removed SplitChannel; SplitDim splits along the same axis",
        renamed=(("channel_dim", "dim"),),
    ),
    OneHotArguments(),
    FormerDefault(
        "orientation-labels",
        _spatial("Orientation") | {"Orientation"},
        "labels",
        OLDER_AXES,
        (1, 5),
        lambda bundled: bundled.reads_lps,
        "Orientation named the axes of images in LPS as if they were in RAS before MONAI 1.5.1; the bundle was trained "
        "so, and the labels of its day are put in",
    ),
    FormerDefault(
        "reader-meta-dict",
        _spatial("LoadImage"),
        "image_only",
        False,
        (1, 3),
        lambda bundled: bundled.reads_meta_dicts,
        "LoadImaged kept a header beside each image unless told otherwise before MONAI 1.3, and the bundle's own code "
        "asks for it; it is kept",
    ),
    BooleanChannels(),
)  # fmt: skip

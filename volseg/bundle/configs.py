"""The configs of a bundle, made from a plan. They use the vocabulary's words only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from volseg.postprocessing import PostprocessingRules

if TYPE_CHECKING:
    from volseg.bundle.folder import ConfigValue
    from volseg.planning.plan import Network, Plan

Config = dict[str, "ConfigValue"]

OVERLAP = 0.5
"""Of neighbouring windows; nnU-Net's value."""
ROTATION_RADIANS = 15 * math.pi / 180
CLASS_SAMPLES = 10_000
"""Places kept of each class for drawing patches."""
CACHE_GIB = 4.0
"""Preprocessed cases stay in memory up to this; the rest is prepared anew at each use."""
DEVICE = "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')"


def inference_config(plan: Plan, dataset_dir: str) -> Config:
    """``inference.yaml``: stock MONAI targets only."""
    return {
        "imports": ["$import glob", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": dataset_dir,
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz'))",
        "device": DEVICE,
        "network_def": _network(plan, training=False),
        "network": "$@network_def.to(@device)",
        "preprocessing": _component("monai.transforms.Compose", transforms=_deterministic(plan, labelled=False)),
        "dataset": _component("monai.data.Dataset", data=_items(plan), transform="@preprocessing"),
        "dataloader": _component(
            "monai.data.DataLoader", dataset="@dataset", batch_size=1, shuffle=False, num_workers=0
        ),
        "inferer": _sliding_window(plan, overlap=OVERLAP),
        "postprocessing": _component("monai.transforms.Compose", transforms=_to_mask(plan)),
        "handlers": [
            _component(
                "monai.handlers.CheckpointLoader",
                load_path="$@bundle_root + '/models/model.pt'",
                load_dict={"model": "@network"},
                map_location="@device",
            )
        ],
        "evaluator": _component(
            "monai.engines.SupervisedEvaluator",
            device="@device",
            val_data_loader="@dataloader",
            network="@network",
            inferer="@inferer",
            postprocessing="@postprocessing",
            val_handlers="@handlers",
        ),
        "run": ["$@evaluator.run()"],
        # Plain data that MONAI passes over: volseg's rules for labels, after the mask is made.
        "volseg_postprocessing": _rules(plan),
    }


def train_config(plan: Plan, dataset_dir: str) -> Config:
    """``train.yaml``: MONAI's engines, and public objects of ``volseg.training``."""
    return {
        "imports": ["$import torch"],
        "bundle_root": ".",
        "dataset_dir": dataset_dir,
        "fold": 0,
        "cases_record": None,
        "max_epochs": plan.max_epochs,
        "minutes": None,
        "steps_per_epoch": plan.steps_per_epoch,
        "batch_size": plan.batch,
        "num_workers": 0,
        "learning_rate": plan.learning_rate,
        "device": DEVICE,
        "network_def": _network(plan, training=True),
        "network": "$@network_def.to(@device)",
        "loss": _loss(plan),
        "optimizer": _optimizer(plan),
        "average": _component("volseg.training.WeightAverage", network="@network"),
        "budget": _component(
            "volseg.training.Budget",
            epochs="@max_epochs",
            steps_per_epoch="@steps_per_epoch",
            minutes="@minutes",
        ),
        "train": {
            "deterministic_transforms": _deterministic(plan, labelled=True),
            "random_transforms": _random(plan),
            "preprocessing": _component(
                "monai.transforms.Compose",
                transforms="$@train#deterministic_transforms + @train#random_transforms",
            ),
            "dataset": _dataset(plan, "training", "@train#preprocessing"),
            "sampler": _component(
                "torch.utils.data.RandomSampler",
                data_source="@train#dataset",
                num_samples="$@batch_size * @steps_per_epoch",
            ),
            "dataloader": _component(
                "monai.data.DataLoader",
                dataset="@train#dataset",
                batch_size="@batch_size",
                sampler="@train#sampler",
                num_workers="@num_workers",
            ),
            "inferer": _component("volseg.training.AutocastInferer"),
            "handlers": [
                _component("volseg.training.BudgetedRate", optimizer="@optimizer", budget="@budget"),
                _component("volseg.training.PacedValidation", evaluator="@validate#evaluator", budget="@budget"),
            ],
            "trainer": _component(
                "monai.engines.SupervisedTrainer",
                device="@device",
                max_epochs="@max_epochs",
                train_data_loader="@train#dataloader",
                network="@network",
                optimizer="@optimizer",
                loss_function="@loss",
                inferer="@train#inferer",
                train_handlers="@train#handlers",
                decollate=False,
            ),
        },
        "validate": {
            "preprocessing": _component("monai.transforms.Compose", transforms="@train#deterministic_transforms"),
            "dataset": _dataset(plan, "validation", "@validate#preprocessing"),
            "dataloader": _component(
                "monai.data.DataLoader", dataset="@validate#dataset", batch_size=1, shuffle=False, num_workers=0
            ),
            "inferer": _component("volseg.training.AutocastInferer", inferer=_sliding_window(plan, overlap=0.25)),
            "postprocessing": _component(
                "monai.transforms.Compose",
                transforms=[
                    _component("monai.transforms.AsDiscreted", keys="pred", argmax=True, to_onehot=_classes(plan)),
                    _component("monai.transforms.AsDiscreted", keys="label", to_onehot=_classes(plan)),
                ],
            ),
            "key_metric": {
                "val_mean_dice": _component(
                    "monai.handlers.MeanDice",
                    include_background=False,
                    output_transform=_component("monai.handlers.from_engine", keys=["pred", "label"]),
                )
            },
            "evaluator": _component(
                "monai.engines.SupervisedEvaluator",
                device="@device",
                val_data_loader="@validate#dataloader",
                network="@network",
                inferer="@validate#inferer",
                postprocessing="@validate#postprocessing",
                key_val_metric="@validate#key_metric",
            ),
        },
        "run": ["$@train#trainer.run()"],
    }


def _rules(plan: Plan) -> Config:
    rules = PostprocessingRules(keep_largest=plan.keep_largest).to_config()
    return cast("Config", rules)


def _component(target: str, **arguments: ConfigValue) -> Config:
    return {"_target_": target, **arguments}


def _classes(plan: Plan) -> int:
    return len(plan.labels) + 1


def _items(plan: Plan) -> str:
    if len(plan.channels) == 1 or plan.channels_in_one_file:
        return "$[{'image': i} for i in @datalist]"
    return (
        f"$[{{'image': [f[:-12] + '_%04d.nii.gz' % c for c in range({len(plan.channels)})]}}"
        " for f in @datalist if f.endswith('_0000.nii.gz')]"
    )


def _deterministic(plan: Plan, *, labelled: bool) -> list[ConfigValue]:
    """From files to normalised tensors on the target spacing, axes in RAS order."""
    keys: list[ConfigValue] = ["image", "label"] if labelled else ["image"]
    transforms: list[ConfigValue] = [
        # One for each key: a reader of MONAI's keeps the count of files it was given last, and threads that fill the
        # cache share it, so that images would get as many channels as masks (MONAI 1.6).
        *(_component("monai.transforms.LoadImaged", keys=key, reader="NibabelReader", image_only=True) for key in keys),
        _component("monai.transforms.EnsureChannelFirstd", keys=keys),
        # MONAI cuts labels off after the point, and a mask stored with a scale factor has 0.99999994 for 1. Rounded
        # first of all, it holds the numbers that volseg.volume.read_mask reads; whole numbers stay what they are.
        *([_component("monai.transforms.AsDiscreted", keys="label", rounding="torchrounding")] if labelled else []),
        _component("monai.transforms.Orientationd", keys=keys, axcodes="RAS", labels=None),
        _component(
            "monai.transforms.Spacingd",
            keys=keys,
            pixdim=list(plan.spacing_mm),
            mode=["bilinear", "nearest"] if labelled else ["bilinear"],
        ),
        *_normalisation(plan),
    ]
    if labelled and not plan.labels.is_contiguous:
        transforms.append(
            _component(
                "monai.transforms.MapLabelValued",
                keys="label",
                orig_labels=[0, *plan.labels.indices],
                target_labels=list(range(_classes(plan))),
            )
        )
    transforms.append(_component("monai.transforms.EnsureTyped", keys=keys))
    return transforms


def _normalisation(plan: Plan) -> list[ConfigValue]:
    chosen = plan.normalisations
    if all(one.kind == "percentiles" for one in chosen):
        low, high = min(one.low for one in chosen), max(one.high for one in chosen)
        return [
            _component(
                "monai.transforms.ScaleIntensityRanged", keys="image", a_min=low, a_max=high, b_min=low, b_max=high,
                clip=True,
            ),
            _component(
                "monai.transforms.NormalizeIntensityd",
                keys="image",
                subtrahend=[one.mean for one in chosen],
                divisor=[one.std for one in chosen],
                channel_wise=True,
            ),
        ]  # fmt: skip
    # Channels of different kinds get the one rule that needs no scale.
    return [
        _component(
            "monai.transforms.NormalizeIntensityd",
            keys="image",
            nonzero=any(one.nonzero for one in chosen),
            channel_wise=True,
        )
    ]


def _random(plan: Plan) -> list[ConfigValue]:
    both: list[ConfigValue] = ["image", "label"]
    patch: list[ConfigValue] = list(plan.patch)
    crop: list[ConfigValue] = [_component("monai.transforms.SpatialPadd", keys=both, spatial_size=patch)]
    if not plan.whole_volumes:
        crop += [
            _component(
                "monai.transforms.ClassesToIndicesd",
                keys="label",
                num_classes=_classes(plan),
                max_samples_per_class=CLASS_SAMPLES,
            ),
            _component(
                "monai.transforms.RandCropByLabelClassesd",
                keys=both,
                label_key="label",
                spatial_size=patch,
                num_classes=_classes(plan),
                num_samples=1,
                indices_key="label_cls_indices",
                warn=False,
            ),
        ]
    # Across slices that lie far apart a rotation would tear structures: only the one about the thick axis stays.
    thick = [step > 2 * min(plan.spacing_mm) for step in plan.spacing_mm]
    rotate: list[ConfigValue] = [
        ROTATION_RADIANS if not any(thick[:axis] + thick[axis + 1 :]) else 0.0 for axis in range(3)
    ]
    return [
        *crop,
        _component(
            "monai.transforms.RandAffined",
            keys=both,
            prob=0.6,
            rotate_range=rotate,
            scale_range=[0.15, 0.15, 0.15],
            mode=["bilinear", "nearest"],
            padding_mode=["border", "zeros"],
        ),
        _component("monai.transforms.RandGaussianNoised", keys="image", prob=0.2, std=0.1),
        _component("monai.transforms.RandGaussianSmoothd", keys="image", prob=0.1),
        _component("monai.transforms.RandScaleIntensityd", keys="image", prob=0.3, factors=0.25),
        _component("monai.transforms.RandShiftIntensityd", keys="image", prob=0.3, offsets=0.1),
        _component("monai.transforms.RandAdjustContrastd", keys="image", prob=0.2, gamma=[0.7, 1.5]),
        _component("monai.transforms.EnsureTyped", keys=both, track_meta=False),
    ]


def _dataset(plan: Plan, part: str, transform: str) -> Config:
    return _component(
        "monai.data.CacheDataset",
        data=_component(
            "volseg.training.fold_cases", dataset_dir="@dataset_dir", part=part, fold="@fold", record="@cases_record"
        ),
        transform=transform,
        cache_rate=round(min(1.0, CACHE_GIB / plan.cached_gib), 3),
        num_workers=2,
        progress=False,
    )


def _sliding_window(plan: Plan, *, overlap: float) -> Config:
    return _component(
        "monai.inferers.SlidingWindowInferer",
        roi_size=list(plan.patch),
        sw_batch_size=2,
        overlap=overlap,
        mode="gaussian",
    )


def _to_mask(plan: Plan) -> list[ConfigValue]:
    """From logits to a mask on the image's own grid.

    Logits go back before the largest wins, which keeps edges fine, unless they would take too much memory there.
    """
    invert = _component(
        "monai.transforms.Invertd",
        keys="pred",
        transform="@preprocessing",
        orig_keys="image",
        nearest_interp=not plan.logits_inverted,
        to_tensor=True,
    )
    discrete = _component("monai.transforms.AsDiscreted", keys="pred", argmax=True)
    transforms: list[ConfigValue] = [invert, discrete] if plan.logits_inverted else [discrete, invert]
    if not plan.labels.is_contiguous:
        transforms.append(
            _component(
                "monai.transforms.MapLabelValued",
                keys="pred",
                orig_labels=list(range(_classes(plan))),
                target_labels=[0, *plan.labels.indices],
            )
        )
    transforms.append(
        _component(
            "monai.transforms.SaveImaged",
            keys="pred",
            writer="NibabelWriter",
            output_dir="@output_dir",
            output_postfix="",
            output_ext=".nii.gz",
            output_dtype=plan.labels.mask_dtype,
            separate_folder=False,
            resample=False,
            print_log=False,
        )
    )
    return transforms


def _network(plan: Plan, *, training: bool) -> Config:
    network: Network = plan.network
    strides: list[ConfigValue] = [list(stride) for stride in network.strides]
    if not network.full_resolution:
        return _component(
            "monai.networks.nets.UNet",
            spatial_dims=3,
            in_channels=len(plan.channels),
            out_channels=_classes(plan),
            channels=list(network.features),
            strides=strides,
            num_res_units=2,
            norm="INSTANCE",
        )
    # Residual blocks learn faster; the full preset keeps nnU-Net's plain ones.
    residual: Config = {"res_block": True} if plan.preset == "fast" else {}
    heads = max(1, len(network.strides) - 1)
    deep: Config = {"deep_supervision": True, "deep_supr_num": heads} if _deep(plan, training=training) else {}
    return _component(
        "monai.networks.nets.DynUNet",
        spatial_dims=3,
        in_channels=len(plan.channels),
        out_channels=_classes(plan),
        kernel_size=[list(kernel) for kernel in network.kernels],
        strides=[[1, 1, 1], *strides],
        upsample_kernel_size=strides,
        filters=list(network.features),
        norm_name="INSTANCE",
        **residual,
        **deep,
    )


def _deep(plan: Plan, *, training: bool) -> bool:
    """Whether heads at the lower levels are trained as well; inference does without them."""
    return training and plan.preset == "full" and plan.network.full_resolution and len(plan.network.strides) > 1


def _loss(plan: Plan) -> Config:
    loss = _component(
        "monai.losses.DiceCELoss", include_background=False, to_onehot_y=True, softmax=True, batch=True,
    )  # fmt: skip
    return loss if not _deep(plan, training=True) else _component("monai.losses.DeepSupervisionLoss", loss=loss)


def _optimizer(plan: Plan) -> Config:
    if plan.preset == "fast":
        return _component(
            "torch.optim.AdamW", params="$@network_def.parameters()", lr="@learning_rate", weight_decay=1e-4
        )
    return _component(
        "torch.optim.SGD",
        params="$@network_def.parameters()",
        lr="@learning_rate",
        momentum=0.99,
        nesterov=True,
        weight_decay=3e-5,
    )

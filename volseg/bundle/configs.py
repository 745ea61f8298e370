"""The configs of a bundle: what the objects of a plan say of themselves, in the vocabulary's words only."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from volseg.bundle.vocabulary import MODEL_KEY, ONE_FILE, channel_files
from volseg.planning.component import Component, component
from volseg.planning.normalisation import normalising_components

if TYPE_CHECKING:
    from volseg.planning.component import ConfigValue
    from volseg.planning.plan import Plan
    from volseg.planning.target import Target

OVERLAP = 0.5
"""Of neighbouring windows; nnU-Net's value."""
CLASS_SAMPLES = 10_000
"""Places kept of each class for drawing patches."""
DEVICE = "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')"


def inference_config(plan: Plan, dataset_dir: str) -> Component:
    """``inference.yaml``: stock MONAI targets only, but for the few networks that MONAI lacks."""
    # The rules for labels as stock transforms, and those that there is none for.
    stock, others = plan.rules.to_transforms(plan.target.table.indices)
    return {
        "imports": ["$import glob", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": dataset_dir,
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz'))",
        "device": DEVICE,
        "network_def": plan.network.for_inference.component(),
        "network": "$@network_def.to(@device)",
        "preprocessing": component("monai.transforms.Compose", transforms=_deterministic(plan, labelled=False)),
        "dataset": component(
            "monai.data.Dataset",
            data=ONE_FILE if plan.single_files else channel_files(len(plan.channels)),
            transform="@preprocessing",
        ),
        "dataloader": component(
            "monai.data.DataLoader", dataset="@dataset", batch_size=1, shuffle=False, num_workers=0
        ),
        "inferer": _sliding_window(plan, overlap=OVERLAP),
        "postprocessing": component(
            "monai.transforms.Compose", transforms=_to_mask(plan, cast("list[ConfigValue]", stock))
        ),
        "handlers": [
            component(
                "monai.handlers.CheckpointLoader",
                load_path="$@bundle_root + '/models/model.pt'",
                load_dict={"model": "@network"},
                map_location="@device",
            )
        ],
        "evaluator": component(
            "monai.engines.SupervisedEvaluator",
            device="@device",
            val_data_loader="@dataloader",
            network="@network",
            inferer="@inferer",
            postprocessing="@postprocessing",
            val_handlers="@handlers",
        ),
        "run": ["$@evaluator.run()"],
        # Plain data that MONAI passes over: the rules for labels that it has no transform for.
        "volseg_postprocessing": cast("list[ConfigValue]", others.to_config()),
    }


def train_config(plan: Plan, dataset_dir: str) -> Component:
    """``train.yaml``: MONAI's engines, and public objects of ``volseg.training``."""
    return {
        "imports": ["$import torch"],
        "bundle_root": ".",
        "dataset_dir": dataset_dir,
        "fold": 0,
        "cases_record": None,
        MODEL_KEY: "$@bundle_root + '/models/model.pt'",
        "max_epochs": plan.max_epochs,
        "minutes": None,
        "steps_per_epoch": plan.steps_per_epoch,
        "batch_size": plan.batch,
        "num_workers": 0,
        "learning_rate": plan.optimizer.learning_rate,
        "device": DEVICE,
        "network_def": plan.network.component(),
        "network": "$@network_def.to(@device)",
        "loss": plan.loss.over_heads(plan.network.heads, sigmoid=plan.target.sigmoid, ignore=plan.target.mark),
        "optimizer": plan.optimizer.component(),
        "average": component("volseg.training.WeightAverage", network="@network"),
        "budget": component(
            "volseg.training.Budget",
            epochs="@max_epochs",
            steps_per_epoch="@steps_per_epoch",
            minutes="@minutes",
        ),
        "train": {
            "deterministic_transforms": _deterministic(plan, labelled=True),
            "random_transforms": _random(plan),
            "preprocessing": component(
                "monai.transforms.Compose",
                transforms="$@train#deterministic_transforms + @train#random_transforms",
            ),
            "dataset": _dataset("training", "@train#preprocessing"),
            "dataloader": component(
                "volseg.training.StepLoader",
                dataset="@train#dataset",
                batch_size="@batch_size",
                steps="@steps_per_epoch",
                num_workers="@num_workers",
            ),
            "inferer": component("volseg.training.AutocastInferer"),
            "handlers": [
                plan.schedule.component(),
                component("volseg.training.PacedValidation", evaluator="@validate#evaluator", budget="@budget"),
                component(
                    "volseg.training.Standalone",
                    budget="@budget",
                    average="@average",
                    evaluator="@validate#evaluator",
                    path=f"@{MODEL_KEY}",
                    leave_out=list(plan.network.training_only),
                ),
            ],
            "trainer": component(
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
            "preprocessing": component("monai.transforms.Compose", transforms="@train#deterministic_transforms"),
            "dataset": _dataset("validation", "@validate#preprocessing"),
            "dataloader": component(
                "monai.data.DataLoader", dataset="@validate#dataset", batch_size=1, shuffle=False, num_workers=0
            ),
            "inferer": component("volseg.training.AutocastInferer", inferer=_sliding_window(plan, overlap=0.25)),
            "postprocessing": component(
                "monai.transforms.Compose",
                transforms=_to_scores(plan),
            ),
            "key_metric": {
                "val_mean_dice": component(
                    "volseg.training.EvaluatedDice",
                    **({"include_background": True} if plan.target.sigmoid else {}),
                    output_transform=component("monai.handlers.from_engine", keys=["pred", "label"]),
                )
            },
            "evaluator": component(
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


def _deterministic(plan: Plan, *, labelled: bool) -> list[ConfigValue]:
    """From files to normalised tensors on the target spacing, axes in RAS order."""
    keys: list[ConfigValue] = ["image", "label"] if labelled else ["image"]
    transforms: list[ConfigValue] = [
        # One for each key: a reader of MONAI's keeps the count of files it was given last, and threads that fill the
        # cache share it, so that images would get as many channels as masks (MONAI 1.6).
        *(component("monai.transforms.LoadImaged", keys=key, reader="NibabelReader", image_only=True) for key in keys),
        component("monai.transforms.EnsureChannelFirstd", keys=keys),
        # MONAI cuts labels off after the point, and a mask stored with a scale factor has 0.99999994 for 1. Rounded
        # first of all, it holds the numbers that volseg.volume.read_mask reads; whole numbers stay what they are.
        *([component("monai.transforms.AsDiscreted", keys="label", rounding="torchrounding")] if labelled else []),
        component("monai.transforms.Orientationd", keys=keys, axcodes="RAS", labels=None),
        component(
            "monai.transforms.Spacingd",
            keys=keys,
            pixdim=list(plan.spacing_mm),
            mode=["bilinear", "nearest"] if labelled else ["bilinear"],
        ),
        *normalising_components(plan.normalisations),
    ]
    numbers = {0: 0} | plan.target.numbering
    if plan.target.ignore is not None and plan.target.mark is not None:
        numbers[plan.target.ignore] = plan.target.mark
    if labelled and any(stored != learnt for stored, learnt in numbers.items()):
        transforms.append(
            component(
                "monai.transforms.MapLabelValued",
                keys="label",
                orig_labels=list(numbers),
                target_labels=list(numbers.values()),
            )
        )
    transforms.append(component("monai.transforms.EnsureTyped", keys=keys))
    return transforms


def _random(plan: Plan) -> list[ConfigValue]:
    both: list[ConfigValue] = ["image", "label"]
    patch: list[ConfigValue] = list(plan.patch)
    margin = (0, 0, 0) if plan.whole_volumes else plan.augmentation.margin(plan.patch)
    crop: list[ConfigValue] = [component("monai.transforms.SpatialPadd", keys=both, spatial_size=patch)]
    if not plan.whole_volumes:
        crop += [
            component(
                "monai.transforms.ClassesToIndicesd",
                keys="label",
                num_classes=plan.classes,
                max_samples_per_class=CLASS_SAMPLES,
            ),
            _crop(plan, margin),
        ]
    cut: list[ConfigValue] = []
    if plan.whole_volumes:
        cut = [component("monai.transforms.RandSpatialCropd", keys=both, roi_size=patch, random_size=False)]
    return [
        *crop,
        *plan.augmentation.components(margin),
        *cut,
        *_to_regions(plan),
        component("monai.transforms.EnsureTyped", keys=both, track_meta=False),
    ]


def _crop(plan: Plan, margin: tuple[int, int, int]) -> Component:
    """A patch around a voxel of a class drawn, with a margin where the augmentation needs one."""
    drawn: Component = {
        "keys": ["image", "label"],
        "label_key": "label",
        "spatial_size": [side + 2 * more for side, more in zip(plan.patch, margin, strict=True)],
        "num_classes": plan.classes,
        "indices_key": "label_cls_indices",
    }
    if plan.class_ratios:
        drawn["ratios"] = list(plan.class_ratios)
    if any(margin):
        return component("volseg.training.RandMarginCropd", **drawn, margin=list(margin))
    return component("monai.transforms.RandCropByLabelClassesd", **drawn, num_samples=1, warn=False)


def _dataset(part: str, transform: str) -> Component:
    return component(
        "volseg.training.PreparedDataset",
        data=component(
            "volseg.training.fold_cases", dataset_dir="@dataset_dir", part=part, fold="@fold", record="@cases_record"
        ),
        transform=transform,
    )


def _sliding_window(plan: Plan, *, overlap: float) -> Component:
    return component(
        "monai.inferers.SlidingWindowInferer",
        roi_size=list(plan.patch),
        sw_batch_size=2,
        overlap=overlap,
        mode="gaussian",
    )


def _to_regions(plan: Plan) -> list[ConfigValue]:
    """From a label map to the channels that the network learns; nothing where labels exclude each other."""
    if not plan.target.sigmoid:
        return []
    regions = cast("list[ConfigValue]", plan.target.numbers_of_regions)
    mark: Component = {} if plan.target.mark is None else {"ignore": plan.target.mark}
    return [component("volseg.training.LabelsToRegionsd", keys="label", regions=regions, **mark)]


def _to_scores(plan: Plan) -> list[ConfigValue]:
    """From logits and a label map to what Dice is counted of, one channel for each class or region."""
    both: list[ConfigValue] = ["pred", "label"]
    clear: list[ConfigValue] = []
    if plan.target.mark is not None:
        clear = [
            component("volseg.training.ClearIgnoredd", keys=both, label_key="label", ignore=plan.target.mark),
        ]
    if plan.target.sigmoid:
        return [*_to_inside(), *_to_regions(plan), *clear]
    return [
        component("monai.transforms.AsDiscreted", keys="pred", argmax=True),
        *clear,
        component("monai.transforms.AsDiscreted", keys=both, to_onehot=plan.classes),
    ]


def _to_inside() -> list[ConfigValue]:
    """From the logits of regions to 1 inside each, and 0 outside."""
    return [
        component("monai.transforms.Activationsd", keys="pred", sigmoid=True),
        component("monai.transforms.AsDiscreted", keys="pred", threshold=0.5),
    ]


def _merged(target: Target) -> list[ConfigValue]:
    """From channels of regions to one label map, painted in their order, by stock transforms.

    A mean with powers of two as weights gives each set of regions a number of its own, which a table maps to the label.
    """
    count = len(target.regions)
    sums = range(2**count)
    painted = [target.paint((number >> place) & 1 for place in range(count)) for number in sums]
    merge: list[ConfigValue] = []
    if count > 1:
        merge = [
            component(
                "monai.transforms.SplitDimd",
                keys="pred",
                output_postfixes=[f"region_{place}" for place in range(count)],
                dim=0,
                keepdim=True,
            ),
            component(
                "monai.transforms.MeanEnsembled",
                keys=[f"pred_region_{place}" for place in range(count)],
                output_key="pred",
                weights=[2**place for place in range(count)],
            ),
            # MONAI divides by the sum of the weights.
            component(
                "monai.transforms.ScaleIntensityRanged", keys="pred", a_min=0, a_max=1, b_min=0, b_max=2**count - 1
            ),
            component("monai.transforms.AsDiscreted", keys="pred", rounding="torchrounding"),
        ]
    if painted == list(sums):
        return merge
    return [
        *merge,
        component(
            "monai.transforms.MapLabelValued",
            keys="pred",
            orig_labels=list(sums),
            target_labels=cast("list[ConfigValue]", painted),
        ),
    ]


def _to_mask(plan: Plan, rules: list[ConfigValue]) -> list[ConfigValue]:
    """From logits to a mask on the image's own grid.

    Logits go back before the largest wins, which keeps edges fine; volseg does so slab by slab.
    """
    invert = component(
        "monai.transforms.Invertd",
        keys="pred",
        transform="@preprocessing",
        orig_keys="image",
        nearest_interp=False,
        to_tensor=True,
    )
    discrete: list[ConfigValue] = [component("monai.transforms.AsDiscreted", keys="pred", argmax=True)]
    if plan.target.sigmoid:
        discrete = [*_to_inside(), *_merged(plan.target)]
    transforms = [invert, *discrete]
    if not plan.target.sigmoid and not plan.labels.is_contiguous:
        transforms.append(
            component(
                "monai.transforms.MapLabelValued",
                keys="pred",
                orig_labels=list(range(plan.classes)),
                target_labels=[0, *plan.labels.indices],
            )
        )
    transforms += rules
    transforms.append(
        component(
            "monai.transforms.SaveImaged",
            keys="pred",
            writer="NibabelWriter",
            output_dir="@output_dir",
            output_postfix="",
            output_ext=".nii.gz",
            output_dtype=plan.target.table.mask_dtype,
            separate_folder=False,
            resample=False,
            print_log=False,
        )
    )
    return transforms

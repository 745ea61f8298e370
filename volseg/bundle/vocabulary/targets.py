"""The classes and functions that a config may name without being trusted, their arguments, and the config's keys."""

from __future__ import annotations

MODEL_KEY = "model_path"
"""Where other programs than ``volseg train`` write the weights that they train; that one leaves it out."""

_TRANSFORMS = {
    "monai.transforms.LoadImaged": "keys:names reader:reader! image_only:flag",
    "monai.transforms.EnsureChannelFirstd": "keys:names",
    "monai.transforms.Orientationd": "keys:names axcodes:axcodes labels:null",
    "monai.transforms.Spacingd": "keys:names pixdim:spacing mode:words padding_mode:words",
    "monai.transforms.ScaleIntensityRanged": "keys:names a_min:real a_max:real b_min:real b_max:real clip:flag",
    "monai.transforms.NormalizeIntensityd": (
        "keys:names subtrahend:reals divisor:reals nonzero:flag channel_wise:flag"
    ),
    "monai.transforms.ThresholdIntensityd": "keys:names threshold:real above:flag cval:real",
    "monai.transforms.MapLabelValued": "keys:names orig_labels:labels target_labels:labels",
    "monai.transforms.EnsureTyped": "keys:names track_meta:flag",
    "monai.transforms.SpatialPadd": "keys:names spatial_size:size mode:words",
    "monai.transforms.ClassesToIndicesd": "keys:names num_classes:classes max_samples_per_class:class_samples",
    "monai.transforms.RandCropByLabelClassesd": (
        "keys:names label_key:name spatial_size:size num_classes:classes num_samples:patches indices_key:name "
        "ratios:reals warn:flag"
    ),
    "volseg.training.RandMarginCropd": (
        "keys:names label_key:name spatial_size:size margin:margin num_classes:classes indices_key:name ratios:reals"
    ),
    "volseg.training.RandSpatiald": (
        "keys:names mode:words spacing:spacing margin:margin rotate_prob:share rotate_range:reals scale_prob:share "
        "scale_range:zooms deform_prob:share deform_range:sigmas"
    ),
    "monai.transforms.RandSpatialCropd": "keys:names roi_size:size random_size:flag",
    "monai.transforms.RandAffined": (
        "keys:names prob:share rotate_range:reals scale_range:reals translate_range:reals mode:words padding_mode:words"
    ),
    "monai.transforms.RandFlipd": "keys:names prob:share spatial_axis:axes",
    "monai.transforms.RandGaussianNoised": "keys:names prob:share mean:real std:real",
    "monai.transforms.RandGaussianSmoothd": "keys:names prob:share sigma_x:sigmas sigma_y:sigmas sigma_z:sigmas",
    "monai.transforms.RandScaleIntensityd": "keys:names prob:share factors:reals channel_wise:flag",
    "monai.transforms.RandShiftIntensityd": "keys:names prob:share offsets:reals channel_wise:flag",
    "monai.transforms.RandScaleIntensityFixedMeand": (
        "keys:names prob:share factors:reals fixed_mean:flag preserve_range:flag channel_wise:flag"
    ),
    "monai.transforms.RandSimulateLowResolutiond": (
        "keys:names prob:share zoom_range:lowered downsample_mode:sampling upsample_mode:sampling"
    ),
    "monai.transforms.RandAdjustContrastd": "keys:names prob:share gamma:reals invert_image:flag retain_stats:flag",
    "monai.transforms.AsDiscreted": "keys:names argmax:flag to_onehot:classes? threshold:share? rounding:word?",
    "monai.transforms.Activationsd": "keys:names sigmoid:flag softmax:flag",
    "monai.transforms.SplitDimd": "keys:names output_postfixes:names dim:axes keepdim:flag",
    "monai.transforms.MeanEnsembled": "keys:names output_key:name weights:reals",
    "volseg.training.LabelsToRegionsd": "keys:names regions:regions ignore:label?",
    "volseg.training.ClearIgnoredd": "keys:names label_key:name ignore:label",
    "monai.transforms.Invertd": (
        "keys:names transform:preprocessing orig_keys:names nearest_interp:flag to_tensor:flag"
    ),
    "monai.transforms.KeepLargestConnectedComponentd": (
        "keys:names applied_labels:labels is_onehot:flag? independent:flag connectivity:connectivity"
    ),
    "monai.transforms.FillHolesd": "keys:names applied_labels:labels connectivity:connectivity",
}
_SAVING = {
    "monai.transforms.SaveImaged": (
        "keys:names writer:writer! output_dir:to_output_dir! output_postfix:no_postfix! output_ext:nifti! "
        "output_dtype:dtype separate_folder:false! resample:flag print_log:flag"
    )
}
_ENGINE = "device:device max_epochs:epochs epoch_length:steps network:network inferer:inferer amp:flag"

_OVERLAP = "include_background:flag to_onehot_y:flag sigmoid:flag softmax:flag batch:flag smooth_nr:real smooth_dr:real"

_TARGETS: dict[str, dict[str, str]] = {
    "network_def": {
        "monai.networks.nets.UNet": (
            "spatial_dims:three in_channels:inputs out_channels:classes channels:features strides:strides "
            "kernel_size:kernels up_kernel_size:kernels num_res_units:units norm:word dropout:share"
        ),
        "monai.networks.nets.DynUNet": (
            "spatial_dims:three in_channels:inputs out_channels:classes kernel_size:kernels strides:strides "
            "upsample_kernel_size:strides filters:features norm_name:word res_block:flag deep_supervision:flag "
            "deep_supr_num:heads dropout:share?"
        ),
        "monai.networks.nets.SegResNet": (
            "spatial_dims:three in_channels:inputs out_channels:classes init_filters:width norm:norm blocks_down:blocks "
            "blocks_up:blocks upsample_mode:word dropout_prob:share?"
        ),
        "monai.networks.nets.SegResNetDS": (
            "spatial_dims:three in_channels:inputs out_channels:classes init_filters:width norm:norm blocks_down:blocks "
            "blocks_up:blocks dsdepth:heads upsample_mode:word resolution:spacing"
        ),
        "monai.networks.nets.AttentionUnet": (
            "spatial_dims:three in_channels:inputs out_channels:classes channels:features strides:strides "
            "kernel_size:kernels up_kernel_size:kernels dropout:share"
        ),
        "monai.networks.nets.VNet": (
            "spatial_dims:three in_channels:inputs out_channels:classes dropout_prob_down:share? "
            "dropout_prob_up:dropouts"
        ),
        "monai.networks.nets.UNETR": (
            "spatial_dims:three in_channels:inputs out_channels:classes img_size:size feature_size:width "
            "hidden_size:width mlp_dim:width num_heads:width dropout_rate:share"
        ),
        "monai.networks.nets.SwinUNETR": (
            "spatial_dims:three in_channels:inputs out_channels:classes feature_size:width drop_rate:share "
            "attn_drop_rate:share dropout_path_rate:share use_checkpoint:flag"
        ),
        "volseg.networks.ResidualEncoderUNet": (
            "in_channels:inputs out_channels:classes features:features strides:strides kernels:kernels blocks:blocks "
            "heads:heads"
        ),
        "volseg.networks.SegNet": (
            "in_channels:inputs out_channels:classes features:features strides:strides kernels:kernels "
            "convolutions:blocks"
        ),
        "volseg.networks.DeepLabV3Plus": (
            "in_channels:inputs out_channels:classes features:features strides:strides kernels:kernels "
            "output_stride:strides rates:rates head_features:width blocks:blocks"
        ),
    },
    "transform": _TRANSFORMS,
    "saving_transform": _TRANSFORMS | _SAVING,
    "preprocessing": {"monai.transforms.Compose": "transforms:all_transforms"},
    "postprocessing": {"monai.transforms.Compose": "transforms:transforms"},
    "after": {"monai.transforms.Compose": "transforms:transforms"},
    "saving_postprocessing": {"monai.transforms.Compose": "transforms:saving_transforms"},
    "items": {
        "volseg.training.fold_cases": "dataset_dir:to_dataset_dir! part:part fold:fold record:to_record!",
    },
    "dataset": {
        "monai.data.Dataset": "data:items! transform:preprocessing",
        "monai.data.CacheDataset": (
            "data:items! transform:preprocessing cache_rate:share cache_num:cached num_workers:workers progress:flag "
            "copy_cache:flag"
        ),
        "volseg.training.PreparedDataset": "data:items! transform:preprocessing num_workers:workers",
    },
    "loader": {
        "monai.data.DataLoader": (
            "dataset:dataset batch_size:batch shuffle:flag sampler:sampler num_workers:workers persistent_workers:flag "
            "drop_last:flag"
        ),
        "volseg.training.StepLoader": "dataset:dataset batch_size:batch steps:steps seed:seed num_workers:workers",
    },
    "sampler": {"torch.utils.data.RandomSampler": "data_source:dataset replacement:flag num_samples:draws"},
    "loss": {
        "monai.losses.DiceCELoss": (
            "include_background:flag to_onehot_y:flag sigmoid:flag softmax:flag squared_pred:flag batch:flag "
            "smooth_nr:real smooth_dr:real lambda_dice:real lambda_ce:real"
        ),
        "monai.losses.DiceLoss": _OVERLAP,
        "monai.losses.TverskyLoss": f"{_OVERLAP} alpha:weight beta:weight",
        "monai.losses.FocalLoss": "include_background:flag to_onehot_y:flag gamma:power use_softmax:flag",
        "monai.losses.DeepSupervisionLoss": "loss:loss weight_mode:word",
        "volseg.training.BoundaryLoss": "sigmoid:flag",
        "volseg.training.ClDice": "sigmoid:flag iterations:erosions",
        "volseg.training.CrossEntropy": "sigmoid:flag hardest_share:share ignore:label",
        "volseg.training.IgnoringLoss": "loss:loss ignore:label sigmoid:flag mean:flag",
        "volseg.training.SumOfLosses": "losses:losses weights:weights",
    },
    "optimizer": {
        "torch.optim.AdamW": "params:parameters lr:rate weight_decay:share betas:reals",
        "torch.optim.Adam": "params:parameters lr:rate weight_decay:share betas:reals",
        "monai.optimizers.Novograd": "params:parameters lr:rate weight_decay:share betas:reals",
        "torch.optim.SGD": "params:parameters lr:rate momentum:share nesterov:flag weight_decay:share",
    },
    "inferer": {
        "monai.inferers.SimpleInferer": "",
        "monai.inferers.SlidingWindowInferer": (
            "roi_size:size sw_batch_size:windows overlap:overlap mode:word sigma_scale:sigma_scale padding_mode:word "
            "cval:real progress:flag cache_roi_weight_map:flag"
        ),
        "volseg.training.AutocastInferer": "inferer:inferer",
    },
    "metric": {
        "monai.handlers.MeanDice": "include_background:flag output_transform:from_engine num_classes:classes",
        "volseg.training.EvaluatedDice": "include_background:flag output_transform:from_engine",
    },
    "from_engine": {"monai.handlers.from_engine": "keys:names first:flag"},
    "handler": {
        "volseg.training.BudgetedRate": "optimizer:optimizer budget:budget power:power warm_up:share curve:curve",
        "volseg.training.PacedValidation": "evaluator:evaluator budget:budget share:share",
        "volseg.training.Standalone": (
            "budget:budget average:average evaluator:evaluator path:model_path! leave_out:weight_names"
        ),
    },
    "inference_handler": {
        "monai.handlers.CheckpointLoader": ("load_path:load_path! load_dict:loaded map_location:device strict:flag"),
    },
    "trainer": {
        "monai.engines.SupervisedTrainer": (
            f"{_ENGINE} train_data_loader:loader optimizer:optimizer loss_function:loss train_handlers:handlers "
            "postprocessing:postprocessing key_train_metric:metrics decollate:flag"
        )
    },
    "evaluator": {
        "monai.engines.SupervisedEvaluator": (
            f"{_ENGINE} val_data_loader:loader val_handlers:any_handlers postprocessing:after key_val_metric:metrics"
        ),
        "monai.engines.EnsembleEvaluator": (
            "device:device networks:folds pred_keys:fold_outputs inferer:inferer amp:flag val_data_loader:loader "
            "val_handlers:any_handlers postprocessing:after"
        ),
    },
    "budget": {"volseg.training.Budget": "epochs:epochs minutes:minutes steps_per_epoch:steps"},
    "average": {"volseg.training.WeightAverage": "network:network decay:share"},
}

Arguments = dict[str, tuple[str, bool]]
"""Of a target: the kind of each by its name, and whether it must be there."""


def _arguments(text: str) -> Arguments:
    pairs = [one.split(":") for one in text.split()]
    return {name: (kind.removesuffix("!"), kind.endswith("!")) for name, kind in pairs}


TARGETS: dict[str, dict[str, Arguments]] = {
    kind: {target: _arguments(text) for target, text in found.items()} for kind, found in _TARGETS.items()
}
"""By kind, the classes and functions that make a part of it, by their full path, with the arguments that they take.

Some classes take names of classes as plain text (``LoadImaged`` finds a reader so), which would be a way around.
"""

_COMMON = {
    "imports": "imports",
    "bundle_root": "path",
    "dataset_dir": "path",
    "device": "device",
    "network_def": "network_def",
    "network": "network",
    "run": "run",
}

KEYS: dict[str, dict[str, str]] = {
    "inference": _COMMON
    | {
        "output_dir": "output_dir",
        "datalist": "datalist",
        "preprocessing": "preprocessing",
        "dataset": "dataset",
        "dataloader": "loader",
        "inferer": "inferer",
        "postprocessing": "saving_postprocessing",
        "handlers": "inference_handlers",
        "evaluator": "evaluator",
    },
    "train": _COMMON
    | {
        "fold": "fold",
        "cases_record": "null",
        "max_epochs": "epochs",
        "minutes": "minutes",
        MODEL_KEY: "model_path",
        "steps_per_epoch": "steps",
        "batch_size": "batch",
        "num_workers": "workers",
        "learning_rate": "rate",
        "loss": "loss",
        "optimizer": "optimizer",
        "average": "average",
        "budget": "budget",
        "lr_scheduler": "null",
        "train#deterministic_transforms": "transforms",
        "train#random_transforms": "transforms",
        "train#preprocessing": "preprocessing",
        "train#dataset": "dataset",
        "train#sampler": "sampler",
        "train#dataloader": "loader",
        "train#inferer": "inferer",
        "train#handlers": "handlers",
        "train#trainer": "trainer",
        "validate#preprocessing": "preprocessing",
        "validate#dataset": "dataset",
        "validate#dataloader": "loader",
        "validate#inferer": "inferer",
        "validate#postprocessing": "postprocessing",
        "validate#key_metric": "metrics",
        "validate#evaluator": "evaluator",
    },
}
KEYS["inference_folds"] = KEYS["inference"] | {"networks": "folds"}
"""By config, the kind of each key that something may be built from or refer to; any other holds plain data alone."""

COMPONENT_KEYS = frozenset({"_target_", "_desc_"})
"""What a component may hold beside its arguments: no ``_mode_`` (it can start a debugger), no ``_requires_``."""

"""The words that a config may use without being trusted: what ``volseg plan`` writes, and the likes of it.

A target is a class or function by its full path with the arguments that it may be given: some take names of classes
as plain text (``LoadImaged`` finds a reader so), which would be a way around.
"""

from __future__ import annotations

import re

IMPORTS = frozenset({"$import glob", "$import torch"})

ONE_FILE = "$[{'image': i} for i in @datalist]"
"""The expression that makes a case of each image."""

EXPRESSIONS = frozenset(
    {
        "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "$@network_def.to(@device)",
        "$@network_def.parameters()",
        "$@batch_size * @steps_per_epoch",
        "$@bundle_root + '/eval'",
        "$@bundle_root + '/models/model.pt'",
        "$sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz'))",
        ONE_FILE,
        "$@train#deterministic_transforms + @train#random_transforms",
        "$@evaluator.run()",
        "$@train#trainer.run()",
        "$@validate#evaluator.run()",
    }
)

_CHANNEL_FILES = "$[{'image': [f[:-12] + '_%04d.nii.gz' % c for c in range(COUNT)]} for f in @datalist if f.endswith('_0000.nii.gz')]"
CHANNEL_FILES = re.compile(re.escape(_CHANNEL_FILES).replace("COUNT", "[1-9][0-9]?"))
"""The expression that gathers the channel files of each case; only the count of channels varies."""


def channel_files(count: int) -> str:
    """The expression for so many channels, each a file of its own."""
    return _CHANNEL_FILES.replace("COUNT", str(count))


_SUPERVISED = "device max_epochs epoch_length train_data_loader val_data_loader network optimizer loss_function inferer"

TARGETS: dict[str, frozenset[str]] = {
    name: frozenset(arguments.split())
    for name, arguments in {
        "monai.transforms.Compose": "transforms",
        "monai.transforms.LoadImaged": "keys reader image_only",
        "monai.transforms.SaveImaged": (
            "keys writer output_dir output_postfix output_ext output_dtype separate_folder resample print_log"
        ),
        "monai.transforms.EnsureChannelFirstd": "keys",
        "monai.transforms.Orientationd": "keys axcodes labels",
        "monai.transforms.Spacingd": "keys pixdim mode padding_mode",
        "monai.transforms.ScaleIntensityRanged": "keys a_min a_max b_min b_max clip",
        "monai.transforms.NormalizeIntensityd": "keys subtrahend divisor nonzero channel_wise",
        "monai.transforms.ThresholdIntensityd": "keys threshold above cval",
        "monai.transforms.MapLabelValued": "keys orig_labels target_labels",
        "monai.transforms.EnsureTyped": "keys track_meta",
        "monai.transforms.SpatialPadd": "keys spatial_size mode",
        "monai.transforms.ClassesToIndicesd": "keys num_classes max_samples_per_class",
        "monai.transforms.RandCropByLabelClassesd": (
            "keys label_key spatial_size num_classes num_samples indices_key ratios warn"
        ),
        "monai.transforms.RandSpatialCropd": "keys roi_size random_size",
        "monai.transforms.RandAffined": "keys prob rotate_range scale_range translate_range mode padding_mode",
        "monai.transforms.RandFlipd": "keys prob spatial_axis",
        "monai.transforms.RandGaussianNoised": "keys prob mean std",
        "monai.transforms.RandGaussianSmoothd": "keys prob sigma_x sigma_y sigma_z",
        "monai.transforms.RandScaleIntensityd": "keys prob factors channel_wise",
        "monai.transforms.RandShiftIntensityd": "keys prob offsets channel_wise",
        "monai.transforms.RandAdjustContrastd": "keys prob gamma",
        "monai.transforms.AsDiscreted": "keys argmax to_onehot rounding",
        "monai.transforms.Invertd": "keys transform orig_keys nearest_interp to_tensor",
        "monai.transforms.KeepLargestConnectedComponentd": "keys applied_labels is_onehot independent connectivity",
        "monai.transforms.FillHolesd": "keys applied_labels connectivity",
        "monai.data.Dataset": "data transform",
        "monai.data.CacheDataset": "data transform cache_rate cache_num num_workers progress copy_cache",
        "monai.data.DataLoader": "dataset batch_size shuffle sampler num_workers persistent_workers drop_last",
        "torch.utils.data.RandomSampler": "data_source replacement num_samples",
        "monai.networks.nets.UNet": (
            "spatial_dims in_channels out_channels channels strides kernel_size up_kernel_size num_res_units norm dropout"
        ),
        "monai.networks.nets.DynUNet": (
            "spatial_dims in_channels out_channels kernel_size strides upsample_kernel_size filters norm_name res_block "
            "deep_supervision deep_supr_num dropout"
        ),
        "monai.losses.DiceCELoss": (
            "include_background to_onehot_y sigmoid softmax squared_pred batch smooth_nr smooth_dr lambda_dice lambda_ce"
        ),
        "monai.losses.DeepSupervisionLoss": "loss weight_mode",
        "torch.optim.AdamW": "params lr weight_decay betas",
        "torch.optim.SGD": "params lr momentum nesterov weight_decay",
        "monai.inferers.SimpleInferer": "",
        "monai.inferers.SlidingWindowInferer": (
            "roi_size sw_batch_size overlap mode sigma_scale padding_mode cval progress cache_roi_weight_map"
        ),
        "monai.handlers.MeanDice": "include_background output_transform num_classes",
        "monai.handlers.from_engine": "keys first",
        "monai.handlers.CheckpointLoader": "load_path load_dict map_location strict",
        "monai.engines.SupervisedTrainer": f"{_SUPERVISED} train_handlers postprocessing key_train_metric decollate amp",
        "monai.engines.SupervisedEvaluator": f"{_SUPERVISED} val_handlers postprocessing key_val_metric amp",
        "volseg.training.fold_cases": "dataset_dir part fold record",
        "volseg.training.Budget": "epochs minutes steps_per_epoch",
        "volseg.training.BudgetedRate": "optimizer budget power warm_up",
        "volseg.training.PacedValidation": "evaluator budget share",
        "volseg.training.AutocastInferer": "inferer",
        "volseg.training.EvaluatedDice": "include_background output_transform",
        "volseg.training.WeightAverage": "network decay",
    }.items()
}

FIXED_ARGUMENTS: dict[str, dict[str, str | bool]] = {
    # A reader or writer is a class by its name; these are the ones that volseg plan writes.
    "monai.transforms.LoadImaged": {"reader": "NibabelReader"},
    # Where it writes and under which names, a stranger doesn't choose.
    "monai.transforms.SaveImaged": {
        "writer": "NibabelWriter", "output_dir": "@output_dir", "output_postfix": "", "output_ext": ".nii.gz",
        "separate_folder": False,
    },
    "monai.handlers.CheckpointLoader": {"load_path": "$@bundle_root + '/models/model.pt'"},
    # The data set that volseg has checked is the one that is read.
    "volseg.training.fold_cases": {"dataset_dir": "@dataset_dir", "record": "@cases_record"},
}  # fmt: skip
"""Targets whose named arguments must be there with exactly that value."""

FIXED_KEYS = {"output_dir": "$@bundle_root + '/eval'"}
"""Keys at the top of a config that must have exactly that value where they are there."""

PLACES = {"monai.transforms.SaveImaged": re.compile(r"postprocessing#transforms#[0-9]+")}
"""Targets that may stand in one place only: volseg leaves this step out and writes masks itself."""

DATA_SETS = frozenset({"monai.data.Dataset", "monai.data.CacheDataset"})
"""Their ``data`` names files, and a damaged one is handed from reader to reader: no list of a stranger's choice."""
DATA_SOURCE = "volseg.training.fold_cases"
DATA_EXPRESSIONS = frozenset({ONE_FILE})
"""What ``data`` may be, beside ``CHANNEL_FILES`` and a ``DATA_SOURCE``."""

COMPONENT_KEYS = frozenset({"_target_", "_desc_"})
"""What a component may hold beside its arguments: no ``_mode_`` (it can start a debugger), no ``_requires_``."""

"""Predict with nnU-Net's own predictor, run by an interpreter that has ``nnunetv2``: the peer of ``scripts/bench/predict``.

It is used as it comes, on the CPU, without mirroring; the network is a traced one, given to it in place of its own.

Usage: predict_nnunet.py JSON, with network, image, out, classes, patch and spacing (z, y, x)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

RESAMPLING = "resample_data_or_seg_to_shape"


def plans_of(wanted: dict[str, object]) -> dict[str, object]:
    """What nnU-Net's planner would write, as far as prediction reads it."""
    smooth = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    linear = smooth | {"order": 1}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": wanted["patch"],
        "median_image_size_in_voxels": wanted["patch"],
        "spacing": wanted["spacing"],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": RESAMPLING,
        "resampling_fn_seg": RESAMPLING,
        "resampling_fn_probabilities": RESAMPLING,
        "resampling_fn_data_kwargs": smooth,
        "resampling_fn_seg_kwargs": smooth | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities_kwargs": linear,
        "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
        "batch_dice": False,
    }
    return {
        "dataset_name": "Dataset001_bench",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": wanted["spacing"],
        "original_median_shape_after_transp": wanted["patch"],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {
                "max": 300,
                "mean": 20,
                "median": 20,
                "min": -1000,
                "percentile_00_5": -100,
                "percentile_99_5": 200,
                "std": 50,
            }
        },
    }


def main() -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    wanted = json.loads(sys.argv[1])
    network = torch.jit.load(wanted["network"]).eval()
    labels = {"background": 0} | {f"organ {label}": label for label in range(1, wanted["classes"])}
    plans = PlansManager(plans_of(wanted))
    predictor = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        network,
        plans,
        plans.get_configuration("3d_fullres"),
        [network.state_dict()],
        {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz", "numTraining": 1},
        "nnUNetTrainer",
        None,
    )
    out = Path(wanted["out"])
    out.mkdir(exist_ok=True)
    predictor.predict_from_files(
        [[wanted["image"]]],
        [str(out / "ct")],
        save_probabilities=False,
        overwrite=True,
        num_processes_preprocessing=1,
        num_processes_segmentation_export=1,
    )


if __name__ == "__main__":  # its processes import this file
    main()

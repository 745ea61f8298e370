"""A bundle as the MONAI Model Zoo has them: JSON, short names, expressions, handlers and code of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8, 16],
    "strides": [2, 2],
    "num_res_units": 1,
    "norm": "batch",
}
READING = [
    {"_target_": "LoadImaged", "keys": ["image", "label"]},
    {"_target_": "EnsureChannelFirstd", "keys": ["image", "label"]},
    {"_target_": "Orientationd", "keys": ["image", "label"], "axcodes": "RAS"},
    {"_target_": "Spacingd", "keys": ["image", "label"], "pixdim": [1.0, 1.0, 1.2], "mode": ["bilinear", "nearest"]},
    {"_target_": "scripts.window.Windowd", "keys": ["image"], "low": 50.0, "high": 350.0},
]
SCRIPT = '''\
"""A transform of the bundle's own."""

from monai.transforms import MapTransform


class Windowd(MapTransform):
    def __init__(self, keys, low, high):
        super().__init__(keys)
        self.low, self.high = low, high

    def __call__(self, data):
        found = dict(data)
        for key in self.key_iterator(found):
            found[key] = (found[key] - self.low) / (self.high - self.low)
        return found
'''


def write_zoo_bundle(root: Path, dataset_dir: Path, *, epochs: int = 2) -> Path:
    """Write the bundle for data as those of the fixture ``cohort``; the last two cases are held out."""
    start: dict[str, Any] = {
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": str(dataset_dir),
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": NETWORK,
        "network": "$@network_def.to(@device)",
    }
    train = start | {
        "imports": ["$import glob", "$import os", "$import ignite"],
        "ckpt_dir": "$@bundle_root + '/models'",
        "images": "$list(sorted(glob.glob(@dataset_dir + '/imagesTr/*.nii.gz')))",
        "labels": "$list(sorted(glob.glob(@dataset_dir + '/labelsTr/*.nii.gz')))",
        "val_interval": 1,
        "loss": {"_target_": "DiceCELoss", "to_onehot_y": True, "softmax": True, "batch": True},
        "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()", "lr": 0.01},
        "lr_scheduler": {
            "_target_": "torch.optim.lr_scheduler.StepLR", "optimizer": "@optimizer", "step_size": 1, "gamma": 0.5,
        },
        "train": {
            "deterministic_transforms": READING,
            "random_transforms": [
                {
                    "_target_": "RandCropByPosNegLabeld", "keys": ["image", "label"], "label_key": "label",
                    "spatial_size": [16, 16, 16], "pos": 1, "neg": 1, "num_samples": 2,
                },
                {"_target_": "EnsureTyped", "keys": ["image", "label"]},
            ],
            "preprocessing": {
                "_target_": "Compose", "transforms": "$@train#deterministic_transforms + @train#random_transforms",
            },
            "dataset": {
                "_target_": "CacheDataset",
                "data": "$[{'image': i, 'label': l} for i, l in zip(@images[:-2], @labels[:-2])]",
                "transform": "@train#preprocessing", "cache_rate": 1.0, "num_workers": 1, "progress": False,
            },
            "dataloader": {
                "_target_": "DataLoader", "dataset": "@train#dataset", "batch_size": 2, "shuffle": True,
                "num_workers": 0,
            },
            "inferer": {"_target_": "SimpleInferer"},
            "postprocessing": {
                "_target_": "Compose",
                "transforms": [
                    {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                    {
                        "_target_": "AsDiscreted", "keys": ["pred", "label"], "argmax": [True, False], "to_onehot": 3,
                    },
                ],
            },
            "handlers": [
                {"_target_": "LrScheduleHandler", "lr_scheduler": "@lr_scheduler", "print_lr": True},
                {
                    "_target_": "ValidationHandler", "validator": "@validate#evaluator", "epoch_level": True,
                    "interval": "@val_interval",
                },
                {
                    "_target_": "StatsHandler", "tag_name": "train_loss",
                    "output_transform": "$monai.handlers.from_engine(['loss'], first=True)",
                },
            ],
            "key_metric": {
                "train_accuracy": {
                    "_target_": "ignite.metrics.Accuracy",
                    "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
                }
            },
            "trainer": {
                "_target_": "SupervisedTrainer", "max_epochs": epochs, "device": "@device",
                "train_data_loader": "@train#dataloader", "network": "@network", "loss_function": "@loss",
                "optimizer": "@optimizer", "inferer": "@train#inferer", "postprocessing": "@train#postprocessing",
                "key_train_metric": "@train#key_metric", "train_handlers": "@train#handlers", "amp": False,
            },
        },
        "validate": {
            "preprocessing": {"_target_": "Compose", "transforms": "%train#deterministic_transforms"},
            "dataset": {
                "_target_": "Dataset",
                "data": "$[{'image': i, 'label': l} for i, l in zip(@images[-2:], @labels[-2:])]",
                "transform": "@validate#preprocessing",
            },
            "dataloader": {
                "_target_": "DataLoader", "dataset": "@validate#dataset", "batch_size": 1, "num_workers": 0,
            },
            "inferer": {
                "_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 4, "overlap": 0.5,
            },
            "postprocessing": "%train#postprocessing",
            "handlers": [
                {"_target_": "StatsHandler", "iteration_log": False},
                {
                    "_target_": "CheckpointSaver", "save_dir": "@ckpt_dir", "save_dict": {"model": "@network"},
                    "save_key_metric": True, "key_metric_filename": "model.pt",
                },
            ],
            "key_metric": {
                "val_mean_dice": {
                    "_target_": "MeanDice", "include_background": False,
                    "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
                }
            },
            "evaluator": {
                "_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@validate#dataloader",
                "network": "@network", "inferer": "@validate#inferer", "postprocessing": "@validate#postprocessing",
                "key_val_metric": "@validate#key_metric", "val_handlers": "@validate#handlers", "amp": False,
            },
        },
        "initialize": ["$monai.utils.set_determinism(seed=123)"],
        "run": ["$@train#trainer.run()"],
    }  # fmt: skip
    inference = start | {
        "imports": ["$import glob", "$import os"],
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                *({**step, "keys": "image"} | ({"mode": "bilinear"} if "mode" in step else {}) for step in READING),
                {"_target_": "EnsureTyped", "keys": "image"},
            ],
        },
        "inferer": {
            "_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 4, "overlap": 0.5,
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
                    "meta_key_postfix": "meta_dict", "nearest_interp": False, "to_tensor": True,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {"_target_": "SaveImaged", "keys": "pred", "meta_keys": "pred_meta_dict", "output_dir": "@output_dir"},
            ],
        },
    }  # fmt: skip
    metadata = _metadata(1, "magnitude", {0: "background", 1: "shell", 2: "core"})
    for name, content in (("train", train), ("inference", inference), ("metadata", metadata)):
        (root / "configs").mkdir(parents=True, exist_ok=True)
        (root / "configs" / f"{name}.json").write_text(json.dumps(content, indent=4))
    (root / "scripts").mkdir()
    (root / "scripts" / "__init__.py").write_text("from .window import Windowd\n")
    (root / "scripts" / "window.py").write_text(SCRIPT)
    return root


MERGED = {
    "_target_": "Lambdad",
    "keys": "pred",
    "func": "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, torch.where(x[[1]] > 0, 2, 0)))",
}
"""The step of the Zoo's tumour bundle that makes one mask of three that overlap."""
THRESHOLDED = {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}
INVERTED = {
    "_target_": "Invertd",
    "keys": "pred",
    "transform": "@preprocessing",
    "orig_keys": "image",
    "nearest_interp": False,
}


def write_sigmoid_bundle(
    root: Path,
    above: tuple[float, ...] = (200.0, 100.0, 300.0),
    names: tuple[str, ...] = ("Tumor core", "Whole tumor", "Enhancing tumor"),
    steps: tuple[dict[str, Any], ...] = (INVERTED, THRESHOLDED, MERGED),
) -> Path:
    """Write a bundle, with weights, whose outputs overlap: each is where the image is above a value.

    Args:
        root: where.
        above: the value of each output.
        names: of the outputs.
        steps: of the postprocessing between the sigmoid and the step that saves.
    """
    network = torch.nn.Conv3d(1, len(above), 1)
    with torch.no_grad():
        network.weight.fill_(1.0)
        network.bias.copy_(-torch.tensor(above))  # type: ignore[union-attr]
    inference = {
        "imports": ["$import torch"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "cpu",
        "network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": len(above), "kernel_size": 1},
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            ],
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "overlap": 0.5},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
                *steps,
                {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
            ],
        },
    }
    metadata = _metadata(1, "magnitude", dict(enumerate(names)))
    for name, content in (("inference", inference), ("metadata", metadata)):
        (root / "configs").mkdir(parents=True, exist_ok=True)
        (root / "configs" / f"{name}.json").write_text(json.dumps(content, indent=4))
    (root / "models").mkdir()
    torch.save(network.state_dict(), root / "models" / "model.pt")
    return root


def _metadata(channels: int, kind: str, classes: dict[int, str]) -> dict[str, Any]:
    common = {
        "type": "image",
        "spatial_shape": [16, 16, 16],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": True,
    }
    image = {"format": kind, "num_channels": channels, "channel_def": {"0": "image"}}
    pred = {
        "format": "segmentation",
        "num_channels": len(classes),
        "channel_def": {str(k): v for k, v in classes.items()},
    }
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": "0.1.0", "monai_version": "1.4.0", "pytorch_version": "2.4.0", "numpy_version": "1.24.4",
        "required_packages_version": {}, "task": "Segmentation", "description": "For tests", "authors": "nobody",
        "copyright": "nobody",
        "network_data_format": {"inputs": {"image": common | image}, "outputs": {"pred": common | pred}},
    }  # fmt: skip

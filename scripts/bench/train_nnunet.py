"""Train with nnU-Net's own trainer, run by an interpreter that has ``nnunetv2``: the peer of ``scripts/bench/train``.

It is used as it comes, on the CPU; only the number of steps and of validation batches is set. Prints JSON lines.

Usage: train_nnunet.py preprocess | train STEPS STEPS_PER_EPOCH [--validate]
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch

DATASET_ID = 4


def preprocess() -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess_dataset,
    )

    cores = len(os.sched_getaffinity(0))
    extract_fingerprints([DATASET_ID], num_processes=cores)
    plan_experiments([DATASET_ID])
    preprocess_dataset(DATASET_ID, configurations=("3d_fullres",), num_processes=(cores,))


def train(steps: int, steps_per_epoch: int, *, validate: bool) -> None:
    from nnunetv2.run.run_training import get_trainer_from_args

    trainer = get_trainer_from_args(str(DATASET_ID), "3d_fullres", 0, device=torch.device("cpu"))
    trainer.num_iterations_per_epoch = steps_per_epoch
    trainer.num_epochs = max(1, steps // steps_per_epoch)
    trainer.num_val_iterations_per_epoch = 1
    step, before = trainer.train_step, [0.0]
    ended: list[float] = []

    def timed(batch: object) -> object:
        result = step(batch)
        ended.append(time.monotonic() - before[0])
        before[0] = time.monotonic()
        return result

    begin_epoch = trainer.on_train_epoch_start

    def began() -> None:
        begin_epoch()
        before[0] = time.monotonic()  # what lies between epochs is no step's

    trainer.train_step, trainer.on_train_epoch_start = timed, began
    trainer.run_training()
    if validate:
        trainer.perform_actual_validation()
    parameters = sum(weight.numel() for weight in trainer.network.parameters())
    print(json.dumps({"seconds": ended, "parameters": parameters, "output": str(Path(trainer.output_folder))}))


def main() -> None:
    if sys.argv[1] == "preprocess":
        preprocess()
    else:
        train(int(sys.argv[2]), int(sys.argv[3]), validate="--validate" in sys.argv)


if __name__ == "__main__":  # its processes import this file
    main()

"""Train a bundle's network with MONAI's CacheDataset and ThreadDataLoader: the peer of ``scripts/bench/train``.

The transforms, the network, the loss and the optimizer are those of the bundle's train config. Prints a JSON line.

Usage: train_monai.py BUNDLE STEPS {float32,bfloat16}
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.data import CacheDataset, ThreadDataLoader

from volseg.training import fold_cases


def main() -> None:
    bundle, steps, precision = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    os.chdir(bundle)  # dataset_dir is relative to it
    parser = ConfigParser(ConfigParser.load_config_file("configs/train.yaml"))
    parser["device"] = torch.device("cpu")
    network, loss = parser.get_parsed_content("network"), parser.get_parsed_content("loss")
    optimizer = parser.get_parsed_content("optimizer")
    cases = fold_cases(parser["dataset_dir"], "training", 0, None)
    dataset = CacheDataset(cases, parser.get_parsed_content("train#preprocessing"), num_workers=2, progress=False)
    # MONAI's tutorials for quick training: threads, none for data that are cached already.
    loader = ThreadDataLoader(dataset, batch_size=parser["batch_size"], shuffle=True, num_workers=0, drop_last=True)
    network.train()
    seconds: list[float] = []
    before = time.monotonic()
    while len(seconds) < steps:
        for batch in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                logits = network(batch["image"]).float()
            heads = list(torch.unbind(logits, dim=1)) if logits.ndim == batch["image"].ndim + 1 else logits
            loss(heads, batch["label"]).backward()
            optimizer.step()
            seconds.append(time.monotonic() - before)
            before = time.monotonic()
            if len(seconds) == steps:
                break
    parameters = sum(weight.numel() for weight in network.parameters())
    print(json.dumps({"seconds": seconds, "parameters": parameters}))


main()

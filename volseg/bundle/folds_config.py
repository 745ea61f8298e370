"""``configs/inference_folds.yaml``: the inference config with the weights of several folds, for MONAI's own runner."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from volseg.bundle.ensemble import averaged_as
from volseg.bundle.metadata import at
from volseg.bundle.vocabulary import COPIED_NETWORK, fold_weights
from volseg.errors import BundleError
from volseg.planning.component import component

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from volseg.planning.component import Component, ConfigValue

FOLDS_CONFIG = "inference_folds"


def folds_config(inference: Mapping[str, ConfigValue], folds: Sequence[int]) -> Component:
    """The inference config of one model made that of the models of several folds, in stock MONAI targets.

    MONAI's ``EnsembleEvaluator`` runs one network after the other, ``MeanEnsembled`` averages their probabilities, and
    what follows is done with the mean.

    Args:
        inference: as ``volseg plan`` writes it; it stays as it is.
        folds: whose weights.

    Raises:
        BundleError: its postprocessing doesn't tell which probabilities to average, or it is otherwise written.
    """
    config = deepcopy(dict(inference))
    steps, imports = at(config, "postprocessing", "transforms"), config.get("imports")
    if not isinstance(steps, list) or not isinstance(imports, list):
        raise BundleError(
            "The inference config is not as volseg plan writes it, so none for several networks is made of it."
        )
    how, place = averaged_as(steps)
    outputs: list[ConfigValue] = [f"pred_{number}" for number in range(len(folds))]
    config["imports"] = [*imports, "$import copy"]
    config["networks"] = [COPIED_NETWORK] * len(folds)
    config["postprocessing"] = component(
        "monai.transforms.Compose",
        transforms=[
            component("monai.transforms.Activationsd", keys=outputs, **{how: True}),
            component("monai.transforms.MeanEnsembled", keys=outputs, output_key="pred"),
            *(step for number, step in enumerate(steps) if number != place),
        ],
    )
    config["handlers"] = [
        component(
            "monai.handlers.CheckpointLoader",
            load_path=fold_weights(fold),
            load_dict={"model": f"@networks#{number}"},
            map_location="@device",
        )
        for number, fold in enumerate(folds)
    ]
    config["evaluator"] = component(
        "monai.engines.EnsembleEvaluator",
        device="@device",
        val_data_loader="@dataloader",
        networks="@networks",
        pred_keys=outputs,
        inferer="@inferer",
        postprocessing="@postprocessing",
        val_handlers="@handlers",
    )
    return config

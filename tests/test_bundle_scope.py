"""What is more, or something else, than a network from an image to a mask."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.zoo import write_zoo_bundle
from volseg.bundle.scope import beyond_masks
from volseg.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

MASK = {"type": "image", "format": "segmentation", "num_channels": 2, "spatial_shape": [96, 96, 96]}
IMAGE = {"type": "image", "format": "magnitude", "num_channels": 1, "spatial_shape": [96, 96, 96]}
UNET = {"_target_": "UNet", "spatial_dims": 3}
DISCRETE = {"_target_": "Compose", "transforms": [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}]}


def metadata(pred: dict[str, Any], image: dict[str, Any] = IMAGE) -> dict[str, Any]:
    return {"network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}}}


@pytest.mark.parametrize(
    ("about", "config", "code", "words"),
    [
        (metadata(MASK), {"network_def": UNET}, None, ""),
        (metadata({**MASK, "format": "labels"}), {"network_def": UNET}, None, ""),
        (metadata({**MASK, "format": "magnitude"}), {"network_def": UNET, "postprocessing": DISCRETE}, None, ""),
        (metadata(MASK), {"input_dict": "${'image': 'a', 'label_prompt': [3]}"}, "needs-prompts", "prompts"),
        (metadata(MASK), {"evaluator": {"hyper_kwargs": {"user_prompt": True}}}, "needs-prompts", "points"),
        (metadata({**MASK, "type": "object", "format": "dict"}), {}, "no-segmentation", "a list of findings"),
        (metadata({**MASK, "type": "tuples", "format": "points"}), {}, "no-segmentation", "points"),
        (metadata({**MASK, "format": "magnitude"}), {}, "no-segmentation", "an image"),
        (metadata({**MASK, "type": "feature", "format": "image"}), {}, "no-segmentation", "features"),
        (metadata(MASK), {"network_def": {"_target_": "RetinaNet"}}, "no-segmentation", "boxes"),
        (
            metadata(MASK),
            {"network_def": {"_target_": "monai.networks.nets.DiffusionModelUNet"}},
            "no-segmentation",
            "",
        ),
        (metadata(MASK), {"network_def": {"_target_": "DenseNet121"}}, "no-segmentation", "classes"),
        (metadata(MASK), {"network_def": {**UNET, "spatial_dims": 2}}, "no-segmentation", "flat"),
        (metadata(MASK, {**IMAGE, "spatial_shape": [256, 256]}), {}, "no-segmentation", "two axes"),
        (
            metadata(MASK, {**IMAGE, "spatial_shape": [256, 256]}),
            {"network_def": {**UNET, "spatial_dims": 2}, "inferer": {"_target_": "SliceInferer"}},
            None,
            "",
        ),
        ({"autoencoder_data_format": {}, "generator_data_format": {}}, {}, "no-segmentation", "several networks"),
        ({}, {"network_def": UNET}, None, ""),
    ],
)
def test_by_metadata_and_config(about: dict[str, Any], config: dict[str, Any], code: str | None, words: str) -> None:
    found = beyond_masks({"metadata": about, "inference": config})
    if code is None:
        assert found is None
    else:
        assert found is not None
        assert found[0] == code
        assert words in found[1]


@pytest.mark.parametrize("verb", ["check", "predict", "train"])
def test_each_verb_says_it_in_one_sentence_before_trust(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_zoo_bundle(tmp_path / "bundle", tmp_path)
    path = root / "configs" / "inference.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"point_prompts": None}))
    others = [str(tmp_path), str(tmp_path / "masks")] if verb == "predict" else []
    assert main([verb, str(root), *others]) == (1 if verb == "check" else 2)
    told = capsys.readouterr()
    said = told.out if verb == "check" else told.err
    assert "needs prompts for each image" in said
    assert "trusted" not in said
    assert len(said.splitlines()) == (2 if verb == "check" else 1)

"""What masks of a bundle mean: names only where metadata and inference config leave no doubt."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from volseg.bundle.folder import Bundle
from volseg.bundle.outputs import Meaning, Outputs, meaning_of, outputs_of
from volseg.bundle.write import bundle_metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import MakeBundle, MakePlan

ZOO = Path(__file__).resolve().parents[1].parent / "shared" / "zoo"

SOFTMAX = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
SIGMOID = {"_target_": "monai.transforms.Activationsd", "keys": ["pred"], "sigmoid": [True]}
INVERT = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image"}
ARGMAX = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
CUT = {"_target_": "AsDiscreteDict", "keys": "pred", "threshold": 0.5}
MERGE = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x[[0]] + 2 * x[[1]]"}
OWN = {"_target_": "scripts.mine.Mergedd", "keys": "pred"}
SAVE = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"}


def inference(*steps: object, **others: Any) -> dict[str, Any]:
    return {"postprocessing": {"_target_": "Compose", "transforms": list(steps)}, **others}


def metadata(classes: object, **pred: Any) -> dict[str, Any]:
    found = {"num_channels": len(classes) if isinstance(classes, dict) else 3, "channel_def": classes}
    return {"network_data_format": {"outputs": {"pred": found | pred}}}


LIVER = {"0": "background", "1": "liver", "2": "spleen"}
TUMOUR = {"0": "Tumor core", "1": "Whole tumor", "2": "Enhancing tumor"}


@pytest.mark.parametrize(
    ("steps", "outputs"),
    [
        ([SOFTMAX, INVERT, ARGMAX, SAVE], Outputs.LABELS),
        ([ARGMAX | {"keys": ["pred", "label"], "argmax": [True, False]}, INVERT, SAVE], Outputs.LABELS),
        ([SIGMOID, ARGMAX], Outputs.LABELS),
        ([{"_target_": "EnsureTyped", "keys": "@pred"}, SOFTMAX | {"keys": "@pred"}, ARGMAX | {"keys": "@pred"}], Outputs.LABELS),
        ([ARGMAX, {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1]}], Outputs.LABELS),
        ([ARGMAX, OWN | {"keys": "label"}], Outputs.LABELS),
        ([ARGMAX, OWN | {"_disabled_": True}], Outputs.LABELS),
        ([{"_target_": "Compose", "transforms": [SOFTMAX, ARGMAX]}, INVERT], Outputs.LABELS),
        ([ARGMAX, OWN], Outputs.UNKNOWN),
        ([ARGMAX, MERGE], Outputs.UNKNOWN),
        ([ARGMAX | {"argmax": "@is_argmax"}, OWN | {"keys": "$['pred']"}], Outputs.UNKNOWN),
        ([ARGMAX | {"to_onehot": 3}], Outputs.UNKNOWN),
        ([ARGMAX, {"_target_": "MapLabelValued", "keys": "pred", "orig_labels": [1, 2], "target_labels": [2, 1]}], Outputs.UNKNOWN),
        ([MERGE, ARGMAX], Outputs.UNKNOWN),
        ([SOFTMAX | {"other": "$lambda x: x.flip(0)"}, ARGMAX], Outputs.UNKNOWN),
        ([SOFTMAX, SAVE], Outputs.UNKNOWN),
        (["$@made_elsewhere"], Outputs.UNKNOWN),
        ([], Outputs.UNKNOWN),
        ([{"_target_": "scripts.ARGMAX.AsDiscreted", "keys": "pred", "argmax": True}], Outputs.UNKNOWN),
        ([SIGMOID, INVERT, CUT, MERGE, SAVE], Outputs.REGIONS),
        ([INVERT, SIGMOID | {"softmax": False}, CUT, OWN, SAVE], Outputs.REGIONS),
        ([SIGMOID, CUT, SAVE], Outputs.REGIONS),
        ([CUT | {"threshold": 0}], Outputs.REGIONS),
        ([SIGMOID, MERGE], Outputs.REGIONS),
        ([SIGMOID, SAVE], Outputs.REGIONS),
    ],
)  # fmt: skip
def test_labels_or_regions(steps: list[object], outputs: Outputs) -> None:
    config = inference(*steps, is_argmax=True)
    assert outputs_of(config) is outputs
    if outputs is not Outputs.LABELS:  # no name without certainty, whatever the metadata says
        assert not set(meaning_of(metadata(LIVER), config).table.names) & set(LIVER.values())


@pytest.mark.parametrize(
    "config", [{}, {"postprocessing": None}, {"postprocessing": "$x"}, {"postprocessing": [ARGMAX]}]
)
def test_no_postprocessing_that_can_be_read(config: dict[str, Any]) -> None:
    assert outputs_of(config) is Outputs.UNKNOWN


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (metadata({"1": "liver", "2": "spleen", "3": "tumour"}), "the keys of channel_def"),
        (metadata({"0": "liver", "1": "background", "2": "spleen"}), "no background at 0"),
        (metadata({"0": "liver", "1": "spleen", "2": "tumour"}), "no background at 0"),
        (metadata({"0": "background", "1": "liver", "3": "spleen"}), "the keys of channel_def"),
        (metadata({"0": "background", "1": "liver", "02": "spleen"}), "the keys of channel_def"),
        (metadata({"0": "background", "1": "liver", "spleen": "2"}), "the keys of channel_def"),
        (metadata({"0": "background", "1": {"name": "liver"}, "2": "spleen"}), "no plain text"),
        (metadata({"0": "background", "1": "liver\n2 spleen", "2": "spleen"}), "no plain text"),
        (metadata({"0": "background", "1": "l" * 201, "2": "spleen"}), "no plain text"),
        (metadata({"0": "background", "1": "", "2": "spleen"}), "no plain text"),
        (metadata({"0": "background", "1": "liver", "2": "Liver "}), "one name"),
        (metadata({"outer": LIVER}, num_channels=3), "names 1 outputs, and the network has 3"),
        (metadata(["background", "liver", "spleen"]), "has no channel_def"),
        (metadata(None), "has no channel_def"),
        (metadata(LIVER, num_channels=2), "the network has 3 outputs, and the metadata says 2"),
        (metadata(LIVER | {"3": "tumour"}, num_channels=3), "names 4 outputs, and the network has 3"),
        ({"network_data_format": {"outputs": {"other": {"num_channels": 3, "channel_def": LIVER}}}}, "has no channel_def"),
        ({"network_data_format": {"outputs": {"pred": {"num_channels": 3, "label_def": LIVER}}}}, "has no channel_def"),
        ({}, "has no channel_def"),
    ],
)  # fmt: skip
def test_names_that_may_lie_are_not_taken(changed: dict[str, Any], says: str) -> None:
    found = meaning_of(changed, inference(SOFTMAX, ARGMAX, network_def={"out_channels": "@count"}, count=3))
    assert says in found.why
    assert found.table.names == ("label 1", "label 2")
    assert found.outputs is Outputs.LABELS
    assert found.regions == ()


@pytest.mark.parametrize("count", [None, "$len(@x)", 10**9, -1, "3", True])
def test_without_a_count_of_outputs_there_are_no_names(count: object) -> None:
    found = meaning_of(metadata(LIVER, num_channels=count), inference(ARGMAX, network_def={"out_channels": count}))
    assert found.table.names == ()
    assert "how many outputs" in found.why


@pytest.mark.parametrize("zero", ["background", "Background", "back ground", "BG", "everything else", "unlabeled"])
@pytest.mark.parametrize("order", [("0", "1", "2"), ("2", "0", "1"), (2, 1, 0)])
def test_names_that_are_sure(zero: str, order: tuple[str | int, ...]) -> None:
    names = LIVER | {"0": zero}
    found = meaning_of(metadata({key: names[str(key)] for key in order}), inference(SOFTMAX, INVERT, ARGMAX))
    assert (found.table.indices, found.table.names, found.why) == ((1, 2), ("liver", "spleen"), "")


def table_of(content: object) -> Meaning:
    return meaning_of({"label_table": content} | metadata(LIVER), inference(SIGMOID, CUT, MERGE))


def test_a_table_of_values_goes_before_the_outputs() -> None:
    found = table_of({"0": "background", 1: "core", "4": "enhancing"})
    assert (found.table.indices, found.table.names, found.why) == ((1, 4), ("core", "enhancing"), "")
    assert table_of({"7": "core"}).table.indices == (7,)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "is not a mapping"),
        ({}, "no label above the background"),
        ({"0": "background"}, "no label above the background"),
        ({"0": "liver", "1": "spleen"}, "0 is not called background"),
        ({"one": "liver", "0": "background", "2": "x"}, "'one' is no whole number"),
        ({"-1": "liver", "2": "x"}, "'-1' is no whole number"),
        ({"70000": "liver", "2": "x"}, "no whole number up to 65535"),
        ({"0": "background", "1": "a", "2": "a"}, "twice"),
        ({"1": "a", "01": "b"}, "'01' is no whole number"),
        ({"1": " ", "2": "b"}, "has no name"),
        ({"1": 5, "2": "b"}, "has no name"),
        ({"1": {"name": "liver"}}, "has no name"),
        ({"1": "liver\x1b[2J"}, "has no name"),
    ],
)  # fmt: skip
def test_a_table_that_makes_no_sense_names_nothing(content: object, says: str) -> None:
    found = table_of(content)
    assert says in found.why
    assert found.why.startswith("label_table: ")
    assert not len(found.table)


def test_regions_are_named_by_the_outputs() -> None:
    found = meaning_of(metadata(TUMOUR), inference(SIGMOID, INVERT, CUT, MERGE, SAVE))
    assert [region.name for region in found.regions] == list(TUMOUR.values())
    assert found.regions_why == ""
    assert "overlap" in found.why


@pytest.mark.parametrize(
    ("classes", "steps", "says"),
    [
        (LIVER, [SIGMOID, CUT, MERGE], "has a background"),
        ({"1": "a", "2": "b", "3": "c"}, [SIGMOID, CUT], "the keys of channel_def"),
        (TUMOUR, [SIGMOID, MERGE], "only the bundle knows"),
        (TUMOUR, [OWN, SIGMOID, CUT], "only the bundle knows"),
        (TUMOUR, [OWN], "only the bundle knows"),
    ],
)
def test_regions_without_sure_names_are_numbered(classes: Any, steps: list[Any], says: str) -> None:
    found = meaning_of(metadata(classes), inference(*steps))
    assert [region.name for region in found.regions] == ["region 1", "region 2", "region 3"]
    assert says in found.regions_why


def test_what_plan_writes_names_its_labels(make_bundle: MakeBundle, make_plan: MakePlan) -> None:
    found = Bundle(make_bundle()).meaning
    written = bundle_metadata(make_plan())["label_table"]
    assert isinstance(written, dict)
    assert found.table.to_dataset_json() == written
    assert found.why == ""


NAMED = {
    "multi_organ_segmentation": 7, "prostate_mri_anatomy": 2, "segmentation_template": 3, "spleen_ct_segmentation": 1,
    "spleen_deepedit_annotation": 1, "swin_unetr_btcv_segmentation": 13, "wholeBody_ct_segmentation": 104,
}  # fmt: skip
"""Those of the Zoo whose masks are the number of the likeliest output, named by a channel_def that fits."""
OVERLAPPING = {"brats_mri_segmentation": True, "renalStructures_CECT_segmentation": False}
"""Those whose outputs overlap, and whether channel_def names them: one counts a background among them."""


@pytest.mark.skipif(not ZOO.is_dir(), reason="the Zoo's configs are not beside the project")
def test_bundles_of_the_zoo() -> None:
    for folder in sorted(path for path in ZOO.iterdir() if path.is_dir()):
        bundle = Bundle(folder)
        found, told = bundle.meaning, bundle.metadata["network_data_format"]["outputs"]["pred"]  # type: ignore[index,call-overload]
        classes = told.get("channel_def", {})  # type: ignore[union-attr]
        names = [classes[key] for key in sorted(classes, key=int)]  # type: ignore[index,arg-type,call-overload]
        if folder.name in NAMED:
            assert (list(found.table.names), found.why) == (names[1:], ""), folder.name
            assert len(found.table) == NAMED[folder.name]
        else:
            assert found.why, folder.name
            assert not {*names[1:]} & set(found.table.names), folder.name
        assert (found.outputs is Outputs.REGIONS) is (folder.name in OVERLAPPING), folder.name
        if folder.name in OVERLAPPING:
            wanted = names if OVERLAPPING[folder.name] else [f"region {n}" for n in range(1, len(names) + 1)]
            assert [region.name for region in found.regions] == wanted


def test_hostile_configs_are_read_without_an_end(make_bundle: MakeBundle) -> None:
    """Whatever stands in the place of a value, nothing breaks and no name is made up."""
    bundle = make_bundle()
    config = Bundle(bundle).read_config("inference")
    told = json.loads((bundle / "configs" / "metadata.json").read_text())
    own = set(Bundle(bundle).labels.names)

    def require_honest(metadata: dict[str, Any], inference: Any) -> None:
        meaning = meaning_of(metadata, inference)
        names = {*meaning.table.names, *(region.name for region in meaning.regions)}
        assert all(re.fullmatch(r"(label|region) \d+", name) for name in names - own)

    odd: list[Callable[[], object]] = [
        lambda: None, lambda: 5, list, dict, lambda: "x", lambda: [[[]]], lambda: float("nan"), lambda: "@"
    ]  # fmt: skip
    for make in odd:
        for key in ("postprocessing", "network_def"):
            require_honest(told, {**config, key: make()})
        for step in range(3):
            changed: Any = copy.deepcopy(config)
            changed["postprocessing"]["transforms"][step]["_target_"] = make()
            changed["postprocessing"]["transforms"][step]["keys"] = make()
            require_honest(told | {"label_table": make()}, changed)

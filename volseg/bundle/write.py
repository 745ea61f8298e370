"""Write a complete bundle from a plan: configs, metadata, the README that explains it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from typing import TYPE_CHECKING, cast

import yaml

from volseg.atomic import TEMPORARY_MARK, write_bytes, write_error, write_text
from volseg.bundle.configs import inference_config, train_config
from volseg.bundle.folder import CONFIGS
from volseg.bundle.metadata import LABEL_DETAILS
from volseg.bundle.targets import described
from volseg.errors import FileError, InputError, OutputExistsError
from volseg.files import read_bounded
from volseg.outcomes import installed_version, installed_versions
from volseg.planning.table import plan_record, readable
from volseg.words import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from volseg.labels import LabelTable
    from volseg.planning.component import ConfigValue
    from volseg.planning.networks import Network
    from volseg.planning.plan import Plan
    from volseg.planning.target import Target
    from volseg.postprocessing import PostprocessingRules

    Reasons = Sequence[tuple[str, str]]

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
LICENCE = """The weights in this folder are made from the data that they were trained on. Whoever trained them decides
under which licence they may be used, and has to keep to the licence of that data. Put that licence here
before you share this bundle.
"""

RUNNER_PACKAGES = ("nibabel", "pytorch-ignite", "scikit-image")
"""What MONAI's own runner needs beside MONAI, the last for the largest component."""
SCORES_BEGIN, SCORES_END = "<!-- written by volseg train -->", "<!-- to here -->"
"""``volseg train`` writes the scores of its runs between these two lines of ``docs/README.md``."""

PRECISION = """MONAI's own runner computes in float32 and gives the masks of `volseg predict --precision float32`; it holds the
values of all labels for the whole image at once, where `volseg predict` goes slab by slab. By
default `volseg predict` computes in bfloat16 on processors made for it: quicker, and voxels of which the network is nearly
undecided may come out otherwise. `volseg train` counts them on some cases that it holds out, where that takes only seconds, and
says so under Scores. On images of your own:

```
volseg predict BUNDLE_DIR IMAGES EXACT_DIR --precision float32
volseg predict BUNDLE_DIR IMAGES QUICK_DIR --precision bfloat16
volseg evaluate QUICK_DIR EXACT_DIR
```"""

MAX_README_BYTES = 2**20

PLAN_JSON = "plan.json"
"""Beside the configs; for people, and for ``volseg tune``, which makes the same plan again of it."""
FOLDERS = ("docs", "models", CONFIGS)
"""The configs come last: they make a folder a bundle."""


def require_free(bundle_dir: Path) -> None:
    """Refuse a place where something is already.

    Raises:
        OutputExistsError: it is no folder, or not empty.
    """
    if bundle_dir.exists() and (not bundle_dir.is_dir() or any(bundle_dir.iterdir())):
        raise OutputExistsError(
            f"{bundle_dir} is there already and may hold trained weights. Name a new folder for the bundle."
        )


def write_bundle(plan: Plan, dataset_dir: Path, bundle_dir: Path) -> None:
    """Write the bundle beside its place and rename it there; into a folder that is there and empty, move it.

    Raises:
        OutputExistsError: something is there already.
        FileError: the folder can't be written.
    """
    require_free(bundle_dir)
    target = bundle_dir.resolve()
    is_there = target.is_dir()  # a mounted volume or the folder that the person stands in can't be replaced
    relative = os.path.relpath(dataset_dir.resolve(), target)
    unfinished = f".{target.name}{TEMPORARY_MARK}{secrets.token_hex(4)}"
    partial = target / unfinished if is_there else target.with_name(unfinished)
    try:
        partial.mkdir(parents=True)
        for folder in FOLDERS:
            (partial / folder).mkdir()
        for name, config in (("inference", inference_config(plan, relative)), ("train", train_config(plan, relative))):
            (partial / CONFIGS / f"{name}.yaml").write_text(as_yaml(config), encoding="utf-8")
        metadata = json.dumps(bundle_metadata(plan), indent=1) + "\n"
        (partial / CONFIGS / "metadata.json").write_text(metadata, encoding="utf-8")
        if plan.fingerprint is not None:
            record = readable(plan_record(plan, plan.fingerprint)) + "\n"
            (partial / CONFIGS / PLAN_JSON).write_text(record, encoding="utf-8")
        (partial / "docs" / "README.md").write_text(readme(plan), encoding="utf-8")
        (partial / "LICENSE").write_text(LICENCE, encoding="utf-8")
        if is_there:
            for name in ("LICENSE", *FOLDERS):
                (partial / name).replace(target / name)
        else:
            partial.replace(target)
    except OSError as error:
        raise write_error(bundle_dir, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _PlainDumper(yaml.SafeDumper):
    """YAML without anchors: they would only puzzle a reader."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def write_config(path: Path, config: dict[str, ConfigValue]) -> None:
    """Write a config as YAML, atomically.

    Raises:
        FileError: it can't be written.
    """
    write_text(path, as_yaml(config))


def as_yaml(config: dict[str, ConfigValue]) -> str:
    """A config as ``volseg plan`` writes it."""
    return yaml.dump(config, Dumper=_PlainDumper, sort_keys=False, width=118, default_flow_style=None)


def bundle_metadata(plan: Plan) -> dict[str, ConfigValue]:
    """``metadata.json``, after MONAI's schema of 2024-07-25."""
    versions = installed_versions()
    hounsfield = all(one.kind == "percentiles" for one in plan.normalisations)
    target, table = plan.target, plan.target.table
    background: dict[str, ConfigValue] = {"0": "background"}
    outputs = target.names if target.sigmoid else ("background", *target.names)
    classes: dict[str, ConfigValue] = {str(number): name for number, name in enumerate(outputs)}
    channels: dict[str, ConfigValue] = {str(number): name for number, name in enumerate(plan.channels)}
    indices: dict[str, ConfigValue] = {str(label.index): label.name for label in table.labels}
    details = cast("ConfigValue", table.details_to_json())
    required: dict[str, ConfigValue] = {
        name: installed_version(name) for name in (*RUNNER_PACKAGES, *plan.network.packages)
    }
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": "written by volseg plan"},
        "monai_version": versions.get("monai", ""),
        "pytorch_version": versions.get("torch", ""),
        "numpy_version": versions.get("numpy", ""),
        "required_packages_version": required,
        "name": plan.name,
        "task": f"Segmentation of {', '.join(target.names[:8])}{' ...' if len(target.names) > 8 else ''}",
        "description": (
            f"A 3D network ({plan.network.name}) for {' and '.join(plan.channels)} volumes, planned and trained with "
            "volseg."
        ),
        "authors": "to be named by whoever trains it",
        "copyright": "to be named by whoever trains it",
        "intended_use": "Research. Not a medical device; a person has to check every mask.",
        "label_table": background | indices,
        **({LABEL_DETAILS: details} if details else {}),
        **described(target),
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "hounsfield" if hounsfield else "magnitude",
                    "modality": plan.channels[0],
                    "num_channels": len(plan.channels),
                    "spatial_shape": list(plan.patch),
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": channels,
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": len(classes),
                    "spatial_shape": list(plan.patch),
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": True,
                    "channel_def": classes,
                }
            },
        },
    }


def readme(plan: Plan) -> str:
    """``docs/README.md``: what the bundle is, why each choice was made, how to run it."""
    labels = "\n".join(f"| {label.index} | {cell(label.name)} |" for label in plan.target.table.labels)
    warnings = "".join(f"\n> {cell(warning)}\n" for warning in plan.warnings)
    return f"""# {cell(plan.name)}

A MONAI bundle that segments {len(plan.target.names)} structures in {cell(" and ".join(plan.channels))} volumes, planned
from {plan.training_cases} labelled cases with the preset `{plan.preset}`.
{warnings}
## Choices

| choice | reason |
|---|---|
{_choices(plan.reasons)}
| {plan.max_epochs} epochs of {plan.steps_per_epoch} steps | the preset's length; `--minutes` or `--epochs` changes it |

## Labels

| value | structure |
|---|---|
{labels}

## Masks

{_overlap(plan.target)}{_rules(plan.rules, plan.target.table, regions=plan.target.sigmoid)}

{SCORES_BEGIN}
{SCORES_END}

## Use

```
volseg train BUNDLE_DIR --fold 0
volseg predict BUNDLE_DIR IMAGES OUT_DIR
python -m monai.bundle run --meta_file configs/metadata.json --config_file configs/inference.yaml \\
  --dataset_dir DATASET_DIR --output_dir OUT_DIR
```

{_needs(plan.network)} `configs/train.yaml` also names public objects of
`volseg.training`. Runs with their checkpoints, CSV and curve lie in `runs/fold_K/`.
"""


def _needs(network: Network) -> str:
    """What must be installed where the bundle runs."""
    if "volseg" not in network.packages:
        return "`configs/inference.yaml` names stock MONAI targets only."
    return (
        f"`configs/inference.yaml` names stock MONAI targets and `{network.target}`, a network that MONAI lacks: volseg "
        "must be installed wherever it runs."
    )


def _overlap(target: Target) -> str:
    """What a mask that merges regions holds, and how to have each by itself."""
    if not target.sigmoid:
        return ""
    order = ", ".join(f"{cell(region.name)} as {region.value}" for region in target.regions)
    return (
        f"The network gives regions that may overlap. A mask merges them, each painted over the earlier ones: {order}. "
        "`volseg predict --regions` writes one mask for each. What a number stands for in a merged mask stands under "
        "Labels.\n\n"
    )


def _rules(rules: PostprocessingRules, table: LabelTable, *, regions: bool) -> str:
    """What is done with a mask after the network, and by whom."""
    stock, own = rules.to_transforms(table.indices)
    said = "The mask stays as the network gives it."
    if regions:
        said = (
            "Nothing more is done with the masks: rules such as the largest piece are chosen for labels that exclude "
            "each other, and none for regions."
        )
    if rules:
        done = "\n".join(f"{place}. {cell(rule.words(table))}" for place, rule in enumerate(rules.rules, 1))
        said = f"After the network, in this order:\n\n{done}\n"
    if stock:
        said += (
            f"\nTransforms of MONAI's in `configs/inference.yaml` do {f'the first {len(stock)}' if own else 'all'} of "
            "this. Where more than four components of a label are equally large, MONAI keeps any of them, and volseg the "
            "one that begins last."
        )
    return (
        f"{said}\n\n{PRECISION}\n\nRules under `volseg_postprocessing` in `configs/inference.yaml`"
        f"{'' if own else ', where there are none now,'} come last{', on the merged mask alone' if regions else ''}. "
        "`volseg predict` applies them, and MONAI's runner leaves them out."
    )


def replace_rules_words(root: Path, before: PostprocessingRules, now: PostprocessingRules, table: LabelTable) -> None:
    """Say in ``docs/README.md`` what is done with a mask by now; what a person wrote in its place stays.

    Raises:
        FileError: the file can't be written.
    """
    _replace_words(root, _rules(before, table, regions=False), _rules(now, table, regions=False))


def replace_choices(root: Path, before: Reasons, now: Reasons) -> bool:
    """Say in ``docs/README.md`` what is chosen by now; what a person wrote in its place stays.

    Returns:
        Whether it says so.

    Raises:
        FileError: the file can't be written.
    """
    return _replace_words(root, _choices(before), _choices(now))


def _choices(reasons: Reasons) -> str:
    return "\n".join(f"| {cell(choice)} | {cell(reason)} |" for choice, reason in reasons)


def _replace_words(root: Path, old: str, new: str) -> bool:
    path = root / "docs" / "README.md"
    try:
        text = read_bounded(path, MAX_README_BYTES, "README").decode("utf-8", "surrogateescape")
    except (FileError, InputError):  # not ours to tell of
        return False
    if path.is_symlink() or text.count(old) != 1:
        return new in text and not path.is_symlink()
    write_bytes(path, text.replace(old, new).encode("utf-8", "surrogateescape"))
    return True


def cell(text: str) -> str:
    """Text from a file, harmless in Markdown: no markup, no new cell or line, nothing that turns the text around."""
    escaped = printable(" ".join(text.split()))
    for character in "\\`*_{}[]<>|#!&~$":
        escaped = escaped.replace(character, "\\" + character)
    return escaped

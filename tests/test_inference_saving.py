"""What writes files is left out of built parts, wherever a config hides it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from monai.transforms import (
    AsDiscreted,
    Compose,
    Identityd,
    Lambdad,
    OneOf,
    RandomOrder,
    SaveImage,
    SaveImaged,
    SomeOf,
    WriteFileMappingd,
)

from volseg.inference.saving import without_saving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Derived(SaveImaged):  # type: ignore[misc]
    """As a bundle may have one."""


HIDDEN: dict[str, Callable[[Any, Any], Any]] = {
    "alone": lambda save, _: save,
    "in a sequence": lambda save, _: Compose([Identityd("pred"), save]),
    "in a sequence in one": lambda save, _: Compose([Compose([Identityd("pred"), Compose([save])])]),
    "chosen of one": lambda save, _: OneOf([save], weights=[1.0]),
    "chosen of some": lambda save, _: SomeOf([save, Identityd("pred")], num_transforms=2),
    "in any order": lambda save, _: RandomOrder([save, Identityd("pred")]),
    "under a name": lambda _, save: Lambdad("pred", func=save),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_nothing_is_written(name: str, tmp_path: Path) -> None:
    for kind in (SaveImaged, Derived):
        save = kind("pred", output_dir=tmp_path, print_log=False)
        part = HIDDEN[name](save, SaveImage(output_dir=tmp_path, print_log=False))
        item = {"pred": torch.zeros(1, 4, 4, 4)}
        assert without_saving(part)(item)["pred"].shape == (1, 4, 4, 4)
        assert list(tmp_path.iterdir()) == []
    HIDDEN[name](save, SaveImage(output_dir=tmp_path, print_log=False))(item)
    assert list(tmp_path.iterdir()) != []


def test_lists_tuples_and_mappings_of_parts(tmp_path: Path) -> None:
    save = SaveImaged("pred", output_dir=tmp_path)
    keep = AsDiscreted("pred", argmax=True)
    found = without_saving([(keep, save), {"a": save, "b": Compose([save, keep])}])
    assert found[0][0] is keep
    assert found[1]["b"].transforms == [keep]
    assert not any(isinstance(one, SaveImaged) for one in (found[0][1], found[1]["a"]))
    mapped = without_saving(Compose([WriteFileMappingd("pred", mapping_file_path=tmp_path / "map.json"), keep]))
    assert mapped.transforms == [keep]


def test_what_saves_nothing_stays_the_same() -> None:
    part = Compose([OneOf([AsDiscreted("pred", argmax=True)], weights=[1.0])], map_items=False)
    assert without_saving(part) is part
    assert part.map_items is False
    assert len(part.transforms) == 1

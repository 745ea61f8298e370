"""Workspaces of ITK-SNAP: their structure is that of ``Testing/TestData/diffspace.itksnap`` in ITK-SNAP's sources."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from volseg.errors import InputError
from volseg.grid import Grid
from volseg.labels import Label, LabelTable
from volseg.writers import MaskedImage
from volseg.writers.workspace import WorkspaceWriter

HOSTILE = 'Kopf & "Hals" <b>\'\n]]>'
TABLE = LabelTable((Label(1, "liver", (221, 130, 101)), Label(7, HOSTILE)), ignore=9)


def registry(path: Path) -> dict[str, str]:
    """The entries of a workspace by their keys, as ITK-SNAP's ``Registry`` has them."""
    found: dict[str, str] = {}

    def walk(folder: ET.Element, prefix: str) -> None:
        assert {child.tag for child in folder} <= {"entry", "folder"}
        for entry in folder.findall("entry"):
            assert prefix + entry.attrib["key"] not in found
            found[prefix + entry.attrib["key"]] = entry.attrib["value"]
        for inner in folder.findall("folder"):
            walk(inner, f"{prefix}{inner.attrib['key']}.")

    root = ET.parse(path).getroot()
    assert root.tag == "registry"
    walk(root, "")
    return found


def opened(entries: dict[str, str], lies_in: Path, layer: str) -> Path:
    """The file that ITK-SNAP opens for a layer of a workspace that lies there (``IRISApplication::OpenProject``)."""
    saved, named = entries["SaveLocation"], entries[f"Layers.{layer}.AbsolutePath"]
    assert saved != str(lies_in)
    assert named.startswith(saved)
    # Others go by the way between the two (RelativePath of KWSys), which ends at the root.
    way = os.path.relpath(os.path.normpath(named), os.path.normpath(saved))
    assert (lies_in / way).resolve() == (lies_in / named[len(saved) :].lstrip("/")).resolve()
    return Path((lies_in / named[len(saved) :].lstrip("/")).resolve())


@pytest.mark.parametrize("link", ["images/case.nii.gz", "../scans/case.nii.gz", "../../../data/scans/case.nii.gz"])
def test_image_and_mask_are_found_wherever_the_folders_are_moved(tmp_path: Path, link: str) -> None:
    out = tmp_path / "masks"
    image = MaskedImage("case", tmp_path / "anywhere.nii.gz", link=link)
    grid = Grid((3, 4, 5), np.eye(4))
    (path,) = WorkspaceWriter().write(out, np.zeros(grid.shape, np.uint8), grid, TABLE, image)
    assert path == out / "case.itksnap"
    assert str(tmp_path) not in path.read_text()
    for place in (out, tmp_path / "moved" / "masks"):
        entries = registry(path)
        assert opened(entries, place, "Layer[000]") == (place / link).resolve()
        assert opened(entries, place, "Layer[001]") == (place / "case.nii.gz").resolve()


def test_names_and_colours_are_those_of_the_table(tmp_path: Path) -> None:
    image, grid = MaskedImage("case", tmp_path, link="images/case.nii.gz"), Grid((3, 4, 5), np.eye(4))
    (path,) = WorkspaceWriter().write(tmp_path, np.zeros(grid.shape, np.uint8), grid, TABLE, image)
    entries = registry(path)
    main, labels = "Layers.Layer[000].", "Layers.Layer[000].ProjectMetaData.IRIS.LabelTable."
    assert (entries[f"{main}Role"], entries["Layers.Layer[001].Role"]) == ("MainRole", "SegmentationRole")
    # Older versions read the labels only where this is the image's size.
    assert entries[f"{main}ProjectMetaData.Files.Grey.Dimensions"] == "3 4 5"
    assert entries[f"{labels}NumberOfElements"] == "3"
    assert {entries[f"{labels}Element[{number}].Index"] for number in range(3)} == {"1", "7", "9"}
    first = {key: entries[f"{labels}Element[0].{key}"] for key in ("Alpha", "Color", "Flags", "Label")}
    assert first == {"Alpha": "255", "Color": "221 130 101", "Flags": "1 1", "Label": "liver"}
    assert entries[f"{labels}Element[1].Label"] == HOSTILE.replace("\n", "")


@pytest.mark.parametrize(("case", "link"), [("caf\udce9", "x"), ("a\x01b", "x"), ("case", "../caf\udce9/case.nii.gz")])
def test_names_that_no_xml_holds_are_refused_in_a_sentence(case: str, link: str) -> None:
    with pytest.raises(InputError, match="Rename it, or leave --workspace out") as refused:
        WorkspaceWriter().names(MaskedImage(case, Path("image.nii.gz"), link=link))
    assert refused.value.code == "file-name"

"""Workspaces of ITK-SNAP: ``<case>.itksnap``, which opens an image, its mask, their names and colours together.

The format is ITK-SNAP's registry as XML (``Registry.cxx``, ``IRISApplication::OpenProject``); what ``itksnap-wt`` writes of a
layer stands here, and nothing more. A workspace finds its files by their places relative to itself as soon as it lies
elsewhere than where it says that it was saved. So it says that it was saved in a folder that there is not: it can be moved,
and no name of a folder of this machine stands in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from xml.sax.saxutils import quoteattr

from volseg.atomic import write_text
from volseg.errors import InputError
from volseg.labels import IGNORE_NAME, Label
from volseg.volume import nifti_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.labels import LabelTable
    from volseg.writers.writer import MaskedImage

_Folder: TypeAlias = "dict[str, str | _Folder]"

SUFFIX = ".itksnap"
SAVED_IN = "/volseg"
"""No folder of any machine. It is as deep as the image lies above the workspace: some programs go by what is left of the
image's path without its dots."""
VERSION = "20151215"
"""The release date of an ITK-SNAP, which each workspace carries and no reader compares."""
_BEYOND_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML holds, escaped neither (XML 1.0, 2.2), such as those that stand for bytes that are no UTF-8."""
_HEAD = """<?xml version="1.0" encoding="UTF-8" ?>
<!DOCTYPE registry [
<!ELEMENT registry (entry*,folder*)>
<!ELEMENT folder (entry*,folder*)>
<!ELEMENT entry EMPTY>
<!ATTLIST folder key CDATA #REQUIRED>
<!ATTLIST entry key CDATA #REQUIRED>
<!ATTLIST entry value CDATA #REQUIRED>
]>
"""


@dataclass(frozen=True)
class WorkspaceWriter:
    """Writes a workspace beside the NIfTI mask, for ITK-SNAP 3.8 and 4; see ``MaskWriter``."""

    def names(self, image: MaskedImage) -> tuple[str, ...]:
        """One file, beside the mask.

        Raises:
            InputError: the names of the files can't stand in XML, with the code ``file-name``.
        """
        if _BEYOND_XML.search(image.case + image.link):
            raise InputError(
                "A workspace of ITK-SNAP is XML, which can't hold the name of this image or of its folder: it has bytes "
                "that are no UTF-8, or control characters. Rename it, or leave --workspace out.",
                code="file-name",
            )
        return (f"{image.case}{SUFFIX}",)

    def write(
        self, folder: Path, mask: NDArray[np.unsignedinteger], grid: Grid, table: LabelTable, image: MaskedImage
    ) -> tuple[Path, ...]:
        """Write the workspace; image and mask are named by where they lie relative to it."""
        del mask
        path = folder / self.names(image)[0]
        saved_in = SAVED_IN * max(1, image.link.split("/").count(".."))
        labels = [_label(label) for label in table.labels]
        if table.ignore is not None:
            labels.append(_label(Label(table.ignore, IGNORE_NAME, (128, 128, 128)), flags="0 0"))
        elements: _Folder = {f"Element[{number}]": label for number, label in enumerate(labels)}
        table_of: _Folder = {"NumberOfElements": str(len(labels)), **elements}
        main: _Folder = {
            **_layer(f"{saved_in}/{image.link}", "MainRole"),
            "ProjectMetaData": {
                "Files": {"Grey": {"Dimensions": " ".join(map(str, grid.shape))}},
                "IRIS": {"LabelTable": table_of},
            },
        }
        mask_layer = _layer(f"{saved_in}/{nifti_name(image.case)}", "SegmentationRole")
        layers: _Folder = {"Layer[000]": main, "Layer[001]": mask_layer}
        root: _Folder = {"SaveLocation": saved_in, "Version": VERSION, "Layers": layers}
        write_text(path, "\n".join([f"{_HEAD}<registry>", *_lines(root, "  "), "</registry>", ""]))
        return (path,)


def _layer(path: str, role: str) -> _Folder:
    return {"AbsolutePath": path, "Role": role}


def _label(label: Label, flags: str = "1 1") -> _Folder:
    """A label; its flags are whether it is shown in 3D, and in slices."""
    name = "".join(c for c in label.name if c.isprintable())
    colour = " ".join(map(str, label.rgb))
    return {"Alpha": "255", "Color": colour, "Flags": flags, "Index": str(label.index), "Label": name}


def _lines(folder: Mapping[str, str | _Folder], indent: str) -> list[str]:
    """The entries of a folder, then the folders in it, as its document type wants them."""
    entries = {key: value for key, value in folder.items() if isinstance(value, str)}
    found = [f"{indent}<entry key={quoteattr(key)} value={quoteattr(value)} />" for key, value in entries.items()]
    for key, value in folder.items():
        if not isinstance(value, str):
            found += [f"{indent}<folder key={quoteattr(key)} >", *_lines(value, f"{indent}  "), f"{indent}</folder>"]
    return found

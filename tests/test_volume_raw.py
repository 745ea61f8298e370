"""Random headers of NRRD and MetaImage: never another file's bytes, and never other voxels than ITK's."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.text_headers import ITK, NRRD, RAW, by_simpleitk
from volseg.errors import VolsegError
from volseg.volume import read_volume

if TYPE_CHECKING:
    from pathlib import Path

CANARY = b"\x11\x22\x33\x44\x55\x66" * 40
ROUNDS = 1500
"""Of each format; 20,000 take a minute and found nothing."""
PIECES = {
    ".mhd": [
        "ElementDataFile", "elementdatafile", "Comment", "=", ":", " ", "\t", "\n", "\r", "\r\n", "LOCAL", "LIST", "%d",
        "\0", "\x0b", "HeaderSize = -1\n", "HeaderSize = 8\n", "ElementSpacing = 1 1 1\n", "ElementSize = 1 1 1\n", "#",
        "DimSize = 2 3 4\n", "NDims = 3\n", "Offset = 1 1 1\n", "CompressedData = True\n", "True", "ElementType = MET_UCHAR\n",
        "ElementNumberOfChannels = 2\n", "Position = 0 0 0\n", "BinaryData = False\n", "0", "-1", "1e3", "nan",
    ],
    ".nrrd": [
        "data file: ", "datafile: ", "Data File: ", ": ", ":=", ":", "#", "# ", " ", "\t", "\n", "\r\n", "\n\n", "LIST", "%d",
        "\0", "line skip: 1\n", "byte skip: 2\n", "byte skip: -1\n", "spacings: 1 1 1\n", "kinds: domain domain list\n", "none",
        "space: RAS\n", "space dimension: 3\n", "type: uchar\n", "encoding: raw\n", "sizes: 2 3 4\n", "0", "nan", "-", "a:=",
        "endian: big\n", "dimension: 4\n", "(1,0,0)", "space origin: (0,0,0)\n",
    ],
}  # fmt: skip


def mutated(text: str, pieces: list[str], names: list[str], chance: random.Random) -> str:
    for _ in range(chance.randint(1, 4)):
        lines = text.split("\n")
        at = chance.randrange(len(text)) if text else 0
        line = chance.randrange(len(lines))
        match chance.randrange(6):
            case 0:
                text = text[:at] + chance.choice(pieces) + text[at:]
            case 1:
                text = text[:at] + text[at + chance.randint(1, 6) :]
            case 2:
                lines.insert(chance.randrange(len(lines)), lines.pop(line))
                text = "\n".join(lines)
            case 3:
                text = "\n".join([*lines[:line], chance.choice(pieces) + chance.choice(names), *lines[line:]])
            case 4:
                text = (
                    text.replace("LOCAL", chance.choice(names))
                    if chance.random() < 0.5
                    else text[:at] + text[at:].swapcase()
                )
            case 5:
                text = text[:at] + chr(chance.randrange(128)) + text[at + 1 :]
    return text


@pytest.mark.parametrize(("suffix", "header"), [(".mhd", ITK), (".nrrd", NRRD)])
def test_random_headers(suffix: str, header: str, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "canary").write_bytes(CANARY)
    (folder / "link").symlink_to(tmp_path / "canary")
    os.mkfifo(folder / "pipe")
    (folder / "a.raw").write_bytes(RAW)
    names = [
        str(tmp_path / "canary"),
        "../canary",
        "link",
        "pipe",
        "a.raw",
        "/dev/zero",
        "./a.raw",
        "canary%d",
        "LIST",
        ".",
    ]
    chance = random.Random(8)
    path, read, compared = folder / f"a{suffix}", 0, 0
    for number in range(ROUNDS):
        text = mutated(header, PIECES[suffix], names, chance)
        path.write_bytes(text.encode("latin-1", "replace") + RAW)
        try:
            found = read_volume(path)
        except VolsegError:
            continue
        read += 1
        assert CANARY[:6] not in found.array.tobytes(), text
        try:
            voxels, grid = by_simpleitk(path)
        except RuntimeError:
            continue
        compared += 1
        np.testing.assert_array_equal(found.array, voxels, err_msg=f"{number}: {text}")
        assert found.grid.difference(grid) is None, f"{number}: {text}"
    assert read > ROUNDS / 20
    assert compared > read / 2

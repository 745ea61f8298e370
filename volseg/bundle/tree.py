"""The files of a bundle, each read once: what trust covers, and what of it can run."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.bundle.folder import plain_files
from volseg.errors import BundleError, FileError
from volseg.files import plain_descriptor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_SOURCE_BYTES = 2**26
"""Of all Python sources of a bundle, which are kept in memory; the largest in the Model Zoo has 0.3 MB."""
SOURCE = "Python source"
KINDS = {
    SOURCE: ".py .pyw",
    "Python byte code": ".pyc .pyo",
    "Python notebook": ".ipynb",
    "machine code": ".so .pyd .dll .dylib .exe .com .o .a",
    "program or script": ".sh .bash .zsh .csh .fish .bat .cmd .ps1 .js .pl .rb .lua .r .m",
    "archive": ".zip .egg .whl .tar .tgz .gz .bz2 .xz .7z .jar",
    "weights, or a list of paths for Python": ".pth",
    "weights or objects, which may run code when they are loaded":
        ".pt .ckpt .ts .pkl .pickle .joblib .npy .npz .onnx .engine .trt .h5 .mat",
    "settings, which may run code": ".conf .cfg .ini .toml .env",
    "config, which may run code where another names it": ".yaml .yml .json",
}  # fmt: skip
"""What can run, or be run by what a config names, by the endings of its name."""
PLAIN_SUFFIXES = (
    ".md", ".rst", ".txt", ".csv", ".tsv", ".log", ".nii", ".nii.gz", ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".pdf",
)  # fmt: skip
PLAIN_NAMES = ("license", "notice", "readme", "authors", "changelog", "citation")
UNKNOWN = "of unknown kind"
MAGIC = {
    b"\x7fELF": "machine code",
    b"MZ": "machine code",
    b"\xca\xfe\xba\xbe": "machine code",
    b"\xcf\xfa\xed\xfe": "machine code",
    b"\xfe\xed\xfa": "machine code",
    b"#!": "program or script",
    b"PK\x03\x04": "archive",
    b"\x80\x02": "objects, which may run code when they are loaded",
    b"\x80\x03": "objects, which may run code when they are loaded",
    b"\x80\x04": "objects, which may run code when they are loaded",
    b"\x80\x05": "objects, which may run code when they are loaded",
}
"""How a file begins that isn't what its name says."""


LOGS = re.compile(
    r"(eval/)?training\.log|(eval|logs|runs/\w+/tensorboard)/(.*/)?(log\.txt|events\.out\.tfevents\.\d+\.[\w.-]+\.\d+\.\d+)",
    re.ASCII,
)
"""What MONAI's own runner and handlers write of a run: a log, and the curves of TensorBoard.

They are left out of what is trusted, or looking at a bundle with MONAI would revoke it. Nothing imports or runs a file
of such a name, and only code that a person has trusted could read one.
"""


@dataclass(frozen=True)
class TreeFile:
    """One file of a bundle.

    Args:
        sha256: of its bytes.
        size: in bytes.
        kind: how it can run, in words; empty for text, pictures and images.
        source: the very bytes that were hashed, of Python sources alone.
    """

    sha256: str
    size: int
    kind: str
    source: bytes | None = None


def read_tree(root: Path) -> dict[str, TreeFile]:
    """Every file below a folder but the logs of runs, by its path relative to it, sorted.

    Raises:
        BundleError: the tree holds links or special files, more Python source than is kept in memory, or it changed
            while it was read.
        FileError: a file or folder can't be read.
    """
    found: dict[str, TreeFile] = {}
    left = MAX_SOURCE_BYTES
    try:
        for path in plain_files(root):
            name = path.relative_to(root).as_posix()
            if not is_log(name):
                found[name] = _read(path, left)
                left -= len(found[name].source or b"")
    except FileNotFoundError as error:
        raise BundleError(f"{root} changed while it was read. Run the command again.", code="changed") from error
    except OSError as error:
        if isinstance(error, FileError):
            raise
        where = error.filename or root
        raise FileError(
            f"{where} can't be read, and trust in a bundle covers all of its files: {error.strerror}."
        ) from error
    return dict(sorted(found.items()))


def is_log(name: str) -> bool:
    """Whether a file, by its path relative to the bundle, is what MONAI's runner tells of a run."""
    return LOGS.fullmatch(name) is not None


def sha256_of_all(files: Mapping[str, TreeFile]) -> str:
    """One checksum over the names and checksums of files."""
    digest = hashlib.sha256()
    for name, file in files.items():
        raw = os.fsencode(name)
        digest.update(b"%d:%s:%s\n" % (len(raw), raw, file.sha256.encode()))
    return digest.hexdigest()


def _read(path: Path, left: int) -> TreeFile:
    with open(plain_descriptor(path, follow=False), "rb") as file:  # noqa: PTH123  a descriptor
        if path.suffix == ".py":
            source = file.read(left + 1)
            if len(source) > left:
                raise BundleError(
                    f"{path.name} and other Python files of the bundle have more than {MAX_SOURCE_BYTES >> 20} MiB, "
                    "far above any bundle's code.",
                    code="too-large",
                    path=path,
                )
            return TreeFile(hashlib.sha256(source).hexdigest(), len(source), SOURCE, source)
        kind = kind_of(path.name, file.read(4), is_program=bool(os.fstat(file.fileno()).st_mode & 0o111))
        file.seek(0)
        return TreeFile(hashlib.file_digest(file, "sha256").hexdigest(), file.tell(), kind)


def kind_of(name: str, beginning: bytes, *, is_program: bool) -> str:
    """How a file can run, in words; empty for text, pictures and images.

    Args:
        name: of the file.
        beginning: its first bytes.
        is_program: whether its mode lets the system run it.
    """
    name = name.lower()
    if not name.endswith(".nii.gz"):
        for kind, suffixes in KINDS.items():
            if name.endswith(tuple(suffixes.split())):
                return kind
        if ".so." in name:
            return "machine code"
    for magic, kind in MAGIC.items():
        if beginning.startswith(magic):
            return kind
    if is_program:
        return "program or script"
    is_plain = name.endswith(PLAIN_SUFFIXES) or name.partition(".")[0] in PLAIN_NAMES
    return "" if is_plain else UNKNOWN

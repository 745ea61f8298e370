"""What a mask is made for: images on the disk, or a DICOM series that becomes one."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from volseg.dataset.case import Case
from volseg.dataset.sidecar import read_origin, sidecar_path
from volseg.errors import InputError, VolsegError
from volseg.kept import file_digest
from volseg.volume import (
    AXES_TURNED,
    Volume,
    axes_to_reverse,
    channel_stem,
    files_of,
    for_nifti,
    is_nifti,
    nifti_name,
    read_header,
    read_volume,
    write_image,
)

if TYPE_CHECKING:
    from volseg.dicom import Series
    from volseg.grid import Grid
    from volseg.pseudonyms import Naming

IMAGES = "images"
"""Where images made from DICOM and from other formats go, for the masks to be opened on."""

TURNED = f"{AXES_TURNED}: image and mask are turned from {{}} to {{}}, which is how NIfTI holds this oblique grid."
TURNED_BESIDE = (
    f"{AXES_TURNED}: NIfTI holds the oblique grid of the image with two voxel axes reversed alone. Open the mask on the "
    f"image in {IMAGES}, which is turned as it is."
)

SAID = {
    "channel-partly-covered": "A channel doesn't reach over the whole grid of the first; beyond it has its lowest value.",
}
"""What was done to channels, by its code."""


@dataclass(frozen=True)
class Prepared:
    """A case with its images on the disk.

    Args:
        case: its images are all NIfTI.
        series: the DICOM series that its image was made from; None where there is none.
        warnings: what a person has to know of how the images came there.
        message: what else was done to them; empty where nothing was.
    """

    case: Case
    series: Series | None = None
    warnings: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True)
class FileSource:
    """A case whose images are on the disk.

    Images of other formats than NIfTI, and NIfTI that others read in another way, are written as plain NIfTI first:
    those are what a bundle reads, and what the mask is opened on, since NRRD and MetaImage keep their geometry in
    another precision.
    """

    case: Case
    series: None = None

    @property
    def name(self) -> str:
        """The case's."""
        return self.case.name

    @property
    def image_names(self) -> tuple[str, ...]:
        """Of its images where they are written: by the case, since in a list files of several cases may be called alike."""
        return _image_names(self.name, len(self.case.images))

    @property
    def private(self) -> str:
        """Nothing: the case is named as its file."""
        return ""

    @property
    def origin(self) -> str:
        """Nothing: another image of its name is another version of it."""
        return ""

    @property
    def modality(self) -> str | None:
        """As the sidecar beside the first image names it; None without one."""
        path = sidecar_path(self.case.images[0])
        try:
            return read_origin(path).modality if path.exists() else None
        except InputError:  # some other program's JSON, which says nothing of the modality
            return None

    @property
    def grid(self) -> Grid:
        """Of the first image.

        Raises:
            InputError, FileError: it can't be read.
        """
        return read_header(self.case.images[0]).grid

    @property
    def voxels(self) -> int:
        """How many there are in all channels; 0 where an image can't be read, which is told when its turn comes."""
        try:
            return sum(math.prod(header.grid.shape) * header.channels for header in map(read_header, self.case.images))
        except VolsegError:
            return 0

    def digest(self) -> str:
        """Of the content of all images.

        Raises:
            InputError, FileError: an image can't be read.
        """
        files = [repr(file_digest(path)) for image in self.case.images for path in files_of(image)]
        return hashlib.sha256("\n".join(files).encode()).hexdigest()

    def written(self) -> tuple[str, ...]:
        """The images that ``prepare`` writes, relative to its folder.

        Raises:
            InputError, FileError: an image can't be read.
        """
        pairs = zip(self.case.images, self.image_names, strict=True)
        return tuple(f"{IMAGES}/{name}" for image, name in pairs if not _is_plain(image))

    def images(self, folder: Path) -> tuple[Path, ...]:
        """Where the images lie that ``prepare`` gives with this folder.

        Raises:
            InputError, FileError: an image can't be read.
        """
        pairs = zip(self.case.images, self.image_names, strict=True)
        return tuple(image if _is_plain(image) else folder / IMAGES / name for image, name in pairs)

    def prepare(self, folder: Path) -> Prepared:
        """The case, all of its images NIfTI; those that are not plain are written under a folder.

        Raises:
            InputError: an image can't be read.
            FileError: an image can't be read or written.
        """
        images = self.images(folder)
        grid = read_header(self.case.images[0]).grid
        warnings: tuple[str, ...] = ()
        for given, image in zip(self.case.images, images, strict=True):
            if image != given:
                volume = read_volume(given)
                if volume.grid.difference(grid) is None:  # all channels are to be turned alike, or none
                    volume = Volume(volume.array, grid)
                write_image(image, volume)
                if axes_to_reverse(volume.grid):
                    warnings = (TURNED_BESIDE,)
        return Prepared(replace(self.case, images=images), warnings=warnings)


@dataclass(frozen=True)
class SeriesSource:
    """A DICOM series, whose image is made first at the scanner's own grid; or several that are a case's channels.

    Args:
        name: of the case.
        members: the series of the channels in their order, each on the grid of the first.
        naming: of the cases.
        is_named: whether a person made the name, which two series may get in two runs.
        entry: of the list that named its folder or archive, relative to the list; private.
    """

    name: str
    members: tuple[Series, ...]
    naming: Naming
    is_named: bool = False
    entry: str = ""

    @property
    def image_names(self) -> tuple[str, ...]:
        """Of its images."""
        return _image_names(self.name, len(self.members))

    @property
    def series(self) -> Series:
        """That of the first channel, on whose grid the mask lies."""
        return self.members[0]

    @property
    def private(self) -> str:
        """Where its files are."""
        return self.place_of(self.series)

    def place_of(self, member: Series) -> str:
        """Where the files of one of its series are, relative to what was given; private."""
        return PurePosixPath(self.entry, member.source).as_posix() if self.entry else member.source

    @property
    def modality(self) -> str | None:
        """As DICOM names it."""
        return self.series.modality

    @property
    def origin(self) -> str:
        """What tells its series from others that a person may give the same name; empty under names of ours."""
        return " ".join(self.naming.series(one.identity) for one in self.members) if self.is_named else ""

    @property
    def grid(self) -> Grid:
        """Of the first series."""
        return self.series.grid

    @property
    def voxels(self) -> int:
        """How many there are in all channels."""
        return sum(math.prod(one.grid.shape) for one in self.members)

    def digest(self) -> str:
        """Of the content of all files.

        Raises:
            FileError: a file can't be read.
        """
        from volseg.dicom.series.digest import content_digest

        digests = [content_digest(one, self.naming) for one in self.members]
        return digests[0] if len(digests) == 1 else self.naming.digest("channels", *digests)

    def written(self) -> tuple[str, ...]:
        """The images that ``prepare`` writes, relative to its folder."""
        return tuple(f"{IMAGES}/{name}" for name in self.image_names)

    def images(self, folder: Path) -> tuple[Path, ...]:
        """Where the images lie that ``prepare`` gives with this folder."""
        return tuple(folder / name for name in self.written())

    def prepare(self, folder: Path) -> Prepared:
        """The case, its images read from DICOM and written under a folder.

        Raises:
            InputError: the pixels can't be read, or a channel shows another place than the first.
            FileError: an image can't be written.
        """
        from volseg.dicom import load_values
        from volseg.dicom.choice.channels import PARTLY_COVERED, require_coverage
        from volseg.dicom.series.notes import CHANGES, sentences

        images = [folder / name for name in self.written()]
        warnings: list[str] = []
        message, grid = "", None
        for series, image in zip(self.members, images, strict=True):
            loaded = load_values(series)
            volume, changes = for_nifti(loaded.volume), [*series.changes, *loaded.changes]
            if grid is None:
                grid = volume.grid
                if volume is not loaded.volume:
                    message = TURNED.format(loaded.volume.grid.orientation, grid.orientation)
            elif volume.grid.difference(grid) is not None:
                from volseg.resampling import resample_telling

                if require_coverage(grid, series.grid) < 1:
                    changes.append(PARTLY_COVERED)
                volume = resample_telling(loaded.volume, grid).volume
            else:
                volume = Volume(volume.array, grid)
            write_image(image, volume)
            warnings += [
                *(SAID.get(change, CHANGES.get(change, change)) for change in changes),
                *sentences(series.notes),
            ]
        return Prepared(Case(self.name, tuple(images), None), self.series, tuple(dict.fromkeys(warnings)), message)


def _image_names(case: str, channels: int) -> tuple[str, ...]:
    stems = [case] if channels == 1 else [channel_stem(case, number) for number in range(channels)]
    return tuple(map(nifti_name, stems))


def _is_plain(image: Path) -> bool:
    return is_nifti(image) and not read_header(image).oddity

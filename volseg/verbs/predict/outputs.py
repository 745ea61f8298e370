"""What is written of the masks of a case, in which files, by which writers."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from volseg.labels import Label, LabelTable
from volseg.verbs.predict.places import path_in
from volseg.volume import nifti_name
from volseg.writers import (
    ITKSNAP,
    OF_PROBABILITIES,
    PROBABILITIES,
    TOGETHER,
    WRITERS,
    MaskedImage,
    ProbabilityWriter,
    writers_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.inference.probabilities import ProbabilityFile
    from volseg.outcomes import Made
    from volseg.verbs.predict.model import Model
    from volseg.verbs.predict.sources import FileSource, SeriesSource
    from volseg.writers import MaskWriter


@dataclass(frozen=True)
class Outputs:
    """What is written of the masks of a case.

    Args:
        out_dir: where to.
        formats: names of the writers.
        folders: of the regions, where each gets a mask of its own.
        probabilities: writes those of labels; None where they are not asked for.
        edited: masks of the case that a person edited, relative to ``out_dir``.
    """

    out_dir: Path
    formats: tuple[str, ...]
    folders: tuple[str, ...] = ()
    probabilities: ProbabilityWriter | None = None
    edited: tuple[str, ...] = ()

    def of_edited(self, masks: tuple[str, ...]) -> Outputs:
        """The same where these masks were edited; probabilities, which the network alone knows, are not among them."""
        if not masks:
            return self
        formats = tuple(name for name in self.formats if not isinstance(WRITERS[name], OF_PROBABILITIES))
        return replace(self, formats=formats, probabilities=None, edited=masks)

    @property
    def has_probabilities(self) -> bool:
        """Whether anything is written that the network alone tells."""
        return any(isinstance(writer, OF_PROBABILITIES) for writer in (*self.writers, *self.joint))

    @property
    def places(self) -> tuple[str, ...]:
        """The folders of masks; the empty name stands for ``out_dir``."""
        return self.folders or ("",)

    @property
    def writers(self) -> tuple[MaskWriter, ...]:
        """Of the masks in each place."""
        formats = tuple(name for name in self.formats if not (self.folders and name in TOGETHER))
        return (*(writers_of(formats) if formats else ()), *([self.probabilities] if self.probabilities else ()))

    @property
    def joint(self) -> tuple[MaskWriter, ...]:
        """Of what holds the masks of all regions in one file."""
        return tuple(writer for name, writer in TOGETHER.items() if self.folders and name in self.formats)

    def tables(self, model: Model) -> list[LabelTable]:
        """What the numbers of the mask in each place stand for."""
        return [region.table for region in model.regions.values()] if self.folders else [model.table]

    def masks(self, case: str) -> tuple[str, ...]:
        """The mask in each place, relative to ``out_dir``."""
        return tuple(path_in(place, nifti_name(case)) for place in self.places)

    def workspaces(self, image: MaskedImage) -> tuple[str, ...]:
        """The workspace in each place, asked for or not."""
        return tuple(path_in(place, name) for place in self.places for name in WRITERS[ITKSNAP].names(image))

    def names(self, source: FileSource | SeriesSource, before: Made | None) -> tuple[str, ...]:
        """The files of a case, as far as they are known before its mask."""
        image = MaskedImage(source.name, self.out_dir, source.series)
        each = [name for writer in self.writers for name in writer.names(image)]
        names = [*source.written(), *(path_in(place, name) for place in self.places for name in each)]
        names += [name for writer in self.joint for name in writer.names(image)]
        return self.with_own(names, source.name, before)

    def with_own(self, names: Iterable[str], case: str, before: Made | None) -> tuple[str, ...]:
        """Files of a case, and of those in a folder of its name, as many as it has labels, what an earlier run made."""
        names = tuple(names)
        own = {PurePosixPath(name).parent for name in names} - {PurePosixPath(place) for place in self.places}
        own = {folder for folder in own if folder.name == case and folder.parent.name != PROBABILITIES}
        there = (name for name in (before.files if before else ()) if PurePosixPath(name).parent in own)
        return tuple(dict.fromkeys((*names, *there)))

    def making(
        self, missing: Collection[str], image: MaskedImage, before: Made
    ) -> tuple[dict[str, list[MaskWriter]], list[MaskWriter]]:
        """The writers that some files of a case come from: those in each place, and those of all regions together."""

        def makes(writer: MaskWriter, place: str) -> bool:
            names = (path_in(place, name) for name in writer.names(image))
            return not {*missing}.isdisjoint(self.with_own(names, image.case, before))

        each = {place: [writer for writer in self.writers if makes(writer, place)] for place in self.places}
        return each, [writer for writer in self.joint if not {*missing}.isdisjoint(writer.names(image))]

    def file(self, folder: Path, writers: Iterable[MaskWriter]) -> AbstractContextManager[ProbabilityFile | None]:
        """A file for the probabilities that some writers need; None where none does."""
        needy = [writer for writer in writers if isinstance(writer, OF_PROBABILITIES)]
        if not needy:
            return nullcontext()
        from volseg.inference.probabilities import ProbabilityFile

        some = all(isinstance(writer, ProbabilityWriter) for writer in needy) and self.probabilities
        return ProbabilityFile(folder, [number for number, _ in some.labels] or None if some else None)

    def image(
        self,
        source: FileSource | SeriesSource,
        folder: Path,
        place: str,
        model: Model,
        file: ProbabilityFile | None,
    ) -> MaskedImage:
        """The image of the mask in a place, or of the masks of all regions together where the place is empty.

        Args:
            source: the case.
            folder: in which its images lie, as far as they were made for it: ``out_dir``, or a folder for what is not yet
                whole.
            place: of the mask.
            model: that made it.
            file: with its probabilities.
        """
        path, *others = source.images(folder)
        will_lie = self.out_dir / path.relative_to(folder) if path.is_relative_to(folder) else path
        link = os.path.relpath(will_lie.parent.resolve() / will_lie.name, (self.out_dir / place).resolve())
        is_edited = any(place in ("", str(PurePosixPath(mask).parent)) for mask in self.edited)
        return MaskedImage(
            source.name,
            path,
            source.series,
            replace(model.algorithm, type="SEMIAUTOMATIC") if is_edited else model.algorithm,
            link=Path(link).as_posix(),
            modality=source.modality,
            others=tuple(others),
            channels=model.channel_names,
            probabilities=file.only(self.folders.index(place) + 1) if file and place else file,
        )

    def write(
        self,
        folder: Path,
        place: str,
        writers: Sequence[MaskWriter],
        mask: NDArray[np.unsignedinteger],
        grid: Grid,
        table: LabelTable,
        image: MaskedImage,
    ) -> list[str]:
        """Write a mask in some formats; the files, relative to the folder."""
        (folder / place).mkdir(exist_ok=True)
        paths = [path for writer in writers for path in writer.write(folder / place, mask, grid, table, image)]
        return [path.relative_to(folder).as_posix() for path in paths]

    def write_together(
        self,
        folder: Path,
        masks: Sequence[NDArray[np.unsignedinteger]],
        grid: Grid,
        model: Model,
        image: MaskedImage,
        writers: Sequence[MaskWriter],
    ) -> list[str]:
        """Write the masks of all regions into one file each format that holds regions which overlap."""
        if not writers:
            return []
        from volseg.writers.dicom.slices import together

        table = LabelTable(tuple(Label(number, one.name) for number, one in enumerate(model.regions.values(), 1)))
        return self.write(folder, "", writers, together(masks), grid, table, image)

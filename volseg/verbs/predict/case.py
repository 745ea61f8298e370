"""The work on one case: from its images to its mask, in any process."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast

import numpy as np

from volseg.atomic import TEMPORARY_MARK, require_no_links, write_error
from volseg.errors import OutputExistsError, VolsegError
from volseg.kept import ANEW, State, file_digest, kept_outcome, require_replaceable, state_of
from volseg.labels import Label, LabelTable
from volseg.outcomes import FileDigest, Made, Outcome, Status
from volseg.verbs.predict.model import Model, load_model
from volseg.verbs.predict.roi import RoiMask
from volseg.verbs.predict.segmenting import make_ready, segment, segment_regions
from volseg.volume import nifti_name, read_mask
from volseg.words import counted
from volseg.writers import OF_PROBABILITIES, PROBABILITIES, TOGETHER, MaskedImage, ProbabilityWriter, writers_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from volseg.grid import Grid
    from volseg.inference.probabilities import ProbabilityFile
    from volseg.verbs.predict.model_file import ModelFile
    from volseg.verbs.predict.segmenting import Ready
    from volseg.verbs.predict.sources import FileSource, SeriesSource
    from volseg.writers import MaskWriter


BYTES_AHEAD = 32
"""Of each voxel of a case that is read: its stored and its real values, and copies of both."""
RECKONED_SHARE = 1.2
"""By so much what two cases take at once may be more than was reckoned."""
AGAIN = (
    "{} of the mask, which stays as it is, came out otherwise when the network ran again for the probabilities: "
    "another machine or version rounds otherwise."
)
PLACING = ".placing"
"""Lies in the hidden folder of a case from when its files are put in their places."""
OF_BEFORE = "Its mask was edited, and what was made of it, such as statistics and surfaces, is still of the mask as it was before."
NOT_OF_EDITED = (
    "Somebody has changed its files, and other outputs are asked for, which are made of masks as the network gave them. "
    "Leave these out, or make all anew with --overwrite, which loses what was edited."
)


@dataclass(frozen=True)
class CaseToPredict:
    """A source, and what an earlier run told of its case."""

    source: FileSource | SeriesSource
    earlier: Outcome | None = None

    @property
    def name(self) -> str:
        """The case's."""
        return self.source.name


@dataclass(frozen=True)
class Looked:
    """What there is of a case before it is predicted.

    Args:
        names: of the files that it gets, relative to the output folder.
        now: from what they would be made.
        before: from what those that are there were made, as far as an earlier run told.
        state: of those that are there.
        kept: the outcome of a case that stays as it is.
        masks: its masks, where they and the image stay and something else is missing.
    """

    names: tuple[str, ...]
    now: Made
    before: Made | None
    state: State
    kept: Outcome | None = None
    masks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """How cases are predicted; called with each, here or in a worker.

    Args:
        model: the model, loaded at the first case.
        out_dir: where the masks go.
        formats: names of the writers.
        overwrite: whether files that are there are replaced, whatever they are.
        folders: of the regions, where each gets a mask of its own.
        probabilities: writes those of labels; None where they are not asked for.
    """

    model: ModelFile
    out_dir: Path
    formats: tuple[str, ...]
    overwrite: bool = False
    folders: tuple[str, ...] = ()
    probabilities: ProbabilityWriter | None = None

    def __call__(self, case: CaseToPredict) -> Outcome:
        """Predict one case.

        Raises:
            VolsegError: it can't be predicted.
        """
        steps = self.steps(case)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome

    def steps(self, case: CaseToPredict) -> Generator[Ready | None, None, Outcome]:
        """Predict one case in three steps: its images made, looked at and preprocessed; the network; its files written.

        The first step gives what the network begins with, by which ``has_room`` tells what the second takes.

        Raises:
            VolsegError: it can't be predicted.
        """
        source, looked = case.source, self.look(case)
        if looked.kept:
            return looked.kept
        now, before, state = looked.now, looked.before, looked.state
        if looked.masks and case.earlier and before:
            return (yield from self._complete(case.earlier, before, source, looked))
        model = load_model(self.model)
        with (
            _folder_of(self.out_dir, source.name) as folder,
            self._file(folder, (*self._writers, *self._joint)) as file,
        ):
            prepared = source.prepare(folder)
            ready = make_ready(prepared, source.modality, model)
            yield ready
            found = (segment_regions if self.folders else segment)(ready, model, file=file)
            del ready
            yield None
            made: list[str] = [*source.written()]
            for place, mask, table in zip(self._places, found.masks, self._tables(model), strict=True):
                image = self._image(source, prepared.case.images[0], folder, place, model, file)
                table = model.rules.table_of(table, found.values_outside)
                made += self._write(folder, place, self._writers, mask, found.grid, table, image)
            image = self._image(source, prepared.case.images[0], folder, "", model, file)
            made += self._write_together(folder, found.masks, found.grid, model, image, self._joint)
            files = {name: file_digest(folder / name) for name in made}
            if state is State.UNKNOWN:
                self._require_same(files, files)
            self._put_in_place(folder, tuple(made), before)
        warnings = found.warnings
        if state is State.STALE and before and before.input != now.input:
            warnings = (ANEW, *warnings)
        return Outcome(
            source.name,
            Status.DONE,
            "done",
            prepared.message,
            tuple(made),
            warnings,
            made=replace(now, files=files),
            values_outside=found.values_outside,
        )

    def has_room(self, case: CaseToPredict, current: Ready | None) -> bool:
        """Whether the memory has room to begin a case while the network works on another.

        Args:
            case: that would be begun.
            current: what the network works on.
        """
        model, source = load_model(self.model), case.source
        if model.roi_model:
            return False  # what its network takes is not known yet
        segmenter = model.segmenter
        try:
            grid, voxels = source.grid, source.voxels
            need = BYTES_AHEAD * voxels
            if current is None or current.image is None:
                return 2 * need < segmenter.room_bytes()  # half is for a network that nobody reckoned
            need = max(need, segmenter.preparing_bytes(grid, voxels // math.prod(grid.shape)))
            need += segmenter.computing_bytes(current.image)
        except VolsegError:  # it is told when its turn comes, and takes no memory
            return True
        return RECKONED_SHARE * need < segmenter.room_bytes()

    def look(self, case: CaseToPredict) -> Looked:
        """What there is of a case, and what there would be.

        Raises:
            InputError, FileError: it can't be read.
            OutputExistsError: what is there is not to be replaced.
        """
        source, before = case.source, case.earlier.made if case.earlier else None
        names = self._names(source, before)
        method, roi = self.model.method, self.model.roi
        for more in (source.origin, roi.digest(source.name) if isinstance(roi, RoiMask) else ""):
            method = hashlib.sha256(f"{method}\n{more}".encode()).hexdigest() if more else method
        now = Made(source.digest(), method, dict.fromkeys(names, FileDigest(0, "")))
        masks = tuple(_path(place, nifti_name(source.name)) for place in self._places)
        # A run that was killed may have left files that it had not recorded yet.
        missing = before and not all(name in before.files and (self.out_dir / name).exists() for name in names)
        if before and missing and not self.overwrite and self._has_mask(before, now, (*source.written(), *masks)):
            return Looked(names, now, before, State.STALE, masks=masks)
        # Nobody's edited mask gets other outputs, nor loses those that it has, where it isn't asked for itself.
        watched = {**now.files} | {name: FileDigest(0, "") for name in masks if before and name in before.files}
        state = State.ABSENT if self.overwrite else state_of(before, replace(now, files=watched), self.out_dir)
        if state is State.EDITED_STALE and any((left / PLACING).exists() for left in _left(self.out_dir, source.name)):
            state = State.STALE  # nobody edited them: a run was killed while it put them there
        if case.earlier and state in (State.CURRENT, State.EDITED):
            kept = kept_outcome(case.earlier, state)
            warnings = tuple(warning for warning in kept.warnings if warning != OF_BEFORE)
            if state is State.EDITED and before and self._is_edited(masks, before):
                warnings += (OF_BEFORE,) if set(names) - {*masks, *source.written()} else ()
            return Looked(names, now, before, state, replace(kept, warnings=warnings))
        if state is State.EDITED_STALE and before and (before.input, before.method) == (now.input, now.method):
            raise OutputExistsError(NOT_OF_EDITED, code="edited")
        if state is not State.UNKNOWN:
            otherwise = "by another model, with other rules or in another precision"
            require_replaceable(state, f"{otherwise}, or of another series" if source.origin else otherwise)
        return Looked(names, now, before, state)

    def _is_edited(self, masks: tuple[str, ...], before: Made) -> bool:
        return any(before.files.get(name) != file_digest(self.out_dir / name) for name in masks if name in before.files)

    def _file(self, folder: Path, writers: Iterable[MaskWriter]) -> AbstractContextManager[ProbabilityFile | None]:
        """A file for the probabilities that some writers need; None where none does."""
        needy = [writer for writer in writers if isinstance(writer, OF_PROBABILITIES)]
        if not needy:
            return nullcontext()
        from volseg.inference.probabilities import ProbabilityFile

        some = all(isinstance(writer, ProbabilityWriter) for writer in needy) and self.probabilities
        return ProbabilityFile(folder, [number for number, _ in some.labels] or None if some else None)

    @property
    def _places(self) -> tuple[str, ...]:
        return self.folders or ("",)

    @property
    def _writers(self) -> tuple[MaskWriter, ...]:
        """Of the masks in each place."""
        formats = tuple(name for name in self.formats if not (self.folders and name in TOGETHER))
        return (*(writers_of(formats) if formats else ()), *([self.probabilities] if self.probabilities else ()))

    @property
    def _joint(self) -> tuple[MaskWriter, ...]:
        """Of what holds the masks of all regions in one file."""
        return tuple(writer for name, writer in TOGETHER.items() if self.folders and name in self.formats)

    def _tables(self, model: Model) -> list[LabelTable]:
        return [region.table for region in model.regions.values()] if self.folders else [model.table]

    def _names(self, source: FileSource | SeriesSource, before: Made | None) -> tuple[str, ...]:
        """The files of a case, as far as they are known before its mask."""
        image = MaskedImage(source.name, self.out_dir, source.series)
        each = [name for writer in self._writers for name in writer.names(image)]
        names = [*source.written(), *(_path(place, name) for place in self._places for name in each)]
        names += [name for writer in self._joint for name in writer.names(image)]
        return self._with_own(names, source.name, before)

    def _with_own(self, names: list[str], case: str, before: Made | None) -> tuple[str, ...]:
        """Files of a case, and of those in a folder of its name, as many as it has labels, what an earlier run made."""
        own = {PurePosixPath(name).parent for name in names} - {PurePosixPath(place) for place in self._places}
        own = {folder for folder in own if folder.name == case and folder.parent.name != PROBABILITIES}
        there = (name for name in (before.files if before else ()) if PurePosixPath(name).parent in own)
        return tuple(dict.fromkeys((*names, *there)))

    def _has_mask(self, before: Made, now: Made, needed: tuple[str, ...]) -> bool:
        """Whether image and mask are there as an earlier run wrote them, of this input and by this method."""
        known = {name: digest for name, digest in before.files.items() if (self.out_dir / name).is_file()}
        state = state_of(before, replace(now, files=known), self.out_dir)
        is_same = before.input == now.input and state is State.CURRENT
        return is_same and all(name in known for name in needed)

    def _complete(
        self, earlier: Outcome, before: Made, source: FileSource | SeriesSource, looked: Looked
    ) -> Generator[Ready | None, None, Outcome]:
        """Make what is missing of a case from the mask that is there, and probabilities alone by the network."""
        missing = {name for name in looked.names if name not in before.files or not (self.out_dir / name).exists()}
        model = load_model(self.model)
        tables = self._tables(model)
        (path, *_) = source.images(self.out_dir)
        named = MaskedImage(source.name, path, source.series)
        writers = {
            place: [
                writer
                for writer in self._writers
                if missing.intersection(
                    self._with_own([_path(place, one) for one in writer.names(named)], named.case, before)
                )
            ]
            for place in self._places
        }
        joint = [writer for writer in self._joint if missing.intersection(writer.names(named))]
        again: tuple[NDArray[np.unsignedinteger], ...] = ()
        told: tuple[str, ...] = ()
        with (
            _folder_of(self.out_dir, source.name) as folder,
            self._file(folder, chain(joint, *writers.values())) as file,
        ):
            if file is not None:
                ready = make_ready(source.prepare(folder), source.modality, model)
                yield ready
                again = (segment_regions if self.folders else segment)(ready, model, file=file).masks
                del ready
                yield None
            made: list[str] = []
            apart, masks = 0, []
            for number, (place, name, table) in enumerate(zip(self._places, looked.masks, tables, strict=True)):
                table = model.rules.table_of(table, earlier.values_outside)
                image = self._image(source, path, self.out_dir, place, model, file)
                volume = read_mask(self.out_dir / name)
                mask = cast("NDArray[np.unsignedinteger]", volume.array)
                apart += int(np.count_nonzero(mask != again[number])) if again else 0
                made += self._write(folder, place, writers[place], mask, volume.grid, table, image)
                masks.append(mask)
            if joint:
                image = self._image(source, path, self.out_dir, "", model, file)
                made += self._write_together(folder, masks, volume.grid, model, image, joint)
            if apart:
                told = (AGAIN.format(counted(apart, "voxel")),)
            files = {name: file_digest(folder / name) for name in made}
            self._require_same(files, [name for name in made if name not in before.files])
            self._put_in_place(folder, tuple(made), None)
        kept = kept_outcome(earlier, State.CURRENT)
        outputs = tuple(dict.fromkeys((*earlier.outputs, *made)))
        warnings = tuple(dict.fromkeys((*kept.warnings, *told)))
        return replace(kept, outputs=outputs, warnings=warnings, made=replace(before, files={**before.files, **files}))

    def _image(
        self,
        source: FileSource | SeriesSource,
        path: Path,
        folder: Path,
        place: str,
        model: Model,
        file: ProbabilityFile | None,
    ) -> MaskedImage:
        """The image of a case, which may still lie in a folder for what is not yet whole."""
        will_lie = self.out_dir / path.relative_to(folder) if path.is_relative_to(folder) else path
        link = os.path.relpath(will_lie.parent.resolve() / will_lie.name, (self.out_dir / place).resolve())
        return MaskedImage(
            source.name,
            path,
            source.series,
            model.algorithm,
            link=Path(link).as_posix(),
            modality=source.modality,
            others=source.images(folder)[1:],
            channels=model.channel_names,
            probabilities=file.only(self.folders.index(place) + 1) if file and place else file,
        )

    def _write(
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

    def _write_together(
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
        return self._write(folder, "", writers, together(masks), grid, table, image)

    def _require_same(self, files: Mapping[str, FileDigest], names: Iterable[str]) -> None:
        """Refuse to replace files that nobody recorded, unless they are what a run that was killed had just written.

        Raises:
            OutputExistsError: there are others.
        """
        for name in names:
            if (self.out_dir / name).exists() and file_digest(self.out_dir / name) != files[name]:
                require_replaceable(State.UNKNOWN)

    def _put_in_place(self, folder: Path, names: tuple[str, ...], before: Made | None) -> None:
        """Move a case's files to their places all at once, so that a mask never lies beside another's image.

        What is replaced goes first: a run that is killed in between leaves no mask beside an image that it is not of.
        """
        paths = [PurePosixPath(name) for name in (*names, *(before.files if before else ()))]
        require_no_links(self.out_dir, dict.fromkeys(str(parent) for path in paths for parent in path.parents[:-1]))
        (folder / PLACING).touch()
        for name, digest in before.files.items() if before else ():
            # Such as the image of a series in whose place a file was given now.
            if name not in names and (self.out_dir / name).is_file() and file_digest(self.out_dir / name) == digest:
                (self.out_dir / name).unlink()
        for name in reversed(names):
            try:
                (self.out_dir / name).unlink(missing_ok=True)
            except OSError as error:
                raise write_error(self.out_dir / name, error) from error
        for name in names:
            target = self.out_dir / name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                (folder / name).replace(target)
            except OSError as error:
                raise write_error(target, error) from error


def _left(out_dir: Path, name: str) -> list[Path]:
    """The hidden folders that killed runs left of a case."""
    return list(out_dir.glob(f"{_hidden(name)}*"))


@contextmanager
def _folder_of(out_dir: Path, name: str) -> Iterator[Path]:
    """A hidden folder beside the results for what is not yet whole; one that a killed run left is removed."""
    for left in _left(out_dir, name):
        shutil.rmtree(left, ignore_errors=True)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_hidden(name), dir=out_dir))
    except OSError as error:
        raise write_error(out_dir, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _path(place: str, name: str) -> str:
    return str(PurePosixPath(place, name))


def _hidden(name: str) -> str:
    """How the hidden folders of a case begin; those of no other case do, for neighbours are in work at once."""
    plain = "".join(character if character.isalnum() or character in "-_." else "_" for character in name)
    apart = "" if plain == name else f"-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    return f".{plain}{apart}{TEMPORARY_MARK}"

"""The work on one case: from its images to its mask, in any process."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, cast

import numpy as np

from volseg.errors import InputError, OutputExistsError, VolsegError
from volseg.kept import ANEW, State, file_digest, kept_outcome, require_replaceable, state_of
from volseg.outcomes import FileDigest, Made, Outcome, Status
from volseg.verbs.predict.edited import (
    ACCEPTED,
    ALSO_EDITED,
    CHANGED,
    GONE,
    MAY_BE_TAKEN,
    NO_PROBABILITIES,
    NOT_OF_EDITED,
    OF_BEFORE,
    PASSING,
    REMOVED,
    EditedMask,
    read_edited,
    still_true,
)
from volseg.verbs.predict.model import load_model
from volseg.verbs.predict.places import being_placed, hidden_folder, put_in_place, require_same
from volseg.verbs.predict.roi import RoiMask
from volseg.verbs.predict.segmenting import make_ready, segment, segment_regions
from volseg.volume import read_header, read_mask
from volseg.words import counted, listed
from volseg.writers import MaskedImage

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from volseg.verbs.predict.model_file import ModelFile
    from volseg.verbs.predict.outputs import Outputs
    from volseg.verbs.predict.segmenting import Ready
    from volseg.verbs.predict.sources import FileSource, SeriesSource


BYTES_AHEAD = 32
"""Of each voxel of a case that is read: its stored and its real values, and copies of both."""
RECKONED_SHARE = 1.2
"""By so much what two cases take at once may be more than was reckoned."""
AGAIN = (
    "{} of the mask, which stays as it is, came out otherwise when the network ran again for the probabilities: "
    "another machine or version rounds otherwise."
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
        outputs: what is written of its masks.
        kept: the outcome of a case that stays as it is.
        masks: its masks, where they stay and other outputs are made of them.
        accepts: whether all other outputs are made anew, since a person edited a mask; else those that are missing.
    """

    names: tuple[str, ...]
    now: Made
    before: Made | None
    state: State
    outputs: Outputs
    kept: Outcome | None = None
    masks: tuple[str, ...] = ()
    accepts: bool = False


@dataclass(frozen=True)
class Prediction:
    """How cases are predicted; called with each, here or in a worker.

    Args:
        model: the model, loaded at the first case.
        outputs: what is written of its masks.
        overwrite: whether files that are there are replaced, whatever they are.
        accept_edited: whether masks that a person edited are taken as they are, and the other outputs made of them.
    """

    model: ModelFile
    outputs: Outputs
    overwrite: bool = False
    accept_edited: bool = False

    @property
    def out_dir(self) -> Path:
        """Where the masks go."""
        return self.outputs.out_dir

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
        now, before, state, outputs = looked.now, looked.before, looked.state, looked.outputs
        if looked.masks and case.earlier and before:
            return (yield from self._of_masks(case.earlier, before, source, looked))
        model = load_model(self.model)
        with (
            hidden_folder(self.out_dir, source.name) as folder,
            outputs.file(folder, (*outputs.writers, *outputs.joint)) as file,
        ):
            prepared = source.prepare(folder)
            ready = make_ready(prepared, source.modality, model)
            yield ready
            found = (segment_regions if outputs.folders else segment)(ready, model, file=file)
            del ready
            yield None
            made: list[str] = [*source.written()]
            for place, mask, table in zip(outputs.places, found.masks, outputs.tables(model), strict=True):
                image = outputs.image(source, folder, place, model, file)
                table = model.rules.table_of(table, found.values_outside)
                made += outputs.write(folder, place, outputs.writers, mask, found.grid, table, image)
            image = outputs.image(source, folder, "", model, file)
            made += outputs.write_together(folder, found.masks, found.grid, model, image, outputs.joint)
            files = {name: file_digest(folder / name) for name in made}
            if state is State.UNKNOWN:
                require_same(self.out_dir, files, files)
            put_in_place(self.out_dir, folder, files, before.files if before else {}, masks_too=True)
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
        source, earlier = case.source, case.earlier
        before = earlier.made if earlier else None
        masks, written = self.outputs.masks(source.name), source.written()
        method, roi = self.model.method, self.model.roi
        for more in (source.origin, roi.digest(source.name) if isinstance(roi, RoiMask) else ""):
            method = hashlib.sha256(f"{method}\n{more}".encode()).hexdigest() if more else method
        now = Made(source.digest(), method)
        is_same = before is not None and (before.input, before.method) == (now.input, now.method)
        recorded = tuple(name for name in masks if before and name in before.files)
        accepted: tuple[str, ...] = ()
        edited: tuple[str, ...] = ()
        if earlier and before and not self.overwrite:
            accepted = tuple(name for name in earlier.edited if (self.out_dir / name).is_file())
            if self.accept_edited and is_same:
                edited = self._edited(recorded, before)
                edited = edited and self._edited(edited, before, being_placed(self.out_dir, source.name))
        outputs = self.outputs.of_edited(tuple(dict.fromkeys((*accepted, *edited))))
        names = outputs.names(source, before)
        now = replace(now, files=dict.fromkeys(names, FileDigest(0, "")))

        def looked(
            state: State, kept: Outcome | None = None, masks: tuple[str, ...] = (), *, accepts: bool = False
        ) -> Looked:
            return Looked(names, now, before, state, outputs, kept, masks, accepts)

        # A run that was killed may have left files that it had not recorded yet.
        missing = before and not all(name in before.files and (self.out_dir / name).exists() for name in names)
        if before and missing and not self.overwrite and self._has_mask(before, now, (*written, *masks)):
            return looked(State.STALE, masks=masks)
        # Nobody's edited mask gets other outputs, nor loses those that it has, where it isn't asked for itself.
        watched = {**now.files} | {name: FileDigest(0, "") for name in masks if before and name in before.files}
        state = State.ABSENT if self.overwrite else state_of(before, replace(now, files=watched), self.out_dir)
        if edited or (accepted and self.accept_edited and is_same and state in (State.STALE, State.EDITED_STALE)):
            if not all(name in recorded and (self.out_dir / name).is_file() for name in masks):
                raise OutputExistsError(GONE, code="edited")
            return looked(State.EDITED, masks=masks, accepts=True)
        if state is State.EDITED_STALE and before:
            placed = being_placed(self.out_dir, source.name)
            if placed is not None and not self._edited(watched, before, placed):
                state = State.STALE  # nobody edited them: a run was killed while it put them there
        if state is State.STALE and accepted:
            state = State.EDITED_STALE
        if earlier and before and state in (State.CURRENT, State.EDITED):
            kept = kept_outcome(earlier, state)
            warnings = tuple(warning for warning in kept.warnings if warning not in PASSING)
            if state is State.EDITED and self._edited(recorded, before):
                warnings += (OF_BEFORE if {*names}.difference(masks, written) else MAY_BE_TAKEN,)
            if accepted and self.outputs.has_probabilities:
                warnings += (NO_PROBABILITIES,)
            return looked(state, replace(kept, warnings=warnings))
        if state is State.EDITED_STALE and is_same:
            raise OutputExistsError(NOT_OF_EDITED, code="edited")
        if state is not State.UNKNOWN:
            otherwise = "by another model, with other rules or in another precision"
            require_replaceable(state, f"{otherwise}, or of another series" if source.origin else otherwise)
        return looked(state)

    def _edited(
        self, names: Iterable[str], before: Made, placed: Collection[tuple[str, str]] | None = None
    ) -> tuple[str, ...]:
        """Those of some files that are there and hold something else than an earlier run recorded, or was placing."""
        digests = {name: file_digest(self.out_dir / name) for name in names if (self.out_dir / name).is_file()}
        return tuple(
            name
            for name, digest in digests.items()
            if digest != before.files.get(name) and (name, digest.xxh3) not in (placed or ())
        )

    def _has_mask(self, before: Made, now: Made, needed: tuple[str, ...]) -> bool:
        """Whether image and mask are there as an earlier run wrote them, of this input and by this method."""
        known = {name: digest for name, digest in before.files.items() if (self.out_dir / name).is_file()}
        state = state_of(before, replace(now, files=known), self.out_dir)
        is_same = before.input == now.input and state is State.CURRENT
        return is_same and all(name in known for name in needed)

    def _of_masks(
        self, earlier: Outcome, before: Made, source: FileSource | SeriesSource, looked: Looked
    ) -> Generator[Ready | None, None, Outcome]:
        """Make other outputs of a case from the masks that are there, and probabilities alone by the network.

        Those that are missing; of masks that a person edited since they were recorded, all.
        """
        outputs, masks, written = looked.outputs, looked.masks, source.written()
        there = {name: file_digest(self.out_dir / name) for name in before.files if (self.out_dir / name).is_file()}
        absent = [name for name in written if name not in there]
        named = MaskedImage(source.name, self.out_dir, source.series)
        # A workspace names files and labels, and ITK-SNAP writes it anew when a person saves it.
        own = [name for name in outputs.workspaces(named) if name in there and there[name] != before.files[name]]
        missing = {*looked.names} - ({*masks, *own} if looked.accepts else there.keys())
        model = load_model(self.model)
        writers, joint = outputs.making(missing, named, before)
        again: tuple[NDArray[np.unsignedinteger], ...] = ()
        with (
            hidden_folder(self.out_dir, source.name) as folder,
            outputs.file(folder, chain(joint, *writers.values())) as file,
        ):
            if file is not None:
                ready = make_ready(source.prepare(folder), source.modality, model)
                yield ready
                again = (segment_regions if outputs.folders else segment)(ready, model, file=file).masks
                del ready
                yield None
            made: list[str] = []
            images = self.out_dir
            if absent:
                source.prepare(folder)
                images, made = folder, [*written]
            taken = self.masks_of(earlier, source, looked, images)
            grid = read_header(source.images(images)[0]).grid
            apart = sum(int(np.count_nonzero(one.array != other)) for one, other in zip(taken, again, strict=False))
            beyond = tuple(sorted({value for one in taken for value in one.values_outside}))
            for place, one, table in zip(outputs.places, taken, outputs.tables(model), strict=True):
                table = model.rules.table_of(table, beyond)
                image = outputs.image(source, images, place, model, file)
                made += outputs.write(folder, place, writers[place], one.array, grid, table, image)
            if joint:
                image = outputs.image(source, images, "", model, file)
                made += outputs.write_together(folder, [one.array for one in taken], grid, model, image, joint)
            files = {name: file_digest(folder / name) for name in made}
            require_same(self.out_dir, files, [name for name in made if name not in before.files])
            expected = there if looked.accepts else before.files
            if any(file_digest(self.out_dir / name) != expected[name] for name in masks):
                raise InputError(CHANGED, code="edited")
            old = {
                name: digest for name, digest in before.files.items() if looked.accepts and name not in (*masks, *own)
            }
            changed = [name for name in old if name in there and there[name] not in (old[name], files.get(name))]
            if changed:
                raise OutputExistsError(ALSO_EDITED.format(listed(changed)), code="edited")
            gone = {name: digest for name, digest in old.items() if name not in written}
            put_in_place(self.out_dir, folder, files, gone, masks_too=False)
        told: tuple[str, ...] = (AGAIN.format(counted(apart, "voxel")),) if apart else ()
        left_out = (NO_PROBABILITIES,) if outputs.edited and self.outputs.has_probabilities else ()
        outcome = kept_outcome(earlier, State.CURRENT)
        if not looked.accepts:
            names = tuple(dict.fromkeys((*earlier.outputs, *made)))
            warnings = tuple(
                dict.fromkeys((*(one for one in outcome.warnings if one not in PASSING), *told, *left_out))
            )
            made_of = replace(before, files={**before.files, **files})
            return replace(outcome, outputs=names, warnings=warnings, made=made_of)
        stay = {name: there[name] for name in (*written, *masks, *own) if name in there}
        told = (ACCEPTED, *(warning for one in taken for warning in one.warnings))
        removed = [name for name in gone if name in there and name not in files]
        told += (REMOVED.format(listed(removed)),) if removed else ()
        return replace(
            outcome,
            code="done",
            outputs=tuple(dict.fromkeys((*written, *masks, *own, *made))),
            warnings=tuple(dict.fromkeys((*still_true(outcome.warnings), *told, *left_out))),
            made=replace(before, files={**stay, **files}),
            values_outside=beyond,
            edited=outputs.edited,
        )

    def masks_of(
        self, earlier: Outcome, source: FileSource | SeriesSource, looked: Looked, images: Path
    ) -> tuple[EditedMask, ...]:
        """The masks of a case that are there, on the grid of its image.

        Args:
            earlier: what an earlier run told of the case.
            source: the case.
            looked: what there is of it.
            images: the folder in which the images lie that were made for it.

        Raises:
            FileError, InputError: as ``read_edited``.
        """
        model, grid = load_model(self.model), read_header(source.images(images)[0]).grid
        known, is_region = earlier.values_outside, bool(looked.outputs.folders)
        return tuple(
            read_edited(self.out_dir / name, grid, model, known, is_region=is_region)
            if name in looked.outputs.edited
            else EditedMask(cast("NDArray[np.unsignedinteger]", read_mask(self.out_dir / name).array), (), known)
            for name in looked.masks
        )

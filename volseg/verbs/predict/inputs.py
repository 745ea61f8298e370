"""What there is to segment: images, folders of them, lists, data sets, DICOM."""

from __future__ import annotations

import functools
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from volseg.dataset.case import Case
from volseg.dataset.dataset import is_dataset, read_dataset
from volseg.dataset.images import cases_in
from volseg.dicom.choice.patterns import parse_channels
from volseg.dicom.file.archives import is_archive
from volseg.errors import BundleError, DataSetError, InputError, OutputExistsError, UsageError, VolsegError
from volseg.files import open_plain, readable
from volseg.outcomes import Ledger, Outcome, Status
from volseg.verbs.predict.listing import is_list, is_there, read_list
from volseg.verbs.predict.sources import IMAGES, FileSource, SeriesSource
from volseg.volume import IMAGE_KINDS, is_image, list_images, nifti_name, stem_of
from volseg.words import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from volseg.bundle.folder import Bundle
    from volseg.dataset.dataset import Dataset
    from volseg.dicom import Scan
    from volseg.dicom.choice.options import SeriesChoice
    from volseg.progress import Progress
    from volseg.pseudonyms import Naming
    from volseg.verbs.predict.listing import Entry

BESIDE = frozenset({".json", ".txt", ".csv", ".raw", ".zraw", ".png"})
"""Of files that lie beside images and are no DICOM."""
NOT_A_SERIES = "image file beside the series that were chosen"
"""What is counted where a choice among series leaves out the images that are none."""
OF_MASKS = ("prediction.json", "postprocessing.json")
"""Ledgers of verbs that write masks."""


@dataclass(frozen=True)
class Inputs:
    """What to segment, and what can't be.

    Args:
        sources: the images as cases, or the series that become images.
        outcomes: cases that ended before they had an image, such as refused series.
        skipped_kinds: files that are no volume, counted by kind.
        naming: by which series were named; None where the images are named by their files.
        aside: cases of series that were not chosen.
        scans: what was found of DICOM.
    """

    sources: tuple[FileSource | SeriesSource, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    skipped_kinds: dict[str, int] = field(default_factory=dict)
    naming: Naming | None = None
    aside: frozenset[str] = frozenset()
    scans: tuple[Scan, ...] = ()

    def __add__(self, other: Inputs) -> Inputs:
        return Inputs(
            self.sources + other.sources,
            self.outcomes + other.outcomes,
            dict(Counter(self.skipped_kinds) + Counter(other.skipped_kinds)),
            self.naming or other.naming,
            self.aside | other.aside,
            self.scans + other.scans,
        )


@dataclass(frozen=True, kw_only=True)
class Search:
    """How what there is to segment is found.

    Args:
        bundle: knows which cases a fold held out.
        out_dir: where the masks go.
        naming: of the cases that come from DICOM, called at the first of them.
        channels: how many the network takes.
        names: of these channels; empty where nobody knows.
        modality: what the bundle was made for, as DICOM names it; None where it doesn't tell.
        fold: of a data set, the cases that this fold held out.
        choice: among the series of DICOM.
        progress: receives the progress.
        scratch: a private folder that archives are unpacked into, to be kept until the last case is done.
        earlier: the cases whose masks earlier runs made.
    """

    bundle: Bundle
    out_dir: Path
    naming: Callable[[Path], Naming]
    channels: int
    names: tuple[str, ...]
    modality: str | None
    fold: int | None
    choice: SeriesChoice
    progress: Progress
    scratch: Path
    earlier: Collection[str] = ()

    def find(self, source: Path) -> Inputs:
        """Find what there is to segment.

        Args:
            source: an image, a folder of images, a list, a data set, or DICOM: a folder with all folders and archives
                in it, or a zip or tar archive.

        Raises:
            UsageError, InputError: there is nothing to segment, or an option has nothing to choose from.
            DataSetError: the data set can't be read, channels of a case are missing, or two cases have one name.
            BundleError: it is not known what the fold held out.
            OutputExistsError: the masks would go where the images are.
        """
        with readable(source):
            found = self._of_list(source) if source.is_file() and is_list(source) else self._of_one(source)
        given = [name for name in ("series", "modality", "channels", "name", "linkage") if getattr(self.choice, name)]
        if given and not found.scans:
            raise UsageError(f"--{given[0]} is for DICOM, and {source} holds none. Leave it out.")
        ours = {real_path(self.out_dir / name) for name in ("", IMAGES)}
        taken: set[str] = set()
        masks = functools.cache(masks_beside)
        for one in found.sources:
            # A mask may well be a further channel.
            if isinstance(one, FileSource) and one.case.images[0] in masks(one.case.images[0].parent):
                raise UsageError(
                    f"{one.case.images[0]} is a mask that volseg wrote, as the ledger there tells, and no image. Name the "
                    "images; a mask that is meant to be one has to lie in another folder."
                )
            # A mask that is made anew takes the image with it that an earlier run made for it.
            if isinstance(one, FileSource) and not ours.isdisjoint(folders_of(one.case.images)):
                raise OutputExistsError(
                    f"{self.out_dir} holds the images themselves. Name another folder for the masks."
                )
            names = {name.lower() for name in (nifti_name(one.name), *one.image_names)}
            if names & taken:
                raise DataSetError(
                    f"{source}: two images or series would be case {one.name}. Rename one, or give them names in a list, "
                    "case,path on each line.",
                    path=source,
                )
            taken |= names
        return found

    def _of_one(self, source: Path) -> Inputs:
        if source.is_dir() and is_dataset(source):
            return self._of_dataset(read_dataset(source, discover_labels=False))
        if source.is_file() and not is_image(source):
            if is_archive(source, source.name):
                return self._from_dicom(source)
            raise UsageError(
                f"{source} is no image that volseg reads: it has to be {IMAGE_KINDS}, a zip or tar archive of DICOM, or a list "
                "of such files (.txt, .csv or .json).",
                path=source,
            )
        if not source.is_dir():
            open_plain(source).close()  # says what it is instead of a file
        if source.is_file():
            return Inputs(tuple(map(FileSource, cases_in(source, self.channels))))
        images = list_images(source)
        if not images:
            if not any(source.iterdir()):
                raise UsageError(
                    f"{source} is empty. Name an image, a folder of images, a data set or a folder of DICOM.",
                    code="no-images",
                    path=source,
                )
            return self._from_dicom(source)
        beside = self._beside(source, images) if self._has_more(source) else Inputs()
        if beside.scans and (self.choice.series or self.choice.modality or self.choice.channels):
            # Only series were asked for, and a file is none.
            return beside + Inputs(skipped_kinds={NOT_A_SERIES: len(images)}, aside=frozenset(map(stem_of, images)))
        return Inputs(tuple(map(FileSource, cases_in(source, self.channels)))) + beside

    def _has_more(self, source: Path) -> bool:
        """Whether a folder of images holds anything that may be DICOM, too."""
        ours = os.path.realpath(self.out_dir)
        return any(
            not is_image(path)
            and not path.name.startswith(".")
            and (os.path.realpath(path) != ours if path.is_dir() else path.suffix.lower() not in BESIDE)
            for path in source.iterdir()
        )

    def _beside(self, source: Path, images: Sequence[Path]) -> Inputs:
        """The DICOM that lies in a folder of images, if any."""
        from volseg.dicom.series.scan import NOT_DICOM

        try:
            found = self._from_dicom(source)
        except InputError as error:
            if error.code != "no-images":
                raise
            return Inputs()
        kinds = Counter(found.skipped_kinds) - Counter({NOT_DICOM: len(images)})
        return replace(found, skipped_kinds=dict(kinds))

    def _of_list(self, path: Path) -> Inputs:
        """What a list names; an entry that can't be read is refused, and the others stay."""
        entries = read_list(path)
        if not any(is_there(one) for entry in entries for one in entry.paths):
            raise UsageError(
                f"{path} is no image that volseg reads, nor a list of some: nothing that it names is there, such as "
                f"{entries[0].paths[0].name}. Paths are relative to the folder of the list."
            )
        found, bad = Inputs(), list[tuple["Entry", VolsegError]]()
        for entry in entries:
            try:
                with readable(entry.paths[0]):
                    found += self._of_entry(entry, path.parent)
            except VolsegError as error:
                bad.append((entry, error))
        called = Counter(name.lower() for name in (*(one.name for one in found.sources), *(one.name for one, _ in bad)))
        refused = (self._refused(entry, error, is_alone=called[entry.name.lower()] == 1) for entry, error in bad)
        return found + Inputs(outcomes=tuple(refused))

    def _refused(self, entry: Entry, error: VolsegError, *, is_alone: bool) -> Outcome:
        """The outcome of an entry that can't be read.

        A folder or archive is often called after its patient, so the ledger doesn't name it; nor has it two cases of one
        name (``is_alone``).
        """
        first = entry.paths[0]
        name, private = entry.name, ""
        if not is_alone or not (entry.case or is_image(first)):
            name, private = self.naming(self.out_dir).file(str(first)), first.name
        message = error.message if error.path in entry.paths else error.within()
        for number, one in enumerate(entry.paths):
            unnamed = f"Channel {number}" if len(entry.paths) > 1 else "It"
            message = message.replace(printable(str(one)), printable(one.name) if is_image(one) else unnamed)
        return replace(Outcome.of_error(name, error, private=private), message=message)

    def _of_entry(self, entry: Entry, folder: Path) -> Inputs:
        """What one entry of a list in this folder names."""
        first, *others = entry.paths
        if others or (entry.case and is_image(first) and self.channels == 1):
            for path in entry.paths:
                open_plain(path).close()
                if not is_image(path):
                    raise UsageError(f"{path} is no image that volseg reads: it has to be {IMAGE_KINDS}.", path=path)
            if len(set(map(real_path, entry.paths))) < len(entry.paths):
                raise UsageError("Two of its channels are one file. Where that is meant, give a copy of the file.")
            return Inputs((FileSource(Case(entry.case or entry.name, entry.paths, None)),))
        if is_list(first):
            raise UsageError(f"{first} is a list in a list. Write its entries into one.", path=first)
        if not is_there(first):
            open_plain(first).close()  # says that it is absent
        scratch = self.scratch / f"entry{entry.place}"
        if not is_image(first):
            scratch.mkdir()
        found = replace(self, scratch=scratch)._of_one(first)
        place = os.path.relpath(first, folder)
        found = replace(
            found,
            sources=tuple(replace(one, entry=place) if isinstance(one, SeriesSource) else one for one in found.sources),
            outcomes=tuple(
                replace(one, private=PurePosixPath(place, one.private).as_posix()) if one.private else one
                for one in found.outcomes
            ),
        )
        if not entry.case:
            return found
        if not found.sources and len(found.outcomes) == 1:  # which says why it is none
            return replace(found, outcomes=(replace(found.outcomes[0], case=entry.case),))
        if len(found.sources) != 1:
            raise InputError(
                f"The list calls it {entry.case}, and it holds {len(found.sources)} images or series. Name one of them "
                "on a line, choose with --series, or leave the name out.",
                code="several-images",
            )
        (one,) = found.sources
        if isinstance(one, FileSource):
            return replace(found, sources=(FileSource(replace(one.case, name=entry.case)),))
        return replace(found, sources=(replace(one, name=entry.case, is_named=True),))

    def _of_dataset(self, dataset: Dataset) -> Inputs:
        """The images without a mask; with a fold the cases that it held out. What is broken or gone is told.

        Raises:
            UsageError: there is no such case.
            BundleError: it is not known what the fold held out.
        """
        from volseg.training.checkpoint import RunFolder
        from volseg.training.record import RunRecord

        # A mask without an image is nothing to predict; any other case that could not be put together is.
        broken = {
            fault.case: Outcome(fault.case, Status.REFUSED, fault.code, fault.message)
            for fault in reversed(dataset.faults)
            if fault.is_error and fault.code != "label-without-image"
        }
        for case in dataset.cases:
            broken.pop(case.name, None)
        broken.pop("", None)
        if self.fold is None:
            cases = dataset.test
            if not cases and not broken:
                raise UsageError(
                    f"{dataset.folder} has no images without a mask. For the cases that a fold held out give --fold K; "
                    f"for all images name the folder {dataset.folder / 'imagesTr'}."
                )
        else:
            record = RunFolder(self.bundle.runs / f"fold_{self.fold}").record
            if not record.exists():
                raise BundleError(
                    f"{self.bundle.root} keeps no record of the cases that fold {self.fold} held out. Train it again."
                )
            held_out = RunRecord.read(record).cases.validation
            cases = tuple(case for case in dataset.training if case.name in held_out)
            if not cases:
                raise UsageError(
                    f"{dataset.folder} has none of the {len(held_out)} cases that fold {self.fold} held out."
                )
            gone = {name: broken.get(name) for name in held_out if name not in {case.name for case in cases}}
            message = "The fold held this case out, and the data set no longer has it with a mask."
            broken = {name: told or Outcome(name, Status.REFUSED, "case-gone", message) for name, told in gone.items()}
        return Inputs(tuple(map(FileSource, cases)), tuple(broken[name] for name in sorted(broken)))

    def _from_dicom(self, source: Path) -> Inputs:
        """The series of a folder or an archive of DICOM: each is read, and its image written, when its turn comes."""
        from volseg.dicom import scan
        from volseg.dicom.choice.channels import plan_channels
        from volseg.dicom.choice.names import NameFault, case_names
        from volseg.dicom.choice.selection import NOT_CHOSEN, chosen, fitting, select
        from volseg.pseudonyms import series_in

        choice = self.choice
        try:
            everything = scan(source, self.progress, scratch=self.scratch)
        except InputError as error:
            if error.code != "no-dicom":
                raise
            message = f"{source} holds neither an image ({IMAGE_KINDS}) nor a DICOM file. Name another."
            raise InputError(message, code="no-images", path=source) from error
        naming = self.naming(self.out_dir)
        found = select(everything, choice, naming)
        if self.modality and not (choice.series or choice.modality or choice.channels):
            found = fitting(found, self.modality)
        outcomes: tuple[Outcome, ...] = ()
        if choice.channels:
            plan = plan_channels(found, choice, naming)
            found, outcomes = plan.found, plan.outcomes
            order = self._channel_order()
            members = [tuple(case.series[number] for number in order) for case in plan.cases]
            names: list[str | NameFault] = [case.case for case in plan.cases]
        else:
            members = [(one,) for one in found.series]
            if choice.name:
                names = case_names(found.series, choice.name)
            else:
                names = [naming.case(one.identity, one.modality) for one in found.series]
        sources = []
        for name, series in zip(names, members, strict=True):
            case = naming.case(series[0].identity, series[0].modality)
            if isinstance(name, NameFault):
                outcomes += (Outcome(case, Status.REFUSED, name.code, name.message, private=series[0].source),)
            else:
                sources.append(SeriesSource(name, series, naming, is_named=bool(choice.name)))
        aside = frozenset(naming.case(one.identity, one.modality) for one in found.rejected if one.code == NOT_CHOSEN)
        told = chosen(found)
        outcomes = (*told.outcomes(naming), *outcomes)
        if not sources and not any(one.status in (Status.REFUSED, Status.FAILED) for one in outcomes):
            raise InputError(
                f"{source} holds no image and no DICOM series that is a volume.", code="no-images", path=source
            )
        there = {case: series_in(case) for case in self.earlier if case not in aside}
        outcomes += found.outdated(naming, there, {one.name for one in sources})
        return Inputs(tuple(sources), outcomes, dict(told.skipped_kinds), naming, aside, (everything,))

    def _channel_order(self) -> tuple[int, ...]:
        """Which of the channels that were given is the network's first, and so on, by their names where they tell.

        Raises:
            UsageError: the network takes another number of channels.
        """
        given = [channel.name for channel in parse_channels(self.choice.channels)]
        if len(given) != self.channels:
            raise UsageError(
                f"--channels names {len(given)} channels, and the bundle takes {self.channels}"
                f"{': ' * bool(self.names)}{', '.join(self.names)}."
            )
        folded = [name.casefold() for name in given]
        wanted = [name.casefold() for name in self.names]
        if sorted(folded) == sorted(wanted):
            return tuple(folded.index(name) for name in wanted)
        called = f", which calls them {', '.join(self.names)}" if self.names else ""
        self.progress.say(
            f"warning: the channels are taken in the order of --channels, {', '.join(given)}, for those of the "
            f"bundle{called}."
        )
        return tuple(range(len(given)))


def folders_of(images: Iterable[Path]) -> set[Path]:
    """Where images lie, and where what they are links to lies."""
    return {place for one in images for place in (real_path(one.parent), real_path(one).parent)}


def real_path(path: Path) -> Path:
    """Without links; unlike ``Path.resolve``, of links in a ring too."""
    return Path(os.path.realpath(path))


def masks_beside(folder: Path) -> frozenset[Path]:
    """The masks in a folder that the ledger there or in the folder above tells of."""
    found: set[Path] = set()
    for place, name in product((folder, folder.parent), OF_MASKS):
        try:
            ledger = Ledger.read(place / name)
        except VolsegError:  # another program's file of that name, which tells nothing
            continue
        for outcome in ledger.outcomes if ledger else ():
            found.update(place / one for one in outcome.outputs if not one.startswith(f"{IMAGES}/"))
    return frozenset(found)

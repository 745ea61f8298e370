"""Scanning a folder: reading every DICOM header, building and verifying series."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from volseg.dicom.file import tags
from volseg.dicom.file.archives import MAX_DEPTH, Limits, Unpacker, is_archive
from volseg.dicom.file.files import INCOMPLETE_IMAGES, LABEL_OBJECTS, UNOPENED, FoundFile, find_files, skipped_kind
from volseg.dicom.file.header import DamagedHeaderError, Header, NotDicomError, read_header
from volseg.dicom.series.building import build_series
from volseg.dicom.series.facts import with_facts
from volseg.dicom.series.notes import with_notes
from volseg.dicom.series.repair import DEFAULT_REPAIRS
from volseg.dicom.series.series import LOCALIZER, NAMED_FILES, Rejected, Series
from volseg.dicom.series.stack import StackFault
from volseg.errors import DiskFullError, FileError, InputError, VolsegError
from volseg.outcomes import Outcome, Status
from volseg.progress import SILENT, Progress
from volseg.pseudonyms import without_order
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence
    from pathlib import Path

    from volseg.dicom.series.repair import Repairs
    from volseg.pseudonyms import Naming

NOT_DICOM = "file that is not DICOM"
_OTHER_VOLUMES = (
    "An earlier run made it of this series, which is made of other volumes now, or of volumes that are called otherwise. "
    "Don't rely on it: remove it with all that belongs to it."
)


@dataclass(frozen=True, slots=True)
class BadFile:
    """A DICOM file that can't be read, nor told to be of a series; ``name``, relative to the folder that was given, is
    private."""

    name: str
    error: VolsegError


@dataclass(frozen=True, eq=False)
class Scan:
    """What a folder of DICOM holds.

    Args:
        series: the volumes, verified, ordered by study and series.
        rejected: series that are no volume, skipped or refused.
        bad_files: files that can't be read, nor told to be of a series.
        skipped_kinds: files that are no image of a volume, counted by kind.
        label_files: header and private name of each segmentation and structure set; ``skipped_kinds`` counts them too.
        passed: localizers that nobody asked for, numbered as all series; ``skipped_kinds`` counts their images.
    """

    series: tuple[Series, ...]
    rejected: tuple[Rejected, ...]
    bad_files: tuple[BadFile, ...]
    skipped_kinds: Mapping[str, int]
    label_files: tuple[tuple[Header, str], ...] = ()
    passed: tuple[Rejected, ...] = ()

    def outcomes(self, naming: Naming) -> tuple[Outcome, ...]:
        """What became of the series that are no volume and of the files that can't be read: one each, rejected first."""
        rejected = (
            Outcome(
                naming.case(one.identity, one.modality),
                one.status,
                one.code,
                one.message,
                private=one.source,
            )
            for one in self.rejected
        )
        bad = (Outcome.of_error(naming.file(file.name), file.error, private=file.name) for file in self.bad_files)
        return (*rejected, *bad)

    def outdated(self, naming: Naming, there: Mapping[str, str], names: Container[str] = ()) -> tuple[Outcome, ...]:
        """The refusals of cases that an earlier run made of series that are here, and that no volume here is called.

        Args:
            naming: by which series and cases are named.
            there: the pseudonym of the series of each case that lies there.
            names: that volumes have beside those by ``naming``.
        """
        everything = [one for _, one in numbered(self)]
        series = {naming.series(one.identity): one.source for one in everything}
        known = {naming.case(one.identity, one.modality) for one in everything}
        return tuple(
            Outcome(case, Status.REFUSED, "other-volumes", _OTHER_VOLUMES, private=series[of])
            for case, of in sorted(there.items())
            if of in series and without_order(case) not in known and case not in names
        )


def numbered(found: Scan) -> tuple[tuple[int, Series | Rejected], ...]:
    """Every series with its number, from 1: the same for one folder whatever the options are."""
    everything: tuple[Series | Rejected, ...] = (*found.series, *found.rejected, *found.passed)
    ranked = sorted(everything, key=lambda one: (one.identity.study_uid, one.order, one.identity.part))
    return tuple(enumerate(ranked, start=1))


def short_name(one: Series | Rejected) -> str:
    """A case's name without the hash, such as ``ct_02``, which several studies may have."""
    return "_".join(filter(None, (one.modality.lower(), f"{one.order:02d}", one.identity.part)))


def scan(
    folder: Path,
    progress: Progress = SILENT,
    *,
    localizers: bool = False,
    repairs: Repairs = DEFAULT_REPAIRS,
    scratch: Path | None = None,
    apart: Callable[[str], bool] | None = None,
) -> Scan:
    """Find every DICOM file under a folder and build its series; headers are read, no pixel is decoded.

    Args:
        folder: searched with all folders in it; file names don't matter. With ``scratch`` also an archive.
        progress: told of each file.
        localizers: whether images that call themselves localizers are series too.
        repairs: which faults of geometry are put right.
        scratch: a private folder that archives are unpacked into, to be kept as long as pixels may be read; without it
            archives are not opened.
        apart: of which folders, relative to ``folder``, the images make series of their own even where images elsewhere
            bear the same SeriesInstanceUID.

    Raises:
        UsageError: the folder is absent or a file.
        InputError: it holds no DICOM file.
        FileError: it can't be listed.
    """
    if scratch is not None and folder.is_file() and is_archive(folder, folder.name):
        found = [FoundFile(folder, folder.name)]
    else:
        found = find_files(folder)
    if not found:
        raise InputError(f"{folder} is empty. Give the folder that holds the DICOM files.", code="empty-folder")
    finds = _Finds(opens_archives=scratch is not None)
    finds.take_all(found, progress)
    if scratch is not None:
        _take_archives(finds, scratch, progress)
    if finds.are_empty:
        raise InputError(
            f"{folder} holds no DICOM file among {len(found)}. Give the folder that holds them.", code="no-dicom"
        )
    if apart is not None:
        finds.images = _apart(finds.images, apart)
    built = with_facts(with_notes(build_series(finds.images, repairs, localizers=localizers), finds.images))
    passed = tuple(one for one in built if isinstance(one, Rejected) and one.code == LOCALIZER)
    built = [one for one in built if one not in passed]
    finds.settle({one.identity.series_uid for one in built})
    built = [_without_holes(one, finds.damaged.get(one.identity.series_uid, ())) for one in built]
    return Scan(
        series=tuple(one for one in built if isinstance(one, Series)),
        rejected=tuple(one for one in built if isinstance(one, Rejected)),
        bad_files=tuple(finds.bad),
        skipped_kinds=finds.kinds + Counter({LOCALIZER: sum(one.count for one in passed)}),
        label_files=tuple(finds.labels),
        passed=passed,
    )


def _apart(images: Sequence[tuple[Header, str]], apart: Callable[[str], bool]) -> list[tuple[Header, str]]:
    """Images with a SeriesInstanceUID of their folder's own where theirs stands in other folders too."""
    folders: dict[str, set[str]] = defaultdict(set)
    for header, name in images:
        folders[header.uid(tags.SERIES_INSTANCE_UID)].add(name.rpartition("/")[0])
    found = []
    for header, name in images:
        uid, folder = header.uid(tags.SERIES_INSTANCE_UID), name.rpartition("/")[0]
        if len(folders[uid]) > 1 and apart(folder):
            digest = blake2b(f"{uid} {folder}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
            own = f"2.25.{int.from_bytes(digest)}".encode("ascii")  # a UID by the form of PS3.5, B.2
            header = replace(header, values={**header.values, tags.SERIES_INSTANCE_UID: own})
        found.append((header, name))
    return found


def _take_archives(finds: _Finds, scratch: Path, progress: Progress) -> None:
    """Read what lies in archives, and in archives in those."""
    limits_of: dict[Path, Limits] = {}
    for _ in range(MAX_DEPTH + 1):
        archives, finds.archives = finds.archives, []
        if not archives:
            return
        unpacked: list[FoundFile] = []
        sizes = [file.path.stat().st_size for file in archives]
        with progress.task("Unpacking", sum(sizes) / 1e6, "MB") as task:
            unpacker = Unpacker(scratch / str(len(limits_of)), lambda count: task.advance(count / 1e6))
            unpacker.folder.mkdir()
            for archive, size in zip(archives, sizes, strict=True):
                limits = limits_of.get(archive.path) or Limits(size)
                try:
                    files = unpacker.unpack(archive, limits)
                except DiskFullError:
                    raise
                except (InputError, FileError) as error:
                    finds.bad.append(BadFile(archive.name, error))
                    continue
                limits_of.update({file.path: limits for file in files if not file.skipped})
                unpacked += files
        finds.take_all(unpacked, progress)
    for archive in finds.archives:
        message = "An archive lies in an archive in an archive; it was left alone. Unpack the outer ones."
        finds.bad.append(BadFile(archive.name, InputError(message, code="nested-too-deep")))


@dataclass
class _Finds:
    """What the headers of a folder say, file by file."""

    opens_archives: bool = False
    archives: list[FoundFile] = field(default_factory=list)
    """Those that are still to be opened."""
    images: list[tuple[Header, str]] = field(default_factory=list)
    labels: list[tuple[Header, str]] = field(default_factory=list)
    bad: list[BadFile] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    damaged: dict[str, list[BadFile]] = field(default_factory=lambda: defaultdict(list))
    """Files that name their series but not all that a slice needs, by SeriesInstanceUID."""
    _incomplete: list[tuple[str, str, str]] = field(default_factory=list)
    _shared: dict[bytes, bytes] = field(default_factory=dict)

    def take_all(self, files: Sequence[FoundFile], progress: Progress) -> None:
        """Read the headers of files."""
        with progress.task("Reading headers", len(files), "files") as task:
            for file in files:
                self.take(file)
                task.advance()

    def take(self, file: FoundFile) -> None:
        """Read one file's header."""
        if file.skipped:
            self.kinds[file.skipped] += 1
            return
        if file.error:
            self.bad.append(BadFile(file.name, file.error))
            return
        try:
            header = read_header(file.path)
        except NotDicomError:
            if self.opens_archives and is_archive(file.path, file.name):
                self.archives.append(file)
            else:
                self.kinds[NOT_DICOM] += 1
        except DamagedHeaderError as error:
            (self.damaged[error.series_uid] if error.series_uid else self.bad).append(BadFile(file.name, error))
        except FileError as error:
            self.bad.append(BadFile(file.name, error))
        else:
            self._classify(header, file.name)

    def _classify(self, header: Header, name: str) -> None:
        kind = skipped_kind(header)
        if kind is None:
            # Most values are the same in a hundred thousand headers: each is kept once.
            values = {tag: self._shared.setdefault(value, value) for tag, value in header.values.items()}
            self.images.append((replace(header, values=values), name))
        elif kind in INCOMPLETE_IMAGES:
            self._incomplete.append((header.uid(tags.SERIES_INSTANCE_UID), name, kind))
        else:
            self.kinds[kind] += 1
            if header.uid(tags.SOP_CLASS_UID) in LABEL_OBJECTS:
                self.labels.append((header, name))

    @property
    def are_empty(self) -> bool:
        """Whether no file was a DICOM object."""
        seen = self.images or self.archives or self.bad or self.damaged or self._incomplete
        return not seen and not self.kinds.keys() - {NOT_DICOM, *UNOPENED}

    def settle(self, series_uids: set[str]) -> None:
        """Sort out files that are no slice as they stand: faults of a series that is there, or on their own."""
        for series_uid, name, kind in self._incomplete:
            if series_uid in series_uids:
                error = InputError(f"It is an {kind}, so it was cut off. Export it again.", code="incomplete-image")
                self.damaged[series_uid].append(BadFile(name, error))
            else:
                self.kinds[kind] += 1
        for series_uid in self.damaged.keys() - series_uids:
            self.bad.extend(self.damaged.pop(series_uid))
        self.bad.sort(key=lambda file: file.name)


def _without_holes(one: Series | Rejected, damaged: Sequence[BadFile]) -> Series | Rejected:
    """A series, refused where files of it can't be read: whether slices lack at its ends, nobody could tell."""
    if not damaged:
        return one
    error = damaged[0].error
    many = "A file" if len(damaged) == 1 else f"{len(damaged)} files"
    fault = StackFault(error.code, f"{many} of this series can't be read. {error.message}")
    others = one.faults if isinstance(one, Rejected) else ()
    count = one.count if isinstance(one, Rejected) else len(one.slices)
    return Rejected(
        one.identity,
        one.modality,
        one.order,
        Status.REFUSED,
        (fault, *others),
        "",
        count + len(damaged),
        listed([file.name for file in damaged], NAMED_FILES),
    )

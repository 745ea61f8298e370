"""Preview of a prediction: what would become of each input, without writing."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volseg.dicom.file.archives import private_folder
from volseg.errors import VolsegError
from volseg.outcomes import ALREADY_DONE, Ledger, Outcome, Provenance, Status
from volseg.progress import SILENT, Progress
from volseg.pseudonyms import KEY_BYTES, Naming
from volseg.verbs.predict.gathering import gather, opened
from volseg.verbs.predict.options import PredictOptions
from volseg.verbs.predict.sources import SeriesSource
from volseg.words import listed

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.dicom import Rejected, Scan, Series
    from volseg.verbs.predict.case import CaseToPredict, Prediction
    from volseg.verbs.predict.inputs import Inputs
    from volseg.verbs.predict.model import Model
    from volseg.verbs.predict.sources import FileSource

WOULD = "predicted"
TAKEN = "its edited mask is taken as it is; made of it: {}"
TAKEN_ALONE = "its edited mask is taken as it is"


@dataclass(frozen=True)
class PreviewRow:
    """What would become of one input.

    Args:
        number: by which ``series`` of the options chooses it; 0 for what is no series.
        case: the name it would get; without the hash where there is no key yet.
        kind: the modality, where it is known.
        images: of a series, how many; of files, how many channels.
        action: what would happen, in words.
        status: how it would end.
        source: where its files are, relative to the folder or list that was given; private.
        description: of the series, by which ``channels`` of the options finds it; private.
    """

    number: int
    case: str
    kind: str
    images: int
    action: str
    status: Status
    source: str = ""
    description: str = ""


def preview(
    bundle_dir: Path,
    source: Path,
    out_dir: Path,
    options: PredictOptions | None = None,
    progress: Progress = SILENT,
) -> tuple[tuple[PreviewRow, ...], Ledger]:
    """What ``predict`` would do, without writing anything.

    Returns:
        A row for each input, sorted by number and name; and the ledger as far as it is known, for its exit code and the
        kinds of files that are passed over.

    Raises:
        VolsegError: as ``predict``.
    """
    from volseg.verbs.predict.model import load_model

    asked = opened(bundle_dir, source, out_dir, options or PredictOptions())
    key = Naming.existing(out_dir)
    naming = key or Naming(secrets.token_bytes(KEY_BYTES))
    try:
        with private_folder() as scratch:
            model = load_model(asked.file)
            gathered = gather(asked, model, source, lambda _: naming, progress, scratch)
            inputs = gathered.inputs
            if inputs.naming and key:
                key.require_names_of(gathered.found, out_dir)
            ends = [(case.source, _planned(gathered.work, case, model)) for case in gathered.cases]
    finally:
        load_model.cache_clear()
    rows = _rows(inputs, ends, None if key or asked.options.name or asked.options.channels else naming)
    outcomes = (*inputs.outcomes, *(end for _, end in ends))
    return rows, Ledger(outcomes, Provenance("predict", {}, {}), inputs.skipped_kinds, len(gathered.there))


def _planned(work: Prediction, case: CaseToPredict, model: Model) -> Outcome:
    """How a case would end, as far as headers and what is there tell."""
    from volseg.verbs.predict.checks import require_channels

    source = case.source
    try:
        looked = work.look(case)
        if looked.kept:
            return looked.kept
        if looked.accepts and case.earlier:
            if all(image.exists() for image in source.images(work.out_dir)):
                work.masks_of(case.earlier, source, looked, work.out_dir)  # says what is wrong with them
            made = [name for name in looked.names if name not in (*looked.masks, *source.written())]
            return Outcome(source.name, Status.DONE, WOULD, TAKEN.format(listed(made)) if made else TAKEN_ALONE)
        if isinstance(source, SeriesSource):
            channels, grid = len(source.members), source.series.grid
        else:
            grid, channels = require_channels(source.case, model)
    except VolsegError as error:
        return Outcome.of_error(source.name, error, private=source.private)
    several = f", {channels} channels" if channels > 1 else ""
    return Outcome(source.name, Status.DONE, WOULD, f"{grid.described}{several}")


def _rows(
    inputs: Inputs, ends: list[tuple[FileSource | SeriesSource, Outcome]], nameless: Naming | None
) -> tuple[PreviewRow, ...]:
    """The rows; ``nameless`` is the naming that stands in where there is no key yet."""
    from volseg.dicom import Series, numbered, short_name
    from volseg.dicom.choice.names import header_text
    from volseg.dicom.file import tags

    by_case: dict[str, tuple[int, Scan, Series | Rejected]] = {}
    for scan in inputs.scans:
        assert inputs.naming is not None
        for number, one in numbered(scan):
            by_case.setdefault(inputs.naming.case(one.identity, one.modality), (number, scan, one))
    rows = []
    told = set()
    for source, end in ends:
        words = "already done" if end.code == ALREADY_DONE else f"{end.status} [{end.code}] {end.message}"
        words = end.message if end.code == WOULD else words
        if not isinstance(source, SeriesSource):
            files = ", ".join(path.name for path in source.case.images)
            rows.append(
                PreviewRow(0, source.name, source.modality or "", len(source.case.images), words, end.status, files)
            )
            continue
        for channel, series in enumerate(source.members):
            assert inputs.naming is not None
            case = inputs.naming.case(series.identity, series.modality)
            told.add(case)
            number = by_case[case][0]
            name = short_name(series) if nameless and not source.is_named else source.name
            part = f"channel {channel} of {name}: " if len(source.members) > 1 else ""
            description = header_text(series, tags.SERIES_DESCRIPTION)
            rows.append(PreviewRow(number, case if part and not nameless else name, series.modality,
                                   len(series.slices), f"{part}{words}", end.status, source.place_of(series), description))  # fmt: skip
    for outcome in inputs.outcomes:
        number, _, known = by_case.get(outcome.case, (0, None, None))
        told.add(outcome.case)
        name = short_name(known) if nameless and known else outcome.case
        if nameless and not known and outcome.private and name.startswith("file_"):
            name = "file"  # what stands behind it is another each time
        words = f"{outcome.status} [{outcome.code}] {outcome.message}".rstrip()
        rows.append(
            PreviewRow(
                number, name, known.modality if known else "", _images(known), words, outcome.status, outcome.private
            )
        )
    for case, (number, scan, one) in by_case.items():
        if case not in told and one not in scan.passed:
            name = short_name(one) if nameless else case
            description = header_text(one, tags.SERIES_DESCRIPTION) if isinstance(one, Series) else ""
            rows.append(PreviewRow(number, name, one.modality, _images(one), "skipped [not-chosen] It was not chosen.",
                                   Status.SKIPPED, one.source, description))  # fmt: skip
    return tuple(sorted(rows, key=lambda row: (row.number, row.case)))


def _images(one: Series | Rejected | None) -> int:
    from volseg.dicom import Series

    if one is None:
        return 0
    return len(one.slices) if isinstance(one, Series) else one.count

"""What a ``dataset.json`` says: the Medical Segmentation Decathlon's form and nnU-Net's.

Read as hostile input: bounded in size and depth, every field validated, no path followed here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from volseg.errors import DataSetError, InputError, VolsegError
from volseg.files import read_bounded
from volseg.labels import BACKGROUND, IGNORE_NAME, MAX_INDEX, Label, LabelCode, LabelTable, Region, numbered
from volseg.volume import IMAGE_SUFFIXES
from volseg.words import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DATASET_JSON = "dataset.json"
MAX_LISTING_BYTES = 2**24
"""Ten thousand cases take 1.5 MB. Parsed, JSON grows by a factor of up to 30, so the bound keeps below 0.5 GB."""
MAX_NAME_LENGTH = 200
"""Names of labels, channels and cases become file names, columns and headings."""


@dataclass(frozen=True)
class ListedCase:
    """One entry of ``training`` or ``test``: paths as written, not yet checked."""

    images: tuple[str, ...]
    label: str | None


@dataclass(frozen=True)
class Listing:
    """The content of a ``dataset.json``; the defaults are those of a folder that has none.

    Args:
        labels: the table, with colours and codes where ``label_details`` has them; empty where only the background is
            named.
        channels: the names in their order; empty where none are named.
        numbered: whether every image is named by case and channel, ``CASE_0000``, as nnU-Net has it.
        training: the listed pairs.
        test: the listed images without a label.
        patients: from case name to the patient's pseudonym.
        regions: unions of labels, as nnU-Net has them; where there are some, every entry is one, and ``labels`` has
            all that they are made of.
    """

    labels: LabelTable = field(default_factory=lambda: LabelTable(()))
    channels: tuple[str, ...] = ()
    numbered: bool = False
    training: tuple[ListedCase, ...] = ()
    test: tuple[ListedCase, ...] = ()
    patients: Mapping[str, str] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()


class _Code(BaseModel):
    model_config = ConfigDict(extra="ignore")

    value: str = Field(max_length=MAX_NAME_LENGTH)
    scheme: str = Field(max_length=MAX_NAME_LENGTH)
    meaning: str = Field("", max_length=MAX_NAME_LENGTH)


_Byte = Annotated[int, Field(ge=0, le=255)]


class LabelDetail(BaseModel):
    """The colour and the code of a label, as ``LabelTable.details_to_json`` writes them."""

    model_config = ConfigDict(extra="ignore")

    colour: tuple[_Byte, _Byte, _Byte] | None = None
    code: _Code | None = None


class _Entry(BaseModel):
    model_config = ConfigDict(extra="ignore")

    image: str | list[str]
    label: str | None = None


class _DatasetJson(BaseModel):
    model_config = ConfigDict(extra="ignore")

    labels: dict[str, str | int | list[int]] | None = None
    regions_class_order: list[int] | None = None
    label_details: dict[str, LabelDetail] = {}
    modality: dict[str, str] | list[str] | str | None = None
    channel_names: dict[str, str] | list[str] | None = None
    file_ending: str | None = None
    training: list[_Entry | str] = []
    test: list[_Entry | str] = []
    patients: dict[str, str] = {}


def read_listing(path: Path) -> Listing:
    """Read a ``dataset.json``.

    Raises:
        DataSetError: the file can't be read, is too large or too deep, is no JSON, or a field makes no sense; with
            the code ``bad-dataset-json``.
    """
    try:
        raw = read_bounded(path, MAX_LISTING_BYTES, "list of cases")
    except VolsegError as error:
        raise _bad(error.message, path=path) from error
    try:
        # pydantic's parser is bounded in depth; editors on Windows begin a file with a byte order mark.
        content = _DatasetJson.model_validate_json(raw.removeprefix(b"\xef\xbb\xbf"))
    except ValidationError as error:
        raise _bad(f"{path} {_first_reason(error)}", path=path) from error
    return _listing(path, content)


def _listing(path: Path, content: _DatasetJson) -> Listing:
    if content.file_ending is not None and content.file_ending.lower() not in IMAGE_SUFFIXES:
        raise _bad(
            f"{path} has the file_ending {_quoted(content.file_ending)}, and volseg reads {', '.join(IMAGE_SUFFIXES)}.",
            path=path,
        )
    declared = content.channel_names if content.channel_names is not None else content.modality
    channels = _channels(path, declared)
    labels = content.labels or {}
    unions: tuple[Region, ...] = ()
    if any(isinstance(one, list) for one in labels.values()):
        unions = _regions(path, labels, content.regions_class_order)
        labels = {name: one for name, one in labels.items() if not isinstance(one, list)}
    table = _labels(path, labels)
    parts = {one for region in unions for one in region.labels}
    if table.ignore is not None and max(parts, default=0) >= table.ignore:
        raise _bad(
            f"{path} has a region with the label {max(parts)}, and the ignore label is {table.ignore}, which has to be "
            "above all others. Give it the highest number, here and in the masks.",
            path=path,
        )
    return Listing(
        labels=with_details(table.with_values(parts), content.label_details),
        channels=channels,
        numbered=content.channel_names is not None,
        training=tuple(_listed(entry) for entry in content.training),
        test=tuple(_listed(entry) for entry in content.test),
        patients=content.patients,
        regions=unions,
    )


def _listed(entry: _Entry | str) -> ListedCase:
    if isinstance(entry, str):
        return ListedCase((entry,), None)
    images = (entry.image,) if isinstance(entry.image, str) else tuple(entry.image)
    return ListedCase(images, entry.label)


def _channels(path: Path, declared: dict[str, str] | list[str] | str | None) -> tuple[str, ...]:
    if declared is None:
        return ()
    if isinstance(declared, str):
        declared = [declared]
    if isinstance(declared, dict):
        if set(declared) != {str(number) for number in range(len(declared))}:
            raise _bad(f'{path} has channels that are not numbered "0", "1" and so on.', path=path)
        declared = [declared[str(number)] for number in range(len(declared))]
    for name in declared:
        _require_name(path, "channel", name)
    return tuple(declared)


def _regions(
    path: Path, declared: Mapping[str, str | int | list[int]], order: Sequence[int] | None
) -> tuple[Region, ...]:
    """The regions of nnU-Net: each entry but the background and the label to ignore, of one number or several.

    ``regions_class_order`` has a number for each, in their order: that of a mask that merges them.
    """
    found: list[Region] = []
    for name, value in declared.items():
        labels = value if isinstance(value, list) else [value]
        if (name.casefold() == IGNORE_NAME and not isinstance(value, list)) or labels == [BACKGROUND]:
            continue
        _require_name(path, "region", name)
        numbers = [one for one in labels if isinstance(one, int) and 1 <= one <= MAX_INDEX]
        if not numbers or len(numbers) != len(labels):
            raise _bad(
                f"{path} has the region {_quoted(name)}, whose labels are no numbers up to {MAX_INDEX}.", path=path
            )
        found.append(Region(name, tuple(sorted(set(numbers)))))
    try:
        return tuple(found) if order is None else numbered(found, order)
    except InputError as error:
        raise _bad(f"{path} has a regions_class_order that makes no sense: {error.message}", path=path) from error


def _labels(path: Path, declared: Mapping[str, object]) -> LabelTable:
    for key, value in declared.items():
        for name in (key, str(value)):
            _require_name(path, "label", name)
    try:
        return LabelTable.from_dataset_json(declared)
    except InputError as error:
        raise _bad(f"{path} has labels that make no sense: {error.message}", path=path) from error


def with_details(table: LabelTable, details: Mapping[str, LabelDetail]) -> LabelTable:
    """The table with the colours and codes that are kept beside the names, by index."""

    def of(label: Label) -> Label:
        detail = details.get(str(label.index))
        if detail is None:
            return label
        code = LabelCode(detail.code.value, detail.code.scheme, detail.code.meaning) if detail.code else None
        return replace(label, colour=detail.colour, code=code)

    return LabelTable(tuple(of(label) for label in table.labels), table.ignore) if details else table


def _require_name(path: Path, what: str, name: str) -> None:
    if not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise _bad(
            f"{path} has a {what} whose name is empty, longer than {MAX_NAME_LENGTH} characters or not printable.",
            path=path,
        )


def _first_reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return f"is not JSON that can be read ({first['msg'].removeprefix('Invalid JSON: ')})."
    where = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("_Entry", "dict[", "list[")))
    return f"has an entry that makes no sense: {_quoted(where)}: {first['msg']}."


def _quoted(text: str) -> str:
    return repr(printable(text[:MAX_NAME_LENGTH]))


def _bad(message: str, path: Path) -> DataSetError:
    return DataSetError(message, path=path, code="bad-dataset-json")

"""What all DICOM objects that are made of a series share: whose they are, what they refer to, who made them."""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from pydicom import DataElement, Dataset, config, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID
from pydicom.valuerep import format_number_as_ds, validate_value

from volseg.atomic import atomic_path
from volseg.dicom.file import tags
from volseg.dicom.labels.label_object import decoded_text
from volseg.errors import FileError, InputError
from volseg.outcomes import installed_versions
from volseg.words import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from volseg.dicom import Series, Slice
    from volseg.labels import LabelCode
    from volseg.writers.writer import Algorithm

MAKER = "volseg"
UTF_8 = "ISO_IR 192"
UNREADABLE = "\ufffd"
"""What stands for bytes that are none of a character set; two identifiers may differ in these alone."""
NO_DATE, NO_TIME = "19000101", "000000"
"""Where a date must stand (type 1) and the images have none, as after their dates were removed."""
PIXEL_DATA = b"\xe0\x7f\x10\x00OB\0\0"
"""The tag and type of bytes as explicit little endian has them, ahead of their length (PS3.5, 7.1.2)."""
MAX_CODE_VALUE = 16
"""Characters of SH; a longer code has an element of its own (PS3.3, 8.1)."""
_OF_PATIENT = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize",
    "PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod",
)  # fmt: skip
_OF_ONE = (tags.PATIENT_NAME, tags.PATIENT_BIRTH_DATE, tags.PATIENT_SEX)
"""What all images of a patient agree in, but for case and where some have none."""
_OF_STUDY = (
    "StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
    "StudyDescription",
)  # fmt: skip
_OF_PLACE = ("FrameOfReferenceUID", "PositionReferenceIndicator")
_OF_LOSS = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_DATES = ("ContentDate", "AcquisitionDate", "SeriesDate", "StudyDate")
_TIMES = ("ContentTime", "AcquisitionTime", "SeriesTime", "StudyTime")
_READ = (
    *_OF_PATIENT, *_OF_STUDY, *_OF_PLACE, *_OF_LOSS, *_DATES, *_TIMES, "SpecificCharacterSet", "SeriesNumber",
)  # fmt: skip
_REQUIRED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip
"""Of type 2: they stand there, be it without a value (PS3.3, C.7.1.1, C.7.2.1 and C.7.4.1)."""
_IDENTIFYING = frozenset({"PN", "LO", "SH"})
"""Texts, which stay as they are even where they break a rule: an altered one would name somebody else."""
_UID = re.compile(r"[0-9.]+")
"""What a UID of the images may be. Some have zeros in front of a part, which PS3.5, 9.1 forbids, or are too long; another
one would tie the object to another study, or to no image."""


def object_of(
    series: Series, source: Dataset, algorithm: Algorithm, modality: str, sop_class: str, number: int
) -> Dataset:
    """The modules of patient, study, series, equipment and frame of reference for an object that is made of a series.

    Patient and study are those of the series (PS3.3, C.7.1 and C.7.2): the elements are taken from a closed list, and
    written as UTF-8. The object has no UIDs of its own yet.

    Args:
        series: that it is made of.
        source: its ``header_of``.
        algorithm: that made the object.
        modality: of the object.
        sop_class: its SOP class.
        number: what is added to the source's SeriesNumber.

    Raises:
        InputError: ``no-study``, the images name no study, or ``unreadable-patient``, their character set doesn't fit.
    """
    data = Dataset()
    data.SpecificCharacterSet = UTF_8
    data.SOPClassUID = sop_class
    for keyword in (*_OF_PATIENT, *_OF_STUDY, *_OF_PLACE):
        _copy(source, data, keyword)
    if any(UNREADABLE in str(data.get(keyword, "")) for keyword in ("PatientName", "PatientID", "IssuerOfPatientID")):
        raise InputError(
            "The patient's name or identifier can't be read by the character set that the images state, and a DICOM object "
            "would be another patient's. Correct their SpecificCharacterSet, or ask for no DICOM objects.",
            code="unreadable-patient",
        )
    if not data.get("StudyInstanceUID"):
        raise InputError(
            "The images name no study, and a DICOM object has to lie in one. Export them again.", code="no-study"
        )
    if not data.get("FrameOfReferenceUID"):
        data.FrameOfReferenceUID = uid_of(data.StudyInstanceUID, series.identity.series_uid, "frame of reference")
    data.Modality = modality
    before = _plain(source, "SeriesNumber")
    data.SeriesNumber = number + (int(before) if before and before.isdigit() and len(before) < 8 else 0)
    data.SeriesDescription = text(f"{MAKER} {algorithm.name}")
    data.InstanceNumber = 1
    data.Manufacturer = data.ManufacturerModelName = MAKER
    data.DeviceSerialNumber = "0"
    data.SoftwareVersions = text(installed_versions().get(MAKER, "unknown"))
    return data


def require_one_patient(series: Series) -> None:
    """Refuse a series whose images don't agree whose they are, PatientID apart, by which they are taken for volumes.

    Raises:
        InputError: ``patients-differ``.
    """
    headers = [image.header for image in series.slices]
    for tag in _OF_ONE:
        texts = (decoded_text(one.values.get(tag, b""), one.text(tags.SPECIFIC_CHARACTER_SET)) for one in headers)
        found = {" ".join(words.replace("^", " ").replace("\0", " ").split()).casefold() for words in texts}
        if len(found - {""}) > 1:
            raise InputError(
                "Images of this series have one PatientID and several names, birth dates or sexes of a patient, and a "
                "DICOM object would be of one of them. Correct their headers, or ask for no DICOM objects.",
                code="patients-differ",
            )


def date_of(source: Dataset) -> tuple[str, str]:
    """Date and time of the images, as DICOM writes them; empty where they have none."""
    for date, time in zip(_DATES, _TIMES, strict=True):
        found = _plain(source, date)
        if found:
            return found, _plain(source, time)
    return "", ""


def add_loss(source: Dataset, data: Dataset) -> None:
    """Say whether the images were compressed with loss (PS3.3, C.8.20.2)."""
    data.LossyImageCompression = "01" if _plain(source, _OF_LOSS[0]) == "01" else "00"
    if data.LossyImageCompression == "01":
        for keyword in _OF_LOSS[1:]:
            _copy(source, data, keyword)


def header_of(series: Series) -> Dataset:
    """The elements of the closed list from the first slice's file.

    Raises:
        InputError: the header can't be read again.
        FileError: the file can't be read.
    """
    path = series.slices[0].header.path
    try:
        with quietly():
            return dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(_READ))
    except OSError as error:
        raise FileError(f"A file can't be read: {error.strerror}.", code="cannot-read") from error
    except Exception as error:  # whatever a damaged header leads pydicom to
        raise InputError("The header of an image can't be read again. Export the images again.") from error


@contextmanager
def quietly() -> Iterator[None]:
    """Keep pydicom from quoting values that break a rule: they are a patient's, and would reach the terminal or a log."""
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def _plain(source: Dataset, keyword: str) -> str:
    """The value as text, several joined by backslashes; empty where there is none that holds to its type's rules."""
    vr = dictionary_VR(keyword)
    with quietly():
        try:
            value = source.get(keyword)
            several = value if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else [value]
            parts = ["" if one is None else str(one).strip(" \0") for one in several]
            if vr not in _IDENTIFYING:
                for part in parts:
                    if vr != "UI" or not _UID.fullmatch(part):
                        validate_value(vr, part, config.RAISE)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, NotImplementedError):
            return ""
    return "\\".join(parts)


def _copy(source: Dataset, target: Dataset, keyword: str) -> None:
    value = _plain(source, keyword)
    if value or keyword in _REQUIRED:
        tag = tag_for_keyword(keyword)
        assert tag is not None, "the keywords are those of the dictionary"
        target.add(DataElement(tag, dictionary_VR(keyword), value, validation_mode=config.IGNORE))


def text(words: str) -> str:
    """Words as DICOM takes them for LO: one line of at most 64 characters without a backslash (PS3.5, 6.2)."""
    return printable(words.replace("\\", "/")).replace("\\", "/")[:64].strip()


def coded(one: LabelCode) -> Dataset:
    """An item of a code sequence (PS3.3, 8.8)."""
    item = Dataset()
    if len(one.value) > MAX_CODE_VALUE:
        item.LongCodeValue = one.value
    else:
        item.CodeValue = one.value
    item.CodingSchemeDesignator = text(one.scheme)[:MAX_CODE_VALUE]
    item.CodeMeaning = text(one.meaning)
    return item


def decimals(numbers: Iterable[float]) -> list[str]:
    """Numbers as DS, of at most 16 characters each (PS3.5, 6.2)."""
    return [format_number_as_ds(float(number)) for number in numbers]


def reference(image: Slice) -> Dataset:
    """A reference to the file of a slice."""
    item = Dataset()
    item.ReferencedSOPClassUID = image.header.uid(tags.SOP_CLASS_UID)
    item.ReferencedSOPInstanceUID = image.header.uid(tags.SOP_INSTANCE_UID)
    return item


def frame_reference(image: Slice) -> Dataset:
    """A reference to a slice: its file, and its frame where that has several."""
    item = reference(image)
    if image.header.unsigned(tags.NUMBER_OF_FRAMES) or image.header.integer(tags.NUMBER_OF_FRAMES):
        item.ReferencedFrameNumber = image.frame + 1
    return item


def references(series: Series) -> list[Dataset]:
    """References to all files of a series, each once."""
    return [reference(image) for image in {image.name: image for image in series.slices}.values()]


def uid_of(*words: str) -> str:
    """A UID that follows from words, as a UUID under 2.25 (PS3.5, B.2)."""
    digest = hashlib.sha256("\n".join(words).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def content_digest(data: Dataset, *more: bytes) -> str:
    """A digest of all that an object says, so that another content gets another UID, and the same the same."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    with quietly():
        write_dataset(buffer, data)
    digest = hashlib.sha256(buffer.getvalue())
    for part in more:
        digest.update(part)
    return digest.hexdigest()


def save(path: Path, data: Dataset, syntax: str, pixels: BinaryIO | None = None) -> None:
    """Write an object with the preamble and the meta header of PS3.10.

    Args:
        path: where to.
        data: the object.
        syntax: its transfer syntax.
        pixels: a file with its pixel data, of explicit bytes, where it has none itself: more than the memory is to hold.

    Raises:
        FileError: the file can't be written.
    """
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    with atomic_path(path) as partial, quietly():
        data.save_as(partial, enforce_file_format=True)
        if pixels is not None:
            size = pixels.seek(0, 2)
            pixels.seek(0)
            with partial.open("ab") as file:  # PixelData is the last element of all
                file.write(PIXEL_DATA + (size + size % 2).to_bytes(4, "little"))
                shutil.copyfileobj(pixels, file)
                file.write(b"\0" * (size % 2))

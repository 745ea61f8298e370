"""A word in every place of a DICOM file where text can stand: none of them gets into what ``volseg convert`` leaves.

What stderr may show is the names of files, relative to the folder that was given; of stdout and files, nothing.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom import Sequence as Items
from pydicom.charset import python_encoding
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement

from tests.conftest import uncounted
from tests.dicom_traps import Stack, save, write_stack
from tests.dicom_traps.objects import canary
from tests.dicom_traps.stack import ROOT, write_slices
from tests.dicom_traps.trap import CANARY
from tests.dicom_traps.volumes import enhanced, mosaic
from tests.drawn import Roi, circle, read_images, structure_set

FILE_WORD = "QZXFILEQZX"
"""In names of files and folders."""
CODE = "QZXCODEQZX"
"""In code strings, which stand for facts such as the part of the body."""
FORBIDDEN_NUMBERS = ("19771231", "121314.5151", "047Y", "83.47124", ROOT)
PUBLIC_GROUPS = frozenset({0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040, 0x0088, 0x4000, 0x4008})
SEQUENCE_GROUPS = PUBLIC_GROUPS - {0x0018}
NAMES = {
    "ISO_IR 100": "Müllerßon^Jörgél",
    "ISO_IR 101": "Wałęsażek^Łukaszek",
    "ISO_IR 126": "Διονυσιοσπα^Γεωργιος",
    "ISO_IR 144": "Люксембургов^Пациентий",
    "ISO_IR 138": "שרוןדבורהלוי^דבורהשרון",
    "ISO_IR 192": "Žižekovič^山田太郎次郎",
    "GB18030": "王小东王小东^小东小东",
    "\\ISO 2022 IR 87": "Yamadatarou^Tarouxyz=山田太郎^太郎山田=やまだたろう^たろうやま",
    "\\ISO 2022 IR 149": "Honggildong^Gildongxy=洪吉洞洪^吉洞吉洞=홍길동홍^길동길동",
}


def texts(data: Dataset, depth: int) -> None:
    """Words into text elements, retired ones too, and into sequences in sequences, public and private."""
    for tag, (vr, _vm, _name, _retired, keyword) in DicomDictionary.items():
        if not keyword or tag >> 16 not in PUBLIC_GROUPS or tag in data:
            continue
        if vr in ("PN", "LO", "SH", "ST", "LT", "UT", "UC", "AE", "UR"):
            data[tag] = DataElement(tag, vr, CANARY)
        elif vr == "DT":
            data[tag] = DataElement(tag, vr, "19771231121314.5151")
        elif vr == "TM":
            data[tag] = DataElement(tag, vr, "121314.5151")
        elif vr == "DA":
            data[tag] = DataElement(tag, vr, "19771231")
        elif vr == "SQ" and depth and tag >> 16 in SEQUENCE_GROUPS:
            item = Dataset()
            item.CodeValue, item.CodeMeaning, item.PersonName = CANARY, CANARY, CANARY
            if keyword.endswith("PatientIDsSequence"):
                texts(item, 0)
            data[tag] = DataElement(tag, "SQ", Items([item]))
    for group in (0x0009, 0x0011, 0x0019, 0x0021, 0x0029, 0x0051, 0x2001, 0x7FD1):
        data.add_new(group << 16 | 0x0011, "LO", CANARY)
        for element, vr in enumerate(("LO", "PN", "UN", "LT", "OB", "UT")):
            data.add_new(group << 16 | 0x1101 + element, vr, CANARY.encode() if vr in ("UN", "OB") else CANARY)
        inner, outer = Dataset(), Dataset()
        inner.PatientName = inner.PatientID = CANARY
        outer.add_new(group << 16 | 0x0011, "LO", CANARY)
        outer.add_new(group << 16 | 0x1150, "SQ", Items([inner]))
        data.add_new(group << 16 | 0x1150, "SQ", Items([outer]))
    data.PatientWeight = "83.47124"


def everywhere(data: Dataset, number: int) -> None:
    """Words into a slice's texts, code strings and curves."""
    canary(data, number)
    texts(data, 2)
    for keyword in (
        "BodyPartExamined", "ScanningSequence", "SequenceVariant", "ScanOptions", "PatientPosition", "Laterality",
        "ConversionType", "PatientSex", "FilterType", "ExposureModulationType", "RescaleType",
    ):  # fmt: skip
        setattr(data, keyword, CODE)
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", CODE]
    data.add_new(0x60000022, "LO", CANARY)  # OverlayDescription
    data.add_new(0x60001500, "LO", CANARY)  # OverlayLabel


def named(charset: str, name: str) -> Stack:
    """A series with a person's name in a character set."""

    def tamper(data: Dataset, _: int) -> None:
        data.SpecificCharacterSet = charset.split("\\") if "\\" in charset else charset
        data.PatientName = data.OperatorsName = data.ReferringPhysicianName = name
        data.SeriesDescription = data.StudyDescription = data.InstitutionName = name.split("=")[-1][:16]

    return Stack(tamper=tamper, series=100 + list(NAMES).index(charset), study=7, gaps_mm=(5.0,) * 3)


def words_of(charset: str, name: str) -> Iterator[bytes]:
    """The parts of a name in every form in which they might be passed on."""
    encodings = {python_encoding[one] for one in charset.split("\\") if one} | {"utf-8", "utf-16-le"}
    for part in name.replace("=", "^").split("^"):
        for encoding in encodings:
            try:
                raw = part.encode(encoding)
            except UnicodeEncodeError:
                continue
            yield raw
            yield raw.decode("latin-1").encode()  # read in the wrong character set
            yield json.dumps(raw.decode("latin-1"))[1:-1].encode()
        yield json.dumps(part)[1:-1].encode()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Series that are converted, split, put right, refused and passed over, with masks, and with a word everywhere."""
    folder = tmp_path_factory.mktemp("canary") / f"{FILE_WORD}-given"
    stack = Stack(tamper=everywhere, size=(40, 36), gaps_mm=(3.0,) * 7)
    write_stack(folder / f"{FILE_WORD} ct", stack)
    for path in list((folder / f"{FILE_WORD} ct").iterdir()):
        path.rename(path.with_name(f"{FILE_WORD}^{path.name}.dcm"))
    roi = Roi("Liver", [circle(stack, k, (14.0, 11.0), 6.0) for k in range(1, 6)])
    drawn = structure_set(folder / "labels" / f"{FILE_WORD}.dcm", read_images(folder / f"{FILE_WORD} ct"), [roi])
    add_texts_to(drawn)
    for number, (charset, name) in enumerate(NAMES.items()):
        write_stack(folder / f"names-{number}", named(charset, name))
    tilted = Stack(tamper=everywhere, series=2, study=2, drift=(0.0, 0.3), gaps_mm=(3.0,) * 6)
    write_stack(folder / "tilted", tilted)
    lacking = Stack(tamper=everywhere, series=3, study=3)
    write_slices(folder / f"{FILE_WORD} lacking", lacking.slices([0, 1, 3, 4, 5]))
    write_slices(folder / "two", Stack(tamper=everywhere, series=4, study=4).slices([0, 1]))
    cut = write_stack_cut(folder / f"{FILE_WORD} cut", Stack(tamper=everywhere, series=5, study=5))
    assert cut
    frames = enhanced([Stack(modality="MR", series=6, study=6)])
    texts(frames, 2)
    for group in frames.PerFrameFunctionalGroupsSequence:
        group.FrameContentSequence[0].FrameComments = CANARY
    save(folder / f"{FILE_WORD}.frames", frames)
    tiles = mosaic(Stack(modality="MR", series=7, study=8), 3)
    canary(tiles)
    tiles.Manufacturer = "SIEMENS"
    save(folder / "tiles", tiles)
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.33", f"{ROOT}.88"
    texts(report, 2)
    save(folder / "report", report)
    (folder / "notes.txt").write_text(CANARY)
    return folder


def write_stack_cut(folder: Path, stack: Stack) -> Path:
    """A series of which one file's pixels are cut off."""
    path = write_slices(folder, stack.slices())[2]
    data = path.read_bytes()
    path.write_bytes(data[:-50])
    return path.rename(path.with_name(f"{FILE_WORD}{path.name}"))


def add_texts_to(path: Path) -> None:
    """Words into a structure set, but for the names of structures, which are kept on purpose."""
    from pydicom import dcmread

    data = dcmread(path)
    texts(data, 2)
    data.StructureSetLabel = data.StructureSetName = data.StructureSetDescription = CANARY
    for roi in data.StructureSetROISequence:
        roi.ROIDescription = roi.ROIGenerationDescription = CANARY
    for observed in data.get("RTROIObservationsSequence", []):
        observed.ROIInterpreter = observed.ROIObservationDescription = CANARY
    save(path, data)


def forbidden() -> set[bytes]:
    words = {CANARY.encode(), CODE.encode(), *(number.encode() for number in FORBIDDEN_NUMBERS)}
    for charset, name in NAMES.items():
        words.update(words_of(charset, name))
    return words


def hits(content: bytes, *, files: bool = True) -> set[bytes]:
    """Which forbidden words stand in some bytes."""
    words = forbidden() | ({FILE_WORD.encode()} if files else set())
    content = content.lower()
    return {word for word in words if word.lower() in content}


def volseg_convert(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "volseg", "convert", *map(str, arguments)]
    return subprocess.run(command, env=uncounted(), capture_output=True, timeout=300, check=False)


def test_the_words_are_in_the_source(source: Path) -> None:
    everything = b"".join(path.read_bytes() for path in source.rglob("*") if path.is_file())
    for word in (CANARY.encode(), CODE.encode(), *(number.encode() for number in FORBIDDEN_NUMBERS)):
        assert everything.count(word) > 5, word
    for charset, name in NAMES.items():
        assert any(word in everything for word in words_of(charset, name)), charset


def test_no_word_is_left_behind(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "nifti"
    done = volseg_convert(source, out)
    assert done.returncode == 1, done.stderr
    ledger = json.loads((out / "conversion.json").read_text())
    ends = [outcome["status"] for outcome in ledger["outcomes"]]
    assert ends.count("done") >= 12
    assert ends.count("refused") >= 2
    assert list((out / "labelsTr").glob("*.nii.gz")), "the structure set became a mask"
    for path in out.rglob("*"):
        assert not hits(path.relative_to(out).as_posix().encode()), path
        if path.is_file():
            raw = path.read_bytes()
            assert not hits(gzip.decompress(raw) if path.suffix == ".gz" else raw), path
    assert not hits(done.stdout.replace(str(source).encode(), b""))
    assert FILE_WORD.encode() in done.stderr, "a person must learn which file is at fault"
    assert not hits(done.stderr, files=False)


def test_no_word_is_shown_by_a_dry_run(source: Path, tmp_path: Path) -> None:
    done = volseg_convert(source, tmp_path / "nifti", "--dry-run")
    assert done.returncode == 1, done.stderr
    assert not hits(done.stdout.replace(str(source).encode(), b""))
    assert not hits(done.stderr, files=False)
    assert not (tmp_path / "nifti").exists()


@pytest.mark.parametrize("word", ["Люксембургов", "山田太郎", "홍길동홍"])
def test_a_name_that_gets_out_is_seen(word: str) -> None:
    assert hits(f"case {word} done".encode())
    assert hits(json.dumps({"case": word}).encode())

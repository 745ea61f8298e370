"""Reading the input of a conversion, and checking its output folder."""

from __future__ import annotations

from pathlib import Path

from volseg.dicom import Repairs, Scan, scan
from volseg.dicom.file.header import DamagedHeaderError, NotDicomError, read_header
from volseg.errors import FileError, UsageError
from volseg.progress import Progress
from volseg.verbs.convert.options import ConvertOptions


def scan_source(dicom_dir: Path, options: ConvertOptions, progress: Progress, scratch: Path) -> Scan:
    """What a folder or archive of DICOM holds, read as the options ask; archives are unpacked into ``scratch``."""
    repairs = Repairs(tilt=not options.refuse_tilt, gaps=options.fill_gaps)
    masks = options.mask_choices

    def apart(folder: str) -> bool:
        return any(one.matches([folder]) for one in masks)

    return scan(
        dicom_dir,
        progress,
        localizers=options.localizers,
        repairs=repairs,
        scratch=scratch,
        apart=apart if masks else None,
    )


def require_output(nifti_dir: Path, dicom_dir: Path) -> None:
    """Refuse a file in the place of the output folder, and a folder where DICOM files lie.

    Raises:
        UsageError: it is one; ``among-dicom`` for the folder of the DICOM files, or one in it that holds some.
    """
    if not nifti_dir.exists():
        return
    if not nifti_dir.is_dir():
        raise UsageError(f"{nifti_dir} is a file. Give a folder for the NIfTI images.", code="not-a-folder")
    folder = nifti_dir.resolve()
    if folder.is_relative_to(dicom_dir.resolve()) and any(map(_is_dicom, folder.iterdir())):
        raise UsageError(
            f"{nifti_dir} holds the DICOM files themselves. Name another folder for the NIfTI images.",
            code="among-dicom",
        )


def _is_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        read_header(path)
    except DamagedHeaderError:
        return True
    except (NotDicomError, FileError):
        return False
    return True

"""What is converted and where to: the input is read, the output folder checked."""

from __future__ import annotations

from pathlib import Path

from volseg.dicom import Repairs, Scan, scan
from volseg.errors import UsageError
from volseg.progress import Progress
from volseg.verbs.convert.options import ConvertOptions


def scan_source(dicom_dir: Path, options: ConvertOptions, progress: Progress, scratch: Path) -> Scan:
    """What a folder or archive of DICOM holds, read as the options ask; archives are unpacked into ``scratch``."""
    repairs = Repairs(tilt=not options.refuse_tilt, gaps=options.fill_gaps)
    return scan(dicom_dir, progress, localizers=options.localizers, repairs=repairs, scratch=scratch)


def require_output(nifti_dir: Path) -> None:
    """Refuse a file in the place of the output folder.

    Raises:
        UsageError: it is one.
    """
    if nifti_dir.exists() and not nifti_dir.is_dir():
        raise UsageError(f"{nifti_dir} is a file. Give a folder for the NIfTI images.", code="not-a-folder")

"""The digest of a series' files, by which a later run knows whether they are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.dicom.file import tags
from volseg.kept import file_digest

if TYPE_CHECKING:
    from volseg.dicom.series.series import Series
    from volseg.pseudonyms import Naming


def content_digest(series: Series, naming: Naming) -> str:
    """A keyed digest of every file of a series, header and pixels, and of what was put right in it.

    Names and places of files don't count, so that an archive gives the same as its folder.

    Raises:
        FileError: a file can't be read.
    """
    files = {one.header.path: one.header.uid(tags.SOP_INSTANCE_UID) for one in series.slices}
    contents = (f"{uid}\n{file_digest(path)}" for path, uid in files.items())
    return naming.digest("content", series.identity.part, *sorted(contents), *series.changes)

"""The options by which a person chooses among series and names cases."""

# Types are evaluated here: cyclopts looks for those of a base class in the modules of its children.
from dataclasses import dataclass

from volseg.dicom.choice.patterns import parse_channels
from volseg.options import Many, PathOption


@dataclass(frozen=True, kw_only=True)
class SeriesChoice:
    """Which series are taken, and how their cases are called."""

    series: Many[str] = ()
    """Take these series alone: numbers or case names as --dry-run shows them, such as 2,5. A name without the hash, such
    as ct_02, is that of one series in each study."""

    modality: Many[str] = ()
    """Take series of these modalities alone: CT, MR or PT, or several: CT,PT."""

    channels: str = ""
    """Make several series of each study the channels of one case, on the grid of the first, such as
    `T1=*t1*post*; FLAIR=*flair*,mr_05`: a name, and what its series is called: its description, or its number or name
    as --dry-run shows it. With --dry-run, stderr tells each description, as no other run does: it may name the patient.
    Segmentations and structure sets on any of the channels become the case's mask where masks are converted. Other
    series are left out."""

    name: str = ""
    """Make case names of header elements, such as {PatientID}_{SeriesNumber}, in place of the keyed hash. Whoever sees
    the images may then know the patients."""

    linkage: PathOption | None = None
    """Write a table from cases to PatientIDs to this file, outside the output folder, that you alone can read."""

    def require_sense(self) -> None:
        """Refuse options that make no sense, before anything is read.

        Raises:
            UsageError: one makes none.
        """
        if self.channels:
            parse_channels(self.channels)
        if self.name:
            from volseg.dicom.choice.names import require_template

            require_template(self.name)

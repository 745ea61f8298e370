"""How to predict: what a person may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from volseg.dicom.choice.options import SeriesChoice
from volseg.errors import UsageError
from volseg.options import Many, words_of
from volseg.postprocessing.options import RuleOptions
from volseg.writers import (
    DICOM_FRACTIONAL,
    DICOM_LABELMAP,
    DICOM_SEG,
    ITKSNAP,
    NIFTI,
    PREVIEW,
    RTSTRUCT,
    STATISTICS,
    SURFACES,
)

if TYPE_CHECKING:
    from pathlib import Path

    from volseg.verbs.predict.window import WindowWishes

DECIDING = (
    "raw",
    "regions",
    "precision",
    "tta",
    "overlap",
    "labels",
    "roi",
    "roi_margin",
    "roi_labels",
    "roi_whole_box",
)
"""The options that a mask depends on."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions(RuleOptions, SeriesChoice):
    """How to predict."""

    fold: int | None = None
    """Use the model of this fold; a data set as input then means the cases that the fold held out."""

    folds: str | None = None
    """Let the models of several folds predict together, by the mean of their probabilities: all, or numbers such as
    0,2; volseg train --cv makes them."""

    device: Literal["cpu", "cuda"] | None = None
    """cpu or cuda; a GPU where there is one unless told otherwise."""

    overwrite: bool = False
    """Make masks anew that are there already, also those of another model or that somebody edited."""

    accept_edited: bool = False
    """Take masks in OUT_DIR that somebody edited or replaced as they are, and make all other outputs anew of them; the
    network makes none of these again."""

    formats: Many[str] = (NIFTI,)
    """Formats that the masks are written in: nifti, and slicer for 3D Slicer's .seg.nrrd."""

    statistics: bool = False
    """Write statistics.csv: volume, surface, diameter, place and the image's values of each label of each case."""

    workspace: bool = False
    """Write a workspace of ITK-SNAP for each case, which opens image, mask, names and colours together."""

    preview: bool = False
    """Write a picture of each case: three planes with the labels' colours."""

    surface: Many[str] = ()
    """Write the surface of each label as a mesh, in the patient's millimetres: stl or obj."""

    probabilities: Many[str] = ()
    """Write the probability of each label in each voxel as NIfTI, before any rule; of some labels where they are named, by
    name or number. Where the masks are there already, the network runs again for them."""

    dicom_seg: bool = False
    """Write a DICOM segmentation of each mask too, on the original slices; for DICOM alone. It carries the patient's name,
    identifiers and dates, as the images do."""

    dicom_labelmap: bool = False
    """Write a DICOM label map too: a segmentation with the labels' own numbers, which newer programs read."""

    dicom_fractional: bool = False
    """Write the probabilities of all labels as a fractional DICOM segmentation too."""

    rtstruct: bool = False
    """Write an RT structure set of each mask too, with contours on the original slices; for DICOM alone, and with the
    patient's name as well."""

    regions: bool = False
    """Write one mask for each region, in a folder of its own, where a bundle's structures may overlap."""

    raw: bool = False
    """Leave out the bundle's rules for labels, such as the largest component."""

    precision: Literal["float32", "bfloat16", "auto"] = "auto"
    """What the network computes in: float32 as MONAI's own runner does, or bfloat16, which is quicker on processors made
    for it and changes a few voxels; auto takes bfloat16 there, for bundles that volseg plan wrote."""

    memory: str | None = None
    """How much memory predict may take, such as 3GB: class values that it doesn't hold are kept in a file meanwhile, and an image
    that needs more is refused; by default what is free."""

    tta: bool = False
    """Let the network see each window mirrored as well, along the axes that its training mirrored, and take the mean; up to
    eight times the work."""

    overlap: float | None = None
    """Of neighbouring windows, a share from 0 to 0.9, in place of the bundle's own; less is quicker."""

    labels: Many[str] = ()
    """Labels that are written, by name or number; all unless named."""

    roi: str | None = None
    """Segment a part of each image alone: a box, as 100:300,80:260,20:90 in voxels i, j and k, or as
    -80:60,-40:90,-1100:-900mm in millimetres to the patient's right, front and head; or what a mask marks: a file for one
    image, or a folder of masks named as the cases; or what another bundle finds, by its folder or name, which is run first.
    Outside there is background, inside the mask is as without."""

    roi_margin: float | None = None
    """How far around the mask or the other bundle's labels is segmented too, in mm; 10 unless stated."""

    roi_labels: Many[str] = ()
    """Of the mask or the other bundle, the labels that count, by name or number; all unless named."""

    roi_whole_box: bool = False
    """Keep labels in all of the box around the mask or the other bundle's labels, not within the margin alone."""

    def window(self, out_dir: Path) -> WindowWishes:
        """What is asked of the sliding window, but for the part of the image.

        Args:
            out_dir: where a file of class values may lie.

        Raises:
            UsageError: an option makes no sense.
        """
        from volseg.planning.wishes import parse_memory
        from volseg.verbs.predict.window import WindowWishes

        return WindowWishes(
            tta=self.tta,
            overlap=self.overlap,
            labels=words_of(self.labels),
            memory=None if self.memory is None else parse_memory(self.memory),
            scratch=out_dir,
        )

    @property
    def writers(self) -> tuple[str, ...]:
        """All that is written of a mask, by the names of the writers.

        Raises:
            UsageError: there is no such kind of surface.
        """
        surfaces = words_of(self.surface)
        unknown = [word for word in surfaces if word not in SURFACES]
        if unknown:
            raise UsageError(f"--surface is {' or '.join(SURFACES)}, not {unknown[0]!r}.")
        asked = {
            STATISTICS: self.statistics,
            ITKSNAP: self.workspace,
            PREVIEW: self.preview,
            DICOM_SEG: self.dicom_seg,
            DICOM_LABELMAP: self.dicom_labelmap,
            DICOM_FRACTIONAL: self.dicom_fractional,
            RTSTRUCT: self.rtstruct,
        }
        return (*words_of(self.formats), *(name for name in asked if asked[name]), *surfaces)

"""Several series of one study as the channels of one case, on one grid."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from volseg.dicom.choice.channels import PARTLY_COVERED, ChannelCase, require_coverage
from volseg.pseudonyms import Naming
from volseg.verbs.convert.conversion import Conversion, conversion_of, wanted_grid
from volseg.volume import channel_stem, grid_for_nifti

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from volseg.verbs.convert.options import ConvertOptions


def conversions_of(
    case: ChannelCase, naming: Naming, images: Mapping[str, Path], nifti_dir: Path, options: ConvertOptions
) -> tuple[Conversion, ...]:
    """The images of a case: the first on its own grid, the others on that of the first.

    Raises:
        InputError: that grid has too many voxels, or a channel lies outside it.
    """
    grid = grid_for_nifti(wanted_grid(case.series[0], options.spacing_mm, options.axes))
    conversions = []
    for number, series in enumerate(case.series):
        name = channel_stem(case.case, number)
        conversion = conversion_of(series, naming, images, nifti_dir, options, options.spacing_mm, name)
        if number:
            changes = () if require_coverage(grid, series.grid) == 1 else (PARTLY_COVERED,)
            how = repr((grid.shape, grid.affine.tolist()))
            method = naming.digest("channel", conversion.method, how)
            conversion = replace(conversion, onto=grid, changes=changes, method=method)
        conversions.append(conversion)
    return tuple(conversions)

"""What others do with a folder of DICOM, one peer in a process of its own: peer, input folder, output folder, spacing.

Nothing is imported but what the peer itself needs, since its start counts too.
"""

from __future__ import annotations

import sys
from pathlib import Path


def simpleitk(source: Path, target: Path, spacing_mm: float | None) -> None:
    """SimpleITK's series reader and its writer, folder by folder; at a spacing with volseg's grid and smoothing."""
    import SimpleITK as sitk

    for folder in sorted({path.parent for path in source.rglob("*.dcm")}):
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid))
            image = reader.Execute()
            if spacing_mm is not None:
                image = _resampled(image, spacing_mm)
            elif image.GetPixelID() != sitk.sitkInt16:
                image = sitk.Cast(image, sitk.sitkInt16)
            sitk.WriteImage(image, str(target / f"{folder.name}_{uid}.nii.gz"), useCompression=True)


def _resampled(image: object, spacing_mm: float) -> object:
    """Smoothed by the same Gaussian as volseg, then linear, inside the same outer box, rounded to int16."""
    import math

    import SimpleITK as sitk

    assert isinstance(image, sitk.Image)
    old, shape = image.GetSpacing(), image.GetSize()
    factors = [max(1.0, spacing_mm / step) for step in old]
    smoother = sitk.DiscreteGaussianImageFilter()
    # A kernel whose full width at half maximum makes up what a wider voxel averages over, as volseg.resample has it.
    smoother.SetVariance([(factor**2 - 1) / (8 * math.log(2)) for factor in factors])
    smoother.SetMaximumError(1e-3)
    smoother.SetUseImageSpacing(False)
    floats = smoother.Execute(sitk.Cast(image, sitk.sitkFloat32))
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([max(1, int(n * step / spacing_mm + 0.5)) for n, step in zip(shape, old, strict=True)])
    resampler.SetOutputSpacing([spacing_mm] * 3)
    first = [0.5 * spacing_mm / step - 0.5 for step in old]
    resampler.SetOutputOrigin(image.TransformContinuousIndexToPhysicalPoint(first))
    resampler.SetOutputDirection(image.GetDirection())
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.UseNearestNeighborExtrapolatorOn()
    return sitk.Cast(sitk.Round(resampler.Execute(floats)), sitk.sitkInt16)


def dicom2nifti(source: Path, target: Path, spacing_mm: float | None) -> None:
    """dicom2nifti, without its reorientation, which would cost it more."""
    del spacing_mm
    from dicom2nifti import convert_directory

    convert_directory(str(source), str(target), compression=True, reorient=False)


if __name__ == "__main__":
    name, given, wanted, spacing = sys.argv[1:]
    work = {"simpleitk": simpleitk, "dicom2nifti": dicom2nifti}[name]
    work(Path(given), Path(wanted), None if spacing == "native" else float(spacing))

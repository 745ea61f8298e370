"""Transforms for MONAI's ``Compose``: DICOM read with volseg's care, and the rules for labels.

They need torch and MONAI, so nothing imports this module but who wants them. All can travel to a worker of a
``DataLoader``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import ImageMetaKey, TransformBackends, convert_to_dst_type

from volseg.api.calling import Keywords, options_of, path_of, python_words
from volseg.dicom import read_series
from volseg.errors import UsageError
from volseg.grid import Grid
from volseg.labels import LabelTable
from volseg.options import Many, StrPath
from volseg.postprocessing import Rule, RuleOptions
from volseg.postprocessing.threshold import NO_PROBABILITIES
from volseg.volume import Mask, Volume, for_nifti

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


class LoadDicom(Transform):  # type: ignore[misc]
    """Read a DICOM series as a ``MetaTensor`` (1, i, j, k) with the affine to RAS mm, as ``LoadImage`` gives it.

    The voxel order is that of the converted file, so that masks which lie on it fit: the scanner's, but for oblique
    series that NIfTI doesn't hold in it.

    Slices are placed by the positions in their headers alone, and what is no certain volume is refused with the
    reason: a missing slice, uneven spacing, several volumes in one series. See ``volseg.read``.

    Args:
        series: the number or name of the series where a folder has several, as ``volseg convert --dry-run`` shows it.
        suv: whether PET becomes uptake by body weight, in g/ml.
        dtype: of the voxels; None keeps that of the series.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012  as MONAI declares it

    def __init__(self, series: int | str | None = None, *, suv: bool = False, dtype: DTypeLike | None = np.float32):
        self.series = None if series is None else str(series)
        self.suv = suv
        self.dtype = dtype

    def __call__(self, source: StrPath) -> MetaTensor:
        """Read the series in a folder or archive.

        Raises:
            UsageError: the folder is absent, or several series are there and none is named.
            InputError: the series is no certain volume.
            FileError: a file can't be read.
        """
        path = path_of(source, "source")
        volume = for_nifti(read_series(path, self.series, suv=self.suv).volume)
        voxels = volume.array if self.dtype is None else volume.array.astype(self.dtype)
        image = Volume(voxels, volume.grid).to_metatensor()
        image.meta[ImageMetaKey.FILENAME_OR_OBJ] = str(path)  # by which SaveImage names its files
        return image


class LoadDicomd(MapTransform):  # type: ignore[misc]
    """Read DICOM series named in a dictionary; see ``LoadDicom``.

    Args:
        keys: whose values are folders or archives; a ``MetaTensor`` takes the place of each.
        series, suv, dtype: as ``LoadDicom``.
        allow_missing_keys: whether a key may be absent.
    """

    backend = LoadDicom.backend

    def __init__(
        self,
        keys: KeysCollection,
        series: int | str | None = None,
        *,
        suv: bool = False,
        dtype: DTypeLike | None = np.float32,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.loader = LoadDicom(series, suv=suv, dtype=dtype)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The dictionary with the images in it; raises as ``LoadDicom``."""
        return {**data, **{key: self.loader(data[key]) for key in self.key_iterator(data)}}


class RuleKeywords(TypedDict, total=False):
    """The rules of ``volseg.postprocess``, in the order in which they are applied unless ``order`` says otherwise; see
    docs/rules.md."""

    minimum_size_mm3: float
    remove_small: Many[str]
    keep_inside: Many[str]
    remove_touching_border: Many[str | int]
    opening: Many[str]
    closing: Many[str]
    smooth: Many[str]
    fill_between_labels: Many[str]
    fill_holes: Many[str | int]
    instances: Many[str | int]
    connectivity: Literal[6, 18, 26]
    order: Many[str]


@dataclass(frozen=True, kw_only=True)
class _Rules(Keywords[RuleOptions], RuleOptions): ...


class PostprocessLabels(Transform):  # type: ignore[misc]
    """Apply volseg's rules to a mask (1, i, j, k) of labels; see ``volseg.postprocess``.

    ``PostprocessLabels("liver", opening="liver:2", labels={"liver": 1})``: the words are those of the command line.

    Args:
        keep_largest: labels of which only the largest connected component stays, or ``all``.
        labels: the names of the labels, as a ``LabelTable``, ``{1: "liver"}`` or ``{"liver": 1}``; without it they are
            known by their numbers alone.
        rules: the other rules by their names. Those in mm, ml or mm3 ask for a ``MetaTensor``, which knows its spacing.

    Raises:
        UsageError: nothing is asked for, or an option makes no sense.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012

    def __init__(
        self,
        keep_largest: Many[int | str] = (),
        *,
        labels: LabelTable | Mapping[str, int] | Mapping[int, str] | None = None,
        **rules: Unpack[RuleKeywords],
    ):
        table = _table_of(labels)
        with python_words(_Rules):
            options = options_of(_Rules, None, {"keep_largest": keep_largest, **rules}, "transforms.PostprocessLabels")
            try:
                self.rules = options.rules(table)
            except UsageError as error:
                if error.code == "no-label" and not table:
                    error.message = (
                        f"{error.message.partition('. ')[0]}: say what it is by labels={{'liver': 1}}, or give numbers."
                    )
                raise
        if not self.rules:
            raise UsageError("PostprocessLabels needs a rule, such as keep_largest or fill_holes.")
        if self.rules.thresholds:
            raise UsageError(NO_PROBABILITIES, code="no-probabilities")
        self.needs_spacing = any(_is_in_mm(rule) for rule in self.rules.rules)

    def __call__(self, mask: NdarrayOrTensor) -> NdarrayOrTensor:
        """The mask that the rules make, of the same type; of a larger one where the numbers of instances need it.

        Raises:
            InputError: it is not of whole numbers.
            UsageError: it has several channels, or its spacing is needed and not known.
        """
        if mask.ndim != 4 or mask.shape[0] != 1:
            raise UsageError(f"PostprocessLabels takes labels (1, i, j, k), not the shape {tuple(mask.shape)}.")
        if isinstance(mask, MetaTensor):
            volume = Volume.of(mask)
        elif self.needs_spacing:
            raise UsageError("A rule in mm, ml or mm3 needs a MetaTensor, which knows its spacing.")
        else:
            array = mask[0].cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask[0])
            volume = Volume(array, Grid(array.shape, np.eye(4)))
        labels = Mask(volume.array, volume.grid)
        cleaned, _ = self.rules.apply(labels.array, labels.grid)
        return convert_to_dst_type(cleaned[None], mask, dtype=_type_for(cleaned, mask))[0]


class PostprocessLabelsd(MapTransform):  # type: ignore[misc]
    """Apply volseg's rules to masks in a dictionary; see ``PostprocessLabels``.

    Args:
        keys: whose values are masks (1, i, j, k).
        keep_largest, labels, rules: as ``PostprocessLabels``.
        allow_missing_keys: whether a key may be absent.
    """

    backend = PostprocessLabels.backend

    def __init__(
        self,
        keys: KeysCollection,
        keep_largest: Many[int | str] = (),
        *,
        labels: LabelTable | Mapping[str, int] | Mapping[int, str] | None = None,
        allow_missing_keys: bool = False,
        **rules: Unpack[RuleKeywords],
    ):
        super().__init__(keys, allow_missing_keys)
        self.cleaner = PostprocessLabels(keep_largest, labels=labels, **rules)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The dictionary with the masks in it; raises as ``PostprocessLabels``."""
        return {**data, **{key: self.cleaner(data[key]) for key in self.key_iterator(data)}}


def _table_of(labels: object) -> LabelTable | None:
    if labels is None or isinstance(labels, LabelTable):
        return labels
    if not isinstance(labels, Mapping):
        raise UsageError(
            f"labels takes a LabelTable, or a dictionary of names and numbers, not {type(labels).__name__}."
        )
    # As a dataset.json has them, where keys are texts.
    return LabelTable.from_dataset_json({str(key): value for key, value in labels.items()})


def _is_in_mm(rule: Rule) -> bool:
    return any(one.name.endswith(("_mm", "_mm3")) and getattr(rule, one.name) for one in fields(rule))


def _type_for(cleaned: NDArray[np.generic], mask: NdarrayOrTensor) -> Any:
    """The type of the mask that came in, unless it doesn't hold each number that there is now."""
    highest = int(cleaned.max(initial=0))
    if isinstance(mask, torch.Tensor):
        return mask.dtype if highest <= _most(mask.dtype, torch.finfo, torch.iinfo) else torch.int32
    return mask.dtype if highest <= _most(mask.dtype, np.finfo, np.iinfo) else np.int32


def _most(dtype: Any, floats: Any, integers: Any) -> float:
    """Up to which number a type holds each."""
    for limits in (floats, integers):
        try:
            found = limits(dtype)
        except (TypeError, ValueError):
            continue
        return float(2 / found.eps if limits is floats else found.max)
    return 1.0  # bool

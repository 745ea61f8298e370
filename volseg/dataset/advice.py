"""What a sound data set lacks for training: warnings that hold for the data set as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.dataset.case import Fault
from volseg.dataset.folds import Split
from volseg.words import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from numpy.typing import NDArray

    from volseg.dataset.dataset import Dataset

AIR_HU = (-1100, -900)
"""CT has air at -1000 HU around the patient, and no other modality has a peak there."""
AIR_SHARE = 0.01
"""Of the voxels, at least."""
RARE_SHARE = 0.5
"""A label that fewer masks have was perhaps not drawn in the others."""

UNKNOWN_CT = (
    "nothing says of which modality the images are, and their values look like CT in Hounsfield units: "
    "air lies at -1000. Normalised as another modality, CT loses its scale. "
    'Say so in dataset.json: {"modality": {"0": "CT"}}.'
)


def looks_like_ct(image: NDArray[Any]) -> bool:
    """Whether an image (i, j, k) has the peak of air that CT has."""
    low, high = AIR_HU
    # Every fourth slice: a peak shows in any of them.
    sample = image[:, :, ::4]
    return bool(np.count_nonzero((sample >= low) & (sample <= high)) >= AIR_SHARE * sample.size)


def advise(dataset: Dataset, labels_of: Mapping[str, Collection[int]], ct_like: Collection[str]) -> Iterator[Fault]:
    """Each thing that a person should know before training.

    Args:
        dataset: the data set.
        labels_of: the labels that occur in each case's mask, by the case's name.
        ct_like: the names of the cases whose image looks like CT.
    """
    training = [case for case in dataset.training if case.name in labels_of]
    if training and not dataset.knows_modality and len(ct_like) * 2 > len(training):
        yield Fault("modality-unknown", "", UNKNOWN_CT, is_error=False)
    patients = {case.name: case.patient or ("", case.name) for case in training}
    if len(set(patients.values())) < 2:
        if training:
            what = "only one case has a mask" if len(training) == 1 else "all masks are of one patient"
            message = (
                f"{what}, so nothing can be held out: train with --all-cases, and no score tells how good the network "
                "is. Add cases of other patients."
            )
            yield Fault("one-patient", "", message, is_error=False)
        return
    scored = {index for name in Split.of(training, labels_of).folds[0] for index in labels_of[name]}
    single, rare, unscored = [], [], []
    for label in dataset.labels.labels:
        names = [case.name for case in training if label.index in labels_of[case.name]]
        if len({patients[name] for name in names}) == 1:
            single.append(label.name)
        elif names:  # a label of no mask is told of elsewhere
            if len(names) < RARE_SHARE * len(training):
                rare.append(f"{label.name} ({len(names)})")
            if label.index not in scored:
                unscored.append(label.name)
    if single:
        message = (
            f"one patient's cases alone have {listed(single)}: no fold both trains on such a label and holds it out, so "
            "no score tells of it. Add cases that have it."
        )
        yield Fault("label-of-one-patient", "", message, is_error=False)
    if rare:
        message = (
            f"few of the {len(training)} masks have {listed(rare)}. Where a structure is there and was not drawn, "
            "the network learns to leave it out."
        )
        yield Fault("label-rare", "", message, is_error=False)
    if unscored:
        message = (
            f"fold 0, which train holds out by itself, has no case with {listed(unscored)}: --cv scores all labels."
        )
        yield Fault("label-not-held-out", "", message, is_error=False)

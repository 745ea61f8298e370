"""A ``dataset.json`` that grows: what a person or an earlier run wrote into it stays."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.atomic import write_text
from volseg.dataset.dataset import mixed_channel, modalities_of
from volseg.dataset.listing import DATASET_JSON, MAX_LISTING_BYTES, Listing, read_listing
from volseg.dataset.pairing import TEST_IMAGES, TRAINING_IMAGES, TRAINING_LABELS
from volseg.errors import DataSetError
from volseg.files import read_bounded
from volseg.labels import LabelTable
from volseg.volume import split_channel, stem_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

NAME = "converted by volseg"
"""Of data sets that nobody else named."""


@dataclass(frozen=True)
class DatasetFile:
    """The ``dataset.json`` of a folder.

    Args:
        path: where it lies, or shall lie.
        content: what stands in it; None where there is none yet.
    """

    path: Path
    content: Mapping[str, object] | None

    @classmethod
    def read(cls, folder: Path) -> DatasetFile:
        """Read it where it is there.

        Raises:
            DataSetError: it is no JSON, or a field makes no sense.
        """
        path = folder / DATASET_JSON
        if not path.exists():
            return cls(path, None)
        if read_listing(path).regions:
            raise DataSetError(
                f"{path} names regions of several labels, and converting would name the labels. Convert to another folder.",
                code="other-labels",
                path=path,
            )
        return cls(path, json.loads(read_bounded(path, MAX_LISTING_BYTES, "list of cases").decode("utf-8-sig")))

    @property
    def labels(self) -> LabelTable:
        """The labels that it names.

        Raises:
            DataSetError: a field makes no sense.
        """
        return (Listing() if self.content is None else read_listing(self.path)).labels

    @property
    def channels(self) -> int:
        """How many channels it names, as nnU-Net does; 0 where it names none so."""
        names = (self.content or {}).get("channel_names")
        return len(names) if isinstance(names, (dict, list)) else 0

    def with_labels(self, table: LabelTable) -> DatasetFile:
        """Write the labels, with colours and codes, in the form that is there: MSD's, or nnU-Net's.

        Raises:
            FileError: the file can't be written.
            InputError: a label would come to lie above the ignore label that is there.
        """
        if self.labels.ignore is not None:
            table = LabelTable(table.labels, self.labels.ignore)
        content = self._begun()
        labels = content.get("labels")
        if isinstance(labels, dict) and any(isinstance(value, int) for value in labels.values()):
            content["labels"] = {**labels, **{label.name: label.index for label in table.labels}}
        else:
            content["labels"] = table.to_dataset_json()
        details = table.details_to_json()
        if details:
            content["label_details"] = details
        return self._written(content)

    def with_channels(self, names: Sequence[str]) -> DatasetFile:
        """Write the names of the channels, as nnU-Net does; the images are named ``CASE_0000`` and are not listed.

        Raises:
            DataSetError: the folder has other channels, or images of one; with the code ``other-channels``.
            FileError: the file can't be written.
        """
        channels = {str(number): name for number, name in enumerate(names)}
        if self.content is not None and self.content.get("channel_names") != channels and not self._is_of_nothing():
            raise DataSetError(
                f"{self.path} has other channels. Convert to another folder, or ask for the same ones.",
                code="other-channels",
                path=self.path,
            )
        begun = {**self._begun(), **({} if self.content else {"labels": {"background": 0}})}
        return self._written({**begun, "channel_names": channels, "file_ending": ".nii.gz"})

    def require_one_channel(self) -> None:
        """Refuse a folder whose images have several channels.

        Raises:
            DataSetError: with the code ``other-channels``.
        """
        if self.channels > 1 and not self._is_of_nothing():
            raise DataSetError(
                f"{self.path} has {self.channels} channels, and these images would have one. Convert to another folder, or "
                "give the same channels.",
                code="other-channels",
                path=self.path,
            )

    def _is_of_nothing(self) -> bool:
        """Whether a run that made no image has left it."""
        folders = (self.path.parent / TRAINING_IMAGES, self.path.parent / TEST_IMAGES)
        return (self.content or {}).get("name") == NAME and not any(any(one.glob("*")) for one in folders)

    def with_images(
        self, unlabelled: Iterable[str], labelled: Iterable[str], modalities: set[str], gone: Container[str] = ()
    ) -> DatasetFile:
        """Add images that it doesn't list, and drop those that somebody has removed.

        Args:
            unlabelled: names of the files in ``imagesTs``.
            labelled: names of the files in ``imagesTr`` whose masks bear the same names.
            modalities: of all these images. One is written as ``{"0": "CT"}``, several as ``{"0": "CT or MR"}``, which
                no program takes for CT. What is there of one channel is completed, and stays where it names no modality.
            gone: names of image files that are no longer there, nor masks of these names.

        Raises:
            FileError: the file can't be written.
        """
        content = self._begun()
        if self.channels > 1:
            # nnU-Net lists no files: they are found by their names.
            labelled = list(labelled)
            parts = [split_channel(stem_of(Path(name))) for name in labelled]
            drawn = len({case for case, channel in parts if channel is not None})
            counted = content.get("numTraining", 0)
            if drawn > (counted if isinstance(counted, int) else 0):  # a person may have counted more, drawn by hand
                content["numTraining"] = drawn
            unlabelled, labelled = (
                [name for name in names if split_channel(stem_of(Path(name)))[1] is None]
                for names in (unlabelled, labelled)
            )
            if not unlabelled and not labelled:
                return self._written(content)
        moved = {f"{TEST_IMAGES}/{name}": f"./{TRAINING_IMAGES}/{name}" for name in labelled}
        # What an earlier run listed without a mask has one now; a pair that a person listed keeps its mask.
        test = [
            entry
            for entry in _entries(content, "test")
            if _image(entry) not in moved and Path(_image(entry)).name not in gone
        ]
        training = [
            {**entry, "image": moved[_image(entry)]} if isinstance(entry, dict) and _image(entry) in moved else entry
            for entry in _entries(content, "training")
            if Path(_image(entry)).name not in gone
        ]
        listed = {_image(entry) for entry in (*training, *test)}
        training += [
            {"image": f"./{TRAINING_IMAGES}/{name}", "label": f"./{TRAINING_LABELS}/{name}"}
            for name in labelled
            if f"{TRAINING_IMAGES}/{name}" not in listed
        ]
        test += [f"./{TEST_IMAGES}/{name}" for name in unlabelled if f"{TEST_IMAGES}/{name}" not in listed]
        given = {f"{TEST_IMAGES}/{name}" for name in unlabelled} | {f"{TRAINING_IMAGES}/{name}" for name in labelled}
        if "channel_names" not in content:
            _tell_modality(content, modalities, all_given={_image(entry) for entry in (*training, *test)} <= given)
        content |= {"numTraining": len(training), "numTest": len(test), "training": training, "test": test}
        return self._written(content)

    def _begun(self) -> dict[str, object]:
        content: dict[str, object] = dict(self.content or {})
        content.setdefault("name", NAME)  # the folder's own name may be a patient's
        content.setdefault("tensorImageSize", "3D")
        content.setdefault("labels", {"0": "background"})
        return content

    def _written(self, content: dict[str, object]) -> DatasetFile:
        """The file with this content; it is not written where nothing changes."""
        if content != self.content:
            write_text(self.path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return replace(self, content=content)


def _tell_modality(content: dict[str, object], modalities: set[str], *, all_given: bool) -> None:
    """Complete what there is of one channel by the modalities of images; all of them, or some of those listed."""
    there = content.get("modality", {"0": ""})
    name = there.get("0") if isinstance(there, dict) and len(there) == 1 else None
    if not isinstance(name, str):
        return
    known = set(modalities_of(name))
    if name and not known:
        return
    told = modalities if all_given and len(known) != 1 else known | modalities
    if told and told != known:
        content["modality"] = {"0": mixed_channel(told)}


def _entries(content: Mapping[str, object], key: str) -> list[object]:
    found = content.get(key, [])
    return list(found) if isinstance(found, list) else []


def _image(entry: object) -> str:
    """An entry's first image as one text, whichever way it is written."""
    if isinstance(entry, dict):
        entry = entry.get("image", "")
    if isinstance(entry, list):
        entry = entry[0] if entry else ""
    return str(entry).removeprefix("./")

"""Bundles whose outputs overlap: one mask where the config merges them, or one for each region."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom import dcmread

import volseg
from tests.nifti import save, voxels
from tests.zoo import INVERTED, MERGED, THRESHOLDED, write_sigmoid_bundle
from volseg.cli.main import main
from volseg.errors import OutputExistsError, UsageError
from volseg.labels import LabelTable
from volseg.outcomes import Status
from volseg.verbs.convert import ConvertOptions, convert
from volseg.verbs.predict import PredictOptions, predict
from volseg.verbs.trust import trust
from volseg.volume import Mask, read_mask, read_volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tests.conftest import WriteSeries

ABOVE = {"tumor-core": 200.0, "whole-tumor": 100.0, "enhancing-tumor": 300.0}
NAMES = ("Tumor core", "Whole tumor", "Enhancing tumor")
REGIONS = PredictOptions(regions=True)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    noise = np.random.default_rng(5)
    (tmp_path / "images").mkdir()
    for case in ("a", "b"):
        values = (noise.random((13, 11, 9)) * 400).astype(np.float32)
        save(tmp_path / "images" / f"{case}.nii.gz", values, np.diag([-1.2, 1.0, 2.0, 1.0]))
    return tmp_path / "images"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    def make(*args: Any, name: str = "bundle", **options: Any) -> Path:
        bundle = write_sigmoid_bundle(tmp_path / name, *args, **options)
        trust(bundle)
        return bundle

    return make


def test_one_segmentation_holds_all_regions_and_convert_reads_each_back(
    make: Callable[..., Path], tmp_path: Path, write_series: WriteSeries
) -> None:
    values = np.random.default_rng(5).integers(1024, 1424, (8, 13, 11)).astype(np.uint16)  # 0 to 400 HU
    write_series(tmp_path / "dicom" / "ct", positions=[(0, 0, 2.0 * k) for k in range(8)], array=values)
    bundle, out = make(), tmp_path / "out"
    options = replace(REGIONS, dicom_seg=True)
    (outcome,) = predict(bundle, tmp_path / "dicom", out, REGIONS).outcomes
    (outcome,) = predict(bundle, tmp_path / "dicom", out, options).outcomes  # made of the masks that are there
    assert [one.code for one in predict(bundle, tmp_path / "dicom", out, options).outcomes] == ["already-done"]
    masks = {
        name: read_mask(out / folder / f"{outcome.case}.nii.gz") for folder, name in zip(ABOVE, NAMES, strict=True)
    }
    assert not list(out.glob("*/*.dcm"))
    (path,) = out.glob("*.dcm")
    data = dcmread(path)
    assert (data.SegmentationType, data.SegmentsOverlap) == ("BINARY", "YES")
    assert [segment.SegmentLabel for segment in data.SegmentSequence] == list(NAMES)
    frames = np.unpackbits(np.frombuffer(data.PixelData, np.uint8), bitorder="little")
    frames = frames[: data.NumberOfFrames * 13 * 11].reshape(-1, 13, 11)
    numbers = [group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
               for group in data.PerFrameFunctionalGroupsSequence]  # fmt: skip
    for number, mask in enumerate(masks.values(), 1):
        assert frames[np.array(numbers) == number].sum() == mask.array.sum() > 0
    before = path.read_bytes()
    anew = tmp_path / "anew"
    predict(bundle, tmp_path / "dicom", anew, options)
    assert (anew / path.name).read_bytes() == before  # the same by the network as from the masks
    shutil.copy(path, tmp_path / "dicom")
    for name, mask in masks.items():
        back = tmp_path / name
        assert (
            convert(tmp_path / "dicom", back, ConvertOptions(spacing=("native",), labels=name, jobs=1)).exit_code == 0
        )
        (found,) = (back / "labelsTr").glob("*.nii.gz")
        read = read_mask(found)
        assert read.grid.difference(mask.grid) is None
        np.testing.assert_array_equal(read.array, mask.array)


def of(images: Path, case: str) -> NDArray[np.float32]:
    return np.asarray(voxels(images / f"{case}.nii.gz"))


def test_each_region_has_a_folder_of_masks(images: Path, make: Callable[..., Path], tmp_path: Path) -> None:
    ledger = predict(make(), images, tmp_path / "out", REGIONS)
    assert ledger.exit_code == 0
    for case in ("a", "b"):
        values = of(images, case)
        for folder, above in ABOVE.items():
            path = tmp_path / "out" / folder / f"{case}.nii.gz"
            np.testing.assert_array_equal(voxels(path), values > above)
            assert voxels(path).dtype == np.uint8
            assert read_volume(path).grid.difference(read_volume(images / f"{case}.nii.gz").grid) is None
    for folder, name in zip(ABOVE, NAMES, strict=True):
        assert LabelTable.read(tmp_path / "out" / folder / "labels.txt").names == (name,)
    assert ledger.outcomes[0].outputs == tuple(f"{folder}/a.nii.gz" for folder in ABOVE)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*ABOVE, "prediction.json"])


def test_a_merged_mask_has_neutral_names(images: Path, make: Callable[..., Path], tmp_path: Path) -> None:
    ledger = predict(make(), images, tmp_path / "out")
    for case in ("a", "b"):
        values = of(images, case)
        wanted = np.select([values > 300, values > 200, values > 100], [4, 1, 2])
        np.testing.assert_array_equal(voxels(tmp_path / "out" / f"{case}.nii.gz"), wanted)
    assert all("neutral names" in outcome.warnings[0] for outcome in ledger.outcomes)
    assert [outcome.values_outside for outcome in ledger.outcomes] == [(1, 2, 4)] * 2
    described = LabelTable.read(tmp_path / "out" / "labels.txt")
    assert (described.indices, described.names) == ((1, 2, 4), ("label 1", "label 2", "label 4"))
    before = (tmp_path / "out" / "labels.txt").read_bytes(), (tmp_path / "out" / "prediction.json").read_bytes()
    again = predict(tmp_path / "bundle", images, tmp_path / "out")
    assert [outcome.code for outcome in again.outcomes] == ["already-done"] * 2
    assert (
        (tmp_path / "out" / "labels.txt").read_bytes(),
        (tmp_path / "out" / "prediction.json").read_bytes(),
    ) == before


def test_values_that_the_table_does_not_name_are_told(
    images: Path, make: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make()
    metadata = bundle / "configs" / "metadata.json"
    table = {"0": "background", "1": "core", "2": "oedema", "7": "label 4"}
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"label_table": table}))
    trust(bundle)
    assert main(["predict", str(bundle), str(images), str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "2 cases (a, b): warning: values-outside: The mask has the values 4, which" in said.out
    assert "note: The bundle runs step by step as its config says" in said.err
    assert "its postprocessing has Lambdad" in said.err
    described = LabelTable.read(tmp_path / "out" / "labels.txt")
    assert dict(zip(described.indices, described.names, strict=True)) == {
        1: "core", 2: "oedema", 4: "label 4 (not in the table)", 7: "label 4",
    }  # fmt: skip


def test_regions_stay_as_they_are(images: Path, make: Callable[..., Path], tmp_path: Path) -> None:
    bundle, out = make(), tmp_path / "out"
    predict(bundle, images, out, REGIONS)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert [one.code for one in predict(bundle, images, out, REGIONS).outcomes] == ["already-done"] * 2
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    # One region of one case is gone: all of the case is made anew, and the other case stays.
    (out / "whole-tumor" / "a.nii.gz").unlink()
    assert [one.code for one in predict(bundle, images, out, REGIONS).outcomes] == ["done", "already-done"]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    # One that somebody edited is never replaced, nor are they taken for labels.
    path = out / "whole-tumor" / "a.nii.gz"
    path.write_bytes((out / "tumor-core" / "a.nii.gz").read_bytes())
    assert any("Somebody has changed" in told for told in predict(bundle, images, out, REGIONS).outcomes[0].warnings)
    with pytest.raises(OutputExistsError):
        predict(bundle, images, out)
    predict(bundle, images, out, PredictOptions(overwrite=True))
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.nii.gz"))[:2] == ["a.nii.gz", "b.nii.gz"]


def test_regions_that_nothing_merges(
    images: Path, make: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make(steps=(INVERTED, THRESHOLDED))
    assert main(["predict", str(bundle), str(images), str(tmp_path / "out")]) == 2
    assert "refused [needs-regions]" in capsys.readouterr().out
    assert main(["predict", str(bundle), str(images), str(tmp_path / "out"), "--regions"]) == 0
    assert f"with {tmp_path}/out/<region>/<case>.nii.gz as its segmentation" in capsys.readouterr().out
    for folder, above in ABOVE.items():
        np.testing.assert_array_equal(voxels(tmp_path / "out" / folder / "b.nii.gz"), of(images, "b") > above)


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (("../../etc", "/etc/passwd", "images"), ["etc", "etc-passwd", "images-3"]),
        (("Core", "core!", "CORE?"), ["region-1", "region-2", "region-3"]),
        (("core", "core?", "core-2"), ["region-1", "region-2", "region-3"]),
        (("Tümör", "肿瘤", "..."), ["tumor", "region-2", "region-3"]),
        (("x" * 190, "y" * 190 + "a", "y" * 190 + "b"), ["x" * 60, "y" * 60, "y" * 60 + "-3"]),
        (("a\nb", "c", "d"), ["region-1", "region-2", "region-3"]),
    ],
)
def test_names_of_strangers_stay_within_the_folder(
    images: Path, make: Callable[..., Path], tmp_path: Path, names: tuple[str, ...], folders: list[str]
) -> None:
    out = tmp_path / "deep" / "out"
    assert predict(make(names=names), images, out, REGIONS).exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == sorted([*folders, "prediction.json"])
    for folder, above in zip(folders, ABOVE.values(), strict=True):
        np.testing.assert_array_equal(voxels(out / folder / "a.nii.gz"), of(images, "a") > above)


def test_labels_that_exclude_each_other_have_no_regions(trained_bundle: Path, cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        predict(trained_bundle, cohort, tmp_path / "out", REGIONS)
    assert caught.value.code == "no-regions"
    assert not list(tmp_path.rglob("*.nii.gz"))


def test_rules_are_for_labels_and_transforms_for_what_they_follow(
    images: Path, make: Callable[..., Path], tmp_path: Path
) -> None:
    """A transform before the step that merges is applied to each region, as MONAI does; one behind it, to none."""
    import scipy.ndimage

    largest = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "is_onehot": True, "connectivity": 1}
    on_channels = largest | {"applied_labels": [0, 1, 2]}
    on_labels = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1, 2, 4]}
    first = make(steps=(INVERTED, THRESHOLDED, on_channels, MERGED), name="first")
    last = make(steps=(INVERTED, THRESHOLDED, MERGED, on_labels), name="last")
    both = make(steps=(INVERTED, THRESHOLDED, on_channels), name="both")
    for bundle in (first, last, both):
        assert predict(bundle, images, tmp_path / "out" / bundle.name, REGIONS).exit_code == 0
    for folder, above in ABOVE.items():
        inside = of(images, "a") > above
        pieces, _ = scipy.ndimage.label(inside)
        sizes = np.bincount(pieces.ravel())[1:]
        assert len(sizes) > 1 or folder != "enhancing-tumor"
        np.testing.assert_array_equal(voxels(tmp_path / "out" / "last" / folder / "a.nii.gz"), inside)
        for name in ("first", "both"):
            kept = voxels(tmp_path / "out" / name / folder / "a.nii.gz").astype(bool)
            assert kept.sum() == sizes.max()
            assert not kept[~inside].any()


def test_in_memory(images: Path, make: Callable[..., Path], tmp_path: Path) -> None:
    bundle = make()
    volume = volseg.read(images / "a.nii.gz")
    regions = volseg.predict(bundle, volume, regions=True, progress=False)
    predict(bundle, images / "a.nii.gz", tmp_path / "out", REGIONS)
    assert tuple(regions) == NAMES
    for folder, (name, mask) in zip(ABOVE, regions.items(), strict=True):
        assert isinstance(mask, Mask)
        assert mask.labels.names == (name,)
        np.testing.assert_array_equal(mask.array, voxels(tmp_path / "out" / folder / "a.nii.gz"))
    mask = volseg.predict(bundle, volume, progress=False)
    assert mask.labels.names == ("label 1", "label 2", "label 4")
    assert volseg.load(bundle).predict_regions(volume, progress=False).keys() == regions.keys()


def test_an_image_that_has_nothing_of_a_region(make: Callable[..., Path], tmp_path: Path) -> None:
    image = save(
        tmp_path / "dark.nii.gz",
        np.where(np.arange(6)[:, None, None] > 4, 150, np.full((6, 5, 4), 149)).astype(np.int16),
    )
    (outcome,) = predict(make(), image, tmp_path / "out", REGIONS).outcomes
    assert outcome.status is Status.DONE
    assert outcome.warnings == ("The network found nothing of tumor-core, enhancing-tumor: these masks are empty.",)


def test_names_that_evaluate_would_take_for_one_are_neutral(
    images: Path, make: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = make(names=("Tumor core", "Tumor_core", "Whole tumor"))
    ledger = predict(bundle, images, tmp_path / "out", REGIONS)
    assert ledger.outcomes[0].outputs == tuple(f"region-{number}/a.nii.gz" for number in (1, 2, 3))
    assert "blanks and punctuation" in ledger.outcomes[0].warnings[0]

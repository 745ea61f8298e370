"""A part of each image alone: what a mask marks, or what another bundle finds first; through the verb."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from scipy.ndimage import distance_transform_edt

from tests.nifti import voxels
from tests.weighed import AFFINE, SHAPE, noise, weighed
from volseg.cli.main import main
from volseg.errors import GeometryError, InputError, OutputExistsError, TrustError, UsageError
from volseg.grid import Grid
from volseg.verbs.predict import PredictOptions, predict, preview
from volseg.verbs.predict.roi import Around, parse_roi

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.conftest import MakeBundle, WriteImage
    from volseg.outcomes import Ledger

SPACING_MM = (1.5, 1.0, 1.25)


@pytest.fixture
def bundle(make_bundle: MakeBundle, tmp_path: Path) -> Path:
    """A bundle of two labels with random weights, and ``other`` beside it with others."""
    made = make_bundle()
    shutil.copytree(made, tmp_path / "other")
    weighed(tmp_path / "other", seed=10)
    return weighed(made)


@pytest.fixture
def images(tmp_path: Path, write_image: WriteImage) -> Path:
    return noise(write_image, *(tmp_path / "images" / f"{name}.nii.gz" for name in "ab")).parent


def marked(value: int = 1) -> NDArray[np.uint8]:
    """An L of voxels, which doesn't fill its box."""
    found = np.zeros(SHAPE, np.uint8)
    found[6:12, 5, 4:6] = value
    found[6:8, 5:9, 4:6] = value
    return found


def near(region: NDArray[Any], margin_mm: float) -> NDArray[np.bool_]:
    """By scipy's distances, as an oracle."""
    return np.asarray(distance_transform_edt(region == 0, sampling=SPACING_MM) <= margin_mm * (1 + 1e-5))


def run(bundle: Path, source: Path, out: Path, **options: Any) -> Ledger:
    return predict(bundle, source, out, PredictOptions(precision="float32", raw=True, **options))


def mask_of(bundle: Path, image: Path, out: Path, **options: Any) -> NDArray[Any]:
    ledger = run(bundle, image, out, **options)
    assert ledger.exit_code == 0, ledger
    return voxels(out / image.name)


@pytest.mark.parametrize("margin", [None, 0.0, 2.6])
@pytest.mark.parametrize("whole_box", [False, True])
def test_what_a_mask_marks_is_segmented_as_in_the_whole(
    bundle: Path, images: Path, tmp_path: Path, write_image: WriteImage, margin: float | None, whole_box: bool
) -> None:
    roi, image = write_image(tmp_path / "heart.nii.gz", marked(3), AFFINE), images / "a.nii.gz"
    whole = mask_of(bundle, image, tmp_path / "whole")
    found = mask_of(bundle, image, tmp_path / "out", roi=str(roi), roi_margin=margin, roi_whole_box=whole_box)
    inside = near(marked(), 10 if margin is None else margin)
    if whole_box:
        box = tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(inside))
        inside[box] = True
    assert whole[~inside].any() or margin is None
    np.testing.assert_array_equal(found, np.where(inside, whole, 0))
    record = (tmp_path / "out" / "prediction.json").read_text()
    assert "heart" not in record
    assert json.loads(record)["provenance"]["options"]["roi_margin"] == (10.0 if margin is None else margin)


def test_labels_of_the_mask_are_chosen_by_name(
    bundle: Path, images: Path, tmp_path: Path, write_image: WriteImage
) -> None:
    both = marked(2)
    both[0:3, 0:3, 0:3] = 1
    write_image(tmp_path / "masks" / "a.nii.gz", both, AFFINE)
    (tmp_path / "masks" / "dataset.json").write_text('{"labels": {"0": "background", "1": "bone", "2": "heart"}}')
    image = images / "a.nii.gz"
    by_name = mask_of(bundle, image, tmp_path / "name", roi=str(tmp_path / "masks"), roi_labels="Heart", roi_margin=1)
    whole = mask_of(bundle, image, tmp_path / "whole")
    np.testing.assert_array_equal(by_name, np.where(near(marked(), 1), whole, 0))
    (outcome,) = run(bundle, image, tmp_path / "none", roi=str(tmp_path / "masks"), roi_labels="spleen").outcomes
    assert (outcome.code, "spleen" in outcome.message) == ("no-label", True)


def test_one_case_without_a_mask_or_with_an_empty_one_costs_no_other(
    bundle: Path, images: Path, tmp_path: Path, write_image: WriteImage
) -> None:
    shutil.copy(images / "a.nii.gz", images / "c.nii.gz")
    write_image(tmp_path / "masks" / "a.nii.gz", marked(), AFFINE)
    write_image(tmp_path / "masks" / "b.nii.gz", 0 * marked(), AFFINE)
    options = PredictOptions(roi=str(tmp_path / "masks"))
    rows, _ = preview(bundle, images, tmp_path / "out", options)
    assert ["no mask of this case" in row.action for row in rows] == [False, False, True]
    ledger = predict(bundle, images, tmp_path / "out", options)
    assert [one.code for one in ledger.outcomes] == ["done", "empty-roi", "no-roi"]
    assert ledger.exit_code == 1
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz"]


def test_a_mask_by_another_roi_never_passes_for_this_one_s(
    bundle: Path, images: Path, tmp_path: Path, write_image: WriteImage
) -> None:
    masks, out = tmp_path / "masks", tmp_path / "out"
    for name in "ab":
        write_image(masks / f"{name}.nii.gz", marked(), AFFINE)
    assert run(bundle, images, out, roi=str(masks)).exit_code == 0
    shutil.copytree(masks, tmp_path / "moved")
    assert {one.code for one in run(bundle, images, out, roi=str(tmp_path / "moved")).outcomes} == {"already-done"}
    write_image(masks / "b.nii.gz", np.roll(marked(), 2, axis=1), AFFINE)
    before = voxels(out / "b.nii.gz")
    ledger = run(bundle, images, out, roi=str(masks))
    assert [one.code for one in ledger.outcomes] == ["already-done", "exists"]
    for other in ({"roi_margin": 3.0}, {"roi_whole_box": True}, {"roi_labels": "1"}):
        with pytest.raises(OutputExistsError, match="other rules or options"):
            run(bundle, images, out, roi=str(masks), **other)
    np.testing.assert_array_equal(voxels(out / "b.nii.gz"), before)
    assert run(bundle, images, out, roi=str(masks), overwrite=True).exit_code == 0
    assert (voxels(out / "b.nii.gz") != before).any()


def test_a_mask_in_another_order_is_turned_and_one_on_another_grid_brought_to_the_image_s(
    bundle: Path, images: Path, tmp_path: Path, write_image: WriteImage
) -> None:
    image = images / "a.nii.gz"
    plain = mask_of(bundle, image, tmp_path / "plain", roi=str(write_image(tmp_path / "m.nii.gz", marked(), AFFINE)))
    turn = np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    turned = write_image(tmp_path / "turned.nii.gz", marked()[::-1], AFFINE @ turn)
    np.testing.assert_array_equal(mask_of(bundle, image, tmp_path / "turned", roi=str(turned)), plain)
    # Each voxel of the image is eight of the mask's, about its centre; and the mask ends where it marks nothing more.
    fine = np.kron(marked(), np.ones((2, 2, 2), np.uint8))[:, :24]
    affine = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    affine[:3, 3] = (AFFINE @ [-0.25, -0.25, -0.25, 1])[:3]
    ledger = run(bundle, image, tmp_path / "fine", roi=str(write_image(tmp_path / "f.nii.gz", fine, affine)))
    np.testing.assert_array_equal(voxels(tmp_path / "fine" / "a.nii.gz"), plain)
    assert any("brought to the image's by the nearest voxel" in one for one in ledger.outcomes[0].warnings)


def test_another_bundle_finds_the_part_that_is_segmented(
    bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out = tmp_path / "other", tmp_path / "out"
    whole, region = (mask_of(one, images / "a.nii.gz", tmp_path / one.name / "out") for one in (bundle, other))
    command = ["predict", str(bundle), str(images), str(out), "--raw", "--precision", "float32", "--roi", str(other)]
    command += ["--roi-labels", "structure 2", "--roi-margin", "0"]
    assert main(command) == 0
    inside = region == 2
    assert 0 < inside.sum() < inside.size / 2
    assert whole[~inside].any()
    np.testing.assert_array_equal(voxels(out / "a.nii.gz"), np.where(inside, whole, 0))
    assert main(command) == 0
    assert "already" in capsys.readouterr().out
    shutil.copy(bundle / "models" / "model.pt", other / "models" / "model.pt")
    with pytest.raises(OutputExistsError, match="other rules or options"):
        run(bundle, images, out, roi=str(other), roi_labels="structure 2", roi_margin=0)


def test_another_bundle_s_refusal_is_told_as_its_own(bundle: Path, images: Path, tmp_path: Path) -> None:
    metadata = tmp_path / "other" / "configs" / "metadata.json"
    known = json.loads(metadata.read_text())
    known["network_data_format"]["inputs"]["image"]["num_channels"] = 2
    metadata.write_text(json.dumps(known))
    ledger = run(bundle, images, tmp_path / "out", roi=str(tmp_path / "other"))
    assert {one.code for one in ledger.outcomes} == {"channels"}
    assert ledger.outcomes[0].message.startswith("--roi: The image has 1 channels")


def test_a_strange_bundle_runs_nothing_before_it_is_trusted(bundle: Path, images: Path, tmp_path: Path) -> None:
    path = tmp_path / "other" / "configs" / "inference.yaml"
    config = yaml.safe_load(path.read_text())
    config["strange"] = "$__import__('pathlib').Path('ran').touch()"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(TrustError):
        run(bundle, images, tmp_path / "out", roi=str(tmp_path / "other"))
    assert not (tmp_path / "out").exists()


def test_what_is_no_roi_is_refused_before_the_work(
    bundle: Path, images: Path, tmp_path: Path, write_image: WriteImage
) -> None:
    one, folder = write_image(tmp_path / "m.nii.gz", marked(), AFFINE), tmp_path / "masks"
    write_image(folder / "a.nii.gz", marked(), AFFINE)
    for source, said, options in (
        (images, "2 cases", {"roi": str(one)}),
        (images, "the folder that the masks go to", {"roi": str(folder)}),
        (images, "is none", {"roi": str(tmp_path / "nothing")}),
        (images, "is none", {"roi": str(bundle / "configs")}),
        (images, "--roi takes a box", {"roi": "1:2,3:4"}),
        (images, "--roi takes a box", {"roi": ""}),
        (images, "are for a --roi", {"roi": "1:2,3:4,5:6", "roi_margin": 3.0}),
        (images, "are for a --roi", {"roi_whole_box": True}),
        (images, "0 to 100 mm, not -1", {"roi": str(one), "roi_margin": -1.0}),
        (images, "0 to 100 mm, not nan", {"roi": str(one), "roi_margin": float("nan")}),
    ):
        with pytest.raises(UsageError, match=said):
            run(bundle, source, folder, **options)
    assert [path.name for path in folder.iterdir() if path.suffix == ".gz"] == ["a.nii.gz"]


def test_a_region_s_area_is_the_smallest_box_about_what_is_near() -> None:
    grid = Grid((20, 20, 20), np.diag([1.0, 1.0, 2.0, 1.0]))
    region = np.zeros(grid.shape, bool)
    region[10, 10, 0] = True
    area = Around(2.0).area(region, grid)
    assert area.box == (range(8, 13), range(8, 13), range(2))
    assert area.inside is not None
    assert area.inside.sum() == 13 + 1  # a disc of radius 2 and one voxel above it
    assert Around(2.0, whole_box=True).area(region, grid).inside is None
    with pytest.raises(InputError, match="marks nothing"):
        Around().area(np.zeros(grid.shape, bool), grid)
    sheared = np.eye(4)
    sheared[0, 1] = 0.5
    with pytest.raises(GeometryError):
        Around().area(region, Grid(grid.shape, sheared))


@pytest.mark.parametrize("text", ["1:2", "1:2,3:4,x", "5:5,1:2,1:2", "1.5:3,1:2,1:2", ""])
def test_what_is_no_box_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--roi takes"):
        parse_roi(text)


FAR = "1" + "0" * 25


@pytest.mark.parametrize(
    "text", ["100:200,1:2,1:2", f"{FAR}:{FAR}0,1:2,1:2", f"-{FAR}0:-{FAR},1:2,1:2", f"{FAR}:{FAR}0,1:2,1:2mm"]
)
def test_a_box_beside_the_image_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="outside"):
        parse_roi(text).box(Grid((50, 50, 50), np.eye(4)))


def test_a_box_that_reaches_far_beyond_the_image_ends_with_it() -> None:
    grid = Grid((4, 5, 6), np.eye(4))
    for text in (f"2:{FAR},-{FAR}:3,0:{FAR}", f"1.5:{FAR},-{FAR}:2.5,-1:{FAR}mm"):
        assert parse_roi(text).box(grid) == (range(2, 4), range(3), range(6))


@pytest.mark.parametrize("text", [f"0:{10**400},1:2,1:2", f"-{10**400}:4,1:2,1:2mm"])
def test_numbers_that_nothing_holds_are_told_as_such(text: str) -> None:
    with pytest.raises(UsageError, match="larger than any image"):
        parse_roi(text)


def test_a_box_between_the_centres_of_voxels_is_those_that_it_touches() -> None:
    grid = Grid((5, 5, 5), np.diag([2.0, 2.0, 5.0, 1.0]))
    found = [parse_roi(f"0:8,0:8,{side}mm").box(grid)[2] for side in ("6:7", "7:8", "9.9:10.1", "-2:-1")]
    assert found == [range(1, 2), range(1, 3), range(2, 3), range(1)]
    with pytest.raises(InputError, match="outside"):
        parse_roi("0:8,0:8,23:24mm").box(grid)

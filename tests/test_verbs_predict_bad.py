"""Images that no mask can be made of, or that are unlike those that the bundle was made for: one run of all of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from volseg.bundle.made_for import MadeFor
from volseg.cli.main import main
from volseg.errors import InputError
from volseg.grid import Grid
from volseg.verbs.predict.plausibility import doubts, outside, require_sense

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.conftest import WriteImage

BUNDLE = "hippocampus_mr"
SHAPE = (20, 24, 20)
BAD = {
    "constant": "constant",
    "cut": "damaged-file",
    "empty": "damaged-file",
    "four": "channels",
    "huge": "too-large",
    "nan": "not-finite",
    "plane": "one-slice",
    "rgb": "not-scalar",
    "sheared": "sheared",
    "slice": "one-slice",
    "text": "damaged-file",
    "thin": "too-thin",
}
"""Images and the codes that they are refused by."""


def images_of_all_kinds(folder: Path, write_image: WriteImage) -> None:
    values = np.random.default_rng(0).normal(100, 30, SHAPE).astype(np.float32)
    write_image(folder / "good.nii.gz", values)
    write_image(folder / "thick.nii.gz", values[..., ::4], np.diag([1.0, 1, 5, 1]))
    write_image(folder / "constant.nii.gz", np.full(SHAPE, 7, np.int16))
    write_image(folder / "four.nii.gz", np.stack([values] * 4, axis=-1))
    write_image(folder / "huge.nii.gz", values, np.diag([400.0, 400, 400, 1]))
    write_image(folder / "nan.nii.gz", np.where(values > 150, np.nan, values))
    write_image(folder / "slice.nii.gz", values[..., :1])
    write_image(folder / "plane.nii.gz", values[..., 0])
    write_image(folder / "thin.nii.gz", values[..., :3], np.diag([1.0, 1, 0.2, 1]))
    colours = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), folder / "rgb.nii.gz")
    sheared = nibabel.Nifti1Image(values, np.array([[1.0, 0.4, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    sheared.header.set_qform(None, 0)
    nibabel.save(sheared, folder / "sheared.nii.gz")
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "cut.nii.gz").write_bytes((folder / "good.nii.gz").read_bytes()[:5000])
    (folder / "text.nii.gz").write_bytes(b"no image")


def test_each_bad_image_gets_its_sentence_and_the_others_their_masks(
    tmp_path: Path, write_image: WriteImage, capsys: pytest.CaptureFixture[str]
) -> None:
    images_of_all_kinds(tmp_path / "images", write_image)
    out = tmp_path / "out"
    assert main(["predict", BUNDLE, str(tmp_path / "images"), str(out)]) == 1
    lines = capsys.readouterr().out.splitlines()
    told = {line.split(":")[0]: line for line in lines if ": refused [" in line or ": failed [" in line}
    assert {case: re.search(r"\[(.*?)\]", line)[1] for case, line in told.items()} == BAD, told  # type: ignore[index]
    for line in told.values():
        assert len(re.findall(r"[a-z0-9)]\. [A-Z]", line)) >= 1, line  # what is wrong, and what to do
        assert str(tmp_path) not in line
    assert (
        "thick: warning: The image's voxels measure 1 x 1 x 5 mm along R, A and S, and those of the network"
        in "\n".join(lines)
    )
    assert not any(line.startswith("good") for line in lines)
    assert {path.name for path in out.iterdir()} == {"good.nii.gz", "thick.nii.gz", "labels.txt", "prediction.json"}


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder that not even root may write in")
def test_a_folder_that_can_t_be_written_is_told(
    tmp_path: Path, write_image: WriteImage, capsys: pytest.CaptureFixture[str]
) -> None:
    image = write_image(tmp_path / "a.nii.gz", np.zeros(SHAPE, np.int16))
    assert main(["predict", BUNDLE, str(image), "/proc/volseg-masks"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("volseg:")]
    assert "/proc/volseg-masks" in line
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


PLANNED = MadeFor((1.0, 1.0, 1.0), (1.0, 1.0, 3.0), (1e6, 4e6), ((-60.0, 180.0),), is_3d=True)


def grid(shape: tuple[int, int, int], *steps: float) -> Grid:
    return Grid(shape, np.diag([*steps, 1.0]))


@pytest.mark.parametrize(
    ("shape", "steps", "words"),
    [
        ((100, 100, 100), (1, 1, 1), []),
        ((256, 256, 40), (0.8, 0.8, 5), []),
        ((100, 100, 30), (1, 1, 9), []),
        (
            (100, 100, 30),
            (1, 1, 9.1),
            ["1 x 1 x 9.1 mm along R, A and S, and those of the training images at most 1 x 1 x 3 mm"],
        ),
        ((30, 200, 200), (9, 1, 1), ["9 x 1 x 1 mm along R"]),
        ((40, 40, 40), (1, 1, 1), ["16 times less than the smallest training image"]),
        ((512, 512, 300), (1, 1, 1), ["20 times as much as the largest"]),
    ],
)
def test_grids_far_from_those_of_the_training_are_told(
    shape: tuple[int, int, int], steps: tuple[float, ...], words: list[str]
) -> None:
    told = outside(grid(shape, *steps), PLANNED)
    assert len(told) == len(words)
    assert all(word in sentence for word, sentence in zip(words, told, strict=True)), told
    assert outside(grid(shape, *steps), MadeFor()) == ()


def test_a_turned_image_is_measured_along_the_patient_s_axes() -> None:
    turned = Grid((30, 200, 200), np.array([[0.0, 1, 0, 0], [0, 0, 1, 0], [9, 0, 0, 0], [0, 0, 0, 1]]))
    assert outside(turned, PLANNED) == ()
    with pytest.raises(InputError, match=r"Along S the image measures 0\.5 mm"):
        require_sense(
            Grid((2, 20, 20), np.array([[0.0, 1, 0, 0], [0, 0, 1, 0], [0.25, 0, 0, 0], [0, 0, 0, 1]])), PLANNED
        )


@pytest.mark.parametrize(
    ("values", "ct", "words"),
    [
        (np.linspace(-1000, 1000, 1000), "yes", ""),
        (np.linspace(400, 3000, 1000), "yes", "lie outside of those"),
        (np.linspace(400, 3000, 1000), "no", ""),
        (np.linspace(400, 3000, 1000), "perhaps", "no Hounsfield units"),
        (np.linspace(-1000, 1000, 1000), "perhaps", ""),
    ],
)
def test_values_far_from_those_of_the_training_are_told(
    values: NDArray[np.float64], ct: str, words: str, tmp_path: Path, write_image: WriteImage
) -> None:
    image = write_image(tmp_path / "a.nii.gz", values.reshape(10, 10, 10).astype(np.float32))
    told = doubts((image,), PLANNED, ct=ct)  # type: ignore[arg-type]
    assert len(told) == bool(words)
    assert words in "".join(told)


def test_two_places_of_one_image_are_told(tmp_path: Path) -> None:
    values = np.linspace(-1000, 1000, 1000).reshape(10, 10, 10).astype(np.float32)
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.set_sform(np.diag([-1.0, 1, 1, 1]), code=2)
    image.set_qform(np.eye(4), code=1)
    nibabel.save(image, tmp_path / "a.nii.gz")
    (told,) = doubts((tmp_path / "a.nii.gz",), PLANNED, ct="yes")
    assert "sform and the qform" in told
    assert "left and right" in told

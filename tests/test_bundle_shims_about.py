"""What shims have to know of a bundle is found in its texts, of which none is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.zoo import write_zoo_bundle
from volseg.bundle.folder import open_bundle
from volseg.bundle.shims import Bundled, bundled_of, mended_modules

if TYPE_CHECKING:
    from pathlib import Path


def test_what_a_bundle_asks_of_readers_is_found_in_its_texts(tmp_path: Path) -> None:
    bundle = open_bundle(write_zoo_bundle(tmp_path / "bundle", tmp_path))
    config = bundle.read_config("train")
    assert bundled_of(bundle, config, {}, "cpu") == Bundled(monai=(1, 4), device="cpu")
    sources = {"scripts/window.py": b"KEY = 'image_meta_dict'\n", "scripts/broken.py": b"("}
    assert bundled_of(bundle, config, sources, "cuda") == Bundled(monai=(1, 4), device="cuda", reads_meta_dicts=True)


def test_images_that_are_read_in_lps_are_known(tmp_path: Path) -> None:
    bundle = open_bundle(write_zoo_bundle(tmp_path / "bundle", tmp_path))
    for reader, reads in (({"affine_lps_to_ras": False}, True), ({"affine_lps_to_ras": True}, False), ({}, False)):
        config: Any = {"preprocessing": [{"_target_": "LoadImaged", "keys": "image", **reader}]}
        assert bundled_of(bundle, config, {}, "cpu").reads_lps is reads


def test_modules_with_names_that_numpy_removed_are_told_together() -> None:
    sources = {
        "scripts/a.py": b"import numpy as np\nx = np.float(1)\n",
        "scripts/b.py": b"import numpy\nx = numpy.float64(1)\n",
        "scripts/c.py": b"import numpy\nx = numpy.bool8(1)\n",
    }
    (told,) = mended_modules(sources, "train")
    assert (told.config, told.places) == ("train", ("scripts/a.py", "scripts/c.py"))
    assert str(told).startswith("scripts/a.py and 1 other place: ")
    assert mended_modules({"scripts/b.py": sources["scripts/b.py"]}, "train") == ()

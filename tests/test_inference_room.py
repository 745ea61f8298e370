"""What a bundle would make of an image is compared with the machine before memory is taken."""

from __future__ import annotations

import numpy as np
import pytest
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.transforms import Compose, Orientationd, Spacingd

from volseg import device
from volseg.errors import InputError
from volseg.grid import Grid
from volseg.inference.room import (
    require_room_for_classes,
    require_room_to_prepare,
    require_room_to_resample,
    window_count,
)

GRID = Grid((100, 90, 80), np.diag([1.0, 1.0, 2.0, 1.0]))


def preprocessing(*pixdim: float) -> Compose:
    return Compose([Orientationd("image", "RAS", labels=None), Spacingd("image", pixdim=pixdim)])


def test_a_spacing_that_fills_the_memory_is_refused() -> None:
    require_room_to_resample(preprocessing(1, 1, 1), GRID, 1)
    require_room_to_resample(preprocessing(0.5, 0.5, -1), GRID, 1)
    require_room_to_resample(Orientationd("image", "RAS", labels=None), GRID, 1)
    with pytest.raises(InputError) as caught:
        require_room_to_resample(preprocessing(0.001, 0.001, 0.001), GRID, 2)
    assert caught.value.code == "too-large"
    # 1.44e6 mm3 are 1.44e15 voxels of a cubic micrometre; 8 numbers of 4 bytes for each.
    assert "0.001 x 0.001 x 0.001 mm" in caught.value.message
    assert "1.4e+15 voxels, which takes about 4.29e+07 GiB" in caught.value.message


def test_classes_that_fill_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "machine_bytes", lambda _: 2**30)
    require_room_for_classes(16, (128, 128, 64), "cpu")
    require_room_for_classes(128, (128, 128, 64), "cpu")
    with pytest.raises(InputError, match=r"129 numbers for each voxel of 128 x 128 x 64, which takes about 1\.01 GiB"):
        require_room_for_classes(129, (128, 128, 64), "cpu")
    require_room_for_classes(85, (128, 128, 64), "cpu", 1)  # three volumes for two: the sum of an ensemble lies beside
    with pytest.raises(InputError, match=r"86 numbers for each voxel"):
        require_room_for_classes(86, (128, 128, 64), "cpu", 1)


def test_windows_are_counted_as_monai_places_them() -> None:
    import torch
    from monai.inferers.utils import sliding_window_inference

    for window, overlap in (((16, 16, 16), 0.5), ((20, 8, 40), 0.25)):
        seen = 0

        def count(patches: torch.Tensor) -> torch.Tensor:
            nonlocal seen
            seen += len(patches)
            return patches

        sliding_window_inference(torch.zeros(1, 1, 50, 41, 33), window, 2, count, overlap=overlap)
        assert window_count(SlidingWindowInferer(window, 2, overlap), (50, 41, 33)) == seen
    assert window_count(SimpleInferer(), (50, 41, 33)) is None
    with pytest.raises(InputError, match="larger window"):
        window_count(SlidingWindowInferer((1, 1, 1), 1, 0.0), (512, 512, 512))


def test_a_limit_below_what_the_process_holds_is_not_blamed_on_the_image() -> None:
    grid = Grid((20, 20, 20), np.eye(4))
    with pytest.raises(InputError, match=r"by the programs and the bundle, and --memory allows 1e-06\. Allow more\.$"):
        require_room_to_prepare(Compose([]), grid, 1, 1000)
    large = Grid((4000, 4000, 4000), np.eye(4))
    with pytest.raises(InputError, match="or cut the image"):
        require_room_to_prepare(Compose([]), large, 1, 2**37)
    require_room_to_prepare(Compose([]), grid, 1, 2**37)

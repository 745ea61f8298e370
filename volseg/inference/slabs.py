"""Class values of a preprocessed image, only where windows still add to them.

Windows go through the image in layers. What no later layer reaches is finished, becomes labels and makes room. So the memory
holds the class values of one layer, never those of the image. Where a network's last layer makes more classes of fewer
features, these are added up: the layer is linear, so it may come after the mean over windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from monai.data.utils import compute_importance_map
from monai.utils import PytorchPadMode

from volseg.device import memory_short
from volseg.errors import BundleError
from volseg.inference.head import Head
from volseg.inference.heap import give_back, keep_freed
from volseg.inference.mirrored import Mirrored
from volseg.inference.outcome import NOT_FINITE
from volseg.inference.planes import side_by_side
from volseg.inference.slab_steps import UnsuitedError
from volseg.inference.windows import Windows
from volseg.networks.cost import left_out, window_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from volseg.inference.scratch import Scratch
    from volseg.inference.windows import Place

Activation = Literal["softmax", "sigmoid"]
Box = tuple[range, range, range]
LESS = "The memory for the network ran out, so {}; the mask is the same, but for the rounding of floats."


@dataclass(frozen=True, eq=False)
class Networks:
    """What gives class values to a batch of windows.

    Args:
        members: one network, or several whose probabilities are averaged.
        averaged_as: the probabilities that the values of several are averaged as.
        device: where they lie.
        half: whether they compute in bfloat16.
    """

    members: Sequence[torch.nn.Module]
    averaged_as: Activation
    device: torch.device
    half: bool

    def __call__(self, member: int, windows: torch.Tensor) -> torch.Tensor:
        """Values (window, class or feature, i, j, k) of one member.

        Raises:
            UnsuitedError: it gives something else.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            found = self.members[member](windows)
        fits = (
            isinstance(found, torch.Tensor) and found.shape[0] == len(windows) and found.shape[2:] == windows.shape[2:]
        )
        if not fits or not found.is_floating_point():
            raise UnsuitedError("its network gives other values than one for each class and voxel")
        values: torch.Tensor = found
        return values

    def last_layers(self, channels: int, window: Sequence[int]) -> list[torch.nn.Module]:
        """Of each member the one that may be left to the end; none where that saves nothing."""
        plain = [one.network if isinstance(one, Mirrored) else one for one in self.members]
        try:
            name = window_cost(plain[0], channels, window).head
        except BundleError:  # a network that can't be reckoned is seen when it runs
            name = None
        return [] if name is None else [one.get_submodule(name) for one in plain]


class Slabs:
    """The finished means over the windows of one image, slab by slab: class values, or the features that they are made of.

    Args:
        image: (1, channel, i, j, k), on any device.
        sliding: MONAI's ``SlidingWindowInferer``.
        networks: what gives the class values.
        tell: called with what a person has to know.
        wanted: the voxels of the image (i, j, k) that are wanted; None for all. Windows beside them are left out.
        scratch: makes a file for values of some shape, or None where it can't; None to hold them in memory.
        batch: windows at once, on a processor each on its own cores; None for as many as the sliding window says.
    """

    def __init__(
        self,
        image: torch.Tensor,
        sliding: Any,
        networks: Networks,
        tell: Callable[[str], object] = lambda _: None,
        *,
        wanted: Box | None = None,
        scratch: Callable[[Sequence[int]], Scratch | None] | None = None,
        batch: int | None = None,
    ) -> None:
        self.shape = tuple(image.shape[2:])
        self.windows = Windows.of(sliding, self.shape)
        self.networks, self.batch = networks, batch or int(sliding.sw_batch_size)
        self.home = networks.device
        self._image, self._tell, self._scratch = _padded(image, self.windows, sliding), tell, scratch
        self._wanted = wanted and [
            range(one.start + before, one.stop + before)
            for one, before in zip(wanted, self.windows.before, strict=True)
        ]
        self._weights = compute_importance_map(
            self.windows.size, mode=sliding.mode, sigma_scale=sliding.sigma_scale, device=self.home, dtype=torch.float32
        )
        self._layers = networks.last_layers(image.shape[1], self.windows.size)
        self.heads = [Head.of(layer) for layer in self._layers]
        self.channels = 0
        greatest = max((float(head.weights.abs().sum(dim=1).max()) for head in self.heads), default=1.0)
        self._most = torch.finfo(torch.float32).max / max(1.0, greatest) / 2  # beyond, class values may be infinite
        self._file: Scratch | None = None
        self._sums = torch.empty(0)
        self._counts = torch.zeros(self.windows.slab_shape, device=self.home)
        self._even: tuple[tuple[float, ...], list[torch.Tensor]] = ((), [])

    @property
    def classes(self) -> int:
        """How many the network gives; 0 as long as no window went through it."""
        return len(self.heads[0].bias) if self.heads and self.channels else self.channels

    def finished(self, advance: Callable[[float], object]) -> Iterator[tuple[int, torch.Tensor]]:
        """The first plane and the means (member, channel, i, j, k) of each slab that no window adds to any more.

        A slab begins with the last plane of the one before it, since what lies between the two needs both. The means
        are valid until the next slab is asked for, and are not to be changed.

        Args:
            advance: called with the share, of 1 in all, of each batch of windows.
        """
        axis = self.windows.axis
        begins = [layer[0][axis] for layer in self.windows.layers]
        reach = self.windows.size[axis]
        if self.networks.device.type == "cpu":
            keep_freed()
        held = 0  # planes at the begin of the sums that are finished already: none or one
        for number, layer in enumerate(self.windows.layers):
            base = begins[number] - held
            with left_out(self._layers):
                self._add(layer, base, advance)
            last = number + 1 == len(begins)
            end = self.windows.shape[axis] if last else begins[number + 1]
            if self.channels:
                self._finish(held, end - base)
                give_back()
                yield base, self._sums.narrow(axis + 2, 0, end - base)
                # The last plane, and those that the next layer adds to.
                self._move(end - base - 1, begins[number] + reach - end + 1)
            held = 1 if self.channels else 0
        self._sums = self._counts = torch.empty(0)
        self._even = ((), [])
        give_back()

    def _add(self, layer: Sequence[Place], base: int, advance: Callable[[float], object]) -> None:
        """Add the windows of a layer to the sums, whose first plane is ``base``."""
        waiting: list[Place] = []
        for place in layer:
            box = _box(place, self.windows.size)
            if self._wanted and any(
                one.stop <= side.start or side.stop <= one.start for one, side in zip(self._wanted, box, strict=True)
            ):
                advance(1 / self.windows.count)
            elif self._even[1] and _even_values(self._image[:, :, *box]) == self._even[0]:
                # What a network makes of a window in which all voxels are alike is the same wherever it lies.
                for member, values in enumerate(self._even[1]):
                    self._sum(member, place, values, base)
                advance(1 / self.windows.count)
            else:
                waiting.append(place)
            if len(waiting) >= self.batch:
                self._through(waiting, base, advance)
                waiting = []
        if waiting:
            self._through(waiting, base, advance)

    def _through(self, places: Sequence[Place], base: int, advance: Callable[[float], object]) -> None:
        """Add some windows to the sums."""
        boxes = [_box(place, self.windows.size) for place in places]
        windows = torch.cat([self._image[:, :, *box] for box in boxes])
        even = next((at for at, one in enumerate(windows) if _even_values(one[None])), None)
        members = len(self.networks.members)
        kept: list[torch.Tensor] = []
        for member in range(members):
            for at, values in enumerate(self._values(member, windows)):
                self._sum(member, places[at], values, base)
                if at == even:
                    kept.append(values.clone())
            advance(len(places) / self.windows.count / members)
        if even is not None:
            self._even = (_even_values(windows[even][None]), kept)

    def _values(self, member: int, windows: torch.Tensor) -> Iterator[torch.Tensor]:
        """The values (channel, i, j, k) of each window, in smaller batches where memory runs out."""
        begin = 0
        while begin < len(windows):
            part = windows[begin : begin + self.batch]
            try:
                found = self._at_once(member, part)
                self._require_sums(len(found[0]))
            except (RuntimeError, MemoryError) as error:
                if memory_short(error) is None or not self._take_less():
                    raise
                continue
            yield from found
            begin += len(part)

    def _at_once(self, member: int, windows: torch.Tensor) -> list[torch.Tensor]:
        """The values (channel, i, j, k) of each window."""
        if self.networks.device != torch.device("cpu"):
            return list(self.networks(member, windows.to(self.networks.device)).to(self.home))
        found: dict[int, torch.Tensor] = {}

        def through(number: int) -> None:
            found[number] = self.networks(member, windows[number : number + 1])[0]

        side_by_side(through, range(len(windows)), self.networks.device)
        return [found[number] for number in range(len(windows))]

    def _take_less(self) -> bool:
        """Go on with less memory of the device; whether there is a way."""
        host = torch.device("cpu")
        if self.batch > 1:
            self.batch = (self.batch + 1) // 2
            self._tell(LESS.format(f"windows went through the network {self.batch} at once"))
        elif self.home != host:
            self.home = host
            self._sums, self._counts, self._weights = (
                one.to(host) for one in (self._sums, self._counts, self._weights)
            )
            self._even = (self._even[0], [one.to(host) for one in self._even[1]])
            self._tell(LESS.format("class values were added up in the computer's memory"))
        else:
            return False
        if self.networks.device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def _sum(self, member: int, place: Place, values: torch.Tensor, base: int) -> None:
        """Add one window's values (class, i, j, k) to the sums, whose first plane is ``base``."""
        moved = [at - base * (axis == self.windows.axis) for axis, at in enumerate(place)]
        box = _box(moved, self.windows.size)

        def add(number: int) -> None:
            self._sums[member, number][box].addcmul_(values[number].float(), self._weights)
            self._let_go()

        side_by_side(add, range(len(values)), self.home)
        if not member:
            self._counts[box] += self._weights

    def _require_sums(self, channels: int) -> None:
        if self.channels not in (0, channels):
            raise UnsuitedError("its network gives other classes from window to window")
        if not self.channels:
            shape = (len(self.networks.members), channels, *self.windows.slab_shape)
            self._file = self._scratch(shape) if self._scratch is not None else None
            if self._file is not None:
                self.home = torch.device("cpu")
                self._counts, self._weights = self._counts.to(self.home), self._weights.to(self.home)
            self._sums = torch.zeros(shape, device=self.home) if self._file is None else self._file.values
            self.channels = channels

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.let_go()

    def _finish(self, begin: int, end: int) -> None:
        """Make means of the sums of some planes."""
        axis = self.windows.axis
        counts = self._counts.narrow(axis, begin, end - begin)
        counts.masked_fill_(counts == 0, 1)  # beside what is wanted

        def divide(total: torch.Tensor) -> None:
            low, high = torch.aminmax(total.narrow(axis, begin, end - begin).div_(counts))
            if not -self._most <= float(low) <= float(high) <= self._most:
                raise BundleError(f"What the bundle makes of the network's output is {NOT_FINITE}", code="not-finite")
            self._let_go()

        side_by_side(divide, self._sums.flatten(0, 1), self.home)

    def _move(self, begin: int, count: int) -> None:
        """Bring some planes to the front, and clear what lies behind."""
        axis = self.windows.axis

        def move(total: torch.Tensor) -> None:
            total.narrow(axis, 0, count).copy_(total.narrow(axis, begin, count).clone())
            total.narrow(axis, count, total.shape[axis] - count).zero_()
            self._let_go()

        side_by_side(move, (self._counts, *self._sums.flatten(0, 1)), self.home)


def _box(place: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(at, at + length) for at, length in zip(place, size, strict=True))


def _even_values(window: torch.Tensor) -> tuple[float, ...]:
    """The value of each channel of a window (1, channel, i, j, k) in which all voxels are alike; nothing of another."""
    first = window[0, :, :1, :1, :1]
    if bool((window[0, :, -1:, -1:, -1:] != first).any()) or bool((window[0] != first).any()):
        return ()
    return tuple(first.flatten().tolist())


def _padded(image: torch.Tensor, windows: Windows, sliding: Any) -> torch.Tensor:
    """The image with as much around it as the windows want, as MONAI does it."""
    more = [size - old for size, old in zip(windows.shape, image.shape[2:], strict=True)]
    if not any(more):
        return image
    sides = [side for before, all_of in zip(windows.before, more, strict=True) for side in (all_of - before, before)]
    mode = PytorchPadMode(sliding.padding_mode).value
    return torch.nn.functional.pad(image, sides[::-1], mode=mode, value=sliding.cval)

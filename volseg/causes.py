"""The root cause of a library's exception, in words for a person.

What other libraries say may quote a patient's file, so their sentences are never passed on: what is known is recognised
and told with its numbers and names of code alone; of all else the kind and the place in the code are told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

_SIZES = r"(?:torch\.Size|np\.u?int\d+|[\d ,()\[\]]){1,120}"
_SHAPE = r"\[[\d, ]{1,80}\]"
MODULE = re.compile(
    r"No module named '([A-Za-z_][\w.]{0,80})'|required package `([A-Za-z_][\w.]{0,80})`"
    r"|requires ([A-Za-z_]\w{0,40}) to be installed"
)
KNOWN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), sentence)
    for pattern, sentence in (
        (
            r"expected input\[[\d, ]*\] to have (\d{1,6}) channels, but got (\d{1,6}) channels",
            "the network takes {0} channels and is given {1}",
        ),
        (
            r"size of tensor a \((\d{1,9})\) must match the size of tensor b \((\d{1,9})\) at non-singleton dimension (\d)",
            ("two shapes don't fit: {0} against {1} along axis {2}. The sizes may have to be multiples of what the "
            "network divides them by"),
        ),
        (
            r"Sizes of tensors must match except in dimension \d\. Expected (?:size )?(\d{1,9}) but got (?:size )?(\d{1,9})",
            ("two shapes inside the network don't fit: {0} against {1}. The sizes have to be multiples of what the "
            "network divides them by"),
        ),
        (
            (r"spatial dimensions \(?[\d, ]*\)? ?of input image \(spatial shape: [^)]*(\([\d, ]+\)|\[[\d, ]+\])\)+ must be "
            r"divisible by (?:self\.patch_size\*\*5|(\d+))"),
            "the network can't divide an image of the shape {0} evenly",
        ),
        (
            rf"stack expects each tensor to be equal size, but got ({_SHAPE}) at entry 0 and ({_SHAPE})",
            ("a batch is made of pieces of different shapes, {0} and {1}: the config has no step that crops or pads them "
            "to one size"),
        ),
        (
            rf"ground truth has differ\w+ shape \(torch\.Size\(({_SHAPE})\)\) from input \(torch\.Size\(({_SHAPE})\)\)",
            "the labels have the shape {0} and the network gives {1}",
        ),
        (
            (rf"Expected more than 1 (?:value per channel|spatial element) when training, got input size "
            rf"torch\.Size\(({_SHAPE})\)"),
            "a layer that norms its input gets a single value, of the shape {0}: the patch is too small for the network",
        ),
        (
            r"mat1 and mat2 shapes cannot be multiplied \((\d+x\d+) and (\d+x\d+)\)",
            "two shapes inside the network don't fit: {0} against {1}",
        ),
        (
            (r"Class values must be smaller than num_classes|labels? should (?:have|be).{0,60}num_classes"
            r"|index (\d+) is out of bounds for dimension 1 with size (\d+)"),
            "the masks hold a label that the network has no output for",
        ),
        (
            rf"random crop ROI is larger than the image size, got ROI size ({_SIZES}) and label image size ({_SIZES}) ",
            "patches of {0} voxels are to be cut out of an image of {1}",
        ),
        (
            r"num_samples should be a positive integer value, but got num_samples=0",
            "the config finds no case in the data",
        ),
        (
            (r"not compiled with CUDA|Found no NVIDIA driver|deserialize object on a CUDA device|No CUDA GPUs are available"
            r"|invalid device ordinal"),
            "it asks for a GPU that this machine doesn't have",
        ),
        (
            (r"process group has not been initialized|environment variable (?:RANK|WORLD_SIZE|MASTER_ADDR|LOCAL_RANK)"
            r"|KeyError: 'LOCAL_RANK'|init_process_group"),
            "it is written for several GPUs at once (torch.distributed), and volseg works on one device",
        ),
        (
            r"Key `(\w{1,40})` of transform `(\w{1,60})` was missing",
            "{1} wants the part {0} of each case, which the data don't have",
        ),
        (
            r"cannot import name '(\w{1,60})' from '((?:monai|torch|numpy|ignite|scipy|skimage)[\w.]{0,80})'",
            "{1} as it is installed has no {0}",
        ),
        (
            r"Cannot locate (?:component|class or function path):? '([\w.]{1,100})'",
            "there is no {0}, neither in MONAI as it is installed nor in the bundle",
        ),
        (
            r"(?:(\w{1,60})\.)?__init__\(\) got an unexpected keyword argument '(\w{1,60})'",
            "{0} as it is installed takes no {1}",
        ),
        (
            r"(\w{1,60})(?:\.__init__)?\(\) missing \d+ required (?:positional|keyword-only) arguments?: '(\w{1,60})'",
            "{0} needs {1}, which isn't given",
        ),
        (
            r"(?:module '|')((?:monai|torch|numpy|ignite|scipy)[\w.]{0,60})' has no attribute '(\w{1,60})'",
            "{0} as it is installed has no {1}",
        ),
        (
            r"Error\(s\) in loading state_dict for (\w{1,60})",
            "the weights are those of another network than {0} as it is described",
        ),
        (
            r"unsupported keyword arguments for mode '(\w{1,20})': \{?'?(\w{1,30})",
            "the config gives padding by {0} the argument {1}, which it doesn't take",
        ),
        (
            r"Expected a floating[ -]point (?:or complex )?tensor as input\. Got (\w{1,20})",
            "a loss or a layer takes floating-point numbers and is given {0}: the config has no step that casts them",
        ),
        (
            r"Weights only load failed",
            "a file that it loads holds more than tensors and numbers",
        ),
    )
)  # fmt: skip
"""What libraries say, and what that means; only numbers, shapes and names of code are taken over."""
TRANSFORM = re.compile(r"applying transform <(?:[\w.]+\.)?(\w{1,60}) object")
KIND = re.compile(r"^(\w{1,60}(?:Error|Exception)):", re.MULTILINE)
FRAME = re.compile(r"site-packages/([A-Za-z_][\w/]{0,100})\.py\", line \d+, in (\w{1,60})")
NAME = re.compile(r"[A-Za-z_][\w.]{0,100}")


@dataclass(frozen=True)
class Cause:
    """What ended some work.

    Args:
        clause: lower case, without a full stop, such as ``the network takes 4 channels and is given 1``.
        known: whether it was recognised; else ``clause`` tells the kind and the place alone.
        module: of a package that is not installed.
    """

    clause: str
    known: bool
    module: str | None = None


def cause_of(error: BaseException) -> Cause:
    """The root cause of an exception, through what it was raised from and what loader processes tell of theirs."""
    chain = tuple(_chain(error))
    texts = [str(one)[:20_000] for one in chain]
    step = next((found[1] for text in texts if (found := TRANSFORM.search(text))), None)
    in_step = f" (in the step {step})" if step else ""
    for one, text in zip(reversed(chain), reversed(texts), strict=True):
        missing = one.name if isinstance(one, ModuleNotFoundError) else None
        found = MODULE.search(text)
        module = missing or (next(filter(None, found.groups())) if found else None)
        if module and NAME.fullmatch(module):
            return Cause(f"the Python module {module} is not installed", known=True, module=module.partition(".")[0])
        for pattern, sentence in KNOWN:
            told = pattern.search(f"{type(one).__name__}: {text}")
            if told is not None:
                words = [_plain(group or "what is built") for group in told.groups()]
                return Cause(sentence.format(*words) + in_step, known=True)
    root = chain[-1]
    kinds = KIND.findall(texts[-1])  # of a loader process only the text comes
    if kinds:
        return Cause(f"{kinds[0]}{_place_in(texts[-1])}{in_step}", known=False)
    return Cause(f"{type(root).__name__}{_place(root)}{in_step}", known=False)


def _plain(words: str) -> str:
    """Sizes as people write them: ``np.int64(96)`` is 96."""
    return re.sub(r"(?:np\.u?int\d+|torch\.Size)\(([^()]*)\)", r"\1", words).strip()


def root_of(error: BaseException) -> BaseException:
    """The first exception of a chain that was raised, one from the other."""
    return tuple(_chain(error))[-1]


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        # pydoc's, by which MONAI looks classes up, keeps it so; pydoc itself takes long to import.
        kept = type(current).__name__ == "ErrorDuringImport"
        below = getattr(current, "value", None) if kept else current.__cause__
        current = below if isinstance(below, BaseException) else None


def _place(error: BaseException) -> str:
    """The innermost function that the exception came through, by its module: names of code, never of files."""
    trace, frame = error.__traceback__, None
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
    if frame is None:
        return ""
    module, code = _module(frame), frame.f_code
    return f" in {module}.{_function(code)}" if module else ""


def _place_in(text: str) -> str:
    """The same out of the text of a loader process, for what is installed; its first traceback is the cause's."""
    frames = FRAME.findall(text.partition("The above exception was the direct cause")[0])
    return f" in {frames[-1][0].replace('/', '.')}.{frames[-1][1]}" if frames else ""


def _module(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return name if isinstance(name, str) and NAME.fullmatch(name) else ""


def _function(code: CodeType) -> str:
    name = code.co_qualname.replace("<locals>.", "")
    return name if NAME.fullmatch(name) else "a function"

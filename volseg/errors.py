"""What volseg raises: one sentence that names the file or case, says what is wrong and what to do.

Every error carries a stable reason ``code`` that ledgers and scripts may rely on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from volseg.words import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class VolsegError(Exception):
    """The parent of every error that volseg raises on purpose.

    Args:
        message: one sentence or two for a person: which file or case, what is wrong, what to do.
        code: the stable reason code, lower case with hyphens, such as ``missing-slice``.
        path: the file or folder that the message names in full, so that ``within`` can shorten it.
        lines: what follows the sentence, each on a line of its own. No other line breaks are in the message: a name in it
            could forge a line.
    """

    default_code = "error"
    private = ""
    """What only stderr may show, such as which file of a series is at fault."""

    def __init__(
        self, message: str, *, code: str | None = None, path: Path | None = None, lines: Sequence[str] = ()
    ) -> None:
        self.message = "\n".join(map(printable, (message, *lines)))
        super().__init__(self.message)
        self.code = code or self.default_code
        self.path = path

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders; the keywords would be lost by the default.
        return (_rebuild, (type(self), self.message, self.code, self.path))

    def within(self, folder: Path | None = None) -> str:
        """The message with its file relative to a folder, and by its name alone where it lies elsewhere.

        Folders of a person's machine may be called after patients, so ledgers keep this form.
        """
        if self.path is None or not self.path.name:
            return self.message
        inside = folder is not None and self.path != folder and self.path.is_relative_to(folder)
        shown = self.path.relative_to(folder).as_posix() if folder is not None and inside else self.path.name
        return self.message.replace(printable(str(self.path)), printable(shown))

    def reworded(self, message: str) -> Self:
        """The same error with another message about the same file, made of this one's."""
        first, *lines = message.split("\n")
        return type(self)(first, code=self.code, path=self.path, lines=lines)


def raised_from(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, what it was raised from or while handling, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _rebuild(kind: type[VolsegError], message: str, code: str, path: Path | None) -> VolsegError:
    first, *lines = message.split("\n")
    return kind(first, code=code, path=path, lines=lines)


class UsageError(VolsegError, ValueError):
    """What was asked for makes no sense: an option's value, a path of the wrong kind."""

    default_code = "usage"


class InputError(VolsegError, ValueError):
    """The content of an input is wrong, damaged, hostile or not supported."""

    default_code = "bad-input"


class GeometryError(InputError):
    """Voxels can't be placed in the patient's millimetres with certainty, or two grids differ."""

    default_code = "geometry"


class DataSetError(InputError):
    """A data set has faults; the message lists all of them."""

    default_code = "data-set-faults"


class BundleError(InputError):
    """A bundle is incomplete, malformed, or doesn't fit what is asked of it."""

    default_code = "bad-bundle"


class TrustError(VolsegError, ValueError):
    """A bundle would run code that nobody has trusted; the message lists that code."""

    default_code = "not-trusted"


class FileError(VolsegError, OSError):
    """A file can't be found, read or written."""

    default_code = "file"


class OutputExistsError(FileError):
    """An output is there already and would be overwritten."""

    default_code = "exists"


class DiskFullError(FileError):
    """The disk is full; nothing half-written was left."""

    default_code = "disk-full"


class MemoryShortError(VolsegError, MemoryError):
    """Memory ran out, of the processor or of a GPU."""

    default_code = "out-of-memory"

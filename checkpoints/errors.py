"""Every error that checkpoints raises on purpose. All share a base class, and each is also the builtin one expects.

All survive pickling unchanged, so that a worker process can pass them on.

Messages quote names from files, and a traceback prints them on a terminal. Control characters and escapes would move
its cursor, marks of direction turn text around, and invisible characters make two names look the same. So the text of
every error is `printable`, as is all that the tools and the command line print. `args` and attributes are exact.
"""

import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

# These show nothing, although Python counts them as printable.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_LINE_START, _LINE_END = 1000, 500


def printable(text: str) -> str:
    """Return text in which every character but a line break is visible: what is not is written as an escape."""
    if text.isprintable() and not _INVISIBLE.search(text):
        return text
    return "".join(char if char == "\n" or _is_visible(char) else _escape(char) for char in text)


def on_one_line(text: str) -> str:
    """Return text as `printable` does, with its line breaks escaped too: a name must not look like a line of ours."""
    return printable(text).replace("\n", "\\n")


def shortened(text: str) -> str:
    """Return text with the middle of each very long line left out."""
    most = _LINE_START + _LINE_END
    if len(text) <= most:
        return text
    return "\n".join(
        f"{line[:_LINE_START]} ... ({len(line) - most:,} characters) ... {line[-_LINE_END:]}"
        if len(line) > most
        else line
        for line in text.split("\n")
    )


def _is_visible(char: str) -> bool:
    return char.isprintable() and not _INVISIBLE.match(char)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()


# What to do when the system has no more of something, by errno.
ADVICE_AT_LIMITS = {
    errno.EMFILE: "This process has too many open files: close some, or raise its limit (ulimit -n).",
    errno.ENFILE: "The system has too many open files: close some programs.",
    errno.ENOMEM: "The system has no memory left: close some programs.",
}


class CheckpointError(Exception):
    """The base class of all errors about files, their content, and states that do not match."""

    def __str__(self) -> str:
        # Not as KeyError and OSError do, which show the repr of their message or their errno.
        return printable(shortened(str(self.args[0]))) if self.args else ""


class ArgumentError(CheckpointError, ValueError, TypeError):
    """An argument that a function does not accept."""


class StateError(CheckpointError, ValueError):
    """A state, a name or metadata that cannot be saved exactly."""


class UnsupportedTypeError(StateError, TypeError):
    """A value in a state that no file of the format can hold."""


class FormatError(CheckpointError, ValueError):
    """A suffix of no known format, or a file that is not valid in its format."""


class CorruptError(FormatError):
    """A file that is not what was written. tensors: the names of the damaged ones, if known."""

    def __init__(self, message: str, tensors: tuple[str, ...] = ()) -> None:
        self.tensors = tensors
        super().__init__(message)


class RulesError(FormatError):
    """A file that breaks the rules of its format, but whose tensors can be read: repair() writes a valid file."""


class VersionError(FormatError):
    """A file written by a newer statezoo than this one."""


class MissingPackageError(CheckpointError, ImportError):
    """A file that is read with a package that is not installed. The message has the command to install it."""


class _SystemError(CheckpointError, OSError):
    """A failure of the operating system, with its own message and the errno of the cause."""

    def __init__(self, message: str, cause: OSError | None = None) -> None:
        super().__init__(message)
        self._cause = cause
        if cause is not None:
            self.errno, self.filename = cause.errno, cause.filename

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self._cause)


class MissingFileError(_SystemError, FileNotFoundError):
    """No file at the path to read."""


class NoCheckpointError(MissingFileError, FormatError):
    """A path with no file and a suffix of no known format."""


class ReadError(_SystemError):
    """A path that cannot be read, such as a folder."""


class WriteError(_SystemError):
    """A file that could not be written. The previous file, if any, is still there."""


class LockedError(WriteError, TimeoutError):
    """A file or folder that another process or thread kept locked for too long. Nothing was written."""


class OutOfMemoryError(CheckpointError, MemoryError):
    """A save or a load for which there is not enough memory. Files and models are unchanged."""


@contextmanager
def enough_memory(what: str, advice: str) -> Iterator[None]:
    """Turn a MemoryError in the block into an OutOfMemoryError. what: a clause, such as "the state was not saved"."""
    try:
        yield
    except MemoryError as error:
        if isinstance(error, CheckpointError):
            raise
        reason = f" ({error})" if str(error) else ""
        raise OutOfMemoryError(f"{what}: there is not enough memory{reason}. {advice}") from error


class ClosedError(CheckpointError, ValueError):
    """A read of a tensor after its checkpoint was closed."""


class UnknownTensorError(CheckpointError, KeyError):
    """Names that are not in a checkpoint. The message suggests the closest names that are."""

    def __init__(self, name: str, source: str, known: Iterable[str], *others: str) -> None:
        known = list(known)
        nears = {unknown: nearest(str(unknown), known) for unknown in (name, *others)}
        total = f" It has {len(known):,} names; list() gives them."
        if others:
            lines = [f"\n  {unknown!r}{f': did you mean {near!r}?' if near else ''}" for unknown, near in nears.items()]
            super().__init__(f"these names are not in {source}.{'' if all(nears.values()) else total}{''.join(lines)}")
            return
        hint = f" Did you mean {nears[name]!r}?" if nears[name] else total
        super().__init__(f"there is no {name!r} in {source}.{hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        return CheckpointError.__new__, (type(self),), {"args": self.args}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the closest known name, or None if none is close."""
    from difflib import get_close_matches  # only an error needs it

    return next(iter(get_close_matches(name, list(known), n=1)), None)


class MappingError(CheckpointError, ValueError):
    """A mapping whose rules do not fit a state, or cannot be reversed. Nothing has been changed or written."""


class MismatchError(CheckpointError, ValueError):
    """A file that does not fit a model. Nothing has been changed when this is raised.

    source: the name of the file. model: the name of the model's class. problems: one line for each. advice: what to do
    about them.
    """

    def __init__(self, source: str, model: str, problems: list[str], advice: str) -> None:
        problems = list(map(on_one_line, problems))
        self.source, self.model, self.problems, self.advice = source, model, problems, advice
        lines = [f"{source} does not fit {model}; nothing was changed.", *(f"  {line}" for line in problems), advice]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.source, self.model, self.problems, self.advice)

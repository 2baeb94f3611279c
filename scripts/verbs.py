"""The verbs of the command line: their arguments, outcomes and exit statuses. All output passes through this file.

Text and messages may quote names from foreign files, so control characters are escaped before anything is printed.
"""

import argparse
import io
import json
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

# Anything smaller is done before anyone could read a progress bar.
_LONG_BYTES = 1 << 26
NAME = "a model's name, or file:FOLDER for an entry of your own"


class Outcome(NamedTuple):
    """What a verb prints (`note` on stderr), and its exit status: 1 for a negative answer, such as a damaged file."""

    text: str = ""
    status: int = 0
    note: str = ""


class Verb(NamedTuple):
    """One verb: its arguments, the function that runs it, and example commands.

    pinned: whether its results depend on the BLAS kernel, so that it runs in a process pinned to one.
    """

    arguments: Callable[[argparse.ArgumentParser], object]
    run: Callable[[argparse.Namespace], Outcome]
    examples: tuple[str, ...]
    pinned: bool = False


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str, **settings: Any):
        super().__init__(prog, max_help_position=28, **settings)


class Parser(argparse.ArgumentParser):
    """A parser that remembers the option for each value's name, and escapes the words that its errors quote."""

    def __init__(self, **settings: Any):
        self.options: dict[str, str] = {}
        super().__init__(formatter_class=_Help, **settings)

    def add_argument(self, *flags: Any, **settings: Any) -> argparse.Action:
        """Add an argument and remember the flag of an option."""
        action = super().add_argument(*flags, **settings)
        if action.option_strings:
            self.options[action.dest] = action.option_strings[-1]
        return action

    def error(self, message: str) -> Any:
        """Print the usage and the message, and exit with status 2."""
        super().error(printable(message))

    def print_help(self, file: Any = None) -> None:
        """Print the help like any other output. Exit with status 1 if that fails."""
        status = _show(self.format_help().rstrip("\n"))
        if status:
            self.exit(status)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option --json."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def outcome(found: Any, as_json: bool, status: int = 0) -> Outcome:
    """Return a report as text, or as JSON."""
    return Outcome(json_text(found.as_dict()) if as_json else _with_verbs(str(found)), status)


def json_text(content: Any) -> str:
    """Return the JSON that verbs print: ASCII, with every control character as JSON's own escape."""
    return json.dumps(content, indent=1).replace("\x7f", "\\u007f")


def finish(run: Callable[[], Outcome], options: Mapping[str, str]) -> int:
    """Run a verb, print what it returns, and return the exit status.

    A known error is one message on stderr, with the library's keyword arguments spelled as `options` of the verb.
    """
    # A terminal that cannot show an accent gets an escape for it, not a traceback.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            text, status, note = run()
        except KeyboardInterrupt:
            text, status, note = "", 130, "interrupted"
        except MemoryError:
            text, status, note = "", 1, "there is not enough memory"
        except _known_errors() as error:
            text, status, note = "", 1, spoken(error, options)
    if note:
        complain(note)
    return (_show(text) if text else 0) or status


def spoken(error: Exception, options: Mapping[str, str]) -> str:
    """Return an error's message for a person at a terminal. The library speaks Python: `force=True` is --force here."""
    from statezoo.zoo.errors import UnfinishedRunError

    if isinstance(error, OSError) and isinstance(error.filename, str | bytes) and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}."
    if isinstance(error, UnfinishedRunError):
        command = ["statezoo", "train", error.recipe, "--out", str(error.folder), "--resume"]
        return f"{error.problem}\nTo continue: {shlex.join(command)}"

    def option(match: re.Match[str]) -> str:
        tick, name, value = match["tick"], match["name"], match["value"]
        is_name = tick or value is not None or "_" in name  # else it may be an ordinary word, such as "seed"
        if name not in options or not is_name:
            return match[0]
        return f"{tick}{options[name]}{f' {value}' if value and value != 'True' else ''}{tick}"

    text = re.sub(
        r"(?<![\w/.-])(?P<tick>`?)(?P<name>[a-z_]+)(?:=(?P<value>[\w.\-]*\w)?)?(?P=tick)(?![\w/])", option, str(error)
    )
    return _with_verbs(text)


def _with_verbs(text: str) -> str:
    """Return text with calls of the library's tools spelled as the verbs of the same names."""
    return re.sub(r"\bcheckpoints\.([a-z]+)\(\)", r"`statezoo \1`", text)


def complain(message: str) -> None:
    """Print one message on stderr, unless stderr is closed."""
    if sys.stderr is not None:
        with suppress(OSError):  # there is nobody to tell
            print(f"statezoo: {printable(message)}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return text that may be printed on a terminal, with line breaks: see checkpoints/errors.py."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    from statezoo.checkpoints import errors  # imports NumPy, which help and usage do not need

    return errors.printable(text)


@contextmanager
def progress(verb: str, total_bytes: int) -> Iterator[Callable[[int], object] | None]:
    """Yield a function that moves a bar on stderr, or None if stderr is not a terminal or the work is short."""
    if total_bytes < _LONG_BYTES or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total_bytes, desc=verb, unit="B", unit_scale=True, leave=False) as bar:
        yield bar.update


def _show(text: str) -> int:
    """Print text on stdout and return the exit status."""
    with printing() as result:
        if sys.stdout is None:
            raise OSError("standard output is closed")
        print(printable(text), flush=True)
    return result[0] if result else 0


@contextmanager
def printing() -> Iterator[list[int]]:
    """Catch the error of a stdout that takes no more text, and put the exit status in the yielded list."""
    result: list[int] = []
    try:
        yield result
    except OSError as error:
        _discard(sys.stdout)
        if isinstance(error, BrokenPipeError):  # the reader has seen enough, as in `statezoo list | head -1`
            result.append(0)
        else:
            complain(f"the output could not be written: {error}")
            result.append(1)


def _discard(stream: Any) -> None:
    """Discard what a stream still holds, which would fail again when Python exits, with a traceback."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    complain(f"warning: {message}")


def _known_errors() -> tuple[type[Exception], ...]:
    """Return the errors that are one message. They are imported only when one occurs: the library imports NumPy."""
    from statezoo.checkpoints import CheckpointError
    from statezoo.core import ModuleError
    from statezoo.zoo import ZooError

    return CheckpointError, ModuleError, ZooError, OSError

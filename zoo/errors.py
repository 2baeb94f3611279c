"""The errors of the zoo: one base class, and each subclass is also the builtin exception that people expect.

Like those of checkpoints, their text is safe to print on a terminal, whatever an entry holds.
"""

from pathlib import Path

from ..checkpoints.errors import printable, shortened


class ZooError(Exception):
    """The base class of all errors about entries, recipes and their data."""

    def __str__(self) -> str:
        # KeyError would show the repr of its message, with the line breaks escaped.
        return printable(shortened(str(self.args[0]))) if self.args else ""


class UnknownNameError(ZooError, KeyError):
    """An unknown name of an entry, architecture or recipe."""


class EntryError(ZooError, ValueError):
    """An entry whose manifest or files are invalid, changed or missing."""


class InputError(ZooError, ValueError):
    """An input that a model's predict does not understand."""


class DataError(ZooError, ValueError):
    """A data file that is missing, truncated or in another format."""


class RunError(ZooError, ValueError):
    """A training run that cannot continue or be published, or a published name that would be overwritten."""


class UnfinishedRunError(RunError):
    """A run that can be resumed. problem: the message without its advice; recipe, folder: what to resume, and where."""

    def __init__(self, problem: str, recipe: str, folder: str | Path):
        super().__init__(problem, recipe, folder)
        self.problem, self.recipe, self.folder = problem, recipe, Path(folder)

    def __str__(self) -> str:
        advice = f"Resume it: zoo.train(zoo.get_recipe({self.recipe!r}), {str(self.folder)!r}, resume=True)."
        return f"{printable(shortened(self.problem))} {advice}"


class StoppedError(UnfinishedRunError):
    """A training run that was asked to stop and has saved its state."""


class ExportError(ZooError, ValueError):
    """A model that cannot be written as an ONNX file that computes the same."""


class MissingExtraError(ZooError, ImportError):
    """An optional package that is not installed. The message contains the install command."""

"""Every error that the zoo raises on purpose: one base class, and each child is also the builtin that people expect."""

from pathlib import Path


class ZooError(Exception):
    """The base of all errors about entries, recipes and their data."""

    def __str__(self) -> str:
        # KeyError would show the repr of its message, with the line breaks escaped.
        return str(self.args[0]) if self.args else ""


class UnknownNameError(ZooError, KeyError):
    """A name that no entry, architecture or recipe has."""


class EntryError(ZooError, ValueError):
    """An entry whose manifest or files are not what they should be."""


class InputError(ZooError, ValueError):
    """An input that a model's predict does not understand."""


class DataError(ZooError, ValueError):
    """A data file that is missing, truncated, or of another kind."""


class RunError(ZooError, ValueError):
    """A training run that cannot go on or be published, or a published name that would be overwritten."""


class UnfinishedRunError(RunError):
    """A run that can be resumed. problem: the message without its advice; recipe, folder: what to resume, and where."""

    def __init__(self, problem: str, recipe: str, folder: str | Path):
        super().__init__(problem, recipe, folder)
        self.problem, self.recipe, self.folder = problem, recipe, Path(folder)

    def __str__(self) -> str:
        return (
            f"{self.problem} Resume it: zoo.train(zoo.get_recipe({self.recipe!r}), {str(self.folder)!r}, resume=True)."
        )


class StoppedError(UnfinishedRunError):
    """A training that was asked to stop and has saved its state."""


class MissingExtraError(ZooError, ImportError):
    """An optional package that is not installed. The message contains the install command."""

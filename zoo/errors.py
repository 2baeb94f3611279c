"""Every error that the zoo raises on purpose: one base class, each child also the builtin that people expect."""


class ZooError(Exception):
    """The base of all errors about entries, recipes and their data."""

    def __str__(self) -> str:
        # KeyError would show the repr of its message, with the line breaks escaped.
        return str(self.args[0]) if self.args else ""


class UnknownNameError(ZooError, KeyError):
    """A name that no entry, architecture or recipe has."""


class EntryError(ZooError, ValueError):
    """An entry whose manifest or files are not what they say they are."""


class InputError(ZooError, ValueError):
    """An input that a model's predict cannot understand."""


class DataError(ZooError, ValueError):
    """A data file that is missing, cut, or of another kind."""


class RunError(ZooError, ValueError):
    """A training run that cannot be published, or a published name that would be overwritten."""


class StoppedError(ZooError):
    """A training that was asked to stop, and has saved where it stands."""


class MissingExtraError(ZooError, ImportError):
    """An optional package that is not installed; the message holds the install command."""

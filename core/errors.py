"""The errors of core: one base class, with subclasses that also derive from the builtin error a user expects."""

from collections.abc import Iterable

__all__ = [
    "ArgumentError", "GraphError", "ModuleError", "OptimizerError", "RegistrationError", "ShapeError", "StateDictError",
]  # fmt: skip


class ModuleError(Exception):
    """The base class of all errors about tensors, modules, losses and optimizers."""

    def __str__(self) -> str:
        # Not in quotes, as KeyError shows it. A name may come from a file: its control characters must not reach a
        # terminal with the traceback.
        return _printable(str(self.args[0])) if self.args else ""


# Where torch raises RuntimeError, NumPy and most libraries raise ValueError: the next two are both.
class ShapeError(ModuleError, ValueError, RuntimeError):
    """Shapes that do not fit together."""


class ArgumentError(ModuleError, ValueError, RuntimeError):
    """A value, index or dtype that a function does not accept."""


class GraphError(ModuleError, RuntimeError):
    """An impossible backward pass: the graph is missing or freed, or the start is not a single number."""


class RegistrationError(ModuleError, TypeError):
    """A parameter, buffer or module that would silently not be registered."""


class OptimizerError(ModuleError, ValueError):
    """Parameters, hyperparameters or a state that do not fit an optimizer or schedule."""


class StateDictError(ModuleError, RuntimeError):
    """A state that does not fit a model. Nothing has changed when this is raised.

    problems: one line per problem, in the order of the model's names. advice: what to do about them.
    """

    def __init__(self, model: str, problems: list[str], advice: str, source: str = "the state"):
        self.model, self.problems, self.advice = model, problems, advice
        lines = [f"{source} does not fit {model}; nothing was changed.", *(f"  {line}" for line in problems), advice]
        self._text = "\n".join(lines)
        super().__init__(model, problems, advice, source)  # copy and pickle create the error from these

    def __str__(self) -> str:
        return _printable(self._text)


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name most similar to `name`, or None if none is similar.

    cutoff: the minimum similarity, from 0 to 1.
    """
    from difflib import get_close_matches  # slow to import, and only errors need it

    return next(iter(get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return " Did you mean 'x'?" for the nearest known name, or "" if none is similar."""
    near = nearest(name, known, cutoff)
    return "" if near is None else f" Did you mean {near!r}?"


def _printable(text: str) -> str:
    """Return text with line breaks, and every other character that cannot be seen as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)

"""Architectures by name, and models built from a name and a configuration."""

import inspect
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Literal, TypeVar

from ..core import Module, ModuleError
from ..core.errors import did_you_mean
from .errors import EntryError, UnknownNameError, ZooError

ModelClass = TypeVar("ModelClass", bound=type[Module])

# The architectures that come with statezoo, one row each. Each has a folder of its name in models/, imported on demand.
BUILT_IN = (
    "gpt",
    "lenet",
    "linear-regression",
    "lstm",
    "mnist-classifier",
    "simple-mlp",
    "tense-mlp",
    "tied-autoencoder",
    "transformer-block",
    "vae",
)

_architectures: dict[str, type[Module]] = {}


def register(name: str) -> Callable[[ModelClass], ModelClass]:
    """Return a decorator that registers a Module class as the architecture `name`.

    A manifest may only name registered architectures, so a class must be registered before its entries are loaded.
    Raises ZooError if the name is invalid, or if another class has it: an entry would load into the wrong model.
    """
    if not name or name != name.lower() or any(mark in name for mark in "./\\: "):
        raise ZooError(f"{name!r} cannot name an architecture. Use lower case and hyphens, such as 'tense-mlp'.")

    def decorate(cls: ModelClass) -> ModelClass:
        import_built_in(name, "model")
        known = _architectures.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ZooError(
                f"The architecture {name!r} is already {known.__module__}.{known.__qualname__}. Choose another name."
            )
        _architectures[name] = cls
        return cls

    return decorate


def architectures() -> list[str]:
    """Return the names of all registered architectures, sorted."""
    return sorted({*BUILT_IN, *_architectures})


def get_architecture(name: str) -> type[Module]:
    """Return the class registered under a name. Raises UnknownNameError, with the nearest name, if there is none."""
    import_built_in(name, "model")
    if name not in _architectures:
        raise UnknownNameError(
            f"{unknown('architecture', name, architectures())} "
            "An architecture of your own must be registered first: import the module that registers it."
        )
    return _architectures[name]


def build(architecture: str, config: dict[str, Any]) -> Module:
    """Return a new model of a registered architecture. Its parameters are drawn from the default generator.

    Raises UnknownNameError if the architecture is not registered, and EntryError if it does not accept the
    configuration.
    """
    cls = get_architecture(architecture)
    try:
        return cls(**config)
    except (ModuleError, ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise EntryError(
            f"{architecture} cannot be built with {config!s:.200}: {str(error).rstrip('.')}. "
            f"It takes {inspect.signature(cls)}."
        ) from error


def import_built_in(architecture: str, module: Literal["model", "recipe"]) -> None:
    """Import a module of a built-in architecture, which registers its class or its recipes.

    Do nothing for any other name: it may come from a manifest, and a manifest must not decide what is imported.
    """
    if architecture in BUILT_IN:
        import_module(f".models.{architecture.replace('-', '_')}.{module}", __package__)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the nearest known name and all known names."""
    names = sorted(known)
    hint = did_you_mean(name, names, cutoff=0.4)
    return f"There is no {kind} named {name!r}.{hint} Known: {', '.join(names) or 'none'}."

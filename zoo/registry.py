"""Which architectures exist, and how one is built from its name and its configuration."""

import inspect
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Literal, TypeVar

from ..core import Module, ModuleError
from ..core.errors import did_you_mean
from .errors import EntryError, UnknownNameError, ZooError

ModelClass = TypeVar("ModelClass", bound=type[Module])

# What comes with statezoo. Each is in the folder of its name, and is imported when it is asked for.
BUILT_IN = (
    "linear-regression",
    "mnist-classifier",
    "simple-mlp",
    "tense-mlp",
    "tied-autoencoder",
    "transformer-block",
)

_architectures: dict[str, type[Module]] = {}


def register(name: str) -> Callable[[ModelClass], ModelClass]:
    """Register a Module class as the architecture `name`; a decorator.

    A manifest may name registered architectures and nothing else, so a class has to be registered before an entry
    of it is loaded. Registering a second class under a name is a ZooError: an entry would load into the wrong model.
    """
    if not name or name != name.lower() or any(mark in name for mark in "./\\: "):
        raise ZooError(f"{name!r} cannot name an architecture: use lower case and hyphens, such as 'tense-mlp'")

    def decorate(cls: ModelClass) -> ModelClass:
        import_built_in(name, "model")
        known = _architectures.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ZooError(
                f"the architecture {name!r} is already {known.__module__}.{known.__qualname__}; choose another name"
            )
        _architectures[name] = cls
        return cls

    return decorate


def architectures() -> list[str]:
    """The names of all registered architectures, sorted."""
    return sorted({*BUILT_IN, *_architectures})


def get_architecture(name: str) -> type[Module]:
    """The class that is registered under a name. Raises UnknownNameError, with the nearest name, if there is none."""
    import_built_in(name, "model")
    if name not in _architectures:
        raise UnknownNameError(
            f"{unknown('architecture', name, architectures())}. "
            "One of your own has to be registered first: import the module that does it."
        )
    return _architectures[name]


def build(architecture: str, config: dict[str, Any]) -> Module:
    """A fresh model of a registered architecture, its parameters drawn from the default generator.

    Raises UnknownNameError for an architecture that is not registered, EntryError for a configuration it cannot have.
    """
    cls = get_architecture(architecture)
    try:
        return cls(**config)
    except (ModuleError, ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise EntryError(
            f"{architecture} cannot be built with {config!s:.200}: {error}; it takes {inspect.signature(cls)}"
        ) from error


def import_built_in(architecture: str, module: Literal["model", "recipe"]) -> None:
    """Have the module of an architecture that comes with statezoo register what it holds.

    Does nothing for any other name: it may come from a manifest, and no manifest says what is imported.
    """
    if architecture in BUILT_IN:
        import_module(f".models.{architecture.replace('-', '_')}.{module}", __package__)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not known: the nearest known one, and all of them."""
    names = sorted(known)
    hint = did_you_mean(name, names, cutoff=0.4)
    return f"there is no {kind} named {name!r}.{hint} Known: {', '.join(names) or 'none'}"

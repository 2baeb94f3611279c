"""Optional packages, imported when they are used."""

from importlib import import_module
from types import ModuleType

from .errors import MissingExtraError


def require(module: str, package: str) -> ModuleType:
    """The module, imported. Raises MissingExtraError with the install command if its package is not there."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'this needs {package}, which is not installed: run pip install "statezoo[train]", '
            'or pip install ".[train]" in a checkout'
        ) from error

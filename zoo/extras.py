"""Optional packages, imported when they are used."""

from importlib import import_module
from types import ModuleType

from .errors import MissingExtraError


def require(module: str, package: str, extra: str = "train") -> ModuleType:
    """The module, imported. Raises MissingExtraError with the install command if its package is not there.

    extra: the group of pyproject.toml that lists the package.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'this needs {package}, which is not installed: run pip install "statezoo[{extra}]", '
            f'or pip install ".[{extra}]" in a checkout'
        ) from error

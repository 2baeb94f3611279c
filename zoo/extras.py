"""Optional packages, imported on first use."""

from importlib import import_module
from types import ModuleType

from .errors import MissingExtraError


def require(module: str, package: str, extra: str = "train") -> ModuleType:
    """Import a module and return it. Raises MissingExtraError with the install command if it is not installed.

    package: the name to show. extra: the group in pyproject.toml that lists the package.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'This needs {package}, which is not installed. Run pip install "statezoo[{extra}]", '
            f'or pip install ".[{extra}]" in a checkout.'
        ) from error

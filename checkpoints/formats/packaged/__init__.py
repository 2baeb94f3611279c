"""Formats that are read with the help of a package of their own: GGUF and ONNX.

The package knows the types of the format and unpacks values. It never opens a file: the headers are parsed here, within
limits, because the readers of both packages take memory and time as a file asks for them.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from ...errors import MissingPackageError


def required(package: str, path: str) -> ModuleType:
    """Import a package that is also the name of an extra. Raises MissingPackageError, with the command to install it.

    path: the file that needs it, for the message.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f'{path} is read with the package {package}, which is not installed. Run pip install "statezoo[{package}]".'
        ) from error

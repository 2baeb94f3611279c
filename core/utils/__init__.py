"""torch.utils, which has data; and distributions, which core shows as torch.distributions."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """Import `data` when it is asked for."""
    if name == "data":
        return import_module(".data", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}.")

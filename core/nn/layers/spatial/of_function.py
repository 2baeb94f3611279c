"""OfFunction: what the modules without parameters share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ....autograd.tensor import Tensor
from ...module.module import Module


class OfFunction(Module):
    """A module that calls one function with its options, which are attributes of the same names."""

    _function: ClassVar[Callable[..., Any]]
    _shown: ClassVar[tuple[str, ...]]  # the options that extra_repr shows

    def _set(self, **options: Any) -> None:
        super().__init__()
        self._options = tuple(options)
        for key, value in options.items():
            setattr(self, key, value)

    def forward(self, input: Tensor) -> Any:
        return self._function(input, **{key: getattr(self, key) for key in self._options})

    def extra_repr(self) -> str:
        return ", ".join(f"{key}={getattr(self, key)!r}" for key in self._shown)

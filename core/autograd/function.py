"""Function: an operation whose gradient a user writes, as torch.autograd.Function."""

from __future__ import annotations

from typing import Any

import numpy as np

from .dtypes import is_floating
from .tape import no_grad
from .tensor import Tensor, as_tensor, derive, record


class Context:
    """The first argument of `Function.forward` and `Function.backward`, which may keep anything as attributes."""

    saved_tensors: tuple[Any, ...] = ()
    needs_input_grad: tuple[bool, ...] = ()
    _without_gradient: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for `backward`, which finds them in `saved_tensors`."""
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Say that these outputs have no gradient."""
        self._without_gradient = outputs


class Function:
    """An operation with `forward` and `backward`, both static methods, that is called by `apply`.

    forward(ctx, *args), or forward(*args) and setup_context(ctx, inputs, output), returns a tensor or several.
    backward(ctx, *gradients) gets a gradient for each output and returns one for each argument: None for those that
    have none. Unlike in torch, it is called once for each output, with zeros for the others, and it is not recorded:
    there are no second derivatives.
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Return the outputs. Subclasses write this."""
        raise NotImplementedError("a Function needs a static method forward(ctx, ...).")

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the gradients of the arguments. Subclasses write this."""
        raise NotImplementedError("a Function needs a static method backward(ctx, *gradients) for its gradient.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Call `forward` without recording, and return its outputs with `backward` as their gradient."""
        context = Context()
        context.needs_input_grad = tuple(isinstance(arg, Tensor) and arg._requires_grad for arg in args)
        with no_grad():
            if (setup := getattr(cls, "setup_context", None)) is None:
                outputs = cls.forward(context, *args, **kwargs)
            else:
                outputs = cls.forward(*args, **kwargs)
                setup(context, args, outputs)
        if not isinstance(outputs, tuple):
            return _recorded(cls, context, args, (outputs,), 0)
        return tuple(_recorded(cls, context, args, outputs, position) for position in range(len(outputs)))


def _recorded(cls: type[Function], context: Context, args: Any, outputs: tuple[Any, ...], position: int) -> Any:
    """Return the output at a position, with its gradient if it has one. What is no tensor is returned as it is."""
    out, name = outputs[position], cls.__name__
    if not isinstance(out, Tensor):
        return out
    parents = tuple(arg for arg in args if isinstance(arg, Tensor))
    if not is_floating(out.dtype) or any(out is other for other in context._without_gradient):
        return derive(name, out._data, parents)

    def backward(g: np.ndarray) -> list[np.ndarray | None]:
        given = [Tensor(g if other is out else np.zeros_like(other._data)) for other in outputs]
        with no_grad():
            found = cls.backward(context, *given)
        found = found if isinstance(found, tuple) else (found,)
        parts = [part for part, arg in zip(found, args, strict=True) if isinstance(arg, Tensor)]
        # Copies: a user may return what something else holds.
        return [None if part is None else as_tensor(part)._data.copy() for part in parts]

    return record(name, out._data, parents, backward)

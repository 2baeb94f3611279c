"""Function, an operation whose gradient a user writes, and grad, gradients without `.grad`, as in torch.autograd."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.silence import silently
from ..errors import ArgumentError, GraphError
from .dtypes import is_floating
from .tape import as_tensor, derive, enable_grad, no_grad, record, run_backward
from .tensor import Tensor


def _missing(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("a Function needs static methods forward(ctx, ...) and backward(ctx, *gradients).")


class Context:
    """The first argument of `forward` and `backward`, which may keep anything as attributes."""

    saved_tensors: tuple[Any, ...] = ()
    without_gradient: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors for `backward`, which finds them in `saved_tensors`."""
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Say that these outputs have no gradient."""
        self.without_gradient = outputs


class Function:
    """An operation with static methods `forward` and `backward`, which `apply` calls and records.

    forward(ctx, *args), or forward(*args) and setup_context(ctx, inputs, output), returns a tensor or a tuple.
    backward(ctx, *gradients) gets the gradient of each output and returns one for each argument, or None. Unlike
    torch's, it is called once for each output, with zeros for the others, and has no second derivatives.
    """

    forward = backward = staticmethod(_missing)

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Call `forward` without recording, and return its outputs with `backward` as their gradient."""
        context: Any = Context()
        context.needs_input_grad = tuple(isinstance(arg, Tensor) and arg._requires_grad for arg in args)
        with no_grad():
            if (setup := getattr(cls, "setup_context", None)) is None:
                outputs = cls.forward(context, *args, **kwargs)
            else:
                setup(context, args, outputs := cls.forward(*args, **kwargs))
        each = outputs if isinstance(outputs, tuple) else (outputs,)
        recorded = tuple(_recorded(cls, context, args, each, out) for out in each)
        return recorded if isinstance(outputs, tuple) else recorded[0]


def _recorded(cls: type[Function], context: Context, args: Any, outputs: tuple[Any, ...], out: Any) -> Any:
    """Return one of the outputs with its gradient, if it has one."""
    parents = tuple(arg for arg in args if isinstance(arg, Tensor))
    if not isinstance(out, Tensor):
        return out
    if not is_floating(out.dtype) or any(out is other for other in context.without_gradient):
        return derive(cls.__name__, out._data, parents)

    def backward(g: np.ndarray) -> list[np.ndarray | None]:
        with no_grad():
            found = cls.backward(context, *(Tensor(g if one is out else np.zeros_like(one._data)) for one in outputs))
        found = found if isinstance(found, tuple) else (found,)
        parts = [part for part, arg in zip(found, args, strict=True) if isinstance(arg, Tensor)]
        # Copies: a user may return what something else holds.
        return [None if part is None else as_tensor(part)._data.copy() for part in parts]

    return record(cls.__name__, out._data, parents, backward)


def grad(
    outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
    only_inputs: bool = True, allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """Return the gradient of (the sum of) outputs for each of inputs, and change no `.grad`.

    inputs: leaves or results. grad_outputs: the weights of the outputs' elements. allow_unused: None for an input that
    the outputs do not depend on, instead of GraphError. create_graph=True is an ArgumentError: see `Function`.
    """
    if create_graph:
        raise ArgumentError("create_graph needs derivatives of gradients, which are not recorded here. Leave it out.")
    given = (outputs, inputs, grad_outputs)
    outputs, inputs, weights = ((x,) if isinstance(x, Tensor) else x and tuple(x) for x in given)
    with enable_grad():
        parts = [
            out if w is None else out * w for out, w in zip(outputs, weights or [None] * len(outputs), strict=True)
        ]
        root: Any = sum(part if part.ndim == 0 else part.sum() for part in parts)
    if any(out.numel() != 1 and weights is None for out in outputs) or not root.requires_grad:
        raise GraphError("grad() needs outputs that require a gradient: single numbers, or with grad_outputs.")
    found = silently(run_backward, root, np.ones((), root.dtype), bool(retain_graph), set(inputs))
    if not allow_unused and len(found) < len(set(inputs)):
        raise GraphError(
            "an input of grad() has no influence on the outputs. Pass allow_unused=True to get None for it."
        )
    return tuple(Tensor(found[one]) if one in found else None for one in inputs)

"""A trial run of a model: the output shapes and multiply-adds of each module.

The model runs once, in evaluation mode, without recording a graph. Its modes, its buffers, the inputs and the default
generator are restored.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..autograd.tensor import Tensor
from ..errors import ArgumentError
from ..random import undisturbed_generator
from .multiply_adds import counting

if TYPE_CHECKING:
    from ..nn.module.module import Module


class Trial(NamedTuple):
    """The results of a run, by the id of a module: a text for the output of each call, and its own multiply-adds."""

    inputs: Sequence[Tensor]
    outputs: dict[int, list[str]]
    multiply_adds: Counter[int]


NOT_RUN = Trial((), {}, Counter())


def trial_run(model: Module, inputs: Sequence[Any]) -> Trial:
    """Run the model on inputs, each a shape or an array, and return the results.

    Multiply-adds count for the innermost running module. An error of the model gets a note about the inputs.
    Raises ArgumentError if an input is neither a shape nor an array.
    """
    trial = Trial([_example(value) for value in inputs], defaultdict(list), Counter())
    running = [model]

    def enter(module: Module, args: tuple[Any, ...]) -> None:
        running.append(module)

    def leave(module: Module, args: tuple[Any, ...], output: Any) -> None:
        while running.pop() is not module:  # inner modules whose error this module caught
            pass
        trial.outputs[id(module)].append(shape_text(output))

    def count(multiply_adds: int) -> None:
        trial.multiply_adds[id(running[-1])] += multiply_adds

    with ExitStack() as stack:
        for module in model.modules():
            stack.enter_context(_restored(module))
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        stack.enter_context(undisturbed_generator())
        stack.enter_context(counting(count))
        try:
            model.eval()(*trial.inputs)
        except Exception as error:
            given = ", ".join(f"{shape_text(x)} {x.dtype}" for x in trial.inputs)
            error.add_note(f"summary() ran the model on {given}. Pass example arrays if the model takes other inputs.")
            raise
    return trial


def _example(value: Any) -> Tensor:
    if isinstance(value, np.ndarray | Tensor):
        return Tensor(np.array(value))  # a copy: the model may write into it
    if isinstance(value, tuple) and all(isinstance(size, int | np.integer) and size >= 0 for size in value):
        return Tensor(np.zeros(value, np.float32))
    raise ArgumentError(
        f"summary() takes a shape such as (1, 64) or an example array for each input of the model, not {value!r}. "
        "Several inputs are several arguments: summary((1, 64), (1, 10))."
    )


@contextmanager
def _restored(module: Module) -> Iterator[None]:
    """Restore the mode and the buffers of a module at the end, in the same memory."""
    mode = module.training
    buffers = [(name, b, b.data, b.data.copy()) for name, b in module._buffers.items() if b is not None]
    try:
        yield
    finally:
        module.training = mode
        for name, buffer, array, values in buffers:
            if module._buffers.get(name) is not buffer:
                setattr(module, name, buffer)
            buffer.data = array
            if array.flags.writeable:
                array[...] = values


def shape_text(value: Any) -> str:
    """Return the shape of a tensor, or of those in a tuple, list or dict; for any other type, its name."""
    if isinstance(value, Tensor | np.ndarray):
        return str(value.shape)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shape_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {shape_text(item)}' for key, item in value.items())}}}"
    return type(value).__name__

"""A trial run of a model: the output shapes and multiply-adds of each module.

The model runs once, in evaluation mode, without recording a graph. Its modes, its buffers, the inputs and the default
generator are restored.
"""

from __future__ import annotations

import operator
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..autograd.base import set_data
from ..autograd.tensor import Tensor
from ..commit.block import Block
from ..commit.steps import Step
from ..errors import ArgumentError
from ..nn.module.hooks import steps_to_hook
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

    modules = list(model.modules())
    hooked, unhooked = steps_to_hook(((module, leave, False) for module in modules), ((m, enter) for m in modules))
    restored = [step for module in modules for step in _steps_to_restore(module)]
    with Block(hooked, unhooked + restored, None), undisturbed_generator(), counting(count):
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


def _steps_to_restore(module: Module) -> list[Step]:
    """Return the steps that restore the mode and the buffers of a module, in the same memory."""
    steps: list[Step] = [(object.__setattr__, module, "training", module.training)]
    for name, buffer in module._buffers.items():
        if buffer is not None:
            steps += [(dict.__setitem__, module._buffers, name, buffer), (operator.setitem, vars(module), name, buffer)]
            steps.append((set_data, buffer, buffer._data))
            if buffer.data.flags.writeable:
                steps.append((np.ndarray.__setitem__, buffer._data, ..., buffer._data.copy()))
    return steps


def shape_text(value: Any) -> str:
    """Return the shape of a tensor, or of those in a tuple, list or dict; for any other type, its name."""
    if isinstance(value, Tensor | np.ndarray):
        return str(value.shape)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shape_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {shape_text(item)}' for key, item in value.items())}}}"
    return type(value).__name__

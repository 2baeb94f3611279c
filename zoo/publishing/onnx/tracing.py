"""The operations of a model's forward, traced at two batch sizes so that it shows which sizes follow the batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ....core import Module, Tensor
from ....core.autograd.arrays import TensorArray
from ....core.autograd.base import to_array
from ....core.autograd.tape import recording
from ....core.commit.block import Block, Setting
from ....core.random import undisturbed_generator
from ...errors import ExportError


class Operation(NamedTuple):
    """One operation: its name, result and operands as arrays, and its other arguments, with arrays for Tensors."""

    name: str
    out: np.ndarray
    operands: tuple[np.ndarray, ...]
    arguments: Mapping[str, Any]


@dataclass
class Trace:
    """One run of a model. Arrays are known by identity, and the trace keeps all of them alive.

    A Tensor, and what a model reads of it with `.data` or `np.asarray`, have the same array.
    """

    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...] = ()
    operations: list[Operation] = field(default_factory=list)

    @property
    def batch(self) -> int:
        return len(self.inputs[0])


def trace_twice(model: Module, inputs: Sequence[np.ndarray]) -> tuple[Trace, Trace]:
    """Trace a model on the inputs, and on another batch. Raises ExportError if its output is not made of Tensors."""
    return _trace(model, inputs), _trace(model, _other_batch(inputs))


def _trace(model: Module, inputs: Sequence[np.ndarray]) -> Trace:
    """Run a model in eval mode on Tensors of copies of the inputs, and return what it computed.

    Raises ExportError if its output is not made of Tensors.
    """
    traced = Trace(tuple(np.array(array) for array in inputs))

    def note(operation: str, out: Tensor, operands: tuple[Tensor, ...], arguments: Mapping[str, Any]) -> None:
        known = {name: _array(value) for name, value in arguments.items()}
        traced.operations.append(Operation(operation, np.asarray(out), tuple(map(np.asarray, operands)), known))

    with Setting(recording, lambda outside: note):
        traced.outputs = evaluate(model, traced.inputs)
    return traced


def evaluate(model: Module, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Run a model in eval mode and return its outputs. Its modes and the default generator are restored.

    The model gets the memory of the inputs itself. Raises ExportError if its output is not made of Tensors.
    """
    modes = [(object.__setattr__, module, "training", module.training) for module in model.modules()]
    with Block((), modes, None), undisturbed_generator():
        returned = model.eval()(*map(Tensor, inputs))
    outputs = returned if isinstance(returned, tuple | list) else (returned,)
    if not outputs or not all(isinstance(output, Tensor) for output in outputs):
        raise ExportError(
            f"{type(model).__name__} returns {type(returned).__name__}. A model to export returns a Tensor or several."
        )
    return tuple(map(np.asarray, outputs))


def _array(value: Any) -> Any:
    if isinstance(value, Tensor | TensorArray):
        return to_array(value)
    return tuple(map(_array, value)) if type(value) is tuple else value


def _other_batch(inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return inputs with one example more and other values: in reverse along each axis, and half as large if floats.

    So a value that a model computes outside of its tensors is another one, while integers stay valid indices.
    """
    longer = [np.flip(np.concatenate([array, array[:1]])) for array in inputs]
    return tuple(np.array(array * array.dtype.type(0.5) if array.dtype.kind == "f" else array) for array in longer)

"""The forward of a model as code in plain PyTorch, written from a trace of its operations."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....core import Module
from ...errors import ExportError
from ..onnx.graph import Pair, Sizes, place_of, row_of, sizes_of
from ..onnx.steps import Step, steps_of
from ..onnx.tracing import Trace
from .operations import SIZED, TABLE, dtype_text, number_text

# Larger ones are not weights, and would fill the page.
_MOST_CONSTANTS = 64
# What the code calls itself, besides the values.
_RESERVED = ("F", "batch", "torch", "w")
Ids = tuple[int, int]


def code_of(model: Module, traces: tuple[Trace, Trace], names: Sequence[str]) -> list[str]:
    """Return the lines of a function `forward` of the inputs with these names.

    It takes the tensors of the state of the model by name from a dict `w`.
    Raises ExportError, which names the operation, if one has no counterpart, or if the model computes outside of
    Tensors or in another way for another batch.
    """
    names = [f"{name}_" if name in _RESERVED else name for name in names]
    steps = steps_of(model, traces)
    writer = _Writer(model, traces, names, steps)
    lines = [writer.line(step) for step in steps]
    results = ", ".join(writer.value(pair) for pair in zip(traces[0].outputs, traces[1].outputs, strict=True))
    size = [f"    batch = len({names[0]})"] if writer.uses_batch else []
    return [f"def forward({', '.join(names)}):", *size, *(f"    {line}" for line in lines), f"    return {results}"]


class _Writer:
    """Names values, and gives the name of one that is not needed any more to another."""

    def __init__(self, model: Module, traces: tuple[Trace, Trace], names: Sequence[str], steps: Sequence[Step]) -> None:
        self.uses_batch = False
        self._traces = traces  # keeps the arrays, and with them their ids
        self._batches: Sizes = (traces[0].batch, traces[1].batch)
        self._state = {place_of(array): name for name, array in reversed(model.state_dict().items())}
        inputs = zip(traces[0].inputs, traces[1].inputs, strict=True)
        self._names = {_ids(pair): name for pair, name in zip(inputs, names, strict=True)}
        self._inputs = set(names)
        outputs = zip(traces[0].outputs, traces[1].outputs, strict=True)
        self._uses = Counter([*(ids for step in steps for ids in _used(step)), *map(_ids, outputs)])

    def line(self, step: Step) -> str:
        """Return the statement of a step. Raises ExportError if it has no counterpart."""
        if step.name not in TABLE:
            raise ExportError(f"The operation {step.name!r} has no counterpart in the PyTorch code of a folder.")
        operands = [self.value(pair) for pair in step.operands]
        given = {name: self._argument(value) for name, value in step.arguments.items()}
        if step.name in SIZED:
            given["sizes"] = self._sizes(step.out, most_others=0 if step.name == "expand" else 1)
        expression = TABLE[step.name](operands, given, step)
        used = _used(step)
        self._uses.subtract(used)
        name = self._name(used)
        self._names[_ids(step.out)] = name
        return f"{name} = {expression}"

    def value(self, pair: Pair) -> str:
        """Return the expression for a pair of arrays: computed before, of the state, or a constant."""
        if (known := self._names.get(_ids(pair))) is not None:
            return known
        stored = self._state.get(place_of(pair[0]))
        if stored is not None:
            return f"w[{json.dumps(stored, ensure_ascii=False)}]"
        row = row_of(pair, self._batches)
        same = row.shape == pair[0].shape == pair[1].shape
        return _constant(row) if same else f"{_constant(row)}.expand({self._sizes(pair, most_others=0)})"

    def _argument(self, value: Any) -> Any:
        if _is_pair(value):
            return self.value(value)
        return tuple(map(self._argument, value)) if type(value) is tuple else value

    def _sizes(self, pair: Pair, most_others: int) -> str:
        """Return the sizes of a result, -1 for one that follows the batch in another way.

        Raises ExportError if there are more than `most_others` of these.
        """
        known = {self._batches: "batch"}
        found = [str(one) if one == other else known.get((one, other), "-1") for one, other in sizes_of(pair)]
        if found.count("-1") > most_others:
            raise ExportError(f"A result of shape {pair[0].shape} has a size that follows the batch, but is not it.")
        self.uses_batch |= "batch" in found
        return ", ".join(found)

    def _name(self, used: Sequence[Ids]) -> str:
        """Return the name of an operand that is not needed any more, or a new one."""
        free = [self._names[ids] for ids in used if ids in self._names and not self._uses[ids]]
        free = [name for name in free if name == "x" or name not in self._inputs]
        taken = {*self._names.values(), *self._inputs}
        letters = (*"xyzabcdefgh", *(f"x{number}" for number in range(len(taken) + 1)))
        name = free[0] if free else next(name for name in letters if name not in taken)
        self._names = {ids: known for ids, known in self._names.items() if known != name}
        return name


def _constant(array: np.ndarray) -> str:
    """Return the expression for an array that is not of the state."""
    if not array.ndim:
        return number_text(array.item())
    if array.dtype == np.int64 and array.ndim == 1 and np.array_equal(array, np.arange(len(array))):
        return f"torch.arange({len(array)})"
    values = f"torch.tensor({array.tolist()}, dtype={dtype_text(array.dtype)})"
    if (array == array.flat[0]).all():
        values = f"torch.full({array.shape}, {number_text(array.flat[0].item())}, dtype={dtype_text(array.dtype)})"
    elif array.size > _MOST_CONSTANTS or not np.isfinite(array).all():
        raise ExportError(f"The model has {array.size:,} numbers that are not in its state. Register them as a buffer.")
    return values


def _used(step: Step) -> list[Ids]:
    """Return the pairs of arrays that a step takes."""
    pending, found = [*step.operands, *step.arguments.values()], []
    for value in pending:
        if _is_pair(value):
            found.append(_ids(value))
        elif type(value) is tuple:
            pending.extend(value)
    return found


def _ids(pair: Pair) -> Ids:
    return id(pair[0]), id(pair[1])


def _is_pair(value: Any) -> bool:
    return type(value) is tuple and len(value) == 2 and all(isinstance(one, np.ndarray) for one in value)

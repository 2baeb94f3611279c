"""A graph in ONNX, built from two traces of a model.

A name stands for the pair of arrays that the two traces have at the same place. A size that differs between the two
follows the batch.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ....checkpoints.state.dtypes import little_endian
from ....core import Module
from ...errors import ExportError
from ...extras import require
from .tracing import Trace

OPSET = 17
IR_VERSION = 8
BATCH = "batch"

Pair = tuple[np.ndarray, np.ndarray]
Sizes = tuple[int, int]


class Graph:
    """The nodes, initializers, inputs and outputs of a model, in the order in which it computes."""

    def __init__(self, model: Module, traces: tuple[Trace, Trace], input_names: Sequence[str]) -> None:
        self.onnx: Any = require("onnx", "onnx", extra="onnx")
        self.batches: Sizes = (traces[0].batch, traces[1].batch)
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._arrays: list[Pair] = []  # keeps their ids in use
        self._names: dict[tuple[int, int], str] = {}
        self._constants: dict[bytes, str] = {}
        self._stored_names: dict[str, str] = {}
        self._first_input = input_names[0]
        self._state = model.state_dict()
        self._used = set(self._state)  # its names are kept for its tensors
        self._computed: list[np.ndarray] = []  # the inputs, and what the model computes
        pairs = list(zip(traces[0].inputs, traces[1].inputs, strict=True))
        self.inputs = [
            self._described(self.define(pair, name), pair) for name, pair in zip(input_names, pairs, strict=True)
        ]

    # --- names and values

    def define(self, pair: Pair, name: str) -> str:
        """Name a pair of computed arrays. Return the name."""
        self._arrays.append(pair)
        self._names[id(pair[0]), id(pair[1])] = name
        self._computed += pair
        self._used.add(name)
        return name

    def value(self, pair: Pair) -> str:
        """Return the name of a pair of arrays: computed before, of the model's state, or a constant."""
        known = self._names.get((id(pair[0]), id(pair[1])))
        if known is not None:
            return known
        name = self._state_name(pair[0])
        known = self._constant(pair) if name is None else self._stored(name)
        self._arrays.append(pair)
        self._names[id(pair[0]), id(pair[1])] = known
        return known

    def new_name(self, stem: str) -> str:
        """Return a name that is not in use: the stem, or the stem with a number."""
        name, number = stem, 1
        while name in self._used:
            number += 1
            name = f"{stem}_{number}"
        self._used.add(name)
        return name

    def node(self, kind: str, inputs: Iterable[str], stem: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = self.new_name(stem or kind.lower())
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Return the name of an initializer with a value. Equal values share one."""
        array = np.ascontiguousarray(np.asarray(value, dtype))
        array = array.reshape(np.shape(value))
        key = f"constant:{array.dtype.str}:{array.shape}:".encode() + array.tobytes()
        if key not in self._constants:
            self._constants[key] = self._initializer(self.new_name("constant"), array)
        return self._constants[key]

    # --- sizes

    def shape(self, sizes: Sequence[Sizes], of: Sequence[Sizes] = ()) -> str:
        """Return the name of a shape for Reshape: -1 for a size that follows the batch, 0 for one that stays in place.

        of: the sizes of what is reshaped. Raises ExportError if more than one size follows the batch in another way.
        """
        found = []
        for axis, (one, other) in enumerate(sizes):
            if one == other:
                found.append(one)
            elif axis < len(of) and of[axis] == (one, other):
                found.append(0)
            else:
                found.append(-1)
        if found.count(-1) > 1 or (-1 in found and any(one == other == 0 for one, other in sizes)):
            raise ExportError(f"A reshape to {tuple(one for one, _ in sizes)} has several sizes that follow the batch.")
        return self.constant(found, np.int64)

    def runtime_shape(self, sizes: Sequence[Sizes]) -> str:
        """Return the name of a shape for Expand, with the batch as the run finds it."""
        if all(one == other for one, other in sizes):
            return self.constant([one for one, _ in sizes], np.int64)
        batch = self.node("Shape", [self._first_input], "batch_size", start=0, end=1)
        parts = []
        for one, other in sizes:
            if one == other:
                parts.append(self.constant([one], np.int64))
            elif (one, other) == self.batches:
                parts.append(batch)
            else:
                raise ExportError(f"An expand to {tuple(one for one, _ in sizes)} has a size that is not the batch.")
        return self.node("Concat", parts, "sizes", axis=0)

    # --- what is stored

    def _state_name(self, array: np.ndarray) -> str | None:
        """Return the first name in the model's state of an array with this memory and layout, or None."""
        place = place_of(array)
        return next((name for name, one in self._state.items() if place_of(one) == place), None)

    def _stored(self, name: str) -> str:
        """Return the name of a tensor of the state, stored once: a view of another one is computed from it."""
        if name not in self._stored_names:
            base = self._base_of(name)
            if base is None:
                self._stored_names[name] = self._initializer(name, self._state[name])
            else:
                self._stored_names[name] = self._view(name, base)
        return self._stored_names[name]

    def _base_of(self, name: str) -> str | None:
        """Return the tensor of which another one is a transpose or a part, in the same memory, or None."""
        array = self._state[name]
        for base, memory in self._state.items():
            if base == name and array.flags.c_contiguous:
                return None  # of two tensors with the same memory, only the second is a view
            if memory.flags.c_contiguous and memory.dtype == array.dtype and place_of(memory) != place_of(array):
                is_part = array.flags.c_contiguous and _holds(memory, array)
                if array.size and (is_part or _is_transpose(array, memory)):
                    return base
        return None

    def _view(self, name: str, base: str) -> str:
        """Add the nodes that compute a tensor of the state from the one that holds its memory."""
        array, memory, whole = self._state[name], self._state[base], self._stored(base)
        self._used.discard(name)  # now a node takes it
        if _is_transpose(array, memory):
            order = _by_stride(array)
            return self.node("Transpose", [whole], name, perm=[order.index(axis) for axis in range(array.ndim)])
        start = (_address(array) - _address(memory)) // array.itemsize
        flat = self.node("Reshape", [whole, self.constant([-1], np.int64)])
        bounds = [self.constant([number], np.int64) for number in (start, start + array.size)]
        part = self.node("Slice", [flat, *bounds])
        return self.node("Reshape", [part, self.constant(array.shape, np.int64)], name)

    def _constant(self, pair: Pair) -> str:
        """Return the name of a constant: equal in both traces, or one row repeated over the batch."""
        if any(array.size and np.may_share_memory(array, value) for array in pair for value in self._computed):
            raise escaped()
        row = row_of(pair, self.batches)
        if row.shape == pair[0].shape == pair[1].shape:
            return self.constant(row)
        return self.node("Expand", [self.constant(row), self.runtime_shape(sizes_of(pair))], "repeated")

    def _initializer(self, name: str, array: np.ndarray) -> str:
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        raw = little_endian(array).tobytes()
        tensor = self.onnx.TensorProto(name=name, data_type=kind, dims=array.shape, raw_data=raw)
        self.initializers.append(tensor)
        return name

    # --- the file

    def _described(self, name: str, pair: Pair) -> Any:
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(pair[0].dtype)
        shape = [
            one if one == other else BATCH if (one, other) == self.batches else None for one, other in sizes_of(pair)
        ]
        return self.onnx.helper.make_tensor_value_info(name, kind, shape)

    def name_output(self, value: str, name: str) -> None:
        """Add the node that gives a value the name of an output."""
        if name in self._used:
            raise ExportError(f"The model has an input or a tensor named {name!r}, which is the name of the output.")
        self._used.add(name)
        self.nodes.append(self.onnx.helper.make_node("Identity", [value], [name], name=name))

    def content(self, name: str, outputs: Sequence[tuple[str, Pair]]) -> bytes:
        """Return the bytes of the model. They depend only on the graph."""
        onnx = self.onnx
        graph = onnx.GraphProto(name=name, node=self.nodes, initializer=self.initializers, input=self.inputs)
        for output, pair in outputs:
            graph.output.append(self._described(output, pair))
        opset = onnx.OperatorSetIdProto(domain="", version=OPSET)
        found = onnx.ModelProto(ir_version=IR_VERSION, producer_name="statezoo", opset_import=[opset], graph=graph)
        return found.SerializeToString(deterministic=True)


def sizes_of(pair: Pair) -> list[Sizes]:
    """Return the sizes of both arrays, axis by axis."""
    return list(zip(pair[0].shape, pair[1].shape, strict=True))


def row_of(pair: Pair, batches: Sizes) -> np.ndarray:
    """Return an array that is equal in both traces, or the row of it that is repeated over the batch.

    Raises ExportError if it is neither: the model has computed it outside of its Tensors.
    """
    one, other = pair
    if one.shape == other.shape and one.tobytes() == other.tobytes():
        return one
    if one.ndim != other.ndim:
        raise escaped()
    rows = [array[tuple(slice(0, 1 if sizes == batches else None) for sizes in sizes_of(pair))] for array in pair]
    same = rows[0].shape == rows[1].shape and rows[0].tobytes() == rows[1].tobytes()
    if not same or not all((array == row).all() for array, row in zip(pair, rows, strict=True)):
        raise escaped()
    return rows[0]


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def place_of(array: np.ndarray) -> tuple[Any, ...]:
    """Return what arrays with the same elements in the same memory have in common."""
    return _address(array), array.dtype, array.shape, array.strides


def _holds(memory: np.ndarray, array: np.ndarray) -> bool:
    """Return True if the bytes of a contiguous array are part of the bytes of another one."""
    start = _address(array) - _address(memory)
    return 0 <= start <= memory.nbytes - array.nbytes and start % array.itemsize == 0


def _by_stride(array: np.ndarray) -> list[int]:
    return sorted(range(array.ndim), key=lambda axis: -array.strides[axis])


def _is_transpose(array: np.ndarray, memory: np.ndarray) -> bool:
    """Return True if an array has the elements of C-contiguous memory with its axes in another order."""
    ordered = array.transpose(_by_stride(array))
    return place_of(ordered) == place_of(memory)


def escaped() -> ExportError:
    """Return the error for a model that computes outside of its Tensors."""
    return ExportError(
        "The model computes with values that it takes out of its tensors, with .data, .numpy() or NumPy. "
        "Compute them with operations of Tensors, which can be exported."
    )

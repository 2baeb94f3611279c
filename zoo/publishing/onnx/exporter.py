"""export_onnx: a model as an ONNX file that computes the same, checked before it is kept."""

import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....checkpoints import load_file
from ....checkpoints.storage import durable
from ....core import Module, Tensor, no_grad
from ...entry import GOLDEN, Entry
from ...errors import ExportError
from ...extras import require
from ...loading import find, load_entry
from ...versions import whole
from .graph import Graph
from .operations import TABLE
from .steps import steps_of
from .tracing import Trace, evaluate, trace_twice

# The largest difference of an output, as a part of the largest value of that output.
RELATIVE_TOLERANCE = 1e-5
OUTPUT = "output"
_CHECKED_BATCHES = (1, 3)

Example = np.ndarray | Tensor | Sequence[np.ndarray | Tensor]


def export_onnx(model: Module | Entry | str, path: str | os.PathLike[str], example: Example | None = None) -> Path:
    """Write a model as an ONNX file and return its path. For the arguments and the errors, see zoo.export."""
    if not isinstance(model, Module):
        model, golden = _of_entry(model)
        example = golden if example is None else example
    if example is None:
        raise ExportError(
            "Exporting a model needs an example of its input. Pass an array, or a tuple of several inputs."
        )
    content = onnx_bytes(model, example)
    with durable.replace(os.fspath(path)) as descriptor:
        durable.write_all(descriptor, content, 0)
    return Path(path)


def onnx_bytes(model: Module, example: Example) -> bytes:
    """Return the content of the file that `export` writes."""
    inputs = inputs_of(example)
    names = input_names(model, len(inputs))
    traces = trace_twice(model, inputs)
    content = _translated(model, traces, names)
    _check(content, model, inputs, names)
    return content


def _of_entry(entry: Entry | str) -> tuple[Module, np.ndarray]:
    """Return the model of an entry and its golden input."""

    def read(entry: Entry) -> tuple[Module, np.ndarray]:
        return load_entry(entry), load_file(entry.path(GOLDEN))["input"]

    return whole(find(entry), read) if isinstance(entry, str) else read(entry)


def inputs_of(example: Example) -> list[np.ndarray]:
    """Return the inputs of an example. Raises ExportError unless each has the batch as its first axis."""
    given = example if isinstance(example, tuple | list) else (example,)
    inputs = [np.asarray(array) for array in given]
    sizes = {array.shape[:1] for array in inputs}
    if len(sizes) != 1 or sizes & {(), (0,)}:
        raise ExportError(
            f"The inputs must have one batch axis in front; their shapes are {[a.shape for a in inputs]}. Pass inputs "
            "of the same number of examples."
        )
    return inputs


def input_names(model: Module, count: int) -> list[str]:
    """Return the names of the inputs in a file: those of the first arguments of forward."""
    names = list(inspect.signature(model.forward).parameters)[:count]
    return names if len(names) == count else [f"input_{number}" for number in range(count)]


def _translated(model: Module, traces: tuple[Trace, Trace], names: Sequence[str]) -> bytes:
    graph = Graph(model, traces, names)
    for step in steps_of(model, traces):
        if step.name not in TABLE:
            raise ExportError(
                f"The operation {step.name!r} has no counterpart in ONNX here. docs/export.md lists the operations "
                "that can be exported."
            )
        graph.define(step.out, TABLE[step.name](graph, step))
    pairs = list(zip(traces[0].outputs, traces[1].outputs, strict=True))
    outputs = [OUTPUT] if len(pairs) == 1 else [f"{OUTPUT}_{number}" for number in range(len(pairs))]
    for name, pair in zip(outputs, pairs, strict=True):
        graph.name_output(graph.value(pair), name)
    return graph.content(type(model).__name__, list(zip(outputs, pairs, strict=True)))


def _check(content: bytes, model: Module, inputs: Sequence[np.ndarray], names: Sequence[str]) -> None:
    """Raise ExportError unless the file is valid, and gives what the model gives for several batch sizes."""
    onnx, runtime = require("onnx", "onnx", extra="onnx"), require("onnxruntime", "onnxruntime", extra="onnx")
    try:
        onnx.checker.check_model(content, full_check=True)
        options = runtime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for batch in (inputs, *(_rows(inputs, count) for count in _CHECKED_BATCHES)):
            with no_grad():
                expected = evaluate(model, [array.copy() for array in batch])
            _compare(session.run(None, dict(zip(names, batch, strict=True))), expected)
    except ExportError:
        raise
    except Exception as error:  # both packages raise many kinds
        raise ExportError(f"The exported model does not run: {error}") from error


def _rows(inputs: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """Return a batch of `count` examples, taken from the inputs in turn."""
    return [
        np.take(array, [row % len(array) for row in range(len(array), len(array) - count, -1)], axis=0)
        for array in inputs
    ]


def _compare(found: Sequence[Any], expected: Sequence[np.ndarray]) -> None:
    for number, (got, wanted) in enumerate(zip(found, expected, strict=True)):
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            raise ExportError(
                f"Output {number} of the exported model is {got.dtype} {got.shape}, not {wanted.dtype} {wanted.shape}."
            )
        close = np.isfinite(wanted) if wanted.dtype.kind == "f" else np.zeros(wanted.shape, bool)
        if not np.array_equal(got[~close], wanted[~close], equal_nan=wanted.dtype.kind == "f"):
            raise ExportError(f"Output {number} of the exported model has other values than the model.")
        error = np.max(np.abs(got[close] - wanted[close]), initial=0.0)
        largest = np.max(np.abs(wanted[close]), initial=0.0)
        if not error <= RELATIVE_TOLERANCE * largest:
            raise ExportError(
                f"Output {number} of the exported model differs by {error:.3g}; its largest value is {largest:.3g}."
            )

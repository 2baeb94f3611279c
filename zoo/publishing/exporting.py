"""export: a model for other runtimes and libraries."""

import os
from pathlib import Path
from typing import Literal

from ...core import Module
from ..entry import Entry
from ..errors import ExportError
from .onnx.exporter import Example, export_onnx


def export(
    model: Module | Entry | str,
    path: str | os.PathLike[str],
    example: Example | None = None,
    *,
    to: Literal["onnx", "huggingface"] = "onnx",
) -> Path:
    """Write a model for other runtimes, and return the path.

    to: "onnx" writes an ONNX file (opset 17), which needs the extra `onnx`. "huggingface" writes a folder for the
    Hugging Face hub, with weights, a card and code in plain PyTorch; it must not exist or be empty.
    model: a Module, an opened entry, or the name of an entry; for a folder, an entry. example: the input of the model,
    or a tuple of its inputs, each an array whose first axis is the batch; for an entry, its golden input by default.
    Any other batch size works in the result; the other sizes are those of the example.

    The model is traced in eval mode, and its tensors have the names of its `state_dict()`. The same model gives the
    same bytes. Before an ONNX file is kept, onnx checks it, and onnxruntime runs it for the example and for batches of
    1 and 3: each output may differ by 1e-5 of its largest value. Shared memory is stored once in it.

    Raises ExportError, which names the operation, if one has no counterpart; if the model computes outside of Tensors;
    if a file does not compute the same; or if a folder is not empty. Raises MissingExtraError if onnx or onnxruntime is
    not installed, and WriteError if a file cannot be written.
    """
    if to == "onnx":
        return export_onnx(model, path, example)
    if to != "huggingface":
        raise ExportError(f'export() writes to="onnx" or to="huggingface", not {to!r:.60}.')
    if isinstance(model, Module):
        raise ExportError(
            f"A folder for Hugging Face is made from an entry, which has a card, labels and a configuration. Publish "
            f'this {type(model).__name__} first, and export "file:FOLDER", or write it to="onnx".'
        )
    from .huggingface.exporter import export_folder  # only such an export needs it

    return export_folder(model, path, example)

"""ONNX models, read-only, with the package onnx: the initializers of the graph by name.

A file is a message ModelProto of Protocol Buffers. Its fields are read here, without their content, so that a tensor is
read and mapped where it is: in the field `raw_data`, in a field of floats, or in a file beside the model. Values that
are stored in another way are read by the package when the tensor is read: 16-bit and 8-bit floats as integers, integers
of variable length, packed elements of 4 or 6 bits. `metadata_props` are the metadata.

A file beside the model is read only if its path is relative and leads, also through symbolic links, to a file in the
folder of the model or below. Two tensors with the same bytes of such a file are ties.

Unsupported, with the reason: texts, integers of 4 and 2 bits, sparse initializers, and types that the package does not
know. Not read: constants among the nodes of the graph, the initializers of inner graphs, functions and training.

Source: onnx.proto3 of ONNX 1.23, and docs/ExternalData.md there.
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np

from ...errors import CorruptError
from ...state import dtypes
from ...state.manifest import TensorSpec
from ...storage.source import Source
from .. import Opened
from ..entries import InvalidError
from ..recognise import not_valid
from . import required
from .beside import Beside
from .protobuf import BYTES, NUMBER, Field, fields_in
from .tensors import PACKED_BITS, StoredTensor, pair_in, stored_bytes, tensor_in
from .window import Window

# The fields of a model and of a graph, and how those of a model are written.
_VERSION, _GRAPH, _PROPERTIES = 1, 7, 14
_MODEL = {1: NUMBER, 2: BYTES, 3: BYTES, 4: BYTES, 5: NUMBER, 6: BYTES, 7: BYTES, 8: BYTES, 14: BYTES, 20: BYTES}
_MODEL |= {25: BYTES, 26: BYTES}
_INITIALIZER, _SPARSE, _SPARSE_VALUES = 5, 15, 1
_MOST_VERSION = 1000
_DTYPES = {
    "FLOAT": "F32", "UINT8": "U8", "INT8": "I8", "UINT16": "U16", "INT16": "I16", "INT32": "I32", "INT64": "I64",
    "BOOL": "BOOL", "FLOAT16": "F16", "DOUBLE": "F64", "UINT32": "U32", "UINT64": "U64", "COMPLEX64": "C64",
    "COMPLEX128": "C128", "BFLOAT16": "BF16", "FLOAT8E4M3FN": "F8_E4M3", "FLOAT8E4M3FNUZ": "F8_E4M3FNUZ",
    "FLOAT8E5M2": "F8_E5M2", "FLOAT8E5M2FNUZ": "F8_E5M2FNUZ", "FLOAT8E8M0": "F8_E8M0", "FLOAT4E2M1": "F4",
    "FLOAT6E2M3": "F6_E2M3", "FLOAT6E3M2": "F6_E3M2",
}  # fmt: skip


def matches(source: Source) -> bool:
    """Return True if a file starts with the version of a model, and if its fields are those of one up to a graph."""
    window = Window(source, 0, source.size_bytes)
    try:
        for number, field in enumerate(fields_in(window, 0, source.size_bytes)):
            is_first = field.number == _VERSION and field.value <= _MOST_VERSION
            if _MODEL.get(field.number) != field.kind or (number == 0 and not is_first):
                return False
            if field.number == _GRAPH:
                return True
    except (InvalidError, EOFError):
        pass
    return False


def open_source(source: Source) -> Opened:
    """Find the initializers. Raises MissingPackageError, FormatError, or ReadError for a file beside it."""
    beside = Beside(source)
    try:
        return _opened(source, beside)
    except (InvalidError, EOFError) as error:
        beside.close()
        raise not_valid(source, error, "ONNX file", "onnx") from error
    except BaseException:
        beside.close()
        raise


def _opened(source: Source, beside: Beside) -> Opened:
    window = Window(source, 0, source.size_bytes)
    graph, metadata = _model_in(window)
    stored, unsupported = _initializers_in(window, graph)
    package = required("onnx", source.name)  # after the structure: a file that is no model needs no package
    kept: list[str] = []
    opened = Opened({}, {}, metadata, names=kept, unsupported=unsupported)
    for name, tensor in stored.items():
        dtype = _dtype_of(tensor, package, unsupported)
        if dtype is None:
            continue
        kept.append(name)
        spec = TensorSpec(dtype, tensor.shape)
        if tensor.external is not None:
            beside.add(tensor, spec)
            continue
        opened.tensors[name] = spec
        place = _place_of(tensor, spec)
        if place is not None:
            opened.offsets[name] = place

    def read(name: str) -> np.ndarray:
        return _values_of(package, stored[name], opened.tensors[name], source)

    def read_packed(name: str, content: bytes, spec: TensorSpec) -> np.ndarray:
        return _array_of(package, _packed(package, stored[name], content), spec, name, source.name)

    opened.read, opened.aliases, opened.beside = read, beside.aliases, beside.opened(read_packed)
    return opened


def _model_in(window: Window) -> tuple[Field, dict[str, str]]:
    """Return the graph of a model, and its metadata."""
    metadata: dict[str, str] = {}
    graphs: list[Field] = []
    for field in fields_in(window, 0, window.end):
        if _MODEL.get(field.number, field.kind) != field.kind:
            raise InvalidError(f"field {field.number} of the model is written in a wrong way")
        if field.number == _GRAPH:
            graphs.append(field)
        elif field.number == _PROPERTIES:
            metadata |= [pair_in(window, field)]
    if len(graphs) != 1:
        raise InvalidError(f"it has {len(graphs) or 'no'} graph{'s' * (len(graphs) > 1)}")
    return graphs[0], metadata


def _initializers_in(window: Window, graph: Field) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Return the initializers by name, and the names of the sparse ones with the reason why they are not read."""
    stored: dict[str, StoredTensor] = {}
    sparse: dict[str, str] = {}
    for field in fields_in(window, graph.offset, graph.size_bytes):
        if field.number not in (_INITIALIZER, _SPARSE):
            continue
        if field.kind != BYTES:
            raise InvalidError(f"field {field.number} of the graph is written in a wrong way")
        if field.number == _INITIALIZER:
            tensor = tensor_in(window, field)
            name = tensor.name
        else:
            parts = [
                part for part in fields_in(window, field.offset, field.size_bytes) if part.number == _SPARSE_VALUES
            ]
            tensor, name = None, tensor_in(window, parts[0]).name if parts else ""
        if name in stored or name in sparse:
            raise InvalidError(f"two initializers are named {name!r:.200}")
        if tensor is not None:
            stored[name] = tensor
        else:
            sparse[name] = "it is a sparse tensor"
    return stored, sparse


def _dtype_of(tensor: StoredTensor, package: ModuleType, unsupported: dict[str, str]) -> str | None:
    """Return the dtype of a tensor. If it cannot be read, return None and add the reason to `unsupported`."""
    try:
        kind = package.TensorProto.DataType.Name(tensor.number)
    except ValueError:
        kind = ""
    dtype = _DTYPES.get(kind)
    if kind == "STRING":
        unsupported[tensor.name] = "it holds text"
    elif not kind:
        unsupported[tensor.name] = f"its type is number {tensor.number}, which the installed onnx does not know"
    elif dtype is None:
        unsupported[tensor.name] = f"its type is {kind}, which this version does not support"
    elif tensor.has_segment:
        unsupported[tensor.name] = "it is a segment of a larger tensor"
    return None if tensor.name in unsupported else dtype


def _place_of(tensor: StoredTensor, spec: TensorSpec) -> int | None:
    """Return where the values of a tensor are as they are in memory, or None if only the package can read them.

    Raises InvalidError if the file has too few or too many bytes for its shape.
    """
    wanted = stored_bytes(spec)
    if tensor.raw is None:
        # An element takes at least a byte, but two of 4 bits share one.
        least = wanted if spec.dtype == "F4" else math.prod(spec.shape)
        if spec.size_bytes and not 0 < least <= tensor.typed_bytes:
            raise InvalidError(f"tensor {tensor.name!r:.200} has fewer values than its shape says")
    elif tensor.raw.size_bytes != wanted:
        raise InvalidError(
            f"tensor {tensor.name!r:.200} takes {wanted:,} bytes, and the file has {tensor.raw.size_bytes:,}"
        )
    place = tensor.place(wanted) if spec.size_bytes else tensor.message
    return place.offset if place is not None and (spec.dtype not in PACKED_BITS or not wanted) else None


# --- values that the package reads


def _values_of(package: ModuleType, tensor: StoredTensor, spec: TensorSpec, source: Source) -> np.ndarray:
    """Return the values of a tensor in the model."""
    if tensor.raw is not None:
        message = _packed(package, tensor, source.read(tensor.raw.offset, tensor.raw.size_bytes))
    else:
        message = source.read(tensor.message.offset, tensor.message.size_bytes)
    return _array_of(package, message, spec, tensor.name, source.name)


def _packed(package: ModuleType, tensor: StoredTensor, content: bytes) -> bytes:
    """Return the message of a tensor whose bytes are `content`."""
    return package.TensorProto(dims=tensor.shape, data_type=tensor.number, raw_data=content).SerializeToString()


def _array_of(package: ModuleType, message: bytes, spec: TensorSpec, name: str, path: str) -> np.ndarray:
    """Return the values in a message. Raises CorruptError if the package cannot read them as what they should be."""
    try:
        array = package.numpy_helper.to_array(package.TensorProto.FromString(message))
        if array.dtype == dtypes.numpy_dtype(spec.dtype) and array.shape == spec.shape:
            return np.array(array)
        reason = f"onnx reads it as {array.dtype} {list(array.shape)}"
    except MemoryError:
        raise
    except Exception as error:  # it raises many, some of Protocol Buffers
        reason = str(error) or type(error).__name__
    raise CorruptError(
        f"tensor {name!r:.200} of {path} cannot be read as {dtypes.numpy_dtype(spec.dtype)} {list(spec.shape)}: "
        f"{reason:.300}. Use another copy of the file, or a newer onnx.",
        (name,),
    )

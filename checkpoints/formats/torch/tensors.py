"""What the records of a pickle by torch.save mean: tensors, devices, sizes and dtypes.

A tensor is a call of one of torch's functions that rebuild tensors, with a storage, and an offset, a size and strides
in elements. The functions and their arguments are those of torch/_utils.py and torch/_tensor.py (PyTorch 1.6 to 2.13).
Whatever else a pickle names is not looked up: it is the reason why an entry cannot be read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...state import dtypes
from ...state.manifest import TensorSpec
from ...state.sharing import View, check_view
from ..entries import InvalidError
from .pickles import Made, Name, Pairs, Persistent

# torch's names of the dtypes, without "torch.".
_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "complex128": "C128",
} | {name: dtype for dtype, name in dtypes.ML_DTYPES.items() if dtype == "BF16" or dtype.startswith("F8")}
_STORAGES = {
    "BoolStorage": "BOOL",
    "ByteStorage": "U8",
    "CharStorage": "I8",
    "ShortStorage": "I16",
    "IntStorage": "I32",
    "LongStorage": "I64",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "FloatStorage": "F32",
    "DoubleStorage": "F64",
    "ComplexFloatStorage": "C64",
    "ComplexDoubleStorage": "C128",
    "UntypedStorage": "U8",
}
_UNREADABLE = {
    "_rebuild_sparse_tensor": "it is a sparse tensor: save tensor.to_dense()",
    "_rebuild_sparse_csr_tensor": "it is a sparse tensor: save tensor.to_dense()",
    "_rebuild_nested_tensor": "it is a nested tensor: save each of tensor.unbind()",
    "_rebuild_qtensor": "it is a quantized tensor: save tensor.dequantize()",
    "_rebuild_meta_tensor_no_storage": "it has no values: its device is 'meta'",
    "_rebuild_wrapper_subclass": "it is a subclass of torch.Tensor that has its values elsewhere",
}
_PLAIN_TYPES = {
    Name("torch", "Tensor"),
    Name("torch._tensor", "Tensor"),
    Name("torch.nn.parameter", "Parameter"),
    Name("torch.nn.parameter", "Buffer"),
}
_PACKED = "float4_e2m1fn_x2"
_MOST_AXES = 64
_MOST_LETTERS = 100
_MOST_WRAPPERS = 8
_SAVE_STATE = "save the tensors of its state: torch.save(model.state_dict(), path)"


class UnreadableError(Exception):
    """A value that cannot be read. The message is the reason, a clause such as "it is a sparse tensor"."""


class Tensor(NamedTuple):
    """A part of a storage.

    storage: its key in the archive. storage_bytes: its size, as the pickle gives it. offset, strides: in bytes.
    is_conj, is_neg: whether the values are the conjugates, or the negatives, of those in the storage.
    is_packed: whether each element is two 4-bit floats.
    """

    storage: str
    storage_bytes: int
    spec: TensorSpec
    offset: int
    strides: tuple[int, ...]
    is_conj: bool = False
    is_neg: bool = False
    is_packed: bool = False

    @property
    def is_made(self) -> bool:
        """Whether the values are not those in the storage, but made from them."""
        return self.is_conj or self.is_neg or self.is_packed


def is_module(value: Any) -> bool:
    """Return True if a value looks like a pickled torch.nn.Module."""
    state = value.state if isinstance(value, Made) else None
    keys = [key for key, _ in state if isinstance(key, str)] if isinstance(state, Pairs) else []
    return "_parameters" in keys and "_modules" in keys


def tensor_of(made: Made) -> Tensor:
    """Return the tensor that a call makes.

    Raises UnreadableError if it makes anything else, InvalidError if torch cannot have written its arguments.
    """
    for _ in range(_MOST_WRAPPERS):
        if not isinstance(made, Made):
            raise InvalidError("a tensor has no values")
        if made.name == Name("torch._tensor", "_rebuild_from_type_v2"):
            made = _of_type(*_arguments(made, 4))
        elif made.name in _WRAPPERS:
            (made,) = _arguments(made, 1)
        else:
            return _rebuilt(made)
    raise InvalidError("a tensor is wrapped too often")


_WRAPPERS = {
    Name("torch._utils", "_rebuild_parameter"),
    Name("torch._utils", "_rebuild_parameter_with_state"),
}


def _arguments(made: Made, count: int) -> tuple[Any, ...]:
    """Return the first arguments of a call. Raises InvalidError if there are fewer."""
    if len(made.arguments) < count:
        raise InvalidError(f"a call of {made.name} has too few arguments")
    return made.arguments[:count]


def _of_type(function: Any, kind: Any, arguments: Any, state: Any) -> Made:
    """Return the call that makes a tensor with attributes, or of a subclass."""
    if not isinstance(kind, Name) or type(arguments) is not tuple:
        raise InvalidError("a tensor has no type")
    if kind not in _PLAIN_TYPES:
        raise UnreadableError(f"it is a tensor of the class {kind}: save tensor.as_subclass(torch.Tensor)")
    return Made(function, arguments)


def _rebuilt(made: Made) -> Tensor:
    name = made.name
    if name is None:
        raise UnreadableError("it is made by something that has no name")
    if name.module != "torch._utils" or not name.name.startswith("_rebuild_"):
        what = "a pickled module" if is_module(made) else "an object"
        advice = _SAVE_STATE if is_module(made) else "save its content as tensors, numbers and text"
        raise UnreadableError(f"it is {what} of {name}, which is not looked up: {advice}")
    if name.name in _UNREADABLE:
        raise UnreadableError(_UNREADABLE[name.name])
    if name.name not in _METADATA_AT:
        raise UnreadableError(f"it is made by {name}, which this version does not know")
    storage, offset, shape, strides = _arguments(made, 4)
    kept = whole_storage_of(storage)
    dtype = _dtype(_arguments(made, 7)[6]) if name.name == "_rebuild_tensor_v3" else kept.spec.dtype
    metadata = made.arguments[_METADATA_AT[name.name] :]
    part = _part(kept, "U8" if dtype == _PACKED else dtype, offset, shape, strides)
    is_conj, is_neg = _flags(metadata[0] if metadata else None)
    return part._replace(is_conj=is_conj, is_neg=is_neg, is_packed=dtype == _PACKED)


# The functions that rebuild a tensor, and which of their arguments has its flags.
_METADATA_AT = {"_rebuild_tensor": 4, "_rebuild_tensor_v2": 6, "_rebuild_tensor_v3": 7}


def _flags(metadata: Any) -> tuple[bool, ...]:
    """Return whether a tensor is conjugate, and whether it is negative."""
    known = {"conj": False, "neg": False}
    for key, value in metadata if isinstance(metadata, Pairs) else [] if metadata is None else [(None, None)]:
        if type(key) is not str or key not in known or type(value) is not bool:
            raise UnreadableError("it has metadata that this version does not know")
        known[key] = value
    return tuple(known.values())


def _dtype(name: Any) -> str:
    """Return the dtype for a value such as torch.uint16."""
    if not isinstance(name, Name) or name.module != "torch":
        raise InvalidError("a tensor has no dtype")
    if name.name == _PACKED:
        return _PACKED
    if name.name not in _DTYPES:
        raise UnreadableError(f"its dtype is {name}, which NumPy does not have")
    return _DTYPES[name.name]


def whole_storage_of(value: Any) -> Tensor:
    """Return a storage as a tensor of one axis. Raises as tensor_of() does."""
    identifier = value.identifier if isinstance(value, Persistent) else None
    if type(identifier) is not tuple or len(identifier) < 5 or identifier[0] != "storage":
        raise InvalidError("a tensor has no storage")
    _, kind, key, _, count = identifier[:5]
    if not isinstance(kind, Name) or type(key) is not str or not _is_size(count):
        raise InvalidError("a storage has no type, key and size")
    if kind.name not in _STORAGES:
        raise UnreadableError(f"its elements are of {kind}, which this version does not know")
    dtype = _STORAGES[kind.name]
    size_bytes = count * dtypes.ITEM_BYTES[dtype]
    return Tensor(key, size_bytes, TensorSpec(dtype, (count,)), 0, (dtypes.ITEM_BYTES[dtype],))


def _part(kept: Tensor, dtype: str, offset: Any, shape: Any, strides: Any) -> Tensor:
    """Return a part of a storage. offset, strides: in elements. Raises InvalidError if it is not within the storage."""
    if type(shape) is not tuple or type(strides) is not tuple or len(shape) != len(strides) or len(shape) > _MOST_AXES:
        raise InvalidError("a tensor has no valid size and strides")
    if not all(map(_is_size, (offset, *shape, *strides))):
        raise InvalidError("a tensor has a negative or far too large offset, size or stride")
    item_bytes, spec = dtypes.ITEM_BYTES[dtype], TensorSpec(dtype, shape)
    offset_bytes, strides_bytes = offset * item_bytes, tuple(stride * item_bytes for stride in strides)
    if 0 not in shape and not check_view(View(dtype, shape, offset_bytes, strides_bytes), kept.storage_bytes):
        raise InvalidError(f"a tensor reaches beyond the end of its storage {kept.storage!r:.200}")
    return Tensor(kept.storage, kept.storage_bytes, spec, offset_bytes, strides_bytes)


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 <= number < 1 << 63


def plain_value_of(value: Any) -> Any:
    """Return the text for a dtype or a device, the numbers of a torch.Size, or None for anything else."""
    if isinstance(value, Name):
        is_dtype = value.module == "torch" and (value.name in _DTYPES or value.name in _OTHER_DTYPES)
        return str(value) if is_dtype else None
    if not isinstance(value, Made) or value.name is None:
        return None
    if value.name == Name("torch", "device") and all(type(part) in (str, int) for part in value.arguments):
        return ":".join(map(str, value.arguments))[:_MOST_LETTERS]
    if value.name == Name("torch", "Size") and len(value.arguments) == 1 and type(value.arguments[0]) is tuple:
        return value.arguments[0]
    return None


_OTHER_DTYPES = {_PACKED, "complex32", "qint8", "quint8", "qint32", "quint4x2", "quint2x4"}

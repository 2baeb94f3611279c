"""Objects of tensors, numbers and texts in dicts, lists and tuples, in one file: what `core.save` and `core.load` do.

A dict of tensors by name is a state like any other. Of another object, the tensors get the names of the keys that lead
to them, joined by dots, and the metadata has the rest, as JSON in the entry "statezoo.object":

    {"$tensor": "model.weight"}     a tensor with its name in the file; "$array" for an array of NumPy
    {"$dict": [["epoch", 3]]}       a dict, whose keys are texts, numbers, bools or None
    {"$tuple": [0.9, 0.999]}        a tuple
    [1, 2], "text", 1, true, null   themselves; other numbers are as in values.py
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...core.autograd.arrays import TensorArray
from ...core.autograd.devices import require_cpu
from ...core.autograd.tensor import Tensor
from ..errors import CorruptError, FormatError, UnsupportedTypeError, enough_memory
from ..files import packed_of, save_file, save_whole
from ..formats import DEFAULT, format_of
from ..reading.header import open_one
from ..reading.lazy import load_state
from ..reading.reader import Reader
from .values import from_json, to_json

_ENTRY = "statezoo.object"
_MOST_KEY = 1 << 60  # larger ones may have equal hashes


@enough_memory("the object was not saved", "Free some memory.")
def save(
    obj: Any, f: Any, pickle_module: Any = None, pickle_protocol: int = 2, _use_new_zipfile_serialization: bool = True
) -> None:
    """Write an object to a file, completely or not at all, for `load`. Unlike torch.save it writes no pickle.

    obj: tensors, arrays, numbers, texts, bools and None, in dicts, lists and tuples. A class of dicts is saved as a
    dict. Tensors that share memory share it again when they are loaded; `requires_grad` is not kept.
    f: a path, or a file open for writing in binary mode. The suffixes .h5, .hdf5 and .npz pick these formats. Any other
    file, such as model.pt, has the content of a .safetensors file. The arguments about pickles change nothing.
    Raises StateError for an object that holds anything else, and WriteError if the system refuses.
    """
    arrays: dict[str, Any] = {}
    if _is_state(obj):
        arrays, metadata = dict(obj), {}
    else:
        try:
            metadata = {_ENTRY: json.dumps(_described(obj, "", arrays))}
        except RecursionError:
            raise UnsupportedTypeError(
                "the object is nested too deeply, or contains itself. Save a flatter one."
            ) from None
    if isinstance(f, str | os.PathLike):
        save_whole(packed_of(arrays), _format_for(os.fsdecode(f)), metadata, os.fsdecode(f), durable=True)
    else:
        save_file(arrays, f, metadata)


@enough_memory("the object was not loaded", "Free some memory.")
def load(f: Any, map_location: Any = None, *, weights_only: bool = True, mmap: bool = False) -> Any:
    """Return the object in a file of `save`, or in one of torch.save. Every byte is checked, and no code is run.

    Arrays become Tensors, except for arrays of NumPy that `save` wrote. Of a file of `save_file` or of another library,
    the tensors are returned by name. The content decides about the format, whatever the suffix.
    map_location: None, "cpu", or torch's functions and dicts, which change nothing. weights_only: True and False are
    the same. mmap: read the tensors when they are used.
    Raises MissingFileError, CorruptError, FormatError for a pickle of any other kind, or UnsupportedTypeError for a
    file of torch.save that holds more than tensors and values.
    """
    if not callable(map_location) and not isinstance(map_location, Mapping):
        require_cpu(map_location)
    with open_one(f, None) as header:
        state = load_state(Reader(header, verify=True), "c" if mmap else False)
        tensors: dict[int, Tensor] = {}  # one for each array, so that ties stay ties
        values = {
            name: tensors.setdefault(id(value), Tensor(value)) if isinstance(value, np.ndarray) else value
            for name, value in state.items()
        }
        if (nested := header.parts[0].opened.nested) is not None:
            return nested(values)
    if header.manifest is None or _ENTRY not in header.metadata:
        return values
    try:
        return _rebuilt(json.loads(header.metadata[_ENTRY]), values)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise CorruptError(
            f"{header.name} has no valid object in the entry {_ENTRY!r} of its metadata. Load its tensors with "
            "checkpoints.load_file."
        ) from error


def _is_state(obj: Any) -> bool:
    """Return True for a dict of tensors by name, which needs no description."""
    return (
        isinstance(obj, Mapping)
        and bool(obj)
        and all(isinstance(name, str) for name in obj)
        and all(isinstance(value, Tensor | TensorArray) for value in obj.values())
    )


def _described(value: Any, name: str, arrays: dict[str, Any]) -> Any:
    """Return a value as JSON. Its arrays are added to `arrays`. name: the keys that lead to it, joined by dots."""
    if isinstance(value, Tensor | np.ndarray):
        new = name = (name or "tensor").encode(errors="backslashreplace").decode()
        while new in arrays:  # {"a.b": x, "a": {"b": y}}
            new = f"{name}~{len(arrays)}"
        arrays[new] = value
        return {"$tensor" if isinstance(value, Tensor | TensorArray) else "$array": new}
    prefix = f"{name}." if name else ""
    if isinstance(value, Mapping):
        pairs = [[_key(key, name), _described(item, f"{prefix}{key}", arrays)] for key, item in value.items()]
        return {"$dict": pairs}
    if isinstance(value, list | tuple):
        items = [_described(item, f"{prefix}{number}", arrays) for number, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if hasattr(value, "state_dict"):
        raise UnsupportedTypeError(
            f"{name or 'the object'} is a {type(value).__name__}, which only a pickle could hold. Save its "
            "state_dict() instead, and load it with load_state_dict()."
        )
    return to_json(value, name or "the object")


def _rebuilt(value: Any, values: Mapping[str, Any]) -> Any:
    """Return the value that `_described` was given. values: the tensors by name."""
    if isinstance(value, list):
        return [_rebuilt(item, values) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, content),) = value.items()
    if tag == "$dict":
        return {from_json(_key(key)): _rebuilt(item, values) for key, item in content}
    if tag == "$tuple":
        return tuple(_rebuilt(item, values) for item in content)
    if tag in ("$tensor", "$array"):
        return values[content] if tag == "$tensor" else values[content].numpy()
    return from_json(value)


def _key(key: Any, name: str = "") -> Any:
    """Return a key of a dict as JSON. Raises StateError for one of another type. name: that of the dict."""
    if isinstance(key, str | float | None) or (isinstance(key, int) and abs(key) < _MOST_KEY):
        return to_json(key, name)
    raise UnsupportedTypeError(f"{name or 'the object'} has the key {key!r:.60}. Use texts, numbers, bools or None.")


def _format_for(path: str) -> Any:
    """Return the format of the suffix of a path if files are written in it, otherwise the default one."""
    try:
        form = format_of(path)
    except FormatError:
        return DEFAULT
    return form if form.writes else DEFAULT

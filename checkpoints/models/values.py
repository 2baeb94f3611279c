"""Progress and hyperparameters as JSON. Values that JSON does not have become objects with one key.

    float("inf")        {"$float": "inf"}            also "-inf" and "nan"
    numpy.float32(0.5)  {"$float32": 0.5}            any integer, floating or bool scalar of NumPy and ml_dtypes
    {1: "a"}            {"$items": [[1, "a"]]}       a dict with a key that is not a string
    {"$key": 1}         {"$$key": 1}                 a dict of the user's own that looks like the above

Values come back with the type they had, except that a tuple comes back as a list, and a NaN without its payload.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import StateError
from ..state import dtypes

# NumPy's name of each scalar type that is kept, and its name in the table of dtypes.
_SCALARS = {
    numpy_name: name for name, numpy_name in (dtypes.NUMPY | dtypes.ML_DTYPES).items() if "complex" not in numpy_name
}


def to_json(value: Any, where: str) -> Any:
    """Return `value` as JSON values. Raises StateError naming a value that would not come back unchanged."""
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        items = {key: to_json(item, f"{where}[{key!r}]") for key, item in value.items()}
        return {f"${key}": item for key, item in items.items()} if _is_tagged(items) else items
    if isinstance(value, Mapping):
        pairs = enumerate(value.items())
        return {"$items": [[to_json(part, f"{where}, item {i}") for part in pair] for i, pair in pairs]}
    if isinstance(value, list | tuple):
        return [to_json(item, f"{where}[{position}]") for position, item in enumerate(value)]
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, np.generic) and value.dtype.name in _SCALARS:
        return _scalar_to_json(value)
    raise StateError(
        f"{where} is {value!r:.60} ({type(value).__name__}), which a file cannot hold exactly. Use None, bool, int, "
        "float, str, an integer, floating or bool scalar of NumPy, or a list or dict of these."
    )


def from_json(value: Any) -> Any:
    """Return the value that `to_json` was given. Raises ValueError for JSON that `to_json` does not write."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not _is_tagged(value):
        return {key: from_json(item) for key, item in value.items()}
    ((tag, content),) = value.items()
    if tag.startswith("$$"):
        return {tag[1:]: from_json(content)}
    return _items_from_json(content) if tag == "$items" else _scalar_from_json(tag[1:], content)


def _items_from_json(content: Any) -> dict[Any, Any]:
    try:
        found = {from_json(key): from_json(item) for key, item in content}
        if to_json(found, "") == {"$items": content}:
            return found
    except (StateError, TypeError, ValueError):
        pass
    raise ValueError(f"{content!r:.40} are not the items of a dict")


def _is_tagged(value: Mapping[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith("$")


def _scalar_to_json(value: Any) -> dict[str, Any]:
    number = value.item() if value.dtype.kind in "biu" else float(value)
    return {f"${value.dtype.name}": number if math.isfinite(number) else str(number)}


def _scalar_from_json(kind: str, content: Any) -> Any:
    try:
        scalar = float(content) if kind == "float" else dtypes.numpy_dtype(_SCALARS[kind]).type(content)
        if to_json(scalar, "") == {f"${kind}": content}:
            return scalar
    except (ArithmeticError, LookupError, TypeError, ValueError):
        pass
    raise ValueError(f"{content!r:.40} is not a {kind}")

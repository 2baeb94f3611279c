"""The interface that a model declares, and its preprocessing."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError

Fields = Sequence[Mapping[str, Any]]
Steps = Sequence[Mapping[str, Any]]


class Interface(NamedTuple):
    """What a model declares about its input and its output; docs/export.md lists the fields and steps.

    input_axes, output_axes: the name of each axis, the batch first. Without preprocessing, the raw input is the input.
    """

    input_axes: tuple[str, ...]
    output_axes: tuple[str, ...]
    preprocessing: Fields = ()
    postprocessing: Steps = ()


def prepare(fields: Fields, raw: Mapping[str, Any], dtype: Any) -> np.ndarray:
    """Return the model's input for the raw values of the fields, by their names. It has no batch axis.

    Raises InputError if a value is missing, is not one of the options, or does not have the declared shape.
    """
    parts = [_prepared(field, raw) for field in fields]
    return (parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)).astype(dtype)


def _prepared(field: Mapping[str, Any], raw: Mapping[str, Any]) -> np.ndarray:
    try:
        value = _numbers(field, raw[field["name"]])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{raw.get(field['name'])!r:.200} is not a value of the field {field['name']!r}.") from None
    for step in field["steps"]:
        value = _applied(step, value, len(field.get("options", ())))
    return value


def _numbers(field: Mapping[str, Any], value: Any) -> np.ndarray:
    """Return the array of numbers for a raw value. Raises TypeError or ValueError if it is not one."""
    kind = field["kind"]
    if kind == "choice":
        return np.array(field["options"].index(value))
    if kind == "text":
        value = [field["options"].index(symbol) for symbol in value]
    array = np.asarray(value) if kind == "text" else np.asarray(value, np.float64)
    if array.shape != raw_shape(field):
        raise ValueError(array.shape)
    return array


def _applied(step: Mapping[str, Any], x: np.ndarray, options: int) -> np.ndarray:
    match step["op"]:
        case "scale":
            return x * step["factor"] + step["offset"]
        case "normalize":
            return (x - np.asarray(step["mean"])) / np.asarray(step["std"])
        case "flatten":
            return x.reshape(-1)
        case "one_hot":
            return x[..., None] == np.arange(options)
        case _:
            return np.append(x, step["values"])


def raw_shape(field: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape of the array of numbers of a field, before its steps."""
    if field["kind"] == "image":
        return field["height"], field["width"]
    return () if field["kind"] == "choice" else (field["length"],)

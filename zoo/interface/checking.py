"""Validation of the interface in a manifest, which may come from anywhere."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .applying import raw_shape

_DTYPES = ("bool", "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16")
_MOST_AXES = 32
_MOST_ELEMENTS = 1 << 31


def problem_of_interface(manifest: Mapping[str, Any]) -> str | None:
    """Return why the interface in a manifest is invalid, or None if it is valid."""
    given, returned, labels = manifest["input"], manifest["output"], manifest["labels"]
    for side in ("input", "output"):
        if problem := _problem_of_side(manifest[side]):
            return f"{side!r} has {problem}"
    for field in manifest["preprocessing"]:
        if problem := _problem_of_field(field):
            return f"'preprocessing' has {problem}"
    for step in manifest["postprocessing"]:
        if problem := _problem_of_answer(step, given, returned):
            return f"'postprocessing' has {problem}"
    if labels and (not _are_texts(labels) or len(labels) != returned["shape"][-1]):
        return "'labels' does not name each position along the last axis of the output"
    if manifest["preprocessing"] and _prepared_shape(manifest["preprocessing"]) != tuple(given["shape"][1:]):
        return "'preprocessing' does not give the declared shape of the input"
    return None


def _problem_of_side(side: Mapping[str, Any]) -> str | None:
    axes: Any = side.get("axes")
    shape: Any = side.get("shape")
    if type(side.get("name")) is not str or side.get("dtype") not in _DTYPES:
        return "no name, or an unknown dtype"
    if not _are_texts(axes) or len(set(axes)) != len(axes) or not 1 <= len(axes) <= _MOST_AXES:
        return "no distinct names of axes"
    if type(shape) is not list or len(shape) != len(axes) or shape[0] is not None or not _are_sizes(shape[1:]):
        return "no size for each axis, with null for the batch"
    return None


def _problem_of_field(field: Any) -> str | None:
    check = _FIELDS.get(_text(field, "kind"))
    if check is None or not _text(field, "name"):
        return "a field without a name, or of an unknown kind"
    if not check(field):
        return f"an invalid field {field['name']!r:.200}"
    steps = field.get("steps")
    if type(steps) is not list or not all(_is_step(step, _STEPS) for step in steps):
        return f"an unknown or invalid step in the field {field['name']!r:.200}"
    if any(step["op"] == "one_hot" for step in steps) and "options" not in field:
        return f"'one_hot' without options in the field {field['name']!r:.200}"
    return None


def _problem_of_answer(step: Any, given: Mapping[str, Any], returned: Mapping[str, Any]) -> str | None:
    if not _is_step(step, _ANSWERS):
        return "an unknown or invalid step"
    if "axis" in step and step["axis"] not in returned["axes"][1:]:
        return f"a step along {step['axis']!r:.200}, which is no axis of the output"
    if step["op"] == "reshape" and math.prod(step["shape"]) != math.prod(returned["shape"][1:]):
        return "a reshape to another number of elements"
    if step["op"] == "generate":
        length = given["shape"][1] if len(given["shape"]) == 2 else 0
        if step["start"] + step["count"] > length or returned["shape"][1:-1] != [length]:
            return "'generate' beyond the positions of the input"
    return None


def _prepared_shape(fields: Sequence[Mapping[str, Any]]) -> tuple[int, ...] | None:
    """Return the shape of the joined arrays of valid fields, or None if they cannot be joined."""
    shapes = [_field_shape(field) for field in fields]
    if len(shapes) == 1:
        return shapes[0]
    joined = [shape for shape in shapes if shape]  # a single number has no axis to be joined along
    if len(joined) != len(shapes) or len({shape[:-1] for shape in joined}) != 1:
        return None
    return (*joined[0][:-1], sum(shape[-1] for shape in joined))


def _field_shape(field: Mapping[str, Any]) -> tuple[int, ...] | None:
    shape = raw_shape(field)
    for step in field["steps"]:
        if any(type(value) is list and shape[-1:] != (len(value),) for value in (step.get("mean"), step.get("std"))):
            return None
        if step["op"] == "flatten":
            shape = (math.prod(shape),)
        elif step["op"] == "one_hot":
            shape = (*shape, len(field["options"]))
        elif step["op"] == "append":
            shape = (*shape[:-1], (shape[-1] if shape else 0) + len(step["values"]))
    return shape


def _is_step(step: Any, known: Mapping[str, Callable[[Mapping[str, Any]], bool]]) -> bool:
    check = known.get(_text(step, "op"))
    return check is not None and check(step)


def _text(value: Any, key: str) -> str:
    """Return a text in an object, or "" if there is none."""
    found = value.get(key) if type(value) is dict else None
    return found if type(found) is str else ""


def _is_number(value: Any) -> bool:
    return (type(value) is int and abs(value) < _MOST_ELEMENTS) or (type(value) is float and math.isfinite(value))


def _are_numbers(value: Any) -> bool:
    return type(value) is list and all(map(_is_number, value))


def _are_sizes(value: Any) -> bool:
    is_list = type(value) is list and all(type(size) is int and 0 < size < _MOST_ELEMENTS for size in value)
    return is_list and len(value) <= _MOST_AXES and math.prod(value) < _MOST_ELEMENTS


def _are_texts(value: Any) -> bool:
    return type(value) is list and all(type(text) is str for text in value)


def _has_options(field: Mapping[str, Any]) -> bool:
    options = field.get("options")
    return _are_texts(options) and bool(options) and len(set(options)) == len(options)


def _is_divisor(value: Any) -> bool:
    return value != 0 if _is_number(value) else _are_numbers(value) and all(value)


# What else a field of each kind, and each step, must hold.
_FIELDS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "image": lambda field: (
        _are_sizes([field.get("height"), field.get("width")])
        and _are_numbers(field.get("range"))
        and len(field["range"]) == 2
        and field["range"][0] != field["range"][1]
    ),
    "numbers": lambda field: _are_sizes([field.get("length")]),
    "choice": _has_options,
    "text": lambda field: _has_options(field) and _are_sizes([field.get("length")]),
}
_STEPS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "scale": lambda step: _is_number(step.get("factor")) and _is_number(step.get("offset")),
    "normalize": lambda step: (
        (_is_number(step.get("mean")) or _are_numbers(step.get("mean"))) and _is_divisor(step.get("std"))
    ),
    "flatten": lambda step: True,
    "one_hot": lambda step: True,
    "append": lambda step: _are_numbers(step.get("values")),
}
_ANSWERS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "softmax": lambda step: type(step.get("axis")) is str,
    "argmax": lambda step: type(step.get("axis")) is str,
    "threshold": lambda step: _is_number(step.get("value")),
    "reshape": lambda step: _are_sizes(step.get("shape")),
    "generate": lambda step: all(type(step.get(key)) is int and step[key] >= 0 for key in ("start", "count")),
}

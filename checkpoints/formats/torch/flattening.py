"""The names of the values in nested dicts and lists: the keys that lead to each, joined by dots.

A key that is a number, a bool or None becomes text; the elements of a list, a tuple or a set are numbered. A dict or a
list that is empty is a value itself, and so is

- a list or tuple of more than 1,000 values, all of them plain: None, a bool, an integer, a finite float or text;
- what is named `_extra_state`, if it has only plain values, in lists and dicts with keys of text: a module gave it.

A pickle may describe far more than it holds, since one value may occur in many places. So the number of names, and the
number of their letters, are limited by its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ...state.validation import EXTRA
from ..entries import InvalidError
from .pickles import Made, Name, Pairs
from .tensors import plain_value_of

# The name of a value that is in no dict or list.
ROOT = "tensor"
_MOST_DEPTH, _MOST_PLAIN_DEPTH = 200, 50
# For each byte of a pickle, besides those that any may have. A number in a list takes up to five bytes.
_NAMES_PER_BYTE, _FREE_NAMES = 0.2, 50_000
_LETTERS_PER_BYTE, _FREE_LETTERS = 20, 1 << 22
_LONG = 1000
_LARGE_KEY = 1 << 60  # larger integers may have equal hashes
_DIGITS_PER_BIT = 0.302


class AmbiguousError(InvalidError):
    """Two values of a file that get the same name. The file is valid all the same."""


def flattened(root: Any, pickle_bytes: int) -> Iterator[tuple[str, Any]]:
    """Yield each value that is not in turn a dict or a list, with its name.

    root: what a pickle describes (see pickles.py). pickle_bytes: the size of the pickle.
    Raises InvalidError if it describes far more than it holds or is nested too deeply, AmbiguousError if it has two
    values of one name.
    """
    budget, names = _Budget(pickle_bytes), set[str]()
    children = _children_of(root)
    levels = [("", iter([(ROOT, root)] if children is None else children))]
    while levels:
        prefix, values = levels[-1]
        key, value = next(values, (None, None))
        if key is None:
            levels.pop()
            continue
        name = prefix + key
        budget.spend(len(name))
        plain = _plain(value, budget) if key == EXTRA else _long_list(value, budget)
        children = _children_of(value) if plain is None else None
        if children:
            if len(levels) == _MOST_DEPTH:
                raise InvalidError(f"its values are nested in more than {_MOST_DEPTH} dicts and lists")
            levels.append((f"{name}.", iter(children)))
            continue
        if name in names:
            raise AmbiguousError(f"two of its values have the name {name!r:.200}")
        names.add(name)
        budget.spend(_letters_of(value))
        if children is not None:
            plain = {} if _pairs_of(value) is not None else []
        yield name, value if plain is None else plain


def nested(root: Any, values: Mapping[str, Any], name: str = "") -> Any:
    """Return what a pickle describes, in dicts, lists and tuples, with `values` for the names of `flattened`.

    The pickle was flattened before, which limits its depth and size. Sets become lists, and a key that is no text, no
    bool, no None and no integer of up to 60 bits becomes text.
    """
    if is_plain(root) or type(root) is float:
        return root
    prefix = f"{name}." if name else ""
    pairs = _pairs_of(root)
    if pairs is not None:
        texts = [(key, item, _text_of(key, number)) for number, (key, item) in enumerate(pairs)]
        return {_key_of(key, text): nested(item, values, prefix + text) for key, item, text in texts}
    elements = root if type(root) in (list, tuple) else _elements_of(root)
    if elements is None:
        return values[name or ROOT]
    made = [nested(item, values, f"{prefix}{number}") for number, item in enumerate(elements)]
    return tuple(made) if type(elements) is tuple else made


def _key_of(key: Any, text: str) -> Any:
    is_kept = key is None or type(key) is bool or (type(key) is int and abs(key) < _LARGE_KEY)
    return key if is_kept else text


class _Budget:
    """What is left of the names and letters that a pickle may give."""

    def __init__(self, pickle_bytes: int) -> None:
        self._names = _FREE_NAMES + _NAMES_PER_BYTE * pickle_bytes
        self._letters = _FREE_LETTERS + _LETTERS_PER_BYTE * pickle_bytes

    def spend(self, letters: int) -> None:
        """Count a value with so many letters. Raises InvalidError if there are too many."""
        self._names -= 1
        self._letters -= letters
        if self._names < 0 or self._letters < 0:
            raise InvalidError("it describes far more values than it has bytes")


def _letters_of(value: Any) -> int:
    """Return about how many letters a plain value takes as text."""
    if isinstance(value, str):
        return len(value)
    return int(value.bit_length() * _DIGITS_PER_BIT) if type(value) is int else 0


def is_plain(value: Any) -> bool:
    """Return True for None, bools, integers, finite floats, and text that can be encoded."""
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is str:
        return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)
    return value is None or type(value) in (bool, int)


def _long_list(value: Any, budget: _Budget) -> list[Any] | None:
    if type(value) not in (list, tuple) or len(value) <= _LONG or not all(map(is_plain, value)):
        return None
    for item in value:
        budget.spend(_letters_of(item))
    return list(value)


def _plain(value: Any, budget: _Budget, depth: int = 0) -> Any:
    """Return a value as files hold it: tuples become lists, and keys are sorted. Return None if JSON cannot hold it."""
    budget.spend(_letters_of(value))
    if is_plain(value):
        return value
    if depth > _MOST_PLAIN_DEPTH:
        return None
    if type(value) in (list, tuple):
        items = [_plain(item, budget, depth + 1) for item in value]
        return items if all(one is not None or other is None for one, other in zip(items, value, strict=True)) else None
    pairs = _pairs_of(value)
    if pairs is None or not all(type(key) is str and is_plain(key) for key, _ in pairs):
        return None
    found = {key: (item, _plain(item, budget, depth + 1)) for key, item in pairs}
    if any(plain is None and item is not None for item, plain in found.values()):
        return None
    return {key: plain for key, (_, plain) in sorted(found.items())}


def _children_of(value: Any) -> list[tuple[str, Any]] | None:
    """Return the values in a dict, a list, a tuple or a set, with their keys as text. Return None for anything else."""
    elements = value if type(value) in (list, tuple) else _elements_of(value)
    if elements is not None:
        return [(str(number), item) for number, item in enumerate(elements)]
    pairs = _pairs_of(value)
    return None if pairs is None else _by_text(pairs)


def _elements_of(value: Any) -> list[Any] | tuple[Any, ...] | None:
    """Return the elements of a set or a torch.Size, or None for any other value."""
    if not isinstance(value, Made):
        return None
    if value.name in _SETS:
        return value.arguments[0] if value.arguments and type(value.arguments[0]) is list else None
    size = plain_value_of(value)
    return size if type(size) is tuple else None


_SETS = {Name(module, name) for module in ("builtins", "__builtin__") for name in ("set", "frozenset")}


def _pairs_of(value: Any) -> Pairs | None:
    """Return the pairs of a dict, an OrderedDict, a defaultdict or a Counter, or None for any other value."""
    if isinstance(value, Pairs):
        return value
    if not isinstance(value, Made) or value.name not in _DICTS:
        return None
    first = value.arguments[0] if value.arguments else None
    return value.items or (first if isinstance(first, Pairs) else Pairs())


_DICTS = {Name("collections", name) for name in ("OrderedDict", "defaultdict", "Counter")}


def _by_text(pairs: Pairs) -> list[tuple[str, Any]]:
    """Return the values with their keys as text. Of two values with one key, the last one counts, as in Python.

    Raises AmbiguousError if two different keys have one text.
    """
    found: dict[str, tuple[type, Any]] = {}
    for number, (key, value) in enumerate(pairs):
        text = _text_of(key, number)
        if text in found and found[text][0] is not type(key):
            raise AmbiguousError(f"two of its values have the name {text!r:.200}")
        found[text] = type(key), value
    return [(text, value) for text, (_, value) in found.items()]


def _text_of(key: Any, number: int) -> str:
    if type(key) is str:
        return key if is_plain(key) else key.encode(errors="backslashreplace").decode()
    if key is None or type(key) in (bool, int, float):
        return str(key)
    return str(key) if isinstance(key, Name) else f"<key {number}>"

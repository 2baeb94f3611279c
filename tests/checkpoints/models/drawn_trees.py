"""Random trees: dicts, lists, tuples and namedtuples in each other, in which a leaf may occur several times."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

DTYPES = (np.float32, np.int8, np.uint32, np.bool_, np.complex64, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2)
KEYS = st.sampled_from(["w", "b", "layer.0", "0", "ünï"])


class Moments(NamedTuple):
    """The state of an optimizer."""

    mu: Any
    nu: Any


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Draw an array with random bits, NaNs included."""
    dtype, shape = np.dtype(draw(st.sampled_from(DTYPES))), draw(st.sampled_from([(), (0,), (3,), (2, 3), (1, 2, 2)]))
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    return (raw % 2 if dtype.kind == "b" else raw).view(dtype).reshape(shape).copy()


def trees(make: Callable[[np.ndarray], Any]) -> st.SearchStrategy[Any]:
    """Draw trees whose leaves are from a few arrays, each made by `make` once, or numbers."""
    return st.lists(arrays(), min_size=1, max_size=3).flatmap(lambda drawn: _trees([make(array) for array in drawn]))


def _trees(leaves: list[Any]) -> st.SearchStrategy[Any]:
    leaf = st.sampled_from(leaves) | st.sampled_from([7, 0.5, True, float("inf"), None])
    inner = st.recursive(
        leaf,
        lambda child: (
            st.dictionaries(KEYS, child, max_size=3)
            | st.dictionaries(KEYS, child, max_size=3).map(OrderedDict)
            | st.lists(child, max_size=3)
            | st.lists(child, max_size=3).map(tuple)
            | st.tuples(child, child).map(Moments._make)
        ),
        max_leaves=8,
    )
    return st.dictionaries(KEYS, inner, min_size=1, max_size=3).filter(_has_clear_names)


def _has_clear_names(tree: Any) -> bool:
    """Return True if no two leaves have the same name, such as those in {"a.b": 1, "a": {"b": 1}}."""
    names = list(_names_in(tree, ""))
    return len(names) == len(set(names))


def _names_in(tree: Any, prefix: str) -> Iterator[str]:
    if isinstance(tree, Moments):
        tree = tree._asdict()
    if isinstance(tree, dict | list | tuple):
        for key, child in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _names_in(child, f"{prefix}{key}.")
    elif tree is not None:
        yield prefix


def described(tree: Any) -> Any:
    """Return a tree with text for each leaf: its class, dtype, shape and bits."""
    if isinstance(tree, dict):
        return type(tree).__name__, [(key, described(child)) for key, child in tree.items()]
    if isinstance(tree, list | tuple):
        return type(tree).__name__, [described(child) for child in tree]
    if tree is None or isinstance(tree, bool | int | float):
        return type(tree).__name__, repr(tree)
    array = np.asarray(tree)
    return type(tree).__name__, array.dtype.name, array.shape, array.tobytes()


def leaves_in(tree: Any) -> Iterator[Any]:
    """Yield the arrays of a tree, in order."""
    if isinstance(tree, dict | list | tuple):
        for child in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves_in(child)
    elif hasattr(tree, "dtype"):
        yield tree


def ties_in(tree: Any) -> list[int]:
    """Return for each array of a tree the position of the first that is the same object. Empty ones share nothing."""
    found = [array for array in leaves_in(tree) if array.size]
    return [next(place for place, other in enumerate(found) if other is array) for array in found]

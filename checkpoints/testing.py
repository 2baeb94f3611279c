"""Helpers for tests: does a model survive a save and a load, in every format?

from statezoo.checkpoints.testing import assert_roundtrip

def test_my_model_survives_a_save_and_a_load():
    assert_roundtrip(MyModel())
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from . import files
from .errors import CheckpointError
from .files import open_header
from .formats import format_named, format_of, written_formats
from .models import adapter_of, load_model, state_of
from .state import dtypes, sharing
from .state import validation as state
from .storage import streams

# For each format. Nobody reads two thousand lines.
_MOST_LINES = 30
_METADATA = {"made by": "assert_roundtrip", "text": "a line\nand \u00fcn\u00efcode"}


def assert_roundtrip(model_or_state: Any, formats: Iterable[str] | None = None) -> None:
    """Raise AssertionError, with a line for each difference, if a model or state does not survive a save and a load.

    formats: names or suffixes; all formats that can be written if not given. For each format, this compares names and
    their order, dtypes, shapes, every bit, extra state, metadata, and which arrays share memory and how; the values
    that a load puts into a copy of the model; the bytes of a second save, and of a save of the loaded state; and the
    bytes that the stock reader of the format (safetensors, h5py) returns. The model or state is not changed. No test
    framework is needed.
    """
    import tempfile

    before = state_of(model_or_state)
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix in _suffixes(formats):
            path = os.path.join(folder, f"state{suffix}")
            found: list[str] = []
            try:
                found += _differences(dict(before), path)
                if before is not model_or_state:
                    found += _differences_in_model(model_or_state, path)
            except CheckpointError as error:
                found.append(str(error).replace("\n", "\n    "))
            problems += [f"in {suffix}: {problem}" for problem in found[:_MOST_LINES]]
            if len(found) > _MOST_LINES:
                problems.append(f"in {suffix}: and {len(found) - _MOST_LINES:,} more")
    if problems:
        what = "the state" if isinstance(model_or_state, Mapping) else type(model_or_state).__name__
        raise AssertionError("\n  ".join([f"{what} does not survive a save and a load:", *problems]))


def _suffixes(formats: Iterable[str] | None) -> list[str]:
    found = written_formats() if formats is None else map(format_named, formats)
    return [form.suffix for form in found]


def _differences(before: dict[str, Any], path: str) -> Iterator[str]:
    """Yield each difference after a save to `path` and a load without a model."""
    files.save_file(before, path, _METADATA)
    first = _bytes_of(path)
    after = files.load_file(path)
    yield from compare_states(before, after)
    if files.read_metadata(path) != _METADATA:
        yield "the metadata differs from what was saved"
    yield from _differences_to_stock_reader(after, path)
    again = os.path.join(os.path.dirname(path), f"again{os.path.splitext(path)[1]}")
    for what, saved in (("a second save", before), ("a save of the loaded state", after)):
        files.save_file(saved, again, _METADATA)
        if _bytes_of(again) != first:
            yield f"{what} writes other bytes"


def _differences_in_model(model: Any, path: str) -> Iterator[str]:
    """Yield each difference after `path` is loaded into a copy of the model whose values were overwritten."""
    from ..core.nn.module.loading import LoadResult

    try:
        twin = adapter_of(model).copy(model)
    except Exception as error:  # of the framework, or of the user's class
        first = str(error).partition("\n")[0]
        yield f"a copy of the model cannot be made, to load into: {first} Pass its state_dict() instead."
        return
    arrays = [array for array in state_of(twin).values() if isinstance(array, np.ndarray)]
    wiped = [np.zeros((), array.dtype) if array.any() else np.ones((), array.dtype) for array in arrays]
    for array, value in zip(arrays, wiped, strict=True):
        if array.flags.writeable:
            array[...] = value
    loaded = load_model(twin, path)
    for problem in compare_states(state_of(model), state_of(twin if isinstance(loaded, LoadResult) else loaded)):
        yield f"loaded into a copy of the model: {problem}"


def compare_states(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each name that differs between two states in anything that a file keeps."""
    if list(before) != list(after):
        yield _compare_names(list(before), list(after))
        return
    arrays, extra, names = state.checked_state(before)
    new_arrays, new_extra, _ = state.checked_state(after)
    for name in extra:
        if name not in new_extra or extra[name] != new_extra[name]:
            yield f"{name!r}: the extra state was {extra[name]!r}, now {after[name]!r}"
    if arrays.keys() != new_arrays.keys():
        return
    for name, array in arrays.items():
        pair = np.asarray(array), np.asarray(new_arrays[name])
        yield from (f"{name!r}: {what}" for what in _compare_arrays(name, *pair))
    old, new = sharing.pack(arrays, {}, names), sharing.pack(new_arrays, {}, names)
    for name in arrays:
        relations = [_relation(packed, name) for packed in (old, new)]
        if relations[0] != relations[1]:
            yield f"{name!r}: {relations[0]} before, {relations[1]} after"


def _compare_names(before: list[str], after: list[str]) -> str:
    lost, new = [name for name in before if name not in after], [name for name in after if name not in before]
    if lost or new:
        return f"names lost: {lost[:10]}; names added: {new[:10]}"
    place = next(place for place, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1])
    return f"the order of names changed: number {place} was {before[place]!r}, now {after[place]!r}"


def _compare_arrays(name: str, before: np.ndarray, after: np.ndarray) -> Iterator[str]:
    kinds = [(dtypes.name_of(array.dtype, name), array.shape) for array in (before, after)]
    if kinds[0] != kinds[1]:
        yield f"was {kinds[0][0]} {kinds[0][1]}, now {kinds[1][0]} {kinds[1][1]}"
        return
    memories = [np.frombuffer(streams.memory_of(array), np.uint8) for array in (before, after)]
    rows = [memory.reshape(before.size, before.itemsize) for memory in memories]
    differing = np.flatnonzero((rows[0] != rows[1]).any(axis=1))
    if differing.size:
        where = tuple(map(int, np.unravel_index(differing[0], before.shape)))
        change = f"{before[where]}, now {after[where]}"
        yield f"{differing.size:,} of {before.size:,} values differ, the first at {where}: {change}"


def _relation(packed: sharing.Packed, name: str) -> str:
    alias = packed.aliases.get(name)
    if alias is None:
        return f"its own memory{f' in axis order {packed.layouts[name]}' if name in packed.layouts else ''}"
    return f"tied to {alias.kept!r}" if alias.view is None else f"a view of {alias.kept!r} ({alias.view})"


def _differences_to_stock_reader(after: dict[str, Any], path: str) -> Iterator[str]:
    """Yield a line for each name whose bytes the stock reader of the format does not return. Views are left out."""
    seen = format_of(path).writing_codec.read_as_stock(path)
    with open_header(path) as header:
        expected = [name for name in header.tensors if name in after]
    for name in expected:
        if seen.get(name) != streams.memory_of(after[name]).tobytes():
            yield f"{name!r}: the stock reader of the format returns other bytes"


def _bytes_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()

"""The plan of a load: everything that does not fit is found, and said in one error, before anything changes.

First each name is looked up and its value compared with the array in the model: shape, dtype, whether it can be written
to. Then the values of arrays that share memory are compared with each other. What is left is a list of copies, which
cannot fail.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...autograd.memory import is_floating, overlapping, zeros_sharing
from ...errors import ArgumentError, MismatchError

if TYPE_CHECKING:
    from .module import Module

# To look for a similar name takes time for each pair of names, and nobody reads more hints than these.
_MOST_HINTS = 50

_REBUILD = "Build the model as it was when the state was saved, or pass strict=False to load the rest."
_CAST = "Pass cast=True to convert to the model's dtypes."
_CONVERT = "Convert the values themselves: no cast keeps what they mean."
_UNTIE = "Give the names that share memory equal values, or build the model without that sharing."
_UNLOCK = "Load into copy.deepcopy(model), whose arrays can be written to."
_EXTRA = "Look at set_extra_state() of that module."


class LoadResult(NamedTuple):
    """The names that only the model, or only the state, has; with strict=False also those whose shapes differ."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def plan_load(
    model: Module,
    state: Mapping[str, Any],
    strict: bool = True,
    cast: bool = False,
    source: str = "the state",
    place: str = "the state",
) -> LoadPlan:
    """Return a plan whose `apply()` copies the values of state into the model's own arrays.

    state: by name, whatever numpy.asarray takes. strict=False leaves out names that only one side has and values whose
    shape differs. cast=True converts between floats, between integers and from integers to floats, as long as every
    integer stays the same and every finite float finite.
    source, place: what an error calls the state at its start and within: "run7.h5", "the file".
    Raises MismatchError with every problem there is; nothing has changed then.
    """
    if not isinstance(state, Mapping):
        raise ArgumentError(f"a state is a dict of arrays by name, not {type(state).__name__}.")
    plan = LoadPlan(model, strict, cast, source, place)
    plan._match(state)
    plan._find_conflicts()
    plan._refuse_problems()
    plan._separate_from_model()
    return plan


class LoadPlan:
    """What `apply()` will do; made by plan_load. missing_keys, unexpected_keys: what LoadResult has."""

    def __init__(self, model: Module, strict: bool, cast: bool, source: str, place: str) -> None:
        self.missing_keys: list[str] = []
        self.unexpected_keys: list[str] = []
        self._model, self._strict, self._cast, self._source, self._place = model, strict, cast, source, place
        self._copies: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # name -> (array of the model, its new values)
        self._extra: dict[str, tuple[Module, Any]] = {}
        self._problems: dict[str, tuple[str, str]] = {}  # name -> (what is wrong, advice)
        self._position: dict[str, int] = {}  # of each name in the model

    def apply(self) -> LoadResult:
        """Return (missing_keys, unexpected_keys), after changing the model."""
        # First what may fail: code of the user's.
        self._set_extra_state()
        for target, values in self._copies.values():
            target[...] = values
        return LoadResult(self.missing_keys, self.unexpected_keys)

    # --- one name at a time

    def _match(self, state: Mapping[str, Any]) -> None:
        known = {}
        for path, module in self._model._tree(distinct=False):
            dot = f"{path}." if path else ""
            known.update((dot + name, tensor.data) for name, tensor in module._own_state())
            if module._has_extra_state():
                known[f"{dot}_extra_state"] = module
        for name, target in known.items():
            if name not in state:
                self.missing_keys.append(name)
            elif isinstance(target, np.ndarray):
                self._compare(name, target, state[name])
            else:
                self._extra[name] = (target, state[name])
        self.unexpected_keys += [name for name in state if name not in known]
        if self._strict:
            self._blame_names()
        self._position = {name: position for position, name in enumerate(known)}

    def _compare(self, name: str, target: np.ndarray, value: Any) -> None:
        try:
            values = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:
            self._problems[name] = (f"cannot be read as an array: {error}", _CONVERT)
            return
        if values.shape != target.shape:
            self._blame_shape(name, values, target)
        elif not target.flags.writeable:
            self._problems[name] = ("is read-only in the model", _UNLOCK)
        elif _native(values.dtype) == _native(target.dtype):
            self._copies[name] = (target, values)
        elif not _castable(values.dtype, target.dtype):
            self._blame_dtype(name, values, target, _CONVERT)
        elif not self._cast:
            self._blame_dtype(name, values, target, _CAST)
        elif (converted := _convert(values, target.dtype)) is None:
            self._problems[name] = (f"has values in {self._place} that do not fit {target.dtype}", _CONVERT)
        else:
            self._copies[name] = (target, converted)

    def _blame_shape(self, name: str, values: np.ndarray, target: np.ndarray) -> None:
        if self._strict:
            text = f"is {values.shape} in {self._place}, {target.shape} in the model"
            self._problems[name] = (text, _REBUILD)
        else:
            self.missing_keys.append(name)
            self.unexpected_keys.append(name)

    def _blame_dtype(self, name: str, values: np.ndarray, target: np.ndarray, advice: str) -> None:
        self._problems[name] = (f"is {values.dtype} in {self._place}, {target.dtype} in the model", advice)

    def _blame_names(self) -> None:
        for name in self.missing_keys:
            self._problems[name] = (f"is missing from {self._place}", _REBUILD)
        for position, name in enumerate(self.unexpected_keys):
            near = _nearest(str(name), self.missing_keys) if position < _MOST_HINTS else None
            hint = f"; did you mean {near}?" if near else ""
            self._problems[name] = (f"is not in the model{hint}", _REBUILD)

    # --- names that share memory

    def _find_conflicts(self) -> None:
        """Note the names whose values would be overwritten by those of another, as they share memory."""
        names = list(self._copies)
        targets = [target for target, _ in self._copies.values()]
        for group in overlapping(targets):
            if len(group) == 1 and 0 not in targets[group[0]].strides:
                continue
            trial = zeros_sharing([targets[position] for position in group])
            for array, position in zip(trial, group, strict=True):
                array[...] = self._copies[names[position]][1]
            for array, position in zip(trial, group, strict=True):
                values = self._copies[names[position]][1]
                if array.tobytes() != values.astype(array.dtype, copy=False).tobytes():
                    others = (names[other] for other in group if other != position)
                    self._blame_tie(names[position], others)

    def _blame_tie(self, name: str, others: Iterable[str]) -> None:
        mine = self._copies[name][0]
        tied = [other for other in others if np.shares_memory(mine, self._copies[other][0])]
        what = f"shares memory with {', '.join(tied)}" if tied else "repeats elements"
        self._problems[name] = (f"{what} in the model, but {self._place} has different values for them", _UNTIE)

    def _separate_from_model(self) -> None:
        """Copy the values that lie in the model's own memory, where the first copies would overwrite them."""
        names = list(self._copies)
        arrays = [array for pair in self._copies.values() for array in pair]  # target, values, target, values, ...
        for group in overlapping(arrays):
            if any(position % 2 == 0 for position in group):
                for position in group:
                    if position % 2:
                        target, values = self._copies[names[position // 2]]
                        self._copies[names[position // 2]] = (target, values.copy())

    # --- the rest

    def _refuse_problems(self) -> None:
        """Raise MismatchError if there are problems."""
        if not self._problems:
            return
        # In the order of the model's names; those it does not have come last, in the order of the state.
        ordered = sorted(self._problems, key=lambda name: self._position.get(name, len(self._position)))
        width = max(len(str(name)) for name in ordered)
        lines = [f"{name!s:{width}}  {self._problems[name][0]}" for name in ordered]
        advice = dict.fromkeys(advice for _, advice in self._problems.values())
        raise MismatchError(type(self._model).__name__, lines, "\n".join(advice), self._source)

    def _set_extra_state(self) -> None:
        """Call set_extra_state of every module that has one; if one raises, restore all."""
        before = [(module, copy.deepcopy(module.get_extra_state())) for module, _ in self._extra.values()]
        for position, (name, (module, value)) in enumerate(self._extra.items()):
            try:
                module.set_extra_state(value)
            except Exception as error:
                for changed, old in before[: position + 1]:
                    # One that takes nothing back must not keep the others from it.
                    with contextlib.suppress(Exception):
                        changed.set_extra_state(old)
                what = f"was refused by {type(module).__name__}.set_extra_state(): {type(error).__name__}: {error}"
                raise MismatchError(type(self._model).__name__, [f"{name}  {what}"], _EXTRA, self._source) from error


def _nearest(name: str, known: list[str]) -> str | None:
    from difflib import get_close_matches  # only errors need it

    return next(iter(get_close_matches(name, known, n=1)), None)


def _native(dtype: np.dtype) -> np.dtype:
    return dtype.newbyteorder("=")


def _castable(old: np.dtype, new: np.dtype) -> bool:
    """Whether a conversion keeps the kind of value: floats to floats, integers to integers or floats."""
    return (is_floating(old) or old.kind in "iu") and (is_floating(new) or (old.kind in "iu" and new.kind in "iu"))


def _convert(values: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
    """Return values in dtype, or None if an integer would change or a finite float would not be finite."""
    with np.errstate(all="ignore"):
        converted = values.astype(dtype)
    if dtype.kind in "iu":
        return converted if np.array_equal(converted, values) else None
    return converted if np.array_equal(np.isfinite(converted), np.isfinite(values)) else None

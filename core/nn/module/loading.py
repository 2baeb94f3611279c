"""The plan of a load: one error lists everything that does not fit, before anything changes.

First each value is compared with the array of its name in the model: shape, dtype, whether it is writable. Then the
values of arrays that share memory are compared with each other. What remains is a list of copies that cannot fail.
An interrupt comes before all of them or after all of them: see commit/steps.py.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...autograd.dtypes import is_floating
from ...autograd.memory import overlapping, zeros_sharing
from ...commit.commit import Commit
from ...errors import ArgumentError, StateDictError
from . import hints

if TYPE_CHECKING:
    from .module import Module

Shape = tuple[int, ...]
Mismatch = tuple[str, Shape, Shape]  # name, shape in the state, shape in the model

_REBUILD = "Build the model as it was when the state was saved"
_REST = f"{_REBUILD}, or pass strict=False to load the rest."
_RENAME = "Load the state of this model, or rename its keys to the model's names."
_CAST = "Pass cast=True to convert to the model's dtypes."
_CONVERT = "Convert the values yourself: no cast preserves their meaning."
_UNTIE = "Give the names that share memory equal values, or build the model without that sharing."
_UNLOCK = "Load into copy.deepcopy(model), whose arrays are writable."
_EXTRA = "Check set_extra_state() of that module."


class _Keys(NamedTuple):
    missing_keys: list[str]
    unexpected_keys: list[str]


class LoadResult(_Keys):
    """The names that were not loaded: (missing_keys, unexpected_keys), as in torch.

    mismatched_keys: (name, shape in the state, shape in the model) for each value of another shape. With strict=False
    such a name is in all three lists: the model did not get a value for it, and the state's value was not used.
    """

    mismatched_keys: list[Mismatch]

    def __new__(cls, missing: list[str], unexpected: list[str], mismatched: list[Mismatch]) -> LoadResult:
        result = super().__new__(cls, missing, unexpected)
        result.mismatched_keys = mismatched
        return result

    def __getnewargs__(self) -> Any:
        return (*self, self.mismatched_keys)

    def __repr__(self) -> str:
        fields = ("missing_keys", "unexpected_keys", "mismatched_keys")
        return f"LoadResult({', '.join(f'{name}={getattr(self, name)!r}' for name in fields)})"


def plan_load(
    model: Module,
    state: Mapping[str, Any],
    strict: bool = True,
    cast: bool = False,
    source: str = "the state",
    place: str = "the state",
    without_prefix: Callable[[str], str] = hints.load_without_prefix,
) -> LoadPlan:
    """Return a plan whose `apply()` copies the values of state into the model's own arrays.

    state: values by name, of any type that numpy.asarray takes. strict=False skips names that only one side has and
    values of another shape. cast=True converts between floats, between integers, and from integers to floats, if every
    integer keeps its value and every finite float stays finite. As in torch, a number in the model takes an array of
    shape (1,), and a module's `_may_be_absent` names may be missing.
    source, place: how an error refers to the state in its first line and in the others: "run7.h5", "the file".
    without_prefix: returns the code that an error suggests for loading the state without a prefix of its names.
    Raises StateDictError listing every problem, or if nothing matches; nothing has changed in that case.
    """
    if not isinstance(state, Mapping):
        raise ArgumentError(f"a state is a dict of arrays by name, not {type(state).__name__}.")
    plan = LoadPlan(model, strict, cast, source, place, without_prefix)
    plan._match(state)
    plan._find_conflicts()
    plan._refuse_problems()
    plan._separate_from_model()
    return plan


class LoadPlan:
    """The copies that `apply()` will make. missing_keys, unexpected_keys, mismatched_keys: as in LoadResult."""

    def __init__(
        self,
        model: Module,
        strict: bool,
        cast: bool,
        source: str,
        place: str,
        without_prefix: Callable[[str], str],
    ) -> None:
        self.missing_keys: list[str] = []
        self.unexpected_keys: list[str] = []
        self.mismatched_keys: list[Mismatch] = []
        self._model, self._strict, self._cast, self._source, self._place = model, strict, cast, source, place
        self._without_prefix = without_prefix
        self._copies: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # name -> (array of the model, its new values)
        self._extra: dict[str, tuple[Module, Any]] = {}
        self._problems: dict[str, tuple[str, str]] = {}  # name -> (what is wrong, advice)
        self._position: dict[str, int] = {}  # of each name in the model

    def apply(self) -> LoadResult:
        """Load into the model and return the names that are not loaded. If anything is raised, nothing has changed."""
        commit = Commit()
        self.add_to(commit)
        commit.apply()
        return self.result

    def add_to(self, commit: Commit) -> None:
        """Add the changes to a commit, which may make others with them."""
        if self._extra:
            # A set_extra_state changes its own module, so the undo needs no copy of the others.
            own = {id(module) for module, _ in self._extra.values()}
            commit.leave_out(module for _, module in self._model._tree() if id(module) not in own)
        for name, (module, value) in self._extra.items():
            before = copy.deepcopy(module.get_extra_state())
            commit.call(
                functools.partial(self._set_extra_state, name, module, value),
                keep=[module],
                revert=functools.partial(module.set_extra_state, before),
            )
        for target, values in self._copies.values():
            commit.write(target, values)

    @property
    def result(self) -> LoadResult:
        """The names that are not loaded."""
        return LoadResult(self.missing_keys, self.unexpected_keys, self.mismatched_keys)

    # --- one name at a time

    def _match(self, state: Mapping[str, Any]) -> None:
        known, optional = self._known()
        for name, target in known.items():
            if name not in state:
                self.missing_keys += [] if name in optional else [name]
            elif isinstance(target, np.ndarray):
                self._compare(name, target, state[name])
            else:
                self._extra[name] = (target, state[name])
        self.unexpected_keys += [name for name in state if name not in known]
        self._position = {name: position for position, name in enumerate(known)}
        matches = bool(self._copies or self._extra)
        if self._strict:
            self._blame_names(state, known, _REST if matches else f"{_REBUILD}.")
        elif known and not matches and not self._problems:
            self._blame_all(state, known)

    def _known(self) -> tuple[dict[str, Any], set[str]]:
        """Return the model's arrays and its modules with extra state, by name, and the names that may be absent."""
        known, optional = {}, set()
        for path, module in self._model._tree(distinct=False):
            dot = f"{path}." if path else ""
            known.update((dot + name, tensor.data) for name, tensor in module._own_state())
            if module._has_extra_state():
                known[f"{dot}_extra_state"] = module
            optional.update(dot + name for name in module._may_be_absent)
        return known, optional

    def _compare(self, name: str, target: np.ndarray, value: Any) -> None:
        try:
            values = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:
            self._problems[name] = (f"cannot be read as an array: {error}", _CONVERT)
            return
        if values.shape == (1,) and target.shape == ():
            values = values.reshape(())  # early versions of torch saved numbers like this
        if values.shape != target.shape:
            self._blame_shape(name, values, target)
        elif not target.flags.writeable:
            self._problems[name] = ("is read-only in the model", _UNLOCK)
        elif values.dtype == target.dtype:
            self._copies[name] = (target, values)
        elif _native(values.dtype) == _native(target.dtype):
            self._copies[name] = (target, values.astype(target.dtype))
        elif not _castable(values.dtype, target.dtype):
            self._blame_dtype(name, values, target, _CONVERT)
        elif not self._cast:
            self._blame_dtype(name, values, target, _CAST)
        elif (converted := _convert(values, target.dtype)) is None:
            self._problems[name] = (f"has values in {self._place} that do not fit {target.dtype}", _CONVERT)
        else:
            self._copies[name] = (target, converted)

    def _blame_shape(self, name: str, values: np.ndarray, target: np.ndarray) -> None:
        self.mismatched_keys.append((name, values.shape, target.shape))
        if not self._strict:
            self.missing_keys.append(name)
            self.unexpected_keys.append(name)

    def _blame_dtype(self, name: str, values: np.ndarray, target: np.ndarray, advice: str) -> None:
        self._problems[name] = (f"is {values.dtype} in {self._place}, {target.dtype} in the model", advice)

    def _blame_names(self, state: Mapping[str, Any], known: dict[str, Any], advice: str) -> None:
        """Note the names that only one side has, and the shapes that differ, as problems."""
        self._blame_shapes(advice)
        advice = self._prefix_advice() or advice
        for name in self.missing_keys:
            self._problems[name] = (f"is missing from {self._place}", advice)
        unexpected = {name: getattr(state[name], "shape", None) for name in self.unexpected_keys}
        missing = {name: getattr(known[name], "shape", None) for name in self.missing_keys}
        for name, near in hints.similar_names(unexpected, missing):
            self._problems[name] = (f"is not in the model{f'; did you mean {near}?' if near else ''}", advice)

    def _blame_shapes(self, advice: str) -> None:
        for name, theirs, ours in self.mismatched_keys:
            self._problems[name] = (f"is {theirs} in {self._place}, {ours} in the model", advice)

    def _blame_all(self, state: Mapping[str, Any], known: dict[str, Any]) -> None:
        """Note why strict=False would load nothing."""
        self._blame_shapes(f"{_REBUILD}.")
        if not self.mismatched_keys:
            found = f"{self._place} has {hints.some(state)}; the model has {hints.some(known)}"
            self._problems["no name matches"] = (found, self._prefix_advice() or _RENAME)

    def _prefix_advice(self) -> str | None:
        return hints.prefix_advice(self.unexpected_keys, self.missing_keys, self._place, self._without_prefix)

    # --- shared memory

    def _find_conflicts(self) -> None:
        """Note the names whose values would be overwritten because another name shares their memory."""
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
        """Copy values that are in the model's own memory, where earlier copies would overwrite them."""
        names = list(self._copies)
        arrays = [array for pair in self._copies.values() for array in pair]  # target, values, target, values, ...
        for group in overlapping(arrays):
            if any(position % 2 == 0 for position in group):
                for position in group:
                    if position % 2:
                        target, values = self._copies[names[position // 2]]
                        self._copies[names[position // 2]] = (target, values.copy())

    # --- errors and extra state

    def _refuse_problems(self) -> None:
        """Raise StateDictError if there are problems."""
        if not self._problems:
            return
        # In the order of the model's names, then of the state's.
        ordered = sorted(self._problems, key=lambda name: self._position.get(name, len(self._position)))
        width = max(len(str(name)) for name in ordered)
        lines = [f"{name!s:{width}}  {self._problems[name][0]}" for name in ordered]
        advice = dict.fromkeys(self._problems[name][1] for name in ordered)
        raise StateDictError(type(self._model).__name__, lines, "\n".join(advice), self._source)

    def _set_extra_state(self, name: str, module: Module, value: Any) -> None:
        try:
            module.set_extra_state(value)
        except Exception as error:
            what = f"was refused by {type(module).__name__}.set_extra_state(): {type(error).__name__}: {error}"
            raise StateDictError(type(self._model).__name__, [f"{name}  {what}"], _EXTRA, self._source) from error


def _native(dtype: np.dtype) -> np.dtype:
    return dtype.newbyteorder("=")


def _castable(old: np.dtype, new: np.dtype) -> bool:
    """Return True if a conversion keeps the kind of value: floats to floats, integers to integers or floats."""
    return (is_floating(old) or old.kind in "iu") and (is_floating(new) or (old.kind in "iu" and new.kind in "iu"))


def _convert(values: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
    """Return the values in dtype, or None if an integer would change or a finite float would become infinite."""
    with np.errstate(all="ignore"):
        converted = values.astype(dtype)
    if dtype.kind in "iu":
        return converted if np.array_equal(converted, values) else None
    return converted if np.array_equal(np.isfinite(converted), np.isfinite(values)) else None

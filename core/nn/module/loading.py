"""The plan of a load: one error lists everything that does not fit, before anything changes.

First each value is compared with the array of its name in the model: shape, dtype, whether it is writable. Then the
values of arrays that share memory are compared with each other. What remains are values that fit. The plan knows no
class of models: targets.py says what a Module has, and how the values are put into it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...arrays.memory import byte_bounds, is_dense, overlapping, zeros_sharing
from ...autograd.dtypes import is_floating
from ...errors import ArgumentError, StateDictError
from . import hints

Shape = tuple[int, ...]
Mismatch = tuple[str, Shape, Shape]  # name, shape in the state, shape in the model

_REBUILD = "Build the model as it was when the state was saved"
_REST = f"{_REBUILD}, or pass strict=False to load the rest."
_RENAME = "Load the state of this model, or rename its keys to the model's names."
_CAST = "Pass cast=True to convert to the model's dtypes."
_CONVERT = "Convert the values yourself: no cast preserves their meaning."
_UNTIE = "Give the names that share memory equal values, or build the model without that sharing."
_HOOKS = "Check the hooks of load_state_dict()."
_UNLOCK = "Load into copy.deepcopy(model), whose arrays are writable."


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
        if not any((*self, self.mismatched_keys)):
            return "<All keys matched successfully>"  # as in torch
        fields = ("missing_keys", "unexpected_keys", "mismatched_keys")
        return f"LoadResult({', '.join(f'{name}={getattr(self, name)!r}' for name in fields)})"


class Targets(NamedTuple):
    """What a state is loaded into.

    kind: the name of the model's class. known: by name, in order, an array for each array and anything else for each
    extra state. may_be_absent: names that a state may lack. in_place: whether the load writes into these arrays.
    apart: how names start that a state may have besides, such as those of an optimizer. assign: whether the values
    replace these arrays, with dtypes of their own. tied_once: whether one of several names for one memory is enough.
    """

    kind: str
    known: Mapping[str, Any]
    may_be_absent: Collection[str] = ()
    in_place: bool = True
    apart: tuple[str, ...] = ()
    assign: bool = False
    tied_once: bool = False


def plan_load(
    targets: Targets,
    state: Mapping[str, Any],
    strict: bool = True,
    cast: bool = False,
    source: str = "the state",
    place: str = "the state",
    without_prefix: Callable[[str], str] = hints.load_without_prefix,
) -> LoadPlan:
    """Compare a state with a model, and return the values that fit. Nothing changes.

    state: values by name, of any type that numpy.asarray takes. strict=False skips names that only one side has and
    values of another shape. cast=True converts between floats, between integers, and from integers to floats, if every
    integer keeps its value and every finite float stays finite. As in torch, a number in the model takes an array of
    shape (1,).
    source, place: how an error refers to the state in its first line and in the others: "run7.h5", "the file".
    without_prefix: returns the code that an error suggests for loading the state without a prefix of its names.
    Raises StateDictError listing every problem, or if nothing matches.
    """
    plan = LoadPlan(targets, strict, cast, source, place, without_prefix)
    plan._match(state)
    plan.finish(state)
    plan._separate_from_model()
    return plan


class LoadPlan:
    """The values for a model. missing_keys, unexpected_keys, mismatched_keys: as in LoadResult."""

    def __init__(
        self,
        targets: Targets,
        strict: bool,
        cast: bool,
        source: str = "the state",
        place: str = "the state",
        without_prefix: Callable[[str], str] = hints.load_without_prefix,
    ) -> None:
        self.missing_keys: list[str] = []
        self.unexpected_keys: list[str] = []
        self.mismatched_keys: list[Mismatch] = []
        self.targets, self._strict, self._cast, self._source, self._place = targets, strict, cast, source, place
        self._without_prefix = without_prefix
        self._known: dict[str, Any] = {}  # the targets by name
        self._copies: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # name -> (array of the model, its new values)
        self._extra: dict[str, Any] = {}
        self._problems: dict[str, tuple[str, str]] = {}  # name -> (what is wrong, advice)
        self._position: dict[str, int] = {}  # of each name in the model
        self._conversions: dict[tuple[int, np.dtype], tuple[np.ndarray, np.ndarray | None]] = {}

    @property
    def values(self) -> dict[str, Any]:
        """The new values by name: extra state, and arrays with the dtype and shape that they have in the model."""
        return self._extra | self.arrays(self._copies)

    def arrays(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Return the new values of those of the names that get an array."""
        return {name: self._copies[name][1] for name in names if name in self._copies}

    @property
    def result(self) -> LoadResult:
        """The names that are not loaded."""
        return LoadResult(self.missing_keys, self.unexpected_keys, self.mismatched_keys)

    # --- one name at a time

    def _match(self, state: Mapping[str, Any]) -> None:
        require_mapping(state)
        known = self.targets.known
        absent = [name for name in self.take(known, state) if name not in self.targets.may_be_absent]
        missing = {*self.missing_keys, *(self._without_tied(absent) if self.targets.tied_once else absent)}
        self.missing_keys = [name for name in known if name in missing]
        apart = self.targets.apart
        self.unexpected_keys += [name for name in state if name not in known and not name.startswith(apart)]

    def take(self, known: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
        """Compare the values of known names, and return the names that the state lacks."""
        self._known.update(known)
        for name, target in known.items():
            if name in state and isinstance(target, np.ndarray):
                self._compare(name, target, state[name])
            elif name in state:
                self._extra[name] = state[name]
        return [name for name in known if name not in state]

    def _without_tied(self, absent: list[str]) -> list[str]:
        """Return the absent names whose memory no loaded name has."""
        loaded = {byte_bounds(target) for target, _ in self._copies.values() if target.size and is_dense(target)}
        targets = {name: self._known[name] for name in absent}
        whole = {name: byte_bounds(t) for name, t in targets.items() if isinstance(t, np.ndarray) and is_dense(t)}
        return [name for name in absent if whole.get(name) not in loaded]

    def finish(self, state: Mapping[str, Any], messages: Iterable[str] = ()) -> None:
        """Raise StateDictError listing every problem, and the messages of hooks, if there are any."""
        self._position = {name: position for position, name in enumerate(self._known)}
        self._problems |= {f"hook {at}": (message, _HOOKS) for at, message in enumerate(messages)}
        matches = bool(self._copies or self._extra)
        if self._strict:
            self._blame_names(state, self._known, _REST if matches else f"{_REBUILD}.")
        elif self._known and not matches and not self._problems:
            self._blame_all(state, self._known)
        self._find_conflicts()
        self._refuse_problems()

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
        elif self.targets.in_place and not self.targets.assign and not target.flags.writeable:
            self._problems[name] = ("is read-only in the model", _UNLOCK)
        elif values.dtype == target.dtype or (
            self.targets.assign and is_floating(values.dtype) == is_floating(target.dtype)
        ):
            self._copies[name] = (target, values)
        elif _native(values.dtype) == _native(target.dtype):
            self._copies[name] = (target, values.astype(target.dtype))
        elif not _castable(values.dtype, target.dtype):
            self._blame_dtype(name, values, target, _CONVERT)
        elif not self._cast:
            self._blame_dtype(name, values, target, _CAST)
        elif (converted := self._converted(values, target.dtype)) is None:
            self._problems[name] = (f"has values in {self._place} that do not fit {target.dtype}", _CONVERT)
        else:
            self._copies[name] = (target, converted)

    def _converted(self, values: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
        """Return what _convert returns. An array with several names is converted once, so that it stays one."""
        key = id(values), dtype
        if key not in self._conversions:
            self._conversions[key] = values, _convert(values, dtype)
        return self._conversions[key][1]

    def _blame_shape(self, name: str, values: np.ndarray, target: np.ndarray) -> None:
        self.mismatched_keys.append((name, values.shape, target.shape))
        if not self._strict:
            self.missing_keys.append(name)
            self.unexpected_keys.append(name)

    def _blame_dtype(self, name: str, values: np.ndarray, target: np.ndarray, advice: str) -> None:
        self._problems[name] = (f"is {values.dtype} in {self._place}, {target.dtype} in the model", advice)

    def _blame_names(self, state: Mapping[str, Any], known: Mapping[str, Any], advice: str) -> None:
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

    def _blame_all(self, state: Mapping[str, Any], known: Mapping[str, Any]) -> None:
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
        targets = {name: target for name, (target, _) in self._copies.items()}
        values = separated({name: values for name, (_, values) in self._copies.items()}, list(targets.values()))
        self._copies = {name: (target, values[name]) for name, target in targets.items()}

    # --- errors

    def _refuse_problems(self) -> None:
        """Raise StateDictError if there are problems."""
        if not self._problems:
            return
        # In the order of the model's names, then of the state's.
        ordered = sorted(self._problems, key=lambda name: self._position.get(name, len(self._position)))
        width = max(len(str(name)) for name in ordered)
        lines = [f"{name!s:{width}}  {self._problems[name][0]}" for name in ordered]
        advice = dict.fromkeys(self._problems[name][1] for name in ordered)
        raise StateDictError(self.targets.kind, lines, "\n".join(advice), self._source)


def require_mapping(state: Any) -> None:
    """Raise ArgumentError if a state is no dict."""
    if not isinstance(state, Mapping):
        raise ArgumentError(f"a state is a dict of arrays by name, not {type(state).__name__}.")


def separated(values: dict[str, Any], targets: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return the values, with copies of the arrays among them that share memory with targets."""
    arrays = {name: np.asarray(value) for name, value in values.items() if hasattr(value, "__array__")}
    names, everything = list(arrays), [*arrays.values(), *targets]
    for group in overlapping(everything):
        if group[-1] >= len(names):
            values = values | {names[at]: everything[at].copy() for at in group if at < len(names)}
    return values


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

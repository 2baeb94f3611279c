"""PackedState: the state of several parameters end to end in one array, so that one NumPy call serves them all.

`optimizer.state` holds views of it, one set for each parameter. If the views are replaced (as `load_state_dict` does),
if other parameters have a gradient or if a dtype changes, the state is packed again.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..arrays.silence import silently
from ..autograd.arrays import shown
from ..autograd.tensor import Tensor
from .optimizer import NUMBERS, Optimizer, as_number
from .param_groups import Params

State = dict[Any, dict[str, Any]]
# The most elements in one PackedState, unless a single parameter has more. Fewer elements take more calls; with more,
# the four arrays in use (2 MB of float32) no longer fit the cache of a core.
_MOST_ELEMENTS = 1 << 17


class PackedState:
    """The state of parameters that are stepped together: all of one dtype, with the same numbers, such as steps.

    kept: the arrays by name: (elements,), or (parameters,) float32 for numbers, which are the same in each.
    gradient, scratch: (elements,). They hold nothing between steps.
    """

    def __init__(self, parameters: list[Tensor], state: State, room: np.ndarray, keeps: Mapping[str, float]) -> None:
        self.parameters, self.dtype = parameters, parameters[0].dtype
        ends = np.cumsum([parameter._data.size for parameter in parameters])
        self.kept: dict[str, np.ndarray] = {
            name: np.full(len(parameters), start, np.float32)  # the dtype that torch uses
            if name in NUMBERS
            else np.full(ends[-1], start, self.dtype)
            for name, start in keeps.items()
        }
        self.gradient, self.scratch = room[:, : ends[-1]]
        self._views: list[list[Any]] = []
        self._passing: list[tuple[np.ndarray, np.ndarray]] = []
        for i, (parameter, end) in enumerate(zip(parameters, ends, strict=True)):
            shape, part = parameter.shape, slice(end - parameter._data.size, end)
            views = {
                name: shown(array[i : i + 1].reshape(()) if name in NUMBERS else array[part].reshape(shape))
                for name, array in self.kept.items()
            }
            for name in state.get(parameter, {}).keys() & views.keys():
                views[name][...] = state[parameter][name]
            state[parameter] = dict(views)
            self._views.append([*views.values()])
            self._passing.append((self.gradient[part].reshape(shape), self.scratch[part].reshape(shape)))

    def __getitem__(self, name: str) -> Any:
        """Return a number, or an array, 16-bit floats as float32."""
        array = self.kept[name]
        return float(array[0]) if name in NUMBERS else self.widened(array)

    def put(self, name: str, values: Any) -> Any:
        """Replace a number or an array. Return what is kept of it: 16-bit floats round, as in torch."""
        self.kept[name][...] = values
        return self[name]

    def root(self, square: np.ndarray, eps: float) -> np.ndarray:
        """Return sqrt(square) + eps, rounded as in torch: eps may become 0 in float16."""
        rounded = np.sqrt(square).astype(self.dtype, copy=False)
        rounded += eps
        return self.widened(rounded)

    def widened(self, array: np.ndarray) -> np.ndarray:
        """Return 16-bit floats as float32, and all others as they are."""
        return array.astype(np.float32) if self.dtype.itemsize <= 2 else array

    def is_current(self, state: State, keeps: Mapping[str, float]) -> bool:
        """Return True if state still holds the views and the parameters still share one dtype and the same numbers."""
        if keeps.keys() != self.kept.keys():
            return False
        for name in keeps.keys() & NUMBERS:
            numbers = self.kept[name].tolist()  # a user may have written to a view
            if numbers.count(numbers[0]) != len(numbers):
                return False
        for parameter, views in zip(self.parameters, self._views, strict=True):
            held = state.get(parameter)
            if (
                not held
                or len(held) != len(views)
                or not all(map(operator.is_, held.values(), views))
                or parameter._data.dtype != self.dtype
            ):
                return False
        return True

    def gather(self, weight_decay: float, maximize: bool) -> None:
        """Write the gradients, negated to maximize, to `gradient`, plus weight_decay times the parameters."""
        decay = as_number(weight_decay, self.dtype)
        for parameter, (gradient, scratch) in zip(self.parameters, self._passing, strict=True):
            given: Any = parameter._grad
            if maximize:
                given = np.negative(given, gradient)
            if weight_decay:
                np.multiply(parameter._data, decay, scratch)
                np.add(given, scratch, gradient)
            elif not maximize:
                gradient[...] = given

    def subtract(self, weight_decay: float) -> None:
        """Subtract from each parameter weight_decay times itself, then its part of `scratch`."""
        if weight_decay:
            keep = as_number(1 - weight_decay, self.dtype)
            for parameter in self.parameters:
                np.multiply(parameter._data, keep, parameter._data)
        for parameter, (_, scratch) in zip(self.parameters, self._passing, strict=True):
            np.subtract(parameter._data, scratch, parameter._data)


class Adaptive(Optimizer):
    """An optimizer that treats each element alike, so that its formula is computed once for several parameters."""

    _starts: ClassVar[dict[str, float]] = {}  # what is kept besides the number of steps, with its first value

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        # For each group, by the first parameter that was stepped: the stepped parameters and their packed state.
        self._memory: dict[Tensor, tuple[Sequence[Tensor], list[PackedState]]] = {}

    def _keeps(self, group: Mapping[str, Any]) -> Mapping[str, float]:
        return {"step": 0, **self._starts}

    def _move(self, gradient: np.ndarray, kept: PackedState, group: dict[str, Any]) -> np.ndarray:
        """Return what to subtract from the parameters, and replace what is kept. gradient: at least float32."""
        raise NotImplementedError

    def _adapt(self, packed: PackedState, group: dict[str, Any]) -> None:
        """Update what is kept with `gradient`, and leave in `scratch` what to subtract from the parameters."""
        packed.scratch[...] = self._move(packed.widened(packed.gradient), packed, group)

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        decay, decoupled = group["weight_decay"], group.get("decoupled_weight_decay", False)
        for packed in self._packed(parameters, self._keeps(group)):
            packed.gather(0 if decoupled else decay, group["maximize"])
            packed.kept["step"] += 1
            silently(self._adapt, packed, group)  # infinite squares; eps that is 0 in float16
            packed.subtract(group["lr"] * decay if decoupled else 0)

    def _packed(self, parameters: list[Tensor], keeps: Mapping[str, float]) -> list[PackedState]:
        """Return the packed state of the parameters: that of the last step if it is still current."""
        known, states = self._memory.get(parameters[0], ((), []))
        same = len(known) == len(parameters) and all(map(operator.is_, known, parameters))
        if not same or not all(packed.is_current(self.state, keeps) for packed in states):
            states = _pack(parameters, self.state, keeps)
            memory = {**self._memory, parameters[0]: (parameters, states)}
            # Drop packed state that is out of date, so that its memory is freed.
            self._memory = {
                first: held
                for first, held in memory.items()
                if all(packed.is_current(self.state, packed.kept) for packed in held[1])
            }
        return states

    def __getstate__(self) -> dict[str, Any]:
        # In a copy, the arrays of the state would no longer be views of this memory.
        return {**super().__getstate__(), "_memory": {}}


def _pack(parameters: Sequence[Tensor], state: State, keeps: Mapping[str, float]) -> list[PackedState]:
    """Pack the state of the parameters, and replace it in `state` with views."""
    alike: dict[Any, list[Tensor]] = {}
    for parameter in parameters:
        held = state.get(parameter) or keeps
        numbers = tuple(float(held.get(name, keeps[name])) for name in keeps if name in NUMBERS)
        alike.setdefault((parameter.dtype, numbers), []).append(parameter)
    packed = []
    for (dtype, _), group in alike.items():
        runs = list(_runs(group))
        room = np.empty((2, max(sum(p._data.size for p in run) for run in runs)), dtype)
        packed += [PackedState(run, state, room, keeps) for run in runs]
    return packed


def _runs(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the parameters in runs of at most `_MOST_ELEMENTS` elements, or of one larger parameter."""
    run: list[Tensor] = []
    size = 0
    for parameter in parameters:
        if run and size + parameter._data.size > _MOST_ELEMENTS:
            yield run
            run, size = [], 0
        run.append(parameter)
        size += parameter._data.size
    yield run

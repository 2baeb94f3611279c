"""PackedState: Adam's state of several parameters end to end in one array, so that one NumPy call serves them all.

`optimizer.state` holds views of it, one set for each parameter. If the views are replaced (as `load_state_dict` does),
if other parameters have a gradient or if a dtype changes, the state is packed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..autograd.tensor import Tensor
from .optimizer import as_number

State = dict[Tensor, dict[str, np.ndarray]]
# The most elements in one PackedState, unless a single parameter has more. Fewer elements take more calls; with more,
# the four arrays in use (2 MB of float32) no longer fit the cache of a core.
_MOST_ELEMENTS = 1 << 17


class PackedState:
    """The state of parameters that are stepped together: all of one dtype, with the same number of steps.

    step: (parameters,) float32, the same number in each.  exp_avg, exp_avg_sq, gradient, scratch: (elements,).
    gradient and scratch hold nothing between steps.
    """

    def __init__(self, parameters: list[Tensor], state: State, room: np.ndarray) -> None:
        self.parameters, self.dtype = parameters, parameters[0].dtype
        self.step = np.zeros(len(parameters), np.float32)  # the dtype that torch uses
        ends = np.cumsum([parameter._data.size for parameter in parameters])
        self.exp_avg, self.exp_avg_sq = np.zeros((2, ends[-1]), self.dtype)
        self.gradient, self.scratch = room[:, : ends[-1]]
        kept, passing = [], []
        for i, (parameter, end) in enumerate(zip(parameters, ends, strict=True)):
            shape, part = parameter.shape, slice(end - parameter._data.size, end)
            views = {"step": self.step[i : i + 1].reshape(())}
            views |= {name: getattr(self, name)[part].reshape(shape) for name in ("exp_avg", "exp_avg_sq")}
            for name, array in state.get(parameter, {}).items():
                views[name][...] = array
            state[parameter] = views
            kept.append((views["step"], views["exp_avg"], views["exp_avg_sq"]))
            passing.append((self.gradient[part].reshape(shape), self.scratch[part].reshape(shape)))
        self._kept, self._passing = kept, passing

    def is_current(self, state: State) -> bool:
        """Return True if state still holds the views and the parameters still share one dtype and number of steps."""
        steps = self.step.tolist()  # a user may have written to a view
        if steps.count(steps[0]) != len(steps):
            return False
        for parameter, (step, mean, square) in zip(self.parameters, self._kept, strict=True):
            held = state.get(parameter, {})
            if (
                held.get("step") is not step
                or held.get("exp_avg") is not mean
                or held.get("exp_avg_sq") is not square
                or parameter._data.dtype != self.dtype
            ):
                return False
        return True

    def gather(self, weight_decay: float) -> None:
        """Write the gradients of all parameters to `gradient`, plus weight_decay times the parameters."""
        decay = as_number(weight_decay, self.dtype)
        for parameter, (gradient, scratch) in zip(self.parameters, self._passing, strict=True):
            if weight_decay:
                np.multiply(parameter._data, decay, scratch)
                np.add(parameter._grad, scratch, gradient)  # pyright: ignore[reportArgumentType, reportCallIssue]
            else:
                gradient[...] = parameter._grad

    def subtract(self, weight_decay: float) -> None:
        """Subtract from each parameter weight_decay times itself, then its part of `scratch`."""
        if weight_decay:
            keep = as_number(1 - weight_decay, self.dtype)
            for parameter in self.parameters:
                np.multiply(parameter._data, keep, parameter._data)
        for parameter, (_, scratch) in zip(self.parameters, self._passing, strict=True):
            np.subtract(parameter._data, scratch, parameter._data)


def pack(parameters: Sequence[Tensor], state: State) -> list[PackedState]:
    """Pack the state of the parameters, and replace it in `state` with views."""
    alike: dict[Any, list[Tensor]] = {}
    for parameter in parameters:
        step = float(state[parameter]["step"]) if state.get(parameter) else 0.0
        alike.setdefault((parameter.dtype, step), []).append(parameter)
    packed = []
    for (dtype, _), group in alike.items():
        runs = list(_runs(group))
        room = np.empty((2, max(sum(p._data.size for p in run) for run in runs)), dtype)
        packed += [PackedState(run, state, room) for run in runs]
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

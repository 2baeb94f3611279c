"""Flat memory: what Adam remembers of several parameters, end to end in one array, so that one call serves all.

What a parameter has of it are views, which `optimizer.state` holds. If somebody puts other arrays there (as
`load_state_dict` does), if other parameters have a gradient, or if a dtype changes, the memory is laid out anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..autograd.tensor import Tensor

State = dict[Tensor, dict[str, np.ndarray]]
# So many elements at most are handled together, unless one parameter has more: fewer cost more calls, and beyond these
# the four arrays worked on, 2 MB of float32, leave the cache of a core.
_TOGETHER = 1 << 17


class Flat:
    """What is remembered of parameters that are stepped together: of one dtype, and with the same number of steps.

    step: (parameters,) float32, the same number throughout.  exp_avg, exp_avg_sq, gradient, scratch: (elements,); the
    last two mean nothing between steps.
    """

    def __init__(self, parameters: list[Tensor], state: State, room: np.ndarray) -> None:
        self.parameters, self.dtype = parameters, parameters[0].dtype
        self.step = np.zeros(len(parameters), np.float32)  # torch's dtype for it
        ends = np.cumsum([parameter.data.size for parameter in parameters])
        self.exp_avg, self.exp_avg_sq = np.zeros((2, ends[-1]), self.dtype)
        self.gradient, self.scratch = room[:, : ends[-1]]
        kept, passing = [], []
        for i, (parameter, end) in enumerate(zip(parameters, ends, strict=True)):
            shape, part = parameter.shape, slice(end - parameter.data.size, end)
            views = {"step": self.step[i : i + 1].reshape(())}
            views |= {name: getattr(self, name)[part].reshape(shape) for name in ("exp_avg", "exp_avg_sq")}
            for name, array in state.get(parameter, {}).items():
                views[name][...] = array
            state[parameter] = views
            kept.append((views["step"], views["exp_avg"], views["exp_avg_sq"]))
            passing.append((self.gradient[part].reshape(shape), self.scratch[part].reshape(shape)))
        self._kept, self._passing = kept, passing

    def is_held_by(self, state: State) -> bool:
        """Whether state still holds the views, and the parameters still have their dtype and one number of steps."""
        steps = self.step.tolist()  # somebody may write into a view
        if steps.count(steps[0]) != len(steps):
            return False
        for parameter, (step, mean, square) in zip(self.parameters, self._kept, strict=True):
            held = state.get(parameter, {})
            if (
                held.get("step") is not step
                or held.get("exp_avg") is not mean
                or held.get("exp_avg_sq") is not square
                or parameter.data.dtype != self.dtype
            ):
                return False
        return True

    def gather(self, weight_decay: float) -> None:
        """Put the gradients of all parameters into `gradient`, plus weight_decay times the parameters."""
        decay = as_number(weight_decay, self.dtype)
        for parameter, (gradient, scratch) in zip(self.parameters, self._passing, strict=True):
            if weight_decay:
                np.multiply(parameter.data, decay, scratch)
                np.add(parameter.grad, scratch, gradient)  # pyright: ignore[reportArgumentType, reportCallIssue]
            else:
                gradient[...] = parameter.grad

    def subtract(self, weight_decay: float) -> None:
        """Subtract from each parameter weight_decay times itself, and then its part of `scratch`."""
        if weight_decay:
            keep = as_number(1 - weight_decay, self.dtype)
            for parameter in self.parameters:
                np.multiply(parameter.data, keep, parameter.data)
        for parameter, (_, scratch) in zip(self.parameters, self._passing, strict=True):
            np.subtract(parameter.data, scratch, parameter.data)


def as_number(value: float, dtype: np.dtype[Any]) -> Any:
    """Return value as an array without axes, by which NumPy multiplies small ones of the dtype twice as fast.

    But bfloat16 and its like by the value itself: with a Python number NumPy computes in float32.
    """
    return value if dtype.kind == "V" else np.array(value, dtype)


def flat_of(parameters: Sequence[Tensor], state: State) -> list[Flat]:
    """Return the memory of the parameters, taking over what state has of them, and put the views there."""
    together: dict[Any, list[Tensor]] = {}
    for parameter in parameters:
        step = float(state[parameter]["step"]) if state.get(parameter) else 0.0
        together.setdefault((parameter.dtype, step), []).append(parameter)
    flats = []
    for (dtype, _), alike in together.items():
        parts = list(_cut(alike))
        room = np.empty((2, max(sum(p.data.size for p in part) for part in parts)), dtype)
        flats += [Flat(part, state, room) for part in parts]
    return flats


def _cut(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield runs of parameters that are handled together."""
    run: list[Tensor] = []
    size = 0
    for parameter in parameters:
        if run and size + parameter.data.size > _TOGETHER:
            yield run
            run, size = [], 0
        run.append(parameter)
        size += parameter.data.size
    yield run

"""The run of a recurrent layer over time: one operation, with its backward pass through time beside it.

H: hidden features.  G: gates of a cell.  rows: the time steps of all sequences, one step after the other.
A class for each kind of cell holds what a run computes. Its `step` is next to its gradient: `factors`, the derivatives
of a step that need no gradient, for all steps at once, and `back`, which multiplies them with the gradient of one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ...autograd.dtypes import narrowed, widened
from ...autograd.reductions import sum_rows
from ...autograd.tensor import Tensor, record


class _Cell:
    """An Elman cell: h = tanh(z) with z = W_ih x + b_ih + W_hh h + b_hh.

    z: (rows, G, H), first what does not depend on h; a step replaces it by the values of the gates.  before: the state
    before each step, (rows, H) each.  kept: one more array (rows, H) of each step.  b_hh: None if z includes it.
    """

    gates: ClassVar[int] = 1

    def __init__(self, z: np.ndarray, states: int, w_hh: np.ndarray, b_hh: np.ndarray | None) -> None:
        self.z, self.w_hh, self.b_hh = z, w_hh, b_hh
        self.before = [np.empty_like(z[:, 0]) for _ in range(states)]
        self.kept = np.empty_like(z[:, 0])

    def step(self, now: slice, state: list[np.ndarray]) -> None:
        """Advance the state, arrays (n, H), by one step in place."""
        (h,) = state
        z = self._activate(self.z[now, 0], self._of_state(h)[:, 0])
        h[...] = z

    def factors(self) -> np.ndarray:
        """Return the derivative of the gates by z, (rows, G, H), up to the factor of `back`."""
        return 1 - self.z * self.z

    def back(self, now: slice, factors: np.ndarray, g: list[np.ndarray]) -> None:
        """Turn factors[now] into the gradient of z, and g, the gradient after the step, into that before it."""
        factors[now] *= g[0][:, None]
        g[0][...] = self._to_state(factors[now])

    def for_input(self, factors: np.ndarray) -> np.ndarray:
        """Return the gradient of W_ih x + b_ih, given that of W_hh h + b_hh after the last `back`."""
        return factors

    def _activate(self, z: np.ndarray, by_state: np.ndarray) -> np.ndarray:
        return np.tanh(np.add(z, by_state, out=z), out=z)

    def _of_state(self, h: np.ndarray) -> np.ndarray:
        """Return W_hh h + b_hh, (n, G, H)."""
        out = h @ self.w_hh.T
        if self.b_hh is not None:
            out += self.b_hh
        return out.reshape(len(h), self.gates, h.shape[1])

    def _to_state(self, by_z: np.ndarray) -> np.ndarray:
        return by_z.reshape(len(by_z), len(self.w_hh)) @ self.w_hh


class _ReluCell(_Cell):
    """The same with h = max(z, 0)."""

    def _activate(self, z: np.ndarray, by_state: np.ndarray) -> np.ndarray:
        return np.maximum(np.add(z, by_state, out=z), 0, out=z)

    def factors(self) -> np.ndarray:
        return (self.z > 0).astype(self.z.dtype)


class _GruCell(_Cell):
    """r, u = sigmoid(z_r), sigmoid(z_u); n = tanh(z_n) with W_hh h + b_hh times r; h = (1 - u) n + u h.

    kept: W_hh h + b_hh of n.  Source: Cho et al. 2014, arXiv:1406.1078, with r after the product, as in torch.
    """

    gates = 3

    def step(self, now: slice, state: list[np.ndarray]) -> None:
        (h,) = state
        z, by_state = self.z[now], self._of_state(h)
        gates = z[:, :2]
        gates += by_state[:, :2]
        _sigmoid_(gates)
        r, u, n = z[:, 0], z[:, 1], z[:, 2]
        self.kept[now] = by_state[:, 2]
        n += r * by_state[:, 2]
        np.tanh(n, out=n)
        h -= n
        h *= u
        h += n

    def factors(self) -> np.ndarray:
        r, u, n = self.z.swapaxes(0, 1)
        out = np.empty_like(self.z)
        self.by_n = (1 - u) * (1 - n * n)
        out[:, 0] = self.by_n * self.kept * r * (1 - r)
        out[:, 1] = (self.before[0] - n) * u * (1 - u)
        out[:, 2] = self.by_n * r
        return out

    def back(self, now: slice, factors: np.ndarray, g: list[np.ndarray]) -> None:
        (by_h,) = g
        factors[now] *= by_h[:, None]
        self.by_n[now] *= by_h
        by_h *= self.z[now, 1]
        by_h += self._to_state(factors[now])

    def for_input(self, factors: np.ndarray) -> np.ndarray:
        out = factors.copy()
        out[:, 2] = self.by_n
        return out


class _LstmCell(_Cell):
    """i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o); g = tanh(z_g); c = f c + i g; h = o tanh(c).

    The gates are stored in the order i, f, g, o.  kept: tanh(c).
    Source: Hochreiter and Schmidhuber 1997, Neural Computation 9; Gers et al. 2000 for f.
    """

    gates = 4

    def step(self, now: slice, state: list[np.ndarray]) -> None:
        h, c = state
        z = self.z[now]
        z += self._of_state(h)
        # The sigmoid of z is (1 + tanh(z / 2)) / 2, so one call of tanh serves all four gates.
        z *= _HALF
        np.tanh(z, out=z)
        z *= _HALF
        z += _REST
        c *= z[:, 1]
        c += z[:, 0] * z[:, 2]
        np.multiply(z[:, 3], np.tanh(c, out=self.kept[now]), out=h)

    def factors(self) -> np.ndarray:
        i, _, g, o = self.z.swapaxes(0, 1)
        out = self.z * (1 - self.z)
        out[:, 0] *= g
        out[:, 1] *= self.before[1]
        out[:, 2] = i * (1 - g * g)
        out[:, 3] *= self.kept
        self.by_c = o * (1 - self.kept * self.kept)
        return out

    def back(self, now: slice, factors: np.ndarray, g: list[np.ndarray]) -> None:
        by_h, by_c = g
        by_c += by_h * self.by_c[now]
        factors[now, :3] *= by_c[:, None]
        factors[now, 3] *= by_h
        by_c *= self.z[now, 1]
        by_h[...] = self._to_state(factors[now])


_HALF = np.array([0.5, 0.5, 1, 0.5], np.float32)[:, None]
_REST = 1 - _HALF

CELLS: dict[str, type[_Cell]] = {"rnn_tanh": _Cell, "rnn_relu": _ReluCell, "lstm": _LstmCell, "gru": _GruCell}


def recurrence(
    kind: str,
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    batch_sizes: np.ndarray | None = None,
    reverse: bool = False,
) -> Tensor:
    """Return h after each step of a recurrent layer in one direction, followed by its last state.

    kind: a key of CELLS.  x: (T, B, in), or with batch_sizes, (T,), the rows of a packed sequence, (rows, in).
    state: h, and c of an LSTM, (B, H) each.  weights: weight_ih (G H, in), weight_hh (G H, H) and, with a bias, bias_ih
    and bias_hh, (G H,) each.  reverse: run from the last step to the first.
    Returns (T + states, B, H), or with batch_sizes (rows + states * B, H). The shapes must fit: the layers check them.
    """
    arrays = [widened(tensor._data) for tensor in (*state, *weights)]
    states, (w_ih, w_hh, *biases) = arrays[: len(state)], arrays[len(state) :]
    rows, (batch, hidden) = widened(x._data).reshape(-1, x.shape[-1]), states[0].shape
    steps = _steps(np.full(x.shape[0], batch) if batch_sizes is None else batch_sizes, reverse)
    z = rows @ w_ih.T
    if biases:
        z += biases[0] if kind == "gru" else biases[0] + biases[1]
    z = z.reshape(len(rows), len(w_ih) // hidden, hidden)
    cell = CELLS[kind](z, len(states), w_hh, biases[1] if biases and kind == "gru" else None)
    out = _run(cell, states, steps)

    def backward(g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        by_state, for_state, for_input = _run_back(cell, widened(g).reshape(out.shape), batch, steps)
        by_x = (for_input @ w_ih).reshape(x.shape) if x._requires_grad else None
        by_weights = [for_input.T @ rows, for_state.T @ cell.before[0]]
        return (by_x, *by_state, *by_weights, *((sum_rows(for_input), sum_rows(for_state)) if biases else ()))

    shape = (x.shape[0] + len(states), batch, hidden) if batch_sizes is None else out.shape
    arguments: dict[str, Any] = {"batch_sizes": batch_sizes, "reverse": reverse}
    return record(kind, narrowed(out.reshape(shape), x), (x, *state, *weights), backward, arguments)


def _steps(sizes: np.ndarray, reverse: bool) -> list[slice]:
    """Return the rows of each step, in the order of the run. sizes: how many sequences each step has."""
    ends = np.cumsum(sizes)
    steps = [slice(end - size, end) for end, size in zip(ends.tolist(), sizes.tolist(), strict=True)]
    return steps[::-1] if reverse else steps


def _run(cell: _Cell, start: list[np.ndarray], steps: list[slice]) -> np.ndarray:
    """Return h after each step, (rows, H), followed by the last state."""
    rows, (batch, hidden) = len(cell.z), start[0].shape
    out = np.empty((rows + len(start) * batch, hidden), cell.z.dtype)
    last = out[rows:].reshape(len(start), batch, hidden)
    for array, given in zip(last, start, strict=True):
        array[...] = given
    for now in steps:
        # In a packed sequence the longest comes first, so a sequence that has ended, or in reverse not begun, is last.
        state = [array[: now.stop - now.start] for array in last]
        for array, h in zip(cell.before, state, strict=True):
            array[now] = h
        cell.step(now, state)
        out[now] = state[0]
    return out


def _run_back(
    cell: _Cell, g: np.ndarray, batch: int, steps: list[slice]
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return the gradients of the first state, of W_hh h + b_hh and of W_ih x + b_ih. g: the gradient of `_run`."""
    rows, states = len(cell.z), len(cell.before)
    by_state = list(g[rows:].reshape(states, batch, g.shape[-1]).copy())
    factors = cell.factors()
    for now in reversed(steps):
        alive = [array[: now.stop - now.start] for array in by_state]
        alive[0] += g[now]
        cell.back(now, factors, alive)
    for_input = cell.for_input(factors)
    return by_state, factors.reshape(rows, len(cell.w_hh)), for_input.reshape(rows, len(cell.w_hh))


def _sigmoid_(z: np.ndarray) -> None:
    """Replace z by its sigmoid, as (1 + tanh(z / 2)) / 2, which does not overflow."""
    z *= 0.5
    np.tanh(z, out=z)
    z *= 0.5
    z += 0.5

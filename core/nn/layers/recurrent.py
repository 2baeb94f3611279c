"""RNN, LSTM and GRU over whole sequences, and the cells that compute one step of them.

T: steps.  B: sequences in a batch.  L: layers.  D: directions, 2 if bidirectional.  H: hidden_size.
"""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np

from ...autograd.devices import Device
from ...autograd.shaping import cat, stack
from ...autograd.tensor import Tensor, as_tensor
from ...errors import ArgumentError, ShapeError
from .. import functional as F
from .. import init
from ..functional.recurrent import CELLS, recurrence
from ..module.module import Module
from ..module.parameter import Parameter
from ..utils.rnn import PackedSequence

State = Tensor | tuple[Tensor, Tensor]


class _Recurrent(Module):
    """What layers and cells have in common: the kind of cell, the sizes and the initial values."""

    def _set_up(self, mode: str, input_size: int, hidden_size: int, bias: bool) -> None:
        kind = mode.lower()
        if kind not in CELLS:
            raise ArgumentError(f"{type(self).__name__}: the nonlinearity must be 'tanh' or 'relu', not {mode[4:]!r}.")
        if input_size < 1 or hidden_size < 1:
            raise ArgumentError(
                f"{type(self).__name__} needs sizes above 0, not input_size={input_size}, hidden_size={hidden_size}."
            )
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        vars(self).update(_kind=kind, _states=2 if kind == "lstm" else 1)

    def _shapes(self, input_size: int) -> dict[str, tuple[int, ...]]:
        """Return the parameters of one cell: W_ih, W_hh and, with a bias, b_ih and b_hh."""
        rows = CELLS[self._kind].gates * self.hidden_size
        shapes = {"weight_ih": (rows, input_size), "weight_hh": (rows, self.hidden_size)}
        return shapes | ({"bias_ih": (rows,), "bias_hh": (rows,)} if self.bias else {})

    def reset_parameters(self) -> None:
        """Reinitialize the parameters from U(-b, b) with b = 1 / sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _require_input(self, x: Tensor, dims: tuple[int, ...], weight: Tensor) -> None:
        if x.ndim not in dims or x.shape[-1] != self.input_size:
            axes = " or ".join(map(str, dims))
            raise ShapeError(
                f"{type(self).__name__} needs an input with {axes} axes and {self.input_size} features, not {x.shape}."
            )
        if x.dtype != weight.dtype:
            raise ArgumentError(
                f"{type(self).__name__}: the input is {x.dtype}, the weights are {weight.dtype}. Use "
                f"input.to({weight.dtype}), or model.to({x.dtype})."
            )

    def _states_of(self, hx: State | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> list[Tensor]:
        """Return h, and c of an LSTM, as a list: those that are given, or zeros."""
        if hx is None:
            return [Tensor(np.zeros(shape, dtype)) for _ in range(self._states)]
        given = [as_tensor(h) for h in hx] if self._states == 2 else [as_tensor(hx)]
        if [h.shape for h in given] != [shape] * self._states:
            wanted = " and ".join([f"{shape}"] * self._states)
            raise ShapeError(
                f"{type(self).__name__} needs an initial state of shape {wanted}, not "
                f"{' and '.join(str(h.shape) for h in given)}."
            )
        return given


class RNNBase(_Recurrent):
    """A recurrent network: the common part of RNN, LSTM and GRU.

    input: (T, B, input_size), or (B, T, input_size) with batch_first, (T, input_size) for one sequence, or a
    PackedSequence.  hx: the initial state, (L D, B, H), for an LSTM a tuple of two; zeros by default.
    Returns the output of the last layer after each step, (T, B, D H) or in the layout of the input, and the last state
    of each layer and direction, in the shape of hx.
    dropout: of the output of each layer except the last, in training mode.
    """

    def __init__(
        self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
        device: Device = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._set_up(mode, input_size, hidden_size, bias)
        if num_layers < 1 or not 0 <= dropout <= 1 or proj_size:
            raise ArgumentError(
                f"{type(self).__name__} needs num_layers above 0, dropout between 0 and 1 and proj_size=0, as there is "
                f"no projection here; not {num_layers}, {dropout} and {proj_size}."
            )
        if dropout and num_layers == 1:
            text = f"dropout={dropout} has no effect: it follows each layer except the last, and num_layers is 1."
            warnings.warn(text, stacklevel=3)
        self.mode, self.num_layers, self.batch_first, self.dropout = mode, num_layers, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        vars(self)["_names"] = names = []
        directions = ("", "_reverse")[: 1 + bidirectional]
        for layer, direction in itertools.product(range(num_layers), directions):
            shapes = self._shapes(len(directions) * hidden_size if layer else input_size)
            names.append([f"{name}_l{layer}{direction}" for name in shapes])
            for name, shape in zip(names[-1], shapes.values(), strict=True):
                setattr(self, name, Parameter(np.empty(shape, np.float32)))
        self.reset_parameters()
        self._placed(device, dtype)

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._names]

    def flatten_parameters(self) -> None:
        """Do nothing. In torch this arranges the parameters in the memory of a GPU."""

    def forward(self, input: Tensor | PackedSequence, hx: State | None = None) -> tuple[Any, Any]:
        packed = input if isinstance(input, PackedSequence) else None
        x = as_tensor(input if packed is None else packed.data)
        self._require_input(x, (2, 3) if packed is None else (2,), self.all_weights[0][0])
        sizes = None if packed is None else packed.batch_sizes._data
        is_single, batch_first = packed is None and x.ndim == 2, self.batch_first and x.ndim == 3
        x = x.unsqueeze(1) if is_single else x.transpose(0, 1) if batch_first else x
        shape = (len(self._names), x.shape[1] if sizes is None else int(sizes[0]), self.hidden_size)
        if hx is None:
            start = [self._states_of(None, shape[1:], x.dtype)] * len(self._names)
        else:
            given = self._states_of(hx, (shape[0], shape[2]) if is_single else shape, x.dtype)
            given = [h.unsqueeze(1) for h in given] if is_single else given
            if packed is not None and packed.sorted_indices is not None:
                given = [h[:, packed.sorted_indices] for h in given]
            start = [[h[place] for h in given] for place in range(shape[0])]
        out, last = self._run(x, start, sizes)
        if packed is not None and packed.unsorted_indices is not None:
            last = [h[:, packed.unsorted_indices] for h in last]
        last = [h.squeeze(1) for h in last] if is_single else last
        out = out.squeeze(1) if is_single else out.transpose(0, 1) if batch_first else out
        return out if packed is None else packed._replace(data=out), tuple(last) if self._states == 2 else last[0]

    def _run(self, x: Tensor, start: list[list[Tensor]], sizes: np.ndarray | None) -> tuple[Tensor, list[Tensor]]:
        """Return the output of the last layer, and the last states, (L D, B, H) each."""
        directions, length, batch = 1 + self.bidirectional, x.shape[0], start[0][0].shape[0]
        last: list[list[Tensor]] = [[] for _ in range(self._states)]
        outputs: list[Tensor] = []
        for place, weights in enumerate(self.all_weights):
            reverse = place % directions == 1
            if place and not reverse:
                x = F.dropout(x, self.dropout, self.training)
            run = recurrence(self._kind, x, start[place], weights, sizes, reverse)
            outputs.append(run[:length])
            for i, states in enumerate(last):
                end = length + i * batch
                states.append(run[length + i] if sizes is None else run[end : end + batch])
            if len(outputs) == directions:
                x, outputs = cat(outputs, -1) if directions == 2 else outputs[0], []
        return x, [stack(states) for states in last]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0, "bidirectional": False}
        return text + "".join(f", {k}={getattr(self, k)}" for k, v in defaults.items() if getattr(self, k) != v)


class RNN(RNNBase):
    """Elman's network: h = tanh(W_ih x + b_ih + W_hh h + b_hh), or max(0, ...) with nonlinearity="relu"."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Device = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        mode = f"RNN_{nonlinearity.upper()}"
        options = (num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype)
        super().__init__(mode, input_size, hidden_size, *options)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory: each step keeps a part of c, adds to it, and shows a part of it as h.

    The state is a tuple (h, c). The rows of the weights are the gates i, f, g, o. proj_size is not implemented.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)


class GRU(RNNBase):
    """A gated recurrent unit: each step replaces a part of h. The rows of the weights are the gates r, z, n."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("GRU", *args, **kwargs)


class RNNCellBase(_Recurrent):
    """One step of a recurrent network: the common part of the cells.

    input: (B, input_size) or (input_size,).  hx: (B, H) or (H,), for an LSTMCell a tuple of two; zeros by default.
    Returns the next state, like hx.
    """

    def __init__(
        self, mode: str, input_size: int, hidden_size: int, bias: bool = True, device: Device = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self._set_up(mode, input_size, hidden_size, bias)
        shapes = self._shapes(input_size)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(np.empty(shapes[name], np.float32)) if name in shapes else None)
        self.reset_parameters()
        self._placed(device, dtype)

    def forward(self, input: Tensor, hx: State | None = None) -> Any:
        x, weights = as_tensor(input), [getattr(self, name) for name in self._shapes(self.input_size)]
        self._require_input(x, (1, 2), weights[0])
        states = self._states_of(hx, (*x.shape[:-1], self.hidden_size), x.dtype)
        states = [h.unsqueeze(0) for h in states] if x.ndim == 1 else states
        run = recurrence(self._kind, x.reshape(1, -1, self.input_size), states, weights)
        last = [run[i + 1] if x.ndim == 2 else run[i + 1, 0] for i in range(self._states)]
        return tuple(last) if self._states == 2 else last[0]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(RNNCellBase):
    """A step of RNN: h = tanh(W_ih x + b_ih + W_hh h + b_hh), or max(0, ...) with nonlinearity="relu"."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", device: Device = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(f"RNN_{nonlinearity.upper()}", input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")


class LSTMCell(RNNCellBase):
    """A step of LSTM: (h, c) = cell(x, (h, c))."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)


class GRUCell(RNNCellBase):
    """A step of GRU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("GRU", *args, **kwargs)

"""Functions that make tensors: zeros, arange, rand and the like.

Each takes torch's `dtype` (None: the default dtype, or that of the values), `device` ("cpu") and `requires_grad`. Those
that draw take a `generator` (None: the default one). size: ints, or one tuple of them. Functions ending in _like take
the shape and dtype of another tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeAlias

import numpy as np

from .autograd.base import to_array
from .autograd.devices import Device, require_cpu
from .autograd.dtypes import NAMED, is_floating
from .autograd.dtypes import get_default_dtype as default
from .autograd.shaping import as_tuple
from .autograd.tensor import Tensor
from .errors import ArgumentError
from .random import default_generator

__all__ = [
    "BoolTensor", "ByteTensor", "DoubleTensor", "FloatTensor", "IntTensor", "LongTensor", "arange", "as_tensor",
    "asarray", "bernoulli", "empty", "empty_like", "eye", "from_numpy", "full", "full_like", "linspace", "logspace",
    "multinomial", "normal", "ones", "ones_like", "rand", "rand_like", "randint", "randint_like", "randn",
    "randn_like", "randperm", "zeros", "zeros_like",
]  # fmt: skip

Generator: TypeAlias = "np.random.Generator | None"  # text: numpy.random is slow to import


def _creator(make: Callable[..., Any]) -> Callable[..., Tensor]:
    """Return a function that makes a Tensor of the array that make(dtype, ...) returns; dtype is None if not given."""

    @wraps(make)
    def create(*args: Any, dtype: Any = None, device: Any = None, requires_grad: Any = False, **named: Any) -> Tensor:
        require_cpu(device)
        return Tensor(np.asarray(make(None if dtype is None else np.dtype(dtype), *args, **named)), requires_grad)

    return create


def _pair(fill: Callable[..., Any]) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Return two functions that return fill(shape, dtype): for a size, and for another tensor."""

    def of_size(dtype: Any, *sizes: Any, size: Any = None, **named: Any) -> Any:
        return fill(as_tuple(sizes if size is None else size), dtype or default(), **named)

    return _creator(of_size), _creator(lambda dtype, input, **named: fill(input.shape, dtype or input.dtype, **named))


def _draw(method: str, shape: tuple[int, ...], dtype: Any, generator: Generator = None) -> Any:
    if not is_floating(dtype):
        raise ArgumentError(f"random floats have a floating-point dtype, not {dtype}. Use randint, or .to(dtype).")
    is_small = dtype.itemsize < 4
    values = getattr(generator or default_generator(), method)(shape, dtype=np.float32 if is_small else dtype)
    if is_small and method == "random":
        values = np.floor(values * 256) / 256  # rounded, the largest values would become 1
    return np.asarray(values, dtype)


zeros, zeros_like = _pair(np.zeros)
ones, ones_like = _pair(np.ones)
empty, empty_like = _pair(np.empty)
rand, rand_like = _pair(partial(_draw, "random"))  # of [0, 1)
randn, randn_like = _pair(partial(_draw, "standard_normal"))
# (n, m), m is n if it is None; (steps,) from start to end, both included; the integers below n in random order
eye = _creator(lambda dtype, n, m=None: np.eye(n, m, dtype=dtype or default()))
linspace = _creator(
    lambda dtype, start, end, steps: np.linspace(_number(start), _number(end), steps).astype(dtype or default())
)
logspace = _creator(
    lambda dtype, start, end, steps, base=10.0: np.logspace(start, end, steps, base=base).astype(dtype or default())
)
full_like = _creator(lambda dtype, input, fill_value: np.full(input.shape, fill_value, dtype or input.dtype))
randint_like = _creator(
    lambda dtype, input, *of, **named: randint(*of, input.shape, dtype=dtype or input.dtype, **named)
)
randperm = _creator(
    lambda dtype, n, generator=None: (generator or default_generator()).permutation(n).astype(dtype or np.int64)
)


@_creator
def full(dtype: Any, size: Any, fill_value: Any) -> Any:
    """Return a tensor of one value, in its dtype: int64, bool, or for a float the default dtype."""
    value = to_array(_number(fill_value))
    return np.full(as_tuple((size,)), value, dtype or value.dtype)


@_creator
def arange(dtype: Any, start: Any = 0, end: Any = None, step: Any = 1) -> Any:
    """Return start, start + step, ... below end, (n,); int64 if all three are integers. arange(end) starts at 0."""
    start, end, step = (_number(value) for value in ((0, start, step) if end is None else (start, end, step)))
    if step == 0 or (end - start) * step < 0:
        raise ArgumentError(f"arange cannot go from {start} to {end} by steps of {step}.")
    values = np.arange(math.ceil((end - start) / step)) * step + start
    are_integers = all(isinstance(value, int) for value in (start, end, step))
    return values.astype(dtype or (np.int64 if are_integers else default()))


def as_tensor(data: Any, dtype: Any = None, device: Device = None) -> Tensor:
    """Return data as a tensor: a tensor of this dtype itself, an array without a copy, anything else as `tensor`."""
    require_cpu(device)
    if not isinstance(data, Tensor):
        data = Tensor(data if dtype is None else np.asarray(data, dtype))
    return data if dtype is None else data.to(dtype)


from_numpy = asarray = as_tensor


@_creator
def randint(dtype: Any, low: int = 0, high: Any = None, size: Any = None, *, generator: Generator = None) -> Any:
    """Return integers of [low, high), or with randint(high, size) of [0, high); int64 unless dtype is given."""
    low, high, size = (0, low, high if size is None else size) if size is None or high is None else (low, high, size)
    if not low < high:
        raise ArgumentError(f"randint draws from [low, high), which is empty for low={low} and high={high}.")
    return np.asarray((generator or default_generator()).integers(low, high, as_tuple((size,))), dtype)


@_creator
def normal(dtype: Any, mean: Any, std: Any = 1.0, size: Any = None, *, generator: Generator = None) -> Any:
    """Return normally distributed values. mean and std: numbers with a size, or tensors whose shapes broadcast."""
    mean, std = np.asarray(mean), np.asarray(std)
    if (std < 0).any():
        raise ArgumentError(f"normal needs a std of at least 0, not {std.min()}.")
    shape = np.broadcast_shapes(mean.shape, std.shape) if size is None else tuple(size)
    dtype = dtype or next((a.dtype for a in (mean, std) if a.ndim), default())
    return np.asarray(mean + std * _draw("standard_normal", shape, dtype, generator), dtype)


def bernoulli(input: Any, p: float | None = None, *, generator: Generator = None) -> Tensor:
    """Return 1 with the probability in each element of input (or p for all), otherwise 0, as input."""
    chances = np.asarray(input if p is None else p)
    if not ((chances >= 0) & (chances <= 1)).all():
        raise ArgumentError("bernoulli needs probabilities from 0 to 1.")
    return Tensor(((generator or default_generator()).random(input.shape) < chances).astype(input.dtype))


def multinomial(input: Any, num_samples: int, replacement: bool = False, *, generator: Generator = None) -> Tensor:
    """Return positions drawn with the weights (n,) or (rows, n): (num_samples,) or (rows, num_samples), int64."""
    weights, random = np.asarray(input, np.float64), generator or default_generator()
    count, is_valid = weights.shape[-1], (weights.sum(-1) > 0) & (weights >= 0).all(-1) & np.isfinite(weights).all(-1)
    fits = num_samples >= 1 and (replacement or num_samples <= count)
    if weights.ndim not in (1, 2) or not is_valid.all() or not fits:
        raise ArgumentError(
            f"multinomial cannot draw {num_samples} of weights {weights.shape}. It needs finite ones of at least 0, "
            "some above 0, of shape (n,) or (rows, n), and replacement=True for more samples than weights."
        )
    if replacement:
        chances = weights.cumsum(-1) / weights.sum(-1, keepdims=True)
        rows = np.arange(len(weights))[:, None] if weights.ndim == 2 else 0  # one after the other on one line
        drawn = rows + random.random((*weights.shape[:-1], num_samples))
        found = (rows + chances).ravel().searchsorted(drawn.ravel(), side="right").reshape(drawn.shape)
        return Tensor(np.minimum(found - rows * count, count - 1))
    # The first to arrive, if each arrives at its rate (Efraimidis and Spirakis, 2006).
    with np.errstate(divide="ignore"):
        arrivals = random.standard_exponential(weights.shape) / weights
    return Tensor(arrivals.argsort(-1)[..., :num_samples].astype(np.int64))


def _constructor(name: str) -> Callable[..., Tensor]:
    """Return a function that returns a copy of data in the dtype `name`, or with ints a tensor of that size."""

    def create(*data: Any) -> Tensor:
        is_size = all(isinstance(value, int) for value in data)
        return Tensor(np.empty(data or 0, NAMED[name]) if is_size else np.array(to_array(*data), NAMED[name]))

    create.dtype = NAMED[name]  # pyright: ignore[reportFunctionMemberAccess]  for x.type(FloatTensor)
    return create


FloatTensor, DoubleTensor, LongTensor = map(_constructor, ("float", "double", "long"))
IntTensor, BoolTensor, ByteTensor = map(_constructor, ("int", "bool", "uint8"))


def _number(value: Any) -> Any:
    """Return a number, or the element of a tensor with one element."""
    return value.item() if isinstance(value, Tensor | np.ndarray | np.generic) else value


def _drawing(draw: Callable[..., Any]) -> Callable[..., Tensor]:
    """Return a method that sets the elements to draw(generator, shape, ...), in place."""

    def method(self: Tensor, *args: Any, generator: Generator = None, **named: Any) -> Tensor:
        return self.copy_(draw(generator or default_generator(), self.shape, *args, **named))

    return method


Tensor.normal_ = _drawing(lambda random, shape, mean=0, std=1: random.normal(mean, std, shape))
Tensor.uniform_ = _drawing(lambda random, shape, a=0, b=1: random.uniform(a, b, shape))
Tensor.bernoulli_ = _drawing(lambda random, shape, p=0.5: random.random(shape) < np.asarray(p))
Tensor.exponential_ = _drawing(lambda random, shape, lambd=1: random.exponential(1 / lambd, shape))
# The integers from low to high - 1; random_(n) is below n, and random_() below 2 ** 24.
Tensor.random_ = _drawing(
    lambda random, shape, low=0, high=None: random.integers(
        *((0, low or 1 << 24) if high is None else (low, high)), shape
    )
)
Tensor.bernoulli, Tensor.multinomial = bernoulli, multinomial

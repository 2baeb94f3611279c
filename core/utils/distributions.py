"""The distributions that scripts sample from and differentiate through, as in torch.distributions.

Draws come from the default generator. `sample` returns a constant; through the result of `rsample`, where there is one,
gradients flow to the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd.operations import where
from ..autograd.shaping import broadcast_tensors
from ..autograd.tensor import Tensor, as_tensor, no_grad
from ..creation import bernoulli, multinomial, rand, randn
from ..errors import ArgumentError
from ..nn.functional import log_softmax, logsigmoid

Shape = Sequence[int]  # of the draws, before that of the parameters

__all__ = ["Bernoulli", "Categorical", "Distribution", "Normal", "Uniform", "kl_divergence"]


class Distribution:
    """The base class. batch_shape: the shape of the parameters, which is that of one draw."""

    batch_shape: tuple[int, ...] = ()

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Return a draw of shape (*sample_shape, *batch_shape) that gradients flow through."""
        raise NotImplementedError(f"{type(self).__name__} has no gradient through a draw. Use sample() and log_prob().")

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Return a draw of shape (*sample_shape, *batch_shape), a constant."""
        with no_grad():
            return self.rsample(sample_shape)


class Normal(Distribution):
    """The normal distribution. loc, scale: its mean and standard deviation, which broadcast."""

    def __init__(self, loc: Any, scale: Any) -> None:
        self.loc, self.scale = broadcast_tensors(as_tensor(loc), as_tensor(scale))
        self.mean, self.stddev, self.batch_shape = self.loc, self.scale, self.loc.shape

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.loc + self.scale * randn(*sample_shape, *self.batch_shape, dtype=self.loc.dtype)

    def log_prob(self, value: Any) -> Tensor:
        """Return the logarithm of the density at value."""
        return -(((as_tensor(value) - self.loc) / self.scale) ** 2) / 2 - self.scale.log() - math.log(2 * math.pi) / 2

    def entropy(self) -> Tensor:
        """Return the differential entropy in nats."""
        return self.scale.log() + (1 + math.log(2 * math.pi)) / 2


class Uniform(Distribution):
    """The uniform distribution on [low, high), which broadcast."""

    def __init__(self, low: Any, high: Any) -> None:
        self.low, self.high = broadcast_tensors(as_tensor(low), as_tensor(high))
        self.batch_shape = self.low.shape

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.low + (self.high - self.low) * rand(*sample_shape, *self.batch_shape, dtype=self.low.dtype)

    def log_prob(self, value: Any) -> Tensor:
        """Return the logarithm of the density at value: -inf outside."""
        inside = (self.low <= value) & (as_tensor(value) < self.high)
        return where(inside, -(self.high - self.low).log(), -math.inf)

    def entropy(self) -> Tensor:
        """Return the differential entropy in nats."""
        return (self.high - self.low).log()


def _one_of(probs: Any, logits: Any) -> Tensor:
    if (probs is None) == (logits is None):
        raise ArgumentError("a distribution takes either probs or logits.")
    return as_tensor(logits if probs is None else probs)


def _clamped(probs: Tensor) -> Tensor:
    """Return probabilities away from 0 and 1, whose logarithms are finite, as torch does."""
    eps = float(np.finfo(probs.dtype).eps)
    return probs.clamp(eps, 1 - eps)


class Categorical(Distribution):
    """The integers in [0, C), from probs (..., C), which are scaled to sum to 1, or from logits (..., C)."""

    def __init__(self, probs: Any = None, logits: Any = None) -> None:
        given = _one_of(probs, logits)
        if probs is None:
            self.logits = log_softmax(given, -1)
            self.probs = self.logits.exp()
        else:
            self.probs = given / given.sum(-1, keepdim=True)
            self.logits = _clamped(self.probs).log()
        self.batch_shape = self.probs.shape[:-1]

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Return int64 draws of shape (*sample_shape, *batch_shape)."""
        rows = self.probs.detach().reshape(-1, self.probs.shape[-1])
        drawn = multinomial(rows, math.prod(sample_shape), replacement=True)
        return drawn.T.reshape(*sample_shape, *self.batch_shape)

    def log_prob(self, value: Any) -> Tensor:
        """Return the logarithm of the probability of value, integers that broadcast to batch_shape."""
        index = as_tensor(value).long()
        shape = np.broadcast_shapes(index.shape, self.batch_shape)
        logits = self.logits.expand(*shape, self.logits.shape[-1])
        return logits.gather(-1, index.expand(*shape).unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Return the entropy in nats."""
        return -(self.probs * self.logits).sum(-1)


class Bernoulli(Distribution):
    """0 or 1, from probs, the probability of 1, or from logits."""

    def __init__(self, probs: Any = None, logits: Any = None) -> None:
        given = _one_of(probs, logits)
        self.batch_shape = given.shape
        if probs is None:
            self.logits, self.probs = given, given.sigmoid()
        else:
            inside = _clamped(given)
            self.logits, self.probs = inside.log() - (1 - inside).log(), given

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Return draws of shape (*sample_shape, *batch_shape), as floats."""
        return bernoulli(self.probs.detach().expand(*sample_shape, *self.batch_shape))

    def log_prob(self, value: Any) -> Tensor:
        """Return the logarithm of the probability of value, 0 or 1."""
        value = as_tensor(value)
        return value * logsigmoid(self.logits) + (1 - value) * logsigmoid(-self.logits)

    def entropy(self) -> Tensor:
        """Return the entropy in nats."""
        return -(self.probs * logsigmoid(self.logits) + (1 - self.probs) * logsigmoid(-self.logits))


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """Return KL(p || q) of two normal or two categorical distributions, in nats."""
    if isinstance(p, Normal) and isinstance(q, Normal):
        ratio = (p.scale / q.scale) ** 2
        return (ratio + ((p.loc - q.loc) / q.scale) ** 2 - 1 - ratio.log()) / 2
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        return (p.probs * (p.logits - q.logits)).sum(-1)
    raise NotImplementedError(f"the divergence of {type(p).__name__} and {type(q).__name__} is not known.")

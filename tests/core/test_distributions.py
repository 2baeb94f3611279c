"""Distributions agree with torch.distributions, and their draws with their probabilities."""

from typing import Any

import numpy as np
import pytest

import statezoo.core as core
from statezoo.core import distributions as ours
from statezoo.core.errors import ArgumentError

P = np.array([[0.2, 0.3, 0.5], [0.0, 0.9, 0.1]], np.float32)
CASES = [
    ("Normal", {"loc": P, "scale": P + 0.5}, P - 0.3),
    ("Uniform", {"low": -P, "high": P + 1}, P),
    ("Categorical", {"probs": P * 3}, np.array([2, 1])),
    ("Categorical", {"logits": P}, np.array([[2, 1], [0, 0]])),
    ("Bernoulli", {"probs": P[0]}, np.array([1.0, 0, 1], np.float32)),
    ("Bernoulli", {"logits": P}, np.float32(1)),
]


@pytest.mark.torch
@pytest.mark.parametrize(("name", "parameters", "value"), CASES)
def test_log_probability_entropy_and_their_gradients_agree_with_torch(name: str, parameters: Any, value: Any):
    torch = pytest.importorskip("torch")
    results = []
    for framework in (core, torch):
        given = {key: framework.tensor(array, requires_grad=True) for key, array in parameters.items()}
        made = getattr(framework.distributions, name)(**given)
        log_prob, entropy = made.log_prob(framework.tensor(value)), made.entropy()
        (log_prob.sum() + entropy.sum()).backward()
        gradients = [np.asarray(tensor.grad) for tensor in given.values()]
        results.append([log_prob.detach().numpy(), entropy.detach().numpy(), *gradients])
    for mine, expected in zip(*results, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["Normal", "Categorical"])
def test_the_divergence_agrees_with_torch(name: str):
    torch = pytest.importorskip("torch")
    results = []
    for framework in (core, torch):
        p, q = framework.tensor(P), framework.tensor(P[::-1] + 0.1)
        make = getattr(framework.distributions, name)
        pair = (make(p, q), make(q, p + 1)) if name == "Normal" else (make(p), make(q))
        results.append(framework.distributions.kl_divergence(*pair).numpy())
    np.testing.assert_allclose(*results, rtol=1e-5)


def test_draws_follow_the_probabilities_and_have_the_shape_of_the_sample_and_the_parameters():
    core.manual_seed(0)
    drawn = ours.Categorical(core.tensor(P)).sample((20_000,))
    assert (drawn.shape, drawn.dtype) == ((20_000, 2), core.int64)
    shares = np.stack([np.bincount(column, minlength=3) for column in drawn.numpy().T]) / 20_000
    np.testing.assert_allclose(shares, P, atol=0.02)
    assert ours.Categorical(core.tensor([0.0, 1.0])).sample().item() == 1
    assert ours.Bernoulli(core.tensor(P)).sample((5,)).shape == (5, 2, 3)
    assert abs(ours.Bernoulli(core.tensor(0.3)).sample((20_000,)).mean().item() - 0.3) < 0.02
    normal = ours.Normal(2.0, 3.0).sample((20_000,))
    assert abs(normal.mean().item() - 2) < 0.1
    assert abs(normal.std().item() - 3) < 0.1
    uniform = ours.Uniform(core.tensor([-1.0]), core.tensor([3.0])).sample((20_000,))
    assert uniform.shape == (20_000, 1)
    assert -1 <= uniform.min().item() < -0.9
    assert 2.9 < uniform.max().item() < 3


def test_gradients_flow_through_rsample_and_not_through_sample():
    loc, scale = core.zeros(4, requires_grad=True), core.ones(4, requires_grad=True)
    normal = ours.Normal(loc, scale)
    assert not normal.sample().requires_grad
    drawn = normal.rsample()
    drawn.sum().backward()
    np.testing.assert_allclose(np.asarray(loc.grad), 1)
    np.testing.assert_allclose(np.asarray(scale.grad), drawn.detach().numpy(), rtol=1e-6)
    with pytest.raises(NotImplementedError, match=r"Use sample\(\) and log_prob\(\)"):
        ours.Categorical(core.ones(2)).rsample()


def test_a_distribution_takes_probabilities_or_logits_and_not_both():
    with pytest.raises(ArgumentError, match="either probs or logits"):
        ours.Categorical()
    with pytest.raises(ArgumentError, match="either probs or logits"):
        ours.Bernoulli(core.ones(2), core.ones(2))

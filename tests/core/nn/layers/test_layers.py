"""The layers, with torch.nn as the oracle: outputs, gradients, states and initial values."""

import math
from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.core import (
    BatchNorm1d,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    Linear,
    Module,
    Parameter,
    ShapeError,
    Tensor,
    manual_seed,
)

RANDOM = np.random.default_rng(0)


def uniform(*shape: int) -> np.ndarray:
    return RANDOM.uniform(-2, 2, shape).astype(np.float32)


def assert_like_torch(ours: Module, theirs: Any, x: np.ndarray, calls: int = 1) -> None:
    """Assert that from the same state, the outputs, gradients and final states agree."""
    import torch

    state = ours.state_dict()
    assert [(name, array.shape, str(array.dtype)) for name, array in state.items()] == [
        (name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in theirs.state_dict().items()
    ]
    theirs.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    a = Tensor(x.copy(), requires_grad=x.dtype == np.float32)
    b = torch.tensor(x, requires_grad=x.dtype == np.float32)
    for _ in range(calls - 1):
        ours(a)
        theirs(b)
    out, expected = ours(a), theirs(b)
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
    if expected.requires_grad:
        weights = uniform(*out.shape)
        out.backward(weights)
        expected.backward(torch.tensor(weights))
        pairs = [(a, b)] if a.requires_grad else []
        pairs += zip(ours.parameters(), theirs.parameters(), strict=True)
        for mine, other in pairs:
            assert mine.grad is not None
            np.testing.assert_allclose(mine.grad, np.asarray(other.grad), rtol=1e-4, atol=1e-4)
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name], tensor.numpy(), rtol=1e-5, atol=1e-5)


CASES = {
    "Linear": (lambda nn: nn.Linear(3, 4), (5, 3)),
    "Linear without bias": (lambda nn: nn.Linear(3, 4, bias=False), (2, 5, 3)),
    "LayerNorm": (lambda nn: nn.LayerNorm(4), (2, 3, 4)),
    "LayerNorm of a tuple": (lambda nn: nn.LayerNorm((4,), eps=1e-3), (3, 4)),
    "LayerNorm of two axes": (lambda nn: nn.LayerNorm((3, 4)), (2, 3, 4)),
    "LayerNorm of two axes without affine": (lambda nn: nn.LayerNorm((3, 4), elementwise_affine=False), (5, 2, 3, 4)),
    "LayerNorm without bias": (lambda nn: nn.LayerNorm(4, bias=False), (3, 4)),
    "LayerNorm without affine": (lambda nn: nn.LayerNorm(4, elementwise_affine=False), (3, 4)),
    "BatchNorm1d": (lambda nn: nn.BatchNorm1d(3), (5, 3)),
    "BatchNorm1d of sequences": (lambda nn: nn.BatchNorm1d(3, eps=1e-3, momentum=0.3), (5, 3, 2)),
    "BatchNorm1d averaging": (lambda nn: nn.BatchNorm1d(3, momentum=None), (5, 3)),
    "BatchNorm1d without affine": (lambda nn: nn.BatchNorm1d(3, affine=False), (5, 3)),
    "BatchNorm1d without statistics": (lambda nn: nn.BatchNorm1d(3, track_running_stats=False), (5, 3)),
    "BatchNorm1d in evaluation": (lambda nn: nn.BatchNorm1d(3).eval(), (1, 3)),
    "BatchNorm1d without statistics in evaluation": (
        lambda nn: nn.BatchNorm1d(3, track_running_stats=False).eval(),
        (5, 3),
    ),
    "Dropout in evaluation": (lambda nn: nn.Dropout(0.5).eval(), (5, 3)),
    "Flatten": (lambda nn: nn.Flatten(), (2, 3, 4)),
    "Flatten of some axes": (lambda nn: nn.Flatten(0, 1), (2, 3, 4)),
    "Identity": (lambda nn: nn.Identity(), (2, 3)),
    "ReLU": (lambda nn: nn.ReLU(), (2, 3)),
    "GELU": (lambda nn: nn.GELU(), (2, 3)),
    "GELU by tanh": (lambda nn: nn.GELU(approximate="tanh"), (2, 3)),
    "Sigmoid": (lambda nn: nn.Sigmoid(), (2, 3)),
    "Tanh": (lambda nn: nn.Tanh(), (2, 3)),
    "Softmax": (lambda nn: nn.Softmax(dim=1), (2, 3, 4)),
}


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES)
def test_a_layer_agrees_with_torch_in_outputs_gradients_and_state(case):
    from torch import nn

    make, shape = CASES[case]
    assert_like_torch(make(core), make(nn), uniform(*shape), calls=3)


@pytest.mark.torch
@pytest.mark.parametrize("padding_idx", [None, 0, -1])
def test_an_embedding_agrees_with_torch(padding_idx):
    from torch import nn

    ours, theirs = Embedding(5, 3, padding_idx), nn.Embedding(5, 3, padding_idx)
    assert ours.padding_idx == theirs.padding_idx
    assert_like_torch(ours, theirs, np.array([[0, 1, 4], [4, 4, 2]]))


# --- initial values


@pytest.mark.torch
def test_linear_is_initialized_from_torchs_distribution():
    from scipy import stats
    from torch import nn

    manual_seed(1)
    ours, theirs = Linear(50, 400), nn.Linear(50, 400)
    assert ours.bias is not None
    for mine, other in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        assert np.abs(mine.data).max() <= 1 / math.sqrt(50)
        result: Any = stats.ks_2samp(mine.data.ravel(), other.detach().numpy().ravel())
        assert result.pvalue > 1e-3


def test_an_embedding_is_initialized_standard_normal_with_zeros_for_the_padding():
    from scipy import stats

    manual_seed(2)
    weight = Embedding(500, 20, padding_idx=-1).weight.data
    assert stats.kstest(weight[:-1].ravel(), "norm")[1] > 1e-3
    assert not weight[-1].any()


def test_the_same_seed_gives_the_same_layer_and_another_seed_a_different_one():
    def weight(seed: int) -> bytes:
        manual_seed(seed)
        return Linear(3, 4).weight.data.tobytes()

    assert weight(1) == weight(1) != weight(2)


def test_a_linear_layer_without_inputs_returns_its_bias():
    layer = Linear(0, 2)
    assert layer(np.zeros((3, 0), np.float32)).data.tolist() == [[0, 0]] * 3


# --- state and errors


def test_dropout_drops_in_training_and_keeps_the_mean():
    manual_seed(3)
    out = Dropout(0.25)(Tensor(np.ones(10_000, np.float32))).data
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.75)}
    assert out.mean() == pytest.approx(1, abs=0.03)


def test_batch_norm_counts_batches_only_in_training_and_keeps_its_arrays():
    layer = BatchNorm1d(2)
    arrays = layer.state_dict()
    layer(uniform_tensor(4, 2))
    layer.eval()(uniform_tensor(4, 2))
    assert arrays["num_batches_tracked"] == 1
    assert all(arrays[name] is array for name, array in layer.state_dict().items())
    assert arrays["running_mean"].any()


def uniform_tensor(*shape: int) -> Tensor:
    return Tensor(uniform(*shape))


def test_a_batch_of_one_is_refused_in_training_and_leaves_no_trace():
    layer = BatchNorm1d(2)
    with pytest.raises(ValueError, match="more than one value per channel") as caught:
        layer(uniform_tensor(1, 2))
    assert isinstance(caught.value, ShapeError)
    assert layer.state_dict()["num_batches_tracked"] == 0
    assert layer.eval()(uniform_tensor(1, 2)).shape == (1, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Linear(3, 2)(uniform_tensor(4, 5)), r"linear: input \(4, 5\), weight \(2, 3\) and bias \(2,\)"),
        (lambda: BatchNorm1d(3)(uniform_tensor(4, 5)), r"BatchNorm1d\(3\) needs \(N, 3\) or \(N, 3, L\), not \(4, 5\)"),
        (lambda: BatchNorm1d(3, affine=False)(uniform_tensor(3)), r"BatchNorm1d\(3\) needs .*, not \(3,\)"),
        (lambda: LayerNorm(3)(uniform_tensor(4, 5)), r"LayerNorm\(3\) needs an input \(\.\.\., 3\), not \(4, 5\)"),
        (
            lambda: LayerNorm((2, 3))(uniform_tensor(4, 5)),
            r"LayerNorm\(2, 3\) needs an input \(\.\.\., 2, 3\), not \(4, 5\)",
        ),
        (lambda: Embedding(3, 2, padding_idx=3), "padding_idx 3 is out of range: Embedding has 3 rows"),
        (lambda: Flatten(2, 1)(uniform_tensor(2, 3, 4)), "the start comes after the end"),
    ],
)
def test_an_error_names_what_does_not_fit_a_layer(call, message):
    with pytest.raises(ShapeError, match=message):
        call()


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_dropout_refuses_p_outside_0_and_1(p: float):
    with pytest.raises(ValueError, match=f"p must be between 0 and 1, not {p}"):
        Dropout(p)


def test_a_bias_of_the_wrong_shape_is_refused_at_the_call():
    layer = Linear(3, 2)
    layer.bias = Parameter(np.zeros((2, 1), np.float32))
    with pytest.raises(ShapeError, match=r"and bias \(2, 1\) do not fit"):
        layer(uniform_tensor(4, 3))

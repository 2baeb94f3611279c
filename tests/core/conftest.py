"""Two oracles for gradients: central differences in float64, and PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo.core import Tensor


def _differences_agree(function: Callable[..., Tensor], *arrays: np.ndarray) -> None:
    """Assert that backward() agrees with central differences along a random direction for each input."""
    random = np.random.default_rng(1)
    tensors = [Tensor(array.astype(np.float64), requires_grad=True) for array in arrays]
    out = function(*tensors)
    weights = random.standard_normal(out.shape)
    out.backward(weights)
    for position, (array, tensor) in enumerate(zip(arrays, tensors, strict=True)):
        direction, step = random.standard_normal(array.shape), 1e-6

        def at(
            offset: float, position: int = position, array: np.ndarray = array, direction: np.ndarray = direction
        ) -> float:
            moved = [Tensor(a.astype(np.float64)) for a in arrays]
            moved[position] = Tensor(np.asarray(array + offset * direction))
            return float((function(*moved).data * weights).sum())

        assert tensor.grad is not None
        numeric = (at(step) - at(-step)) / (2 * step)
        assert float((tensor.grad * direction).sum()) == pytest.approx(numeric, rel=1e-6, abs=1e-7), position


def _torch_agrees(
    ours: Callable[..., Tensor], *arrays: np.ndarray, theirs: Callable[..., Any] | None = None, ulps: float = 64
) -> None:
    """Assert that values, gradients, dtypes and shapes agree with PyTorch, in float64 and float32.

    theirs: the same function for torch tensors, if one lambda does not work for both.
    """
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(2)
    for dtype in (np.float64, np.float32):
        mine = [Tensor(np.array(array, dtype), requires_grad=True) for array in arrays]
        other = [torch.tensor(np.array(array, dtype), requires_grad=True) for array in arrays]
        out, expected = ours(*mine), (theirs or ours)(*other)
        tolerance = ulps * float(np.finfo(dtype).eps)
        _same(out.data, expected.detach().numpy(), tolerance)
        weights = random.standard_normal(out.shape).astype(dtype)
        out.backward(weights)
        expected.backward(torch.tensor(weights))
        for tensor, reference in zip(mine, other, strict=True):
            assert tensor.grad is not None
            _same(
                tensor.grad, np.zeros_like(tensor.data) if reference.grad is None else reference.grad.numpy(), tolerance
            )


def _same(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert isinstance(actual, np.ndarray)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * scale)


@pytest.fixture(scope="session")
def differences_agree() -> Callable[..., None]:
    return _differences_agree


@pytest.fixture(scope="session")
def torch_agrees() -> Callable[..., None]:
    return _torch_agrees

"""Every function of tensors that torch has under the same name: values, dtypes, shapes and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from statezoo import core
from statezoo.core import Tensor

from .function_table import CALLS, OTHERS

X = (np.random.default_rng(5).permutation(12) * 0.0667 + 0.1).reshape(4, 3)
Y = np.array([0.61, 0.29, 0.83])


def _called(name: str, t: Any, x: Any, y: Any) -> Any:
    """Return the result of a call as one tensor, which both operands reach."""
    result = CALLS[name](t, x, y)
    joined = t.cat([part.reshape(-1) for part in result]) if isinstance(result, tuple) else result
    return joined + 0 * (x.sum() + y.sum())


@pytest.mark.parametrize("name", CALLS)
def test_a_gradient_agrees_with_central_differences(name: str, differences_agree: Callable[..., None]) -> None:
    if name != "norm, of 0":  # which has no derivative
        differences_agree(lambda x, y: _called(name, core, x, y), X, Y)


@pytest.mark.torch
@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients_agree_with_torch(name: str, torch_agrees: Callable[..., None]) -> None:
    torch = pytest.importorskip("torch")
    torch_agrees(lambda x, y: _called(name, core, x, y), X, Y, theirs=lambda x, y: _called(name, torch, x, y), ulps=512)


@pytest.mark.torch
@pytest.mark.parametrize("name", [*CALLS, *OTHERS])
def test_dtypes_shapes_and_values_agree_with_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    call = (CALLS | OTHERS)[name]
    x, y = X.astype(np.float32), Y.astype(np.float32)
    ours, theirs = call(core, Tensor(x), Tensor(y)), call(torch, torch.tensor(x), torch.tensor(y))
    if not isinstance(theirs, tuple):
        ours, theirs = (ours,), (theirs,)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.numpy().dtype
        assert tuple(mine.shape) == tuple(other.shape)
        np.testing.assert_allclose(mine.data, other.numpy(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_a_function_keeps_the_dtype_in_values_and_gradients(name: str, dtype: Any) -> None:
    x, y = (Tensor(array.astype(dtype), requires_grad=True) for array in (X, Y))
    out = _called(name, core, x, y)
    assert out.dtype == dtype
    out.backward(np.ones(out.shape))
    assert x.grad is not None
    assert x.grad.dtype == dtype

"""Every operation keeps the dtype of its floats, in values and gradients, and computes 16-bit floats accurately.

`CASES` names every public operation; a test fails if one is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from statezoo import core
from statezoo.core import Tensor, functional
from statezoo.core.autograd import indexing, operations, reductions, shaping
from statezoo.core.autograd.dtypes import is_floating

from .function_table import CALLS, OTHERS

DTYPES = [np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
Case = Callable[[Tensor], Any]
_MASK = np.arange(12).reshape(4, 3) % 2 == 0
_CLASSES = np.array([0, 2, 1, 0])


def _of(x: Tensor, *shape: int) -> Tensor:
    """Return another tensor of x's dtype: values around 0.5 that require a gradient."""
    return Tensor(np.linspace(0.25, 0.75, int(np.prod(shape))).reshape(shape).astype(x.dtype), requires_grad=True)


def _attention(x: Tensor, **options: Any) -> Tensor:
    return functional.scaled_dot_product_attention(x, _of(x, 5, 3), _of(x, 5, 2), **options)


def _packed(x: Tensor, **options: Any) -> Tensor:
    return functional.packed_attention(_of(x, 2, 4, 12) + x[0, 0], 2, **options)


def _batch_norm(x: Tensor, training: bool) -> Tensor:
    mean, variance = np.zeros(3, np.float32), np.ones(3, np.float32)
    return functional.batch_norm(x, mean, variance, _of(x, 3), _of(x, 3), training)


def _bce(x: Tensor, **options: Any) -> Tensor:
    return functional.binary_cross_entropy_with_logits(x, _of(x, 4, 3), **options)


CASES: dict[str, dict[str, Case]] = {
    "absolute": {"abs": lambda x: abs(x)},
    "add": {
        "int": lambda x: x + 1,
        "float": lambda x: 0.5 + x,
        "tensor": lambda x: x + _of(x, 3),
        "bool": lambda x: x + _MASK,
    },
    "subtract": {"int": lambda x: x - 1, "float": lambda x: 0.5 - x, "ints": lambda x: x - _CLASSES[:, None]},
    "multiply": {"int": lambda x: x * 3, "float": lambda x: 0.3 * x, "tensor": lambda x: x * _of(x, 4, 1)},
    "divide": {"int": lambda x: x / 3, "float": lambda x: 0.3 / x, "tensor": lambda x: x / _of(x, 4, 1)},
    "power": {
        "int": lambda x: x**2,
        "float": lambda x: x**0.5,
        "base": lambda x: 2**x,
        "tensor": lambda x: x ** _of(x, 3),
    },
    "matmul": {"tensor": lambda x: x @ _of(x, 3, 2), "vector": lambda x: x @ _of(x, 3), "ints": lambda x: _CLASSES @ x},
    "negative": {"": lambda x: -x},
    "exp": {"": lambda x: x.exp()},
    "log": {"": lambda x: x.log()},
    "sqrt": {"": lambda x: x.sqrt()},
    "tanh": {"": lambda x: x.tanh()},
    "sigmoid": {"": lambda x: x.sigmoid()},
    "relu": {"": lambda x: x.relu()},
    "clamp": {
        "ints": lambda x: x.clamp(0, 1),
        "floats": lambda x: x.clamp(0.3, 0.6),
        "mixed": lambda x: x.clamp(0, 0.5),
        "int min": lambda x: x.clamp(min=0),
        "int max": lambda x: x.clamp(max=1),
        "float min": lambda x: x.clamp(min=0.5),
        "float max": lambda x: x.clamp(max=0.5),
        "NumPy": lambda x: x.clamp(np.float64(0.3), np.float32(0.6)),  # pyright: ignore[reportArgumentType]
    },
    "masked_fill": {
        "int": lambda x: x.masked_fill(_MASK, 0),
        "float": lambda x: x.masked_fill(_MASK, -0.5),
        "inf": lambda x: x.masked_fill(_MASK, float("-inf")),
    },
    "where": {
        "int": lambda x: operations.where(_MASK, x, 0),
        "float": lambda x: operations.where(_MASK, 0.5, x),
        "tensor": lambda x: operations.where(_MASK, x, _of(x, 3)),
    },
    "sum": {"all": lambda x: x.sum(), "dim": lambda x: x.sum(0), "keepdim": lambda x: x.sum((0, 1), keepdim=True)},
    "mean": {"all": lambda x: x.mean(), "dim": lambda x: x.mean(-1), "nothing": lambda x: x[:0].mean()},
    "var": {"all": lambda x: x.var(), "dim": lambda x: x.var(0, correction=0), "of one": lambda x: x[:1].var(0)},
    "std": {"all": lambda x: x.std(), "dim": lambda x: x.std(0, keepdim=True)},
    "max": {"all": lambda x: x.max(), "dim": lambda x: x.max(0).values},
    "min": {"all": lambda x: x.min(), "dim": lambda x: x.min(-1, keepdim=True).values},
    "getitem": {"slice": lambda x: x[1:, None], "array": lambda x: x[_CLASSES], "mask": lambda x: x[_MASK]},
    "reshape": {"": lambda x: x.reshape(2, 6)},
    "view": {"": lambda x: x.view(12)},
    "flatten": {"": lambda x: x.flatten()},
    "permute": {"": lambda x: x.permute(1, 0)},
    "transpose": {"": lambda x: x.transpose(0, 1)},
    "squeeze": {"": lambda x: x[:1].squeeze()},
    "unsqueeze": {"": lambda x: x.unsqueeze(0)},
    "expand": {"": lambda x: x[:1].expand(5, 3)},
    "stack": {"": lambda x: shaping.stack([x, _of(x, 4, 3)])},
    "cat": {"": lambda x: shaping.cat([x, _of(x, 2, 3)])},
    "linear": {
        "bias": lambda x: functional.linear(x, _of(x, 2, 3), _of(x, 2)),
        "three axes": lambda x: functional.linear(x.unsqueeze(0), _of(x, 2, 3)),
        "ints": lambda x: functional.linear(Tensor(_CLASSES[None]), x.T),
    },
    "embedding": {
        "": lambda x: functional.embedding(_CLASSES, x),
        "padding": lambda x: functional.embedding(_CLASSES, x, 0),
    },
    "gelu": {"none": lambda x: functional.gelu(x), "tanh": lambda x: functional.gelu(x, "tanh")},
    "softmax": {"": lambda x: functional.softmax(x, -1)},
    "log_softmax": {"": lambda x: functional.log_softmax(x, 0)},
    "dropout": {"": lambda x: functional.dropout(x, 0.3), "all": lambda x: functional.dropout(x, 1.0)},
    "layer_norm": {
        "": lambda x: functional.layer_norm(x, (3,), _of(x, 3), _of(x, 3)),
        "plain": lambda x: functional.layer_norm(x, (3,)),
    },
    "rms_norm": {
        "": lambda x: functional.rms_norm(x, (3,), _of(x, 3)),
        "plain": lambda x: functional.rms_norm(x, (3,)),
    },
    "group_norm": {"": lambda x: functional.group_norm(x, 1, _of(x, 3), _of(x, 3))},
    "instance_norm": {"": lambda x: functional.instance_norm(x.reshape(2, 3, 2), None, None, _of(x, 3), _of(x, 3))},
    "dropout1d": {"": lambda x: functional.dropout1d(x)},
    "dropout2d": {"": lambda x: functional.dropout2d(x.reshape(2, 3, 2))},
    "dropout3d": {"": lambda x: functional.dropout3d(x.reshape(2, 3, 2, 1))},
    "batch_norm": {
        "training": lambda x: _batch_norm(x, True),
        "evaluation": lambda x: _batch_norm(x, False),
        "three axes": lambda x: _batch_norm(x.unsqueeze(2), True),
    },
    "mse_loss": {
        "mean": lambda x: functional.mse_loss(x, _of(x, 4, 3)),
        "sum": lambda x: functional.mse_loss(x, _of(x, 4, 3), reduction="sum"),
        "none": lambda x: functional.mse_loss(x, np.zeros((4, 3)), reduction="none"),
    },
    "binary_cross_entropy_with_logits": {
        "mean": _bce,
        "sum": lambda x: _bce(x, reduction="sum"),
        "none": lambda x: _bce(x, weight=2.0, pos_weight=[1, 2, 3], reduction="none"),
    },
    "cross_entropy": {
        "classes": lambda x: functional.cross_entropy(x, _CLASSES),
        "options": lambda x: functional.cross_entropy(
            x, _CLASSES, [1, 2, 3], ignore_index=0, reduction="sum", label_smoothing=0.1
        ),
        "none": lambda x: functional.cross_entropy(x, _CLASSES, reduction="none"),
        "probabilities": lambda x: functional.cross_entropy(x, _of(x, 4, 3), label_smoothing=0.1),
    },
    "scaled_dot_product_attention": {
        "plain": _attention,
        "causal": lambda x: _attention(x, is_causal=True),
        "bool mask": lambda x: _attention(x, attn_mask=np.tri(4, 5, dtype=bool)),
        "float mask": lambda x: _attention(x, attn_mask=np.zeros((4, 5))),
        "trained mask": lambda x: _attention(x, attn_mask=_of(x, 4, 5)),
        "dropout": lambda x: _attention(x, dropout_p=0.3),
    },
    "packed_attention": {
        "plain": _packed,
        "causal": lambda x: _packed(x, is_causal=True),
        "trained mask": lambda x: _packed(x, attn_mask=_of(x, 4, 4)),
        "dropout": lambda x: _packed(x, dropout_p=0.3),
    },
}


# The functions of tensors that torch has under the same name have their cases in function_table.py.
ELSEWHERE = {name.partition(",")[0] for name in CALLS | OTHERS}


def test_every_function_of_tensors_has_a_case() -> None:
    public = {
        getattr(module, name) for module in (operations, reductions, shaping, indexing) for name in module.__all__
    }
    named = set(CASES) | ELSEWHERE | {"absolute"}
    covered = {getattr(core, name) for name in named if hasattr(core, name)}
    assert {function.__name__ for function in public - covered} == {"allclose", "equal"}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in CASES.items() for case in cases])
def test_an_operation_keeps_the_dtype_in_values_and_gradients(name: str, case: str, dtype: np.dtype) -> None:
    values = np.linspace(0.1, 0.9, 12).reshape(4, 3)
    x = Tensor(values.astype(dtype), requires_grad=True)
    out = CASES[name][case](x)
    assert out.dtype == dtype
    out.backward(np.ones(out.shape))
    assert x.grad is not None
    assert x.grad.dtype == dtype


# x: (4000, 1), values around 1. Sums over so many 16-bit floats overflow, or stop growing at 256.
LONG: dict[str, Case] = {
    "sum": lambda x: x.sum() * 0.01,
    "mean": lambda x: x.mean(),
    "var": lambda x: x.var(),
    "std": lambda x: x.std(),
    "softmax": lambda x: functional.softmax(x, 0) * x,
    "log_softmax": lambda x: functional.log_softmax(x, 0),
    "layer_norm": lambda x: functional.layer_norm(x.T, (4000,)) * x.T,
    "batch_norm": lambda x: functional.batch_norm(x, None, None, training=True) * x,
    "mse_loss": lambda x: functional.mse_loss(x, np.zeros((4000, 1))),
    "binary_cross_entropy_with_logits": lambda x: functional.binary_cross_entropy_with_logits(x, np.zeros((4000, 1))),
    "cross_entropy": lambda x: functional.cross_entropy(x.T, [0]),
    "attention": lambda x: functional.scaled_dot_product_attention(x[:2], x, x),
    "a repeated operand": lambda x: Tensor(np.ones((4000, 1)), requires_grad=True).to(x.dtype) * x[0] * 0.01,
    "a bias": lambda x: functional.linear(x.detach(), x[:1], x[0]) * 0.01,
    "an embedding": lambda x: functional.embedding(np.zeros(4000, int), x) * 0.01,
    "an index": lambda x: x[np.zeros(4000, int)] * 0.01,
    "sigmoid": lambda x: x.sigmoid(),
    "gelu": lambda x: functional.gelu(x),
    "gelu by tanh": lambda x: functional.gelu(x, "tanh"),
}


@pytest.mark.parametrize("dtype", DTYPES[2:], ids=str)
@pytest.mark.parametrize("name", LONG)
def test_16_bit_floats_are_as_accurate_as_their_rounding(name: str, dtype: np.dtype) -> None:
    values = np.random.default_rng(0).uniform(0.5, 1.5, (4000, 1)).astype(dtype)
    narrow, exact = (Tensor(values.astype(wanted), requires_grad=True) for wanted in (dtype, np.float64))
    pairs = []
    for x in (narrow, exact):
        out = LONG[name](x)
        out.backward(np.ones(out.shape))
        assert x.grad is not None
        pairs.append((out.data.astype(np.float64), x.grad.astype(np.float64)))
    tolerance = 4 * float(ml_dtypes.finfo(dtype).eps)
    for found, expected in zip(*pairs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


def test_a_limit_outside_the_range_of_the_dtype_has_no_effect() -> None:
    half, byte = Tensor(np.array([1, 2], np.float16)), Tensor(np.array([1, 200], np.uint8))
    assert half.clamp(-1e9, 1e9).data.tolist() == [1, 2]
    assert byte.clamp(-1, 100).data.tolist() == [1, 100]
    assert byte.clamp(-1, 300).dtype == np.uint8
    assert Tensor([True, False]).clamp(0, 1).dtype == np.int64  # as in torch


def test_clamping_integers_to_a_float_gives_float32() -> None:
    out = Tensor([1, 2]).clamp(min=1.5)
    assert out.dtype == np.float32
    assert out.data.tolist() == [1.5, 2.0]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.float16, True),
        (">f8", True),
        (ml_dtypes.bfloat16, True),
        (ml_dtypes.float8_e4m3fn, True),
        (ml_dtypes.float8_e5m2, True),
        (ml_dtypes.int4, False),
        (np.int64, False),
        (np.bool_, False),
        (np.complex64, False),
        ("V2", False),
    ],
)
def test_floating_dtypes_are_recognized(dtype: Any, expected: bool) -> None:
    assert is_floating(np.dtype(dtype)) is expected

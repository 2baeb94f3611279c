"""The losses as modules, with torch.nn as the oracle."""

from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.core import BCEWithLogitsLoss, CrossEntropyLoss, Linear, MSELoss, ShapeError, Tensor

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.standard_normal((4, 3)).astype(np.float32)
VALUES = RANDOM.uniform(0, 1, (4, 3)).astype(np.float32)
CLASSES = np.array([0, 2, -100, 1])
FACTORS = np.array([1, 2, 3], np.float32)

CASES: dict[str, Any] = {
    "mse": (lambda nn, array: nn.MSELoss(), VALUES),
    "mse sum": (lambda nn, array: nn.MSELoss(reduction="sum"), VALUES),
    "mse none": (lambda nn, array: nn.MSELoss(reduction="none"), VALUES),
    "cross entropy": (lambda nn, array: nn.CrossEntropyLoss(), CLASSES),
    "cross entropy of weighted classes": (lambda nn, array: nn.CrossEntropyLoss(weight=array(FACTORS)), CLASSES),
    "cross entropy ignoring": (lambda nn, array: nn.CrossEntropyLoss(ignore_index=2), np.array([0, 2, 2, 1])),
    "cross entropy smoothed": (lambda nn, array: nn.CrossEntropyLoss(label_smoothing=0.2, reduction="sum"), CLASSES),
    "cross entropy none": (lambda nn, array: nn.CrossEntropyLoss(reduction="none"), CLASSES),
    "binary": (lambda nn, array: nn.BCEWithLogitsLoss(), VALUES),
    "binary weighted": (
        lambda nn, array: nn.BCEWithLogitsLoss(array(FACTORS), reduction="sum", pos_weight=array(FACTORS * 2)),
        VALUES,
    ),
}


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES)
def test_a_loss_and_its_gradient_agree_with_torch(case):
    import torch

    make, target = CASES[case]
    ours, theirs = make(core, np.array), make(torch.nn, torch.tensor)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    a, b = Tensor(LOGITS, requires_grad=True), torch.tensor(LOGITS, requires_grad=True)
    loss, expected = ours(a, Tensor(target)), theirs(b, torch.tensor(target))
    np.testing.assert_allclose(loss.data, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    loss.sum().backward()
    expected.sum().backward()
    assert a.grad is not None
    assert b.grad is not None
    np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_the_weights_of_a_loss_are_buffers_and_are_converted_with_it():
    loss = BCEWithLogitsLoss(FACTORS, pos_weight=FACTORS).double()
    assert {name: array.dtype for name, array in loss.state_dict().items()} == {
        "weight": np.float64,
        "pos_weight": np.float64,
    }
    assert list(CrossEntropyLoss().state_dict()) == []


@pytest.mark.parametrize("loss", [MSELoss(), BCEWithLogitsLoss()])
def test_a_column_of_predictions_does_not_broadcast_against_a_row_of_targets(loss):
    predictions = Linear(2, 1)(np.ones((4, 2), np.float32))  # (4, 1)
    with pytest.raises(ShapeError) as caught:
        loss(predictions, Tensor(np.ones(4, np.float32)))
    assert "input (4, 1) and target (4,) differ" in str(caught.value)
    assert "target.unsqueeze(1)" in str(caught.value)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint64"])
@pytest.mark.parametrize("shape", [(200, 3), (200, 3, 1), (1, 3, 200)])
def test_cross_entropy_takes_classes_of_any_integer_dtype_and_logits_in_fortran_order(shape, dtype):
    logits = np.asfortranarray(RANDOM.standard_normal(shape))
    classes = RANDOM.integers(3, size=shape[:1] + shape[2:])
    x = Tensor(logits, requires_grad=True)
    core.functional.cross_entropy(x, classes.astype(dtype)).backward()
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    one_hot = np.moveaxis(np.eye(3)[classes], -1, 1)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, (softmax - one_hot) / classes.size, atol=1e-12)


def test_cross_entropy_of_16_bits_keeps_the_gradient_of_many_rows_and_the_sum_over_many_classes():
    rows, classes = 20_000, 3000
    x = Tensor(np.zeros((rows, classes), np.float16), requires_grad=True)
    loss = core.functional.cross_entropy(x, np.zeros(rows, np.int64))
    loss.backward()
    assert loss.dtype == np.float16
    assert float(loss) == pytest.approx(np.log(classes), rel=1e-3)
    assert x.grad is not None
    assert float(x.grad[0, 0]) * rows == pytest.approx(-1, rel=1e-2)


def test_cross_entropy_without_classes_is_refused_even_if_all_rows_are_ignored():
    logits = Tensor(np.zeros((2, 0), np.float32))
    with pytest.raises(ShapeError, match=r"cross_entropy: the input \(2, 0\) has no classes"):
        core.functional.cross_entropy(logits, np.full(2, -100))

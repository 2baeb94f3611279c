"""Operations are recorded under the names that users call them by; doctor() and summary() show these names."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo.core import Linear, Module, Parameter, Tensor, cat, doctor, functional, no_grad, stack, where

OPERATIONS: dict[str, Callable[[Tensor], Any]] = {
    "add": lambda x: 1 + x,
    "subtract": lambda x: 1 - x,
    "multiply": lambda x: 2 * x,
    "divide": lambda x: 2 / x,
    "power": lambda x: 2**x,
    "matmul": lambda x: x @ x.T,
    "negative": lambda x: -x,
    "abs": lambda x: abs(x),
    "where": lambda x: where(x > 0, x, 0),
    "sum": lambda x: x.sum(),
    "max": lambda x: x.max(),
    "min": lambda x: x.min(0).values,
    "getitem": lambda x: x[0],
    "stack": lambda x: stack([x, x]),
    "cat": lambda x: cat([x, x]),
    "clone": lambda x: x.clone(),
    "to": lambda x: x.double(),
    "gelu": lambda x: functional.gelu(x, "tanh"),
    "softmax": lambda x: functional.softmax(x, -1),
    "dropout": lambda x: functional.dropout(x),
    "cross_entropy": lambda x: functional.cross_entropy(x, [0, 1]),
    "mse_loss": lambda x: functional.mse_loss(x, x),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_recorded_under_the_name_users_know(name: str) -> None:
    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    assert OPERATIONS[name](x)._operation == name


def test_a_tensor_without_an_operation_has_no_name() -> None:
    x = Tensor([1.0], requires_grad=True)
    with no_grad():
        y = x * 2
    assert x._operation == y._operation == ""


def test_the_doctor_names_an_operation_as_users_call_it() -> None:
    class Forgotten(Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            scale = Parameter(np.ones(3, np.float32))
            return self.linear(x) * scale.max()

    report = doctor(Forgotten(), batch=np.ones((4, 3), np.float32))
    assert " in max and " in str(report)

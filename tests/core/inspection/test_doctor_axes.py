"""The doctor on a softmax over axis 0: a bug over the examples of a batch, fine where it is intended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo.core import Linear, Module, Sequential, Softmax, Tensor, doctor
from statezoo.core import functional as F

X = np.random.default_rng(9).standard_normal((32, 8)).astype(np.float32)
SEQUENCES = np.random.default_rng(9).standard_normal((16, 5, 8)).astype(np.float32)
Y = np.arange(32) % 4
ROWS = np.arange(32)


class Net(Module):
    """A layer followed by `after`."""

    def __init__(self, after: Callable[[Tensor], Any], width: int = 4) -> None:
        super().__init__()
        self.fc, self.after = Linear(8, width), after

    def forward(self, x: Tensor) -> Any:
        return self.after(self.fc(x))


def negative_log_likelihood(output: Tensor, target: Any) -> Tensor:
    return -F.log_softmax(output, dim=0)[ROWS, target].mean()


OVER_EXAMPLES: list[tuple[Module, Any, Any, str, str]] = [
    (Sequential(Linear(8, 4), Softmax(0)), X, None, "1", "softmax of (32, 4) sums to 1 over the 32"),
    (Net(lambda h: F.log_softmax(h, dim=0)), X, None, "the output", "log_softmax of (32, 4) sums to 1 over the 32"),
    (Net(lambda h: F.softmax(h, dim=0)), SEQUENCES, None, "the output", "softmax of (16, 5, 4) sums to 1 over the 16"),
    (
        Sequential(Linear(8, 4)),
        (X, Y),
        negative_log_likelihood,
        "the loss",
        "log_softmax of (32, 4) sums to 1 over the 32",
    ),
]


@pytest.mark.parametrize(("model", "batch", "loss", "name", "seen"), OVER_EXAMPLES)
def test_a_softmax_over_the_examples_is_found_at_the_end_of_the_model(
    model: Module, batch: Any, loss: Any, name: str, seen: str
):
    (finding,) = doctor(model, None, batch, loss).findings
    assert (finding.kind, finding.name) == ("axis", name)
    assert finding.seen.startswith(seen)
    assert finding.fix == ("model[1].dim = -1" if name == "1" else f"F.{seen.split()[0]}(x, dim=-1)")


def test_the_fix_for_a_softmax_layer_fixes_it():
    model = Softmax(0)
    (finding,) = doctor(model, batch=Tensor(X, requires_grad=True)).findings
    assert finding.name == "the output"
    exec(finding.fix, {"model": model})
    assert doctor(model, batch=Tensor(X, requires_grad=True))


def bag(h: Tensor) -> Tensor:
    """Return attention over the instances of one bag (Ilse et al. 2018, arXiv:1802.04712, eq. 8), with four heads."""
    return F.softmax(h, dim=0).T @ h


MEANT: list[tuple[Module, Any]] = [
    (Net(lambda h: F.softmax(h, dim=-1)), X),
    (Net(lambda h: F.softmax(h, dim=1)), SEQUENCES),
    (Net(lambda h: F.softmax(0 * h, dim=1)), X),
    (Net(bag), X),
    (Net(lambda h: (bag(h), F.softmax(h, dim=0))), X),
    (Net(lambda h: F.softmax(h @ h.T, dim=0)), X),
    (Net(lambda h: F.softmax(h, dim=0), width=1), X),
    (Net(lambda h: F.softmax(h, dim=0)), X[:1]),
    (Net(lambda h: F.softmax(h, dim=0)), X[0]),
]


@pytest.mark.parametrize(("model", "batch"), MEANT)
def test_a_softmax_over_classes_instances_or_pairs_is_not_reported(model: Module, batch: Any):
    assert doctor(model, batch=batch)

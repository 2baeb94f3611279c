"""The doctor on steps that increase the loss. Small, negative or mixed losses are not reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo.core import Linear, ReLU, Sequential, Tensor, doctor, manual_seed, optim
from statezoo.core import functional as F

RANDOM = np.random.default_rng(5)
X = RANDOM.standard_normal((32, 8)).astype(np.float32)
Y = np.arange(32) % 4
ROWS = np.arange(32)
RETURNS = Tensor(RANDOM.standard_normal(32).astype(np.float32))


def perceptron() -> Sequential:
    manual_seed(0)
    return Sequential(Linear(8, 32), ReLU(), Linear(32, 4))


# --- learning rates


@pytest.mark.parametrize(("kind", "lr"), [(optim.SGD, 1e3), (optim.Adam, 3.0), (optim.AdamW, 1e4)])
@pytest.mark.parametrize(("loss", "target"), [(F.cross_entropy, Y), (F.mse_loss, X[:, :4])])
def test_a_learning_rate_that_makes_the_loss_explode_is_found_and_the_fix_fixes_it(
    kind: Any, lr: float, loss: Any, target: Any
):
    model = perceptron()
    optimizer = kind(model.parameters(), lr=lr)
    (finding,) = doctor(model, optimizer, (X, target), loss).findings
    assert (finding.kind, finding.name) == ("update", "the learning rate")
    assert finding.seen.endswith(f"times as long as the parameters: lr is {lr:g}")
    exec(finding.fix, {"optimizer": optimizer})
    assert 0 < optimizer.param_groups[0]["lr"] < 0.1 * lr
    assert doctor(model, optimizer, (X, target), loss)


def test_a_step_that_overflows_is_reported_with_the_rates_of_all_groups():
    model = perceptron()
    groups = [{"params": model[0].parameters(), "lr": 1e39}, {"params": model[2].parameters(), "lr": 1e20}]
    x = np.where(np.arange(8) == 3, 0, X)  # the weights of a feature that is always 0 have a gradient of 0
    (finding,) = doctor(model, optim.SGD(groups), (x, x[:, :4]), F.mse_loss).findings
    assert finding.seen.startswith("one step takes the loss of the same batch from 0.")
    assert finding.seen.endswith("inf times as long as the parameters: lr is 1e+20 and 1e+39")
    assert finding.fix == 'for group in optimizer.param_groups: group["lr"] *= 0.0001'


def test_a_first_step_that_increases_a_loss_near_zero_is_not_reported():
    manual_seed(1)
    model = Linear(8, 4)
    target = model(Tensor(X)).data + np.float32(1e-6)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    assert F.mse_loss(model(Tensor(X)), Tensor(target)).item() < 1e-10
    assert doctor(model, optimizer, (X, target), F.mse_loss)


def test_a_long_step_is_not_reported_if_the_loss_does_not_explode_or_can_be_negative():
    model = perceptron()
    assert doctor(model, optim.SGD(model.parameters(), lr=30.0), (X, Y), F.cross_entropy)
    shifted = doctor(model, optim.SGD(model.parameters(), lr=1e3), (X, Y), lambda o, t: F.cross_entropy(o, t) - 9)
    assert shifted


def test_a_nan_gradient_is_not_blamed_on_the_learning_rate():
    model = Linear(8, 4, bias=False)

    def loss(output: Tensor, target: Any) -> Tensor:
        return (output * output).sum(1).sqrt().mean()

    x = np.concatenate([X, np.zeros((1, 8), np.float32)])
    (finding,) = doctor(model, optim.SGD(model.parameters(), lr=0.1), (x, Y), loss).findings
    assert finding.kind == "gradient"


# --- signs

UPSIDE_DOWN: list[tuple[Callable[[Tensor, Any], Tensor], str]] = [
    (lambda o, t: -F.cross_entropy(o, t), "it is cross_entropy with a minus: "),
    (lambda o, t: (-F.cross_entropy(o, t, reduction="none")).mean(), "it is cross_entropy with a minus: "),
    (lambda o, t: -F.mse_loss(o, X[:, :4]), "it is mse_loss with a minus: "),
    (lambda o, t: F.log_softmax(o, dim=1)[ROWS, t].mean(), "it is a log probability without a minus: "),
    (lambda o, t: F.softmax(o, dim=1)[ROWS, t].log().sum(), "it is a log probability without a minus: "),
]


@pytest.mark.parametrize(("loss", "seen"), UPSIDE_DOWN)
def test_a_loss_of_the_wrong_sign_is_found(loss: Callable[..., Any], seen: str):
    (finding,) = doctor(Linear(8, 4), None, (X, Y), loss).findings
    assert (finding.kind, finding.name) == ("loss", "the loss")
    assert finding.seen.startswith(seen)
    assert finding.fix.startswith("loss = F.")


def test_a_missing_minus_is_found_if_the_model_ends_in_a_log_softmax():
    class LogProbabilities(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.log_softmax(super().forward(x), dim=1)

    model = LogProbabilities(8, 4)
    (finding,) = doctor(model, None, (X, Y), lambda o, t: o[ROWS, t].mean()).findings
    assert finding.seen.startswith("it is a log probability without a minus")
    assert doctor(model, None, (X, Y), lambda o, t: -o[ROWS, t].mean())


def entropy(logits: Tensor) -> Tensor:
    return -(F.softmax(logits, dim=1) * F.log_softmax(logits, dim=1)).sum(1).mean()


MEANT: list[Callable[[Tensor, Any], Tensor]] = [
    lambda o, t: -F.log_softmax(o, dim=1)[ROWS, t].mean(),
    lambda o, t: -(F.log_softmax(o, dim=1)[ROWS, t] * RETURNS).mean(),  # a policy gradient
    lambda o, t: -(-200 * F.log_softmax(o, dim=1)[ROWS, t].sum()),  # of an episode with a negative return
    lambda o, t: F.cross_entropy(o, t) * -1.0,
    lambda o, t: F.softmax(o, dim=1)[ROWS, t].mean(),  # the expected cost
    lambda o, t: F.cross_entropy(o, t) - 0.01 * entropy(o),
    lambda o, t: -entropy(o),
    lambda o, t: F.cross_entropy(o, t).exp(),
    lambda o, t: -F.binary_cross_entropy_with_logits(o, np.zeros((32, 4), np.float32)),  # Goodfellow et al. 2014, eq. 1
    lambda o, t: 1 / F.mse_loss(o, X[:, :4]),
    lambda o, t: -(o.mean()),  # a critic's
]


@pytest.mark.parametrize("loss", MEANT)
def test_a_sign_that_may_be_intended_is_not_reported(loss: Callable[..., Any]):
    model = Linear(8, 4)
    assert doctor(model, optim.Adam(model.parameters(), lr=1e-3), (X, Y), loss)


def test_maximizing_the_loss_of_a_classifier_outside_the_model_is_not_reported():
    features, judge = Linear(8, 8), Linear(8, 4)
    assert doctor(features, loss=lambda: -F.cross_entropy(judge(features(Tensor(X))), Y))

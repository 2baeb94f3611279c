"""The doctor on several optimizers, each with a part of the model and perhaps its own loss."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from statezoo.core import Dropout, Linear, Module, Parameter, ReLU, Sequential, Tensor, doctor, manual_seed, optim
from statezoo.core import functional as F

X = np.random.default_rng(3).standard_normal((32, 4)).astype(np.float32)


class Gan(Module):
    """A generator and its critic (Goodfellow et al. 2014, arXiv:1406.2661)."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = Sequential(Linear(4, 16), ReLU(), Linear(16, 4))
        self.critic = Sequential(Linear(4, 16), ReLU(), Linear(16, 1))

    def of_generator(self) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.critic(self.generator(Tensor(X))), np.ones((32, 1), np.float32))

    def of_critic(self) -> Tensor:
        made = self.generator(Tensor(X)).detach()
        real = F.binary_cross_entropy_with_logits(self.critic(Tensor(X)), np.ones((32, 1), np.float32))
        return real + F.binary_cross_entropy_with_logits(self.critic(made), np.zeros((32, 1), np.float32))


@pytest.fixture
def gan() -> Gan:
    manual_seed(0)
    return Gan()


def both(gan: Gan, lr: float = 1e-3) -> list[optim.Optimizer]:
    return [optim.Adam(gan.generator.parameters(), lr=lr), optim.SGD(gan.critic.parameters(), lr=lr)]


def test_nothing_is_found_or_changed_with_two_optimizers_and_a_loss_for_each(gan: Gan):
    optimizers = both(gan)
    gan.of_generator().backward()
    optimizers[0].step()
    before = pickle.dumps([gan.state_dict(), [optimizer.state_dict() for optimizer in optimizers]])
    assert str(doctor(gan, optimizers)) == "Gan: nothing found (looked at the tree, the optimizers)"
    for loss in (gan.of_generator, gan.of_critic, lambda: gan.of_generator() + gan.of_critic()):
        assert doctor(gan, optimizers, loss=loss)
    assert pickle.dumps([gan.state_dict(), [optimizer.state_dict() for optimizer in optimizers]]) == before


def test_one_optimizer_or_none_may_be_given_in_a_sequence(gan: Gan):
    alone = optim.Adam(gan.generator.parameters())
    assert doctor(gan, [alone]).findings == doctor(gan, alone).findings != ()
    assert doctor(gan, []).looked_at == ("the tree",)


def test_a_parameter_held_by_no_optimizer_or_by_two_is_found(gan: Gan):
    optimizers = [
        optim.Adam(gan.generator.parameters()),
        optim.SGD([*gan.critic[0].parameters(), gan.critic[2].weight, gan.generator[0].weight]),
    ]
    lacking, twice = doctor(gan, optimizers).findings
    assert (lacking.kind, lacking.name) == ("optimizer", "critic.2.bias")
    assert lacking.seen == "it requires a gradient, but no optimizer holds it: no step changes it"
    assert lacking.fix.startswith("optimizers[0] = Adam([..., model.critic[2].bias], ...), after the last change")
    assert (twice.kind, twice.name) == ("optimizer", "generator.0.weight")
    assert twice.seen == "two optimizers hold it: each of them changes it"
    assert twice.fix == "optimizers[1] = SGD([...], ...), without it"


def test_memory_held_by_two_optimizers_and_a_parameter_removed_from_the_model_are_found(gan: Gan):
    gan.critic[0].weight = Parameter(gan.generator[0].weight.data)
    gan.critic[0].bias = Parameter(np.zeros(16, np.float32))
    optimizers = both(gan)
    gan.critic[0].bias = Parameter(np.zeros(16, np.float32))
    lacking, twice, lost = doctor(gan, optimizers).findings
    assert lacking.name == "critic.0.bias"
    assert twice.seen.startswith("two optimizers hold the memory that it shares with critic.0.weight: ")
    assert lost.seen.startswith("the optimizer holds it, but it is no longer in the model")
    assert lost.fix == "optimizers[1] = SGD([...], ...), after the last change to the model"


def test_a_learning_rate_is_fixed_in_its_own_optimizer(gan: Gan):
    optimizers = both(gan)
    optimizers[1].param_groups[0]["lr"] = 1e-12
    report = doctor(gan, optimizers, loss=gan.of_critic)
    assert {finding.kind for finding in report.findings} == {"update"}
    assert report.findings[0].fix == 'optimizers[1].param_groups[0]["lr"] = 1e-3'
    optimizers[1].param_groups[0]["lr"] = 1e4
    (finding,) = doctor(gan, optimizers, loss=gan.of_critic).findings
    assert finding.seen.endswith("lr is 10000")
    assert finding.fix.startswith("for group in optimizers[1].param_groups: group")
    optimizers = both(gan, lr=1e3)
    (finding,) = doctor(gan, optimizers, loss=lambda: gan.of_generator() + gan.of_critic()).findings
    exec(finding.fix, {"optimizers": optimizers})
    assert [optimizer.param_groups[0]["lr"] < 100 for optimizer in optimizers] == [True, True]


def test_a_parameter_that_its_optimizers_loss_does_not_reach_is_still_found(gan: Gan):
    def loss() -> Any:
        return F.mse_loss(gan.generator[2](Tensor(np.ones((32, 16), np.float32))), Tensor(X))

    report = doctor(gan, both(gan), loss=loss)
    assert [finding.name for finding in report.findings] == ["generator.0.weight", "generator.0.bias"]


def test_a_model_with_several_optimizers_counts_as_in_training(gan: Gan):
    gan.critic[1] = Dropout(0.5)
    assert [finding.kind for finding in doctor(gan.eval(), both(gan)).findings] == ["mode"]


def test_a_loss_that_reaches_no_optimizer_is_a_finding(gan: Gan):
    other = Linear(4, 1)
    for optimizer in (optim.SGD(gan.parameters()), both(gan)):
        report = doctor(gan, optimizer, loss=lambda: other(Tensor(X)).mean())
        assert report.findings[0].seen == "step() found no gradient in any parameter"
        assert [finding.kind for finding in report.findings] == ["step"] + 8 * ["gradient"]


@pytest.mark.parametrize(
    "lose",
    [
        lambda gan: setattr(gan, "critic", Linear(4, 1)),
        lambda gan: delattr(gan, "critic"),
        lambda gan: gan._modules.pop("critic"),
        lambda gan: gan.critic.__setitem__(0, Linear(4, 16)),
        lambda gan: gan.critic.__delitem__(0),
        lambda gan: setattr(gan.critic[0], "weight", Parameter(np.ones((16, 4), np.float32))),
        lambda gan: [gan.critic.__setitem__(0, Linear(4, 16)) for _ in range(3)],
    ],
)
def test_a_parameter_removed_from_the_model_is_found_however_it_was_removed(gan: Gan, lose: Any):
    optimizer = optim.SGD(gan.named_parameters(), lr=0.1)
    lose(gan)
    lost = [finding for finding in doctor(gan, optimizer).findings if "no longer" in finding.seen]
    assert "critic.0.weight" in [finding.name for finding in lost]


def test_an_optimizer_shared_by_two_models_is_not_reported(gan: Gan):
    other = Linear(4, 4)
    assert doctor(gan, optim.SGD([*gan.parameters(), *other.parameters()], lr=0.1))


def test_a_layer_moved_within_the_model_is_not_reported(gan: Gan):
    optimizer = optim.SGD(gan.parameters(), lr=0.1)
    gan.moved, gan.critic = gan.critic, Sequential()
    assert doctor(gan, optimizer)


def test_an_eps_that_rounds_to_0_in_float16_is_reported_once_per_optimizer():
    model = Sequential(Linear(4, 4), Linear(4, 1))
    model.to(np.float16)
    report = doctor(model, optim.Adam(model.parameters()))
    assert [(finding.kind, finding.name) for finding in report.findings] == [("optimizer", "0.weight")]
    assert report.findings[0].seen.startswith("eps=1e-08 rounds to 0 in float16")
    assert doctor(model, optim.Adam(model.parameters(), eps=1e-4)).ok
    assert doctor(model.to(np.float32), optim.Adam(model.parameters())).ok

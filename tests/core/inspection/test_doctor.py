"""The doctor finds nothing in correct models and leaves no trace in any. tests/museum shows the bugs it finds."""

from __future__ import annotations

import copy
import itertools
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.core import (
    GELU,
    BatchNorm1d,
    CrossEntropyLoss,
    Dropout,
    Embedding,
    Linear,
    Module,
    Parameter,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
    Tensor,
    TransformerBlock,
    default_generator,
    doctor,
    init,
    manual_seed,
    no_grad,
    optim,
)
from statezoo.core import functional as F


def arrays(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def classes(count: int = 32, of: int = 4) -> np.ndarray:
    return np.arange(count) % of


BATCH = (arrays(32, 8), classes())

# --- everything is restored


class Busy(Module):
    """A module with all kinds of attributes that changes all of them in each forward."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm, self.fc2 = Linear(8, 16), BatchNorm1d(16), Linear(16, 4)
        self.dropout = Dropout(0.5)
        self.calls = 0
        self.history: list[Any] = [1, [2]]
        self.seen: dict[str, Any] = {"a": np.ones(2), "set": {1}}
        self.last = np.zeros(3)
        self.generator = np.random.default_rng(3)
        self.python = random.Random(4)
        self.register_buffer("count", np.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.history.append(x)
        self.history[1].append(3)
        self.seen["a"] += 1
        self.seen["set"].add(self.calls)
        self.seen[f"b{self.calls}"] = x
        self.last[0] += 1
        self.extra = x * 1
        self.late = Linear(2, 2)
        self.count.data += 1
        self.count = self.count.data + 1
        noise = self.generator.random() + self.python.random() + random.random() + np.random.random()  # noqa: NPY002
        return self.fc2(self.dropout(F.relu(self.norm(self.fc1(x))))) + 0 * noise


def picture(model: Module, optimizer: optim.Optimizer, *others: Any) -> bytes:
    """Return everything visible, as bytes."""
    gradients = [p.grad for p in model.parameters()]
    modes = [module.training for module in model.modules()]
    plain = {name: value for name, value in vars(model).items() if not name.startswith("_")}
    generators = [default_generator().bit_generator.state, random.getstate(), np.random.get_state()]  # noqa: NPY002
    names = [list(vars(module)) for module in model.modules()]
    return pickle.dumps(
        copy.deepcopy(
            [model.state_dict(), gradients, modes, plain, generators, names, optimizer.state_dict(), vars(optimizer)]
        ),
        protocol=5,
    ) + pickle.dumps(others)


def trained(model: Module) -> optim.Optimizer:
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    F.cross_entropy(Sequential(model.fc1, model.fc2)(Tensor(BATCH[0])), BATCH[1]).backward()
    optimizer.step()
    return optimizer


def identities(model: Module) -> list[int]:
    found = [vars(module) for module in model.modules()]
    found += [kind for module in model.modules() for kind in (module._parameters, module._buffers, module._modules)]
    tensors = [*model.parameters(), *model.buffers()]
    return [id(each) for each in (*found, *tensors, *(t.data for t in tensors), *(t.grad for t in tensors))]


def raising_loss(output: Tensor, target: Any) -> Tensor:
    raise ZeroDivisionError("in the loss")


class RaisingSGD(optim.Adam):
    def step(self, closure: Any = None) -> None:
        super().step(closure)
        raise ZeroDivisionError("after the step")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("loss", [F.cross_entropy, None, raising_loss])
def test_everything_is_restored_bit_by_bit_even_if_the_loss_raises(loss: Any, training: bool):
    model = Busy().train(training)
    optimizer = trained(model)
    x, y = Tensor(BATCH[0].copy(), requires_grad=True), BATCH[1].copy()
    before, same = picture(model, optimizer, x.data, y, x.grad), identities(model)
    if loss is raising_loss:
        with pytest.raises(ZeroDivisionError, match="in the loss"):
            doctor(model, optimizer, (x, y), loss)
    else:
        assert not any(finding.kind == "step" for finding in doctor(model, optimizer, (x, y), loss).findings)
    assert picture(model, optimizer, x.data, y, x.grad) == before
    assert identities(model) == same


def test_everything_is_restored_if_the_step_raises_halfway():
    model = Busy()
    trained(model)
    optimizer = RaisingSGD(model.parameters(), lr=0.01)
    before = picture(model, optimizer)
    with pytest.raises(ZeroDivisionError, match="after the step"):
        doctor(model, optimizer, BATCH, F.cross_entropy)
    assert picture(model, optimizer) == before


def test_a_layer_registered_by_forward_is_removed_and_the_optimizer_still_steps():
    model = Busy()
    optimizer = trained(model)
    doctor(model, optimizer, BATCH, F.cross_entropy)
    assert not hasattr(model, "late")
    optimizer.step()
    assert len(list(model.parameters())) == 6


def test_a_layer_replaced_by_forward_is_restored():
    class Replacing(Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            out = self.fc(x)
            self.fc = replacements[0]
            return out

    model, replacements = Replacing(), [Linear(8, 4)]
    optimizer, layer = optim.SGD(model.parameters(), lr=0.1), model.fc
    doctor(model, optimizer, BATCH, F.cross_entropy)
    assert model.fc is layer
    layer(Tensor(BATCH[0])).sum().backward()
    optimizer.step()
    assert not doctor(model, optimizer).about("parameter 0 with shape (4, 8)")
    model.fc = replacements[0]
    findings = doctor(model, optimizer).findings
    assert [finding.seen.split(":")[0] for finding in findings] == [
        "it requires a gradient, but the optimizer does not hold it",
        "it requires a gradient, but the optimizer does not hold it",
        "the optimizer holds it, but it is no longer in the model",
        "the optimizer holds it, but it is no longer in the model",
    ]


def test_trainable_tensors_outside_the_model_keep_their_gradients():
    model, slope = WithTeacher(), Parameter([1.0])
    model.forward = lambda x: model.student(x) + model.teacher(x) * slope
    model.teacher.bias.grad = np.ones(4, np.float32)
    doctor(model, None, BATCH, F.cross_entropy)
    assert model.teacher.weight.grad is None
    assert model.teacher.bias.grad.tolist() == [1, 1, 1, 1]
    assert slope.grad is None


def test_the_doctor_does_not_affect_the_next_training_step():
    def next_step(ask: bool) -> bytes:
        manual_seed(5)
        model = Sequential(Linear(8, 16), BatchNorm1d(16), ReLU(), Dropout(0.3), Linear(16, 4))
        optimizer = optim.AdamW(model.parameters(), lr=0.01)
        for step in range(3):
            if ask and step:
                doctor(model, optimizer, BATCH, F.cross_entropy)
            optimizer.zero_grad()
            F.cross_entropy(model(Tensor(BATCH[0])), BATCH[1]).backward()
            optimizer.step()
        return pickle.dumps(model.state_dict())

    assert next_step(ask=True) == next_step(ask=False)


def test_a_step_is_also_examined_under_no_grad():
    with no_grad():
        assert doctor(Linear(8, 4), None, BATCH, F.cross_entropy)


def test_an_error_of_the_model_is_raised_and_a_module_error_is_a_finding():
    class Wrong(Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        doctor(Wrong(), None, BATCH, F.cross_entropy)
    report = doctor(Linear(9, 4), None, BATCH, F.cross_entropy)
    assert [(finding.kind, finding.name) for finding in report.findings] == [("step", "Linear")]


# --- the report


def test_a_report_without_findings_is_true_and_says_what_was_examined():
    model = Linear(8, 4)
    report = doctor(model, optim.SGD(model.parameters(), lr=0.1), BATCH, CrossEntropyLoss())
    assert report
    assert report.ok
    assert str(report) == repr(report) == "Linear: nothing found (looked at the tree, the optimizer, a step)"
    assert str(doctor(model)) == "Linear: nothing found (looked at the tree)"
    assert str(doctor(model, batch=BATCH[0])) == "Linear: nothing found (looked at the tree, a forward pass)"


def test_a_report_with_findings_is_false_and_shows_the_name_what_was_seen_and_the_fix():
    model = Sequential(Linear(8, 16), Linear(16, 4))
    optimizer = optim.SGD(model[0].parameters(), lr=0.1)
    model[1].bias = None
    report = doctor(model, optimizer)
    assert not report
    assert str(report) == (
        "Sequential: 1 finding (looked at the tree, the optimizer)\n\n"
        "1.weight [optimizer]\n"
        "  seen: it requires a gradient, but the optimizer does not hold it: no step changes it\n"
        "  fix: optimizer = SGD(model.parameters(), ...), after the last change to the model; or, to freeze it, "
        "model[1].weight.requires_grad = False"
    )
    assert report.about("1.weight") == list(report.findings)
    assert report.about("0.weight") == []
    assert report.as_dict()["findings"][0]["name"] == "1.weight"


# --- no false alarms


class TiedLanguageModel(Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.positions = Embedding(11, 32, padding_idx=0), Embedding(12, 32)
        self.block = TransformerBlock(32, 4, dropout=0.1)
        self.head = Linear(32, 11, bias=False)
        self.head.weight = self.embedding.weight
        self.attention = np.zeros((12, 12, 32), np.float32)

    def forward(self, tokens: Any) -> Tensor:
        x = self.embedding(tokens) + self.positions(np.arange(12))
        self.attention = x.data.copy()  # kept for inspection: the same after each run
        return self.head(self.block(x, is_causal=True))


class TiedAutoencoder(Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Linear(8, 4), Linear(4, 8)
        self.decoder.weight = Parameter(self.encoder.weight.T)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(F.gelu(self.encoder(x)))


class LowRank(Module):
    """An update B A of a frozen weight, with B = 0 at first (Hu et al. 2021, arXiv:2106.09685, section 4.1)."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Linear(8, 4).requires_grad_(False)
        self.a, self.b = Linear(8, 2, bias=False), Linear(2, 4, bias=False)
        init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.b(self.a(x))


class Bilinear(Module):
    """The products of all pairs of features of one example: an intended outer product."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = Linear(8, 3), Linear(8, 5), Linear(15, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.left(x).unsqueeze(2) * self.right(x).unsqueeze(1)).flatten(1))


class WithTeacher(Module):
    def __init__(self) -> None:
        super().__init__()
        self.student = Linear(8, 4)
        object.__setattr__(self, "teacher", Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        with no_grad():
            goal = self.teacher(x)
        return self.student(x) + 0 * goal


def frozen_backbone() -> Module:
    model = Sequential(Sequential(Linear(8, 16), BatchNorm1d(16), ReLU(), Dropout(0.5)), Linear(16, 4))
    model[0].requires_grad_(False).eval()
    return model


def new_head() -> Module:
    model = Sequential(Linear(8, 16), Tanh(), Linear(16, 10))
    model[2] = Linear(16, 4)
    return model


def retied() -> Module:
    model = TiedLanguageModel()
    model.embedding.weight = Parameter(0.02 * arrays(11, 32))
    model.head.weight = model.embedding.weight
    return model


def retied_the_other_way() -> Module:
    model = TiedLanguageModel()
    model.embedding.weight = Parameter(0.02 * arrays(11, 32))
    model.embedding.weight = model.head.weight
    return model


def untied_on_purpose() -> Module:
    model = TiedAutoencoder()
    del model.decoder.weight
    model.decoder.weight = Parameter(0.1 * arrays(8, 4))
    return model


def tokens_loss(logits: Tensor, target: Any) -> Tensor:
    return F.cross_entropy(logits.reshape(-1, 11), target.reshape(-1), ignore_index=0)


def own_mse(output: Tensor, target: Any) -> Tensor:
    return ((output - target) ** 2).mean()


def ranking(output: Tensor, target: Any) -> Tensor:
    """Return a loss over all pairs of scores: the broadcast is intended."""
    order = np.sign(target - target.T)
    return F.relu(1 - (output - output.T) * order).mean()


TOKENS = (np.tile(np.arange(12) % 6, (12, 1)), np.tile(np.arange(1, 13) % 6, (12, 1)))
RECONSTRUCT = (BATCH[0], BATCH[0])
ORDINARY: list[tuple[Callable[[], Module], Any, Any]] = [
    (lambda: Sequential(Linear(8, 64), ReLU(), Linear(64, 64), ReLU(), Linear(64, 4)), BATCH, F.cross_entropy),
    (lambda: Sequential(Linear(8, 64), BatchNorm1d(64), ReLU(), Dropout(0.5), Linear(64, 4)), BATCH, F.cross_entropy),
    (lambda: Sequential(Linear(8, 64), Tanh(), Linear(64, 8), Sigmoid()), RECONSTRUCT, F.mse_loss),
    (lambda: Linear(8, 1), (BATCH[0], arrays(32, 1)), own_mse),
    (lambda: Linear(8, 1, bias=False), (BATCH[0], arrays(32, 1)), ranking),
    (lambda: Linear(8, 32), (BATCH[0], arrays(32, 32)), own_mse),
    (TiedLanguageModel, TOKENS, tokens_loss),
    (retied, TOKENS, tokens_loss),
    (retied_the_other_way, TOKENS, tokens_loss),
    (TiedAutoencoder, RECONSTRUCT, F.mse_loss),
    (untied_on_purpose, RECONSTRUCT, F.mse_loss),
    (LowRank, BATCH, F.cross_entropy),
    (Bilinear, BATCH, F.cross_entropy),
    (WithTeacher, BATCH, F.cross_entropy),
    (frozen_backbone, BATCH, F.cross_entropy),
    (new_head, BATCH, F.cross_entropy),
    (lambda: copy.deepcopy(TiedLanguageModel()), TOKENS, tokens_loss),
    (lambda: TiedAutoencoder().double(), (arrays(32, 8).astype(np.float64),) * 2, F.mse_loss),
]


@pytest.mark.parametrize(("build", "batch", "loss"), ORDINARY)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_found_in_an_ordinary_model(build: Callable[[], Module], batch: Any, loss: Any, seed: int):
    manual_seed(seed)
    model = build()
    trainable = [p for p in model.parameters() if p.requires_grad]
    for report in (
        doctor(model),
        doctor(model, batch=batch[0]),
        doctor(model, None, batch, loss),
        doctor(model, optim.AdamW(trainable), batch, loss),
        doctor(model, optim.SGD(trainable, lr=0.1, momentum=0.9), batch, loss),
    ):
        assert report


@given(
    widths=st.lists(st.integers(16, 48), min_size=1, max_size=3),
    activation=st.sampled_from([ReLU, Tanh, GELU, Sigmoid]),
    batch_norm=st.booleans(),
    dropout=st.sampled_from([0.0, 0.3]),
    of=st.integers(2, 12),
    count=st.integers(24, 64),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=40)
def test_nothing_is_found_or_changed_in_any_perceptron(
    widths: list[int],
    activation: type[Module],
    batch_norm: bool,
    dropout: float,
    of: int,
    count: int,
    seed: int,
):
    manual_seed(seed)
    layers: list[Module] = []
    for width_in, width_out in itertools.pairwise([8, *widths]):
        layers += [Linear(width_in, width_out), *([BatchNorm1d(width_out)] if batch_norm else []), activation()]
        layers += [Dropout(dropout)]
    model = Sequential(*layers, Linear(widths[-1], of))
    optimizer = optim.Adam(model.parameters())
    before = picture(model, optimizer)
    assert doctor(model, optimizer, (arrays(count, 8), classes(count, of)), F.cross_entropy)
    assert picture(model, optimizer) == before


def test_separate_groups_for_weights_and_biases_are_not_reported():
    model = Sequential(Linear(8, 16), ReLU(), Linear(16, 4))
    groups = [
        {"params": [p for name, p in model.named_parameters() if name.endswith("weight")], "weight_decay": 0.1},
        {"params": [p for name, p in model.named_parameters() if name.endswith("bias")], "weight_decay": 0.0},
    ]
    assert doctor(model, optim.AdamW(groups), BATCH, F.cross_entropy)


def test_a_part_of_a_model_can_be_examined_by_itself():
    model = TiedAutoencoder()
    assert doctor(model.decoder)
    assert doctor(model.encoder, optim.SGD(model.encoder.parameters(), lr=0.1))


def test_parameters_of_the_loss_and_of_a_generator_before_the_model_are_not_reported():
    class Weighted(Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = Parameter([1.0])

        def forward(self, output: Tensor, target: Any) -> Tensor:
            return (F.cross_entropy(output, target) * self.factor).sum()

    assert doctor(Linear(8, 4), None, BATCH, Weighted())
    generator, critic = Linear(8, 8), Linear(8, 4)
    assert doctor(critic, loss=lambda: F.cross_entropy(critic(generator(Tensor(BATCH[0]))), BATCH[1]))


def test_existing_gradients_do_not_count():
    model = Linear(8, 4)
    model.weight.grad = np.full((4, 8), np.nan, np.float32)
    assert doctor(model, None, BATCH, F.cross_entropy)


def test_ignored_rows_and_a_target_of_one_number_are_not_reported():
    assert doctor(Linear(8, 4), None, (BATCH[0], np.where(BATCH[1] == 3, -100, BATCH[1])), F.cross_entropy)
    assert doctor(Linear(8, 4), None, (BATCH[0], Tensor(0.5)), own_mse)


def test_a_loss_that_sets_training_mode_is_not_mistaken_for_dropout_that_is_always_on():
    model = Sequential(Linear(8, 16), Dropout(0.5), Linear(16, 4))
    assert doctor(model, loss=lambda: F.cross_entropy(model.train()(Tensor(BATCH[0])), BATCH[1]))


def test_the_checks_are_imported_only_when_the_doctor_runs():
    program = (
        "import sys, statezoo.core as core; known = set(sys.modules); core.doctor(core.Linear(1, 1));"
        "names = ['statezoo.core.inspection.' + name for name in ('doctor', 'checks')];"
        "print(*(name in known for name in names), core.doctor.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True False doctor\n"


# --- findings that the museum does not show


def test_a_layer_in_the_wrong_mode_is_reported_by_its_full_name():
    model = Sequential(Sequential(Linear(8, 8), Dropout(0.5)), Linear(8, 4)).eval()
    model[0][1].train()
    (finding,) = doctor(model).findings
    assert (finding.kind, finding.name) == ("mode", "0.1")
    assert finding.seen == "this Dropout is in training mode, the model in evaluation mode"
    assert finding.fix == "model.eval(), which reaches every module"


def test_a_parameter_put_into_the_groups_twice_by_hand_is_found():
    model = Linear(8, 4)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    optimizer.param_groups[0]["params"].append(model.weight)
    (finding,) = doctor(model, optimizer).findings
    assert (finding.name, finding.seen) == ("weight", "the optimizer holds it twice: each step changes it twice")


def test_an_unregistered_layer_that_trains_is_found_in_the_graph():
    model = WithTeacher()
    model.forward = lambda x: model.student(x) + model.teacher(x)
    (finding,) = doctor(model, None, BATCH, F.cross_entropy).findings
    assert (finding.kind, finding.name) == ("unregistered", "teacher")
    assert finding.seen.startswith("a trainable Linear that the model has not registered")


def test_weights_that_are_far_too_small_are_reported_with_their_scale():
    model = Linear(64, 4)
    init.normal_(model.weight, std=1e-5)
    (finding,) = doctor(model).findings
    assert (finding.kind, finding.name) == ("initial scale", "weight")
    assert "far below 1 / sqrt(fan_in) = 0.125" in finding.seen


def test_the_fix_of_a_finding_fixes_it():
    model = Linear(8, 4)
    init.normal_(model.weight, std=100.0)
    (finding,) = doctor(model).findings
    exec(finding.fix, {"init": init, "model": model})
    assert doctor(model)

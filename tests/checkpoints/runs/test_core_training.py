"""A training with any optimizer and schedule of core continues bit for bit; one built differently is refused."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import MismatchError, load_training, save_file, save_training
from statezoo.checkpoints.runs.training import training_state
from statezoo.core import Linear, Sequential, Tanh, Tensor, optim
from statezoo.core import functional as F
from statezoo.core.optim import lr_scheduler as lr

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "plain SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01, maximize=True),
    "Adam": lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.1),
    "Adadelta": lambda p: optim.Adadelta(p),
    "Adamax": lambda p: optim.Adamax(p),
    "NAdam": lambda p: optim.NAdam(p, lr=0.1),
    "RAdam": lambda p: optim.RAdam(p),
}
SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: lr.StepLR(o, 2),
    "MultiStepLR": lambda o: lr.MultiStepLR(o, [1, 3, 3]),
    "ConstantLR": lambda o: lr.ConstantLR(o),
    "LinearLR": lambda o: lr.LinearLR(o),
    "ExponentialLR": lambda o: lr.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda o: lr.CosineAnnealingLR(o, 10),
    "CosineAnnealingWarmRestarts": lambda o: lr.CosineAnnealingWarmRestarts(o, 2),
    "PolynomialLR": lambda o: lr.PolynomialLR(o),
    "OneCycleLR": lambda o: lr.OneCycleLR(o, 0.2, total_steps=20),
    "CyclicLR": lambda o: lr.CyclicLR(o, 0.01, 0.1, step_size_up=3),
    "ReduceLROnPlateau": lambda o: lr.ReduceLROnPlateau(o, patience=1, factor=0.5),
    "LambdaLR": lambda o: lr.LambdaLR(o, lambda epoch: 0.95**epoch),
    "MultiplicativeLR": lambda o: lr.MultiplicativeLR(o, lambda epoch: 0.95),
    "SequentialLR": lambda o: lr.SequentialLR(o, [lr.ConstantLR(o), lr.ExponentialLR(o, 0.9)], [2]),
    "ChainedScheduler": lambda o: lr.ChainedScheduler([lr.ConstantLR(o), lr.ExponentialLR(o, 0.9)]),
}


class Training:
    """A model, an optimizer with two groups and perhaps a schedule."""

    def __init__(self, optimizer: str = "Adam", schedule: str | None = None) -> None:
        self.model = Sequential(Linear(3, 4), Tanh(), Linear(4, 3))
        groups = [{"params": [*self.model[i].parameters()]} for i in (0, 2)]
        self.optimizer = OPTIMIZERS[optimizer](groups)
        self.schedule: Any = SCHEDULES[schedule](self.optimizer) if schedule else None

    def run(self, first: int, last: int) -> None:
        for step in range(first, last):
            x = Tensor(np.random.default_rng(step).standard_normal((8, 3)).astype(np.float32))
            self.optimizer.zero_grad()
            loss = F.mse_loss(self.model(x), x)
            loss.backward()
            self.optimizer.step()
            if self.schedule is not None:
                metric: Any = [1.0] if isinstance(self.schedule, lr.ReduceLROnPlateau) else []
                self.schedule.step(*metric)

    def state(self) -> dict[str, Any]:
        return copy.deepcopy(training_state(self.model, self.optimizer, schedule=self.schedule))

    def save(self, path: Path) -> None:
        save_training(self.model, self.optimizer, path, schedule=self.schedule)

    def load(self, path: Path, **options: Any) -> None:
        load_training(self.model, self.optimizer, path, schedule=self.schedule, **options)


CASES = [*((name, None) for name in OPTIMIZERS), *(("SGD", name) for name in SCHEDULES)]


@pytest.mark.parametrize(("optimizer", "schedule"), CASES)
def test_a_training_continues_bit_for_bit(tmp_path: Path, optimizer: str, schedule: str | None):
    whole = Training(optimizer, schedule)
    whole.run(0, 5)
    whole.save(tmp_path / "half.safetensors")
    whole.run(5, 9)
    resumed = Training(optimizer, schedule)
    resumed.load(tmp_path / "half.safetensors")
    resumed.run(5, 9)
    np.testing.assert_equal(resumed.state(), whole.state())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_with_another_option_is_refused_also_inside_others(
    tmp_path: Path, schedule: str, monkeypatch: pytest.MonkeyPatch
):
    training = Training("SGD", schedule)
    training.run(0, 3)
    training.save(tmp_path / "run.safetensors")
    others: dict[str, Callable[[Any], Any]] = {
        "SequentialLR": lambda o: lr.SequentialLR(o, [lr.ConstantLR(o), lr.ExponentialLR(o, 0.8)], [2]),
        "ChainedScheduler": lambda o: lr.ChainedScheduler([lr.ConstantLR(o, 0.1), lr.ExponentialLR(o, 0.9)]),
        "CyclicLR": lambda o: lr.CyclicLR(o, 0.01, 0.2, step_size_up=3),
        "OneCycleLR": lambda o: lr.OneCycleLR(o, 0.2, total_steps=20, pct_start=0.5),
        "StepLR": lambda o: lr.StepLR(o, 3),
    }
    if schedule not in others:
        training.load(tmp_path / "run.safetensors")
        return
    monkeypatch.setitem(SCHEDULES, schedule, others[schedule])
    other = Training("SGD", schedule)
    before = other.state()
    with pytest.raises(MismatchError, match=r"in the file, .* here"):
        other.load(tmp_path / "run.safetensors")
    np.testing.assert_equal(other.state(), before)


def test_a_rate_set_by_hand_is_resumed(tmp_path: Path):
    training = Training("SGD", "ExponentialLR")
    training.run(0, 2)
    training.optimizer.param_groups[0]["lr"] = 0.7
    training.save(tmp_path / "run.safetensors")
    resumed = Training("SGD", "ExponentialLR")
    resumed.load(tmp_path / "run.safetensors")
    assert resumed.optimizer.param_groups[0]["lr"] == 0.7
    resumed.schedule.step()
    assert resumed.optimizer.param_groups[0]["lr"] == pytest.approx(0.63)


def test_a_file_from_before_the_options_of_torch_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    training = Training("Adam", "CosineAnnealingLR")
    training.optimizer.param_groups[0]["amsgrad"] = training.optimizer.param_groups[1]["amsgrad"] = False
    training.run(0, 3)
    state = training.state()
    groups = state["optimizer._extra_state"]["param_groups"]
    kept = {"params", "lr", "betas", "eps", "weight_decay"}
    state["optimizer._extra_state"]["param_groups"] = [{k: g[k] for k in g if k in kept} for g in groups]
    schedule = state["schedule._extra_state"]["state"]
    state["schedule._extra_state"]["state"] = {k: v for k, v in schedule.items() if not k.startswith("_")}

    save_file(state, tmp_path / "old.safetensors")
    monkeypatch.setitem(OPTIMIZERS, "Adam", lambda p: optim.Adam(p, lr=0.1))
    resumed = Training("Adam", "CosineAnnealingLR")
    resumed.load(tmp_path / "old.safetensors")
    training.run(3, 6)
    resumed.run(3, 6)
    for mine, theirs in zip(training.model.parameters(), resumed.model.parameters(), strict=True):
        np.testing.assert_array_equal(mine.data, theirs.data)
    assert training.schedule.get_last_lr() == resumed.schedule.get_last_lr()

"""Trainings with PyTorch: they continue bit for bit, and a load is all or nothing."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import (
    ArgumentError,
    MismatchError,
    StateError,
    UnsupportedTypeError,
    load_model,
    load_training,
    save_training,
)

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::UserWarning")]

OPTIMIZERS: dict[str, Callable[[Any, Any], Any]] = {
    "SGD": lambda torch, p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "plain SGD": lambda torch, p: torch.optim.SGD(p, lr=0.1),
    "Adam": lambda torch, p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    "AdamW": lambda torch, p: torch.optim.AdamW(p, lr=0.1),
    "NAdam": lambda torch, p: torch.optim.NAdam(p, lr=0.1),
    "RMSprop": lambda torch, p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda torch, p: torch.optim.Adagrad(p, lr=0.1),
    "Adadelta": lambda torch, p: torch.optim.Adadelta(p),
    "Adamax": lambda torch, p: torch.optim.Adamax(p),
    "ASGD": lambda torch, p: torch.optim.ASGD(p),
    "Rprop": lambda torch, p: torch.optim.Rprop(p),
    "RAdam": lambda torch, p: torch.optim.RAdam(p),
    "Adafactor": lambda torch, p: torch.optim.Adafactor(p),
    "LBFGS": lambda torch, p: torch.optim.LBFGS(p, lr=0.1, max_iter=3, history_size=4),
}

SCHEDULES: dict[str, Callable[[Any, Any], Any]] = {
    "StepLR": lambda lr, o: lr.StepLR(o, 2),
    "MultiStepLR": lambda lr, o: lr.MultiStepLR(o, [1, 3, 3]),
    "ConstantLR": lambda lr, o: lr.ConstantLR(o),
    "LinearLR": lambda lr, o: lr.LinearLR(o),
    "ExponentialLR": lambda lr, o: lr.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda lr, o: lr.CosineAnnealingLR(o, 10),
    "CosineAnnealingWarmRestarts": lambda lr, o: lr.CosineAnnealingWarmRestarts(o, 2),
    "PolynomialLR": lambda lr, o: lr.PolynomialLR(o),
    "OneCycleLR": lambda lr, o: lr.OneCycleLR(o, 0.2, total_steps=20),
    "CyclicLR": lambda lr, o: lr.CyclicLR(o, 0.01, 0.1, step_size_up=3),
    "ReduceLROnPlateau": lambda lr, o: lr.ReduceLROnPlateau(o, patience=1),
    "LambdaLR": lambda lr, o: lr.LambdaLR(o, lambda epoch: 0.95**epoch),
    "SequentialLR": lambda lr, o: lr.SequentialLR(o, [lr.ConstantLR(o), lr.ExponentialLR(o, 0.9)], [2]),
    "ChainedScheduler": lambda lr, o: lr.ChainedScheduler([lr.ConstantLR(o), lr.ExponentialLR(o, 0.9)]),
}


class Training:
    """A model with a tied weight, an optimizer, perhaps a schedule, and a generator."""

    def __init__(self, torch: Any, optimizer: str = "AdamW", schedule: str | None = None, seed: int = 0) -> None:
        self.torch = torch
        self.order = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4))
        self.model[2].weight = self.model[0].weight
        groups = [
            {"params": [parameter for name, parameter in self.model.named_parameters() if name.endswith(end)]}
            for end in ("weight", "bias")
        ]
        whole = [{"params": list(self.model.parameters())}]  # LBFGS takes one group
        self.optimizer = OPTIMIZERS[optimizer](torch, whole if optimizer == "LBFGS" else groups)
        made = SCHEDULES[schedule] if schedule else None
        self.schedule: Any = made(torch.optim.lr_scheduler, self.optimizer) if made else None

    @property
    def parts(self) -> dict[str, Any]:
        return {"schedule": self.schedule, "generators": {"order": self.order}}

    def train(self, steps: int) -> None:
        for _ in range(steps):
            x = self.torch.rand(8, 4, generator=self.order)

            def loss(x: Any = x) -> Any:
                self.optimizer.zero_grad()
                value = ((self.model(x) - x) ** 2).mean()
                value.backward()
                return value

            value = self.optimizer.step(loss)
            if self.schedule is not None:
                plateau = type(self.schedule).__name__ == "ReduceLROnPlateau"
                self.schedule.step(float(value)) if plateau else self.schedule.step()

    def state(self) -> Any:
        """Return everything as plain values, to compare."""
        schedule = self.schedule.state_dict() if self.schedule else None
        parts = [self.model.state_dict(), self.optimizer.state_dict(), schedule, self.order.get_state()]
        return copy.deepcopy(_plain(self.torch, parts))

    def save(self, path: Path) -> None:
        save_training(self.model, self.optimizer, path, **self.parts, progress={"step": 3})

    def load(self, path: Path, **options: Any) -> dict[str, Any]:
        return load_training(self.model, self.optimizer, path, **self.parts, **options)


def _plain(torch: Any, value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.tolist()
    if isinstance(value, dict):
        return {key: _plain(torch, item) for key, item in value.items()}
    return [_plain(torch, item) for item in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_continues_bit_for_bit_with_each_optimizer(path: Path, torch: Any, optimizer: str):
    straight = Training(torch, optimizer)
    straight.train(3)
    straight.save(path)
    resumed = Training(torch, optimizer, seed=1)
    assert resumed.load(path) == {"step": 3}
    assert resumed.state() == straight.state()
    straight.train(3)
    resumed.train(3)
    assert resumed.state() == straight.state()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_training_continues_bit_for_bit_with_each_schedule(path: Path, torch: Any, schedule: str):
    straight = Training(torch, "SGD", schedule)
    straight.train(4)
    straight.save(path)
    resumed = Training(torch, "SGD", schedule, seed=1)
    resumed.load(path)
    assert resumed.state() == straight.state()
    straight.train(4)
    resumed.train(4)
    assert resumed.state() == straight.state()


def test_the_state_of_an_optimizer_follows_the_names_of_the_parameters(path: Path, torch: Any):
    one = Training(torch)
    one.train(2)
    one.save(path)
    other = Training(torch, seed=1)
    for group in other.optimizer.param_groups:
        group["params"].reverse()
    other.load(path)
    for name, parameter in one.model.named_parameters():
        twin = other.model.get_parameter(name)
        assert torch.equal(other.optimizer.state[twin]["exp_avg"], one.optimizer.state[parameter]["exp_avg"])


def test_a_float32_average_of_a_bfloat16_parameter_keeps_its_bits(path: Path, torch: Any):
    def made() -> Any:
        model = torch.nn.Linear(3, 3).to(torch.bfloat16)
        return model, torch.optim.Adam(model.parameters())

    (model, optimizer), (fresh, other) = made(), made()
    for parameter in model.parameters():
        average = torch.rand(parameter.shape)
        optimizer.state[parameter] = {"step": torch.tensor(1.0), "exp_avg": average, "exp_avg_sq": average + 1}
    save_training(model, optimizer, path)
    load_training(fresh, other, path)
    kept, loaded = optimizer.state[model.weight]["exp_avg"], other.state[fresh.weight]["exp_avg"]
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, kept)


def test_the_model_alone_is_loaded_by_its_prefix(path: Path, torch: Any):
    training = Training(torch)
    training.train(1)
    training.save(path)
    model = Training(torch, seed=1).model
    assert load_model(model, path, prefix="model.") == ([], [])
    assert torch.equal(model[0].weight, training.model[0].weight)


def test_every_difference_is_in_one_error_and_nothing_changes(path: Path, torch: Any):
    training = Training(torch, schedule="StepLR")
    training.train(2)
    training.save(path)
    other = Training(torch, schedule="StepLR", seed=1)
    other.train(1)
    other.optimizer.param_groups[0]["betas"] = (0.5, 0.9)
    other.schedule.gamma = 0.5
    before = other.state()
    with pytest.raises(MismatchError) as caught:
        load_training(other.model, other.optimizer, path, schedule=other.schedule)
    assert caught.value.problems == [
        "optimizer.param_groups[0] has betas [0.9, 0.999] in the file, [0.5, 0.9] here",
        "schedule has gamma 0.1 in the file, 0.5 here",
        "generators.order is in the file, but was not given",
    ]
    assert other.state() == before
    other.load(path, allow={"betas", "gamma"})
    assert other.optimizer.param_groups[0]["betas"] == (0.5, 0.9)
    assert other.schedule.gamma == 0.5
    assert other.schedule.last_epoch == 2


def test_an_optimizer_that_refuses_its_state_leaves_everything_as_it_was(path: Path, torch: Any):
    training = Training(torch)
    training.train(2)
    training.save(path)
    other = Training(torch, seed=1)
    other.train(1)
    before = other.state()

    def fail(*arguments: Any) -> None:
        raise RuntimeError("no")

    other.optimizer.register_load_state_dict_post_hook(fail)
    with pytest.raises(MismatchError, match="optimizer: no"):
        other.load(path)
    assert other.state() == before


def test_a_hyperparameter_that_a_file_cannot_hold_is_refused_by_name(path: Path, torch: Any):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.1))
    with pytest.raises(StateError, match=r"optimizer\['param_groups'\]\[0\]\['lr'\] is tensor\(0\.1000\) \(Tensor\)"):
        save_training(model, optimizer, path)
    with pytest.raises(
        ArgumentError, match=r"an optimizer is one of statezoo\.core\.optim, torch\.optim, Keras or flax\.nnx, not dict"
    ):
        save_training(model, {}, path)  # pyright: ignore[reportArgumentType]


def test_the_global_generator_is_saved_if_it_is_given(path: Path, torch: Any):
    model, generators = torch.nn.Linear(2, 2), {"torch": torch.default_generator, "numpy": np.random.default_rng(1)}
    optimizer = torch.optim.SGD(model.parameters())
    torch.manual_seed(5)
    save_training(model, optimizer, path, generators=generators)
    expected = torch.rand(3), generators["numpy"].random(3)
    torch.manual_seed(6)
    load_training(model, optimizer, path, generators=generators)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(generators["numpy"].random(3), expected[1])
    with pytest.raises(MismatchError, match=r"generators\.torch is torch cpu in the file, PCG64 here"):
        load_training(model, optimizer, path, generators={**generators, "torch": np.random.default_rng(1)})


def test_the_same_training_gives_the_same_bytes(path: Path, tmp_path: Path, torch: Any):
    for place in (path, tmp_path / f"again{path.suffix}"):
        training = Training(torch, schedule="CosineAnnealingLR")
        training.train(2)
        training.save(place)
    assert path.read_bytes() == place.read_bytes()


def test_a_model_whose_parameters_have_no_names_is_refused(path: Path, torch: Any):
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 2).parameters())
    with pytest.raises(UnsupportedTypeError, match="a training has a statezoo or PyTorch Module, not dict"):
        save_training({"w": np.zeros(2)}, optimizer, path)  # pyright: ignore[reportArgumentType]

"""A training that is saved and loaded goes on in the same bits; into one that was built otherwise it is not loaded."""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.numpy

from statezoo.checkpoints import (
    ArgumentError,
    CheckpointError,
    FormatError,
    MismatchError,
    StateError,
    load_file,
    load_model,
    load_training,
    save_file,
    save_model,
    save_training,
    training_state,
)
from statezoo.core import BatchNorm1d, Dropout, Linear, Module, Parameter, Tensor, default_generator, optim
from statezoo.core import functional as F
from statezoo.core.random import get_rng_state, set_rng_state

BIT_GENERATORS = [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64]
OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.01, betas=(0.8, 0.99)),
    "AdamW": lambda parameters: optim.AdamW(parameters, lr=0.01),
}
SUFFIXES = [".safetensors", ".h5"]


class Net(Module):
    """Tied weights, buffers, dropout, and a generator of its own."""

    def __init__(self, width: int = 5, generator: np.random.Generator | None = None):
        super().__init__()
        self.down = Linear(4, width)
        self.norm = BatchNorm1d(width)
        self.dropout = Dropout(0.3)
        self.up = Linear(width, 4)
        self.up.weight = Parameter(self.down.weight.T)
        self.noise = generator or np.random.default_rng(8)

    def forward(self, x: Tensor) -> Tensor:
        noise = self.noise.normal(size=x.shape).astype(np.float32)
        return self.up(self.dropout(self.norm(self.down(x + Tensor(noise)))))


@dataclass
class Training:
    model: Net
    optimizer: optim.Optimizer
    schedule: Any
    order: np.random.Generator

    @classmethod
    def new(cls, optimizer: str = "AdamW", bits: Any = np.random.PCG64) -> "Training":
        model = Net(generator=np.random.Generator(bits(5)))
        made = OPTIMIZERS[optimizer](model.parameters())
        return cls(model, made, optim.CosineAnnealingLR(made, T_max=9), np.random.Generator(bits(3)))

    def run(self, steps: int) -> None:
        for _ in range(steps):
            x = self.order.normal(size=(6, 4)).astype(np.float32)
            self.optimizer.zero_grad()
            F.mse_loss(self.model(Tensor(x)), Tensor(x)).backward()
            self.optimizer.step()
            self.schedule.step()

    @property
    def parts(self) -> dict[str, Any]:
        return {"schedule": self.schedule, "generators": {"order": self.order}}

    def save(self, file: Path, **progress: Any) -> None:
        save_training(self.model, self.optimizer, file, **self.parts, progress=progress)

    def load(self, file: Path) -> dict[str, Any]:
        return load_training(self.model, self.optimizer, file, **self.parts)

    def state(self) -> dict[str, Any]:
        """A copy of everything."""
        return copy.deepcopy(training_state(self.model, self.optimizer, **self.parts))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    training = Training.new()
    training.run(3)
    training.save(tmp_path / "run.safetensors", epoch=1)
    return tmp_path / "run.safetensors"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("bits", BIT_GENERATORS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_that_was_loaded_goes_on_in_the_same_bits(tmp_path: Path, optimizer: str, bits: Any, suffix: str):
    whole = Training.new(optimizer, bits)
    whole.run(3)
    whole.save(tmp_path / f"half{suffix}")
    whole.run(4)
    whole.save(tmp_path / f"whole{suffix}")

    resumed = Training.new(optimizer, bits)
    resumed.run(1)
    default_generator().random(7)
    resumed.load(tmp_path / f"half{suffix}")
    resumed.save(tmp_path / f"again{suffix}")
    resumed.run(4)
    resumed.save(tmp_path / f"resumed{suffix}")
    assert (tmp_path / f"again{suffix}").read_bytes() == (tmp_path / f"half{suffix}").read_bytes()
    assert (tmp_path / f"resumed{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_progress_comes_back_as_it_was_given(tmp_path: Path, suffix: str):
    progress = {
        "epoch": 3, "step": 2**70, "position": 5, "best": 0.1 + 0.2, "none": None, "done": False,
        "history": [{"loss": 1e-300}], "name": "ü",
    }  # fmt: skip
    training = Training.new()
    training.save(tmp_path / f"run{suffix}", **progress)
    assert training.load(tmp_path / f"run{suffix}") == progress


def test_a_state_before_the_first_step_is_kept_too(tmp_path: Path):
    Training.new().save(tmp_path / "run.h5")
    stepped = Training.new()
    stepped.run(2)
    stepped.load(tmp_path / "run.h5")
    assert not stepped.optimizer.state
    assert stepped.schedule.last_epoch == 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_weights_alone_can_be_taken_out_of_a_training_ties_kept(tmp_path: Path, suffix: str):
    training = Training.new()
    training.run(2)
    training.save(tmp_path / f"run{suffix}")
    model = Net()
    assert load_model(model, tmp_path / f"run{suffix}", prefix="model.") == ([], [])
    for name, array in training.model.state_dict().items():
        assert np.array_equal(model.state_dict()[name], array)
    assert np.shares_memory(model.up.weight.data, model.down.weight.data)


def test_a_model_without_the_ties_of_the_training_does_not_get_its_weights(saved: Path):
    model = Net()
    model.up.weight = Parameter(np.zeros((4, 5), np.float32))
    with pytest.raises(MismatchError, match=r"up\.weight +shares memory with down\.weight in the file, not in the m"):
        load_model(model, saved, prefix="model.")
    load_model(model, saved, prefix="model.", ties="restore")
    assert np.shares_memory(model.up.weight.data, model.down.weight.data)


def test_stock_readers_see_each_part_by_its_name(tmp_path: Path):
    training = Training.new(bits=np.random.MT19937)
    training.run(1)
    training.save(tmp_path / "run.safetensors")
    training.save(tmp_path / "run.h5")
    weight, moment = training.model.down.weight, training.optimizer.state[training.model.down.weight]["exp_avg"]
    stock = safetensors.numpy.load_file(tmp_path / "run.safetensors")
    assert np.array_equal(stock["model.down.weight"], weight.data)
    assert np.array_equal(stock["optimizer.exp_avg.down.weight"], moment)
    assert stock["generators.order.state.key"].dtype == np.uint32
    with h5py.File(tmp_path / "run.h5") as file:
        assert np.array_equal(file["model/down/weight"][...], weight.data)  # pyright: ignore
        assert np.array_equal(file["optimizer/exp_avg/down/weight"][...], moment)  # pyright: ignore


def other_width(training: Training) -> None:
    training.model = Net(width=7)
    training.optimizer = optim.AdamW(training.model.parameters(), lr=0.01)
    training.schedule = optim.CosineAnnealingLR(training.optimizer, T_max=9)


def more_layers(training: Training) -> None:
    training.model.extra = Linear(2, 2)
    other_optimizer(training, optim.AdamW(training.model.parameters(), lr=0.01))


def other_optimizer(training: Training, optimizer: optim.Optimizer) -> None:
    training.optimizer = optimizer
    training.schedule = optim.CosineAnnealingLR(optimizer, T_max=9)


def other_class(training: Training) -> None:
    other_optimizer(training, optim.SGD(training.model.parameters(), lr=0.01))


def other_decay(training: Training) -> None:
    other_optimizer(training, optim.AdamW(training.model.parameters(), lr=0.01, betas=(0.5, 0.9), weight_decay=0.5))


def other_groups(training: Training) -> None:
    parameters = list(training.model.parameters())
    other_optimizer(training, optim.AdamW([{"params": parameters[:2]}, {"params": parameters[2:]}], lr=0.01))


def fewer_parameters(training: Training) -> None:
    other_optimizer(training, optim.AdamW(training.model.norm.parameters(), lr=0.01))


def other_schedule(training: Training) -> None:
    training.schedule = optim.StepLR(training.optimizer, 3)


def no_schedule(training: Training) -> None:
    training.schedule = None


def longer_schedule(training: Training) -> None:
    training.schedule = optim.CosineAnnealingLR(training.optimizer, T_max=12)


def other_rate(training: Training) -> None:
    other_optimizer(training, optim.AdamW(training.model.parameters(), lr=0.02))


def other_generators(training: Training) -> None:
    training.order = np.random.Generator(np.random.Philox(1))
    training.model.noise = None  # pyright: ignore[reportAttributeAccessIssue]


CHANGES: list[tuple[Callable[[Training], None], list[str]]] = [
    (other_width, [r"model\.down\.weight .*is \(5, 4\) in the file, \(7, 4\) in the model", r"model\.norm\.weight"]),
    (more_layers, [r"model\.extra\.weight +is missing from the file",
                   r"optimizer\.param_groups\[0\] trains extra\.bias here, not in the file"]),
    (other_class, [r"optimizer is AdamW in the file, SGD here"]),
    (other_decay, [r"\[0\] has betas \[0\.9, 0\.999\] in the file, \[0\.5, 0\.9\] here", r"has weight_decay 0\.01 "]),
    (other_groups, [r"optimizer has 1 parameter groups in the file, 2 here", r"has base_lrs \[0\.01\] in the file"]),
    (fewer_parameters, [r"\[0\] trains down\.weight in the file, not here", r"trains up\.bias in the file, not here"]),
    (other_schedule, [r"schedule is CosineAnnealingLR in the file, StepLR here"]),
    (no_schedule, [r"schedule is CosineAnnealingLR in the file, none here"]),
    (longer_schedule, [r"schedule has T_max 9 in the file, 12 here"]),
    (other_rate, [r"schedule has base_lrs \[0\.01\] in the file, \[0\.02\] here"]),
    (other_generators, [r"generators\.order is PCG64 in the file, Philox here",
                        r"generators\.model\.noise is in the file, but was not given"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "lines"), CHANGES, ids=lambda value: getattr(value, "__name__", ""))
def test_into_another_training_nothing_is_loaded_and_each_difference_named(
    saved: Path, change: Callable[[Training], None], lines: list[str]
):
    training = Training.new()
    training.run(1)
    change(training)
    before = training.state()
    with pytest.raises(MismatchError) as caught:
        training.load(saved)
    assert str(caught.value).startswith("run.safetensors does not fit this training; nothing was changed.\n")
    assert str(caught.value).endswith("as they were when the training was saved.")
    for line in lines:
        assert re.search(line, str(caught.value))
    assert_same(training.state(), before)


def test_all_differences_are_named_at_once(saved: Path):
    training = Training.new()
    other_width(training)
    other_class(training)
    other_schedule(training)
    other_generators(training)
    with pytest.raises(MismatchError) as caught:
        training.load(saved)
    text = str(caught.value)
    assert all(part in text for part in ("(7, 4)", "SGD here", "StepLR here", "Philox here", "model.noise"))


def test_moments_of_another_shape_are_refused_before_anything_changes(saved: Path):
    state = load_file(saved)
    state["optimizer.exp_avg.norm.bias"] = np.zeros(9, np.float32)
    save_file(state, saved)
    training = Training.new()
    before = training.state()
    with pytest.raises(MismatchError, match=r"optimizer: .*exp_avg is float32 \(9,\), not float32 \(5,\)"):
        training.load(saved)
    assert_same(training.state(), before)


def test_parameters_in_another_order_get_their_own_moments(saved: Path):
    training = Training.new()
    other_optimizer(training, optim.AdamW(list(training.model.parameters())[::-1], lr=0.01))
    training.load(saved)
    kept = load_file(saved)
    for name, parameter in training.model.named_parameters():
        if parameter in training.optimizer.state:
            assert np.array_equal(training.optimizer.state[parameter]["exp_avg"], kept[f"optimizer.exp_avg.{name}"])


def test_a_file_of_a_model_is_no_training(tmp_path: Path):
    training = Training.new()
    save_model(training.model, tmp_path / "model.safetensors")
    with pytest.raises(FormatError, match=r"holds no training: optimizer\._extra_state is missing\. For a model: load"):
        training.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer._extra_state", 5),
        ("optimizer._extra_state", {"class": "AdamW"}),
        ("optimizer._extra_state", {"class": "AdamW", "param_groups": [{"params": [[1]]}]}),
        ("schedule._extra_state", [1]),
        ("schedule._extra_state", {"class": "CosineAnnealingLR", "state": 7}),
        ("generators.order._extra_state", []),
        ("generators.order._extra_state", {"bit_generator": "PCG64", "state": None}),
        ("generators.order._extra_state", {"bit_generator": "PCG64", "state": {"state": -1, "inc": "a"}}),
        ("progress._extra_state", "text"),
    ],
)
def test_what_another_wrote_into_a_training_is_an_error_and_changes_nothing(saved: Path, name: str, value: Any):
    save_file({**load_file(saved), name: value}, saved)
    training = Training.new()
    before = training.state()
    with pytest.raises(CheckpointError):
        training.load(saved)
    assert_same(training.state(), before)


def test_what_a_file_cannot_hold_exactly_is_named(tmp_path: Path):
    training = Training.new()
    with pytest.raises(StateError, match=r"progress\['rows'\]\[1\] is .*0\.5.* \(float32\), which a file c"):
        training.save(tmp_path / "run.h5", rows=[1, np.float32(0.5)])
    with pytest.raises(StateError, match=r"progress\['loss'\] is nan \(float\)"):
        training.save(tmp_path / "run.h5", loss=float("nan"))
    assert not (tmp_path / "run.h5").exists()


def test_a_parameter_that_is_not_in_the_model_is_named(tmp_path: Path):
    training = Training.new()
    with pytest.raises(StateError, match=r"parameter 0 of the optimizer, of shape \(5, 4\), is not in the model"):
        save_training(Linear(2, 2), training.optimizer, tmp_path / "run.h5")


def test_the_name_of_the_default_generator_is_taken(tmp_path: Path):
    training = Training.new()
    with pytest.raises(ArgumentError, match='the name "default" is that of the default generator'):
        save_training(training.model, training.optimizer, tmp_path / "run.h5", generators={"default": training.order})


@pytest.mark.parametrize(
    "generators", [{"order": np.random.RandomState(1)}, {"order": 3}, {1: np.random.default_rng(1)}]
)
def test_what_is_no_generator_is_refused_before_anything_changes(saved: Path, tmp_path: Path, generators: Any):
    training = Training.new()
    with pytest.raises(ArgumentError, match=r"generators are numpy\.random\.Generator by name, and .* Draw from numpy"):
        save_training(training.model, training.optimizer, tmp_path / "run.h5", generators=generators)
    assert not (tmp_path / "run.h5").exists()
    before = training.state()
    with pytest.raises(ArgumentError, match=r"generators are numpy\.random\.Generator by name"):
        load_training(training.model, training.optimizer, saved, generators=generators)
    assert_same(training.state(), before)


def test_a_schedule_of_another_optimizer_is_refused_before_anything_changes(saved: Path, tmp_path: Path):
    training, other = Training.new(), Training.new()
    before, own = training.state(), training.schedule
    training.schedule = other.schedule
    for act in (lambda: training.save(tmp_path / "run.h5"), lambda: training.load(saved)):
        with pytest.raises(
            ArgumentError, match=r"the CosineAnnealingLR given is no schedule of this optimizer\. Build"
        ):
            act()
    assert not (tmp_path / "run.h5").exists()
    training.schedule = own
    assert_same(training.state(), before)


@pytest.mark.parametrize("key", ["a.b", "_extra_state"])
def test_a_name_that_an_optimizer_may_not_keep_something_by_is_refused_when_it_is_saved(tmp_path: Path, key: str):
    model = Linear(2, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    optimizer.state[next(model.parameters())] = {key: np.zeros((2, 2), np.float32)}
    with pytest.raises(StateError, match=f"the optimizer keeps '{key}' of weight, a name that a file needs. Choose"):
        save_training(model, optimizer, tmp_path / "run.h5")
    assert not (tmp_path / "run.h5").exists()


def test_progress_that_is_no_dict_or_holds_itself_is_refused(tmp_path: Path):
    training = Training.new()
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(
        StateError, match=r"progress is nested too deeply for a file, or holds itself\. Give a flat dict"
    ):
        training.save(tmp_path / "run.h5", rows=circle)
    with pytest.raises(ArgumentError, match=r"progress is a dict, not list\."):
        training_state(training.model, training.optimizer, progress=[1])  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "run.h5").exists()


@pytest.mark.parametrize("bits", BIT_GENERATORS)
def test_a_generator_goes_on_from_the_state_it_had(bits: Any):
    generator, other = np.random.Generator(bits(1)), np.random.Generator(bits(2))
    generator.random(3, np.float32)
    set_rng_state(get_rng_state(generator), other)
    assert np.array_equal(generator.random(9), other.random(9))


def test_the_state_of_another_generator_or_none_at_all_is_refused():
    generator = np.random.default_rng(1)
    before = get_rng_state(generator)
    with pytest.raises(ValueError, match="the state is of a bit generator Philox, this one is a PCG64; it was not cha"):
        set_rng_state(get_rng_state(np.random.Generator(np.random.Philox(1))), generator)
    with pytest.raises(ValueError, match="this is no state of a PCG64, which was not changed"):
        set_rng_state({"bit_generator": "PCG64", "state": {"state": 1}}, generator)
    assert get_rng_state(generator) == before


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert list(one) == list(other)
    for name, value in one.items():
        assert np.array_equal(value, other[name]) if isinstance(value, np.ndarray) else value == other[name], name


class Stubborn(Linear):
    """Takes no extra state back."""

    def get_extra_state(self) -> str:
        return "mine"

    def set_extra_state(self, state: Any) -> None:
        raise RuntimeError("not this one")


def test_a_module_that_refuses_its_extra_state_keeps_everything_from_changing(tmp_path: Path):
    def new() -> tuple[Module, optim.Optimizer]:
        model = Stubborn(2, 2)
        return model, optim.SGD(model.parameters(), lr=0.1, momentum=0.5)

    model, optimizer = new()
    save_training(model, optimizer, tmp_path / "run.h5")
    model, optimizer = new()
    optimizer.param_groups[0]["lr"] = 0.2
    before = copy.deepcopy(training_state(model, optimizer))
    with pytest.raises(
        MismatchError, match=r"was refused by Stubborn\.set_extra_state\(\): RuntimeError: not this one"
    ):
        load_training(model, optimizer, tmp_path / "run.h5")
    assert_same(training_state(model, optimizer), before)

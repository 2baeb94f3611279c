"""A loaded training continues bit for bit. A training that was built differently refuses the file."""

import copy
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

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
from statezoo.checkpoints.models.values import from_json, to_json
from statezoo.core import BatchNorm1d, Dropout, Linear, Module, Parameter, Tensor, default_generator, optim
from statezoo.core import functional as F
from statezoo.core.random import get_rng_state, set_rng_state

BIT_GENERATORS = [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64]
OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.01, betas=(0.8, 0.99)),
    "AdamW": lambda parameters: optim.AdamW(parameters, lr=0.01),
}
SUFFIXES = [".safetensors", ".h5", ".npz"]


class Net(Module):
    """A model with tied weights, buffers, dropout, and its own generator."""

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

    def load_allowing(self, file: Path, allow: Any) -> dict[str, Any]:
        return load_training(self.model, self.optimizer, file, **self.parts, allow=allow)

    def state(self) -> dict[str, Any]:
        """Return a copy of the full state."""
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
def test_a_loaded_training_continues_bit_for_bit(tmp_path: Path, optimizer: str, bits: Any, suffix: str):
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
def test_progress_comes_back_unchanged(tmp_path: Path, suffix: str):
    progress = {
        "epoch": 3, "step": 2**70, "position": 5, "best": 0.1 + 0.2, "none": None, "done": False,
        "history": [{"loss": 1e-300}], "name": "ü",
    }  # fmt: skip
    training = Training.new()
    training.save(tmp_path / f"run{suffix}", **progress)
    assert training.load(tmp_path / f"run{suffix}") == progress


def test_a_state_before_the_first_step_can_be_saved_and_loaded(tmp_path: Path):
    Training.new().save(tmp_path / "run.h5")
    stepped = Training.new()
    stepped.run(2)
    stepped.load(tmp_path / "run.h5")
    assert not stepped.optimizer.state
    assert stepped.schedule.last_epoch == 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_load_model_loads_the_weights_of_a_training_file_with_their_ties(tmp_path: Path, suffix: str):
    training = Training.new()
    training.run(2)
    training.save(tmp_path / f"run{suffix}")
    model = Net()
    assert load_model(model, tmp_path / f"run{suffix}", prefix="model.") == ([], [])
    for name, array in training.model.state_dict().items():
        assert np.array_equal(model.state_dict()[name], array)
    assert np.shares_memory(model.up.weight.data, model.down.weight.data)


def test_load_model_refuses_a_model_without_the_ties_in_the_training_file(saved: Path):
    model = Net()
    model.up.weight = Parameter(np.zeros((4, 5), np.float32))
    with pytest.raises(MismatchError, match=r"up\.weight +shares memory with down\.weight in the file, not in the m"):
        load_model(model, saved, prefix="model.")
    load_model(model, saved, prefix="model.", ties="restore")
    assert np.shares_memory(model.up.weight.data, model.down.weight.data)


def test_stock_readers_find_each_part_by_its_name(tmp_path: Path):
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
    (other_groups, [r"optimizer has 1 parameter group in the file, 2 here", r"has base_lrs \[0\.01\] in the file"]),
    (fewer_parameters, [r"\[0\] trains down\.weight in the file, not here", r"trains up\.bias in the file, not here"]),
    (other_schedule, [r"schedule is CosineAnnealingLR in the file, StepLR here"]),
    (no_schedule, [r"schedule is CosineAnnealingLR in the file, none here"]),
    (longer_schedule, [r"schedule has T_max 9 in the file, 12 here"]),
    (other_rate, [r"schedule has base_lrs \[0\.01\] in the file, \[0\.02\] here"]),
    (other_generators, [r"generators\.order is PCG64 in the file, Philox here",
                        r"generators\.model\.noise is in the file, but was not given"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "lines"), CHANGES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_training_built_differently_is_unchanged_and_every_difference_is_listed(
    saved: Path, change: Callable[[Training], None], lines: list[str]
):
    training = Training.new()
    training.run(1)
    change(training)
    before = training.state()
    with pytest.raises(MismatchError) as caught:
        training.load(saved)
    assert str(caught.value).startswith("run.safetensors does not fit this training; nothing was changed.\n")
    assert str(caught.value).endswith('name the hyperparameters that may differ, for example allow={"T_max"}.')
    for line in lines:
        assert re.search(line, str(caught.value))
    assert_same(training.state(), before)


def test_all_differences_are_listed_in_one_error(saved: Path):
    training = Training.new()
    other_width(training)
    other_class(training)
    other_schedule(training)
    other_generators(training)
    with pytest.raises(MismatchError) as caught:
        training.load(saved)
    text = str(caught.value)
    assert all(part in text for part in ("(7, 4)", "SGD here", "StepLR here", "Philox here", "model.noise"))


def test_moments_with_a_wrong_shape_are_refused_before_anything_changes(saved: Path):
    state = load_file(saved)
    state["optimizer.exp_avg.norm.bias"] = np.zeros(9, np.float32)
    save_file(state, saved)
    training = Training.new()
    before = training.state()
    with pytest.raises(MismatchError, match=r"optimizer: .*exp_avg is float32 \(9,\), not float32 \(5,\)"):
        training.load(saved)
    assert_same(training.state(), before)


def test_parameters_in_another_order_get_their_own_state(saved: Path):
    training = Training.new()
    other_optimizer(training, optim.AdamW(list(training.model.parameters())[::-1], lr=0.01))
    training.load(saved)
    kept = load_file(saved)
    for name, parameter in training.model.named_parameters():
        if parameter in training.optimizer.state:
            assert np.array_equal(training.optimizer.state[parameter]["exp_avg"], kept[f"optimizer.exp_avg.{name}"])


def test_a_model_file_is_not_a_training_file(tmp_path: Path):
    training = Training.new()
    save_model(training.model, tmp_path / "model.safetensors")
    with pytest.raises(
        FormatError, match=r"holds no training: optimizer\._extra_state is missing\. To load a model, use"
    ):
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
def test_an_invalid_part_of_a_training_file_is_an_error_and_changes_nothing(saved: Path, name: str, value: Any):
    save_file({**load_file(saved), name: value}, saved)
    training = Training.new()
    before = training.state()
    with pytest.raises(CheckpointError):
        training.load(saved)
    assert_same(training.state(), before)


SCALARS = [
    np.float32(0.1), np.float64(0.1), np.float16(65504), np.int64(-(2**63)), np.uint64(2**64 - 1), np.int8(-128),
    np.bool_(True), ml_dtypes.bfloat16(1.5), float("inf"), float("-inf"), np.float32("-inf"), 5e-324, -0.0, True, 2**70,
]  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_numpy_scalars_and_infinities_in_progress_come_back_with_their_values_and_types(tmp_path: Path, suffix: str):
    training = Training.new()
    training.save(tmp_path / f"run{suffix}", values=SCALARS, best=np.float32(0.25))
    progress = training.load(tmp_path / f"run{suffix}")
    assert [(type(value), repr(value)) for value in progress["values"]] == [(type(v), repr(v)) for v in SCALARS]
    assert type(progress["best"]) is np.float32


@pytest.mark.parametrize("nan", [float("nan"), np.float32("nan"), np.float64("nan"), np.float16("nan")])
def test_a_nan_in_progress_comes_back_as_a_nan_of_its_type(tmp_path: Path, nan: Any):
    training = Training.new()
    training.save(tmp_path / "run.safetensors", loss=nan)
    loss = training.load(tmp_path / "run.safetensors")["loss"]
    assert type(loss) is type(nan)
    assert np.isnan(loss)


def test_progress_is_strict_json_in_the_file(tmp_path: Path):
    training = Training.new()
    training.save(tmp_path / "run.safetensors", loss=float("nan"), best=np.float32(0.5), worst=-math.inf)
    content = (tmp_path / "run.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    manifest = header["__metadata__"]["statezoo"]
    extra = json.loads(manifest[manifest.index("{") :], parse_constant=pytest.fail)["extra"]
    progress = next(value for _, name, value in extra if name == "progress._extra_state")
    assert progress == {"loss": {"$float": "nan"}, "best": {"$float32": 0.5}, "worst": {"$float": "-inf"}}


PROGRESS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.sampled_from(SCALARS),
    lambda values: (
        st.lists(values) | st.dictionaries(st.sampled_from(["$float", "$$", "$", "a", "$items", 1, None]), values)
    ),
)


@settings(deadline=None)
@given(PROGRESS)
def test_any_progress_survives_a_round_trip_through_json(value: Any):
    back = from_json(json.loads(json.dumps(to_json(value, "progress"), allow_nan=False)))
    assert repr(back) == repr(value)


@pytest.mark.parametrize(
    "value",
    [{"$float": "1"}, {"$float": 1.0}, {"$float32": 0.1}, {"$int8": 300}, {"$int64": "1"}, {"$object": 1}, {"$": 1},
     {"$float16": 10**400}, {"$bool": 2}, {"$items": 1}, {"$items": [1]}, {"$items": [["a", 1]]},
     {"$items": [[[], 1]]}],
)  # fmt: skip
def test_json_that_progress_is_never_written_as_is_an_error(saved: Path, value: Any):
    save_file({**load_file(saved), "progress._extra_state": {"rows": [value]}}, saved)
    with pytest.raises(
        FormatError, match=r"run\.safetensors holds a training that is invalid: .* (is not a|are not the) "
    ):
        Training.new().load(saved)


def test_a_value_that_a_file_cannot_hold_exactly_is_named(tmp_path: Path):
    training = Training.new()
    with pytest.raises(StateError, match=r"progress\['rows'\]\[1\] is array\(.* \(ndarray\), which a file cannot hold"):
        training.save(tmp_path / "run.h5", rows=[1, np.zeros(3)])
    with pytest.raises(StateError, match=r"progress\['loss'\] is .*\(complex64\)"):
        training.save(tmp_path / "run.h5", loss=np.complex64(1j))
    assert not (tmp_path / "run.h5").exists()


# --- differences that are allowed


def test_an_allowed_longer_schedule_sets_the_rates_from_the_current_step(saved: Path):
    training = Training.new()
    longer_schedule(training)
    assert training.load_allowing(saved, {"T_max"}) == {"epoch": 1}
    assert (training.schedule.T_max, training.schedule.last_epoch) == (12, 3)
    assert training.schedule.get_last_lr() == pytest.approx([0.01 * (1 + math.cos(math.pi * 3 / 12)) / 2])
    assert training.optimizer.state
    training.run(1)


@pytest.mark.torch
def test_an_allowed_longer_schedule_has_the_rates_of_torch_with_that_length(saved: Path):
    torch = pytest.importorskip("torch")
    training = Training.new()
    longer_schedule(training)
    training.load_allowing(saved, {"T_max"})
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
    optimizer.step()
    for _ in range(3):
        schedule.step()
    for _ in range(5):
        assert training.schedule.get_last_lr() == pytest.approx(schedule.get_last_lr())
        training.schedule.step()
        schedule.step()


def test_an_allowed_new_rate_is_kept_and_the_schedule_follows_from_it(saved: Path):
    training = Training.new()
    other_rate(training)
    training.load_allowing(saved, {"lr"})
    assert training.schedule.base_lrs == [0.02]
    assert training.schedule.get_last_lr() == pytest.approx([0.02 * (1 + math.cos(math.pi * 3 / 9)) / 2])


def test_without_a_schedule_the_rate_comes_from_the_file_unless_it_is_allowed(tmp_path: Path):
    model = Linear(2, 2)
    save_training(model, optim.SGD(model.parameters(), lr=0.1), tmp_path / "run.h5")
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    load_training(model, optimizer, tmp_path / "run.h5", allow={"lr"})
    assert optimizer.param_groups[0]["lr"] == 0.5
    load_training(model, optimizer, tmp_path / "run.h5")
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_allowed_hyperparameters_keep_their_current_value_and_others_are_still_refused(saved: Path):
    training = Training.new()
    other_decay(training)
    before = training.state()
    with pytest.raises(MismatchError, match=r"has betas") as caught:
        training.load_allowing(saved, {"weight_decay"})
    assert "weight_decay 0.01" not in str(caught.value)
    assert_same(training.state(), before)
    training.load_allowing(saved, {"weight_decay", "betas"})
    group = training.optimizer.param_groups[0]
    assert (group["weight_decay"], group["betas"]) == (0.5, (0.5, 0.9))


def grown(saved_first: bool) -> Training:
    """Return a training with a second parameter group, before or after the existing one."""
    training = Training.new()
    training.model.extra = Parameter(np.ones(3, np.float32))
    first = {"params": [p for n, p in training.model.named_parameters() if n != "extra"]}
    groups = [first, {"params": [training.model.extra], "lr": 0.3}]
    other_optimizer(training, optim.AdamW(groups if saved_first else groups[::-1], lr=0.01))
    return training


@pytest.mark.parametrize("saved_first", [True, False])
def test_an_allowed_additional_parameter_group_starts_without_state(tmp_path: Path, saved_first: bool):
    training = Training.new()
    training.model.extra = Parameter(np.ones(3, np.float32))
    training.run(3)  # "extra" is not trained yet
    training.save(tmp_path / "run.safetensors", epoch=1)
    resumed = grown(saved_first)
    with pytest.raises(MismatchError, match=r"optimizer has 1 parameter group in the file, 2 here"):
        resumed.load(tmp_path / "run.safetensors")
    assert resumed.load_allowing(tmp_path / "run.safetensors", {"param_groups"}) == {"epoch": 1}
    for name, parameter in training.model.named_parameters():
        if parameter in training.optimizer.state:
            own = dict(resumed.model.named_parameters())[name]
            for key, array in training.optimizer.state[parameter].items():
                assert np.array_equal(resumed.optimizer.state[own][key], array)
    assert resumed.model.extra not in resumed.optimizer.state
    factor = (1 + math.cos(math.pi * 3 / 9)) / 2
    rates = [0.01 * factor, 0.3 * factor]
    assert resumed.schedule.get_last_lr() == pytest.approx(rates if saved_first else rates[::-1])
    resumed.run(1)
    assert training.optimizer.param_groups[0]["params"]


def test_a_missing_group_of_the_file_is_refused_even_if_groups_may_differ(saved: Path):
    training = Training.new()
    fewer_parameters(training)
    with pytest.raises(MismatchError, match=r"no group here that trains what group 0 in the file does: down\.weight, "):
        training.load_allowing(saved, {"param_groups"})


@pytest.mark.parametrize("allow", ["lr", {"tmax"}, {"params"}, 3, ["T_max", "model"]])
def test_an_unknown_name_in_allow_is_an_error_that_lists_the_known_ones(saved: Path, allow: Any):
    with pytest.raises(
        ArgumentError, match=r"allow must be a set of names from T_max, amsgrad, base_lrs, betas, .*lr, "
    ):
        Training.new().load_allowing(saved, allow)


def test_a_parameter_that_is_not_in_the_model_is_named(tmp_path: Path):
    training = Training.new()
    with pytest.raises(StateError, match=r"parameter 0 of the optimizer, with shape \(5, 4\), is not in the model"):
        save_training(Linear(2, 2), training.optimizer, tmp_path / "run.h5")


def test_the_name_of_the_default_generator_is_reserved(tmp_path: Path):
    training = Training.new()
    with pytest.raises(ArgumentError, match='the name "default" belongs to the default generator'):
        save_training(training.model, training.optimizer, tmp_path / "run.h5", generators={"default": training.order})


@pytest.mark.parametrize(
    "generators", [{"order": np.random.RandomState(1)}, {"order": 3}, {1: np.random.default_rng(1)}]
)
def test_an_invalid_generator_is_refused_before_anything_changes(saved: Path, tmp_path: Path, generators: Any):
    training = Training.new()
    with pytest.raises(
        ArgumentError, match=r"generators must be numpy\.random\.Generator or torch\.Generator .*, but .* Make one with"
    ):
        save_training(training.model, training.optimizer, tmp_path / "run.h5", generators=generators)
    assert not (tmp_path / "run.h5").exists()
    before = training.state()
    with pytest.raises(
        ArgumentError, match=r"generators must be numpy\.random\.Generator or torch\.Generator objects by name"
    ):
        load_training(training.model, training.optimizer, saved, generators=generators)
    assert_same(training.state(), before)


def test_a_schedule_of_another_optimizer_is_refused_before_anything_changes(saved: Path, tmp_path: Path):
    training, other = Training.new(), Training.new()
    before, own = training.state(), training.schedule
    training.schedule = other.schedule
    for act in (lambda: training.save(tmp_path / "run.h5"), lambda: training.load(saved)):
        with pytest.raises(
            ArgumentError, match=r"the CosineAnnealingLR given does not belong to this optimizer\. Build"
        ):
            act()
    assert not (tmp_path / "run.h5").exists()
    training.schedule = own
    assert_same(training.state(), before)


@pytest.mark.parametrize("key", ["a.b", "_extra_state"])
def test_a_reserved_name_in_the_optimizers_state_is_refused_when_saving(tmp_path: Path, key: str):
    model = Linear(2, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    optimizer.state[next(model.parameters())] = {key: np.zeros((2, 2), np.float32)}
    with pytest.raises(
        StateError, match=f"the optimizer's state of weight has the name '{key}', which a training file reserves"
    ):
        save_training(model, optimizer, tmp_path / "run.h5")
    assert not (tmp_path / "run.h5").exists()


def test_progress_that_is_not_a_dict_or_contains_itself_is_refused(tmp_path: Path):
    training = Training.new()
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(StateError, match=r"progress is nested too deeply, or contains itself\. Use a flatter dict"):
        training.save(tmp_path / "run.h5", rows=circle)
    with pytest.raises(ArgumentError, match=r"progress must be a dict, not list\."):
        training_state(training.model, training.optimizer, progress=[1])  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "run.h5").exists()


@pytest.mark.parametrize("bits", BIT_GENERATORS)
def test_a_generator_continues_from_its_state(bits: Any):
    generator, other = np.random.Generator(bits(1)), np.random.Generator(bits(2))
    generator.random(3, np.float32)
    set_rng_state(get_rng_state(generator), other)
    assert np.array_equal(generator.random(9), other.random(9))


def test_the_state_of_another_kind_of_generator_is_refused():
    generator = np.random.default_rng(1)
    before = get_rng_state(generator)
    with pytest.raises(
        ValueError, match="the state belongs to the bit generator Philox, but this one is a PCG64; nothing was cha"
    ):
        set_rng_state(get_rng_state(np.random.Generator(np.random.Philox(1))), generator)
    with pytest.raises(ValueError, match="this is not a state of a PCG64; nothing was changed"):
        set_rng_state({"bit_generator": "PCG64", "state": {"state": 1}}, generator)
    assert get_rng_state(generator) == before


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert list(one) == list(other)
    for name, value in one.items():
        assert np.array_equal(value, other[name]) if isinstance(value, np.ndarray) else value == other[name], name


class Stubborn(Linear):
    """A module that refuses its extra state on load."""

    def get_extra_state(self) -> str:
        return "mine"

    def set_extra_state(self, state: Any) -> None:
        raise RuntimeError("not this one")


def test_nothing_changes_if_a_module_refuses_its_extra_state(tmp_path: Path):
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


class Own(optim.SGD):
    """An optimizer that loads its state itself, in place, and refuses it at the end if told to."""

    refuses = False

    def load_state_dict(self, state_dict: Any) -> None:
        self.param_groups[0]["lr"] = state_dict["param_groups"][0]["lr"]
        for arrays, new in zip(self.state.values(), state_dict["state"].values(), strict=True):
            arrays["momentum_buffer"][...] = new["momentum_buffer"]
        if self.refuses:
            raise ValueError("the state of an optimizer\n  not this one")


def test_an_optimizer_with_a_load_of_its_own_is_loaded_or_left_as_it_was(tmp_path: Path):
    def new(steps: int) -> tuple[Module, Own]:
        model = Linear(2, 2)
        optimizer = Own(model.parameters(), lr=0.1 * steps, momentum=0.5)
        for parameter in model.parameters():
            parameter.grad = np.full(parameter.shape, steps, np.float32)
        optimizer.step()
        return model, optimizer

    save_training(*(saved := new(2)), tmp_path / "run.h5")
    model, optimizer = new(1)
    optimizer.refuses = True
    before = copy.deepcopy(training_state(model, optimizer))
    with pytest.raises(MismatchError, match="optimizer: not this one"):
        load_training(model, optimizer, tmp_path / "run.h5")
    assert_same(training_state(model, optimizer), before)
    optimizer.refuses = False
    load_training(model, optimizer, tmp_path / "run.h5")
    assert_same(training_state(model, optimizer), training_state(*saved))


@pytest.mark.parametrize("part", ["optimizer", "schedule"])
def test_nothing_changes_if_the_load_of_a_part_is_interrupted(
    tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
):
    training = Training.new()
    training.save(tmp_path / "run.h5")
    other = Training.new()
    for parameter in other.model.parameters():
        parameter.data[...] = 7
    before = copy.deepcopy(training_state(other.model, other.optimizer))

    def interrupt(self: Any, state: Any) -> None:
        other.optimizer.param_groups[0]["lr"] = 99
        raise KeyboardInterrupt

    monkeypatch.setattr(type(getattr(other, part)), "load_state_dict", interrupt)
    with pytest.raises(KeyboardInterrupt):
        other.load(tmp_path / "run.h5")
    assert_same(training_state(other.model, other.optimizer), before)

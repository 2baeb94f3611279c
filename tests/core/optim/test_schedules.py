"""Every schedule of torch gives the same rates, alone and combined, and their states can be exchanged."""

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.core import OptimizerError, Parameter, Tensor, optim
from statezoo.core.optim import lr_scheduler

Make = Callable[[Any, Any], Any]  # of a schedule, from the module of schedules and the optimizer


class Growth:
    """A function of the epoch with state, as an object."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, epoch: int) -> float:
        return self.rate**epoch


SCHEDULES: dict[str, Make] = {
    "step": lambda s, o: s.StepLR(o, 7, gamma=0.5),
    "milestones": lambda s, o: s.MultiStepLR(o, [3, 3, 10, 30], gamma=0.3),
    "constant": lambda s, o: s.ConstantLR(o, factor=0.25, total_iters=4),
    "linear": lambda s, o: s.LinearLR(o, start_factor=0.1, end_factor=0.7, total_iters=9),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.93),
    "polynomial": lambda s, o: s.PolynomialLR(o, total_iters=20, power=1.7),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 12, eta_min=0.002),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, T_mult=2, eta_min=0.001),
    "restarts of one length": lambda s, o: s.CosineAnnealingWarmRestarts(o, 6),
    "lambda": lambda s, o: s.LambdaLR(o, lambda epoch: 0.9**epoch),
    "lambdas": lambda s, o: s.LambdaLR(o, [Growth(0.9), lambda epoch: 1 / (1 + epoch)]),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda epoch: 0.95),
    "cyclic": lambda s, o: s.CyclicLR(o, 0.01, 0.1, step_size_up=4, step_size_down=7),
    "cyclic, halved": lambda s, o: s.CyclicLR(o, [0.01, 0.02], 0.1, 5, mode="triangular2"),
    "cyclic, falling": lambda s, o: s.CyclicLR(o, 0.01, 0.1, 5, mode="exp_range", gamma=0.97),
    "cyclic by a function": lambda s, o: s.CyclicLR(o, 0.01, 0.1, 5, scale_fn=Growth(0.9), scale_mode="iterations"),
    "one cycle": lambda s, o: s.OneCycleLR(o, 0.1, total_steps=60),
    "one cycle in three phases": lambda s, o: s.OneCycleLR(
        o, [0.1, 0.3], epochs=10, steps_per_epoch=6, three_phase=True, anneal_strategy="linear"
    ),
    "one cycle, same momentum": lambda s, o: s.OneCycleLR(o, 0.1, total_steps=60, cycle_momentum=False),
    "warm-up, then cosine": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=5), s.CosineAnnealingLR(o, 30)], [5]
    ),
    "three in a row": lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.1, 100), s.ExponentialLR(o, 0.9), s.StepLR(o, 3)], [4, 20]
    ),
    "chain": lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 4), s.ExponentialLR(o, 0.9)]),
}


def made(library: Any, parameter: Any, algorithm: str = "SGD") -> Any:
    options = {"momentum": 0.9} if algorithm == "SGD" else {}
    groups = [{"params": [parameter()], "lr": 0.05}, {"params": [parameter()], "lr": 0.2}]
    return getattr(library, algorithm)(groups, **options)


def ours(algorithm: str = "SGD") -> Any:
    return made(optim, lambda: Parameter(np.ones(2, np.float32)), algorithm)


def theirs(torch: Any, algorithm: str = "SGD") -> Any:
    return made(torch.optim, lambda: torch.nn.Parameter(torch.ones(2)), algorithm)


def rates(optimizer: Any) -> list[float]:
    keys = ("lr", "momentum", "betas")
    return [value for group in optimizer.param_groups for key in keys for value in np.atleast_1d(group.get(key, 0))]


@pytest.fixture
def torch() -> Any:
    library = pytest.importorskip("torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library.optim.lr_scheduler.warnings, "warn", lambda *args, **kwargs: None)
        yield library


def same(mine: Any, reference: Any) -> None:
    assert rates(mine) == pytest.approx(rates(reference), rel=1e-9, abs=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("algorithm", ["SGD", "Adam"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_fifty_rates_and_the_state_are_torchs(torch: Any, name: str, algorithm: str):
    mine, reference = ours(algorithm), theirs(torch, algorithm)
    schedule, expected = SCHEDULES[name](lr_scheduler, mine), SCHEDULES[name](torch.optim.lr_scheduler, reference)
    same(mine, reference)
    for _ in range(50):
        schedule.step()
        expected.step()
        same(mine, reference)
        assert schedule.get_last_lr() == pytest.approx(expected.get_last_lr(), rel=1e-9, abs=1e-12)
    state = schedule.state_dict()
    assert state.keys() == expected.state_dict().keys()
    for group, other in zip(mine.param_groups, reference.param_groups, strict=True):
        assert group.keys() == other.keys()


@pytest.mark.torch
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_state_goes_to_torch_and_back(torch: Any, name: str):
    mine, reference = ours(), theirs(torch)
    schedule, expected = SCHEDULES[name](lr_scheduler, mine), SCHEDULES[name](torch.optim.lr_scheduler, reference)
    for _ in range(11):
        schedule.step()
        expected.step()
    mine2, reference2 = ours(), theirs(torch)
    schedule2, expected2 = SCHEDULES[name](lr_scheduler, mine2), SCHEDULES[name](torch.optim.lr_scheduler, reference2)
    mine2.load_state_dict(reference.state_dict())
    reference2.load_state_dict(mine.state_dict())
    schedule2.load_state_dict(copy.deepcopy(expected.state_dict()))
    expected2.load_state_dict(copy.deepcopy(schedule.state_dict()))
    for _ in range(15):
        for each in (schedule, expected, schedule2, expected2):
            each.step()
        for each in (mine, mine2, reference2):
            same(each, reference)


CHAINABLE = [name for name in SCHEDULES if not name.startswith(("cyclic", "one cycle", "three", "warm", "a row"))]


@pytest.mark.torch
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_schedules_of_one_optimizer_and_rates_set_by_hand_combine_as_in_torch(data: Any):
    library = pytest.importorskip("torch")
    names = data.draw(st.lists(st.sampled_from(CHAINABLE), min_size=1, max_size=3))
    by_hand = data.draw(st.dictionaries(st.integers(0, 30), st.sampled_from([0.01, 0.3, 1.0]), max_size=3))
    mine, reference = ours(), theirs(library)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library.optim.lr_scheduler.warnings, "warn", lambda *args, **kwargs: None)
        each = [(SCHEDULES[n](lr_scheduler, mine), SCHEDULES[n](library.optim.lr_scheduler, reference)) for n in names]
        for step in range(31):
            if step in by_hand:
                mine.param_groups[0]["lr"] = reference.param_groups[0]["lr"] = by_hand[step]
            for schedule, expected in each:
                schedule.step()
                expected.step()
            same(mine, reference)


@pytest.mark.torch
@settings(max_examples=60, deadline=None)
@given(
    options=st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["min", "max"]),
            "factor": st.sampled_from([0.1, 0.5]),
            "patience": st.integers(0, 4),
            "threshold": st.sampled_from([1e-4, 0.1]),
            "threshold_mode": st.sampled_from(["rel", "abs"]),
            "cooldown": st.integers(0, 3),
            "min_lr": st.sampled_from([0, 0.01, [0.01, 0.02]]),
        }
    ),
    metrics=st.lists(st.floats(-2, 2), min_size=30, max_size=30),
)
def test_reduce_on_plateau_is_torchs(options: dict[str, Any], metrics: list[float]):
    library = pytest.importorskip("torch")
    mine, reference = ours(), theirs(library)
    schedule = lr_scheduler.ReduceLROnPlateau(mine, **options)
    expected = library.optim.lr_scheduler.ReduceLROnPlateau(reference, **options)
    for number, metric in enumerate(metrics):
        schedule.step(Tensor(np.float64(metric)) if number % 2 else metric)
        expected.step(metric)
        assert schedule.state_dict() == expected.state_dict()
        assert rates(mine) == rates(reference)
    resumed = lr_scheduler.ReduceLROnPlateau(ours(), **options)
    resumed.load_state_dict(expected.state_dict())
    assert resumed.state_dict() == schedule.state_dict()
    assert resumed.optimizer.param_groups[1]["lr"] == mine.param_groups[1]["lr"]


@pytest.mark.torch
@pytest.mark.parametrize(
    "name", [n for n in SCHEDULES if n.startswith(("step", "mile", "con", "lin", "exp", "pol", "cos"))]
)
def test_a_schedule_built_with_last_epoch_goes_on_as_in_torch(torch: Any, name: str):
    mine, reference = ours(), theirs(torch)
    for optimizer in (mine, reference):
        for group in optimizer.param_groups:
            group["initial_lr"], group["lr"] = group["lr"], group["lr"] * 0.7
    options: dict[str, tuple[str, dict[str, Any]]] = {
        "step": ("StepLR", {"step_size": 7}),
        "milestones": ("MultiStepLR", {"milestones": [3, 6, 10]}),
        "constant": ("ConstantLR", {"total_iters": 6}),
        "linear": ("LinearLR", {"total_iters": 9}),
        "exponential": ("ExponentialLR", {"gamma": 0.9}),
        "polynomial": ("PolynomialLR", {"total_iters": 20}),
        "cosine": ("CosineAnnealingLR", {"T_max": 12}),
    }
    kind, arguments = options[name]
    schedule = getattr(lr_scheduler, kind)(mine, **arguments, last_epoch=5)
    expected = getattr(torch.optim.lr_scheduler, kind)(reference, **arguments, last_epoch=5)
    for _ in range(12):
        same(mine, reference)
        assert schedule.last_epoch == expected.last_epoch
        schedule.step()
        expected.step()


@pytest.mark.torch
def test_warm_restarts_within_an_epoch_are_torchs(torch: Any):
    mine, reference = ours(), theirs(torch)
    schedule = lr_scheduler.CosineAnnealingWarmRestarts(mine, 3, T_mult=2)
    expected = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(reference, 3, T_mult=2)
    for step in range(60):
        schedule.step(step / 4)
        expected.step(step / 4)
        same(mine, reference)
    with pytest.raises(OptimizerError, match="epoch must be at least 0, not -1"):
        schedule.step(-1)


# --- without torch


def test_a_rate_that_nothing_else_changes_is_exactly_that_of_the_formula():
    optimizer = ours()
    schedule = lr_scheduler.CosineAnnealingLR(optimizer, 50)
    for epoch in range(1, 120):
        schedule.step()
        assert optimizer.param_groups[0]["lr"] == 0.05 * ((1 + np.cos(np.pi * epoch / 50)) / 2)


def test_a_rate_set_by_hand_stays():
    optimizer = ours()
    schedule = lr_scheduler.StepLR(optimizer, 2)
    schedule.step()
    optimizer.param_groups[0]["lr"] = 0.3
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.03)


def test_loading_a_schedule_alone_sets_the_rates_but_not_those_set_by_hand():
    optimizer = ours()
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    schedule.step()
    resumed = lr_scheduler.ExponentialLR(ours(), 0.5)
    resumed.optimizer.param_groups[1]["lr"] = 7.0
    resumed.load_state_dict(schedule.state_dict())
    assert [group["lr"] for group in resumed.optimizer.param_groups] == [0.025, 7.0]


def test_a_state_of_an_older_version_sets_the_rates_of_its_epoch():
    schedule = lr_scheduler.CosineAnnealingLR(ours(), 10)
    schedule.load_state_dict({"base_lrs": [0.1, 0.4], "last_epoch": 5, "T_max": 10, "eta_min": 0.0})
    assert [group["lr"] for group in schedule.optimizer.param_groups] == pytest.approx([0.05, 0.2])
    assert schedule.get_last_lr() == pytest.approx([0.05, 0.2])


def test_a_schedule_of_a_user_overrides_get_lr():
    class Halving(lr_scheduler.LRScheduler):
        def __init__(self, optimizer: Any, last_epoch: int = -1) -> None:
            self.factor = 0.5
            super().__init__(optimizer, last_epoch)

        def get_lr(self) -> list[float]:
            return [base * self.factor**self.last_epoch for base in self.base_lrs]

    schedule = Halving(ours())
    schedule.step()
    assert schedule.get_last_lr() == [0.025, 0.1]
    resumed = Halving(ours())
    resumed.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    resumed.step()
    assert resumed.get_last_lr() == [0.0125, 0.05]


def test_a_combination_that_does_not_fit_changes_nothing():
    optimizer = ours()
    schedule = SCHEDULES["three in a row"](lr_scheduler, optimizer)
    state = copy.deepcopy(schedule.state_dict())
    state["_schedulers"][2] = SCHEDULES["cosine"](lr_scheduler, ours()).state_dict()
    before = copy.deepcopy(schedule.state_dict()), rates(optimizer)
    with pytest.raises(OptimizerError, match="does not fit this StepLR of 2 groups; nothing was changed"):
        schedule.load_state_dict(state)
    with pytest.raises(OptimizerError, match=r"of 3 schedules; nothing was changed. It has 1."):
        schedule.load_state_dict({**before[0], "_schedulers": state["_schedulers"][:1]})
    assert (schedule.state_dict(), rates(optimizer)) == before


ERRORS: list[tuple[Callable[[], Any], str]] = [
    (lambda: lr_scheduler.StepLR(ours(), 2, last_epoch=3), r"group 0 has no 'initial_lr', which last_epoch=3 needs"),
    (lambda: lr_scheduler.LambdaLR(ours(), [lambda epoch: 1.0]), "lr_lambda has 1 values; the optimizer has 2 groups"),
    (lambda: lr_scheduler.ConstantLR(ours(), 1.5), "ConstantLR: factor must be between 0 and 1, not 1.5"),
    (lambda: lr_scheduler.CyclicLR(ours(), 0.1, 1.0, mode="square"), "CyclicLR: mode must be one of .*'square'"),
    (
        lambda: lr_scheduler.CyclicLR(made(optim, lambda: Parameter(np.ones(2, np.float32)), "Adagrad"), 0.1, 1.0),
        r"CyclicLR: the optimizer has no momentum and no betas. Pass cycle_momentum=False",
    ),
    (lambda: lr_scheduler.OneCycleLR(ours(), 0.1), "OneCycleLR needs total_steps, or epochs and steps_per_epoch"),
    (lambda: lr_scheduler.OneCycleLR(ours(), 0.1, 10, pct_start=2.0), "anneal_strategy must be 'cos' or 'linear'"),
    (lambda: lr_scheduler.ReduceLROnPlateau(ours(), factor=1.0), "factor must be below 1, not 1.0"),
    (lambda: lr_scheduler.ReduceLROnPlateau(ours(), mode="low"), "mode must be 'min' or 'max', .* not 'low' and 'rel'"),
    (lambda: lr_scheduler.ChainedScheduler([]), "ChainedScheduler needs at least one schedule"),
    (
        lambda: lr_scheduler.ChainedScheduler([lr_scheduler.ReduceLROnPlateau(ours())]),
        "schedule 0, ReduceLROnPlateau, needs a metric",
    ),
    (
        lambda: lr_scheduler.SequentialLR(ours(), [lr_scheduler.StepLR(ours(), 2)], []),
        "schedule 0, StepLR, belongs to another optimizer",
    ),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_an_error_names_the_schedule_and_the_option(call: Callable[[], Any], message: str):
    with pytest.raises(OptimizerError, match=message):
        call()


def test_one_cycle_ends():
    schedule = lr_scheduler.OneCycleLR(ours(), 0.1, total_steps=3)
    for _ in range(3):
        schedule.step()
    with pytest.raises(OptimizerError, match="OneCycleLR was made for 3 steps; this is step 4"):
        schedule.step()
    assert schedule.last_epoch == 3


def test_a_sequence_needs_one_milestone_fewer_than_schedules():
    optimizer = ours()
    parts = [lr_scheduler.StepLR(optimizer, 2), lr_scheduler.StepLR(optimizer, 3)]
    with pytest.raises(OptimizerError, match="SequentialLR: 2 schedules need 1 milestones, not 0"):
        lr_scheduler.SequentialLR(optimizer, parts, [])

"""Optimizers, schedules and clipping agree with PyTorch, and errors name their fix."""

import copy
import os
import pickle
import platform
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from statezoo.core import ArgumentError, Module, OptimizerError, Parameter, Tensor, functional, no_grad, optim
from statezoo.core.nn import utils
from statezoo.core.nn.layers.linear import Linear
from statezoo.core.optim import lr_scheduler


def parameters(*shapes: tuple[int, ...], dtype: Any = np.float32) -> list[Parameter]:
    random = np.random.default_rng(0)
    return [Parameter(random.standard_normal(shape).astype(dtype)) for shape in shapes]


def with_gradient(*shapes: tuple[int, ...]) -> list[Parameter]:
    made = parameters(*shapes)
    for parameter in made:
        parameter.grad = np.ones_like(parameter.data)
    return made


# --- agreement with PyTorch

ALGORITHMS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.05}),
    "sgd with momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "sgd with dampening and decay": ("SGD", {"lr": 0.05, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1}),
    "sgd with nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam": ("Adam", {}),
    "adam with decay": ("Adam", {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1}),
    "adamw": ("AdamW", {"lr": 0.01}),
    "adamw with decay": ("AdamW", {"lr": 0.02, "weight_decay": 0.3}),
}
SCHEDULES: dict[str, tuple[str, dict[str, Any]] | None] = {
    "no schedule": None,
    "steps": ("StepLR", {"step_size": 7, "gamma": 0.5}),
    "cosine": ("CosineAnnealingLR", {"T_max": 20, "eta_min": 0.001}),
}


def run(
    library: Any, schedules: Any, name: str, schedule: str, made: list[Any], loss: Callable[..., Any]
) -> list[float]:
    """Train 50 steps with two groups. Return the learning rates of the first group."""
    algorithm, options = ALGORITHMS[name]
    optimizer = getattr(library, algorithm)([{"params": made[:1], "lr": 0.03}, {"params": made[1:]}], **options)
    plan = SCHEDULES[schedule]
    scheduler = None if plan is None else getattr(schedules, plan[0])(optimizer, **plan[1])
    rates = []
    for step in range(50):
        optimizer.zero_grad()
        loss(step, *made).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
            rates.append(scheduler.get_last_lr()[0])
    return rates


@pytest.mark.torch
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_fifty_steps_agree_with_torch(name: str, schedule: str) -> None:
    torch = pytest.importorskip("torch")
    xs = np.random.default_rng(1).standard_normal((50, 8, 3)).astype(np.float32)
    ys = np.sin(xs.sum(axis=2, keepdims=True)).repeat(4, axis=2)

    def ours(step: int, weight: Any, bias: Any, unused: Any) -> Any:
        return functional.mse_loss(functional.linear(Tensor(xs[step]), weight, bias), Tensor(ys[step]))

    def theirs(step: int, weight: Any, bias: Any, unused: Any) -> Any:
        f = torch.nn.functional
        return f.mse_loss(f.linear(torch.tensor(xs[step]), weight, bias), torch.tensor(ys[step]))

    made = parameters((4, 3), (4,), (2,))
    arrays = [parameter.data for parameter in made]
    reference = [torch.nn.Parameter(torch.tensor(array.copy())) for array in arrays]
    rates = run(optim, optim, name, schedule, made, ours)
    expected = run(torch.optim, torch.optim.lr_scheduler, name, schedule, reference, theirs)
    assert rates == pytest.approx(expected, rel=1e-9, abs=1e-12)
    for parameter, array, tensor in zip(made, arrays, reference, strict=True):
        assert parameter.data is array, "a step changes the values, never the array"
        assert parameter.dtype == np.float32
        np.testing.assert_allclose(array, tensor.detach().numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("name", ALGORITHMS)
def test_state_can_be_loaded_into_torch_and_back(name: str) -> None:
    torch = pytest.importorskip("torch")
    algorithm, options = ALGORITHMS[name]
    made = parameters((2, 3), (3,))
    reference = [torch.nn.Parameter(torch.tensor(parameter.data.copy())) for parameter in made]
    theirs = getattr(torch.optim, algorithm)(reference, **options)
    ours = getattr(optim, algorithm)(made, **options)
    for _ in range(3):
        for parameter, tensor in zip(made, reference, strict=True):
            parameter.grad = np.cos(parameter.data)
            tensor.grad = torch.cos(tensor.detach())
        ours.step()
        theirs.step()
    mine, saved = ours.state_dict(), theirs.state_dict()
    # Without momentum, torch lists an empty buffer; we have no entry.
    assert len(mine["state"]) == (0 if name == "sgd" else 2)
    for position, arrays in mine["state"].items():
        assert arrays.keys() == saved["state"][position].keys()
        for key, array in arrays.items():
            np.testing.assert_allclose(array, saved["state"][position][key].numpy(), rtol=1e-5)
    fresh = getattr(optim, algorithm)(parameters((2, 3), (3,)), lr=9)
    fresh.load_state_dict(saved)
    assert fresh.param_groups[0]["lr"] == saved["param_groups"][0]["lr"]


# --- state


@pytest.mark.parametrize("name", ["sgd with nesterov", "adam", "adamw with decay"])
def test_training_continues_from_a_saved_state_bit_for_bit(name: str) -> None:
    algorithm, options = ALGORITHMS[name]

    def steps(optimizer: optim.Optimizer, made: list[Parameter], count: int) -> None:
        for _ in range(count):
            for parameter in made:
                parameter.grad = np.sin(parameter.data)
            optimizer.step()

    straight = parameters((2, 3), ())
    steps(getattr(optim, algorithm)(straight, **options), straight, 6)

    first = parameters((2, 3), ())
    interrupted = getattr(optim, algorithm)(first, **options)
    steps(interrupted, first, 3)
    second = [Parameter(parameter.data.copy()) for parameter in first]
    resumed = getattr(optim, algorithm)(second)
    resumed.load_state_dict(interrupted.state_dict())
    steps(interrupted, first, 1)  # the copies of the state must not change
    steps(resumed, second, 3)
    assert [p.data.tobytes() for p in second] == [p.data.tobytes() for p in straight]


def test_a_state_that_does_not_fit_changes_nothing_and_lists_everything() -> None:
    donor = optim.Adam(with_gradient((2, 3), (4,), (5,)))
    donor.step()
    state = copy.deepcopy(donor.state_dict())
    state["state"][1]["exp_avg"] = np.zeros(3, np.float32)
    state["state"][2]["exp_avg_sq"] = np.zeros(5)
    state["state"][0].pop("step")
    state["state"][9] = {}
    named = zip(["weight", "bias", "scale"], with_gradient((2, 3), (4,), (5,)), strict=True)
    optimizer = optim.Adam(named, lr=0.5)
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(OptimizerError) as caught:
        optimizer.load_state_dict(state)
    assert str(caught.value).splitlines() == [
        "the state does not fit this Adam; nothing was changed.",
        "  weight has ['exp_avg', 'exp_avg_sq'], the optimizer keeps ['exp_avg', 'exp_avg_sq', 'step'].",
        "  bias: exp_avg is float32 (3,), not float32 (4,).",
        "  scale: exp_avg_sq is float64 (5,), not float32 (5,).",
        "  there is no parameter 9.",
    ]
    assert optimizer.param_groups[0]["lr"] == 0.5
    np.testing.assert_equal(optimizer.state_dict(), before)


def test_an_error_names_groups_that_do_not_fit() -> None:
    optimizer = optim.SGD(parameters((2,), (3,)))
    message = "group 0 has 1 parameters, in the optimizer it has 2"
    with pytest.raises(OptimizerError, match=message):
        optimizer.load_state_dict(optim.SGD(parameters((2,))).state_dict())
    with pytest.raises(
        OptimizerError, match="group 0 has no dampening, momentum, nesterov: was it saved by another optimizer"
    ):
        optimizer.load_state_dict(optim.Adam(parameters((2,), (3,))).state_dict())
    with pytest.raises(OptimizerError, match="it has 0 parameter groups, the optimizer has 1"):
        optimizer.load_state_dict({"state": {}, "param_groups": []})
    with pytest.raises(OptimizerError, match=r"has the keys 'state' and 'param_groups'; this one has \['lr'\]"):
        optimizer.load_state_dict({"lr": 1})
    broken = optimizer.state_dict()
    broken["param_groups"][0]["lr"] = -1
    with pytest.raises(OptimizerError, match="lr must be at least 0, not -1"):
        optimizer.load_state_dict(broken)
    assert optimizer.param_groups[0]["lr"] == 1e-3


def test_a_schedule_continues_from_its_state() -> None:
    def made() -> tuple[optim.Optimizer, lr_scheduler.LRScheduler]:
        optimizer = optim.SGD(parameters((2,)), lr=1.0)
        return optimizer, optim.StepLR(optimizer, step_size=2, gamma=0.5)

    _, schedule = made()
    for _ in range(3):
        schedule.step()
    optimizer, resumed = made()
    resumed.load_state_dict(schedule.state_dict())
    assert resumed.get_last_lr() == [0.5]
    resumed.step()
    assert optimizer.param_groups[0]["lr"] == 0.25
    with pytest.raises(OptimizerError, match="does not fit this CosineAnnealingLR of 1 groups; nothing was changed"):
        optim.CosineAnnealingLR(optimizer, T_max=5).load_state_dict(schedule.state_dict())


# --- which parameters


def test_only_parameters_with_a_gradient_move() -> None:
    moved, still = parameters((2,), (2,))
    before = still.data.copy()
    optimizer = optim.AdamW([moved, still])
    moved.grad = np.ones(2, np.float32)
    optimizer.step()
    assert (still.data == before).all()
    optimizer.zero_grad()
    assert moved.grad is None


def test_a_tied_parameter_is_stepped_once() -> None:
    (tied,) = with_gradient((2,))
    expected = tied.data - np.float32(0.1)
    optim.SGD([tied, tied], lr=0.1).step()
    np.testing.assert_array_equal(tied.data, expected)


def test_a_parameter_that_is_a_single_number_is_trained() -> None:
    for algorithm in (optim.SGD, optim.Adam, optim.AdamW):
        (number,) = with_gradient(())
        array = number.data
        before = float(array)
        algorithm([number], lr=0.1).step()
        assert number.data is array
        assert float(array) < before


def test_a_step_does_not_change_the_gradient() -> None:
    for name, (algorithm, options) in ALGORITHMS.items():
        (parameter,) = with_gradient((3,))
        optimizer = getattr(optim, algorithm)([parameter], **options)
        optimizer.step()
        optimizer.step()
        assert parameter.grad is not None
        assert (parameter.grad == 1).all(), name


def test_a_view_is_trained_through_its_base() -> None:
    base = Parameter(np.ones((2, 3), np.float32))
    view = Parameter(base.T)
    optimizer = optim.SGD([("encoder", base), ("decoder", view)], lr=0.5)
    functional.linear(Tensor(np.ones((1, 2), np.float32)), view).sum().backward()
    assert view.grad is None
    optimizer.step()
    assert (base.data == 0.5).all()
    assert np.shares_memory(view.data, base.data)
    assert optimizer.param_groups[0]["param_names"] == ["encoder"]


def test_a_view_without_its_base_is_an_error() -> None:
    base = Parameter(np.ones((2, 3), np.float32))
    with pytest.raises(
        OptimizerError,
        match=r"decoder is a view of another parameter of shape \(2, 3\).*which the optimizer does not have",
    ):
        optim.SGD([("decoder", Parameter(base.T))])


def test_a_view_whose_base_is_frozen_is_an_error() -> None:
    base = Parameter(np.ones((2, 3), np.float32))
    view = Parameter(base.T)
    base.requires_grad = False
    with pytest.raises(OptimizerError, match=r"parameter 1 with shape \(3, 2\) is a view of a frozen parameter"):
        optim.SGD([base, view])


def test_a_step_that_would_fail_halfway_changes_nothing() -> None:
    first, second = with_gradient((2,), (2,))
    optimizer = optim.SGD([first, second], lr=1.0)
    before = first.data.copy()
    second.grad = np.ones(1, np.float32)
    with pytest.raises(OptimizerError, match=r"parameter 1 .* has a gradient of shape \(1,\), not \(2,\)"):
        optimizer.step()
    second.grad = np.ones(2, np.float32)
    second.data.flags.writeable = False
    with pytest.raises(OptimizerError, match=r"parameter 1 .* is read-only.*copy"):
        optimizer.step()
    np.testing.assert_array_equal(first.data, before)


def test_two_parameters_that_share_memory_are_an_error_that_names_both() -> None:
    weight = np.ones((2, 3), np.float32)
    pair = [("encoder.weight", Parameter(weight)), ("decoder.weight", Parameter(weight.T))]
    with pytest.raises(
        OptimizerError, match=r"encoder.weight and decoder.weight share memory.*Parameter\(other.weight.T\)"
    ):
        optim.SGD(pair)
    columns = [Parameter(weight[:, :2]), Parameter(weight[:, 2:])]
    assert len(optim.SGD(columns).param_groups[0]["params"]) == 2, "interleaved columns share no element"


class Net(Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Linear(3, 4), Linear(4, 2)


def test_a_layer_taken_out_of_its_model_can_be_trained_by_itself() -> None:
    model = Net()
    layer = model.second
    before, after = optim.SGD(layer.parameters(), lr=1.0), optim.SGD(layer.parameters(), lr=1.0)
    del model.second
    layer.weight.grad = np.ones_like(layer.weight.data)
    expected = layer.weight.data - 2
    before.step()
    after.step()
    np.testing.assert_allclose(layer.weight.data, expected, rtol=1e-6)


def test_changes_that_keep_the_parameters_do_not_disturb_the_optimizer() -> None:
    model = Net()
    optimizer = optim.SGD(model.parameters())
    for parameter in model.parameters():
        parameter.grad = np.ones_like(parameter.data)
    model.extra = Linear(2, 2)
    model.renamed = model.second
    del model.second
    Net()
    optimizer.step()


ERRORS: list[tuple[Callable[[], Any], str]] = [
    (lambda: optim.SGD([]), "given no parameters. Either the model registers none.*ModuleList.*already used up"),
    (lambda: optim.SGD([{"params": []}]), "given no parameters"),
    (lambda: optim.SGD(parameters((2,))[0]), "takes an iterable of parameters or of dicts, not a single Parameter"),  # pyright: ignore
    (lambda: optim.SGD([np.zeros(2)]), "takes parameters; number 0 is a ndarray"),  # pyright: ignore
    (lambda: optim.SGD([parameters((2,))[0] * 2]), r"number 0 with shape \(2,\) is the result of an operation"),
    (
        lambda: optim.SGD([("w", parameters((2,))[0]), parameters((3,))[0]]),
        "either all parameters of a group have names, or none",
    ),
    (
        lambda: optim.SGD([{"params": parameters((2,)), "rate": 1}]),
        r"a parameter group takes 'params' and any of \['lr'",
    ),
    (lambda: optim.SGD([{"lr": 1}]), "a parameter group takes 'params'"),
    (lambda: optim.SGD(parameters((2,)), lr=-1), "SGD: lr must be at least 0, not -1"),
    (lambda: optim.Adam(parameters((2,)), lr=float("nan")), "Adam: lr must be at least 0, not nan"),
    (lambda: optim.AdamW(parameters((2,)), weight_decay=-1), "AdamW: weight_decay must be at least 0, not -1"),
    (lambda: optim.SGD(parameters((2,)), momentum=-1), "SGD: momentum must be at least 0"),
    (lambda: optim.SGD(parameters((2,)), nesterov=True), "nesterov needs a momentum above 0 and no dampening"),
    (lambda: optim.Adam(parameters((2,)), betas=(0.9, 1.0)), "betas must be at least 0 and below 1"),
    (lambda: optim.Adam(parameters((2,)), eps=-1), "eps must be at least 0"),
    (lambda: optim.StepLR(optim.SGD(parameters((2,))), 0), "step_size must be at least 1, not 0"),
    (lambda: optim.CosineAnnealingLR(optim.SGD(parameters((2,))), 0), "T_max must be at least 1, not 0"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_an_error_names_the_mistake_and_its_fix(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(OptimizerError, match=message):
        call()


def test_a_parameter_in_two_groups_is_named() -> None:
    first, second = parameters((2,), (3, 4))
    with pytest.raises(OptimizerError, match=r"parameter 2 with shape \(3, 4\) is in two parameter groups"):
        optim.SGD([{"params": [first, second]}, {"params": second}])


# --- groups added later


@pytest.mark.torch
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_group_added_later_is_trained_as_in_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    algorithm, options = ALGORITHMS[name]
    made = parameters((2, 3), (3,))
    reference = [torch.nn.Parameter(torch.tensor(parameter.data.copy())) for parameter in made]
    ours, theirs = (
        getattr(optim, algorithm)(made[:1], **options),
        getattr(torch.optim, algorithm)(reference[:1], **options),
    )
    for step in range(6):
        if step == 3:
            ours.add_param_group({"params": made[1], "lr": 0.2})
            theirs.add_param_group({"params": reference[1], "lr": 0.2})
        for parameter, tensor in zip(made, reference, strict=True):
            parameter.grad = np.cos(parameter.data)
            tensor.grad = torch.cos(tensor.detach())
        ours.step()
        theirs.step()
    for parameter, tensor in zip(made, reference, strict=True):
        np.testing.assert_allclose(parameter.data, tensor.detach().numpy(), rtol=1e-5, atol=1e-6)
    for own, other in zip(ours.param_groups, theirs.param_groups, strict=True):
        assert all(own[key] == other[key] for key in own.keys() - {"params"})


def test_a_group_that_cannot_be_added_changes_nothing() -> None:
    first, second = parameters((2,), (3,))
    optimizer = optim.SGD([first], lr=0.1)
    for group in ({"params": [second, first]}, {"params": [second], "lr": -1.0}, {"params": []}, {"params": [3]}):
        with pytest.raises(OptimizerError):
            optimizer.add_param_group(group)
    assert [group["params"] for group in optimizer.param_groups] == [[first]]
    optimizer.add_param_group({"params": [second]})
    assert optimizer.param_groups[1]["lr"] == 0.1


def test_a_schedule_changes_the_rate_of_a_group_added_later() -> None:
    first, second = parameters((2,), (3,))
    optimizer = optim.SGD([first], lr=1.0)
    schedule = optim.StepLR(optimizer, 2)
    schedule.step()
    optimizer.add_param_group({"params": [second], "lr": 0.5})
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.1, 0.05])


# --- clipping


@pytest.mark.torch
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clipping_scales_all_gradients_to_a_joint_norm_as_torch_does(max_norm: float) -> None:
    torch = pytest.importorskip("torch")
    made = [*with_gradient((2, 3), ()), *parameters((4,))]
    reference = [torch.nn.Parameter(torch.tensor(parameter.data)) for parameter in made]
    for parameter, tensor in zip(made, reference, strict=True):
        tensor.grad = None if parameter.grad is None else torch.tensor(parameter.grad)
    held = made[0].grad
    norm = optim.clip_grad_norm_(iter([*made, made[0]]), max_norm)
    assert norm.item() == pytest.approx(torch.nn.utils.clip_grad_norm_(reference, max_norm).item(), rel=1e-6)
    assert made[0].grad is held
    for parameter, tensor in zip(made[:2], reference, strict=False):
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad, tensor.grad.numpy(), rtol=1e-6)


def test_clipping_without_gradients_returns_zero_and_keeps_infinities_visible() -> None:
    (parameter,) = parameters((2,))
    assert optim.clip_grad_norm_(parameter, 1.0).item() == 0
    parameter.grad = np.array([np.inf, 1], np.float32)
    assert optim.clip_grad_norm_([parameter], 1.0).item() == np.inf
    assert np.isnan(np.asarray(parameter.grad)[0])


@pytest.mark.torch
@pytest.mark.parametrize("norm_type", [1, 2, 2.5, 3.0, float("inf"), "inf", 0])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_norms_of_any_order_are_torchs(norm_type: Any, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    arrays = [random.standard_normal(shape).astype(dtype) for shape in ((2, 3), (), (5,))]
    made = [Parameter(np.zeros_like(array)) for array in arrays]
    reference = [torch.nn.Parameter(torch.zeros(array.shape, dtype=getattr(torch, dtype))) for array in arrays]
    for parameter, tensor, array in zip(made, reference, arrays, strict=True):
        parameter.grad, tensor.grad = array.copy(), torch.tensor(array)
    tolerance = 5e-3 if dtype == "float16" else 1e-5
    total = utils.get_total_norm([Tensor(array) for array in arrays], norm_type)
    expected = torch.nn.utils.get_total_norm([torch.tensor(array) for array in arrays], float(norm_type))
    assert total.item() == pytest.approx(expected.item(), rel=tolerance)
    norm = utils.clip_grad_norm_(made, 0.5, norm_type)
    assert norm.item() == pytest.approx(torch.nn.utils.clip_grad_norm_(reference, 0.5, norm_type).item(), rel=tolerance)
    for parameter, tensor in zip(made, reference, strict=True):
        np.testing.assert_allclose(np.asarray(parameter.grad), tensor.grad.numpy(), rtol=tolerance)


def test_clipping_can_refuse_a_norm_that_is_not_finite() -> None:
    (parameter,) = parameters((2,))
    parameter.grad = np.array([np.inf, 1], np.float32)
    with pytest.raises(ArgumentError, match=r"the norm of order 2.0 is inf. Leave out error_if_nonfinite") as caught:
        optim.clip_grad_norm_(parameter, 1.0, error_if_nonfinite=True)
    assert isinstance(caught.value, RuntimeError)
    np.testing.assert_array_equal(parameter.grad, [np.inf, 1])
    assert utils.get_total_norm([]).item() == 0


def test_clipping_by_value_keeps_each_element_between_two_bounds() -> None:
    first, second = parameters((3,), (2,))
    first.grad = np.array([-3, 0.5, 2], np.float32)
    held = first.grad
    utils.clip_grad_value_([first, second], 1.0)
    assert first.grad is held
    np.testing.assert_array_equal(held, [-1, 0.5, 1])


def test_a_step_under_no_grad_is_the_same_step() -> None:
    (a,), (b,) = with_gradient((3,)), with_gradient((3,))
    optim.SGD([a], lr=0.1).step()
    with no_grad():
        optim.SGD([b], lr=0.1).step()
    assert (a.data == b.data).all()


def stepped_adam(count: int = 3, steps: int = 2) -> tuple[list[Parameter], optim.Adam]:
    ours = [Parameter(np.full((2, n + 1), n, np.float32)) for n in range(count)]
    optimizer = optim.Adam(ours, lr=0.1)
    for step in range(steps):
        step_with_gradients(ours, optimizer, step)
    return ours, optimizer


def step_with_gradients(ours: list[Parameter], optimizer: optim.Optimizer, step: int) -> None:
    for n, parameter in enumerate(ours):
        parameter.grad = np.full_like(parameter.data, 0.1 * n + step - 0.5)
    optimizer.step()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_of_adam_steps_like_the_original_in_its_own_memory(copied: Any):
    ours, optimizer = stepped_adam()
    others, other = copied((ours, optimizer))
    for step in range(2, 5):
        step_with_gradients(ours, optimizer, step)
        step_with_gradients(others, other, step)
    for mine, theirs in zip(ours, others, strict=True):
        assert not np.shares_memory(mine.data, theirs.data)
        np.testing.assert_array_equal(mine.data, theirs.data)
        np.testing.assert_array_equal(optimizer.state[mine]["exp_avg"], other.state[theirs]["exp_avg"])


def test_adam_uses_arrays_that_are_written_to_its_state():
    ours, optimizer = stepped_adam()
    twins, twin = stepped_adam()
    for each, one in ((ours, optimizer), (twins, twin)):
        for parameter in each:
            one.state[parameter] = {name: array * 2 for name, array in one.state[parameter].items()}
    twin.load_state_dict(twin.state_dict())
    step_with_gradients(ours, optimizer, 3)
    step_with_gradients(twins, twin, 3)
    assert float(optimizer.state[ours[0]]["step"]) == 5
    for mine, theirs in zip(ours, twins, strict=True):
        np.testing.assert_array_equal(mine.data, theirs.data)


def test_adam_restarts_a_parameter_whose_state_is_set_to_zero_in_place():
    ours, optimizer = stepped_adam(count=2, steps=3)
    for array in optimizer.state[ours[1]].values():
        array[...] = 0
    before = ours[1].data.copy()
    step_with_gradients(ours, optimizer, 3)
    # The first step of Adam is lr long whatever the gradient.
    np.testing.assert_allclose(np.abs(ours[1].data - before), optimizer.param_groups[0]["lr"], rtol=1e-4)
    assert [int(optimizer.state[parameter]["step"]) for parameter in ours] == [4, 1]


def test_adam_frees_state_that_it_has_packed_again():
    ours = parameters(*[(10,)] * 6)
    optimizer = optim.Adam(ours)
    for first in range(5, -1, -1):  # layers are unfrozen from the last to the first
        for parameter in ours[first:]:
            parameter.grad = np.ones(10, np.float32)
        optimizer.step()
    known = [packed for _, states in optimizer._memory.values() for packed in states]
    assert sum(packed.kept["exp_avg"].size for packed in known) == 60


def test_adam_counts_steps_as_torch_does_when_some_gradients_are_missing():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape).astype(np.float32) for shape in ((3,), (2, 2), (), (40_000,), (1, 5))]
    ours = [Parameter(value.copy()) for value in values]
    theirs = [torch.nn.Parameter(torch.tensor(value)) for value in values]
    pairs = optim.Adam(ours, lr=0.1, weight_decay=0.1), torch.optim.Adam(theirs, lr=0.1, weight_decay=0.1)
    for _ in range(6):
        for mine, their in zip(ours, theirs, strict=True):
            given = rng.random() < 0.7
            gradient = rng.standard_normal(mine.shape).astype(np.float32)
            mine.grad = gradient if given else None
            their.grad = torch.tensor(gradient) if given else None
        ours[0].grad = np.ones(3, np.float32)
        theirs[0].grad = torch.ones(3)
        for optimizer in pairs:
            optimizer.step()
    for mine, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.data, their.detach().numpy(), rtol=2e-5, atol=1e-6)
        assert float(pairs[0].state[mine]["step"]) == float(pairs[1].state[their]["step"])


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="keep_freed_memory() has no effect with other C libraries"
)
def test_keep_freed_memory_lets_a_training_step_reuse_its_memory() -> None:
    program = """
import resource
import numpy as np
from statezoo.core import Tensor, functional, optim
from statezoo.core import Linear

model = Linear(64, 256)
optim.keep_freed_memory()
optimizer = optim.SGD(model.parameters())
x, faults = Tensor(np.ones((512, 64), np.float32)), []
for _ in range(20):
    optimizer.zero_grad()
    h = model(x)
    for _ in range(8):
        h = functional.relu(h)
    functional.mse_loss(h, np.zeros(h.shape, np.float32)).backward()
    optimizer.step()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print((faults[-1] - faults[9]) // 10)
"""
    # Without variables that set the thresholds of malloc, which would override the call, and with one BLAS thread.
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name and name != "LD_PRELOAD"}
    run = [sys.executable, "-c", program]
    environment |= {"OPENBLAS_NUM_THREADS": "1"}
    pages = int(subprocess.run(run, capture_output=True, text=True, check=True, env=environment).stdout)
    assert pages < 20  # without the call: more than 1,000


@pytest.mark.torch
@pytest.mark.parametrize("gradient", [0.0, 1e-7, 1e-4, 0.01, 0.1, 10.0, 300.0, 60000.0])
@pytest.mark.parametrize("eps", [1e-8, 1e-6, 1e-3])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.999, 0.9), (0.99, 0.99)])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_adam_steps_16_bit_floats_as_torch_does(dtype: str, betas: Any, eps: float, gradient: float):
    torch = pytest.importorskip("torch")
    numpy_dtype, torch_dtype = np.dtype(getattr(ml_dtypes, dtype, np.float16)), getattr(torch, dtype)
    ours, theirs = Parameter(np.ones(2, numpy_dtype)), torch.nn.Parameter(torch.ones(2, dtype=torch_dtype))
    pairs = optim.Adam([ours], 0.1, betas, eps), torch.optim.Adam([theirs], 0.1, betas, eps)
    for step in range(3):
        given = np.full(2, gradient / (step + 1)).astype(numpy_dtype)
        ours.grad, theirs.grad = given, torch.tensor(given.astype(np.float32)).to(torch_dtype)
        for optimizer in pairs:
            optimizer.step()
        found, expected = ours.data.astype(np.float32), theirs.detach().float().numpy()
        np.testing.assert_allclose(found, expected, rtol=8 * float(ml_dtypes.finfo(numpy_dtype).eps))


def test_the_decay_of_bfloat16_is_not_rounded_to_its_8_bits():
    parameter = Parameter(np.ones(2, ml_dtypes.bfloat16))
    optimizer = optim.AdamW([parameter], lr=0.3, weight_decay=0.01)
    for _ in range(300):
        parameter.grad = np.zeros(2, ml_dtypes.bfloat16)
        optimizer.step()
    assert parameter.data.astype(np.float32) == pytest.approx(0.648, abs=5e-3)  # as in torch; 0.207 if rounded

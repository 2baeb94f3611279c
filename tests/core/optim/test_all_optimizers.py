"""Every optimizer of torch that exists here takes the same steps, and their states can be exchanged."""

import copy
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.core import OptimizerError, Parameter, Tensor, no_grad, optim

SHARED = {"maximize": [False, True], "foreach": [None, False, True], "differentiable": [False]}
DECAY = {"weight_decay": [0.0, 0.1]}
BETAS = {"betas": [(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)], "eps": [1e-8, 1e-3]}
# name -> option -> the values to try
OPTIONS: dict[str, dict[str, list[Any]]] = {
    "SGD": {"lr": [0.01, 0.1], "momentum": [0.0, 0.9], "dampening": [0.0, 0.3], "fused": [None, False], **DECAY},
    "Adam": {"lr": [0.01], "amsgrad": [False, True], "decoupled_weight_decay": [False, True], **BETAS, **DECAY},
    "AdamW": {"lr": [0.01], "amsgrad": [False, True], **BETAS, **DECAY},
    "RMSprop": {"alpha": [0.99, 0.5], "momentum": [0.0, 0.9], "centered": [False, True], "eps": [1e-3], **DECAY},
    "Adagrad": {"lr_decay": [0.0, 0.1], "initial_accumulator_value": [0.0, 0.5], "eps": [1e-10, 1e-3], **DECAY},
    "Adadelta": {"lr": [1.0, 0.1], "rho": [0.9, 0.5], "eps": [1e-6, 1e-3], **DECAY},
    "Adamax": {"lr": [0.002, 0.1], **BETAS, **DECAY},
    "NAdam": {"lr": [0.002], "momentum_decay": [0.004, 0.1], "decoupled_weight_decay": [False, True], **BETAS, **DECAY},
    "RAdam": {"lr": [0.001, 0.1], "decoupled_weight_decay": [False, True], **BETAS, **DECAY},
}
SHAPES = ((3, 4), (5,), (), (2, 0))


@st.composite
def drawn_options(draw: Any, name: str) -> dict[str, Any]:
    choices = {**OPTIONS[name], **SHARED}
    options = {key: draw(st.sampled_from(values)) for key, values in choices.items()}
    if name == "SGD" and options["momentum"] and not options["dampening"]:
        options["nesterov"] = draw(st.booleans())
    return options


def gradients(step: int) -> list[np.ndarray]:
    random = np.random.default_rng(step)
    return [random.standard_normal(shape).astype(np.float32) for shape in SHAPES]


class Pair:
    """An optimizer and torch's, with equal parameters and gradients."""

    def __init__(self, torch: Any, name: str, options: dict[str, Any]) -> None:
        self.torch, self.name = torch, name
        start = gradients(1000)
        self.mine = [Parameter(value.copy()) for value in start]
        self.theirs = [torch.nn.Parameter(torch.tensor(value)) for value in start]
        groups = ([{"params": p[:1], "lr": 0.02}, {"params": p[1:]}] for p in (self.mine, self.theirs))
        ours, reference = groups
        self.ours: Any = getattr(optim, name)(ours, **options)
        self.reference = getattr(torch.optim, name)(reference, **options)

    def step(self, first: int, last: int) -> None:
        for step in range(first, last):
            for p, q, gradient in zip(self.mine, self.theirs, gradients(step), strict=True):
                skipped = step % 7 == 3 and p.ndim == 1  # a parameter that sometimes has no gradient
                p.grad = None if skipped else gradient
                q.grad = None if skipped else self.torch.tensor(gradient)
            self.ours.step()
            self.reference.step()

    def check(self) -> None:
        for p, q in zip(self.mine, self.theirs, strict=True):
            assert p.dtype == np.float32
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=2e-4, atol=2e-5)


@pytest.mark.torch
@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_fifty_steps_agree_with_torch_and_states_go_both_ways(name: str, data: Any):
    torch = pytest.importorskip("torch")
    options = data.draw(drawn_options(name))
    pair = Pair(torch, name, options)
    pair.step(0, 25)
    pair.check()
    mine, theirs = pair.ours.state_dict(), pair.reference.state_dict()
    assert [group.keys() for group in mine["param_groups"]] == [group.keys() for group in theirs["param_groups"]]
    assert {k: set(v) for k, v in mine["state"].items()} == {k: set(v) for k, v in theirs["state"].items()}
    as_tensors = {k: {n: torch.tensor(np.asarray(a)) for n, a in v.items()} for k, v in mine["state"].items()}
    swapped = Pair(torch, name, {})
    for p, q, r, s in zip(pair.mine, pair.theirs, swapped.mine, swapped.theirs, strict=True):
        r.data[...], s.data[...] = q.detach().numpy(), torch.tensor(np.asarray(p.data))
    swapped.ours.load_state_dict(theirs)
    swapped.reference.load_state_dict({**mine, "state": as_tensors})
    swapped.step(25, 50)
    swapped.check()


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", OPTIONS)
def test_16_bit_floats_are_stepped_as_in_torch(name: str, dtype: str):
    torch = pytest.importorskip("torch")
    numpy_dtype, torch_dtype = np.dtype(getattr(ml_dtypes, dtype, np.float16)), getattr(torch, dtype)
    start = np.linspace(-1, 1, 12).astype(numpy_dtype)
    mine, theirs = Parameter(start.copy()), torch.nn.Parameter(torch.tensor(start.astype(np.float32)).to(torch_dtype))
    options = {} if name == "SGD" else {"eps": 1e-3}
    ours, reference = getattr(optim, name)([mine], **options), getattr(torch.optim, name)([theirs], **options)
    for step in range(8):
        gradient = np.random.default_rng(step).standard_normal(12).astype(numpy_dtype)
        mine.grad, theirs.grad = gradient, torch.tensor(gradient.astype(np.float32)).to(torch_dtype)
        ours.step()
        reference.step()
    assert mine.dtype == numpy_dtype
    eps = float(ml_dtypes.finfo(numpy_dtype).eps)
    np.testing.assert_allclose(
        mine.data.astype(np.float32), theirs.detach().float().numpy(), rtol=8 * eps, atol=8 * eps
    )


@pytest.mark.torch
@pytest.mark.parametrize("name", OPTIONS)
def test_names_and_defaults_of_the_options_are_torchs(name: str):
    torch = pytest.importorskip("torch")
    ours = getattr(optim, name)([Parameter(np.ones(2, np.float32))])
    theirs = getattr(torch.optim, name)([torch.nn.Parameter(torch.ones(2))])
    assert ours.defaults == theirs.defaults
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_steps_on_by_itself(name: str, copied: Any):
    ours = [Parameter(value) for value in gradients(0)]
    optimizer = getattr(optim, name)(ours)
    optimizer.register_step_pre_hook(lambda *arguments: None)
    for parameter in ours:
        parameter.grad = np.ones_like(parameter.data)
    optimizer.step()
    others, other = copied((ours, optimizer))
    for parameters, each in ((ours, optimizer), (others, other)):
        for parameter in parameters:
            parameter.grad = np.full_like(parameter.data, 0.5)
        each.step()
    for mine, theirs in zip(ours, others, strict=True):
        assert not np.shares_memory(mine.data, theirs.data)
        np.testing.assert_array_equal(mine.data, theirs.data)


# --- options


def one(value: float = 1.0) -> Parameter:
    parameter = Parameter(np.full(3, value, np.float32))
    parameter.grad = np.ones(3, np.float32)
    return parameter


def test_a_state_with_an_option_that_would_change_the_steps_is_refused():
    state = optim.SGD([one()], momentum=0.9).state_dict()
    state["param_groups"][0]["sign"] = True
    with pytest.raises(
        OptimizerError, match="group 0 has sign=True, which this optimizer lacks: its steps would differ"
    ):
        optim.SGD([one()]).load_state_dict(state)
    state["param_groups"][0]["sign"] = False
    optim.SGD([one()]).load_state_dict(state)


def test_maximize_comes_with_a_state():
    parameter = one()
    optimizer = optim.SGD([parameter], lr=0.5)
    optimizer.load_state_dict(optim.SGD([one()], lr=0.5, maximize=True).state_dict())
    optimizer.step()
    assert (parameter.data == 1.5).all()


def test_a_state_from_before_an_option_existed_gives_it_the_neutral_value():
    state = optim.AdamW([one()]).state_dict()
    for name in ("maximize", "amsgrad", "foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay"):
        del state["param_groups"][0][name]
    optimizer = optim.AdamW([one()], maximize=True, amsgrad=True)
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["maximize"] is optimizer.param_groups[0]["amsgrad"] is False
    assert optimizer.param_groups[0]["decoupled_weight_decay"] is True


def test_adamw_stays_decoupled_when_it_loads_a_state_of_adam():
    optimizer = optim.AdamW([one()])
    optimizer.load_state_dict(optim.Adam([one()]).state_dict())
    assert optimizer.param_groups[0]["decoupled_weight_decay"] is True


def test_an_unknown_argument_and_a_differentiable_step_are_errors():
    with pytest.raises(TypeError, match=r"Adagrad takes lr, .*, fused; 'capturable' is unknown or given twice"):
        optim.Adagrad([one()], capturable=False)
    with pytest.raises(OptimizerError, match=r"RMSprop: a step cannot be differentiated. Leave out differentiable"):
        optim.RMSprop([one()], differentiable=True)
    with pytest.raises(OptimizerError, match="Adadelta: rho must be at least 0, not -1"):
        optim.Adadelta([one()], rho=-1)


def test_groups_may_have_a_name_and_rates_that_are_tensors():
    optimizer = optim.Adam([{"params": [one()], "name": "head", "lr": Tensor(0.5)}], lr=0.1)
    assert optimizer.param_groups[0]["name"] == "head"
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_rmsprop_keeps_a_buffer_from_the_step_on_that_has_a_momentum():
    parameter = one()
    optimizer = optim.RMSprop([parameter])
    optimizer.step()
    optimizer.param_groups[0]["momentum"] = 0.9
    optimizer.step()
    assert sorted(optimizer.state[parameter]) == ["momentum_buffer", "square_avg", "step"]
    assert float(optimizer.state[parameter]["step"]) == 2


# --- the step


def test_step_calls_the_closure_and_returns_its_loss():
    parameter = one()
    optimizer = optim.SGD([parameter], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (parameter * 2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 6
    np.testing.assert_allclose(parameter.data, 0.8)
    with no_grad():
        assert optimizer.step(closure).item() == pytest.approx(4.8)
    assert optimizer.step() is None


def test_the_first_step_without_a_gradient_warns_and_later_ones_do_nothing():
    parameter = one()
    parameter.grad = None
    optimizer = optim.Adam([parameter])
    with pytest.warns(UserWarning, match=r"found no gradient in any parameter. Call loss.backward\(\) first") as caught:
        optimizer.step()
    assert caught[0].filename == __file__
    parameter.grad = np.ones(3, np.float32)
    optimizer.step()
    optimizer.zero_grad()
    before = parameter.data.copy()
    optimizer.step()
    assert (parameter.data == before).all()


def test_zero_grad_may_keep_the_arrays():
    parameter = one()
    held = parameter.grad
    optimizer = optim.SGD([parameter, Parameter(np.ones(2, np.float32))])
    optimizer.zero_grad(set_to_none=False)
    assert parameter.grad is held
    assert (np.asarray(held) == 0).all()
    optimizer.zero_grad(set_to_none=True)
    assert parameter.grad is None


def test_hooks_run_around_a_step_and_around_states():
    parameter, seen = one(), []
    optimizer = optim.SGD([parameter], lr=0.1)
    handles = [
        optimizer.register_step_pre_hook(lambda own, args, kwargs: seen.append("second")),
        optimizer.register_step_pre_hook(lambda own, args, kwargs: seen.append("first"), prepend=True),
        optimizer.register_step_post_hook(lambda own, args, kwargs: seen.append("after")),
        optimizer.register_state_dict_pre_hook(lambda own: seen.append("saving")),
        optimizer.register_state_dict_post_hook(lambda own, state: {**state, "more": 1}),
        optimizer.register_load_state_dict_pre_hook(lambda own, state: seen.append("loading")),
        optimizer.register_load_state_dict_post_hook(lambda own: seen.append("loaded")),
    ]
    optimizer.step()
    state = optimizer.state_dict()
    assert state["more"] == 1
    optimizer.load_state_dict(state)
    assert seen == ["first", "second", "after", "saving", "loading", "loaded"]
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert "more" not in optimizer.state_dict()
    assert len(seen) == 6


# --- optimizers of users


class Momentum(optim.Optimizer):
    """An optimizer as people write it for torch."""

    def __init__(self, params: Any, lr: float = 0.1, beta: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "beta": beta})

    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["step"] = 0
                    state["moving"] = np.zeros_like(p.data)
                state["step"] += 1
                state["moving"] *= group["beta"]
                state["moving"] += p.grad
                p.data -= group["lr"] * state["moving"]
        return loss


def test_an_optimizer_of_a_user_trains_saves_and_loads():
    first, second = one(), one()
    optimizer = Momentum([{"params": [first], "layer_scale": 2}], lr=0.5)
    seen = []
    optimizer.register_step_post_hook(lambda *arguments: seen.append(1))
    optimizer.step()
    resumed = Momentum([{"params": [second], "layer_scale": 2}])
    second.data[...] = first.data
    resumed.load_state_dict(optimizer.state_dict())
    for each in (optimizer, resumed):
        each.step()
    assert resumed.state[second]["step"] == 2
    assert resumed.param_groups[0]["lr"] == 0.5
    np.testing.assert_array_equal(first.data, second.data)
    assert len(seen) == 2

"""Initial values: bounds and moments against the formulas, gains and fans against PyTorch."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo.core import Buffer, Parameter, ShapeError, Tensor, default_generator, init, manual_seed
from statezoo.core.errors import ArgumentError

SHAPE = (200, 300)


def empty(shape: tuple[int, ...] = SHAPE, dtype: Any = np.float32) -> Tensor:
    return Tensor(np.full(shape, np.nan, dtype), requires_grad=True)


def random() -> np.random.Generator:
    return np.random.default_rng(3)


UNIFORM: list[tuple[Callable[..., Tensor], float]] = [
    (lambda t, **g: init.uniform_(t, -2, 2, **g), 2),
    (init.xavier_uniform_, math.sqrt(6 / 500)),
    (lambda t, **g: init.xavier_uniform_(t, gain=3, **g), 3 * math.sqrt(6 / 500)),
    (init.kaiming_uniform_, math.sqrt(2) * math.sqrt(3 / 300)),
    (lambda t, **g: init.kaiming_uniform_(t, a=math.sqrt(5), **g), 1 / math.sqrt(300)),
    (lambda t, **g: init.kaiming_uniform_(t, mode="fan_out", nonlinearity="tanh", **g), 5 / 3 * math.sqrt(3 / 200)),
]
NORMAL: list[tuple[Callable[..., Tensor], float, float]] = [
    (lambda t, **g: init.normal_(t, 1, 2, **g), 1, 2),
    (init.xavier_normal_, 0, math.sqrt(2 / 500)),
    (lambda t, **g: init.xavier_normal_(t, gain=2, **g), 0, 2 * math.sqrt(2 / 500)),
    (init.kaiming_normal_, 0, math.sqrt(2 / 300)),
    (lambda t, **g: init.kaiming_normal_(t, mode="fan_out", nonlinearity="linear", **g), 0, math.sqrt(1 / 200)),
]


@pytest.mark.parametrize(("fill", "bound"), UNIFORM)
def test_uniform_values_fill_the_interval_of_the_formula(fill: Callable[..., Tensor], bound: float) -> None:
    values = fill(empty(), generator=random()).data
    assert -bound <= values.min() < -0.999 * bound
    assert 0.999 * bound < values.max() <= np.float32(bound)
    assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize(("fill", "mean", "std"), NORMAL)
def test_normal_values_have_the_moments_of_the_formula(fill: Callable[..., Tensor], mean: float, std: float) -> None:
    values = fill(empty(), generator=random()).data
    assert values.mean() == pytest.approx(mean, abs=0.02 * std)
    assert values.std() == pytest.approx(std, rel=0.01)
    assert ((values - mean) ** 4).mean() == pytest.approx(3 * std**4, rel=0.05)


@pytest.mark.parametrize(
    ("fill", "value"), [(init.zeros_, 0), (init.ones_, 1), (lambda t: init.constant_(t, 2.5), 2.5)]
)
def test_constants_fill_every_element(fill: Callable[[Tensor], Tensor], value: float) -> None:
    assert (fill(empty((2, 3))).data == value).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("fill", [init.uniform_, init.kaiming_normal_, init.zeros_])
def test_initializers_keep_the_memory_the_dtype_and_requires_grad(fill: Callable[[Tensor], Tensor], dtype: Any) -> None:
    parameter = empty((4, 5), dtype)
    array = parameter.data
    assert fill(parameter) is parameter
    assert parameter.data is array
    assert array.dtype == dtype
    assert parameter.requires_grad
    assert np.isfinite(array).all()


def test_draws_come_from_the_given_generator_or_the_default_one() -> None:
    manual_seed(5)
    first = init.normal_(empty()).data.copy()
    manual_seed(5)
    assert init.normal_(empty()).data.tobytes() == first.tobytes()
    before = default_generator().bit_generator.state
    init.xavier_uniform_(empty(), generator=random())
    assert default_generator().bit_generator.state == before


@pytest.mark.torch
@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "selu", "leaky_relu"])
def test_gains_agree_with_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name), rel=1e-12)
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


@pytest.mark.torch
@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_"])
def test_scales_follow_the_fans_of_torch_for_every_shape(
    name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    asked: list[tuple[float, float]] = []
    for module, tensor in ((init, empty(shape)), (torch.Tensor, torch.empty(shape))):
        for draw in ("uniform_", "normal_"):
            monkeypatch.setattr(module, draw, lambda t, low, high, *_, **__: asked.append((low, high)) or t)
        getattr(init if module is init else torch.nn.init, name)(tensor)
    ours, theirs = asked
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_a_weight_without_elements_needs_no_values() -> None:
    for fill in (init.kaiming_uniform_, init.xavier_normal_):
        assert fill(empty((0, 0))).shape == (0, 0)


def test_vectors_and_unknown_names_are_errors() -> None:
    with pytest.raises(ShapeError, match=r"need a weight with two or more axes, not shape \(3,\)"):
        init.kaiming_uniform_(empty((3,)))
    with pytest.raises(ArgumentError, match=r"unknown nonlinearity 'swish'. Choose one of linear, sigmoid, tanh, relu"):
        init.calculate_gain("swish")
    with pytest.raises(ArgumentError, match="mode must be 'fan_in' or 'fan_out', not 'fan'"):
        init.kaiming_normal_(empty(), mode="fan")  # pyright: ignore[reportArgumentType]


def test_skip_init_changes_neither_parameters_nor_the_generator():
    parameter = Parameter(np.full((2, 3), 7, np.float32))
    state = default_generator().bit_generator.state
    with init.skip_init():
        for fill in (init.zeros_, init.ones_, init.uniform_, init.normal_, init.xavier_normal_, init.kaiming_uniform_):
            assert fill(parameter) is parameter
    assert (parameter.data == 7).all()
    assert default_generator().bit_generator.state == state
    assert (init.zeros_(parameter).data == 0).all()


def test_skip_init_still_fills_buffers():
    with init.skip_init():
        assert (init.ones_(Buffer(np.zeros(3, np.float32))).data == 1).all()

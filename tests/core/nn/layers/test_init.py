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
@pytest.mark.parametrize(
    "name", ["linear", "conv2d", "conv_transpose3d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"]
)
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


@pytest.mark.torch
@pytest.mark.parametrize(("shape", "groups"), [((4, 3, 3), 1), ((4, 2, 3, 4), 2), ((2, 5, 1, 2, 3), 1)])
def test_eye_and_dirac_are_those_of_torch(shape: tuple[int, ...], groups: int) -> None:
    torch = pytest.importorskip("torch")
    expected = torch.nn.init.dirac_(torch.empty(shape), groups)
    np.testing.assert_array_equal(init.dirac_(empty(shape), groups).data, expected.numpy())
    np.testing.assert_array_equal(init.eye_(empty(shape[:2])).data, torch.nn.init.eye_(torch.empty(shape[:2])).numpy())


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (4, 2, 3), (1, 1), (0, 3)])
def test_orthogonal_rows_or_columns_have_length_gain_and_right_angles(shape: tuple[int, ...]) -> None:
    w = init.orthogonal_(empty(shape, np.float64), gain=2).data.reshape(shape[0], math.prod(shape[1:]))
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


def test_orthogonal_matrices_are_uniform_over_rotations_and_reflections() -> None:
    w = np.array(
        [init.orthogonal_(empty((2, 2), np.float64), generator=g).data for g in [random()] for _ in range(2000)]
    )
    assert abs(w.mean(axis=0)).max() < 0.05
    assert (np.linalg.det(w) > 0).mean() == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"), [(0, 1, -2, 2), (0, 0.02, -2, 2), (1, 2, 0, 1.5), (0, 1, 3, 4), (5, 1, -2, 2)]
)
def test_truncated_normal_values_have_the_distribution_of_scipy(mean: float, std: float, a: float, b: float) -> None:
    from scipy import stats

    values = init.trunc_normal_(empty((50, 100), np.float64), mean, std, a, b, generator=random()).data.ravel()
    assert a <= values.min() < values.max() <= b
    result = stats.kstest(values, stats.truncnorm((a - mean) / std, (b - mean) / std, mean, std).cdf)
    assert result.pvalue > 1e-3


def test_sparse_columns_have_their_part_of_zeros() -> None:
    w = init.sparse_(empty((10, 200)), sparsity=0.25, std=0.1, generator=random()).data
    assert ((w == 0).sum(axis=0) == 3).all()
    assert w[w != 0].std() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(
    "fill", [init.normal_, init.ones_, init.orthogonal_, init.kaiming_uniform_, init.trunc_normal_]
)
def test_the_data_of_a_parameter_can_be_filled_too(fill: Callable[..., Any]) -> None:
    parameter = Parameter(np.full((4, 3), np.nan, np.float32))
    data = parameter.data
    assert fill(data) is data
    assert np.isfinite(parameter.data).all()
    array = np.full((4, 3), np.nan)
    assert np.isfinite(fill(array)).all()


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (lambda: init.eye_(empty((3,))), r"eye_ fills a matrix, not shape \(3,\)"),
        (lambda: init.sparse_(empty((3,)), 0.1), r"sparse_ fills a matrix, not shape \(3,\)"),
        (lambda: init.orthogonal_(empty((3,))), r"orthogonal_ needs two or more axes, not shape \(3,\)"),
        (lambda: init.dirac_(empty((3, 3))), r"dirac_ fills \(out, in, \*kernel\) with groups that divide out"),
        (lambda: init.dirac_(empty((3, 3, 1)), 2), r"groups that divide out, not \(3, 3, 1\)"),
        (lambda: init.trunc_normal_(empty((3,)), a=1, b=0), "needs a <= b and a positive std, not a=1, b=0"),
    ],
)
def test_a_shape_or_option_that_an_initializer_cannot_fill_is_an_error(fill: Callable[[], Any], message: str) -> None:
    with pytest.raises((ShapeError, ArgumentError), match=message):
        fill()

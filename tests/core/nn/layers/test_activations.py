"""The activations and their modules: PyTorch's values at corners, dtypes, signatures and text, and the draws."""

import inspect
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo.core import Parameter, Tensor, manual_seed, nn
from statezoo.core import functional as F
from statezoo.core.errors import ArgumentError, GraphError, ShapeError

Check = Callable[..., None]
EDGES = np.array([-math.inf, -50, -6, -3, -1, -0.5, -0.1, 0, 0.1, 0.5, 1, 3, 6, 25, 50, math.inf, math.nan])
CURVES = "celu elu hardshrink hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish relu6 selu silu softplus"
CURVES = f"{CURVES} softshrink softsign tanhshrink".split()
OPTIONS: dict[str, dict[str, Any]] = {
    "celu": {"alpha": 0.7},
    "elu": {"alpha": 1.3},
    "hardshrink": {"lambd": 0.1},
    "hardtanh": {"min_val": -0.5, "max_val": 3.0},
    "leaky_relu": {"negative_slope": 0.2},
    "softplus": {"beta": 2.0, "threshold": 5.0},
    "softshrink": {"lambd": 0.1},
    "threshold": {"threshold": 0.1, "value": 20.0},
}
_TEXTS = """CELU() CELU(0.5,True) ELU(alpha=2) ELU(inplace=True) GELU() GELU('tanh') GLU() GLU(dim=0) Hardshrink()
Hardshrink(1) Hardsigmoid() Hardswish(True) Hardtanh() Hardtanh(-2,2) Hardtanh(-1,1,True) LeakyReLU() LeakyReLU(0.2)
LeakyReLU(0.1,inplace=True) LogSigmoid() LogSoftmax(1) LogSoftmax() Mish() PReLU() PReLU(3,0.1) RReLU() RReLU(0.1,0.2)
RReLU(inplace=True) ReLU() ReLU(True) ReLU6() ReLU6(inplace=True) SELU() SELU(True) SiLU() SiLU(True) Sigmoid()
Softmax() Softmax(dim=-1) Softmax2d() Softmin(0) Softplus() Softplus(2,10) Softshrink(0.3) Softsign() Tanh()
Tanhshrink() Threshold(0.1,20) Threshold(1,2,True)"""
MODULES = _TEXTS.split()


def gradient(function: Callable[..., Tensor], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tensor = Tensor(x, requires_grad=True)
    out = function(tensor)
    out.backward(np.ones(out.shape, out.dtype))
    assert tensor.grad is not None
    return np.asarray(out.data), np.asarray(tensor.grad)


@pytest.mark.torch
@pytest.mark.parametrize("name", [*CURVES, "threshold"])
@pytest.mark.parametrize("with_options", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_values_and_gradients_at_corners_infinity_and_nan_are_those_of_torch(
    name: str, with_options: bool, dtype: Any
) -> None:
    torch = pytest.importorskip("torch")
    options = OPTIONS.get(name, {}) if with_options or name == "threshold" else {}
    x = EDGES.astype(dtype)
    other = torch.tensor(x, requires_grad=True)
    expected = getattr(torch.nn.functional, name)(other, **options)
    expected.backward(torch.ones_like(expected))
    out, slope = gradient(lambda t: getattr(F, name)(input=t, **options), x)
    tolerance = {np.float32: 2e-6, np.float16: 2e-3}[dtype]
    assert out.dtype == slope.dtype == dtype
    np.testing.assert_allclose(out, expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    finite = np.isfinite(x)  # at infinity, PyTorch's gradients are sometimes NaN where the limit is a number
    np.testing.assert_allclose(slope[finite], other.grad.numpy()[finite], rtol=2 * tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 3)])
def test_every_shape_keeps_its_shape_and_dtype(name: str, shape: tuple[int, ...]) -> None:
    for dtype in (np.float16, np.float32, np.float64):
        out, slope = gradient(getattr(F, name), np.full(shape, 0.3, dtype))
        assert out.shape == slope.shape == shape
        assert out.dtype == slope.dtype == dtype


def test_hardsigmoid_agrees_with_central_differences(differences_agree: Check) -> None:
    differences_agree(F.hardsigmoid, np.array([-4, -2.9, 0.1, 2.9, 4]))


def test_the_gradients_of_selu_and_celu_agree_with_central_differences_for_large_values(
    differences_agree: Check,
) -> None:
    for function in (F.selu, lambda x: F.celu(x, -0.5), F.mish, F.logsigmoid, lambda x: F.softplus(x, 3)):
        differences_agree(function, np.array([-30, -7, -1.1, 0.2, 3, 19]) / 3)


@pytest.mark.torch
@pytest.mark.parametrize("text", MODULES)
def test_a_module_shows_its_options_and_its_state_as_torch_does(text: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = eval(f"nn.{text}"), eval(f"torch.nn.{text}", {"torch": torch})
    assert repr(ours) == repr(theirs)
    assert [(n, a.shape) for n, a in ours.state_dict().items()] == [
        (n, tuple(a.shape)) for n, a in theirs.state_dict().items()
    ]


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Implicit dimension", "ignore:softmax without")
@pytest.mark.parametrize("text", MODULES)
def test_a_module_computes_what_torchs_computes_in_evaluation(text: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = eval(f"nn.{text}").eval(), eval(f"torch.nn.{text}", {"torch": torch}).eval()
    x = np.random.default_rng(0).normal(0, 2, (2, 3, 4, 6)).astype(np.float32)
    if isinstance(ours, nn.GLU) and ours.dim == -1:
        x = x[..., :4]
    expected = theirs(torch.tensor(x.copy())).detach().numpy()
    np.testing.assert_allclose(ours(Tensor(x)).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.torch
def test_functions_and_modules_have_the_arguments_of_torch() -> None:
    torch = pytest.importorskip("torch")
    for name in [*CURVES, "relu", "threshold", "softmax", "softmin", "log_softmax", "glu", "gumbel_softmax", "rrelu"]:
        theirs = getattr(torch.nn.functional, name)
        try:
            expected = inspect.signature(theirs).parameters
        except ValueError:  # a builtin
            continue
        ours = inspect.signature(getattr(F, name)).parameters
        for parameter in expected.values():
            if parameter.name != "_stacklevel":
                assert ours[parameter.name].default == parameter.default, (name, parameter.name)
    for text in MODULES:
        name = text.partition("(")[0]
        ours, expected = (inspect.signature(getattr(place, name)).parameters for place in (nn, torch.nn))
        names = [each for each in expected if each not in ("min_value", "max_value", "args", "kwargs")]
        assert list(ours) == names
        assert [ours[each].default for each in names] == [expected[each].default for each in names]


def test_a_module_is_a_class_that_can_be_derived_from_copied_and_explained() -> None:
    class Leaky(nn.LeakyReLU):
        """Mine."""

        def __init__(self) -> None:
            super().__init__(0.5)

    assert Leaky()(Tensor([-2.0])).item() == -1
    assert repr(Leaky()) == "Leaky(negative_slope=0.5)"
    assert list(inspect.signature(Leaky).parameters) == []
    assert Leaky.__doc__ == "Mine."
    assert pickle.loads(pickle.dumps(nn.ELU(2))).alpha == 2
    assert str(nn.ELU.__doc__).startswith("The module of `functional.elu`: Return x where x > 0")
    with pytest.raises(TypeError, match="unexpected keyword argument 'beta'"):
        nn.ELU(beta=1)  # pyright: ignore[reportCallIssue]
    layer = nn.LeakyReLU(0.5)
    layer.negative_slope = 0.25
    assert layer(Tensor([-2.0])).item() == -0.5


def test_integers_are_limited_as_integers_and_are_errors_elsewhere() -> None:
    x = Tensor([-2, 3, 9])
    assert F.relu6(x).data.tolist() == [0, 3, 6]
    assert F.hardtanh(x, 0, 4).dtype == np.int64
    assert F.softsign(x).dtype == np.float32
    with pytest.raises(ArgumentError, match=r"silu needs floats, not int64. Call .float\(\) first."):
        F.silu(x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: F.hardtanh(x, 2, 1), ArgumentError, "hardtanh: min_val 2 is greater than max_val 1"),
        (lambda x: F.celu(x, 0), ZeroDivisionError, "division by zero"),
        (lambda x: F.softshrink(x, -1), ArgumentError, "softshrink: lambd must be at least 0, not -1"),
        (lambda x: F.glu(x), ShapeError, r"glu splits dim -1 into halves; the input \(2, 3\) has 3 there"),
        (lambda x: F.glu(x, 2), ShapeError, r"there is no dim 2 in a tensor of shape \(2, 3\)"),
        (lambda x: F.prelu(x, Tensor(np.ones(2))), ShapeError, r"weight \(2,\) must have one element, or one for each"),
        (lambda x: nn.Softmax2d()(x), ShapeError, r"Softmax2d takes \(N, C, H, W\) or \(C, H, W\), not \(2, 3\)"),
    ],
)
def test_an_option_that_does_not_fit_is_an_error(call: Callable[[Tensor], Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call(Tensor(np.ones((2, 3), np.float32)))


@pytest.mark.parametrize(("shape", "dim"), [((3,), 0), ((2, 3), 1), ((2, 3, 4), 0), ((2, 3, 4, 5), 1)])
def test_softmax_without_a_dim_takes_torchs_and_warns(shape: tuple[int, ...], dim: int) -> None:
    x = Tensor(np.random.default_rng(0).standard_normal(shape))
    with pytest.warns(UserWarning, match=rf"softmax without a dim took dim {dim}"):
        out = F.softmax(x)
    np.testing.assert_array_equal(out.data, F.softmax(x, dim).data)


def test_softmax_casts_its_input_first() -> None:
    x = Tensor(np.array([1, 2], np.float16), requires_grad=True)
    out = F.log_softmax(x, dim=-1, dtype=np.float32)
    assert out.dtype == np.float32
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == np.float16


def test_rrelu_draws_slopes_in_training_and_takes_their_mean_in_evaluation() -> None:
    manual_seed(1)
    layer, x = nn.RReLU(0.1, 0.3), Tensor(np.full(10_000, -1, np.float32), requires_grad=True)
    out = layer(x)
    out.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad, -out.data)
    assert 0.1 <= -out.data.max() < 0.101 < 0.299 < -out.data.min() <= 0.3
    assert layer.eval()(Tensor([-1.0])).item() == pytest.approx(-0.2)


def test_prelu_learns_its_slope() -> None:
    layer = nn.PReLU(2, 0.5)
    assert isinstance(layer.weight, Parameter)
    layer(Tensor([[-1.0, 2.0], [-3.0, -4.0]])).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [-4, -4]
    layer.weight.data[...] = 3
    layer.reset_parameters()
    assert layer.weight.data.tolist() == [0.5, 0.5]
    assert nn.PReLU(dtype=np.float64).weight.dtype == np.float64


def test_gumbel_softmax_draws_from_the_categorical_distribution() -> None:
    manual_seed(2)
    p = np.array([0.2, 0.5, 0.3])
    logits = Tensor(np.tile(np.log(p), (20_000, 1)), requires_grad=True)
    hard = F.gumbel_softmax(logits, tau=0.5, hard=True)
    assert set(np.unique(hard.data.round(12))) == {0, 1}
    np.testing.assert_allclose(hard.data.mean(axis=0), p, atol=0.015)
    hard[:, 0].sum().backward()
    assert logits.grad is not None
    assert np.abs(logits.grad).max() > 0.1
    soft = F.gumbel_softmax(logits, tau=0.5)
    np.testing.assert_allclose(soft.data.sum(axis=-1), 1)
    assert float(soft.data.min(axis=1).max()) > 0.01


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "celu", "selu", "hardtanh", "relu6", "silu", "mish"])
def test_in_place_changes_the_tensor_and_the_graph_of_its_result(name: str) -> None:
    leaf = Tensor(np.array([-2, -0.3, 0.4, 9], np.float32), requires_grad=True)
    apart = Tensor(leaf.data.copy(), requires_grad=True)
    x = leaf * 2
    assert getattr(F, name)(x, inplace=True) is x
    (x * x).sum().backward()
    y = getattr(F, name)(apart * 2)
    (y * y).sum().backward()
    np.testing.assert_array_equal(x.data, y.data)
    assert leaf.grad is not None
    np.testing.assert_array_equal(leaf.grad, np.asarray(apart.grad))
    constant = Tensor(np.array([-2.0, 9]))
    array = constant.data
    getattr(F, name)(constant, inplace=True)
    assert array.tolist() == getattr(F, name)(Tensor(np.array([-2.0, 9]))).data.tolist()
    with pytest.raises(GraphError, match="a leaf that requires a gradient cannot be changed in place"):
        getattr(F, name)(leaf, inplace=True)


def test_the_functions_with_an_underscore_and_modules_with_inplace_change_their_input() -> None:
    for change in (F.relu_, lambda x: F.threshold_(x, 0, 0), nn.ReLU(inplace=True), nn.Sequential(nn.ReLU6(True))):
        x = Tensor([-1.0, 2])
        assert change(x) is x
        assert x.data.tolist() == [0, 2]


@pytest.mark.torch
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
def test_a_single_number_counts_as_one_axis(name: str, torch_agrees: Check) -> None:
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn.functional, name)
    for dim in (0, -1):
        torch_agrees(lambda x, d=dim: getattr(F, name)(x, d), np.array(0.7), theirs=lambda x, d=dim: theirs(x, d))

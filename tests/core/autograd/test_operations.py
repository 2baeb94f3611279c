"""Every operation on tensors, against central differences and against PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from statezoo.core import ModuleError, ShapeError, Tensor, tensor
from statezoo.core.autograd.operations import where
from statezoo.core.autograd.shaping import cat, stack
from statezoo.core.errors import ArgumentError

repeatable = settings(derandomize=True, deadline=None, max_examples=30)
Check = Callable[..., None]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    return np.abs(normal(*shape, seed=seed)) + 0.5


# Each works on the tensors of both libraries: the methods have the same names.
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "power": lambda x, y: x**y,
}
UNARY: dict[str, Callable[[Any], Any]] = {
    "negative": lambda x: -x,
    "plus a number": lambda x: 2 + x + 1.5,
    "number minus": lambda x: 1.5 - x,
    "number over": lambda x: 3 / x,
    "number to the power": lambda x: 2**x,
    "squared": lambda x: x**2,
    "exp": lambda x: x.exp(),
    "log": lambda x: x.log(),
    "sqrt": lambda x: x.sqrt(),
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: x.sigmoid(),
    "relu": lambda x: x.relu(),
    "abs": lambda x: abs(x) + x.abs(),
    "clamp": lambda x: x.clamp(0.7, max=1.2),
    "clamp below": lambda x: x.clamp(min=0.9),
    "sum": lambda x: x.sum(),
    "sum over one": lambda x: x.sum(1),
    "sum over two, kept": lambda x: x.sum(dim=(0, -1), keepdim=True),
    "mean": lambda x: x.mean(),
    "mean over the last": lambda x: x.mean(-1, keepdim=True),
    "variance": lambda x: x.var(),
    "variance of a population": lambda x: x.var(dim=(1, 2), correction=0),
    "standard deviation": lambda x: x.std(dim=0, keepdim=True),
    "max": lambda x: x.max(),
    "min": lambda x: x.min(),
    "max over one": lambda x: x.max(1)[0],
    "min over one, kept": lambda x: x.min(dim=2, keepdim=True)[0],
    "reshape": lambda x: x.reshape(4, -1),
    "view of a tuple": lambda x: x.view((6, 4)),
    "flatten": lambda x: x.flatten(),
    "flatten from 1": lambda x: x.flatten(1),
    "transpose": lambda x: x.transpose(0, -1),
    "permute": lambda x: x.permute(2, 0, 1),
    "unsqueeze and squeeze": lambda x: x.unsqueeze(1).squeeze(1).unsqueeze(-1).squeeze(),
    "expand": lambda x: x.unsqueeze(0).expand(3, -1, 3, 4),
    "clone": lambda x: x.clone(),
    "contiguous": lambda x: x.transpose(0, 1).contiguous(),
    "masked_fill": lambda x: x.masked_fill(x > 1, -3.0),
    "double and back": lambda x: x.double().to(x.dtype),
    "index": lambda x: x[1],
    "one element": lambda x: x[0, -1, 2],
    "slices": lambda x: x[:, 1:, ::2],
    "new axis": lambda x: x[:, None, ..., 0],
    "list of positions": lambda x: x[:, [0, 2, 0]],
    "mask": lambda x: x[x > 0.9],
    "iteration": lambda x: sum(row * (i + 1) for i, row in enumerate(x)),
}


@pytest.mark.parametrize("name", UNARY)
def test_gradient_agrees_with_central_differences(name: str, differences_agree: Check) -> None:
    differences_agree(UNARY[name], positive(2, 3, 4))


@pytest.mark.torch
@pytest.mark.parametrize("name", UNARY)
def test_value_and_gradient_agree_with_torch(name: str, torch_agrees: Check) -> None:
    torch_agrees(UNARY[name], positive(2, 3, 4))


@pytest.mark.torch
@pytest.mark.parametrize("name", ["negative", "exp", "tanh", "sigmoid", "relu", "abs", "sum", "clone", "flatten"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,)])
def test_single_numbers_and_empty_tensors_agree_with_torch(
    name: str, shape: tuple[int, ...], torch_agrees: Check
) -> None:
    torch_agrees(UNARY[name], normal(*shape))


@pytest.mark.parametrize("name", BINARY)
@repeatable
@given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3), seed=st.integers(0, 99))
def test_broadcasting_sums_the_gradient_over_the_repeats(
    name: str, shapes: Any, seed: int, differences_agree: Check
) -> None:
    left, right = shapes.input_shapes
    differences_agree(BINARY[name], positive(*left, seed=seed), positive(*right, seed=seed + 1))


@pytest.mark.torch
@pytest.mark.parametrize("name", BINARY)
@repeatable
@given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3, min_side=0))
def test_binary_operations_agree_with_torch(name: str, shapes: Any, torch_agrees: Check) -> None:
    left, right = shapes.input_shapes
    torch_agrees(BINARY[name], positive(*left), positive(*right, seed=1))


MATMUL_SHAPES = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (3,)),
    ((3,), (5, 3, 4)),
    ((5, 1, 2, 3), (6, 3, 4)),
    ((0, 3), (3, 4)),
    ((2, 0), (0, 4)),
]


@pytest.mark.parametrize(("left", "right"), MATMUL_SHAPES)
def test_matmul_gradient_agrees_with_central_differences(
    left: tuple[int, ...], right: tuple[int, ...], differences_agree: Check
) -> None:
    differences_agree(lambda x, y: x @ y, normal(*left), normal(*right, seed=1))


@pytest.mark.torch
@pytest.mark.parametrize(("left", "right"), MATMUL_SHAPES)
def test_matmul_agrees_with_torch(left: tuple[int, ...], right: tuple[int, ...], torch_agrees: Check) -> None:
    torch_agrees(lambda x, y: x @ y, normal(*left), normal(*right, seed=1))


@pytest.mark.torch
@repeatable
@given(data=st.data(), shape=hnp.array_shapes(max_dims=3, max_side=4))
def test_every_kind_of_index_agrees_with_torch(
    data: st.DataObject, shape: tuple[int, ...], torch_agrees: Check
) -> None:
    # torch does not support negative steps
    index = data.draw(
        hnp.basic_indices(shape, allow_newaxis=True).filter(
            lambda i: all(
                (part.step or 1) > 0 for part in (i if isinstance(i, tuple) else (i,)) if isinstance(part, slice)
            )
        )
        | st.lists(st.integers(-shape[0], shape[0] - 1), min_size=1)
    )
    torch_agrees(lambda x: x[index], normal(*shape))


def test_a_tensor_of_positions_or_bools_indexes_like_an_array() -> None:
    x = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    x[Tensor([1, 1, 0]), Tensor([0, 0, 1])].sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0, 1.0], [2.0, 0.0]]
    assert x[x > 2].data.tolist() == [3.0, 4.0]


@pytest.mark.torch
def test_stack_cat_and_where_agree_with_torch(torch_agrees: Check, differences_agree: Check) -> None:
    torch = pytest.importorskip("torch")
    a, b = normal(2, 3), normal(2, 3, seed=1)
    chosen = a > b
    cases = [
        (lambda x, y: stack([x, y], dim=1), lambda x, y: torch.stack([x, y], dim=1)),
        (lambda x, y: cat([x, y], dim=-1), lambda x, y: torch.cat([x, y], dim=-1)),
        (lambda x, y: where(chosen, x, y), lambda x, y: torch.where(torch.tensor(chosen), x, y)),
    ]
    for ours, theirs in cases:
        torch_agrees(ours, a, b, theirs=theirs)
        differences_agree(ours, a, b)


def test_where_broadcasts_and_takes_numbers() -> None:
    x = Tensor([1.0, -1.0], requires_grad=True)
    out = where(np.array([[True], [False]]), x, 5)
    out.sum().backward()
    assert out.data.tolist() == [[1.0, -1.0], [5.0, 5.0]]
    assert out.dtype == np.float32
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0]
    assert where(Tensor([True, False]), 1, 2.5).data.tolist() == [1.0, 2.5]


# --- ties, poles and edge cases


@pytest.mark.torch
@pytest.mark.parametrize("name", ["max", "min", "max over one", "min over one, kept", "relu", "clamp", "abs"])
def test_gradients_at_ties_and_kinks_agree_with_torch(name: str, torch_agrees: Check) -> None:
    tied = np.array([0.0, 0.7, 1.2, 1.2, 0.0, 0.7, 0.7, 1.2]).reshape(2, 2, 2)
    function = {**UNARY, "min over one, kept": lambda x: x.min(dim=2, keepdim=True)[0]}[name]
    torch_agrees(function, tied)


@pytest.mark.torch
def test_max_and_min_along_a_dim_return_indices_as_in_torch() -> None:
    torch = pytest.importorskip("torch")
    x = np.array([[1.0, 3.0, 3.0], [np.nan, 2.0, 5.0]])
    ours, theirs = Tensor(x).max(1), torch.tensor(x).max(1)
    np.testing.assert_array_equal(ours.values.data, theirs.values.numpy())
    assert ours.indices.data.tolist() == theirs.indices.tolist()
    assert ours.indices.dtype == np.int64
    assert Tensor(x).argmax().item() == torch.tensor(x).argmax().item()
    assert Tensor(x).argmin(0, keepdim=True).data.tolist() == torch.tensor(x).argmin(0, keepdim=True).tolist()


@pytest.mark.torch
def test_poles_give_infinities_and_nans_without_a_warning_as_in_torch(torch_agrees: Check) -> None:
    awkward = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan])
    for name in ("log", "sqrt", "number over", "sigmoid", "tanh", "squared"):
        torch_agrees(UNARY[name], awkward)
    torch_agrees(lambda x: x.exp(), np.array([-1e5, 1e5, 0.0]))
    torch_agrees(BINARY["power"], np.array([0.0, 0.0, 2.0, 0.0]), np.array([0.0, 2.0, 0.0, 1.0]))
    torch_agrees(BINARY["divide"], np.array([1.0, 0.0, -1.0]), np.array([0.0, 0.0, 2.0]))


@pytest.mark.torch
def test_the_standard_deviation_of_equal_elements_has_gradient_zero(torch_agrees: Check) -> None:
    torch_agrees(lambda x: x.std(1), np.array([[2.0, 2.0, 2.0], [1.0, 2.0, 4.0]]))


def test_the_sum_of_nothing_is_zero_and_the_mean_is_nan() -> None:
    empty = Tensor(np.zeros((0, 3), np.float32), requires_grad=True)
    assert empty.sum(0).data.tolist() == [0, 0, 0]
    assert np.isnan(empty.mean().data)
    assert empty.mean().dtype == np.float32
    assert np.isnan(Tensor([1.0]).var().data)
    assert np.isnan(empty.std(0).data).all()


def test_numbers_take_the_dtype_of_the_tensor_and_integers_that_of_floats() -> None:
    half, single = Tensor(np.ones(2, np.float16)), Tensor([1.0])
    assert (half * 2.5).dtype == np.float16
    assert (single * np.float64(2.5)).dtype == np.float32
    assert (single.sum() * 2.5).dtype == np.float32
    assert (Tensor([1, 2]) * single).dtype == np.float32
    assert (single * Tensor([1, 2])).dtype == np.float32
    assert (Tensor([1, 2]) / 2).dtype == np.float32
    assert (Tensor([1, 2]) / Tensor([1, 2])).data.tolist() == [1.0, 1.0]
    assert (Tensor([1, 2]) * 2.5).data.tolist() == [2.5, 5.0]
    assert (Tensor([True]) + 1).data.tolist() == [2]
    assert Tensor([1, 4]).sqrt().dtype == np.float32
    assert (single.double() * single).dtype == np.float64


def test_gradients_have_the_dtype_of_their_tensor_when_dtypes_mix() -> None:
    single, double = Tensor([1.0, 2.0], requires_grad=True), tensor([3.0, 4.0], np.float64, requires_grad=True)
    (single * double).sum().backward()
    assert single.grad is not None
    assert double.grad is not None
    assert (single.grad.dtype, double.grad.dtype) == (np.float32, np.float64)


def test_comparisons_are_elementwise_bools_without_gradient() -> None:
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    for result, expected in [
        (x == 2, [False, True, False]),
        (x != 2.0, [True, False, True]),
        (x < Tensor([2, 2, 2]), [True, False, False]),
        (x <= np.array([2, 2, 2]), [True, True, False]),
        (x > 2, [False, False, True]),
        (~(x > 2) & (x > 1), [False, True, False]),
        ((x > 2) | (x < 2), [True, False, True]),
    ]:
        assert result.data.tolist() == expected
        assert result.dtype == bool
        assert not result.requires_grad
    assert bool((x == x).all())
    assert (x > 2).any().item() is True
    assert (x > 2).any(dim=0, keepdim=True).shape == (1,)


def test_views_share_memory_with_their_base() -> None:
    base = Tensor(np.zeros((2, 3, 4), np.float32))
    for view in (base[1], base[0, 0, 0], base[:, ::2], base.T, base.transpose(0, 1), base.permute(1, 2, 0)):
        assert np.shares_memory(view.data, base.data)
    for view in (base.reshape(6, 4), base.view(-1), base.flatten(1), base.squeeze(), base.unsqueeze(0), base.detach()):
        assert np.shares_memory(view.data, base.data)
    assert base.contiguous() is base
    assert base.to(np.float32) is base


MISFITS: list[tuple[Callable[[Tensor], Any], str]] = [
    (lambda x: x + Tensor([1.0, 2.0]), r"add cannot combine shapes \(2, 3\) and \(2,\)"),
    (lambda x: x @ x, r"matmul cannot combine shapes \(2, 3\) and \(2, 3\)"),
    (lambda x: x @ 2.0, r"matmul cannot combine shapes \(2, 3\) and \(\). Use \* with a single number"),
    (lambda x: x.reshape(4), r"cannot reshape \(2, 3\), which has 6 elements, to \(4,\)"),
    (lambda x: x.T.view(6), r"a view of \(3, 2\) as \(6,\) cannot share memory. Use reshape\(\)"),
    (lambda x: x.permute(0, 0), r"permute\(0, 0\) does not name each axis of shape \(2, 3\) once"),
    (lambda x: x.transpose(0, 2), r"no dim 2 in a tensor of shape \(2, 3\)"),
    (lambda x: x.sum(2), r"no dim 2 in a tensor of shape \(2, 3\)"),
    (lambda x: x.squeeze(2), r"no dim 2"),
    (lambda x: x.unsqueeze(4), r"unsqueeze\(4\) is out of range for a tensor of shape \(2, 3\)"),
    (lambda x: x.flatten(1, 0), r"the start comes after the end"),
    (lambda x: x.expand(2, 4), r"cannot expand \(2, 3\) to \(2, 4\)"),
    (lambda x: stack([x, x.T]), r"stack needs tensors of the same shape, not \[\(2, 3\), \(3, 2\)\]"),
    (lambda x: cat([x, x.T]), r"cat along dim 0 cannot join the shapes \[\(2, 3\), \(3, 2\)\]"),
    (lambda x: x.masked_fill(Tensor([True, False]), 0), r"cannot broadcast a mask of shape \(2,\) to \(2, 3\)"),
    (lambda x: x[:0].max(), r"argmax needs at least one element; the shape is \(0, 3\)"),
    (lambda x: x[:0].min(0), r"argmin needs at least one element; the shape is \(0, 3\) and dim is 0"),
]


@pytest.mark.parametrize(("function", "message"), MISFITS)
def test_an_error_names_the_shapes_that_do_not_fit(function: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        function(Tensor(np.zeros((2, 3), np.float32)))


REFUSED: list[tuple[Callable[[Tensor], Any], str]] = [
    (lambda x: x.mean(), r"mean of int64 would not be int64. Call .float\(\) first"),
    (lambda x: x.std(), r"var and std of int64"),
    (lambda x: x.clamp(), "clamp needs a min, a max, or both"),
    (lambda x: x.masked_fill(x, 0), "masked_fill needs a bool mask, not int64"),
    (lambda x: where(x, x, x), "where needs a bool condition, not int64"),
]


@pytest.mark.parametrize(("function", "message"), REFUSED)
def test_an_error_names_arguments_of_the_wrong_type(function: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        function(Tensor([1, 2]))


def test_every_error_of_an_operation_is_a_module_error() -> None:
    assert issubclass(ShapeError, ModuleError)
    assert issubclass(ArgumentError, ModuleError)


def test_an_integer_to_a_negative_integer_power_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ArgumentError, match=r"negative integer power is not an integer\. Call \.float\(\) first"):
        _ = Tensor([1, 2]) ** -1
    with pytest.raises(ShapeError, match="power cannot combine shapes"):
        _ = Tensor([1, 2]) ** Tensor([1, 2, 3])

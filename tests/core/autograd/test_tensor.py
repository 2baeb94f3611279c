"""Tensor: its contents, how gradients reach the leaves, and the errors of a backward pass."""

import asyncio
import copy
import gc
import operator
import threading
from collections.abc import Callable, Generator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from statezoo.core import (
    GraphError,
    ShapeError,
    Tensor,
    default_generator,
    is_grad_enabled,
    manual_seed,
    no_grad,
    randn,
    tensor,
)
from statezoo.core.errors import ArgumentError


def leaf(*values: float) -> Tensor:
    return Tensor([float(value) for value in values], requires_grad=True)


def gradient(of: Tensor) -> list[Any]:
    assert of.grad is not None
    return of.grad.tolist()


# --- contents


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, np.float32),
        ([1, 2.5], np.float32),
        (3, np.int64),
        ([[1], [2]], np.int64),
        (True, np.bool_),
        ([], np.float32),
        (np.float64(1.5), np.float64),
        (np.zeros(2), np.float64),
        (np.zeros(2, np.int8), np.int8),
        (np.zeros(2, ml_dtypes.bfloat16), ml_dtypes.bfloat16),
        ([Tensor([1.0]), Tensor([2.0])], np.float32),
        (Tensor(np.zeros(2)), np.float64),
    ],
)
def test_python_numbers_become_float32_int64_or_bool_and_arrays_keep_their_dtype(data: Any, dtype: Any) -> None:
    assert Tensor(data).dtype == dtype
    assert tensor(data).dtype == dtype


def test_Tensor_holds_an_array_and_tensor_copies_it() -> None:
    array = np.zeros(2)
    assert Tensor(array).data.shows is array
    assert not np.shares_memory(tensor(array).data, array)
    assert not np.shares_memory(tensor(Tensor(array)).data, array)
    assert tensor(array, dtype=np.float32).dtype == np.float32


def test_data_without_numbers_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="a tensor holds numbers or booleans, not str of dtype <U1"):
        Tensor("a")
    with pytest.raises(ArgumentError, match="not NoneType of dtype object"):
        Tensor(None)
    with pytest.raises(ArgumentError, match="not ndarray of dtype object"):
        Tensor(np.array([None]))


def test_shape_and_size_match_the_array() -> None:
    x = Tensor(np.zeros((2, 3)))
    assert (x.shape, x.ndim, x.numel(), len(x), x.size(), x.size(1)) == ((2, 3), 2, 6, 2, (2, 3), 3)
    assert x.T.shape == (3, 2)


def test_a_single_number_converts_to_python() -> None:
    x = Tensor([[2.5]])
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    assert type(x.item()) is float
    assert "abc"[Tensor(1)] == "b"
    assert f"{x.sum():.2f}" == "2.50"
    with pytest.raises(
        ShapeError, match=r"only a tensor with one element has a single value; this one has shape \(2,\)"
    ):
        bool(Tensor([1.0, 2.0]))


def test_repr_looks_like_torchs() -> None:
    assert repr(leaf(1, 2.5)) == "tensor([1. , 2.5], requires_grad=True)"
    assert repr(Tensor(np.zeros((1, 2)))) == "tensor([[0., 0.]], dtype=float64)"
    assert repr(Tensor([[1], [2]])) == "tensor([[1],\n        [2]])"
    assert f"{leaf(1)}" == "tensor([1.], requires_grad=True)"


def test_numpy_functions_use_the_array() -> None:
    x = leaf(1, 2)
    assert np.asarray(x) is x.data.shows
    assert np.array(x) is not x.data
    assert np.asarray(x, np.float64).dtype == np.float64
    assert x.detach().numpy() is x.data.shows
    with pytest.raises(GraphError, match=r"Call detach\(\).numpy\(\)"):
        x.numpy()


@pytest.mark.parametrize("other", [np.array([3.0, 4.0], np.float32), np.float32(3)])
def test_an_array_combined_with_a_tensor_gives_a_tensor(other: Any) -> None:
    x = leaf(1, 2)
    for result in (other * x, other + x, other - x, other / x, other**x, x * other):
        assert isinstance(result, Tensor)
        assert result.requires_grad
        assert result.dtype == np.float32
    assert isinstance(np.eye(2, dtype=np.float32) @ x, Tensor)
    with pytest.raises(TypeError, match="does not support ufuncs"):
        np.exp(x)  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_tensors_hash_by_identity() -> None:
    a, b = Tensor([1.0]), Tensor([1.0])
    assert len({a, b, a}) == 2


def test_a_copy_of_a_leaf_is_independent() -> None:
    x = leaf(1, 2)
    twin = copy.deepcopy(x)
    assert twin.requires_grad
    assert not np.shares_memory(twin.data, x.data)


# --- gradients


def test_gradients_accumulate_until_they_are_cleared() -> None:
    x = leaf(1, 2)
    for _ in range(2):
        (x * x).sum().backward()
    assert gradient(x) == [4.0, 8.0]


def test_a_tensor_used_in_many_places_gets_the_sum() -> None:
    x = leaf(3)
    y = x * x
    (y * y + y + x).sum().backward()
    assert gradient(x) == [4 * 27 + 2 * 3 + 1]


def test_backward_weights_the_elements_by_the_given_gradient() -> None:
    x = leaf(1, 2)
    (x * 3).backward(Tensor([1.0, 10.0]))
    assert gradient(x) == [3.0, 30.0]


def test_backward_of_a_leaf_sets_its_gradient_to_one() -> None:
    x = Tensor(2.0, requires_grad=True)
    x.backward()
    assert gradient(x) == 1.0


def test_only_leaves_that_require_a_gradient_get_one() -> None:
    x, constant = leaf(1), Tensor([2.0])
    y = x * constant
    y.sum().backward()
    assert y.grad is None
    assert constant.grad is None
    assert gradient(x) == [2.0]


def test_detach_and_integers_stop_the_gradient() -> None:
    x = leaf(1.5)
    assert not x.detach().requires_grad
    assert np.shares_memory(x.detach().data, x.data)
    assert not x.long().requires_grad
    assert not (x > 1).requires_grad


def test_gradients_share_no_memory_with_each_other_or_with_the_given_one() -> None:
    a, b, c = leaf(1, 2), leaf(3, 4), leaf(5, 6)
    given = np.ones(2, np.float32)
    (a + b + c.reshape(1, 2).reshape(2)).backward(given)
    arrays = [a.grad, b.grad, c.grad, given]
    for i, first in enumerate(arrays):
        for second in arrays[:i]:
            assert first is not None
            assert second is not None
            assert not np.shares_memory(first, second)
    (a * 2).sum().backward()
    assert (gradient(a), gradient(b)) == ([3, 3], [1, 1])


def test_backward_handles_graphs_deeper_than_the_stack_and_frees_them() -> None:
    x = leaf(1)
    y = x
    for _ in range(50_000):
        y = y + 0.0
    y.backward()
    assert gradient(x) == [1.0]
    y = x
    for _ in range(50_000):
        y = y * 1.0
    del y


def test_the_graph_is_gone_after_backward() -> None:
    x = leaf(1)
    y = x * 2
    z = y.sum()
    z.backward()
    assert y._parents == ()
    assert z._parents == ()


def test_a_second_backward_says_what_to_do() -> None:
    x = leaf(1)
    shared = x * 2
    loss = shared.sum()
    loss.backward()
    message = r"already gone through this graph.*Run the forward pass again.*add them up first"
    with pytest.raises(GraphError, match=message):
        loss.backward()
    with pytest.raises(GraphError, match=message):
        (shared * 3 + x).sum().backward()
    assert gradient(x) == [2.0], "a refused pass must not leave half of its gradients"


def test_backward_of_many_numbers_needs_a_gradient_of_their_shape() -> None:
    x = leaf(1, 2)
    with pytest.raises(
        GraphError, match=r"this tensor has shape \(2,\). Reduce it first, as in loss.mean\(\).backward"
    ):
        (x * 2).backward()
    with pytest.raises(ShapeError, match=r"a gradient of shape \(3,\) for a tensor of shape \(2,\)"):
        (x * 2).backward(np.ones(3))


def test_backward_names_the_causes_if_nothing_requires_a_gradient() -> None:
    with pytest.raises(GraphError, match=r"requires_grad=True, outside no_grad\(\) and without detach\(\)"):
        Tensor([1.0]).backward()


@pytest.mark.parametrize("data", [1, [True], np.zeros(2, np.complex64)])
def test_only_floats_can_require_a_gradient(data: Any) -> None:
    with pytest.raises(ArgumentError, match=r"only a tensor of floats can require a gradient.*Call .float\(\) first"):
        Tensor(data, requires_grad=True)
    with pytest.raises(ArgumentError, match="only a tensor of floats"):
        Tensor(data).requires_grad_()


def test_a_leaf_can_be_frozen_but_a_result_cannot() -> None:
    x = leaf(1)
    y = x * 2
    with pytest.raises(GraphError, match=r"result of a recorded operation. Call detach\(\)"):
        y.requires_grad = False
    assert not (x.requires_grad_(False) * 2).requires_grad
    assert (x.requires_grad_() * 2).requires_grad


class LastingView(Tensor):
    """A stand-in for a Parameter that is a view of another one."""

    __slots__ = ()
    _keep_graph = True


def test_the_link_of_a_view_survives_backward_and_passes_gradients_to_its_base() -> None:
    base = leaf(1, 2, 3)
    view = LastingView(base.data[1:], requires_grad=True)
    view._parents, view._backward = (base,), lambda g: (np.concatenate([[0], g]),)
    for times in (1, 2):
        (view * 2).sum().backward()
        assert gradient(base) == [0, 2 * times, 2 * times]
    assert view.grad is None
    view.requires_grad = False
    assert not (view * 2).requires_grad


# --- operands without numbers


FOREIGN = [None, "a", ["a", "b"], [[1, 2], [3]], object(), {}, float, ..., np.array(["a", "b"])]


@pytest.mark.parametrize("other", FOREIGN, ids=lambda other: type(other).__name__)
def test_a_tensor_is_unequal_to_anything_without_numbers(other: Any) -> None:
    x = Tensor([1.0, 2.0])
    assert (x == other) is False
    assert (x != other) is True
    assert (other == x) is False
    assert (other != x) is True


@pytest.mark.torch
@pytest.mark.parametrize("other", FOREIGN[:-1], ids=lambda other: type(other).__name__)
def test_torch_agrees_on_what_is_unequal_to_a_tensor(other: Any) -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor([1.0, 2.0])
    assert (x == other) is False
    assert (x != other) is True


@pytest.mark.parametrize("other", [None, object(), {}, float, ...], ids=lambda other: type(other).__name__)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "pow", "matmul", "lt", "ge", "and_", "iadd", "imul"])
def test_arithmetic_with_anything_without_numbers_is_a_type_error(name: str, other: Any) -> None:
    x = Tensor([1.0, 2.0])
    for a, b in ((x, other), (other, x)):
        with pytest.raises(TypeError, match=r"not supported between|unsupported operand"):
            getattr(operator, name)(a, b)
    assert x.data.tolist() == [1.0, 2.0]


def test_another_class_can_define_arithmetic_with_tensors() -> None:
    class Scale:
        def __rmul__(self, other: Tensor) -> str:
            return f"scaled {other.shape}"

    assert Tensor([1.0, 2.0]) * Scale() == "scaled (2,)"


def test_bitwise_operators_need_integers_or_booleans() -> None:
    with pytest.raises(ArgumentError, match="bitwise_and is not defined for float32 and float32"):
        _ = Tensor([1.0]) & Tensor([2.0])
    with pytest.raises(ArgumentError, match="invert is not defined for float32"):
        _ = ~Tensor([1.0])


# --- in place


IN_PLACE: list[tuple[Callable[[Tensor], Any], list[float]]] = [
    (lambda x: x.__iadd__(1), [3.0, 5.0]),
    (lambda x: x.__isub__(np.array([1.0, 2.0])), [1.0, 2.0]),
    (lambda x: x.__imul__(Tensor([2.0, 0.5])), [4.0, 2.0]),
    (lambda x: x.__itruediv__(2), [1.0, 2.0]),
    (lambda x: x.__setitem__(Tensor([False, True]), Tensor(9.0)) or x, [2.0, 9.0]),
]


@pytest.mark.parametrize(("change", "expected"), IN_PLACE)
def test_in_place_changes_keep_the_array_and_are_refused_in_a_graph(
    change: Callable[[Tensor], Any], expected: list[float]
) -> None:
    x = leaf(2, 4)
    array = x.data
    with pytest.raises(GraphError, match=r"do it under no_grad\(\).*write a = a \+ b instead of a \+= b"):
        change(x)
    assert array.tolist() == [2.0, 4.0]
    with no_grad():
        assert change(x) is x
    assert x.data is array
    assert array.tolist() == expected
    free = Tensor([2.0, 4.0])
    assert change(free).data.tolist() == expected


def test_the_classic_update_works_under_no_grad() -> None:
    w = leaf(2)
    (w * w).sum().backward()
    with no_grad():
        w -= 0.1 * w.grad  # pyright: ignore[reportOperatorIssue]
    assert w.requires_grad
    assert w.item() == pytest.approx(1.6)


def test_in_place_changes_never_lose_a_gradient_a_shape_or_a_fraction() -> None:
    total = Tensor([0.0])
    total += leaf(1)
    assert total.requires_grad
    total = Tensor([0.0])
    with pytest.raises(ShapeError, match=r"add in place cannot broadcast shape \(2,\) to \(1,\)"):
        total += np.ones(2)
    count = Tensor([1])
    with pytest.raises(ArgumentError, match=r"divide in place cannot keep float32 in int64. Call .to\(float32\)"):
        count /= 2
    with pytest.raises(ArgumentError, match="add in place cannot keep float32 in int64"):
        count += 0.5


# --- recording


def test_no_grad_is_a_context_and_a_decorator() -> None:
    x = leaf(1)

    @no_grad()
    def double(value: Tensor) -> Tensor:
        """Return twice the value."""
        return value * 2

    with no_grad():
        assert not is_grad_enabled()
        with no_grad():
            assert not (x * 2).requires_grad
        assert not is_grad_enabled()
    assert is_grad_enabled()
    assert not double(x).requires_grad
    assert double.__name__ == "double"
    assert (x * 2).requires_grad


def test_no_grad_on_a_generator_applies_to_its_body_only() -> None:
    @no_grad()
    def states() -> Generator[bool, str, str]:
        sent = yield is_grad_enabled()
        yield is_grad_enabled()
        return sent

    generator = states()
    assert next(generator) is False
    assert is_grad_enabled()
    assert generator.send("sent") is False
    assert is_grad_enabled()
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert end.value.value == "sent"


def test_exceptions_thrown_into_a_generator_under_no_grad_reach_its_body() -> None:
    seen: list[Any] = []

    @no_grad()
    def items() -> Generator[str, None, str]:
        try:
            yield "first"
        except KeyError as error:
            seen.append((error.args, is_grad_enabled()))
        yield "second"
        return "returned"

    generator = items()
    assert next(generator) == "first"
    assert generator.throw(KeyError("thrown")) == "second"
    assert seen == [(("thrown",), False)]
    with pytest.raises(ZeroDivisionError, match="not caught"):
        generator.throw(ZeroDivisionError("not caught"))
    assert is_grad_enabled()


def test_closing_a_generator_under_no_grad_runs_its_cleanup_at_once() -> None:
    seen: list[bool] = []

    @no_grad()
    def items() -> Generator[int, None, None]:
        try:
            yield 1
        finally:
            seen.append(is_grad_enabled())

    generator = items()
    next(generator)
    body = gc.get_referents(generator)  # keeps the body alive: its cleanup must not wait for the garbage collector
    generator.close()
    assert seen == [False]
    del body


def test_the_return_value_passes_through_yield_from_under_no_grad() -> None:
    @no_grad()
    def inner() -> Generator[int, None, str]:
        yield 1
        return "returned"

    def outer() -> Generator[int, None, str]:
        return (yield from inner())

    generator = outer()
    assert next(generator) == 1
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert end.value.value == "returned"


def test_a_coroutine_under_no_grad_records_nothing_and_leaves_other_tasks_alone() -> None:
    @no_grad()
    async def without() -> bool:
        await asyncio.sleep(0)
        return is_grad_enabled()

    async def both() -> tuple[bool, bool]:
        task = asyncio.create_task(without())
        await asyncio.sleep(0)
        return is_grad_enabled(), await task

    assert asyncio.run(both()) == (True, False)


def test_no_grad_ends_after_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), no_grad():
        _ = 1 / 0
    assert is_grad_enabled()


def test_no_grad_applies_only_to_its_thread_or_task() -> None:
    seen = []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append(is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]

    async def without() -> bool:
        with no_grad():
            await asyncio.sleep(0.001)
            return is_grad_enabled()

    async def beside() -> bool:
        await asyncio.sleep(0.0005)
        return is_grad_enabled()

    async def both() -> tuple[bool, bool]:
        first, second = await asyncio.gather(without(), beside())
        return first, second

    assert asyncio.run(both()) == (False, True)


# --- random numbers


def test_the_same_seed_gives_the_same_numbers() -> None:
    assert manual_seed(7) is default_generator()
    first = randn(2, 3)
    manual_seed(7)
    again = randn(2, 3)
    assert first.dtype == np.float32
    assert first.shape == (2, 3)
    assert first.data.tobytes() == again.data.tobytes()
    assert randn(2, 3).data.tobytes() != again.data.tobytes()


def test_the_state_of_the_generator_can_be_saved_and_restored() -> None:
    state = default_generator().bit_generator.state
    first = randn(3)
    default_generator().bit_generator.state = state
    assert randn(3).data.tobytes() == first.data.tobytes()


def test_an_explicit_generator_does_not_change_the_default_one() -> None:
    before = default_generator().bit_generator.state
    a = randn(3, generator=np.random.default_rng(1))
    b = randn(3, generator=np.random.default_rng(1))
    assert a.data.tobytes() == b.data.tobytes()
    assert default_generator().bit_generator.state == before
    assert randn().shape == ()

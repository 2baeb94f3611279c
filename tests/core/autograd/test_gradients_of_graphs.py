"""Gradients through whole graphs: repeated use, missing gradients, and refused backward passes."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo import core
from statezoo.core import Dropout, Tensor, TransformerBlock
from statezoo.core import functional as F
from statezoo.core.autograd.tensor import record
from statezoo.core.errors import GraphError

Check = Callable[..., None]


def leaf(*values: float) -> Tensor:
    return Tensor(np.array(values, np.float64), requires_grad=True)


def gradient(tensor: Tensor) -> Any:
    assert tensor.grad is not None
    return tensor.grad.tolist()


def blocked(*tensors: Tensor) -> Tensor:
    """Return the sum of the tensors, recorded as an operation that passes a gradient to the first one only."""
    out = np.sum([tensor.data for tensor in tensors], axis=0)
    return record("blocked", out, tensors, lambda g: (g, *[None] * (len(tensors) - 1)))


# --- how often a tensor is used


# An operation on two of the tensors so far, each given by its distance from the newest.
steps = st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12)


def _graph(program: list[tuple[str, int, int]], *leaves: Any) -> Any:
    """Return the last result of the program, for our Tensors or for those of torch."""
    known = list(leaves)
    for sign, i, j in program:
        a, b = known[-1 - i % len(known)], known[-1 - j % len(known)]
        known.append({"+": a + b, "-": a - b, "*": 0.5 * a * b}[sign])
    return known[-1] + 0 * sum(leaves)  # so that each leaf has a gradient


@pytest.mark.torch
@settings(derandomize=True, deadline=None, max_examples=150)
@given(program=steps)
def test_any_graph_that_reuses_tensors_agrees_with_torch(program: Any, torch_agrees: Check) -> None:
    leaves = np.array([1.1, -0.7]), np.array([0.4, 1.3]), np.array([-0.9, 0.8])
    torch_agrees(lambda *x: _graph(program, *x), *leaves, ulps=4096)


def test_each_backward_function_runs_once_even_if_its_result_is_used_often() -> None:
    calls: list[Any] = []
    x = leaf(1, 2)
    y = record("double", x.data * 2, (x,), lambda g: (calls.append(g.tolist()) or g * 2,))
    z = y + y
    (z * y + y + z.sum()).backward(np.ones(2))
    assert len(calls) == 1
    assert gradient(x) == [2 * calls[0][0], 2 * calls[0][1]]


def test_backward_handles_ten_thousand_diamonds_in_a_row() -> None:
    x = leaf(1)
    y = x
    for _ in range(10_000):
        y = y * 0.5 + y * 0.5
    y.backward()
    assert gradient(x) == [1.0]


# --- parts that get no gradient


def test_a_use_without_a_gradient_does_not_block_a_use_with_one() -> None:
    x, w = leaf(3), leaf(5)
    shared = x * 2
    behind = shared * w  # waits for a gradient that never comes
    (blocked(shared, behind) + 0).backward()
    assert gradient(x) == [2.0], "shared is used twice; the use without a gradient counts too"
    assert w.grad is None


@pytest.mark.parametrize("first", [0, 1])
def test_a_tensor_waits_for_its_gradient_when_another_use_has_none(first: int) -> None:
    x = leaf(3)
    shared = x * 2
    without, deep = blocked(leaf(1), shared), shared
    for _ in range(5):
        deep = deep * 1.0
    uses = [without, deep]
    (uses[first] + uses[1 - first]).backward()
    assert gradient(x) == [2.0]


def test_a_part_of_the_graph_without_a_gradient_leaves_grad_none() -> None:
    x, first = leaf(1), leaf(2)
    middle = (x * 2).exp()
    blocked(first, middle, middle * 3).backward()
    assert (gradient(first), x.grad) == ([1.0], None)
    assert middle._parents == (), "a part without a gradient is freed too"


def test_a_backward_function_must_return_one_gradient_for_each_parent() -> None:
    x, y = leaf(1), leaf(2)
    with pytest.raises(GraphError, match="half returned 1 gradients for 2 operands"):
        record("half", x.data + y.data, (x, y), lambda g: (g,)).backward()


# --- views and dtypes


def test_gradients_through_overlapping_views_add_up() -> None:
    x = leaf(1, 2, 3, 4)
    (x[:3] * x[1:] + x.reshape(2, 2).T.flatten()[:3]).sum().backward()
    assert gradient(x) == [2 + 1, 1 + 3 + 1, 2 + 4 + 1, 3]


def test_a_leaf_used_in_two_dtypes_gets_one_gradient_in_its_own_dtype() -> None:
    x = Tensor(np.array([1, 2], np.float32), requires_grad=True)
    (x.double() * x + x.to(np.float16)).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == np.float32
    assert gradient(x) == [3.0, 5.0]


# --- refused backward passes


def test_a_graph_with_a_freed_part_is_refused_before_any_gradient_changes() -> None:
    x, fresh = leaf(1), leaf(2)
    shared = (x * 2).exp()
    shared.backward()
    before = gradient(x)
    second = fresh * 3 + x
    for loss in (second * (shared + 1), (shared + 1) * second):  # in either order of the walk
        with pytest.raises(GraphError, match="already gone through"):
            loss.backward()
        assert (gradient(x), fresh.grad) == (before, None)
    second.backward()  # the new part of the graph was not freed
    assert (gradient(x), gradient(fresh)) == ([before[0] + 1], [3.0])


# --- where there is no derivative


KINKS: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: x.relu(),
    "abs": lambda x: x.abs(),
    "clamp": lambda x: x.clamp(-1, 1),
    "clamp from below": lambda x: x.clamp(min=0),
    "max": lambda x: x.max(),
    "min": lambda x: x.min(),
    "max over one": lambda x: x.max(0)[0],
    "min over one": lambda x: x.min(0)[0],
}
AT_NAN = {"relu": 0.0, "abs": np.nan}  # torch passes the incoming gradient to relu and 0 to abs


@pytest.mark.torch
@pytest.mark.parametrize("name", KINKS)
def test_gradients_at_kinks_ties_and_nans_agree_with_torch(name: str, torch_agrees: Check) -> None:
    torch_agrees(KINKS[name], np.array([-0.0, 1.0, -1.0, 1.0, 0.0, -1.0, 0.5]))
    if name not in AT_NAN:
        torch_agrees(KINKS[name], np.array([1.0, np.nan, 0.0, np.nan, np.inf, -np.inf]))


@pytest.mark.parametrize("name", AT_NAN)
def test_the_gradient_at_nan_is_as_documented(name: str) -> None:
    x = leaf(np.nan)
    KINKS[name](x).backward()
    np.testing.assert_array_equal(gradient(x), [AT_NAN[name]])


# --- layers whose gradient depends on draws or masks


def test_dropout_masks_and_scales_the_gradient_like_the_value() -> None:
    for p in (0.0, 0.4, 1.0):
        x = Tensor(np.full((20, 30), 2.0), requires_grad=True)
        out = F.dropout(x, p, generator=np.random.default_rng(3))
        out.sum().backward()
        np.testing.assert_array_equal(x.grad, out.data / 2)
    core.manual_seed(5)
    module, x = Dropout(0.4), Tensor(np.ones((20, 30)), requires_grad=True)
    out = module(x)
    out.sum().backward()
    np.testing.assert_array_equal(x.grad, out.data)
    assert set(np.unique(out.data).round(6)) == {0, round(1 / 0.6, 6)}


@pytest.mark.torch
@pytest.mark.parametrize(("length", "width", "features"), [(2, 3, 0), (0, 3, 2), (2, 0, 2)])
def test_attention_without_features_or_positions_agrees_with_torch(
    length: int, width: int, features: int, torch_agrees: Check
) -> None:
    torch = pytest.importorskip("torch")
    q, k, v = (np.ones((length, features)), np.ones((width, features)), np.arange(2.0 * width).reshape(width, 2))
    theirs = torch.nn.functional.scaled_dot_product_attention
    torch_agrees(F.scaled_dot_product_attention, q, k, v, theirs=theirs)


@pytest.mark.parametrize("mask", ["bool", "float", "causal"])
def test_every_parameter_of_a_block_agrees_with_central_differences(mask: str) -> None:
    core.manual_seed(0)
    block, random, step = TransformerBlock(4, 2), np.random.default_rng(1), 1e-6
    for parameter in block.parameters():
        parameter.data = parameter.data + 0.1 * random.standard_normal(parameter.shape)  # float64, none at 0 or 1
    masks = {"bool": random.random((3, 3)) < 0.6, "float": random.standard_normal((2, 1, 3, 3))}
    x, weights = random.standard_normal((2, 2, 3, 4))

    def loss() -> Tensor:
        return (block(Tensor(x), masks.get(mask), is_causal=mask == "causal") * weights).sum()

    loss().backward()
    for name, parameter in block.named_parameters():
        direction, at = random.standard_normal(parameter.shape), parameter.data.copy()
        around = []
        for offset in (step, -step):
            parameter.data[...] = at + offset * direction
            around.append(loss().item())
        parameter.data[...] = at
        assert parameter.grad is not None
        numeric = (around[0] - around[1]) / (2 * step)
        assert (parameter.grad * direction).sum() == pytest.approx(numeric, rel=1e-6, abs=1e-7), name


def test_a_backward_function_that_failed_is_not_called_again() -> None:
    x = leaf(1, 2)

    def fail(g: np.ndarray) -> tuple[np.ndarray]:
        raise MemoryError

    y = record("double", x.data * 2, (x,), fail)
    with pytest.raises(MemoryError):
        y.sum().backward()
    with pytest.raises(GraphError, match="already gone through"):
        y.backward(np.ones(2))
    assert x.grad is None


def test_backward_functions_see_default_context_variables() -> None:
    asked: ContextVar[str] = ContextVar("asked", default="nobody")
    asked.set("somebody")
    x = leaf(1)

    def note(g: np.ndarray) -> tuple[np.ndarray]:
        seen.append(asked.get())
        return (g,)

    seen: list[str] = []
    record("double", x.data * 2, (x,), note).backward()
    assert seen == ["nobody"]

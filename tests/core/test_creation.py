"""Functions that make tensors, compared with torch, and the distributions of the random ones."""

from typing import Any

import numpy as np
import pytest

from statezoo import core

CALLS = """
torch.zeros(2, 3)
torch.zeros((2, 3), dtype=torch.long)
torch.zeros([2])
torch.zeros(())
torch.zeros(size=(1, 2))
torch.zeros(0, 3)
torch.ones(3, dtype=torch.float64, device="cpu", requires_grad=True)
torch.ones(2, dtype=torch.bool)
torch.empty(2, 0).shape
torch.zeros_like(torch.ones(2, 3, dtype=torch.float16))
torch.ones_like(torch.zeros(2, dtype=torch.long), dtype=torch.float32, requires_grad=True)
torch.empty_like(torch.ones(2, 3)).shape
torch.full((2, 2), 7)
torch.full((2,), 0.5)
torch.full((2,), True)
torch.full((2,), 1, dtype=torch.float32)
torch.full([3], float("inf"))
torch.full_like(torch.zeros(2, dtype=torch.long), 3)
torch.full_like(torch.zeros(2), 3, dtype=torch.int32)
torch.arange(5)
torch.arange(1, 4)
torch.arange(1, 2.5, 0.5)
torch.arange(5, 0, -2)
torch.arange(0, 1, 0.1)
torch.arange(3.0)
torch.arange(4, dtype=torch.float32)
torch.arange(end=3)
torch.arange(0, 10, step=3)
torch.arange(torch.tensor(3))
torch.arange(2, 2)
torch.linspace(0, 1, 5)
torch.linspace(-3, 3, steps=4)
torch.linspace(0, 10, 3, dtype=torch.long)
torch.linspace(1, 2, 1)
torch.logspace(0, 2, 3)
torch.logspace(0, 3, steps=4, base=2)
torch.eye(3)
torch.eye(2, 3, dtype=torch.long)
torch.from_numpy(np.arange(3.0))
torch.as_tensor([1, 2])
torch.as_tensor([1.0, 2])
torch.as_tensor(np.ones(2))
torch.as_tensor([1, 2], dtype=torch.float32)
torch.as_tensor(np.ones(2), dtype=torch.float32)
torch.as_tensor(True)
torch.tensor([1.5, 2], dtype=torch.float64, device=torch.device("cpu"), requires_grad=True)
torch.tensor([[1, 2], [3, 4]], dtype=torch.float)
torch.tensor([True, False])
torch.tensor(3)
torch.FloatTensor([1, 2])
torch.FloatTensor(2, 3).shape
torch.LongTensor([1, 2])
torch.DoubleTensor([[1]])
torch.IntTensor(4).shape
torch.BoolTensor([True, False])
torch.ByteTensor([1])
torch.rand(2, 3).shape
torch.rand(4, dtype=torch.float64, requires_grad=True).dtype
torch.randn((2, 3)).shape
torch.randn(2, dtype=torch.float16).dtype
torch.rand_like(torch.ones(2, 2, dtype=torch.float64)).dtype
torch.randn_like(torch.ones(2, 2)).shape
torch.randint(5, (2, 3)).dtype
torch.randint(3, 4, (2,))
torch.randint(high=1, size=(2,))
torch.randint(0, 1, size=(2,), dtype=torch.float32)
torch.randint_like(torch.zeros(2, dtype=torch.long), 1)
torch.randint_like(torch.zeros(2), 4, 5)
torch.randperm(5).sum()
torch.randperm(0)
torch.randperm(3, dtype=torch.int32).dtype
torch.normal(0.0, 1.0, size=(2, 3)).shape
torch.normal(torch.zeros(3), torch.ones(3)).dtype
torch.normal(torch.zeros(3, dtype=torch.float64), 0.0)
torch.normal(2.0, torch.zeros(2))
torch.normal(mean=1.5, std=0.0, size=(2,))
torch.bernoulli(torch.ones(3))
torch.bernoulli(torch.zeros(2, 2), 1.0)
torch.multinomial(torch.tensor([0.0, 3.0, 0.0]), 1)
torch.multinomial(torch.tensor([[0.0, 1.0], [2.0, 0.0]]), 3, replacement=True)
torch.multinomial(torch.ones(2, 3), 3).sum(1)
torch.finfo(torch.float32).eps
torch.iinfo(torch.int32).max
torch.is_tensor(torch.ones(1)), torch.is_tensor(1)
torch.numel(torch.ones(2, 3))
torch.get_default_dtype()
"""
REFUSED = """
torch.arange(0, 3, -1)
torch.arange(3, 0)
torch.arange(0, 3, 0)
torch.randint(3, 3, (2,))
torch.rand(2, dtype=torch.long)
torch.normal(0.0, -1.0, size=(2,))
torch.bernoulli(torch.tensor([1.5]))
torch.multinomial(torch.tensor([0.0, 0.0]), 1)
torch.multinomial(torch.tensor([1.0, -1.0]), 1)
torch.multinomial(torch.tensor([1.0, 1.0]), 3)
torch.multinomial(torch.ones(2), 0)
torch.multinomial(torch.ones(1, 1, 2), 1)
torch.multinomial(torch.tensor([1.0, float("nan")]), 1)
torch.zeros(2, device="cuda")
torch.zeros(2, dtype=torch.long, requires_grad=True)
"""


def result_of(call: str, torch: Any) -> Any:
    return eval(call, {"torch": torch, "np": np})


def plain(value: Any) -> Any:
    """Return what can be compared of a value of either library."""
    if hasattr(value, "detach"):
        array = value.detach().numpy()
        return array.dtype, array.shape, array.tolist(), value.requires_grad
    return str(value).removeprefix("torch.") if "dtype" in type(value).__name__ else value


@pytest.mark.torch
@pytest.mark.parametrize("call", CALLS.split("\n")[1:-1])
def test_a_tensor_is_made_as_in_torch(call: str):
    torch = pytest.importorskip("torch")
    ours, theirs = plain(result_of(call, core)), plain(result_of(call, torch))
    if isinstance(ours, tuple) and len(ours) == 4:
        np.testing.assert_allclose(ours[2], theirs[2], rtol=1e-6)
        ours, theirs = (ours[:2], ours[3]), (theirs[:2], theirs[3])
    assert ours == theirs or str(ours) == str(theirs)


@pytest.mark.torch
@pytest.mark.parametrize("call", REFUSED.split("\n")[1:-1])
def test_what_torch_refuses_is_refused(call: str):
    torch = pytest.importorskip("torch")
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        result_of(call, torch)
    kinds = (
        (core.ModuleError, RuntimeError)
        if theirs.type in (RuntimeError, AssertionError, NotImplementedError)
        else (theirs.type,)
    )
    with pytest.raises(kinds) as ours:
        result_of(call, core)
    assert str(ours.value).endswith(".")


def test_arrays_are_shared_by_from_numpy_and_as_tensor_and_copied_by_tensor():
    array = np.zeros(2, np.float32)
    shared, same, copied = core.from_numpy(array), core.as_tensor(array), core.tensor(array)
    array[0] = 1
    assert (shared[0].item(), same[0].item(), copied[0].item()) == (1, 1, 0)
    assert core.as_tensor(shared) is core.as_tensor(shared, dtype=core.float32) is shared


def test_draws_depend_on_the_generator_alone():
    calls = """rand(3, {g}) randn(3, {g}) randint(9, (3,), {g}) randperm(9, {g}) normal(0.0, 1.0, (3,), {g})
        bernoulli(core.full((9,), 0.5), {g}) multinomial(core.ones(9), 4, {g})"""
    for call in calls.replace(", ", ",").split():
        drawn = [
            eval(f"core.{call.format(g='generator=g')}", {"core": core, "g": core.Generator().manual_seed(seed)})
            for seed in (1, 1, 2)
        ]
        core.manual_seed(1)
        default = [eval(f"core.{call.format(g='')}", {"core": core}) for _ in range(2)]
        assert (drawn[0] == drawn[1]).all(), call
        assert not (drawn[0] == drawn[2]).all(), call
        assert not (default[0] == default[1]).all(), call


def test_draws_follow_their_distributions():
    generator, count = core.Generator().manual_seed(3), 20_000
    uniform = core.rand(count, generator=generator).numpy()
    assert 0 <= uniform.min() < 0.001 < 0.999 < uniform.max() < 1
    assert uniform.mean() == pytest.approx(0.5, abs=0.01)
    normal = core.normal(core.full((count,), 3.0), 2.0, generator=generator).numpy()
    assert (normal.mean(), normal.std()) == (pytest.approx(3, abs=0.05), pytest.approx(2, abs=0.05))
    assert set(core.randint(2, 5, (count,), generator=generator).numpy()) == {2, 3, 4}
    assert core.bernoulli(core.full((count,), 0.2), generator=generator).numpy().mean() == pytest.approx(0.2, abs=0.01)
    assert sorted(core.randperm(100, generator=generator).numpy()) == list(range(100))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_uniform_draws_of_16_bits_stay_below_one(dtype: str):
    pytest.importorskip("ml_dtypes")
    drawn = core.rand(50_000, dtype=getattr(core, dtype)).float().numpy()
    assert 0 <= drawn.min() <= drawn.max() < 1


@pytest.mark.parametrize("replacement", [True, False])
def test_positions_are_drawn_with_their_weights(replacement: bool):
    weights = core.tensor([[1.0, 0.0, 3.0], [0.0, 2.0, 2.0]])
    generator = core.Generator().manual_seed(5)
    first = [core.multinomial(weights, 2, replacement, generator=generator).numpy()[:, 0] for _ in range(4000)]
    shares = [np.bincount(row, minlength=3) / 4000 for row in np.stack(first, 1)]
    np.testing.assert_allclose(shares, [[0.25, 0, 0.75], [0, 0.5, 0.5]], atol=0.03)
    if not replacement:
        assert sorted(core.multinomial(core.ones(50), 50).numpy()) == list(range(50))


def test_many_positions_of_many_weights_are_drawn_without_a_table_of_both():
    drawn = core.multinomial(core.arange(100_000).float(), 100_000, replacement=True).numpy()
    assert drawn.shape == (100_000,)
    assert 0 < drawn.min() < drawn.max() < 100_000

"""Embedding, EmbeddingBag and Bilinear with all their options, with torch as the oracle."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo.core import ArgumentError, ShapeError, Tensor, nn
from statezoo.core import functional as F

RANDOM = np.random.default_rng(0)
IDS = np.array([[0, 3, 3], [1, 0, 3]])
FLAT, OFFSETS = np.array([0, 3, 3, 1, 0, 3]), np.array([0, 2, 2, 5])


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def agree(ours: Any, theirs: Any, torch: Any, *inputs: np.ndarray) -> None:
    """Assert that outputs, weights afterwards and gradients agree; inputs of floats get a gradient too."""
    assert repr(ours) == repr(theirs)
    theirs.load_state_dict({name: torch.tensor(np.array(value)) for name, value in ours.state_dict().items()})
    mine = [Tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    other = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    out, expected = ours(*mine), theirs(*other)
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    weights = RANDOM.standard_normal(out.shape).astype(np.float32)
    out.backward(weights)
    expected.backward(torch.tensor(weights))
    for one, two in [*zip(mine, other, strict=True), *zip(ours.parameters(), theirs.parameters(), strict=True)]:
        np.testing.assert_allclose(one.data, two.detach().numpy(), rtol=1e-5, atol=1e-6)
        if two.grad is not None:
            np.testing.assert_allclose(one.grad, two.grad.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize(
    "options",
    [
        {"padding_idx": 3},
        {"padding_idx": -4},
        {"max_norm": 1.0},
        {"max_norm": 1.5, "norm_type": 1.0},
        {"scale_grad_by_freq": True},
    ],
    ids=str,
)
def test_an_embedding_agrees_with_torch(options: Any, torch: Any) -> None:
    ours, theirs = (library.Embedding(4, 5, **options) for library in (nn, torch.nn))
    agree(ours, theirs, torch, IDS)


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 3}, {"max_norm": 1.0}, {"include_last_offset": True}], ids=str)
def test_a_bag_agrees_with_torch(mode: str, options: Any, torch: Any) -> None:
    ours, theirs = (library.EmbeddingBag(4, 5, mode=mode, **options) for library in (nn, torch.nn))
    agree(ours, theirs, torch, IDS)
    ours.zero_grad()
    theirs.zero_grad()
    offsets = np.append(OFFSETS, 6) if "include_last_offset" in options else OFFSETS
    agree(ours, theirs, torch, FLAT, offsets)


@pytest.mark.torch
@pytest.mark.parametrize("padding_idx", [None, 3])
def test_a_weighted_bag_agrees_with_torch(padding_idx: int | None, torch: Any) -> None:
    ours, theirs = (library.EmbeddingBag(4, 5, mode="sum", padding_idx=padding_idx) for library in (nn, torch.nn))
    factors = RANDOM.standard_normal(6).astype(np.float32)
    agree(ours, theirs, torch, FLAT, OFFSETS, factors)


@pytest.mark.torch
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("leading", [(2,), (2, 4), ()])
def test_a_bilinear_map_agrees_with_torch(bias: bool, leading: tuple[int, ...], torch: Any) -> None:
    ours, theirs = (library.Bilinear(3, 4, 5, bias) for library in (nn, torch.nn))
    inputs = [RANDOM.standard_normal((*leading, size)).astype(np.float32) for size in (3, 4)]
    agree(ours, theirs, torch, *inputs)
    assert all(np.abs(p.data).max() <= 1 / np.sqrt(3) for p in ours.parameters())


def test_bags_are_reduced_and_empty_ones_are_0() -> None:
    weight = Tensor([[1.0, 2.0], [10.0, 0.0], [5.0, 5.0]])
    bags = {mode: F.embedding_bag([0, 1, 1, 2], weight, [0, 3, 3], mode=mode) for mode in ("sum", "mean", "max")}
    assert bags["sum"].data.tolist() == [[21, 2], [0, 0], [5, 5]]
    np.testing.assert_allclose(bags["mean"].data, [[7, 2 / 3], [0, 0], [5, 5]], rtol=1e-6)
    assert bags["max"].data.tolist() == [[10, 2], [0, 0], [5, 5]]
    assert F.embedding_bag(np.zeros(0, int), weight, [0]).data.tolist() == [[0, 0]]


def test_a_pretrained_table_is_frozen_and_shares_its_memory() -> None:
    vectors = np.ones((4, 5), np.float32)
    table = nn.Embedding.from_pretrained(Tensor(vectors), padding_idx=1)
    assert np.shares_memory(table.weight.data, vectors)
    assert not table.weight.requires_grad
    assert table.padding_idx == 1
    assert table.weight.data[1].tolist() == [1] * 5
    bag = nn.EmbeddingBag.from_pretrained(Tensor(vectors), freeze=False, mode="sum")
    assert bag.weight.requires_grad
    assert bag(np.array([[0, 1]])).data.tolist() == [[2] * 5]


WEIGHT = Tensor(np.ones((4, 5), np.float32))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.Embedding(4, 5, sparse=True)(IDS), "embedding: gradients are dense here. Use sparse=False."),
        (lambda: F.embedding_bag(FLAT, WEIGHT), "not (6,) with no offsets."),
        (lambda: F.embedding_bag(IDS, WEIGHT, OFFSETS), "not (2, 3) with (4,)."),
        (lambda: F.embedding_bag(FLAT, WEIGHT, [1, 2]), "the offsets must begin with 0 and not decrease: [1 2]."),
        (lambda: F.embedding_bag(FLAT, WEIGHT, [0, 7]), "index 7 is out of range"),
        (lambda: F.embedding_bag(IDS, WEIGHT, mode="min"), "must be 'sum', 'mean' or 'max', not 'min'."),
        (lambda: F.embedding_bag(IDS, WEIGHT, per_sample_weights=Tensor(np.ones((2, 3)))), "and with mode='sum' only"),
        (lambda: nn.EmbeddingBag(4, 5, padding_idx=4), "padding_idx 4 is out of range: EmbeddingBag has 4 rows."),
        (lambda: nn.Embedding(4, 5, _weight=np.ones((3, 5))), "the weight (3, 5) is not (4, 5)."),
        (lambda: nn.Embedding.from_pretrained(np.ones(3)), "from_pretrained needs embeddings (n, features), not (3,)."),
        (lambda: nn.Bilinear(0, 4, 5), "Bilinear needs in1_features above 0, not 0."),
        (lambda: nn.Bilinear(3, 4, 5)(np.ones((2, 3)), np.ones((3, 4))), "bilinear: inputs (2, 3) and (3, 4), weight "),
    ],
)
def test_an_error_says_what_does_not_fit(make: Callable[[], Any], text: str) -> None:
    with pytest.raises((ArgumentError, ShapeError)) as error:
        make()
    assert text in str(error.value)

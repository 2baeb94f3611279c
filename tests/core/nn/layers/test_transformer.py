"""torch's MultiheadAttention and the layers built from it, with torch as the oracle."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo.core import ArgumentError, ShapeError, Tensor, nn
from statezoo.core import functional as F

RANDOM = np.random.default_rng(0)
N, L, S, C, HEADS = 2, 4, 5, 6, 2
LATER = np.triu(np.ones((L, L), bool), 1)
PADDING = np.array([[False] * 5, [False, False, False, True, True]])


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def randomize(module: Any) -> None:
    for parameter in module.parameters():
        parameter._data[...] = RANDOM.uniform(-0.8, 0.8, parameter.shape)


def agree(ours: Any, theirs: Any, torch: Any, arrays: list[np.ndarray], constants: dict[str, Any], **options: Any):
    """Assert that states, outputs and gradients agree, for arrays that get a gradient and constants that do not."""
    assert repr(ours) == repr(theirs)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in theirs.state_dict().items()
    ]
    randomize(ours)
    theirs.load_state_dict({name: torch.tensor(np.array(value)) for name, value in ours.state_dict().items()})
    mine = [Tensor(array, requires_grad=True) for array in arrays]
    other = [torch.tensor(array, requires_grad=True) for array in arrays]
    out = ours(*mine, **options, **{name: Tensor(value) for name, value in constants.items()})
    expected = theirs(*other, **options, **{name: torch.tensor(value) for name, value in constants.items()})
    pairs = list(zip(out, expected, strict=True)) if isinstance(out, tuple) else [(out, expected)]
    total: Any = 0
    other_total: Any = 0
    for result, reference in pairs:
        assert (result is None) == (reference is None)
        if result is not None:
            np.testing.assert_allclose(result.data, reference.detach().numpy(), rtol=1e-4, atol=1e-5)
            weights = normal(*result.shape)
            total, other_total = (
                total + (result * weights).sum(),
                other_total + (reference * torch.tensor(weights)).sum(),
            )
    total.backward()
    other_total.backward()
    for one, two in [*zip(mine, other, strict=True), *zip(ours.parameters(), theirs.parameters(), strict=True)]:
        expected_gradient = np.zeros(one.shape) if two.grad is None else two.grad.numpy()
        np.testing.assert_allclose(one.grad, expected_gradient, rtol=1e-3, atol=1e-4)


def added(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, -np.inf, normal(*mask.shape)).astype(np.float32)


BLOCKED = np.arange(L * S).reshape(L, S) % 3 == 1
MASKS: dict[str, dict[str, Any]] = {
    "no mask": {},
    "bool": {"attn_mask": BLOCKED},
    "float": {"attn_mask": added(BLOCKED)},
    "heads": {"attn_mask": np.stack([BLOCKED] * N * HEADS)},
    "padding": {"key_padding_mask": PADDING},
    "both": {"attn_mask": BLOCKED, "key_padding_mask": PADDING},
    "both float": {"attn_mask": added(BLOCKED), "key_padding_mask": added(PADDING)},
}


@pytest.mark.torch
@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize(("need_weights", "average"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize(
    "options",
    [{}, {"bias": False, "batch_first": True}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 3, "vdim": 7}],
    ids=str,
)
def test_attention_agrees_with_torch(masks: str, need_weights: bool, average: bool, options: Any, torch: Any) -> None:
    ours, theirs = (library.MultiheadAttention(C, HEADS, **options) for library in (nn, torch.nn))
    arrays = [normal(L, N, C), normal(S, N, options.get("kdim", C)), normal(S, N, options.get("vdim", C))]
    if options.get("batch_first"):
        arrays = [np.ascontiguousarray(array.swapaxes(0, 1)) for array in arrays]
    agree(ours, theirs, torch, arrays, MASKS[masks], need_weights=need_weights, average_attn_weights=average)


@pytest.mark.torch
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_self_attention_agrees_with_torch(batch_first: bool, need_weights: bool, torch: Any) -> None:
    class Itself:
        def __init__(self, attention: Any) -> None:
            self.attention = attention

        def __getattr__(self, name: str) -> Any:
            return getattr(self.attention, name)

        def __repr__(self) -> str:
            return repr(self.attention)

        def __call__(self, x: Any, **given: Any) -> Any:
            return self.attention(x, x, x, need_weights=need_weights, **given)

    ours, theirs = (Itself(library.MultiheadAttention(C, HEADS, batch_first=batch_first)) for library in (nn, torch.nn))
    agree(ours, theirs, torch, [normal(L, L, C)], {"attn_mask": LATER}, is_causal=True)
    agree(ours, theirs, torch, [normal(L, C)], {"attn_mask": LATER})


@pytest.mark.torch
def test_attention_of_one_example_agrees_with_torch(torch: Any) -> None:
    ours, theirs = (library.MultiheadAttention(C, HEADS) for library in (nn, torch.nn))
    agree(ours, theirs, torch, [normal(L, C), normal(S, C), normal(S, C)], {"key_padding_mask": PADDING[1]})


def test_true_in_a_mask_forbids_attention() -> None:
    attention = nn.MultiheadAttention(C, HEADS, batch_first=True)
    x = Tensor(normal(1, L, C))
    _, weights = attention(x, x, x, attn_mask=LATER)
    assert weights is not None
    assert (weights.data[0][LATER] == 0).all()
    np.testing.assert_allclose(weights.data.sum(-1), 1, rtol=1e-5)


def test_both_attentions_compute_the_same() -> None:
    ours = nn.MultiHeadAttention(C, HEADS)
    theirs = nn.MultiheadAttention(C, HEADS, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    x = Tensor(normal(N, L, C))
    np.testing.assert_array_equal(ours(x, is_causal=True).data, theirs(x, x, x, None, False, LATER)[0].data)
    weights = theirs(x, x, x, None, True, LATER, average_attn_weights=False)[1]
    assert weights is not None
    np.testing.assert_allclose(ours.attention_weights(x, ~LATER).data, weights.data, rtol=1e-5, atol=1e-7)


LAYER_OPTIONS = [
    {"norm_first": norm_first, "batch_first": batch_first, "activation": activation, "bias": bias}
    for (norm_first, batch_first), (activation, bias) in itertools.product(
        [(False, False), (True, True)], [("relu", True), ("gelu", False)]
    )
]


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("options", LAYER_OPTIONS, ids=str)
def test_an_encoder_agrees_with_torch(options: Any, torch: Any) -> None:
    x, padding = normal(L, L, C), np.arange(L * L).reshape(L, L) % L > 2
    for masks in ({}, {"src_mask": LATER}, {"src_mask": LATER, "src_key_padding_mask": padding}):
        ours, theirs = (library.TransformerEncoderLayer(C, HEADS, 7, 0.0, **options) for library in (nn, torch.nn))
        agree(ours, theirs, torch, [x], masks)
    ours, theirs = (
        library.TransformerEncoder(
            library.TransformerEncoderLayer(C, HEADS, 7, 0.0, **options), 2, library.LayerNorm(C)
        )
        for library in (nn, torch.nn)
    )
    agree(ours, theirs, torch, [x], {"mask": LATER, "src_key_padding_mask": padding})


@pytest.mark.torch
@pytest.mark.parametrize("options", LAYER_OPTIONS, ids=str)
def test_a_decoder_agrees_with_torch(options: Any, torch: Any) -> None:
    tgt, memory = (normal(N, L, C), normal(N, S, C)) if options["batch_first"] else (normal(L, N, C), normal(S, N, C))
    masks = {"tgt_mask": LATER, "memory_mask": BLOCKED, "memory_key_padding_mask": PADDING}
    ours, theirs = (library.TransformerDecoderLayer(C, HEADS, 7, 0.0, **options) for library in (nn, torch.nn))
    agree(ours, theirs, torch, [tgt, memory], masks)
    ours, theirs = (
        library.TransformerDecoder(library.TransformerDecoderLayer(C, HEADS, 7, 0.0, **options), 2)
        for library in (nn, torch.nn)
    )
    agree(ours, theirs, torch, [tgt, memory], masks)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("options", LAYER_OPTIONS, ids=str)
def test_a_transformer_agrees_with_torch(options: Any, torch: Any) -> None:
    src, tgt = (normal(N, S, C), normal(N, L, C)) if options["batch_first"] else (normal(S, N, C), normal(L, N, C))
    ours, theirs = (library.Transformer(C, HEADS, 1, 2, 7, 0.0, **options) for library in (nn, torch.nn))
    mask = nn.Transformer.generate_square_subsequent_mask(L)
    np.testing.assert_array_equal(mask.data, torch.nn.Transformer.generate_square_subsequent_mask(L).numpy())
    masks = {"tgt_mask": mask.data, "src_key_padding_mask": PADDING, "memory_key_padding_mask": PADDING}
    agree(ours, theirs, torch, [src, tgt], masks)


def test_layers_take_a_function_or_a_module_as_activation() -> None:
    with_function = nn.TransformerEncoderLayer(C, HEADS, 7, activation=F.gelu)
    with_module = nn.TransformerEncoderLayer(C, HEADS, 7, activation=nn.GELU())
    with_module.load_state_dict(with_function.state_dict())
    x = Tensor(normal(L, N, C))
    np.testing.assert_array_equal(with_function.eval()(x).data, with_module.eval()(x).data)
    assert "(activation): GELU" in repr(with_module)


def test_dropout_acts_in_training_only() -> None:
    layer, x = nn.TransformerEncoderLayer(C, HEADS, 7, 0.5), Tensor(normal(L, N, C))
    assert not np.array_equal(layer(x).data, layer(x).data)
    layer.eval()
    np.testing.assert_array_equal(layer(x).data, layer(x).data)
    attention = nn.MultiheadAttention(C, HEADS, dropout=0.5)
    assert (attention(x, x, x)[1].data == 0).any()


def test_the_layers_of_a_stack_are_copies_of_the_first() -> None:
    layer = nn.TransformerEncoderLayer(C, HEADS, 7, dtype=np.float64)
    stack = nn.TransformerEncoder(layer, 3)
    first, last = (stack.layers[place].linear1.weight for place in (0, 2))
    np.testing.assert_array_equal(first.data, last.data)
    assert first is not last
    assert first.dtype == np.float64
    assert stack.num_layers == 3
    assert stack.norm is None


# --- scaled dot product attention


@pytest.mark.torch
def test_scale_and_grouped_queries_are_those_of_torch(torch_agrees: Callable[..., None]) -> None:
    import torch

    q, k = RANDOM.standard_normal((2, 4, 3, 6)), RANDOM.standard_normal((2, 2, 5, 6))
    torch_agrees(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.3, enable_gqa=True),
        *(q, k, k + 1),
        theirs=lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.3, enable_gqa=True),
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda x: nn.MultiheadAttention(6, 4), "embed_dim 6 cannot be split evenly over 4 heads."),
        (
            lambda x: nn.MultiheadAttention(C, HEADS)(x, x, x, is_causal=True),
            "is_causal=True is a hint about attn_mask",
        ),
        (lambda x: nn.MultiheadAttention(C, HEADS)(x, x[:2], x), "needs query, key and value of shapes (L, N, 6), "),
        (lambda x: nn.MultiheadAttention(8, HEADS)(x, x, x), "not (4, 2, 6), (4, 2, 6), (4, 2, 6)."),
        (
            lambda x: nn.MultiheadAttention(C, HEADS)(x, x, x, attn_mask=np.ones((3, L), bool)),
            "MultiheadAttention needs attn_mask of shape (4, 4) or (4, 4, 4), not (3, 4).",
        ),
        (
            lambda x: nn.MultiheadAttention(C, HEADS)(x, x, x, np.ones((N, 2), bool)),
            "MultiheadAttention needs key_padding_mask of shape (2, 4), not (2, 2).",
        ),
        (
            lambda x: nn.MultiheadAttention(C, HEADS)(x, x, x, attn_mask=np.ones((L, L), int)),
            "attn_mask must be bool or float, not int64.",
        ),
        (
            lambda x: nn.TransformerEncoderLayer(C, HEADS, activation="tanh"),
            "the activation must be 'relu', 'gelu' or a function, not 'tanh'.",
        ),
        (
            lambda x: F.scaled_dot_product_attention(x[None], x[:3][None], x[:3][None], enable_gqa=True),
            "enable_gqa: the heads of (1, 3, 2, 6) do not divide those of the query (1, 4, 2, 6).",
        ),
    ],
)
def test_an_error_says_what_does_not_fit(make: Callable[[Tensor], Any], text: str) -> None:
    with pytest.raises((ArgumentError, ShapeError)) as error:
        make(Tensor(normal(L, N, C)))
    assert text in str(error.value)

"""MultiHeadAttention, MLP and TransformerBlock, with torch as the oracle."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from statezoo.core import MLP, ModuleError, MultiHeadAttention, ShapeError, Tensor, TransformerBlock, manual_seed
from statezoo.core import functional as F

RANDOM = np.random.default_rng(0)
B, T, C, HEADS = 2, 5, 8, 2


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def load_into_torch(theirs: Any, state: dict[str, np.ndarray]) -> None:
    import torch

    theirs.load_state_dict({name: torch.tensor(array) for name, array in state.items()})


CAUSAL = np.tril(np.ones((T, T), bool))


@pytest.mark.torch
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mask", [None, "bool", "float", "causal"])
def test_attention_agrees_with_torch_in_the_same_state(bias, mask):
    import torch

    ours = MultiHeadAttention(C, HEADS, bias=bias)
    theirs = torch.nn.MultiheadAttention(C, HEADS, bias=bias, batch_first=True)
    assert [(n, p.shape) for n, p in ours.named_parameters()] == [(n, p.shape) for n, p in theirs.named_parameters()]
    load_into_torch(theirs, ours.state_dict())
    x = normal(B, T, C)
    a, b = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    added = np.where(CAUSAL, normal(T, T), -np.inf).astype(np.float32)
    mine = {"bool": CAUSAL, "float": added}.get(mask or "")
    # In torch's module True forbids attention; in both libraries' scaled_dot_product_attention it allows it.
    other = {"bool": torch.tensor(~CAUSAL), "causal": torch.tensor(~CAUSAL), "float": torch.tensor(added)}.get(
        mask or ""
    )
    out = ours(a, attn_mask=mine, is_causal=mask == "causal")
    expected, _ = theirs(b, b, b, attn_mask=other, need_weights=False)
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    weights = normal(B, T, C)
    out.backward(weights)
    expected.backward(torch.tensor(weights))
    for one, two in [(a, b), *zip(ours.parameters(), theirs.parameters(), strict=True)]:
        assert one.grad is not None
        np.testing.assert_allclose(one.grad, np.asarray(two.grad), rtol=1e-3, atol=1e-4)


@pytest.mark.torch
def test_attention_is_initialized_from_torchs_distributions():
    import torch
    from scipy import stats

    manual_seed(0)
    ours, theirs = MultiHeadAttention(64, 4), torch.nn.MultiheadAttention(64, 4)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        expected = other.detach().numpy().ravel()
        if expected.any():
            result: Any = stats.ks_2samp(mine.data.ravel(), expected)
            assert result.pvalue > 1e-3, name
        else:
            assert not mine.data.any(), name


NAMES_IN_TORCH = {
    "ln1": "norm1",
    "ln2": "norm2",
    "attention": "self_attn",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
}


@pytest.mark.torch
@pytest.mark.parametrize("causal", [False, True])
def test_a_block_agrees_with_torchs_pre_norm_layer(causal):
    import torch

    ours = TransformerBlock(C, HEADS, hidden_features=12)
    theirs = torch.nn.TransformerEncoderLayer(
        C, HEADS, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    state = {}
    for name, array in ours.state_dict().items():
        (start,) = (start for start in NAMES_IN_TORCH if name.startswith(f"{start}."))
        state[NAMES_IN_TORCH[start] + name.removeprefix(start)] = array
    load_into_torch(theirs, state)
    x = normal(B, T, C)
    a, b = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    out = ours(a, is_causal=causal)
    expected = theirs(b, src_mask=torch.tensor(~CAUSAL) if causal else None)
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    weights = normal(B, T, C)
    out.backward(weights)
    expected.backward(torch.tensor(weights))
    assert a.grad is not None
    np.testing.assert_allclose(a.grad, np.asarray(b.grad), rtol=1e-3, atol=1e-4)
    for name, parameter in ours.named_parameters():
        (start,) = (start for start in NAMES_IN_TORCH if name.startswith(f"{start}."))
        other = theirs.get_parameter(NAMES_IN_TORCH[start] + name.removeprefix(start))
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad, np.asarray(other.grad), rtol=1e-3, atol=1e-4)


def test_a_causal_block_does_not_look_ahead():
    block = TransformerBlock(C, HEADS)
    x = normal(1, T, C)
    before = block(Tensor(x), is_causal=True).data
    changed = x.copy()
    changed[0, 3:] += 1
    after = block(Tensor(changed), is_causal=True).data
    np.testing.assert_array_equal(after[0, :3], before[0, :3])
    assert not np.allclose(after[0, 3:], before[0, 3:])


def test_a_mask_can_differ_between_examples():
    attention = MultiHeadAttention(C, HEADS)
    x = Tensor(normal(B, T, C))
    mask = np.stack([np.ones((T, T), bool), CAUSAL])[:, None]  # (B, 1, T, T), the same for every head
    out = attention(x, attn_mask=mask).data
    np.testing.assert_allclose(out[0], attention(x).data[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out[1], attention(x, is_causal=True).data[1], rtol=1e-5, atol=1e-6)


def test_a_block_computes_its_formula_and_is_four_times_as_wide_inside():
    block = TransformerBlock(C, HEADS)
    x = Tensor(normal(B, T, C))
    inner = x + block.attention(block.ln1(x))
    np.testing.assert_array_equal(block(x).data, (inner + block.mlp(block.ln2(inner))).data)
    assert block.mlp.fc1.out_features == 4 * C


def test_an_mlp_computes_its_formula():
    mlp = MLP(3, 7)
    x = Tensor(normal(2, 3))
    np.testing.assert_array_equal(mlp(x).data, mlp.fc2(F.gelu(mlp.fc1(x))).data)
    assert list(mlp.state_dict()) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]


def test_dropout_acts_in_training_only():
    block = TransformerBlock(C, HEADS, dropout=0.5)
    x = Tensor(normal(B, T, C))
    assert not np.array_equal(block(x).data, block(x).data)
    for part in (block.attention, block.mlp):
        assert not np.array_equal(part(x).data, part(x).data)
    block.eval()
    np.testing.assert_array_equal(block(x).data, block(x).data)


def test_an_error_names_what_does_not_fit():
    with pytest.raises(ModuleError, match="embed_dim 6 cannot be split evenly over 4 heads"):
        MultiHeadAttention(6, 4)
    with pytest.raises(ModuleError, match="embed_dim 6 cannot be split evenly over 0 heads"):
        MultiHeadAttention(6, 0)
    for shape in ((T, C), (B, T, C + 1)):
        with pytest.raises(ShapeError, match=r"MultiHeadAttention needs x of shape \(B, T, 8\), not "):
            MultiHeadAttention(C, HEADS)(Tensor(normal(*shape)))


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4)])
def test_the_gradient_of_attention_over_an_empty_input_is_empty(shape: tuple[int, ...]):
    x = Tensor(np.ones(shape, np.float32), requires_grad=True)
    MultiHeadAttention(4, 2)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.shape == shape


@pytest.mark.parametrize("num_heads", [0, -1, 2])
def test_packed_features_that_cannot_be_split_over_the_heads_are_refused(num_heads: int):
    with pytest.raises(ShapeError, match=rf"attention of {num_heads} heads: packed \(1, 2, 9\) is not \(B, T, 3 \*"):
        F.packed_attention(Tensor(np.ones((1, 2, 9), np.float32)), num_heads)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_a_transformer_block_keeps_the_dtype_it_was_converted_to(dtype: Any):
    block = TransformerBlock(8, 2).to(dtype)
    x = Tensor(normal(2, 5, 8).astype(dtype), requires_grad=True)
    out = block(x, is_causal=True)
    assert out.dtype == dtype
    out.backward(np.ones((2, 5, 8), dtype))
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert {parameter.grad.dtype for parameter in block.parameters() if parameter.grad is not None} == {np.dtype(dtype)}


def test_an_mlp_is_four_times_as_wide_inside_by_default():
    assert MLP(3).fc1.out_features == MLP(3).fc2.in_features == 12
    assert MLP(3, dropout=0.5).dropout.p == 0.5
    assert TransformerBlock(4, 2).mlp.fc1.out_features == 16

"""capture: the inputs and outputs of modules by name, and the attention patterns computed from them."""

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.core import (
    ArgumentError,
    Linear,
    Module,
    ModuleList,
    MultiHeadAttention,
    ReLU,
    Sequential,
    Tensor,
    TransformerBlock,
    capture,
    manual_seed,
)
from statezoo.core import functional as F
from statezoo.core.nn.module.registration import UnknownMemberError

B, T, C, HEADS = 2, 5, 8, 2


class Net(Module):
    """Three blocks, the first of which runs twice, and one layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = ModuleList(Sequential(Linear(4, 4), ReLU()) for _ in range(3))
        self.head = self.again = Linear(4, 2)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        for block in (self.blocks[0], *self.blocks):
            x = block(x)
        return self.head(x) * scale


def normal(*shape: int) -> Tensor:
    return Tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def hooks_on(model: Module) -> list[Any]:
    return [hook for module in model.modules() for hook in module._forward_hooks.values()]


def test_a_captured_call_has_the_arguments_and_the_output():
    model, x = Net(), normal(3, 4)
    with capture(model, "", "head") as seen:
        out = model(x, scale=2.0)
    ((args, kwargs, output),) = seen[""]
    assert (args, kwargs) == ((x,), {"scale": 2.0})
    assert output is out
    np.testing.assert_array_equal(2 * seen["head"][0].output.data, out.data)


def test_the_calls_of_a_module_are_in_the_order_they_were_made():
    model, x = Net(), normal(3, 4)
    with capture(model, "blocks.0") as seen:
        model(x)
        model(x)
    first, second, third, _ = seen["blocks.0"]
    assert first.args[0] is third.args[0] is x
    assert second.args[0] is first.output


def test_a_star_matches_one_part_of_a_name():
    with capture(Net(), "blocks.*") as seen:
        assert list(seen) == ["blocks.0", "blocks.1", "blocks.2"]
    with capture(Net(), "head", "blocks.*.1", "*") as seen:
        assert list(seen) == ["head", "blocks.0.1", "blocks.1.1", "blocks.2.1", "blocks", "again"]


def test_a_module_with_two_names_has_each_call_once_under_each_name():
    model = Net()
    with capture(model, "head", "again") as seen:
        model(normal(1, 4))
    assert len(seen["head"]) == 1
    assert seen["again"] is seen["head"]


def test_a_module_that_never_ran_has_no_calls():
    with capture(Net(), "head") as seen:
        pass
    assert seen == {"head": []}


def test_capture_removes_its_own_hooks_and_leaves_the_others():
    model = Net()
    model.head.register_forward_hook(lambda module, args, output: None)
    before = hooks_on(model)
    with capture(model, "*", "head"):
        assert len(hooks_on(model)) == len(before) + 2  # on blocks and on head; again is the same module as head
    assert hooks_on(model) == before


def test_no_hook_is_left_after_an_error_or_a_refused_name():
    model = Net()
    with pytest.raises(ZeroDivisionError), capture(model, "head"):
        raise ZeroDivisionError
    with pytest.raises(UnknownMemberError), capture(model, "head", "haed"):
        pass
    assert hooks_on(model) == []


def test_captures_can_be_nested_and_each_sees_the_calls_while_it_is_open():
    model, x = Net(), normal(1, 4)
    with capture(model, "head") as outer:
        with capture(model, "head") as inner:
            model(x)
        model(x)
    assert len(outer["head"]) == 2
    assert len(inner["head"]) == 1


def test_an_output_is_captured_after_other_hooks_have_replaced_it():
    model = Net()
    model.head.register_forward_hook(lambda module, args, output: output * 0)
    with capture(model, "head") as seen:
        model(normal(1, 4))
    assert not seen["head"][0].output.data.any()


def test_gradients_flow_from_a_loss_on_captured_activations():
    model = Net()
    with capture(model, "blocks.2") as seen:
        model(normal(3, 4))
    seen["blocks.2"][0].output.sum().backward()
    assert model.blocks[0][0].weight.grad is not None
    assert model.head.weight.grad is None


def test_detach_reaches_tensors_in_tuples_lists_and_dicts():
    Pair = namedtuple("Pair", "mean parts")

    class Splitting(Module):
        def forward(self, x: Tensor, extra: dict[str, Any]) -> Any:
            return Pair(x.mean(), [x * 2, (extra["y"], None)])

    model, x = Splitting(), Tensor([1.0, 3.0], requires_grad=True)
    with capture(model, "", detach=True) as seen:
        out = model(x, extra={"y": x + 1})
    assert out.mean.requires_grad
    ((args, kwargs, output),) = seen[""]
    assert isinstance(output, Pair)
    found = [args[0], kwargs["extra"]["y"], output.mean, output.parts[0], output.parts[1][0]]
    assert [tensor.requires_grad for tensor in found] == [False] * 5
    assert output.mean.item() == 2
    assert output.parts[1][1] is None


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(UnknownMemberError, match=r"^Net has no module 'haed'\. Did you mean 'head'\?$"):
        capture(Net(), "blocks.*", "haed").__enter__()
    with pytest.raises(UnknownMemberError, match=r"^Net has no module 'block\.\*'\."):
        capture(Net(), "block.*").__enter__()


def test_capture_without_names_is_refused():
    with pytest.raises(ArgumentError, match=r'^capture\(\) needs the names of modules, as in capture\(model, "fc1"\)'):
        capture(Net()).__enter__()


# --- attention patterns


@pytest.mark.torch
@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_weights_agree_with_torch(is_causal: bool):
    import torch

    ours = MultiHeadAttention(C, HEADS)
    theirs = torch.nn.MultiheadAttention(C, HEADS, batch_first=True)
    theirs.load_state_dict({name: torch.tensor(array) for name, array in ours.state_dict().items()})
    x = normal(B, T, C)
    mask = torch.ones(T, T, dtype=torch.bool).triu(1) if is_causal else None
    given = torch.tensor(x.data)
    _, expected = theirs(given, given, given, attn_mask=mask, need_weights=True, average_attn_weights=False)
    weights = ours.attention_weights(x, is_causal=is_causal)
    assert weights.shape == (B, HEADS, T, T)
    np.testing.assert_allclose(weights.data, expected.detach().numpy(), rtol=1e-4, atol=1e-6)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6)),
    heads=st.sampled_from([1, 2, 4]),
    mask=st.sampled_from(["none", "causal", "bool", "float"]),
    seed=st.integers(0, 1000),
)
def test_attention_weights_times_values_give_the_output_of_forward(
    shape: tuple[int, int], heads: int, mask: str, seed: int
):
    random, (batch, length) = np.random.default_rng(seed), shape
    manual_seed(seed)
    attention = MultiHeadAttention(C, heads).double()
    x = Tensor(random.standard_normal((batch, length, C)))
    masks = {"bool": random.random((length, length)) > 0.4, "float": random.standard_normal((batch, 1, length, length))}
    weights = attention.attention_weights(x, masks.get(mask), mask == "causal")
    w, b = (p.data for p in (attention.in_proj_weight, attention.in_proj_bias))  # pyright: ignore[reportOptionalMemberAccess]
    v = (x.data @ w[2 * C :].T + b[2 * C :]).reshape(batch, length, heads, -1).swapaxes(1, 2)
    mixed = (weights.data @ v).swapaxes(1, 2).reshape(batch, length, C)
    expected = attention(x, masks.get(mask), mask == "causal")
    np.testing.assert_allclose(attention.out_proj(Tensor(mixed)).data, expected.data, rtol=1e-9, atol=1e-12)
    open_rows = masks["bool"].any(axis=-1) if mask == "bool" else np.ones(length)
    np.testing.assert_allclose(weights.data.sum(axis=-1), np.broadcast_to(open_rows, weights.shape[:-1]), atol=1e-12)


def test_a_captured_attention_call_gives_its_pattern_with_its_mask():
    block = TransformerBlock(C, HEADS)
    x = normal(B, T, C)
    with capture(block, "attention") as seen:
        block(x, is_causal=True)
    (call,) = seen["attention"]
    weights = block.attention.attention_weights(*call.args, **call.kwargs)
    assert not np.triu(weights.data, 1).any()
    expected = block.attention.attention_weights(block.ln1(x), is_causal=True)
    np.testing.assert_array_equal(weights.data, expected.data)


def test_gradients_flow_through_attention_weights(differences_agree):
    attention = MultiHeadAttention(C, HEADS).double()
    differences_agree(
        lambda x: attention.attention_weights(x, is_causal=True), np.random.default_rng(3).random((B, T, C))
    )


def test_attention_weights_ignore_dropout_and_draw_nothing():
    attention = MultiHeadAttention(C, HEADS, dropout=0.5)
    generator = manual_seed(0)
    before = generator.bit_generator.state
    np.testing.assert_allclose(attention.attention_weights(normal(B, T, C)).data.sum(axis=-1), 1, rtol=1e-5)
    assert generator.bit_generator.state == before


def test_a_forward_hook_with_kwargs_gets_them_and_can_replace_the_output():
    model, given_kwargs = Net(), []

    def hook(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        given_kwargs.append(kwargs)
        return F.relu(output) * 0

    model.register_forward_hook(hook, with_kwargs=True)
    assert not model(normal(1, 4), scale=3.0).data.any()
    assert given_kwargs == [{"scale": 3.0}]

"""Module.summary: the table, its counts, and a model that is left unchanged."""

import contextlib
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo import core
from statezoo.core import (
    ArgumentError,
    BatchNorm1d,
    Buffer,
    Dropout,
    Embedding,
    Identity,
    LayerNorm,
    Linear,
    Module,
    ModuleList,
    MultiHeadAttention,
    Parameter,
    ReLU,
    Sequential,
    Tensor,
    TransformerBlock,
    default_generator,
    is_grad_enabled,
    no_grad,
    randn,
)
from statezoo.core import functional as F
from statezoo.core.inspection.summary import Summary

IDS = np.zeros((2, 5), np.int64)


class Tied(Module):
    """A language model with one block and a head that is tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = Embedding(11, 8)
        self.block = TransformerBlock(8, 2)
        self.head = Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.block(self.embedding(ids), is_causal=True))


def row(summary: Summary, name: str) -> Any:
    (found,) = [row for row in summary.rows if row.name == name]
    return found


def test_the_table_shows_the_tree_with_shapes_sizes_and_multiply_adds():
    model = Sequential(Linear(4, 3), BatchNorm1d(3), ReLU())
    assert str(model.summary((2, 4))) == (
        "module            output  parameters  buffers  bytes  multiply-adds\n"
        "Sequential        (2, 3)          21        7    116             24\n"
        "  0: Linear       (2, 3)          15        0     60             24\n"
        "  1: BatchNorm1d  (2, 3)           6        7     56              0\n"
        "  2: ReLU         (2, 3)           0        0      0              0\n"
        "21 parameters and 7 numbers in buffers, 116 bytes; 24 multiply-adds for an input of (2, 4)"
    )
    assert repr(model.summary((2, 4))) == str(model.summary((2, 4)))


def test_without_an_input_the_model_is_not_run_and_only_sizes_are_shown():
    class Failing(Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = Linear(1000, 2)

    assert str(Failing().summary()) == (
        "module        output  parameters  buffers  bytes  multiply-adds\n"
        "Failing                    2,002        0  8,008\n"
        "  fc: Linear               2,002        0  8,008\n"
        "2,002 parameters and 0 numbers in buffers, 8,008 bytes"
    )


# --- sizes


def test_a_tied_parameter_is_counted_once_and_marked_with_the_name_it_is_tied_to():
    model = Tied()
    summary = model.summary(IDS)
    assert row(summary, "embedding").counts.parameters == 88
    assert row(summary, "head").counts.parameters == 0
    assert row(summary, "head").notes == ("weight tied to embedding.weight",)
    assert summary.total.parameters == model.num_parameters()


def test_a_view_is_marked_and_the_memory_it_shares_is_not_counted_again():
    model = Sequential(Linear(3, 4), Linear(4, 3), Module())
    model[1].weight = Parameter(model[0].weight.T)
    model[2].register_buffer("mean", model[0].bias.data[1:])
    summary = model.summary()
    assert row(summary, "1").notes == ("weight tied to 0.weight",)
    assert row(summary, "1").counts == (3, 0, 12, 0)
    assert row(summary, "2").notes == ("mean tied to 0.bias",)
    assert row(summary, "2").counts == (0, 0, 0, 0)


def test_columns_of_one_array_are_not_reported_as_tied():
    whole = np.zeros((3, 4), np.float32)
    model = Module()
    model.even, model.odd = Parameter(whole[:, ::2]), Parameter(whole[:, 1::2])
    summary = model.summary()
    assert summary.total == (12, 0, 48, 0)
    assert summary.rows[0].notes == ()


VIEWS = [
    lambda whole: whole,
    lambda whole: whole.T,
    lambda whole: whole[1:],
    lambda whole: whole[:, ::2],
    lambda whole: whole[:, 1::2],
    lambda whole: whole.reshape(-1)[3:9],
    lambda whole: whole[:0],
    lambda whole: whole.copy(),
]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(chosen=st.lists(st.tuples(st.integers(0, 1), st.sampled_from(VIEWS), st.booleans()), max_size=7))
def test_every_element_is_counted_once_however_many_tensors_share_it(chosen: list[Any]):
    wholes = [np.zeros((4, 6), np.float32), np.zeros((4, 6), np.float32)]
    model, arrays = Module(), []
    for position, (which, view, nested) in enumerate(chosen):
        holder = Module() if nested else model
        if nested:
            model.add_module(f"part{position}", holder)
        arrays.append(view(wholes[which]))
        holder.register_parameter(f"p{position}", Parameter(arrays[-1]))
    addresses = {array[index].__array_interface__["data"][0] for array in arrays for index in _each(array)}
    total = model.summary().total
    assert total == (len(addresses), 0, 4 * len(addresses), 0)
    assert total.parameters == model.num_parameters()


def _each(array: np.ndarray) -> Any:
    """Yield for each element an index that selects it as a 0-d view."""
    return ((*index, ...) for index in np.ndindex(array.shape))


def test_a_module_in_two_places_is_counted_and_expanded_once():
    block = Sequential(Linear(4, 4), ReLU())
    summary = Sequential({"one": block, "two": block, "three": Linear(4, 1)}).summary((2, 4))
    assert [r.name for r in summary.rows] == ["", "one", "one.0", "one.1", "two", "three"]
    assert row(summary, "two").notes == ("the same as one", "called 2 times")
    assert row(summary, "two").counts == (0, 0, 0, 0)
    assert row(summary, "one").counts == (20, 0, 80, 2 * 2 * 4 * 4)
    assert summary.total.parameters == 25


def test_a_row_includes_the_modules_below_it():
    summary = Tied().summary(IDS)
    for r in summary.rows:
        below = [s.counts for s in summary.rows if s.name.rpartition(".")[0] == r.name and s is not r and s.name]
        assert r.counts.multiply_adds >= sum(c.multiply_adds for c in below)
        assert r.counts.parameters >= sum(c.parameters for c in below)
    parts = ("attention", "ln1", "ln2", "mlp")
    total = sum(row(summary, f"block.{part}").counts.size_bytes for part in parts)
    assert row(summary, "block").counts.size_bytes == total


# --- shapes


def test_an_output_of_several_tensors_shows_each_and_another_value_its_type():
    class Many(Module):
        def forward(self, x: Tensor) -> Any:
            return x, [x.sum(), {"mean": x.mean(dim=0), "name": "x", "raw": x.data}]

    assert Many().summary((2, 3)).rows[0].output == "[(2, 3), [(), {mean: (3,), name: str, raw: (2, 3)}]]"


def test_a_module_called_several_times_shows_how_often_and_each_shape_once():
    class Twice(Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.unused = Linear(3, 3), Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.fc(self.fc(x))[:1])

    summary = Twice().summary((2, 3))
    assert row(summary, "fc").output == "(2, 3) or (1, 3)"
    assert row(summary, "fc").notes == ("called 3 times",)
    assert row(summary, "fc").counts.multiply_adds == (2 + 2 + 1) * 9
    assert row(summary, "unused").output == ""
    assert row(summary, "unused").counts == (12, 0, 48, 0)


def test_several_inputs_are_several_arguments_and_arrays_keep_their_dtype():
    given_dtypes = []

    class Sum(Module):
        def forward(self, x: Tensor, ids: Tensor, y: Tensor) -> Tensor:
            given_dtypes.extend([x.dtype, ids.dtype, y.dtype])
            return x + ids + y

    summary = Sum().summary((2, 3), np.zeros((2, 1), np.int32), Tensor(np.zeros(3)))
    assert given_dtypes == [np.float32, np.int32, np.float64]
    assert str(summary).endswith("multiply-adds for an input of (2, 3), (2, 1), (3,)")


@pytest.mark.parametrize("wrong", ["(1, 64)", 64, [1, 64], ((1, 64), (1, 10)), (1, -1)])
def test_an_input_that_is_neither_a_shape_nor_an_array_is_refused(wrong: Any):
    with pytest.raises(ArgumentError) as caught:
        Identity().summary(wrong)
    assert str(caught.value) == (
        f"summary() takes a shape such as (1, 64) or an example array for each input of the model, not {wrong!r}. "
        "Several inputs are several arguments: summary((1, 64), (1, 10))."
    )


def test_an_error_of_the_model_gets_a_note_about_its_inputs():
    with pytest.raises(ArgumentError, match="takes integer indices") as caught:
        Tied().summary((2, 5))
    assert caught.value.__notes__ == [
        "summary() ran the model on (2, 5) float32. Pass example arrays if the model takes other inputs."
    ]


# --- multiply-adds


@pytest.mark.parametrize(("kind", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_multiply_adds_of_a_recurrent_layer_are_its_products_with_inputs_and_states(kind: str, gates: int):
    layer = getattr(core, kind)(3, 5, num_layers=2, bidirectional=True)
    summary = layer.summary((7, 2, 3))
    assert summary.total.multiply_adds == 7 * 2 * 2 * gates * 5 * ((3 + 5) + (10 + 5))
    assert "(7, 2, 10)" in str(summary)


def test_multiply_adds_of_a_bilinear_map_are_its_two_products():
    assert core.Bilinear(3, 4, 5).summary((2, 3), (2, 4)).total.multiply_adds == 2 * (5 * 3 * 4 + 5 * 4)


def test_multiply_adds_of_attention_match_a_count_by_hand():
    batch, length, width, heads = 2, 5, 8, 2
    summary = MultiHeadAttention(width, heads).summary((batch, length, width))
    projections = batch * length * width * (3 * width)
    products = 2 * batch * heads * length * length * (width // heads)
    out = batch * length * width * width
    assert summary.total.multiply_adds == projections + products + out
    assert row(summary, "out_proj").counts.multiply_adds == out


def test_a_custom_forward_is_counted_by_its_operations():
    class Own(Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = Parameter(np.zeros((4, 5), np.float32), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            h = F.linear(x @ self.w, self.w)  # (2, 3, 4) -> (2, 3, 5) -> (2, 3, 4)
            return (h * 2).exp() @ Tensor(np.ones(4, np.float32))

    assert Own().summary((2, 3, 4)).total.multiply_adds == 2 * (2 * 3 * 4 * 5) + 2 * 3 * 4


def test_embedding_normalization_activations_and_bias_count_as_zero():
    model = Sequential(Embedding(11, 8), LayerNorm(8), ReLU(), Dropout(), Linear(8, 1))
    assert model.summary(IDS).total.multiply_adds == 2 * 5 * 8


def test_operations_under_no_grad_and_in_a_part_whose_error_is_suppressed_are_counted():
    class Failing(Linear):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            raise ZeroDivisionError

    class Trying(Module):
        def __init__(self) -> None:
            super().__init__()
            self.part, self.rest = Failing(4, 3), Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            with contextlib.suppress(ZeroDivisionError):
                self.part(x)
            with no_grad():
                return self.rest(self.rest(x) @ np.eye(2, 4, dtype=np.float32))

    class Outer(Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Trying()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) @ np.ones((2, 5), np.float32)

    summary = Outer().summary((1, 4))
    assert summary.total.multiply_adds == 12 + 8 + 8 + 8 + 10
    assert row(summary, "inner").counts.multiply_adds == 12 + 8 + 8 + 8
    assert row(summary, "inner.rest").counts.multiply_adds == 8 + 8


def test_operations_in_a_hook_on_the_model_count_for_the_model():
    model = Sequential(Linear(4, 3))
    model.register_forward_pre_hook(lambda module, args: args[0] @ np.eye(4, dtype=np.float32))
    assert model.summary((1, 4)).total.multiply_adds == 16 + 12


def torch_multiply_adds(model: Any, *inputs: Any) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(*inputs)
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


@pytest.mark.torch
@settings(derandomize=True, deadline=None, max_examples=25)
@given(widths=st.lists(st.integers(1, 9), min_size=2, max_size=5), rows=st.integers(1, 7), bias=st.booleans())
def test_torch_counts_twice_as_many_operations_in_a_perceptron(widths: list[int], rows: int, bias: bool):
    import torch

    pairs = list(pairwise(widths))
    theirs = torch.nn.Sequential(*(torch.nn.Linear(*pair, bias=bias) for pair in pairs))
    ours = Sequential(*(Linear(*pair, bias=bias) for pair in pairs))
    expected = torch_multiply_adds(theirs, torch.zeros(rows, widths[0]))
    assert ours.summary((rows, widths[0])).total.multiply_adds == expected


@pytest.mark.torch
@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    leading=st.integers(1, 3),
    length=st.integers(1, 6),
    width=st.integers(1, 6),
    d=st.integers(1, 5),
    e=st.integers(1, 5),
)
def test_torch_counts_twice_as_many_operations_in_attention_and_matmul(
    leading: int, length: int, width: int, d: int, e: int
):
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    class Products(Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v) @ v.transpose(-1, -2)

    def theirs(q: Any, k: Any, v: Any) -> Any:
        # torch's counter does not know the fused kernels for the CPU.
        with sdpa_kernel(SDPBackend.MATH):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v) @ v.transpose(-1, -2)

    shapes = [(leading, 2, length, d), (leading, 2, width, d), (leading, 2, width, e)]
    expected = torch_multiply_adds(theirs, *map(torch.zeros, shapes))
    assert Products().summary(*shapes).total.multiply_adds == expected


# --- nothing is changed


def test_the_model_its_modes_gradients_and_the_generator_are_restored():
    class Noisy(Module):
        """A module that changes everything a forward may change, even in evaluation mode."""

        def __init__(self) -> None:
            super().__init__()
            self.norm, self.drop = BatchNorm1d(3), Dropout(0.5)
            self.layers = ModuleList([Linear(3, 3)])
            self.register_buffer("count", np.zeros(2), persistent=False)
            self.register_buffer("last", np.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.count.data[0] += 1
            self.last = Buffer(np.full(4, 7.0))
            x += 1
            return self.drop(self.norm(self.layers[0](x))) + randn(3)

    model, x = Noisy(), np.ones((2, 3), np.float32)
    model.train()
    model.drop.eval()
    hook = model.norm.register_forward_hook(lambda module, args, output: None)
    model.layers[0].weight.grad = np.ones((3, 3), np.float32)
    held = {name: (value, value.copy()) for name, value in model.state_dict().items()}
    buffers, state = list(model.buffers()), default_generator().bit_generator.state
    model.summary(x)
    assert [m.training for m in model.modules()] == [True, True, False, True, True]
    assert all(a is b for a, b in zip(model.buffers(), buffers, strict=True))
    for name, value in model.state_dict().items():
        assert value is held[name][0]
        np.testing.assert_array_equal(value, held[name][1])
    assert not model.count.data.any()
    assert "count" not in model.state_dict()
    assert (x == 1).all()
    assert default_generator().bit_generator.state == state
    assert model.layers[0].weight.grad.all()
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == [0, 1, 0, 0, 0]
    hook.remove()


def test_an_error_of_the_model_leaves_no_trace():
    model = Sequential(Linear(3, 3), Linear(4, 4))
    with pytest.raises(ValueError, match="do not fit"):
        model.summary((2, 3))
    assert model.training
    assert model[0].training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert is_grad_enabled()
    model[0](Tensor(np.ones((2, 3)))).sum().backward()
    assert model[0].weight.grad is not None


def test_frozen_and_read_only_tensors_stay_so():
    model = Sequential(Linear(3, 3), BatchNorm1d(3)).requires_grad_(False)
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.flags.writeable = False
    assert model.summary((2, 3)).total.multiply_adds == 18
    assert not any(t.data.flags.writeable or t.requires_grad for t in (*model.parameters(), *model.buffers()))


# --- notebooks


class Reader(HTMLParser):
    """A parser that collects the rows of a table and checks that every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_a_notebook_shows_the_same_cells_as_the_text():
    summary = Tied().summary(IDS)
    rows = Reader(summary._repr_html_()).rows
    lines = str(summary).splitlines()[:-1]
    assert len(rows) == len(lines)
    for cells, line in zip(rows, lines, strict=True):
        assert [c for c in cells if c] == re.split(r"\s{2,}", line.strip())


def test_names_are_escaped_in_html():
    nasty = '<script>alert("1")</script>&'
    inner = Module()
    inner.add_module(nasty, Identity())
    inner.register_parameter("<b>w", Parameter([1.0]))
    outer = Sequential({"a": inner, nasty: Linear(1, 1)})
    outer[1].bias = inner.get_parameter("<b>w")
    type_name = type("<i>Net", (Sequential,), {})(outer)
    rendered = Reader(type_name.summary()._repr_html_())
    assert rendered.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    shown = [cell for cells in rendered.rows for cell in cells]
    assert f"{nasty}: Linear" in shown
    assert "bias tied to 0.a.<b>w" in shown
    assert "<i>Net" in shown

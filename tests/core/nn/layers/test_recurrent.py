"""RNN, LSTM, GRU and their cells: finite differences, PyTorch as the oracle, and packed sequences."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.core import ArgumentError, ShapeError, Tensor, nn
from statezoo.core.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
)

RANDOM = np.random.default_rng(0)
LAYERS = [("RNN", {"nonlinearity": "tanh"}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {}), ("GRU", {})]
OPTIONS = [
    {"num_layers": layers, "bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
    for layers, bias, batch_first, bidirectional in itertools.product((1, 2), *[(True, False)] * 3)
]


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def as_list(state: Any) -> list[Any]:
    return list(state) if isinstance(state, tuple) else [state]


def as_state(states: list[Any]) -> Any:
    return tuple(states) if len(states) == 2 else states[0]


def same(ours: Any, theirs: Any) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.data, other.detach().numpy(), rtol=1e-5, atol=1e-6)


def same_gradients(ours: Any, theirs: Any) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.grad, other.grad.numpy(), rtol=1e-4, atol=1e-5)


def backward(tensors: list[Any]) -> None:
    """Start from a loss in which each element of each tensor counts differently."""
    total: Any = 0
    for tensor in tensors:
        total = total + (tensor * tensor * tensor + tensor).sum()
    total.backward()


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.mark.torch
@pytest.mark.parametrize(("kind", "given"), LAYERS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_layer_agrees_with_torch_in_the_same_state(kind: str, given: Any, options: Any, torch: Any) -> None:
    ours, theirs = getattr(nn, kind)(3, 4, **options, **given), getattr(torch.nn, kind)(3, 4, **options, **given)
    assert repr(ours) == repr(theirs)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in theirs.state_dict().items()
    ]
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    x, batch = normal(5, 2, 3), 5 if options["batch_first"] else 2
    states = [normal(options["num_layers"] * (1 + options["bidirectional"]), batch, 4) for _ in range(ours._states)]
    mine = [Tensor(array, requires_grad=True) for array in (x, *states)]
    other = [torch.tensor(array, requires_grad=True) for array in (x, *states)]
    out, last = ours(mine[0], as_state(mine[1:]))
    expected, expected_last = theirs(other[0], as_state(other[1:]))
    same([out, *as_list(last)], [expected, *as_list(expected_last)])
    backward([out, *as_list(last)])
    backward([expected, *as_list(expected_last)])
    same_gradients([*mine, *ours.parameters()], [*other, *theirs.parameters()])
    same([ours(Tensor(x))[0]], [theirs(torch.tensor(x))[0]])
    single = as_state([array[:, 0] for array in states])
    out, last = ours(x[:, 0], single)
    expected, expected_last = theirs(torch.tensor(x[:, 0]), as_state([torch.tensor(a[:, 0]) for a in states]))
    same([out, *as_list(last)], [expected, *as_list(expected_last)])


@pytest.mark.torch
@pytest.mark.parametrize(("kind", "given"), LAYERS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_packed_sequence_gives_the_results_of_torch(kind: str, given: Any, bidirectional: bool, torch: Any) -> None:
    options = {"num_layers": 2, "bidirectional": bidirectional, **given}
    ours, theirs = getattr(nn, kind)(3, 4, **options), getattr(torch.nn, kind)(3, 4, **options)
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    sequences = [normal(length, 3) for length in (2, 5, 1, 3)]
    states = [normal(2 + 2 * bidirectional, 4, 4) for _ in range(ours._states)]
    mine = [Tensor(array, requires_grad=True) for array in (*sequences, *states)]
    other = [torch.tensor(array, requires_grad=True) for array in (*sequences, *states)]
    pack = torch.nn.utils.rnn.pack_sequence
    out, last = ours(pack_sequence(mine[:4], enforce_sorted=False), as_state(mine[4:]))
    expected, expected_last = theirs(pack(other[:4], enforce_sorted=False), as_state(other[4:]))
    same([*out, *as_list(last)], [*expected, *as_list(expected_last)])
    padded, lengths = pad_packed_sequence(out, padding_value=0.5, total_length=7)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(expected, padding_value=0.5, total_length=7)
    assert lengths.data.tolist() == [2, 5, 1, 3]
    same([padded], [expected])
    backward([padded, *as_list(last)])
    backward([expected, *as_list(expected_last)])
    same_gradients([*mine, *ours.parameters()], [*other, *theirs.parameters()])


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_agrees_with_torch_in_the_same_state(kind: str, bias: bool, torch: Any) -> None:
    ours, theirs = getattr(nn, kind)(3, 4, bias), getattr(torch.nn, kind)(3, 4, bias)
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    for shape in ((2,), ()):
        arrays = [normal(*shape, size) for size in (3, 4, 4)[: 1 + ours._states]]
        mine = [Tensor(array, requires_grad=True) for array in arrays]
        other = [torch.tensor(array, requires_grad=True) for array in arrays]
        out, expected = as_list(ours(mine[0], as_state(mine[1:]))), as_list(theirs(other[0], as_state(other[1:])))
        same(out, expected)
        ours.zero_grad()
        theirs.zero_grad()
        backward(out)
        backward(expected)
        same_gradients([*mine, *ours.parameters()], [*other, *theirs.parameters()])
        same(as_list(ours(arrays[0])), as_list(theirs(torch.tensor(arrays[0]))))


@pytest.mark.parametrize(("kind", "given"), LAYERS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_gradient_through_time_agrees_with_differences(
    kind: str, given: Any, bidirectional: bool, differences_agree: Callable[..., None]
) -> None:
    layer = getattr(nn, kind)(3, 4, bidirectional=bidirectional, **given)
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *arrays: Tensor) -> Tensor:
        states, weights = list(arrays[: layer._states]), arrays[layer._states :]
        vars(layer).update(zip(names, weights, strict=True))
        out, last = layer(x, as_state(states))
        packed, _ = layer(pack_padded_sequence(x, [3, 2]))
        return core.cat([tensor.flatten() for tensor in (out, packed.data, *as_list(last))])

    states = [RANDOM.standard_normal((1 + bidirectional, 2, 4)) for _ in range(layer._states)]
    weights = [parameter.data * 2 for parameter in layer.parameters()]
    differences_agree(run, RANDOM.standard_normal((3, 2, 3)), *states, *weights)


def test_an_lstm_over_one_step_is_the_cell() -> None:
    cell, layer = nn.LSTMCell(3, 4), nn.LSTM(3, 4)
    layer.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    x = Tensor(normal(2, 3))
    h, c = cell(x)
    out, (last, memory) = layer(x.unsqueeze(0))
    for mine, other in ((out[0], h), (last[0], h), (memory[0], c)):
        np.testing.assert_array_equal(mine.data, other.data)


def test_dropout_acts_between_layers_in_training_only() -> None:
    layer, x = nn.GRU(3, 4, 2, dropout=0.5), Tensor(normal(5, 2, 3))
    assert not np.array_equal(layer(x)[0].data, layer(x)[0].data)
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0].data, layer(x)[0].data)
    with pytest.warns(UserWarning, match=r"dropout=0\.5 has no effect"):
        nn.GRU(3, 4, dropout=0.5)


def test_a_layer_has_the_attributes_that_scripts_use() -> None:
    layer = nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    layer.flatten_parameters()
    assert [p.shape for p in layer.all_weights[0]] == [(16, 3), (16, 4), (16,), (16,)]
    assert (layer.mode, layer.input_size, layer.hidden_size, layer.num_layers) == ("LSTM", 3, 4, 2)
    assert (layer.bias, layer.batch_first, layer.dropout, layer.bidirectional) == (True, False, 0.0, True)
    bound = 1 / np.sqrt(4)
    assert all(np.abs(p.data).max() <= bound for p in layer.parameters())


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_a_layer_keeps_its_dtype(dtype: Any) -> None:
    layer = nn.LSTM(3, 4, dtype=dtype)
    out, (h, c) = layer(Tensor(normal(5, 2, 3).astype(dtype)))
    assert out.dtype == h.dtype == c.dtype == dtype
    out.sum().backward()
    assert {p.grad.dtype for p in layer.parameters() if p.grad is not None} == {np.dtype(dtype)}


@pytest.mark.parametrize("shape", [(0, 2, 3), (5, 0, 3)])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_an_empty_input_gives_an_empty_output(kind: str, shape: tuple[int, ...]) -> None:
    x = Tensor(np.ones(shape, np.float32), requires_grad=True)
    out, _ = getattr(nn, kind)(3, 4)(x)
    assert out.shape == (*shape[:2], 4)
    out.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.RNN(3, 4, nonlinearity="sin"), "RNN: the nonlinearity must be 'tanh' or 'relu', not 'SIN'."),
        (lambda: nn.LSTM(3, 0), "LSTM needs sizes above 0, not input_size=3, hidden_size=0."),
        (
            lambda: nn.GRU(3, 4, 0),
            "GRU needs num_layers above 0, dropout between 0 and 1 and proj_size=0, as ",
        ),
        (lambda: nn.GRU(3, 4, 2, dropout=2.0), "no projection here; not 2, 2.0 and 0."),
        (lambda: nn.LSTM(3, 4, proj_size=2), "no projection here; not 1, 0.0 and 2."),
        (lambda: nn.LSTM(3, 4)(normal(5, 3, 2)), "LSTM needs an input with 2 or 3 axes and 3 features, not (5, 3, 2)."),
        (lambda: nn.GRUCell(3, 4)(normal(5, 5, 3)), "GRUCell needs an input with 1 or 2 axes and 3 features, not "),
        (lambda: nn.LSTM(3, 4)(Tensor(np.zeros((5, 2, 3)))), "LSTM: the input is float64, the weights are float32. "),
        (lambda: nn.GRU(3, 4)(normal(5, 2, 3), normal(1, 3, 4)), "GRU needs an initial state of shape (1, 2, 4), not "),
        (
            lambda: nn.LSTM(3, 4)(normal(5, 2, 3), (normal(1, 2, 4), normal(2, 2, 4))),
            "LSTM needs an initial state of shape (1, 2, 4) and (1, 2, 4), not (1, 2, 4) and (2, 2, 4).",
        ),
        (lambda: pack_padded_sequence(Tensor(normal(5, 2, 3)), [1, 2]), "are not in decreasing order"),
        (lambda: pack_padded_sequence(Tensor(normal(5, 2, 3)), [6, 2]), "must be between 1 and 5"),
        (lambda: pack_padded_sequence(Tensor(normal(5, 2, 3)), [5]), "needs a length for each of 2 sequences"),
        (lambda: pad_sequence([]), "pad_sequence needs at least one sequence."),
        (lambda: pad_sequence([Tensor([1.0])], padding_side="up"), "must be 'left' or 'right', not 'up'"),
    ],
)
def test_an_error_says_what_does_not_fit(make: Callable[[], Any], text: str) -> None:
    with pytest.raises((ArgumentError, ShapeError)) as error:
        make()
    assert text in str(error.value)
    assert isinstance(error.value, ValueError)
    assert isinstance(error.value, RuntimeError)


# --- sequences of different lengths

LENGTHS = [[5, 3, 3, 1], [2, 5, 1, 3], [1]]


@pytest.mark.torch
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("features", [(), (3,), (2, 3)])
def test_sequences_are_packed_and_padded_as_in_torch(lengths: list[int], batch_first: bool, features: Any, torch: Any):
    theirs = torch.nn.utils.rnn
    arrays = [normal(length, *features) for length in lengths]
    tensors, others = [Tensor(array) for array in arrays], [torch.tensor(array) for array in arrays]
    for side in ("right", "left"):
        padded = pad_sequence(tensors, batch_first, -1.0, side)
        expected = theirs.pad_sequence(others, batch_first, -1.0, side)
        same([padded], [expected])
    padded, expected = pad_sequence(tensors, batch_first), theirs.pad_sequence(others, batch_first)
    packed = pack_padded_sequence(padded, lengths, batch_first, enforce_sorted=False)
    other = theirs.pack_padded_sequence(expected, lengths, batch_first, enforce_sorted=False)
    same(packed, other)
    assert repr(packed.batch_sizes.dtype) == "dtype('int64')"
    again, counts = pad_packed_sequence(packed, batch_first, 2.0)
    same([again, counts], theirs.pad_packed_sequence(other, batch_first, 2.0))
    for ours in (unpack_sequence(packed), unpad_sequence(padded, lengths, batch_first)):
        for mine, array in zip(ours, arrays, strict=True):
            np.testing.assert_array_equal(mine.data, array)


def test_a_sorted_batch_has_no_order_to_restore() -> None:
    packed = pack_sequence([Tensor([1.0, 2.0, 3.0]), Tensor([4.0])])
    assert isinstance(packed, PackedSequence)
    assert packed.data.data.tolist() == [1, 4, 2, 3]
    assert packed.batch_sizes.data.tolist() == [2, 1, 1]
    assert packed.sorted_indices is packed.unsorted_indices is None
    assert packed.to(np.float64).data.dtype == np.float64


def test_the_gradient_flows_through_packing_and_padding(differences_agree: Callable[..., None]) -> None:
    def there_and_back(x: Tensor, y: Tensor) -> Tensor:
        packed = pack_padded_sequence(pad_sequence([x, y]), [2, 4], enforce_sorted=False)
        return pad_packed_sequence(packed, batch_first=True)[0]

    differences_agree(there_and_back, RANDOM.standard_normal((2, 3)), RANDOM.standard_normal((4, 3)))

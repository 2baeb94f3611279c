"""device= and dtype= of the constructors of layers, and the conversions of whole modules."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.core import BatchNorm1d, Embedding, LayerNorm, Linear, Module, MultiHeadAttention

LAYERS: list[tuple[Callable[..., Module], tuple[Any, ...]]] = [
    (Linear, (3, 2, True)),
    (Embedding, (3, 2, None)),
    (LayerNorm, (3, 1e-5, True, True)),
    (BatchNorm1d, (3, 1e-5, 0.1, True, True)),
    (MultiHeadAttention, (4, 2, 0.0, True)),
]


@pytest.mark.parametrize(("kind", "arguments"), LAYERS)
def test_a_layer_is_made_with_a_dtype_on_the_one_device(kind: Callable[..., Module], arguments: tuple[Any, ...]):
    layer = kind(*arguments, device="cpu", dtype=np.float64)
    tensors = [*layer.parameters(), *layer.buffers()]
    assert {str(tensor.dtype) for tensor in tensors} <= {"float64", "int64"}
    assert {tensor.dtype for tensor in kind(*arguments).parameters()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(("kind", "arguments"), LAYERS)
def test_a_layer_refuses_another_device_and_a_dtype_of_integers(
    kind: Callable[..., Module], arguments: tuple[Any, ...]
):
    with pytest.raises(RuntimeError, match="there is no device 'cuda' here"):
        kind(*arguments, device="cuda")
    with pytest.raises(RuntimeError, match="takes a floating-point dtype"):
        kind(*arguments, dtype=np.int64)


@pytest.mark.parametrize("tracks", [False, True])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.torch
def test_track_running_stats_may_be_set_afterwards_as_in_torch(tracks: bool, momentum: float | None):
    import torch

    x = np.random.default_rng(0).standard_normal((5, 3), np.float32)
    made = []
    for library in (core, torch.nn):
        layer = library.BatchNorm1d(3, momentum=momentum, track_running_stats=not tracks)
        layer.track_running_stats = tracks
        given = core.Tensor(x) if library is core else torch.tensor(x)
        outputs = [layer(given), layer(given * 2)]
        outputs.append(layer.eval()(given))
        made.append([np.asarray(out.detach()) for out in outputs])
        made[-1] += [np.asarray(value) for value in layer.state_dict().values()]
    for ours, theirs in zip(*made, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_an_identity_takes_and_ignores_the_arguments_of_the_layer_that_it_replaces():
    x = core.Tensor([1.0])
    assert core.Identity(3, 4, bias=False)(x) is x

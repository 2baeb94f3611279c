"""Recurrent layers as ONNX files, which the exporter compares with the model, and as code in PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from computing import Computes, draw

from statezoo import zoo
from statezoo.core import Tensor, nn
from statezoo.core.nn.utils.rnn import pack_padded_sequence
from statezoo.zoo import ExportError
from statezoo.zoo.publishing.huggingface.code import code_of
from statezoo.zoo.publishing.onnx.tracing import trace_twice

SEQUENCES = draw(3, 5, 4)
KINDS: list[tuple[str, dict[str, Any]]] = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("GRU", {}), ("LSTM", {})]
OPTIONS: list[dict[str, Any]] = [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False, "bidirectional": True}]


def model_of(kind: str, options: dict[str, Any]) -> Computes:
    layer = getattr(nn, kind)(4, 6, batch_first=True, **options)

    def both(x: Tensor) -> tuple[Tensor, ...]:
        out, last = layer(x)
        return (out, *(h.transpose(0, 1) for h in (last if isinstance(last, tuple) else (last,))))

    return Computes(both, layer=layer)


@pytest.mark.onnx
@pytest.mark.parametrize(("kind", "given"), KINDS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_recurrent_layer_is_exported(kind: str, given: Any, options: Any, tmp_path: Path) -> None:
    zoo.export(model_of(kind, {**given, **options}), tmp_path / "model.onnx", SEQUENCES)


@pytest.mark.onnx
def test_a_given_state_is_an_input(tmp_path: Path) -> None:
    layer = nn.GRU(4, 6)
    model = Computes(lambda x, h: layer(x.transpose(0, 1), h.unsqueeze(0))[0].transpose(0, 1), layer=layer)
    zoo.export(model, tmp_path / "model.onnx", (SEQUENCES, draw(3, 6)))


@pytest.mark.onnx
def test_a_packed_sequence_is_refused(tmp_path: Path) -> None:
    layer = nn.GRU(4, 6)
    model = Computes(lambda x: layer(pack_padded_sequence(x, [5] * len(x), True))[0].data, layer=layer)
    with pytest.raises(ExportError, match="follows the batch"):
        zoo.export(model, tmp_path / "model.onnx", SEQUENCES)


@pytest.mark.torch
@pytest.mark.parametrize(("kind", "given"), KINDS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_code_in_pytorch_computes_the_same(kind: str, given: Any, options: Any) -> None:
    import torch

    model = model_of(kind, {**given, **options}).eval()
    lines = code_of(model, trace_twice(model, [SEQUENCES]), ["x"])
    scope: dict[str, Any] = {"torch": torch, "F": torch.nn.functional}
    exec("\n".join(lines), scope)
    scope["w"] = {name: torch.tensor(np.array(value)) for name, value in model.state_dict().items()}
    for mine, other in zip(model(Tensor(SEQUENCES)), scope["forward"](torch.tensor(SEQUENCES)), strict=True):
        np.testing.assert_allclose(mine.data, other.numpy(), rtol=1e-5, atol=1e-6)

"""Our files, loaded into PyTorch's models by PyTorch and safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cells import cell
from states import STATE, VIEW, written

TABLE = "written"


def model_of(ties: str):
    """Return a model with the names of STATE. ties: "none", "head" (is the embedding), or "all" (decoder is a view)."""
    import torch

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(7, 4)
            self.encoder = torch.nn.Linear(4, 3)
            self.decoder = torch.nn.Linear(3, 4, bias=False)
            self.head = torch.nn.Linear(4, 7, bias=False)
            if ties != "none":
                self.head.weight = self.embedding.weight
            if ties == "all":
                self.decoder.weight = torch.nn.Parameter(self.encoder.weight.detach().T)

    return Tied()


def assert_loaded(model: object) -> None:
    for name, tensor in model.state_dict().items():  # pyright: ignore[reportAttributeAccessIssue]
        assert np.array_equal(tensor.numpy(), STATE[name]), name


def _strict(folder: Path, kind: str) -> str:
    from safetensors.torch import load_file

    for ties in ("none", "head", "all"):
        model = model_of(ties)
        path = written(folder, kind)
        files = [path] if path.exists() else sorted(folder.glob("*.safetensors"))
        state = {name: tensor for file in files for name, tensor in load_file(file).items()}
        try:
            model.load_state_dict(state, strict=True)
        except RuntimeError as error:
            if "Missing key(s)" in str(error):
                return "no: names are missing"
            raise
        assert_loaded(model)
    return "yes"


for _kind in (".safetensors", ".safetensors, expand", "shards, expand"):
    cell(TABLE, "load_state_dict, strict", _kind, "torch", "safetensors")(
        lambda folder, kind=_kind: _strict(folder, kind)
    )


def _load_model(folder: Path, kind: str) -> str:
    """Load into a model with a tied head. safetensors.torch does not load models whose weights are transposed views."""
    from safetensors.torch import load_model

    model = model_of("head")
    path = written(folder, kind, {name: np.array(a) if name == VIEW else a for name, a in STATE.items()})
    result = "yes"
    try:
        load_model(model, path)
    except RuntimeError as error:
        if 'Unexpected key(s) in state_dict: "head.weight"' not in str(error):
            raise
        load_model(model, path, strict=False)
        result = "with strict=False"
    assert_loaded(model)
    assert model.head.weight is model.embedding.weight
    return result


for _kind in (".safetensors", ".safetensors, expand"):
    cell(TABLE, "safetensors.torch.load_model", _kind, "safetensors", "torch")(
        lambda folder, kind=_kind: _load_model(folder, kind)
    )

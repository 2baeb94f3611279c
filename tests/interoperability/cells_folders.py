"""Entries of the zoo as folders for the Hugging Face hub."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
from cells import add

from statezoo import zoo
from statezoo.checkpoints import load_file
from statezoo.zoo.entry import GOLDEN, open_entry
from statezoo.zoo.loading import find

TABLE = "folder"


def _modeling(folder: Path, name: str) -> str:
    """Run modeling.py on the golden input, and compare the output."""
    import torch

    out = zoo.export(name, folder / "out", to="huggingface")
    golden = load_file(find(name) / GOLDEN)
    with torch.no_grad():
        found = runpy.run_path(str(out / "modeling.py"))["forward"](torch.tensor(golden["input"])).numpy()
    error = np.abs(found - golden["output"]).max()
    assert error <= 1e-5 * np.abs(golden["output"]).max()
    return "yes"


def _card(folder: Path, name: str) -> str:
    from huggingface_hub import ModelCard

    out = zoo.export(name, folder / "out", to="huggingface")
    data = ModelCard.load(out / "README.md").data
    assert data.to_dict()["pipeline_tag"] == open_entry(find(name)).manifest["task"]
    return "yes"


for _name in zoo.list_models():
    add(TABLE, f"`{_name}`", "modeling.py in PyTorch", lambda folder, name=_name: _modeling(folder, name), "torch")
    add(
        TABLE,
        f"`{_name}`",
        "README.md as a model card",
        lambda folder, name=_name: _card(folder, name),
        "huggingface_hub",
    )

"""export_folder: an entry as a folder for the Hugging Face hub.

    README.md                   the card, with the hub's YAML header, and its pictures
    config.json                 the architecture, its configuration, and the labels
    preprocessor_config.json    what turns a raw input into the model's input, and its output into an answer
    model.safetensors           the weights, each name with its own bytes
    modeling.py                 the model in plain PyTorch, which needs only torch, safetensors and model.safetensors

Nothing in the folder needs this library, or code that the hub would have to run.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ....checkpoints import load_file, save_model
from ....core import Module
from ...entry import CARD, GOLDEN, WEIGHTS, Entry, describe_files
from ...loading import describe, find, load_entry
from ...versions import whole
from ..onnx.exporter import Example, input_names, inputs_of
from ..onnx.tracing import trace_twice
from .card import interface_table, joined, sections_of
from .code import code_of
from .folder import new_folder

CONFIG, PREPROCESSOR, MODELING = "config.json", "preprocessor_config.json", "modeling.py"
_INTERFACE = ("input", "output", "preprocessing", "postprocessing", "labels")
_MODELING = '''"""The model of this folder in plain PyTorch. It needs torch and safetensors."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

w = load_file(Path(__file__).parent / "model.safetensors")


'''


class _Content(NamedTuple):
    """What one version of an entry holds for a folder."""

    manifest: dict[str, Any]
    model: Module
    golden: np.ndarray
    pictures: dict[str, bytes]


def export_folder(entry: Entry | str, folder: str | os.PathLike[str], example: Example | None = None) -> Path:
    """Write an entry as a folder for the Hugging Face hub, completely or not at all. Return its path.

    entry: an opened entry, or its name. folder: what to write; it must not exist, or be empty. example: the input that
    the model is traced with, by default the golden one. Another input may have another batch size.
    Raises ExportError if the folder is not empty or cannot be written, or if an operation of the model has no
    counterpart in PyTorch.
    """
    content = whole(find(entry), _read) if isinstance(entry, str) else _read(entry)
    inputs = inputs_of(content.golden if example is None else example)
    traces = trace_twice(content.model, inputs)
    names = input_names(content.model, len(inputs))
    code = "\n".join(code_of(content.model, traces, names)) + "\n"
    with new_folder(Path(folder)) as new:
        save_model(content.model, new / WEIGHTS["safetensors"], metadata=describe(content.manifest), expand=True)
        for name, picture in content.pictures.items():
            (new / name).write_bytes(picture)
        _write_json(new / CONFIG, _config(content.manifest))
        _write_json(new / PREPROCESSOR, {key: content.manifest[key] for key in _INTERFACE})
        (new / MODELING).write_text(_MODELING + code, encoding="utf-8")
        files = describe_files(new, sorted(path.name for path in new.iterdir()))
        (new / CARD).write_text(_card({**content.manifest, "files": files}), encoding="utf-8")
    return Path(folder)


def _read(entry: Entry) -> _Content:
    pictures = {name: entry.path(name).read_bytes() for name in entry.manifest["pictures"]}
    golden = load_file(entry.path(GOLDEN))["input"]
    return _Content(entry.manifest, load_entry(entry), golden, pictures)


def _config(manifest: dict[str, Any]) -> dict[str, Any]:
    labels = manifest["labels"]
    named = {"id2label": {str(n): label for n, label in enumerate(labels)}} if labels else {}
    named |= {"label2id": {label: n for n, label in enumerate(labels)}} if labels else {}
    return {**manifest["config"], "model_type": manifest["architecture"], **named}


def _card(manifest: dict[str, Any]) -> str:
    """Return the card of the entry with the parts that differ in the folder. manifest: with the files of the folder."""
    given, returned = manifest["input"], manifest["output"]
    shapes = [", ".join(side["axes"]) for side in (given, returned)]
    sections = sections_of(manifest) | {
        "usage": f"""## Use

`{MODELING}` is the model in plain PyTorch. It needs only torch and safetensors.

```python
import torch
from modeling import forward

with torch.no_grad():
    output = forward(x)  # {given["dtype"]} ({shapes[0]}) -> {returned["dtype"]} ({shapes[1]})
```""",
        "interface": f"""## Input and output

`{PREPROCESSOR}` says what turns a raw input into the input, and the output into an answer. `{CONFIG}` has the labels.

{interface_table(manifest)}""",
        "trajectory": "",
    }
    return joined(sections)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

"""Use the installed wheel: load every entry in both formats, save and load a model, and train it for one step."""

import platform
import tempfile
from importlib.metadata import files
from pathlib import Path

import numpy as np

from statezoo import checkpoints, core, zoo

installed = [Path(str(path)) for path in files("statezoo") or []]
top_level = {path.parts[0] for path in installed if path.parts[0] != ".."}
assert {name for name in top_level if not name.endswith(".dist-info")} == {"statezoo"}, top_level
for package in ("", "core", "checkpoints", "zoo", "scripts"):
    assert Path("statezoo", package, "py.typed") in installed, f"py.typed is missing from statezoo.{package}"

names = zoo.list_models()
assert names, "the wheel carries no entries"
for name in names:
    from_safetensors = zoo.load(name, format="safetensors").state_dict()
    from_hdf5 = zoo.load(name, format="hdf5").state_dict()
    assert list(from_safetensors) == list(from_hdf5), name
    assert all(np.array_equal(from_safetensors[key], from_hdf5[key]) for key in from_hdf5), name
    assert zoo.card(name).startswith("---\n"), name

model = zoo.create_model("simple-mlp")
optimizer = core.optim.Adam(model.parameters())
core.functional.cross_entropy(model(core.randn(8, 64)), np.arange(8)).backward()
optimizer.step()
with tempfile.TemporaryDirectory() as folder:
    for suffix in (".safetensors", ".h5"):
        path = Path(folder, f"model{suffix}")
        checkpoints.save_model(model, path)
        checkpoints.load_model(zoo.create_model("simple-mlp"), path)
        assert checkpoints.verify(path).intact
print(f"Python {platform.python_version()}: {len(names)} entries load in both formats; a model trains, saves and loads")

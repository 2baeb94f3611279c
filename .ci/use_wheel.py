"""Check the installed wheel: the only top-level name is statezoo, and every entry loads from both formats."""

from importlib.metadata import files
from pathlib import Path

import numpy as np

from statezoo import zoo

installed = [Path(str(path)) for path in files("statezoo") or []]
top_level = {path.parts[0] for path in installed if path.parts[0] != ".."}
assert {name for name in top_level if not name.endswith(".dist-info")} == {"statezoo"}, top_level
for package in ("core", "checkpoints", "zoo"):
    assert Path("statezoo", package, "py.typed") in installed, f"{package} lacks py.typed"

names = zoo.list_models()
assert names, "the wheel carries no entries"
for name in names:
    from_safetensors = zoo.load(name, format="safetensors").state_dict()
    from_hdf5 = zoo.load(name, format="hdf5").state_dict()
    assert list(from_safetensors) == list(from_hdf5), name
    assert all(np.array_equal(from_safetensors[key], from_hdf5[key]) for key in from_hdf5), name
    assert zoo.card(name).startswith("---\n"), name
print(f"the wheel holds {len(names)} entries; all load from both formats")

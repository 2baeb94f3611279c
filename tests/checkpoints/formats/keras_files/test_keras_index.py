"""Weights that Keras has split into several files load by their index."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from keras_models import KINDS, randomize

from statezoo.checkpoints import (
    CorruptError,
    FormatError,
    ReadError,
    convert,
    diff,
    inspect,
    load_file,
    open_checkpoint,
    repair,
    verify,
)

SHARDS = {
    "x_00000.weights.h5": ["layers/dense/vars/0", "layers/dense_10/vars/0", "vars/0"],
    "x_00001.weights.h5": ["layers/dense/vars/1", "layers/dense_2/vars/0"],
}
WEIGHT_MAP: dict[str, Any] = {
    "/layers/dense/vars": ["x_00000.weights.h5", "x_00001.weights.h5"],
    "/layers/dense_10/vars": "x_00000.weights.h5",
    "/vars": ["x_00000.weights.h5"],
    "/layers/dense_2/vars": ["x_00001.weights.h5"],
}
NAMES = [f"layers.dense.vars.{n}" for n in range(2)] + ["layers.dense_2.vars.0", "layers.dense_10.vars.0", "vars.0"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    for shard, names in SHARDS.items():
        with h5py.File(tmp_path / shard, "w") as file:
            for name in names:
                file[name] = np.full(3, NAMES.index(name.replace("/", ".")))
    return indexed(tmp_path / "x.weights.json", WEIGHT_MAP)


def indexed(path: Path, weight_map: Any) -> Path:
    path.write_text(json.dumps({"metadata": {"total_size": 120.0}, "weight_map": weight_map}))
    return path


@pytest.mark.parametrize("mmap", [False, True, "c"])
def test_the_tensors_of_all_files_come_in_natural_order(path: Path, mmap: Any):
    state = load_file(path, mmap=mmap)
    assert list(state) == NAMES
    assert [int(array[0]) for array in state.values()] == list(range(5))


def test_every_tool_works(path: Path, tmp_path: Path):
    assert [tensor.name for tensor in inspect(path).tensors] == NAMES
    assert verify(path).intact
    with open_checkpoint(path) as checkpoint:
        assert checkpoint["layers.dense_2.vars.0"][1:].tolist() == [2, 2]
    convert(path, tmp_path / "whole.weights.h5", layout="keras")
    assert diff(path, tmp_path / "whole.weights.h5").same
    assert repair(path, tmp_path / "b.h5").complete
    with pytest.raises(FormatError, match=r"is the index of weights in other files\. Give the path of the index"):
        load_file(path.read_bytes())
    path.rename(path.with_suffix(".txt"))
    with pytest.raises(FormatError, match=r"Rename it to end in \.weights\.json"):
        load_file(path.with_suffix(".txt"))


def test_a_missing_file_is_named(path: Path):
    (path.parent / "x_00001.weights.h5").unlink()
    with pytest.raises(ReadError, match=r"names 'x_00001\.weights\.h5', which is not in its folder\. Copy it there"):
        load_file(path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"/vars": ["../x_00000.weights.h5"]}, "is not the name of a .weights.h5 file in its folder"),
        ({"/vars": ["/etc/x.weights.h5"]}, "is not the name of a .weights.h5 file in its folder"),
        ({"/vars": ["x.safetensors"]}, "is not the name of a .weights.h5 file in its folder"),
        ({"/vars": [3]}, "is not the name of a .weights.h5 file in its folder"),
        ({"/vars": []}, "the files of '/vars' are not a list"),
        ({"vars": ["x_00000.weights.h5"]}, "the files of 'vars' are not a list"),
        ({"/layers/dense_3/vars": ["x_00000.weights.h5"]}, "lacks the variables of 'layers.dense_3.vars', so it is of"),
        ({"/layers/dense/vars": "x_00000.weights.h5"}, "'x_00001.weights.h5' also has the variables of 'layers.dense"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_an_error(path: Path, changes: dict[str, Any], text: str):
    with pytest.raises(CorruptError, match=text):
        load_file(indexed(path, WEIGHT_MAP | changes))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": []}', "{" * 9999])
def test_an_index_that_is_not_one_is_an_error(path: Path, text: str):
    path.write_text(text)
    with pytest.raises(CorruptError, match="is not a valid index of Keras"):
        load_file(path)


def test_one_variable_in_two_files_is_an_error(path: Path):
    with h5py.File(path.parent / "x_00001.weights.h5", "r+") as file:
        file["layers/dense/vars/0"] = np.ones(3)
    with pytest.raises(CorruptError, match="two of its files hold the same variable"):
        load_file(path)


@pytest.mark.keras
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_the_files_that_keras_writes_are_read(tmp_path: Path):
    model = KINDS["functional"]()
    randomize(model, 1)
    model.save_weights(tmp_path / "x.weights.json", max_shard_size=1e-6)
    model.save_weights(tmp_path / "y.weights.h5")
    assert len(list(tmp_path.glob("x_*.weights.h5"))) > 2
    assert diff(tmp_path / "x.weights.json", tmp_path / "y.weights.h5").same

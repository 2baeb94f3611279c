"""`layout="keras"`: Keras' own load_weights opens what we write, and we open what Keras writes."""

import re
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from keras_models import KINDS, bits_of, randomize

from statezoo.checkpoints import (
    ArgumentError,
    StateError,
    convert,
    diff,
    edit,
    fingerprint,
    load_file,
    repair,
    save_file,
    verify,
)

# Keras 3.15 asks torch for an array in a way of which NumPy warns.
QUIET = pytest.mark.filterwarnings("ignore:__array__ implementation")
STATE: dict[str, Any] = {
    "layers.dense.vars.0": np.arange(6.0).reshape(2, 3),
    "layers.dense.vars.1": np.ones(3, ml_dtypes.bfloat16),
    "layers.dense_1.cell.vars.kernel": np.ones(3, ml_dtypes.bfloat16),
    "vars.0": np.arange(3),
}


@pytest.mark.keras
@pytest.mark.slow
@QUIET
@pytest.mark.parametrize("kind", KINDS)
def test_keras_loads_what_we_write_and_we_read_what_keras_writes(tmp_path: Path, kind: str):
    model, other = KINDS[kind](), KINDS[kind]()
    randomize(model, 1)
    randomize(other, 2)
    model.save_weights(written := tmp_path / "keras.weights.h5")
    state = load_file(written)
    assert {array.tobytes() for name, array in state.items() if "seed" not in name} == set(bits_of(model))
    convert(written, tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", ours := tmp_path / "ours.weights.h5", layout="keras")
    assert bits_of(other) != bits_of(model)
    other.load_weights(ours)
    assert bits_of(other) == bits_of(model)
    assert list(load_file(ours)) == list(state)
    assert diff(written, ours).same


@pytest.mark.keras
@pytest.mark.slow
@QUIET
def test_keras_continues_training_from_the_optimizer_state_that_we_write(tmp_path: Path):
    x, y = np.ones((8, 4), "f4"), np.ones((8, 4), "f4")
    models = [KINDS["sequential"]() for _ in range(2)]
    for model in models:
        model.compile("adam", "mse")
        model.fit(x, y, verbose=0)
    models[0].save_weights(tmp_path / "keras.weights.h5")
    convert(tmp_path / "keras.weights.h5", tmp_path / "ours.weights.h5", layout="keras")
    models[1].load_weights(tmp_path / "ours.weights.h5")
    kept, loaded = ([np.asarray(v.numpy()) for v in model.optimizer.variables] for model in models)
    assert all(map(np.array_equal, kept, loaded))
    assert len(kept) > 20


def test_groups_and_bfloat16_are_marked_as_keras_marks_them(tmp_path: Path):
    save_file(STATE, tmp_path / "x.weights.h5", layout="keras")
    with h5py.File(tmp_path / "x.weights.h5") as opened:
        file: Any = opened
        names = {
            path: file[path].attrs.get("name") for path in ("layers/dense/vars", "layers/dense_1/cell/vars", "vars")
        }
        assert names == {"layers/dense/vars": "dense", "layers/dense_1/cell/vars": "cell", "vars": "model"}
        assert "name" not in file["layers/dense"].attrs
        assert file["layers/dense/vars/1"].attrs["dtype"] == "bfloat16"
        assert isinstance(file["layers/dense/vars/1"].attrs["dtype"], str)
        assert file["layers/dense/vars/0"][:].tolist() == STATE["layers.dense.vars.0"].tolist()


def test_a_model_without_variables_of_its_own_has_an_empty_group_for_them(tmp_path: Path):
    save_file({"layers.dense.vars.0": np.ones(2)}, tmp_path / "x.weights.h5", layout="keras")
    with h5py.File(tmp_path / "x.weights.h5") as opened:  # Keras 3.3 looks for it without asking whether it is there
        file: Any = opened
        assert list(file["vars"]) == []
        assert file["vars"].attrs["name"] == "model"
    assert list(load_file(tmp_path / "x.weights.h5")) == ["layers.dense.vars.0"]


def test_the_file_is_verified_and_repaired_as_any_of_ours(tmp_path: Path):
    path = tmp_path / "x.weights.h5"
    save_file(STATE, path, {"epoch": "7"}, layout="keras")
    save_file(STATE, tmp_path / "x.safetensors")
    assert verify(path).intact
    assert fingerprint(path) == fingerprint(tmp_path / "x.safetensors")
    loaded = load_file(path, mmap=True)
    assert list(loaded) == list(STATE)
    assert all(loaded[name].tobytes() == STATE[name].tobytes() for name in STATE)
    content = bytearray(path.read_bytes())
    content[content.index(STATE["layers.dense.vars.0"].tobytes()) + 8] ^= 1
    path.write_bytes(content)
    found = repair(path, tmp_path / "repaired.h5")
    assert set(found.saved) == set(STATE) - {"layers.dense.vars.0"}


def test_an_edit_in_place_keeps_the_layout(tmp_path: Path):
    path = tmp_path / "x.weights.h5"
    save_file(STATE, path, layout="keras")
    edit(path, metadata={"epoch": "8"})
    save_file(STATE, tmp_path / "y.weights.h5", {"epoch": "8"}, layout="keras")
    assert path.read_bytes() == (tmp_path / "y.weights.h5").read_bytes()
    with pytest.raises(StateError, match=r"have another form\.\n  'fc'\n"):
        edit(path, rename={"vars.0": "fc"})
    edit(path, rename={"vars.0": "fc"}, to=tmp_path / "z.h5")
    save_file(STATE, tmp_path / "plain.h5")
    edit(tmp_path / "plain.h5", rename={"vars.0": "fc"})
    assert (tmp_path / "plain.h5").read_bytes() != (tmp_path / "z.h5").read_bytes()  # the metadata
    assert diff(tmp_path / "plain.h5", tmp_path / "z.h5").same


def test_tied_names_are_hard_links(tmp_path: Path):
    weight = np.ones((2, 2))
    save_file({"a.vars.0": weight, "b.vars.0": weight}, tmp_path / "x.weights.h5", layout="keras")
    with h5py.File(tmp_path / "x.weights.h5") as file:
        assert file["a/vars/0"] == file["b/vars/0"]
    loaded = load_file(tmp_path / "x.weights.h5")
    assert loaded["a.vars.0"] is loaded["b.vars.0"]


@pytest.mark.parametrize(
    "name", ["fc1.weight", "0", "a.vars", "a.vars.0.b", "a..vars.0", "a%.vars.0", "a/b.vars.0", ".vars.0"]
)
def test_a_name_that_keras_would_not_find_is_an_error_and_keeps_the_old_file(tmp_path: Path, name: str):
    path = tmp_path / "x.weights.h5"
    save_file(STATE, path, layout="keras")
    before = path.read_bytes()
    with pytest.raises(StateError, match=rf"have another form\.\n  {re.escape(repr(name))}\nRename them"):
        save_file(STATE | {name: np.ones(2)}, path, layout="keras")
    assert path.read_bytes() == before


def test_many_names_of_another_form_are_counted(tmp_path: Path):
    with pytest.raises(StateError, match=r"'w9'\n  and 15 more\nRename them with a mapping"):
        save_file({f"w{n}": np.ones(1) for n in range(25)}, tmp_path / "x.weights.h5", layout="keras")


def test_a_tensor_inside_another_one_is_an_error(tmp_path: Path):
    with pytest.raises(StateError, match=r"'vars\.0\.vars\.1'"):
        save_file({"vars.0": np.ones(2), "vars.0.vars.1": np.ones(2)}, tmp_path / "x.weights.h5", layout="keras")


def test_a_view_is_an_error(tmp_path: Path):
    weight = np.arange(6.0).reshape(2, 3)
    with pytest.raises(StateError, match=r"Keras knows no views of other tensors\.\n  'b\.vars\.0'\n"):
        save_file({"a.vars.0": weight, "b.vars.0": weight.T}, tmp_path / "x.weights.h5", layout="keras")


@pytest.mark.parametrize(
    ("file", "layout", "text"),
    [
        ("x.h5", "keras", r"x\.h5 cannot have the layout 'keras'\. Give a path ending in \.weights\.h5\."),
        ("x.safetensors", "keras", r"cannot have the layout 'keras'\. Give a path ending in \.weights\.h5\."),
        ("x.weights.h5", "torch", r"'torch' is not a layout\. The known ones are 'keras'\."),
    ],
)
def test_a_layout_belongs_to_one_suffix(tmp_path: Path, file: str, layout: str, text: str):
    with pytest.raises(ArgumentError, match=text):
        save_file(STATE, tmp_path / file, layout=layout)
    assert not list(tmp_path.iterdir())


def test_an_open_file_takes_the_layout_with_its_format(tmp_path: Path):
    with (tmp_path / "x.weights.h5").open("wb") as file:
        with pytest.raises(ArgumentError, match=r"the open file cannot have the layout 'keras'\. Give format='hdf5'\."):
            save_file(STATE, file, layout="keras")
        save_file(STATE, file, format="hdf5", layout="keras")
    save_file(STATE, tmp_path / "y.weights.h5", layout="keras")
    assert (tmp_path / "x.weights.h5").read_bytes() == (tmp_path / "y.weights.h5").read_bytes()


def test_a_heap_of_very_many_names_is_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("statezoo.checkpoints.formats.hdf5.structure.heap._MOST_OBJECTS", 100)
    state = {f"layers.layer_{number}.vars.0": np.full(1, number) for number in range(450)}
    save_file(state, tmp_path / "x.weights.h5", layout="keras", durable=False)
    with h5py.File(tmp_path / "x.weights.h5") as opened:
        file: Any = opened
        for number in (0, 98, 99, 100, 101, 449):
            assert file[f"layers/layer_{number}/vars"].attrs["name"] == f"layer_{number}"
            assert file[f"layers/layer_{number}/vars/0"][0] == number

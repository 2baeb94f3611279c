"""`.keras` archives: the weights inside load like a `.weights.h5` file, without Keras."""

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from keras_models import KINDS, bits_of, randomize

from statezoo.checkpoints import (
    CheckpointError,
    CorruptError,
    FormatError,
    ReadError,
    convert,
    diff,
    fingerprint,
    inspect,
    load_file,
    load_model,
    open_checkpoint,
    read_metadata,
    repair,
    save_file,
    verify,
)
from statezoo.core import Linear

METADATA = {"keras_version": "3.15.1", "date_saved": "2026-11-28@14:25:45"}
MEMBERS = {"metadata.json": json.dumps(METADATA).encode(), "config.json": b"{}"}
METHODS = pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
STATE: dict[str, Any] = {
    "layers.dense.vars.0": np.arange(600.0).reshape(20, 30),
    "layers.dense.vars.1": np.ones(3, ml_dtypes.bfloat16),
    "layers.dense_2.vars.0": np.arange(4, dtype="i4"),
    "layers.dense_10.vars.0": np.float32(3),
    "optimizer.vars.0": np.zeros((0, 3)),
}


def weights(path: Path) -> bytes:
    """Return an HDF5 file as Keras writes it."""
    with h5py.File(path.with_suffix(".inner"), "w") as file:
        for name, values in STATE.items():
            dataset = file.create_dataset(name.replace(".", "/"), data=values)
            if dataset.dtype.kind == "V":
                dataset.attrs["dtype"] = "bfloat16"
    return path.with_suffix(".inner").read_bytes()


def archived(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.keras"
    return archived(path, MEMBERS | {"model.weights.h5": weights(path)})


def assert_is_state(state: Any) -> None:
    assert list(state) == list(STATE)
    for name, values in STATE.items():
        assert np.asarray(state[name]).tobytes() == values.tobytes()
        assert (state[name].dtype, state[name].shape) == (values.dtype, values.shape)


@METHODS
@pytest.mark.parametrize("mmap", [False, True, "c"])
def test_the_weights_load_with_the_names_that_a_weights_file_gives(tmp_path: Path, method: int, mmap: Any):
    path = tmp_path / "é model.keras"
    archived(path, MEMBERS | {"model.weights.h5": weights(path)}, method)
    assert_is_state(load_file(path, mmap=mmap))
    assert_is_state(load_file(path.read_bytes(), mmap=mmap))
    with path.open("rb") as file:
        assert_is_state(load_file(file))


def test_packed_datasets_in_an_archive_are_read(tmp_path: Path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("layers/dense/vars/0", data=np.arange(1000.0), compression="gzip", chunks=(100,))
        file.create_dataset("layers/dense/vars/1", data=np.arange(5.0))
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        members = MEMBERS | {"model.weights.h5": (tmp_path / "x.h5").read_bytes()}
        state = load_file(archived(tmp_path / "x.keras", members, method), mmap=True)
        assert state["layers.dense.vars.0"].tolist() == list(range(1000))
        assert state["layers.dense.vars.1"].tolist() == list(range(5))


def test_stored_weights_are_mapped_where_they_are_in_the_archive(path: Path):
    array = load_file(path, mmap=True)["layers.dense.vars.0"]
    assert not array.flags.owndata
    assert not array.flags.writeable


@METHODS
def test_every_tool_works(tmp_path: Path, path: Path, method: int):
    path = archived(path, MEMBERS | {"model.weights.h5": weights(path)}, method)
    assert inspect(path).format == "keras"
    assert read_metadata(path) == METADATA
    assert verify(path).intact
    assert verify(path).checked
    assert fingerprint(path) == fingerprint(STATE)
    assert diff(path, STATE).same
    with open_checkpoint(path) as checkpoint:
        assert checkpoint["layers.dense.vars.0"][3:5, ::7].tolist() == STATE["layers.dense.vars.0"][3:5, ::7].tolist()
        assert_is_state(checkpoint)
    for name in ("a.safetensors", "a.h5"):
        convert(path, tmp_path / name)
        assert diff(path, tmp_path / name).same
        assert read_metadata(tmp_path / name) == METADATA
    assert repair(path, tmp_path / "b.h5").complete


def test_a_model_loads_from_an_archive(tmp_path: Path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["weight"], file["bias"] = np.ones((2, 3), "f4"), np.zeros(2, "f4")
    model = Linear(3, 2)
    load_model(model, archived(tmp_path / "x.keras", {"model.weights.h5": (tmp_path / "x.h5").read_bytes()}))
    assert model.weight.data.tolist() == [[1, 1, 1], [1, 1, 1]]


def test_an_archive_of_our_own_weights_keeps_its_digests(tmp_path: Path):
    save_file(STATE, tmp_path / "x.weights.h5", {"epoch": "7"}, layout="keras")
    content = (tmp_path / "x.weights.h5").read_bytes()
    path = archived(tmp_path / "x.keras", MEMBERS | {"model.weights.h5": content})
    assert verify(path).checked
    assert fingerprint(path) == fingerprint(tmp_path / "x.weights.h5")


def test_saving_says_how_to_write_such_a_file(tmp_path: Path):
    with pytest.raises(FormatError, match=r"is keras, which is read but not written\. Save to .* call its save\("):
        save_file(STATE, tmp_path / "x.keras")
    assert not list(tmp_path.iterdir())


def test_another_suffix_is_recognised(path: Path):
    for suffix in (".safetensors", ".h5", ".zip"):
        other = path.rename(path.with_suffix(suffix))
        with pytest.raises(
            FormatError, match=r"It looks like a file in the keras format\. Rename it to end in \.keras\."
        ):
            load_file(other)
        path = other
    save_file(STATE, path.with_name("x.h5"))
    with pytest.raises(FormatError, match=r"It looks like a file in the hdf5 format\. Rename it to end in \.h5\."):
        load_file(path.with_name("x.h5").rename(path.with_name("x.keras")))


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({}, r"is not a valid Keras file: it has no model\.weights\.h5"),
        (MEMBERS, r"is not a valid Keras file: it has no model\.weights\.h5"),
        ({"model.weights.npz": b"PK"}, r"weights as a pickle .* load it with .*keras\.saving\.load_model"),
        ({"model.weights.h5": b""}, r"model\.weights\.h5 in .*x\.keras is not a valid HDF5 file"),
        ({"model.weights.h5": b"\x89HDF\r\n\x1a\n" + bytes(100)}, r"model\.weights\.h5 in .* is not a valid HDF5 file"),
    ],
)
@METHODS
def test_an_archive_without_weights_is_an_error(tmp_path: Path, members: dict[str, bytes], text: str, method: int):
    path = archived(tmp_path / "x.keras", members, method)
    with pytest.raises(FormatError, match=f"(?i){text}"):
        load_file(path)


@pytest.mark.parametrize(
    "metadata", [b"", b"[]", b"{", b'{"a": 1, "b": "\\u001b[31m"}', b"[" * 9999, b'{"x": "' + b"y" * (2 << 20) + b'"}']
)
def test_metadata_that_are_not_texts_are_left_out(tmp_path: Path, metadata: bytes):
    path = tmp_path / "x.keras"
    archived(path, {"metadata.json": metadata, "model.weights.h5": weights(path)})
    assert read_metadata(path) == {}


def test_large_weights_that_are_compressed_are_unpacked_to_a_file(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("statezoo.checkpoints.formats.keras._MOST_MEMORY_BYTES", 0)
    archived(path, MEMBERS | {"model.weights.h5": weights(path)}, zipfile.ZIP_DEFLATED)
    assert_is_state(load_file(path))
    monkeypatch.setattr("tempfile.tempdir", str(path))
    with pytest.raises(ReadError, match=r"could not be unpacked to a temporary file in .*Free some space there"):
        load_file(path)


def test_weights_that_would_expand_too_far_are_refused(tmp_path: Path):
    path = archived(tmp_path / "x.keras", {"model.weights.h5": bytes(64 << 20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(CorruptError, match=r"would take 67,108,864 bytes, far more than the file has"):
        load_file(path)


@METHODS
def test_a_flipped_byte_anywhere_is_an_error_or_changes_no_value(tmp_path: Path, method: int):
    path = tmp_path / "x.keras"
    archived(path, MEMBERS | {"model.weights.h5": weights(path)}, method)
    content = path.read_bytes()
    generator, wrong = np.random.default_rng(0), []
    for place in generator.choice(len(content), 60, replace=False).tolist():
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << generator.integers(8)]) + content[place + 1 :])
        try:
            state = load_file(path)
        except CheckpointError:
            continue
        if any(name not in state or state[name].tobytes() != STATE[name].tobytes() for name in STATE):
            wrong.append(place)
    assert not wrong


@pytest.mark.keras
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation")
@pytest.mark.parametrize("kind", ["sequential", "functional", "shared layer", "nested", "bfloat16", "convolutional"])
def test_models_that_keras_saves_are_read(tmp_path: Path, kind: str):
    model = KINDS[kind]()
    randomize(model, 1)
    model.compile("adam", "mse")
    model.save(tmp_path / "x.keras")
    model.save_weights(tmp_path / "x.weights.h5")
    state = load_file(tmp_path / "x.keras")
    assert diff(tmp_path / "x.keras", tmp_path / "x.weights.h5").same
    assert {values.tobytes() for name, values in state.items() if name.startswith("layers.")} >= set(bits_of(model))
    assert "optimizer.vars.1" in state
    assert read_metadata(tmp_path / "x.keras")["keras_version"].startswith("3.")

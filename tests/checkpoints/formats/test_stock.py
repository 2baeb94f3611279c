"""Stock readers open our files, and we open files of stock writers: safetensors, PyTorch, h5py, h5ls, Keras."""

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from statezoo.checkpoints import (
    CorruptError,
    FormatError,
    inspect,
    load_file,
    load_model,
    open_checkpoint,
    read_metadata,
    save_file,
    verify,
)
from statezoo.checkpoints.testing import compare_states


def tied_state() -> dict[str, np.ndarray]:
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    return {
        "embedding.weight": weight,
        "norm.bias": np.arange(3, dtype=np.float16).T,
        "mask": np.array([True, False]),
        "half": np.ones(3, ml_dtypes.bfloat16),
        "head.weight": weight,
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }


# --- they read ours


def test_stock_safetensors_numpy_reads_our_file(tmp_path: Path):
    state = tied_state()
    save_file(state, tmp_path / "x.safetensors", {"epoch": "7"})
    seen = safetensors.numpy.load_file(tmp_path / "x.safetensors")
    del state["head.weight"]
    assert list(compare_states(state, {name: seen[name] for name in state})) == []
    assert seen.keys() == state.keys()
    with safetensors.safe_open(tmp_path / "x.safetensors", "numpy") as file:
        metadata = file.metadata()
    assert metadata["epoch"] == "7"
    assert metadata["head.weight"] == "embedding.weight"


def test_stock_safetensors_reads_every_kind_of_state_that_we_write(tmp_path: Path):
    for state in (
        {},
        {"x": np.zeros(0)},
        {"": np.ones(1)},
        {"x": np.array(1)},
        {"é\0/": np.ones(3, "u1"), "b": np.ones(2)},
    ):
        save_file(state, tmp_path / "x.safetensors")
        assert list(safetensors.numpy.load_file(tmp_path / "x.safetensors")) == sorted(state)


@pytest.mark.torch
def test_stock_safetensors_torch_reads_our_file_into_a_tied_model(tmp_path: Path):
    import safetensors.torch
    import torch

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(3, 4)
            self.head = torch.nn.Linear(4, 3, bias=False)
            self.head.weight = self.embedding.weight

    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    save_file({"embedding.weight": weight, "head.weight": weight}, tmp_path / "x.safetensors")
    assert safetensors.torch.load_file(tmp_path / "x.safetensors")["embedding.weight"].tolist() == weight.tolist()
    model = Tied()
    missing, unexpected = safetensors.torch.load_model(model, tmp_path / "x.safetensors")
    assert (list(missing), list(unexpected)) == ([], [])
    assert model.head.weight.tolist() == weight.tolist()


@pytest.mark.torch
def test_stock_safetensors_torch_reads_our_bfloat16_and_float8(tmp_path: Path):
    import safetensors.torch
    import torch

    save_file(
        {"b": np.array([1.5], ml_dtypes.bfloat16), "f": np.array([2], ml_dtypes.float8_e4m3fn)},
        tmp_path / "x.safetensors",
    )
    seen = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert (seen["b"].dtype, seen["b"].item()) == (torch.bfloat16, 1.5)
    assert (seen["f"].dtype, seen["f"].float().item()) == (torch.float8_e4m3fn, 2)


def test_stock_h5py_reads_tied_names_in_our_file_as_one_dataset(tmp_path: Path):
    state = tied_state()
    save_file(state, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        found: dict[str, Any] = {}
        file.visititems(lambda name, thing: found.update({name: thing}) if isinstance(thing, h5py.Dataset) else None)
        assert file["embedding/weight"] == file["head/weight"]
        assert len(found) == len(state)  # the tied tensor once, plus the manifest
        for name in ("embedding/weight", "norm/bias", "mask", "fortran"):
            assert np.array_equal(found.get(name, file[name])[()], state[name.replace("/", ".")])
            assert found.get(name, file[name]).dtype == state[name.replace("/", ".")].dtype
        assert found["half"].attrs["dtype"] == b"bfloat16"
        assert found["half"][()].view(ml_dtypes.bfloat16).tolist() == [1, 1, 1]


@pytest.mark.skipif(not shutil.which("h5ls"), reason="h5ls (hdf5-tools) is not installed")
def test_stock_h5ls_shows_tied_names_as_the_same_object(tmp_path: Path):
    save_file(tied_state(), tmp_path / "x.h5")
    shown = subprocess.run(["h5ls", "-r", tmp_path / "x.h5"], capture_output=True, text=True, check=True).stdout
    lines = {line.split()[0]: line for line in shown.splitlines()}
    assert lines["/head/weight"].endswith("Dataset, same as /embedding/weight")


# --- we read theirs


def test_we_read_a_file_written_by_stock_safetensors_numpy(tmp_path: Path):
    state = {"b": np.arange(3), "a": np.ones((2, 2), np.float16), "none": np.zeros((0, 2)), "s": np.array(2.5)}
    safetensors.numpy.save_file(state, tmp_path / "x.safetensors", {"format": "np"})
    loaded = load_file(tmp_path / "x.safetensors")
    assert list(compare_states(state, {name: loaded[name] for name in state})) == []
    assert read_metadata(tmp_path / "x.safetensors") == {"format": "np"}
    assert inspect(tmp_path / "x.safetensors").fingerprint is None


@pytest.mark.parametrize("metadata", [{}, {"format": "np", "note": "é"}], ids=str)
def test_every_safetensors_file_says_a_format_that_other_libraries_accept(tmp_path: Path, metadata: dict[str, str]):
    path = tmp_path / "model.safetensors"
    for max_shard_size in (None, 16):
        save_file({"a": np.ones(2), "b": np.ones(2)}, path, metadata, max_shard_size=max_shard_size)
        for file in tmp_path.glob("*.safetensors"):
            with safetensors.safe_open(file, "np") as opened:  # pyright: ignore[reportPrivateImportUsage]
                assert opened.metadata()["format"] == (metadata.get("format", "pt") if file == path else "pt")


def test_a_file_rewritten_with_its_metadata_by_stock_safetensors_loads_and_is_checked(tmp_path: Path):
    path, weight = tmp_path / "x.safetensors", np.arange(40_000.0)
    save_file({"a": weight, "tied": weight, "z": np.ones(2)}, path, {"epoch": "7"})
    before = path.read_bytes()
    with safetensors.safe_open(path, "np") as file:  # pyright: ignore[reportPrivateImportUsage]
        metadata = file.metadata()
    for format in ({}, {"format": "mlx"}):
        safetensors.numpy.save_file({"a": weight, "z": np.ones(2)}, path, metadata | format)
        assert path.read_bytes() != before
        loaded = load_file(path)
        assert loaded["tied"] is loaded["a"]
        assert read_metadata(path) == {"epoch": "7"}
        assert verify(path).checked
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        for read in (load_file, lambda content: open_checkpoint(content)["a"][-9:]):
            with pytest.raises(CorruptError, match="'a'"):
                read(bytes(content))
    for changed in ({"epoch": "8"}, {"more": "x"}, {"tied": "z"}):
        safetensors.numpy.save_file({"a": weight, "z": np.ones(2)}, path, metadata | changed)
        with pytest.raises(CorruptError, match="its manifest is not what was written"):
            load_file(path)


@pytest.mark.torch
def test_our_file_reordered_by_stock_safetensors_is_an_error_with_advice(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    save_file({"b": np.ones(2), "a": np.ones(2)}, path)
    with safetensors.safe_open(path, "numpy") as file:  # pyright: ignore[reportPrivateImportUsage]
        metadata = file.metadata()
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path, metadata)
    with pytest.raises(CorruptError, match=r"Use another copy of the file, or save what is intact with repair\.$"):
        load_file(path)
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path)
    assert list(load_file(path)) == ["a", "b"]


@pytest.mark.torch
def test_we_read_a_tied_model_saved_by_stock_safetensors_torch_as_tied(tmp_path: Path):
    import safetensors.torch
    import torch

    from statezoo import core

    class Theirs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(3, 4)
            self.head = torch.nn.Linear(4, 3, bias=False)
            self.head.weight = self.embedding.weight

    class Ours(core.Module):
        def __init__(self, tied: bool = True) -> None:
            super().__init__()
            self.embedding = core.Embedding(3, 4)
            self.head = core.Linear(4, 3, bias=False)
            if tied:
                self.head.weight = self.embedding.weight

    theirs = Theirs()
    safetensors.torch.save_model(theirs, str(tmp_path / "x.safetensors"), {"note": "x"})
    loaded = load_file(tmp_path / "x.safetensors")
    assert loaded["head.weight"] is loaded["embedding.weight"]
    assert read_metadata(tmp_path / "x.safetensors")["note"] == "x"
    model = Ours()
    assert load_model(model, tmp_path / "x.safetensors") == ([], [])
    assert model.head.weight.data.tolist() == theirs.head.weight.tolist()
    untied = Ours(tied=False)
    load_model(untied, tmp_path / "x.safetensors", ties="restore")
    assert untied.head.weight is untied.embedding.weight


@pytest.mark.parametrize("max_shard_size", [None, 60])
def test_a_view_does_not_look_like_a_tie_without_the_manifest(tmp_path: Path, max_shard_size: int | None):
    path = tmp_path / "model.safetensors"
    weight = np.arange(12.0).reshape(3, 4)
    state = {"a": weight, "same": weight, "b": weight.T, "flat": weight.reshape(-1), "c": np.ones(3)}
    save_file(state, path, max_shard_size=max_shard_size)
    if max_shard_size is None:
        with safetensors.safe_open(path, "np") as file:
            strings = file.metadata()
    else:
        strings = json.loads(path.with_name(f"{path.name}.index.json").read_text())["metadata"]
    assert {key: value for key, value in strings.items() if key in state} == {"same": "a"}


def test_a_file_that_lost_its_manifest_loads_no_wrong_values(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    weight = np.arange(9.0).reshape(3, 3)
    save_file({"a": weight, "same": weight, "b": weight.T}, path)
    with safetensors.safe_open(path, "np") as file:
        strings = file.metadata()
    del strings["statezoo"]
    safetensors.numpy.save_file({"a": weight}, path, strings)
    loaded = load_file(path)
    assert list(loaded) == ["a", "same"]
    assert loaded["same"] is loaded["a"]


@pytest.mark.torch
def test_we_load_a_transposed_view_from_stock_safetensors_torch_into_a_model_that_shares_it(tmp_path: Path):
    import safetensors.torch
    import torch

    from statezoo import core

    class Theirs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.Linear(4, 3, bias=False)
            self.decoder = torch.nn.Linear(3, 4, bias=False)
            self.decoder.weight = torch.nn.Parameter(self.encoder.weight.T)

    class Ours(core.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = core.Linear(4, 3, bias=False)
            self.decoder = core.Linear(3, 4, bias=False)
            self.decoder.weight = core.Parameter(self.encoder.weight.T)

    # What save_model would write for it: the view as a plain name.
    weight = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    safetensors.torch.save_file(
        {"encoder.weight": weight}, tmp_path / "x.safetensors", {"decoder.weight": "encoder.weight"}
    )
    model = Ours()
    assert load_model(model, tmp_path / "x.safetensors") == ([], [])
    assert model.decoder.weight.data.tolist() == weight.T.tolist()


def test_we_read_every_valid_header_of_another_library(tmp_path: Path):
    header = b'{"x":{"shape":[2],"dtype":"U8","data_offsets":[1,3],"more":{"y":[1]}},"__metadata__":null,'
    header += b'"\\u00e9":{"dtype":"U8","shape":[1,1],"data_offsets":[0,1]}}\n  '
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\1\2\3")
    loaded = load_file(tmp_path / "x.safetensors")
    assert {name: array.tolist() for name, array in loaded.items()} == {"x": [2, 3], "é": [[1]]}


def test_we_read_every_kind_of_array_in_a_plain_h5py_file(tmp_path: Path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["z"] = np.arange(3, dtype=">i4")
        file["a/b/c"] = np.arange(6.0).reshape(2, 3)
        file["scalar"] = 2.5
        file["flags"] = np.array([True, False])
        file["complex"] = np.array([1j])
        file["empty"] = np.zeros((0, 2))
        file.create_dataset(
            "packed", data=np.arange(1000), chunks=(100,), compression="gzip", shuffle=True, fletcher32=True
        )
        file.create_dataset("lzf", data=np.ones((10, 10)), compression="lzf")
        file.create_dataset("unwritten", shape=(3,), fillvalue=7, dtype="i2")
        file["tied"] = file["a/b/c"]
        file["z"].attrs["unit"] = "m"
        file.create_group("empty group")
        file.attrs["note"] = "x"
    loaded = load_file(tmp_path / "x.h5")
    expected = {
        "a.b.c": np.arange(6.0).reshape(2, 3),
        "complex": np.array([1j]),
        "empty": np.zeros((0, 2)),
        "flags": np.array([True, False]),
        "lzf": np.ones((10, 10)),
        "packed": np.arange(1000),
        "scalar": np.array(2.5),
        "unwritten": np.full(3, 7, "i2"),
        "z": np.arange(3, dtype="i4"),
        "tied": None,
    }
    expected["tied"] = expected["a.b.c"]
    assert list(compare_states(expected, loaded)) == []
    assert loaded["tied"] is loaded["a.b.c"]


def test_we_read_a_plain_h5py_file_in_creation_order_if_it_is_recorded(tmp_path: Path):
    with h5py.File(tmp_path / "x.h5", "w", track_order=True) as file:
        for name in "zay":
            file[name] = np.ones(1)
    assert list(load_file(tmp_path / "x.h5")) == ["z", "a", "y"]


@pytest.mark.parametrize("libver", ["earliest", "v108", "v110", "v114", "latest"])
def test_we_read_plain_h5py_files_of_every_version(tmp_path: Path, libver: str):
    with h5py.File(tmp_path / "x.h5", "w", libver=libver, userblock_size=512) as file:
        for number in range(20):
            file[f"group/{number}"] = np.full(3, number)
    loaded = load_file(tmp_path / "x.h5")
    assert {name: array.tolist() for name, array in loaded.items()} == {f"group.{n}": [n] * 3 for n in range(20)}


@pytest.mark.parametrize("block_bytes", [0, 512, 1024, 4096])
def test_we_read_hdf5_bytes_with_a_user_block_of_any_size(tmp_path: Path, block_bytes: int):
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=block_bytes) as file:
        file["a"] = np.arange(3)
    content = (tmp_path / "x.h5").read_bytes()
    assert load_file(content)["a"].tolist() == [0, 1, 2]
    assert load_file(b"#!" + content[2:] if block_bytes else content)["a"].tolist() == [0, 1, 2]


def test_safetensors_bytes_whose_tensors_look_like_hdf5_are_read_as_safetensors():
    buffer = io.BytesIO()
    signature = np.frombuffer(b"\x89HDF\r\n\x1a\n", np.uint8)
    save_file({"a": np.tile(signature, 512)}, buffer)
    assert np.array_equal(load_file(buffer.getvalue())["a"][:8], signature)


def test_two_datasets_with_one_name_are_an_error_that_names_both(tmp_path: Path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a.b"], file["a/b"] = np.ones(1), np.ones(1)
    with pytest.raises(FormatError, match=r"'/a.b' and '/a/b'|'/a/b' and '/a.b'") as caught:
        load_file(tmp_path / "x.h5")
    assert "'a.b'" in str(caught.value)


def test_a_dataset_that_another_program_added_to_our_file_is_detected(tmp_path: Path):
    save_file({"a": np.ones(2)}, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["new"] = np.ones(1)
    with pytest.raises(FormatError, match=r"changed by another program.*'new'"):
        load_file(tmp_path / "x.h5")


def relink(file: h5py.File, name: str, target: str) -> None:
    del file[name]
    file[name] = file[target]


LINK_CHANGES: dict[str, Callable[[h5py.File], Any]] = {
    "a dataset deleted": lambda file: file.pop("fc1/bias"),
    "a dataset renamed": lambda file: file.move("fc1/bias", "c"),
    "a tie deleted": lambda file: file.pop("tied/weight"),
    "a tie made": lambda file: file.update(new=file["fc1/bias"]),
    "a tie to another": lambda file: relink(file, "tied/weight", "fc1/bias"),
}


@pytest.mark.parametrize("kind", LINK_CHANGES)
def test_a_link_that_another_program_changed_in_our_h5_file_is_detected(tmp_path: Path, kind: str):
    target = tmp_path / "x.h5"
    target.write_bytes((Path(__file__).parent / "golden" / "version2.h5").read_bytes())
    with h5py.File(target, "a") as file:
        LINK_CHANGES[kind](file)
    with pytest.raises(CorruptError, match="was changed by another program"):
        load_file(target)


KERAS = """
import sys, keras, numpy
for dtype in ("float32", "bfloat16"):
    keras.config.set_dtype_policy(dtype)
    shared = keras.layers.Dense(4, name="shared")
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.Dense(2)(shared(keras.layers.BatchNormalization()(shared(x)))))
    model.save_weights(sys.argv[1] + dtype + ".weights.h5")
    weights = [keras.ops.convert_to_numpy(weight.value).astype("float32") for weight in model.weights]
    numpy.savez(sys.argv[1] + dtype + ".npz", *weights)
"""


@pytest.mark.keras
@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("keras"), reason="Keras is not installed")
def test_we_read_keras_weights_as_a_flat_dict(tmp_path: Path):
    environment = os.environ | {"KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", KERAS, f"{tmp_path}/"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for dtype in ("float32", "bfloat16"):
        loaded = load_file(tmp_path / f"{dtype}.weights.h5")
        assert any(name.endswith(".vars.0") for name in loaded)
        assert {str(array.dtype) for array in loaded.values()} == {dtype}
        with np.load(tmp_path / f"{dtype}.npz") as expected:
            assert len(expected) == len(loaded)
            for array in expected.values():
                assert any(np.array_equal(array, mine.astype("f4")) for mine in loaded.values())

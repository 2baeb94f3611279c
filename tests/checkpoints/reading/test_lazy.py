"""An open checkpoint has names, shapes and dtypes from the header, and reads only the requested parts of tensors."""

import io
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from statezoo.checkpoints import (
    ClosedError,
    CorruptError,
    FormatError,
    LazyTensor,
    MissingFileError,
    UnknownTensorError,
    UnsupportedTypeError,
    load_file,
    open_checkpoint,
    save_file,
)
from statezoo.checkpoints.files import open_header
from statezoo.checkpoints.state.dtypes import ML_DTYPES, NUMPY, numpy_dtype
from statezoo.checkpoints.testing import compare_states


def a_state() -> dict[str, Any]:
    weight = np.arange(60, dtype=np.float32).reshape(5, 4, 3)
    base = np.arange(9.0)
    turned = np.arange(6, dtype=np.int64).reshape(2, 3).T
    return {
        "fc.weight": weight,
        "tied": weight,
        "view": weight[1:, ::2],
        "a": base[:5],
        "b": base[3:],
        "turned": turned,
        "turned.row": turned[0],
        "_extra_state": {"step": 7},
        "half": np.ones((2, 3), ml_dtypes.bfloat16),
        "scalar": np.array(3.5),
        "empty": np.zeros((0, 4), np.int16),
    }


@pytest.mark.parametrize("dtype", [*NUMPY, *ML_DTYPES])
def test_a_slice_of_any_dtype_is_read_with_the_bits_of_the_array(path: Path, dtype: str):
    if path.suffix == ".safetensors" and dtype in {"C128", "F6_E2M3", "F6_E3M2", "F4"}:
        pytest.skip("safetensors does not have this dtype")
    array = np.arange(60).astype(numpy_dtype(dtype)).reshape(3, 4, 5)
    save_file({"whole": array, "view": array[1:, ::2]}, path)
    with open_checkpoint(path) as checkpoint:
        for key in (slice(1, None), (slice(None, None, -2), 1), (0, ..., 3), (2, 1, 4), [0, 2]):
            part = np.asarray(checkpoint["whole"][key])
            assert (part.dtype, part.tobytes()) == (array.dtype, array[key].tobytes())
        assert np.asarray(checkpoint["view"][:, 1]).tobytes() == array[1:, 2].tobytes()


def test_names_shapes_and_dtypes_are_known_without_reading_a_tensor(path: Path):
    state = a_state()
    save_file(state, path, {"epoch": "7"})
    damage_every_tensor(path)
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint) == list(state)
        assert len(checkpoint) == len(state)
        assert "tied" in checkpoint
        assert checkpoint["_extra_state"] == {"step": 7}
        assert checkpoint.metadata == {"epoch": "7"}
        for name, array in state.items():
            if isinstance(array, np.ndarray):
                lazy = checkpoint[name]
                assert (lazy.shape, lazy.dtype, lazy.ndim, lazy.nbytes) == (
                    array.shape,
                    array.dtype,
                    array.ndim,
                    array.nbytes,
                )
        assert checkpoint.ties["tied"] == "fc.weight"
        assert checkpoint.ties["view"] == "fc.weight"
        assert checkpoint.fingerprint is not None
        assert checkpoint.digests["fc.weight"] == checkpoint["fc.weight"].digest


def damage_every_tensor(path: Path) -> None:
    content = bytearray(path.read_bytes())
    with open_header(path) as header:
        opened = header.parts[0].opened
    for name, offset in opened.offsets.items():
        if opened.tensors[name].size_bytes:
            content[offset] ^= 1
    path.write_bytes(content)


def test_each_tensor_reads_as_it_was_saved(path: Path):
    state = a_state()
    save_file(state, path)
    with open_checkpoint(path) as checkpoint:
        for name, array in state.items():
            if isinstance(array, np.ndarray):
                np.testing.assert_array_equal(checkpoint[name][...], array)
                np.testing.assert_array_equal(np.asarray(checkpoint[name]), array)
        assert list(compare_states(state, checkpoint.load())) == []


def test_tied_names_give_the_same_lazy_tensor(path: Path):
    save_file(a_state(), path)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint["tied"] is checkpoint["fc.weight"]


def test_reading_returns_new_memory(path: Path):
    save_file(a_state(), path)
    with open_checkpoint(path) as checkpoint:
        for name in ("fc.weight", "view", "a"):
            part, again = checkpoint[name][1:], checkpoint[name][1:]
            part[...] = 99
            assert not (again == 99).any()


shapes = st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), shape=shapes, suffix=st.sampled_from([".safetensors", ".h5", ".npz"]))
def test_any_index_returns_what_numpy_returns(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, shape: tuple[int, ...], suffix: str
):
    array = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    key = data.draw(st_numpy.basic_indices(shape, allow_newaxis=True))
    target = tmp_path_factory.getbasetemp() / f"sliced{suffix}"
    save_file({"x": array}, target, durable=False)
    with open_checkpoint(target) as checkpoint:
        expected, found = array[key], checkpoint["x"][key]
        assert type(found) is type(expected)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


@settings(max_examples=200, deadline=None)
@given(data=st.data(), suffix=st.sampled_from([".safetensors", ".h5", ".npz"]))
def test_any_index_of_a_view_returns_what_numpy_returns(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, suffix: str
):
    base = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
    if data.draw(st.booleans()):
        base = np.asfortranarray(base)
    view = base.transpose(data.draw(st.permutations(range(3))))
    view = view[data.draw(st_numpy.basic_indices(view.shape, allow_newaxis=True))]
    if data.draw(st.booleans()):
        view = np.broadcast_to(view, (2, *view.shape))
    key = data.draw(st_numpy.basic_indices(view.shape, allow_newaxis=True))
    target = tmp_path_factory.getbasetemp() / f"viewed{suffix}"
    save_file({"base": base, "view": view}, target, durable=False)
    with open_checkpoint(target) as checkpoint:
        expected, found = view[key], checkpoint["view"][key]
        assert type(found) is type(expected)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_a_view_that_repeats_its_elements_is_read_in_little_memory(path: Path):
    element = np.arange(3.0)
    state = {"x": element, "view": np.lib.stride_tricks.as_strided(element, (1 << 40, 3), (0, 8), writeable=False)}
    save_file(state, path)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint["view"][1 << 39 : (1 << 39) + 2, 1:].tolist() == [[1, 2], [1, 2]]
        assert checkpoint["view"][[5, 1 << 39]].tolist() == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("key", [[0, 2], np.array([True, False, True]), (slice(None), [0, 1]), (..., 0), None])
def test_an_index_that_is_not_a_slice_returns_what_numpy_returns(path: Path, key: Any):
    array = np.arange(12).reshape(3, 4)
    save_file({"x": array}, path)
    with open_checkpoint(path) as checkpoint:
        np.testing.assert_array_equal(checkpoint["x"][key], array[key])


@pytest.mark.parametrize("key", [3, -4, (0, 4), (0, 0, 0), "x", 1.5])
def test_an_invalid_index_is_the_error_that_numpy_raises(path: Path, key: Any):
    array = np.arange(12).reshape(3, 4)
    save_file({"x": array}, path)
    with pytest.raises(IndexError) as expected:
        array[key]
    with open_checkpoint(path) as checkpoint, pytest.raises(IndexError) as found:
        checkpoint["x"][key]
    assert str(found.value) == str(expected.value)


def test_a_view_of_a_damaged_tensor_is_an_error(path: Path):
    save_file(a_state(), path)
    damage_every_tensor(path)
    with open_checkpoint(path) as checkpoint, pytest.raises(CorruptError, match=r"'fc\.weight'"):
        checkpoint["view"][0]


def test_reading_after_close_is_an_error_that_says_so(path: Path):
    save_file(a_state(), path)
    with open_checkpoint(path) as checkpoint:
        lazy = checkpoint["a"]
        kept = lazy[:2]
    checkpoint.close()
    assert kept[0] == 0
    with pytest.raises(ClosedError, match=r"is closed. Read within the `with` block, or open it again"):
        lazy[:2]
    with pytest.raises(ClosedError):
        checkpoint.load()
    assert isinstance(ClosedError("x"), ValueError)


def test_an_unknown_name_is_a_key_error_that_suggests_the_closest(path: Path):
    save_file(a_state(), path)
    with open_checkpoint(path) as checkpoint:
        with pytest.raises(UnknownTensorError, match=r"there is no 'fc.wieght' in .*Did you mean 'fc.weight'\?"):
            checkpoint["fc.wieght"]
        with pytest.raises(KeyError):
            checkpoint["something else"]
        assert checkpoint.get("something else") is None


def test_several_threads_read_at_once(path: Path):
    state = {f"{n}": np.full((50, 100), n) for n in range(16)}
    save_file(state, path)
    errors: list[BaseException] = []

    def read(checkpoint: Any, seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            for _ in range(100):
                name, row = str(rng.integers(16)), int(rng.integers(50))
                assert (checkpoint[name][row : row + 3] == int(name)).all()
        except BaseException as error:
            errors.append(error)

    with open_checkpoint(path) as checkpoint:
        threads = [threading.Thread(target=read, args=(checkpoint, seed)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


def test_an_open_checkpoint_keeps_its_values_when_the_file_is_replaced(path: Path):
    save_file({"x": np.zeros(1000)}, path)
    with open_checkpoint(path) as checkpoint:
        save_file({"x": np.ones(10)}, path)
        assert checkpoint["x"].shape == (1000,)
        assert not checkpoint["x"][...].any()


def test_a_file_cut_off_after_it_was_opened_is_an_error(path: Path):
    save_file({"x": np.zeros(1000)}, path)
    with open_checkpoint(path) as checkpoint:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 4000)
        for key in (..., slice(900, 1000)):
            with pytest.raises(CorruptError, match=r"was cut off while it was read"):
                checkpoint["x"][key]


def test_a_compressed_foreign_dataset_is_read_and_sliced(tmp_path: Path):
    array = np.arange(10_000.0).reshape(100, 100)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=array, compression="gzip")
    with open_checkpoint(tmp_path / "x.h5") as checkpoint:
        assert checkpoint.fingerprint is None
        assert checkpoint["x"].digest is None
        np.testing.assert_array_equal(checkpoint["x"][3:5, ::7], array[3:5, ::7])


def test_an_open_checkpoint_can_be_saved_directly(path: Path, tmp_path: Path):
    state = a_state()
    save_file(state, path, {"epoch": "7"})
    for suffix in (".safetensors", ".h5", ".npz"):
        with open_checkpoint(path) as checkpoint:
            save_file(checkpoint, tmp_path / f"copy{suffix}", checkpoint.metadata)
        assert list(compare_states(state, load_file(tmp_path / f"copy{suffix}"))) == []
    assert (tmp_path / f"copy{path.suffix}").read_bytes() == path.read_bytes()
    with open_checkpoint(path) as checkpoint:
        save_file(checkpoint, path, checkpoint.metadata)
    assert (tmp_path / f"copy{path.suffix}").read_bytes() == path.read_bytes()


def test_part_of_an_open_checkpoint_can_be_saved(path: Path, tmp_path: Path):
    state = a_state()
    save_file(state, path)
    with open_checkpoint(path) as checkpoint:
        save_file({name: checkpoint[name] for name in ("tied", "fc.weight", "view")}, tmp_path / f"some{path.suffix}")
    loaded = load_file(tmp_path / f"some{path.suffix}")
    assert loaded["tied"] is loaded["fc.weight"]
    np.testing.assert_array_equal(loaded["view"], state["view"])


def test_checkpoints_and_tensors_have_an_informative_repr(path: Path):
    save_file(a_state(), path)
    with open_checkpoint(path) as checkpoint:
        assert repr(checkpoint) == f"<Checkpoint {path}: {checkpoint.format}, 11 names>"
        assert repr(checkpoint["fc.weight"]) == "<LazyTensor 'fc.weight': float32 (5, 4, 3)>"
        assert isinstance(checkpoint["fc.weight"], LazyTensor)
        assert len(checkpoint["fc.weight"]) == 5
        with pytest.raises(TypeError, match="without axes has no length"):
            len(checkpoint["scalar"])


def test_bytes_and_open_files_are_read_like_files(path: Path):
    state = a_state()
    save_file(state, path, {"epoch": "7"})
    content = path.read_bytes()
    with path.open("rb") as file:
        assert list(compare_states(state, load_file(file))) == []
    for source in (content, bytearray(content), memoryview(content), io.BytesIO(content)):
        assert list(compare_states(state, load_file(source))) == []
    assert list(compare_states(state, load_file(content, mmap=True))) == []
    with open_checkpoint(content) as checkpoint:
        assert checkpoint["fc.weight"][1, 2, 0] == 18


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("where", ["file", "index", "folder"])
def test_an_open_checkpoint_pickles_as_its_path_and_opens_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, verify: bool
):
    name = {"file": "model.safetensors", "index": "model.safetensors.index.json", "folder": "."}[where]
    state = {"a": np.arange(9.0), "b": np.ones(3)}
    save_file(state, tmp_path / "model.safetensors", max_shard_size=None if where == "file" else 72)
    monkeypatch.chdir(tmp_path)
    with open_checkpoint(name, verify=verify) as checkpoint:
        text = pickle.dumps(checkpoint)
    monkeypatch.chdir("/")  # a worker may start elsewhere
    with pickle.loads(text) as again:
        assert list(compare_states(state, dict(again))) == []
        assert again._reader.verify is verify


READ_IN_WORKERS = """
import multiprocessing, sys
from statezoo.checkpoints import open_checkpoint

def total(checkpoint):
    return float(checkpoint["a"][...].sum())

if __name__ == "__main__":
    with open_checkpoint(sys.argv[1]) as checkpoint, multiprocessing.get_context("spawn").Pool(2) as pool:
        print(pool.map(total, [checkpoint, checkpoint]))
"""


def test_spawned_workers_read_an_open_checkpoint(tmp_path: Path, path: Path):
    save_file({"a": np.arange(9.0)}, path)
    script = tmp_path / "script.py"
    script.write_text(READ_IN_WORKERS)
    result = subprocess.run([sys.executable, str(script), str(path)], capture_output=True, text=True)
    assert result.stdout == "[36.0, 36.0]\n", result.stderr


@pytest.mark.parametrize("kind", ["bytes", "open file"])
def test_a_checkpoint_without_a_path_cannot_be_pickled_and_says_why(path: Path, kind: str):
    save_file({"a": np.ones(2)}, path)
    content = path.read_bytes()
    checkpoint = open_checkpoint(content if kind == "bytes" else io.BytesIO(content))
    with pytest.raises(UnsupportedTypeError, match=r"cannot be pickled: it was not opened by a path\."):
        pickle.dumps(checkpoint)
    checkpoint.close()


@pytest.mark.parametrize("name", ["notafile", "notafile.txt", "absent/notafile"])
def test_a_missing_path_with_an_unknown_suffix_is_a_missing_file_error(tmp_path: Path, name: str):
    with pytest.raises(
        MissingFileError, match=r"notafile.* names no format.* There is no file of that name either\.$"
    ) as caught:
        load_file(tmp_path / name)
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, FormatError)

"""A load returns what was saved (dtypes, shapes, layouts, names, order, metadata), and saves are reproducible."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from statezoo.checkpoints import (
    ArgumentError,
    CheckpointError,
    FormatError,
    StateError,
    UnsupportedTypeError,
    inspect,
    load_file,
    read_metadata,
    save_file,
)
from statezoo.checkpoints.testing import assert_roundtrip, compare_states

NUMPY_DTYPES = ["?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8", "c8"]
ML_DTYPES = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz"]


def filled(dtype: np.dtype, shape: tuple[int, ...] = (3, 5)) -> np.ndarray:
    """Return an array of a dtype with random bit patterns."""
    count = int(np.prod(shape)) * dtype.itemsize
    raw = np.random.default_rng(0).integers(0, 2 if dtype == np.dtype(bool) else 256, count, np.uint8)
    return raw.view(dtype).reshape(shape)


def test_every_numpy_dtype_survives_bit_for_bit(suffix: str):
    assert_roundtrip({code: filled(np.dtype(code)) for code in NUMPY_DTYPES}, [suffix])


def test_bfloat16_and_float8_survive_bit_for_bit(suffix: str):
    state = {name: filled(np.dtype(getattr(ml_dtypes, name))) for name in ML_DTYPES}
    assert_roundtrip(state, [suffix])


def test_nan_payloads_and_signs_of_zeros_survive(path: Path):
    bits = np.array([0x7FF8000000000123, 0xFFF0000000000001, 0x8000000000000000], np.uint64)
    save_file({"x": bits.view(np.float64)}, path)
    assert load_file(path)["x"].view(np.uint64).tolist() == bits.tolist()


def test_complex128_is_kept_by_hdf5_and_refused_by_safetensors_with_advice(tmp_path: Path):
    state = {"spectrum": np.array([1 + 2j])}
    assert_roundtrip(state, [".h5"])
    with pytest.raises(UnsupportedTypeError, match=r"'spectrum' is complex128.*Save to .h5"):
        save_file(state, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (np.array([None, {}], object), "numeric array"),
        (np.array(["text"]), "uint8 array"),
        (np.array([b"text"]), "uint8 array"),
        (np.zeros(2, [("a", "f4"), ("b", "i4")]), "under its own name"),
        (np.zeros(2, "datetime64[s]"), "view.numpy.int64"),
        (np.zeros(2, "timedelta64[s]"), "view.numpy.int64"),
        (np.zeros(2, np.longdouble), "astype.numpy.float64"),
        (np.zeros(2, np.clongdouble), "astype.numpy.complex128"),
        (np.zeros(2, ml_dtypes.int4), "docs/format.md"),
        (np.ma.masked_array([1, 2], [True, False]), "mask would be lost"),
        ([1, 2], "numpy.asarray"),
        (3.5, "numpy.asarray"),
        (None, "numpy.asarray"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(getattr(value, "dtype", value)),
)
def test_a_value_that_no_file_can_hold_is_refused_by_name_with_advice(path: Path, value: object, advice: str):
    with pytest.raises(UnsupportedTypeError, match=rf"'layer.bad'.*{advice}") as caught:
        save_file({"good": np.ones(2), "layer.bad": value}, path)
    assert isinstance(caught.value, TypeError)
    assert not list(path.parent.iterdir())


def test_scalars_and_empty_arrays_survive(suffix: str):
    state = {
        "scalar": np.array(3.5),
        "empty": np.zeros((0, 3), np.int8),
        "nothing": np.zeros(0),
        "last": np.zeros((2, 0)),
    }
    assert_roundtrip(state, [suffix])


def test_arrays_that_are_not_contiguous_keep_their_values(suffix: str):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    state = {
        "transposed": base.copy().T,
        "fortran": np.asfortranarray(base),
        "backwards": base.copy()[::-1],
        "both backwards": base.copy()[::-1, ::-1],
        "every other row": base.copy()[::2],
        "every other column": base.copy()[:, ::2],
        "moved axes": np.moveaxis(np.arange(24).reshape(2, 3, 4), 0, 1),
        "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
        "one repeated": np.broadcast_to(np.float16(2), (2, 2)),
    }
    assert_roundtrip(state, [suffix])


def test_big_endian_arrays_are_stored_little_endian_and_keep_their_values(path: Path):
    state = {"x": np.arange(6, dtype=">f4").reshape(2, 3), "t": np.arange(6, dtype=">i8").reshape(2, 3).T}
    save_file(state, path)
    loaded = load_file(path)
    assert [array.dtype.str for array in loaded.values()] == ["<f4", "<i8"]
    assert list(compare_states(state, loaded)) == []


def test_loaded_arrays_are_writable_and_contiguous(path: Path):
    frozen = np.arange(3.0)
    frozen.flags.writeable = False
    save_file({"frozen": frozen, "fortran": np.ones((2, 3), order="F")}, path)
    for array in load_file(path).values():
        assert array.flags.writeable
        assert array.flags.c_contiguous


def test_numpy_scalars_and_objects_that_wrap_an_array_are_saved_as_arrays(path: Path):
    from statezoo.core import Tensor

    bfloat16 = ml_dtypes.bfloat16(3)
    save_file({"number": np.float32(2), "bfloat16": bfloat16, "tensor": Tensor([1.0, 2.0])}, path)
    arrays = {"number": np.array(2, "f4"), "bfloat16": np.array(bfloat16), "tensor": np.array([1, 2], "f4")}
    assert list(compare_states(arrays, load_file(path))) == []


ODD_NAMES = [
    "", ".", "..", "...", "/", "a/b", "/a", "a/", "%", "%2F", "a%2Eb", "%5F", "\0", "a\0b", " ", "a b", "\n", "\x7f",
    "é", "日本", "😀", "\u202e", "a", "a.b", "a.b.c", "a.", ".a", "a..b", "statezoo", "_extra_state",
    "statezoo.storage",
    "statezoo.storage.0", "__statezoo__", "__statezoo__.x", "%5F_statezoo__", "__proto__", "x" * 255, "x" * 10_000,
    "é" * 10_000,
]  # fmt: skip


def test_unusual_names_survive_together(suffix: str):
    assert_roundtrip({name: np.full(2, number) for number, name in enumerate(ODD_NAMES)}, [suffix])


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: ascii(name)[:20])
def test_unusual_names_survive_alone(path: Path, name: str):
    save_file({name: np.arange(2)}, path)
    assert list(compare_states({name: np.arange(2)}, load_file(path))) == []


def test_the_name_metadata_is_kept_by_hdf5_and_refused_by_safetensors(tmp_path: Path):
    state = {"__metadata__": np.ones(2)}
    assert_roundtrip(state, [".h5"])
    with pytest.raises(StateError, match=r"cannot hold a tensor named '__metadata__'. Rename it"):
        save_file(state, tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", ["x" * 70_000, "a." * 5_000 + "b"], ids=["long", "deep"])
def test_names_that_hdf5_cannot_hold_are_refused_with_advice(tmp_path: Path, name: str):
    assert_roundtrip({name: np.ones(2)}, [".safetensors"])
    with pytest.raises(StateError, match=r"200 parts and 60,000 bytes. Shorten it, or save to .safetensors"):
        save_file({name: np.ones(2)}, tmp_path / "x.h5")


@pytest.mark.parametrize("name", ["a\ud800b", 3, None, b"a", ("a",)], ids=repr)
def test_a_name_that_is_not_a_string_is_refused(path: Path, name: object):
    with pytest.raises(StateError, match=r"the name of a tensor is"):
        save_file({name: np.ones(2)}, path)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("count", [0, 1, 2, 9, 2_000])
def test_any_number_of_tensors_survives_in_order(path: Path, count: int):
    order = np.random.default_rng(1).permutation(count)
    state = {f"layers.{number}.weight": np.full(3, number, np.int32) for number in order}
    save_file(state, path)
    assert list(compare_states(state, load_file(path))) == []


def test_an_array_of_33_axes_is_refused_by_hdf5(tmp_path: Path):
    with pytest.raises(StateError, match=r"33 axes, and HDF5 allows 32"):
        save_file({"x": np.zeros((1,) * 33)}, tmp_path / "x.h5")


def test_extra_state_of_json_values_survives_exactly(suffix: str):
    value = {"step": 2**70, "rate": 0.1, "flags": [True, None, -0.0, "é\0"], "nested": {"a": []}}
    assert_roundtrip({"a": np.ones(1), "_extra_state": value, "b": np.ones(1), "b._extra_state": None}, [suffix])


def test_an_array_as_extra_state_is_an_ordinary_tensor(path: Path):
    save_file({"_extra_state": np.arange(3)}, path)
    assert load_file(path)["_extra_state"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "value",
    [(1, 2), {1: 2}, float("nan"), {1, 2}, object(), "\ud800", [np.float32(1)]],
    ids=lambda value: type(value).__name__,
)
def test_extra_state_that_json_cannot_hold_exactly_is_refused_by_name(path: Path, value: object):
    with pytest.raises(UnsupportedTypeError, match=r"'block._extra_state' would not load unchanged.*get_extra_state"):
        save_file({"block._extra_state": value}, path)


def test_metadata_comes_back_exactly(path: Path):
    metadata = {"b": "2", "a": 'ü\0\n"{}', "": "", "format": "pt", "__metadata__": "x", "tied": "weight", "x": "weight"}
    weight = np.ones(2)
    save_file({"weight": weight, "tied": weight, "other": weight}, path, metadata)
    assert read_metadata(path) == metadata
    loaded = load_file(path)
    assert loaded["tied"] is loaded["weight"]


@pytest.mark.parametrize("metadata", [{}, {"format": "np"}, {"format": "pt"}, {"format": ""}], ids=str)
@pytest.mark.parametrize("max_shard_size", [None, 30])
def test_the_format_in_the_metadata_is_the_users_or_not_seen(
    tmp_path: Path, suffix: str, metadata: dict[str, str], max_shard_size: int | None
):
    if max_shard_size and suffix != ".safetensors":
        return
    array = np.ones(3)
    for state in (
        {"x": array, "y": np.zeros(3)},
        {"x": array, "format": array},
        {"x": array, "format": array[:2]},
        {"format": array, "tied": array, "y": np.zeros(3)},
    ):
        save_file(state, path := tmp_path / f"model{suffix}", metadata, max_shard_size=max_shard_size)
        assert read_metadata(path) == metadata
        assert list(compare_states(state, load_file(path))) == []


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"epoch": 3}, "the metadata 'epoch' is int"),
        ({3: "x"}, "a key of the metadata is int"),
        ({"a": "\ud800"}, "lone surrogate"),
        ({"statezoo": "x"}, "'statezoo' is reserved for the library"),
        ("text", "metadata is a dict of strings, not str"),
    ],
)
def test_metadata_that_is_not_strings_is_refused(path: Path, metadata: dict[str, str], message: str):
    with pytest.raises(StateError, match=message):
        save_file({}, path, metadata)


def test_fingerprints_are_equal_in_all_formats_and_distinguish_states(tmp_path: Path):
    weight = np.arange(6.0).reshape(2, 3)
    states = [
        {"a": weight, "b": weight, "t": weight.T},
        {"a": weight, "b": weight, "t": weight.T.copy()},
        {"b": weight, "a": weight, "t": weight.T},
        {"a": weight, "b": weight.copy(), "t": weight.T},
        {"a": weight, "b": weight, "t": weight.T, "_extra_state": 1},
        {"a": weight.astype("f4")},
        {"a": weight.reshape(3, 2)},
    ]
    seen = set()
    for state in states:
        for metadata in ({}, {"x": "y"}):
            for suffix in (".safetensors", ".h5", ".npz"):
                save_file(state, tmp_path / f"x{suffix}", metadata)
                seen.add((id(state), inspect(tmp_path / f"x{suffix}").fingerprint))
    assert len(seen) == len({fingerprint for _, fingerprint in seen}) == len(states)


SAVE = """
import sys
import numpy as np
from statezoo.checkpoints import save_file
weight = np.arange(12, dtype="f4").reshape(3, 4)
state = {"fc.weight": weight, "tied": weight, "view": weight.T, "a": np.arange(9)[2:6]}
state["overlapping"] = state["a"].base[4:8]
save_file(state, sys.argv[1], {key: key.upper() for key in sys.argv[2]})
"""


def test_the_same_state_gives_the_same_bytes_in_every_process(tmp_path: Path, suffix: str):
    contents = set()
    for seed in ("0", "1", "42"):
        target = tmp_path / f"{seed}{suffix}"
        order = "abcdef" if seed == "0" else "fbedca"
        subprocess.run(
            [sys.executable, "-c", SAVE, target, order], env=os.environ | {"PYTHONHASHSEED": seed}, check=True
        )
        contents.add(target.read_bytes())
    assert len(contents) == 1


def test_the_data_of_every_tensor_is_aligned_so_that_it_can_be_mapped(path: Path):
    from statezoo.checkpoints.files import open_header

    state = {f"{code}{number}": filled(np.dtype(code), (number,)) for code in NUMPY_DTYPES for number in (1, 3, 65)}
    save_file(state, path)
    with open_header(str(path)) as header:
        offsets = header.parts[0].opened.offsets
    assert min(offsets.values()) % 64 == 0
    assert all(offset % state[name].itemsize == 0 for name, offset in offsets.items())


def test_hdf5_groups_follow_the_module_tree(tmp_path: Path):
    import h5py

    save_file(
        {"fc1.weight": np.ones((2, 3)), "fc1.bias": np.ones(2), "blocks.0.norm.weight": np.ones(1)}, tmp_path / "x.h5"
    )
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["/fc1/weight"].shape == (2, 3)  # pyright: ignore[reportAttributeAccessIssue]
        assert file["/blocks/0/norm/weight"].id.get_offset() > 0  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("path", ["model.pkl", "model", "model.safetensors.gz", "model.xyz"])
def test_an_unknown_suffix_is_an_error_that_lists_the_known_ones(path: str):
    for act in (
        lambda: save_file({}, path),
        lambda: load_file(path),
        lambda: read_metadata(path),
        lambda: inspect(path),
    ):
        with pytest.raises(FormatError, match=r"names no format.*\.safetensors, \.h5, \.hdf5"):
            act()


@pytest.mark.parametrize("name", ["état zéro.safetensors", "a b.H5", "x.hdf5", "x.SafeTensors"])
def test_paths_with_spaces_unicode_and_capital_suffixes_work_as_str_and_path(tmp_path: Path, name: str):
    save_file({"x": np.ones(2)}, str(tmp_path / name))
    assert load_file(tmp_path / name)["x"].tolist() == [1, 1]
    assert load_file(str(tmp_path / name))["x"].tolist() == [1, 1]


@pytest.mark.parametrize("path", [None, 3, {"x": np.ones(1)}], ids=str)
def test_a_value_that_is_not_a_path_is_refused(path: Any):
    for use in (load_file, read_metadata, inspect):
        with pytest.raises(ArgumentError, match=rf"read from a path .*, not from {type(path).__name__}"):
            use(path)


def test_a_path_with_a_nul_is_refused():
    with pytest.raises(CheckpointError, match=r"NUL"):
        save_file({}, "a\0b.h5")


def test_importing_checkpoints_imports_no_heavy_package():
    code = "import sys, statezoo.checkpoints; print([m for m in sys.modules if m.split('.')[0] in " + (
        "('h5py', 'safetensors', 'ml_dtypes', 'torch', 'tempfile') or m.startswith('statezoo.core')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_saving_and_loading_states_never_imports_core(path: Path):
    code = (
        "import sys, numpy; from statezoo.checkpoints import *; save_file({'x': numpy.ones(2)}, sys.argv[1]); "
        "load_file(sys.argv[1]); inspect(sys.argv[1]); print([m for m in sys.modules if m.startswith('statezoo.core')])"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

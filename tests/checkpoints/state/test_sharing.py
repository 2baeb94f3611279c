"""Arrays that shared memory when they were saved share it in the same way after loading, stored once."""

import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.checkpoints import UnsupportedTypeError, fingerprint, inspect, load_file, save_file
from statezoo.checkpoints.formats import format_of
from statezoo.checkpoints.state.sharing import _MOST_AXES, shares, sharing_groups
from statezoo.checkpoints.storage.streams import memory_of
from statezoo.checkpoints.testing import assert_roundtrip, compare_states


def weight() -> np.ndarray:
    return np.arange(12, dtype=np.float32).reshape(3, 4)


def saved(state: dict[str, Any], path: Path) -> dict[str, Any]:
    save_file(state, path)
    return load_file(path)


def test_one_array_with_several_names_is_stored_once_and_shared_again(path: Path):
    w = weight()
    loaded = saved({"a": w, "b": w, "c.d": w}, path)
    assert loaded["a"] is loaded["b"] is loaded["c.d"]
    assert inspect(path).stored_bytes == w.nbytes


def test_two_arrays_over_the_same_memory_are_shared_again(path: Path):
    w = weight()
    loaded = saved({"a": w, "b": w[:]}, path)
    loaded["a"][1, 2] = 99
    assert loaded["b"][1, 2] == 99
    assert inspect(path).stored_bytes == w.nbytes


def test_equal_values_in_two_places_are_not_shared(path: Path):
    loaded = saved({"a": np.zeros(3), "b": np.zeros(3)}, path)
    loaded["a"][0] = 1
    assert loaded["b"][0] == 0


VIEWS = {
    "transpose": lambda w: w.T,
    "slice": lambda w: w[1:],
    "column": lambda w: w[:, 2],
    "every other": lambda w: w[::2, ::2],
    "backwards": lambda w: w[::-1],
    "reshape": lambda w: w.reshape(2, 6),
    "flat": lambda w: w.reshape(-1),
    "other dtype": lambda w: w.view(np.uint8),
    "bfloat16": lambda w: w.view(ml_dtypes.bfloat16),
    "element": lambda w: w[1, 1, ...],
    "diagonal": lambda w: w.reshape(-1)[::5],
    "new axis": lambda w: w[:, None],
}


@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize("order", ["base first", "view first"])
def test_a_view_shares_memory_after_loading_and_is_stored_once(path: Path, kind: str, order: str):
    w = weight()
    state = {"base": w, "view": VIEWS[kind](w)}
    if order == "view first":
        state = dict(reversed(state.items()))
    assert_roundtrip(state, [path.suffix])
    loaded = saved(state, path)
    assert list(loaded) == list(state)
    loaded["view"][...] = 0
    w_after = weight()
    VIEWS[kind](w_after)[...] = 0
    assert loaded["base"].tobytes() == w_after.tobytes()
    assert inspect(path).stored_bytes == w.nbytes


def test_only_a_transpose_and_a_row_of_it_are_stored_once_and_shared(path: Path):
    state = {"t": weight().T}
    state["row"] = state["t"][0]
    assert_roundtrip(state, [path.suffix])
    loaded = saved(state, path)
    loaded["row"][1] = 99
    assert loaded["t"][0, 1] == 99
    assert loaded["t"].flags.f_contiguous
    assert inspect(path).stored_bytes == weight().nbytes


def test_slices_that_overlap_in_part_are_stored_once_and_shared(path: Path):
    base = np.arange(20.0)
    state = {"a": base[2:10], "b": base[5:15]}
    assert_roundtrip(state, [path.suffix])
    loaded = saved(state, path)
    loaded["a"][3] = 99
    assert loaded["b"][0] == 99
    assert inspect(path).stored_bytes == 13 * 8
    assert inspect(path).names == ["a", "b"]


def test_bytes_between_overlapping_slices_that_belong_to_no_tensor_are_not_stored(path: Path):
    contents = set()
    for secret in (1.0, 2.0):
        base = np.zeros(12)
        base[[7, 9]] = secret
        save_file({"even": base[0:11:2], "first": base[0:6]}, path)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_slices_that_do_not_overlap_are_not_shared(path: Path):
    qkv = np.arange(24.0).reshape(6, 4)
    state = {"q": qkv[:2], "k": qkv[2:4], "v": qkv[4:], "left": np.zeros((2, 4))[:, :2]}
    save_file(state, path)
    assert [tensor.shares_with for tensor in inspect(path).tensors] == [None] * 4
    interleaved = {"even": qkv[:, ::2], "odd": qkv[:, 1::2]}
    save_file(interleaved, path)
    assert [tensor.shares_with for tensor in inspect(path).tensors] == [None] * 2


def test_a_fused_weight_and_its_parts_are_stored_once(path: Path):
    qkv = np.arange(24.0).reshape(6, 4)
    loaded = saved({"q": qkv[:2], "qkv": qkv, "k": qkv[2:4], "v": qkv[4:]}, path)
    loaded["k"][0, 0] = 99
    assert loaded["qkv"][2, 0] == 99
    assert inspect(path).stored_bytes == qkv.nbytes


def test_a_broadcast_view_of_another_tensor_comes_back_read_only(path: Path):
    bias = np.arange(3.0)
    loaded = saved({"bias": bias, "rows": np.broadcast_to(bias, (4, 3))}, path)
    loaded["bias"][1] = 99
    assert loaded["rows"][:, 1].tolist() == [99] * 4
    assert not loaded["rows"].flags.writeable


def test_empty_arrays_never_share(path: Path):
    empty = np.zeros((0, 3))
    save_file({"a": empty, "b": empty}, path)
    assert [tensor.shares_with for tensor in inspect(path).tensors] == [None, None]


def test_big_endian_arrays_share_if_they_divide_the_memory_in_the_same_way(path: Path):
    base = np.arange(6, dtype=">f8").reshape(2, 3)
    loaded = saved({"a": base, "t": base.T}, path)
    assert loaded["t"].tolist() == base.T.tolist()
    loaded["a"][0, 1] = 99
    assert loaded["t"][1, 0] == 99
    part = np.arange(8, dtype=">i4")
    assert saved({"x": part[:5], "y": part[3:]}, path)["y"].tolist() == [3, 4, 5, 6, 7]


def test_big_endian_arrays_that_divide_shared_memory_differently_are_refused_by_name(path: Path):
    base = np.arange(6, dtype=">f8")
    with pytest.raises(UnsupportedTypeError, match=r"'a', 'raw' share memory, are big-endian.*native byte order"):
        save_file({"a": base, "raw": base.view(np.uint8)}, path)


def test_a_view_of_many_axes_survives(path: Path):
    w = weight()
    loaded = saved({"w": w, "view": w.reshape((1,) * (_MOST_AXES - 2) + w.shape)}, path)
    assert loaded["view"].ndim == _MOST_AXES
    assert np.shares_memory(loaded["w"], loaded["view"])


def test_the_stride_of_an_axis_of_length_one_changes_no_byte(path: Path):
    transposed = np.arange(24.0).reshape(4, 3, 2).T
    contents = set()
    for stride in (0, 8, 1000):
        kept = np.ndarray((1, 2, 3, 4), buffer=transposed.T.data, strides=(stride, *transposed.strides))
        save_file({"kept": kept, "view": transposed}, path)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_twenty_thousand_names_of_one_array_are_grouped_quickly():
    start = time.process_time()
    assert len(sharing_groups(dict.fromkeys(map(str, range(20_000)), np.ones(2)))) == 1
    assert time.process_time() - start < 5


def test_twenty_thousand_arrays_are_grouped_quickly():
    arrays = {str(number): np.empty(2) for number in range(20_000)}
    arrays |= {f"tied {number}": arrays[str(number)] for number in range(0, 20_000, 100)}
    start = time.process_time()
    assert len(sharing_groups(arrays)) == 200
    assert time.process_time() - start < 5


@st.composite
def states(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Draw a state of views of a few arrays, with various shapes, dtypes and overlaps."""
    arrays = []
    for _ in range(draw(st.integers(1, 3))):
        dtype = draw(st.sampled_from(["u1", "<f4", ">f4", "<i2", "<f8", "c8"]))
        shape = draw(st.sampled_from([(8,), (4, 6), (2, 3, 4), (1, 5), ()]))
        base = np.arange(int(np.prod(shape)), dtype=np.uint8).astype(dtype).reshape(shape)
        arrays += [view_of(draw, base) for _ in range(draw(st.integers(1, 4)))]
    order = draw(st.permutations(range(len(arrays))))
    return {f"layer{position % 3}.x{position}": arrays[position] for position in order}


def view_of(draw: st.DrawFn, array: np.ndarray) -> np.ndarray:
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["transpose", "slice", "flatten", "dtype", "new axis", "broadcast"]))
        if kind == "transpose":
            array = array.transpose(draw(st.permutations(range(array.ndim))))
        elif kind == "slice":
            array = array[tuple(draw(slices()) for _ in array.shape)]
        elif kind == "flatten" and array.flags.c_contiguous:
            array = array.reshape(-1)
        elif kind == "dtype" and array.flags.c_contiguous and array.ndim and array.dtype.isnative:
            array = array.view(draw(st.sampled_from(["u1", "bool" if array.dtype == bool else "i1"])))
        elif kind == "new axis":
            array = array[None]
        elif kind == "broadcast" and draw(st.booleans()):
            array = np.broadcast_to(array, (2, *array.shape))
    return array


def slices() -> st.SearchStrategy[slice]:
    return st.builds(slice, st.integers(0, 3), st.one_of(st.none(), st.integers(0, 8)), st.sampled_from([1, 2, -1]))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(state=states())
def test_any_sharing_of_any_state_survives_in_both_formats(state: dict[str, np.ndarray]):
    assert_roundtrip(state)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(state=states())
def test_any_sharing_of_any_state_survives_in_an_expanded_file(state: dict[str, np.ndarray]):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".safetensors", ".h5", ".npz"):
            path = Path(folder, f"state{suffix}")
            save_file(state, path, expand=True)
            assert list(compare_states(state, load_file(path))) == []
            assert fingerprint(path) == fingerprint(state)
            seen = format_of(str(path)).writing_codec.read_as_stock(str(path))
            assert seen == {name: memory_of(array).tobytes() for name, array in state.items()} | {
                name: content for name, content in seen.items() if name == "__statezoo__"
            }


@settings(max_examples=100, deadline=None, derandomize=True)
@given(state=states(), data=st.data())
def test_writing_through_one_name_is_seen_through_the_others_as_before(
    state: dict[str, np.ndarray], data: st.DataObject
):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        loaded = saved(state, Path(folder, "state.safetensors"))
    writable = [
        name for name, array in loaded.items() if array.size and array.flags.writeable and state[name].flags.writeable
    ]
    if not writable:
        return
    name = data.draw(st.sampled_from(writable))
    where = tuple(data.draw(st.integers(0, length - 1)) for length in state[name].shape)
    before = {other: array.copy() for other, array in state.items()}
    for arrays in (state, loaded):
        arrays[name][where] = 77
    for other, array in state.items():
        shared = np.shares_memory(array, state[name]) or array is state[name]
        expected = array if shared else before[other]
        assert np.array_equal(loaded[other], expected), other


def test_sharing_between_a_parameter_and_a_buffer_survives(path: Path):
    from statezoo import core

    class Net(core.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = core.Parameter(weight())
            self.register_buffer("shadow", self.weight.data)

    state = saved(Net().state_dict(), path)
    state["weight"][0, 0] = 99
    assert state["shadow"][0, 0] == 99
    assert_roundtrip(Net(), [path.suffix])


def test_one_module_in_two_places_survives_as_shared(suffix: str):
    from statezoo import core

    class Net(core.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = core.Linear(3, 3)
            self.second = self.first

    assert_roundtrip(Net(), [suffix])


def test_a_tied_transposed_view_in_a_model_survives(suffix: str):
    from statezoo import core

    class Net(core.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = core.Linear(4, 3)
            self.decoder = core.Linear(3, 4)
            self.decoder.weight = core.Parameter(self.encoder.weight.T)

    assert_roundtrip(Net(), [suffix])


def test_arrays_whose_overlap_takes_long_to_find_out_count_as_sharing():
    # From NumPy's own tests: they have no byte in common, and finding that out takes seconds.
    memory = np.zeros(192_163_377, np.int8)
    one = np.lib.stride_tricks.as_strided(memory, (1049, 1049, 1049), (36674, 61119, 85569))
    other = np.lib.stride_tricks.as_strided(memory[64_023_025:], (1049, 1049, 1), (12223, 12224, 1))
    assert shares(one, other)

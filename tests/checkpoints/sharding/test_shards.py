"""A sharded state loads with the same values, sharing and fingerprint as from one file, and stock readers read it."""

import json
import tempfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo import core as nn
from statezoo.checkpoints import (
    ArgumentError,
    Deferred,
    StateError,
    UnsupportedTypeError,
    inspect,
    load_file,
    load_model,
    open_checkpoint,
    read_metadata,
    save_file,
    save_model,
)
from statezoo.checkpoints.testing import compare_states

INDEX = "model.safetensors.index.json"


def example() -> dict[str, Any]:
    """Return a state with ties, a view, overlapping slices that need a storage, extra state, and unusual dtypes."""
    weight, row = np.arange(12, dtype="f4").reshape(3, 4), np.arange(9)
    return {
        "z.weight": weight,
        "tied": weight,
        "transposed": weight.T,
        "_extra_state": {"step": 3},
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "a.bias": np.ones(5, ml_dtypes.bfloat16),
        "left": row[2:6],
        "right": row[4:8],
        "empty": np.zeros((0, 3)),
        "last": np.arange(20, dtype=">i2"),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def index_of(path: Path) -> dict[str, Any]:
    return json.loads(path.with_name(INDEX).read_text())


@st.composite
def states(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a state of a few arrays with several names, views of them, and extra state, in any order."""
    entries: list[Any] = []
    for number in range(draw(st.integers(1, 5))):
        dtype = draw(st.sampled_from(["u1", "<f4", ">f4", "<f8", "?"]))
        base = (np.arange(draw(st.sampled_from([0, 1, 6, 30])), dtype="u1") + number).astype(dtype)
        uses = [base, base, base.reshape(-1, 3).T if base.size > 1 else base, base[: base.size // 2], base[1:-1]]
        entries += draw(st.lists(st.sampled_from(range(len(uses))).map(uses.__getitem__), min_size=1, max_size=4))
    entries = draw(st.permutations(entries))
    state = {draw(st.sampled_from("zam")) + f".{number}": entry for number, entry in enumerate(entries)}
    if draw(st.booleans()):
        state["block._extra_state"] = {"seen": [1, None]}
    return state


@settings(max_examples=60, deadline=None, derandomize=True)
@given(state=states(), most_bytes=st.integers(1, 300), extra=st.dictionaries(st.sampled_from("zab"), st.text("é\0x")))
def test_any_state_in_shards_of_any_size_equals_the_state_in_one_file(
    state: dict[str, Any], most_bytes: int, extra: dict[str, str]
):
    with tempfile.TemporaryDirectory() as folder:
        whole, path = Path(folder, "whole.safetensors"), Path(folder, "shards", "model.safetensors")
        path.parent.mkdir()
        save_file(state, whole, extra, durable=False)
        save_file(state, path, extra, max_shard_size=most_bytes, durable=False)
        for file in (path, path.parent):
            assert list(compare_states(load_file(whole), load_file(file))) == []
            assert read_metadata(file) == extra
            assert inspect(file).fingerprint == inspect(whole).fingerprint
        for shard in path.parent.glob("*-of-*"):
            with open_checkpoint(shard) as opened:
                assert len(opened.stored) == 1 or sum(t.nbytes for t in opened.stored.values()) <= most_bytes


def test_a_sharded_state_is_found_by_path_index_and_folder_in_every_way_of_reading(path: Path):
    state = example()
    save_file(state, path, {"made": "now"}, max_shard_size=60)
    for file in (path, path.with_name(INDEX), path.parent, str(path), f"{path.parent}/"):
        assert list(compare_states(state, load_file(file))) == []
        assert list(compare_states(state, load_file(file, mmap="c"))) == []
        assert read_metadata(file) == {"made": "now"}
        assert inspect(file).names == [name for name in state if name != "_extra_state"]
        with open_checkpoint(file) as checkpoint:
            assert checkpoint["transposed"][1].tolist() == [1, 5, 9]
            assert checkpoint["_extra_state"] == {"step": 3}
            assert checkpoint.ties == {"tied": "z.weight", "transposed": "z.weight"} | dict.fromkeys(
                ["left", "right"], "statezoo.storage.0"
            )


def test_a_mapped_shard_cannot_be_written_to(path: Path):
    save_file(example(), path, max_shard_size=60)
    assert not any(array.flags.writeable for name, array in load_file(path, mmap=True).items() if "_" not in name)


def test_a_model_is_saved_in_shards_and_loaded_with_its_ties(path: Path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(5, 3)
            self.norm = nn.LayerNorm(3)
            self.head = nn.Linear(3, 5, bias=False)
            self.head.weight = self.embedding.weight

    model, other = Tied(), Tied()
    save_model(model, path, max_shard_size="0.03KB")
    load_model(other, path.parent)
    assert len(names(path)) > 2
    assert list(compare_states(model.state_dict(), other.state_dict())) == []


def test_the_files_are_those_that_hugging_face_writes(path: Path):
    save_file({"b": np.zeros(10, "f4"), "a": np.zeros(5, "f4"), "c": np.zeros(6, "f4")}, path, max_shard_size=60)
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert names(path) == [*shards, INDEX]
    text, index = path.with_name(INDEX).read_text(), index_of(path)
    assert text == json.dumps(index, indent=2, sort_keys=True) + "\n"
    assert index["metadata"]["total_size"] == 84
    assert index["weight_map"] == {"a": shards[0], "b": shards[0], "c": shards[1]}


def test_a_tensor_larger_than_a_shard_gets_its_own_shard(path: Path):
    save_file({"a": np.zeros(1), "b": np.zeros(9), "c": np.zeros(0), "d": np.zeros(1)}, path, max_shard_size=20)
    shards = [index_of(path)["weight_map"][name][6:11] for name in "abcd"]
    assert shards == ["00001", "00002", "00003", "00003"]


@pytest.mark.parametrize("count", [1, 9, 10, 12_345, 123_456])
def test_the_names_of_shards_sort_in_their_order(count: int):
    from statezoo.checkpoints.files.sharding.index import is_numbered, is_shard_of, shard_names

    for mark in (0, 1):
        names = shard_names("folder/model.safetensors", count, mark)
        assert names == sorted(set(names))
        assert all(is_shard_of("model.safetensors", name) and is_numbered(name) for name in names)


def test_a_state_that_fits_into_one_shard_is_written_as_one_plain_file(path: Path):
    save_file(example(), path, {"a": "b"})
    before = path.read_bytes()
    save_file(example(), path, {"a": "b"}, max_shard_size="1KB")
    assert names(path) == [path.name]
    assert path.read_bytes() == before


def test_the_same_state_gives_the_same_bytes(tmp_path: Path):
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        save_file(example(), folder / "model.safetensors", {"b": "1", "a": "2"}, max_shard_size=60)
        contents.append({entry.name: entry.read_bytes() for entry in folder.iterdir()})
    assert contents[0] == contents[1]


def test_metadata_may_use_the_names_that_the_index_itself_uses(path: Path):
    metadata = {"total_size": "large", "format": "tf", "tied": "own", "weight_map": "{}"}
    save_file(example(), path, metadata, max_shard_size=60)
    assert read_metadata(path) == metadata
    loaded = load_file(path)
    assert loaded["tied"] is loaded["z.weight"]
    with open_checkpoint(path.parent / index_of(path)["weight_map"]["last"]) as shard:
        assert shard.metadata == {"index": INDEX}


def test_deferred_arrays_are_computed_once_each_and_one_at_a_time(path: Path):
    made = []

    def make(number: int) -> Deferred:
        return Deferred((4,), "f8", lambda: (made.append(number), np.full(4, float(number)))[1])

    save_file({str(number): make(number) for number in range(6)}, path, max_shard_size=64)
    assert made == list(range(6))
    assert [array[0] for array in load_file(path).values()] == [0, 1, 2, 3, 4, 5]


def test_an_open_checkpoint_is_split_into_shards_and_merged_again(path: Path):
    save_file(example(), path)
    with open_checkpoint(path) as checkpoint:
        save_file(checkpoint, path, checkpoint.metadata, max_shard_size=60)
    assert path.name not in names(path)
    with open_checkpoint(path) as checkpoint:
        save_file(checkpoint, path, checkpoint.metadata)
    assert names(path) == [path.name]
    assert list(compare_states(example(), load_file(path))) == []


@pytest.mark.parametrize(
    ("size", "most_bytes"),
    [
        ("1KB", 1000),
        ("1.5 kb", 1500),
        (" 2MB", 2 * 10**6),
        ("1KiB", 1 << 10),
        ("1mib", 1 << 20),
        ("5TB", 5 * 10**12),
        (7, 7),
    ],
)
def test_shard_sizes_are_numbers_of_bytes_or_text_with_a_unit(size: str | int, most_bytes: int):
    from statezoo.checkpoints.files.sharding.index import most_bytes_of

    assert most_bytes_of(size) == most_bytes


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "", "5", "GB", "-1GB", "0GB", "1e3KB", "5 G", "5Gb/s", b"5GB", [5]])
def test_an_invalid_shard_size_is_an_error_that_lists_the_units(path: Path, size: Any):
    with pytest.raises(ArgumentError, match=r'such as "5GB" or "500MiB", not .*KB, MB, GB, TB .* KiB, MiB, GiB, TiB'):
        save_file({"a": np.ones(3)}, path, max_shard_size=size)
    assert names(path) == []


def test_hdf5_and_open_files_do_not_support_shards(tmp_path: Path):
    with pytest.raises(ArgumentError, match=r"x.h5 is hdf5, which has no shards. Save to .safetensors, or in one file"):
        save_file(example(), tmp_path / "x.h5", max_shard_size=60)
    with (
        open(tmp_path / "file", "wb") as file,
        pytest.raises(ArgumentError, match=r"an open file takes no shards: give a path ending in .safetensors"),
    ):
        save_file(example(), file, max_shard_size=60)
    assert [entry.stat().st_size for entry in tmp_path.iterdir()] == [0]


@pytest.mark.parametrize(
    ("bad", "error"), [(np.ones(2, complex), UnsupportedTypeError), (None, UnsupportedTypeError)], ids=str
)
def test_a_state_that_no_shard_can_hold_is_refused_before_anything_is_written(
    path: Path, bad: Any, error: type[StateError]
):
    with pytest.raises(error, match=r"'bad' is"):
        save_file({"good": np.ones(9), "bad": bad}, path, max_shard_size=8)
    assert names(path) == []


def test_safetensors_reads_every_tensor_where_the_index_says(path: Path):
    import safetensors

    state = example()
    save_file(state, path, max_shard_size=60)
    weight_map = index_of(path)["weight_map"]
    assert weight_map.keys() == {"z.weight", "fortran", "a.bias", "empty", "last", "statezoo.storage.0"}
    for name, shard in weight_map.items():
        with safetensors.safe_open(path.parent / shard, "np") as opened:
            assert opened.metadata()["format"] == "pt"
            if name in state and name != "a.bias":  # safetensors.numpy has no bfloat16
                np.testing.assert_array_equal(opened.get_tensor(name), state[name])


@pytest.mark.torch
def test_hugging_face_splits_a_state_into_the_same_shards(tmp_path: Path):
    hub = pytest.importorskip("huggingface_hub")
    torch = pytest.importorskip("torch")
    sizes = [3, 9, 1, 0, 7, 15, 2, 2, 14, 16, 16, 1]  # none larger than a shard: Hugging Face would reorder those
    arrays = {f"{number % 3}.{number}": np.full(size, number, "f4") for number, size in enumerate(sizes)}
    split = hub.split_torch_state_dict_into_shards(
        {name: torch.from_numpy(array) for name, array in arrays.items()}, max_shard_size=64
    )
    save_file(arrays, tmp_path / "model.safetensors", max_shard_size=64)
    assert index_of(tmp_path / "model.safetensors")["weight_map"] == split.tensor_to_filename


@pytest.mark.torch
def test_hugging_face_loads_our_shards_and_we_load_theirs(tmp_path: Path):
    hub = pytest.importorskip("huggingface_hub")
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 4, bias=False))
    model[2].weight = model[0].weight
    hub.save_torch_model(model, tmp_path, max_shard_size="0.1KB")
    loaded = load_file(tmp_path)
    assert loaded["0.weight"] is loaded["2.weight"]
    assert inspect(tmp_path).fingerprint is None
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(loaded[name], tensor.numpy())
    save_file({name: array + 1 for name, array in loaded.items()}, tmp_path / "model.safetensors", max_shard_size=100)
    hub.load_torch_model(model, tmp_path)
    np.testing.assert_array_equal(model[1].weight.detach().numpy(), loaded["1.weight"] + 1)
    shards = set(index_of(tmp_path / "model.safetensors")["weight_map"].values())
    assert {entry.name for entry in tmp_path.iterdir()} == {*shards, INDEX}

"""expand=True: every name has its own bytes for other readers, and for our own load nothing changes."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from statezoo.checkpoints import (
    CorruptError,
    Deferred,
    StateError,
    convert,
    diff,
    fingerprint,
    inspect,
    load_file,
    open_checkpoint,
    read_metadata,
    repair,
    save_file,
    verify,
)
from statezoo.checkpoints.files import plan
from statezoo.checkpoints.formats import format_of
from statezoo.checkpoints.state import expansion
from statezoo.checkpoints.storage.streams import memory_of
from statezoo.checkpoints.testing import compare_states

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)
PARTS = np.arange(1.0, 21)
STATE: dict[str, Any] = {
    "row": WEIGHT[1:],
    "weight": WEIGHT,
    "x._extra_state": {"steps": 3},
    "tied": WEIGHT,
    "turned": WEIGHT.T,
    "low": PARTS[:12],
    "high": PARTS[8:],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "alone": np.arange(5, dtype=np.int16),
    "empty": np.zeros((0, 3)),
}
STATE |= {"column": STATE["fortran"][:, 1]}
ARRAYS = {name: array for name, array in STATE.items() if isinstance(array, np.ndarray)}
METADATA = {"epoch": "7", "tied": "the user's own"}


@pytest.fixture
def plain(path: Path) -> Path:
    """Return the path of the state in a file that is not expanded."""
    found = path.with_name(f"plain{path.suffix}")
    save_file(STATE, found, METADATA)
    return found


def saved(path: Path, state: dict[str, Any] | None = None, **options: Any) -> Path:
    save_file(STATE if state is None else state, path, METADATA, expand=True, **options)
    return path


def assert_seen_by_others(path: Path, arrays: dict[str, np.ndarray] = ARRAYS) -> None:
    """Assert that the usual library of the format reads every name with its own bytes."""
    seen = format_of(str(path)).writing_codec.read_as_stock(str(path))
    assert {name: seen.get(name) for name in arrays} == {name: memory_of(a).tobytes() for name, a in arrays.items()}
    assert "statezoo.storage.0" not in seen


def test_other_readers_find_every_name_with_its_own_bytes(path: Path):
    assert_seen_by_others(saved(path))


def test_no_other_name_and_no_tie_is_in_an_expanded_safetensors_file(tmp_path: Path):
    path = saved(tmp_path / "x.safetensors")
    assert safetensors.numpy.load_file(path).keys() == ARRAYS.keys()
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata().keys() == {"epoch", "tied", "format", "statezoo"}
        assert file.metadata()["tied"] == "the user's own"


@pytest.mark.parametrize("mmap", [False, True, "c"])
def test_our_load_restores_all_ties_and_views(path: Path, mmap: Any):
    loaded = load_file(saved(path), mmap=mmap)
    assert list(compare_states(STATE, loaded)) == []
    assert loaded["tied"] is loaded["weight"]
    assert read_metadata(path) == METADATA


def test_the_fingerprint_is_that_of_the_plain_file_and_diff_sees_no_difference(path: Path, plain: Path):
    saved(path)
    assert fingerprint(path) == fingerprint(plain) == fingerprint(STATE)
    assert diff(path, plain).same
    assert diff(plain, path).same


def test_convert_makes_a_plain_file_of_an_expanded_one_and_the_other_way_round(path: Path, plain: Path):
    saved(path)
    out = path.with_name(f"out{path.suffix}")
    convert(path, out)
    assert out.read_bytes() == plain.read_bytes()
    convert(plain, out, expand=True)
    assert out.read_bytes() == path.read_bytes()


def test_a_state_without_sharing_gives_the_same_bytes_expanded_or_not(path: Path):
    state = {"a": np.zeros(3), "b": np.ones((2, 2))}
    saved(path, state)
    other = path.with_name(f"other{path.suffix}")
    save_file(state, other, METADATA)
    assert path.read_bytes() == other.read_bytes()


def test_inspect_and_verify_report_the_state_and_not_its_copies(path: Path, plain: Path):
    saved(path)
    assert inspect(path).tensors == inspect(plain).tensors
    assert "in the file, which is expanded" in str(inspect(path))
    assert not inspect(plain).expanded
    assert verify(path).intact


def test_lazy_tensors_read_their_copies(path: Path):
    with open_checkpoint(saved(path)) as checkpoint:
        for name, array in ARRAYS.items():
            assert np.array_equal(checkpoint[name][...], array), name
        assert checkpoint["high"][2:4].tolist() == [11, 12]
        assert checkpoint["turned"][1:, ::2].tolist() == WEIGHT.T[1:, ::2].tolist()
        assert checkpoint.ties["low"] == "statezoo.storage.0"
        assert checkpoint["tied"] is checkpoint["weight"]


def test_a_part_of_an_expanded_file_is_loaded_by_its_prefix(path: Path):
    w = np.arange(6.0)
    saved(path, {"model.a": w, "model.b": w, "ema.a": w[:3], "x": np.ones(2)})
    with open_checkpoint(path) as checkpoint:
        loaded = checkpoint.load(prefix="model.")
        assert loaded.keys() == {"model.a", "model.b"}
        assert loaded["model.a"] is loaded["model.b"]
        assert checkpoint.load(prefix="ema.")["ema.a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 60, 100, 1000])
def test_an_expanded_state_is_saved_in_shards(tmp_path: Path, size: int):
    path = tmp_path / "model.safetensors"
    saved(path, max_shard_size=size)
    assert list(compare_states(STATE, load_file(path))) == []
    assert fingerprint(path) == fingerprint(STATE)
    assert verify(path).intact
    seen = {}
    for shard in tmp_path.glob("*.safetensors"):
        seen |= safetensors.numpy.load_file(shard)
    assert seen.keys() == ARRAYS.keys()
    assert all(np.array_equal(seen[name], array) for name, array in ARRAYS.items())


def test_an_expanded_state_is_saved_to_an_open_file(path: Path):
    with open(path, "wb") as file:
        save_file(STATE, file, METADATA, format=path.suffix, expand=True)
    assert_seen_by_others(path)
    assert list(compare_states(STATE, load_file(path))) == []


def test_big_endian_arrays_and_a_snapshot_are_expanded(path: Path):
    big = np.arange(6, dtype=">i4").reshape(2, 3)
    state = {"big": big, "turned": big.T, "tied": big, **ARRAYS}
    saved(path, state, snapshot=True)
    assert_seen_by_others(path, state)
    saved(path, state)
    assert_seen_by_others(path, state)
    assert list(compare_states(state, load_file(path))) == []


def test_a_deferred_array_under_two_names_is_computed_once(path: Path):
    computed = []

    def make() -> np.ndarray:
        computed.append(1)
        return np.full(1000, float(len(computed)))

    deferred = Deferred((1000,), np.float64, make)
    saved(path, {"a": deferred, "b": deferred})
    assert len(computed) == 1
    assert load_file(path)["b"].tolist() == [1.0] * 1000


def test_a_file_saved_while_another_thread_changes_the_arrays_verifies(path: Path, repeating: Any):
    weight = np.zeros((500, 1000))
    state = {"a": weight, "tied": weight, "turned": weight.T, "part": weight[3:]}
    with repeating(partial(np.add, weight, 1, out=weight)):
        for _ in range(5):
            saved(path, state, durable=False)
            assert verify(path).intact
            loaded = load_file(path)
            assert loaded["tied"] is loaded["a"]


def test_slices_in_a_huge_memory_are_refused_instead_of_loading_as_a_huge_state(path: Path):
    wide = np.zeros((100, 1000))
    state = {"a": wide[:, :2], "b": wide[:, 1:3]}
    with pytest.raises(StateError, match=r"'a', 'b' share memory, but most of that memory belongs to no tensor"):
        saved(path, state)
    assert not path.exists()


# --- damage


def place_of(data: bytes, name: str) -> int:
    """Return where the bytes of one of the arrays last begin in a file: those of its copy."""
    return data.rindex(memory_of(ARRAYS[name]).tobytes())


def flip(path: Path, name: str) -> None:
    data = bytearray(path.read_bytes())
    data[place_of(bytes(data), name) + 1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["tied", "turned", "low", "high", "column", "alone"])
@pytest.mark.parametrize("mmap", [False, True])
def test_a_flipped_bit_in_a_copy_is_an_error_that_names_it(path: Path, name: str, mmap: bool):
    flip(saved(path), name)
    with pytest.raises(CorruptError) as caught:
        load_file(path, mmap=mmap)
    assert caught.value.tensors == (name,)
    assert verify(path).damaged == (name,)
    with open_checkpoint(path) as checkpoint, pytest.raises(CorruptError):
        checkpoint.load()


@pytest.mark.parametrize("name", ["tied", "turned", "column", "high"])
def test_copies_that_disagree_are_an_error_even_if_each_fits_its_digest(
    path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    write = plan._filled

    def other(*arguments: Any) -> list[Any]:
        return [
            item._replace(array=np.asarray(item.array) + 1) if item.name == name else item for item in write(*arguments)
        ]

    monkeypatch.setattr(plan, "_filled", other)
    saved(path)
    with pytest.raises(CorruptError, match=r"hold different values|statezoo\.storage\.0"):
        load_file(path)


def test_a_file_whose_storage_would_take_far_more_memory_than_its_slices_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    wide = np.zeros((100, 1000))
    monkeypatch.setattr(expansion, "_MOST_GAPS", 1000)
    saved(path, {"a": wide[:, :2], "b": wide[:, 1:3]})
    monkeypatch.undo()
    with pytest.raises(CorruptError, match=r"'statezoo.storage.0' is too large"):
        load_file(path)


def test_a_damaged_tensor_is_repaired_from_the_copy_under_another_name(path: Path):
    data = bytearray(saved(path).read_bytes())
    first, content = data.index(WEIGHT.tobytes()), WEIGHT.tobytes()
    assert data.count(content) == 2
    data[first] ^= 1
    path.write_bytes(data)
    report = repair(path, path)
    assert report.complete
    assert list(compare_states(STATE, load_file(path))) == []


def test_a_damaged_copy_costs_no_tensor_in_a_repair(path: Path):
    flip(saved(path), "turned")
    assert repair(path, path).complete
    assert list(compare_states(STATE, load_file(path))) == []


def test_a_damaged_slice_is_lost_with_the_slices_that_overlap_it(path: Path):
    flip(saved(path), "low")
    assert repair(path, path).lost.keys() == {"low", "high"}
    assert "weight" in load_file(path)

"""Indexes and shards from other programs: valid ones load, others are errors that name the file and the cause."""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file as save_stock

from statezoo.checkpoints import (
    CheckpointError,
    CorruptError,
    FormatError,
    MissingFileError,
    ReadError,
    files,
    inspect,
    load_file,
    open_checkpoint,
    read_metadata,
    save_file,
    verify,
)
from statezoo.checkpoints.files.sharding import reader as sharded
from statezoo.checkpoints.files.sharding.index import Index
from statezoo.checkpoints.testing import compare_states

INDEX = "model.safetensors.index.json"
SHARDS = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
STATE = {"b": np.arange(3.0), "a": np.arange(2.0), "c": np.arange(4.0)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint as other libraries write it: b and a in the first shard, c in the second."""
    save_stock({"b": STATE["b"], "a": STATE["a"]}, tmp_path / SHARDS[0], {"format": "pt"})
    save_stock({"c": STATE["c"]}, tmp_path / SHARDS[1], {"format": "pt"})
    write(tmp_path, metadata={"total_size": 72})
    return tmp_path


def write(folder: Path, metadata: Any = None, weight_map: Any = None, **further: Any) -> None:
    weight_map = {"a": SHARDS[0], "b": SHARDS[0], "c": SHARDS[1]} if weight_map is None else weight_map
    (folder / INDEX).write_text(json.dumps({"metadata": metadata, "weight_map": weight_map} | further))


def save_ours(folder: Path, state: dict[str, np.ndarray] = STATE) -> None:
    save_file(state, folder / "model.safetensors", {"key": "value"}, max_shard_size=40, durable=False)


@pytest.mark.parametrize(
    "metadata", [None, {}, {"total_size": 72}, {"total_size": 7.2e1, "x": [1, {"y": None}]}], ids=str
)
def test_foreign_shards_load_unchecked_whatever_numbers_their_metadata_holds(folder: Path, metadata: Any):
    write(folder, metadata, version=1)
    loaded = load_file(folder)
    assert loaded.keys() == STATE.keys()
    assert all((loaded[name] == array).all() for name, array in STATE.items())
    assert read_metadata(folder) == {}
    assert inspect(folder).fingerprint is None


def test_ties_and_text_in_foreign_metadata_are_kept(folder: Path):
    write(folder, {"total_size": 72, "tied": "a", "also": "c", "a": "b", "note": "text"})
    loaded = load_file(folder / INDEX)
    assert loaded["tied"] is loaded["a"]
    assert loaded["also"] is loaded["c"]
    assert read_metadata(folder) == {"a": "b", "note": "text"}


def test_an_index_without_tensors_is_an_empty_state(tmp_path: Path):
    write(tmp_path, weight_map={})
    assert load_file(tmp_path) == {}


def test_links_to_files_elsewhere_are_followed_as_in_the_hub_cache(folder: Path, tmp_path_factory: Any):
    blobs = tmp_path_factory.mktemp("blobs")
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / f"{number:040x}")
        path.symlink_to(os.path.relpath(blobs / f"{number:040x}", folder))
    assert (load_file(folder)["c"] == STATE["c"]).all()
    save_ours(folder)
    assert list(compare_states(STATE, load_file(folder))) == []


NAMES = [
    "../x.safetensors", "..", "/etc/passwd", "/x.safetensors", "a/x.safetensors", "a\\x.safetensors",
    "..\\x.safetensors", "x.h5", "x.safetensors.bak", "x", "", "x\0.safetensors", "https://x.org/x.safetensors",
    None, 3, ["x.safetensors"], {"x": "y"}, True,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_an_invalid_shard_name_in_an_index_is_an_error_that_quotes_it(folder: Path, name: Any):
    write(folder, weight_map={"a": SHARDS[0], "bad entry": name})
    message = (
        rf"{INDEX} is not a valid index.*it says that tensor 'bad entry' is in .*, which is not the name of a .safe"
    )
    with pytest.raises(CorruptError, match=message):
        load_file(folder)


TEXTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"It is empty"),
    "spaces": (b"  \n", r"it is not the JSON it should be"),
    "cut": (b'{"weight_map": {"a": "mod', r"it is not the JSON .*It may be damaged or cut off. Use another copy"),
    "list": (b"[]", r"it is not the JSON it should be"),
    "number": (b"3", r"it is not the JSON it should be"),
    "no map": (b"{}", r"its weight_map, .* is missing or invalid"),
    "odd map": (b'{"weight_map": ["a"]}', r"its weight_map, .* is missing or invalid"),
    "odd metadata": (b'{"weight_map": {}, "metadata": 3}', r"or its metadata is missing or invalid"),
    "twice": (b'{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}', r"'a' occurs twice"),
    "twice above": (b'{"weight_map": {}, "weight_map": {}}', r"'weight_map' occurs twice"),
    "deep": (b'{"metadata":' + b"[" * 200_000, r"it is not the JSON it should be"),
    "no UTF-8": (b'{"weight_map": {"\xff": "x.safetensors"}}', r"it is not the JSON .*utf-8"),
    "lone surrogate": (b'{"weight_map": {"\\ud800": "x.safetensors"}}', r"it is not the JSON .*surrogates"),
    "NaN": (b'{"weight_map": {}, "metadata": {"total_size": NaN}}', r"NaN is not JSON"),
    "huge number": (b'{"metadata": {"x": ' + b"9" * 5000 + b"}}", r"it is not the JSON it should be"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\n", r"is a Git LFS pointer.*git lfs pull"),
    "page": (b"<!DOCTYPE html>", r"HTML or XML page.*Download the file again"),
    "pickle": (b"\x80\x04K\x01.", r"Python pickle, which is never loaded"),
}


@pytest.mark.parametrize("text", TEXTS)
def test_an_invalid_index_is_an_error_that_says_why(tmp_path: Path, text: str):
    content, cause = TEXTS[text]
    (tmp_path / INDEX).write_bytes(content)
    for read in (load_file, inspect, read_metadata, open_checkpoint):
        with pytest.raises(CorruptError, match=rf"(?s){INDEX} is not a valid index of a sharded checkpoint: .*{cause}"):
            read(tmp_path)


def test_an_index_of_any_depth_is_valid_or_refused(tmp_path: Path):
    for depth in (1, 100, *range(900, 1001)):  # up to about Python's recursion limit
        deep = b'{"x":' * depth + b"1" + b"}" * depth
        (tmp_path / INDEX).write_bytes(b'{"weight_map":{},"metadata":' + deep + b"}")
        try:
            assert load_file(tmp_path) == {}
        except CorruptError:
            assert depth >= 900


def test_an_index_that_is_far_too_large_is_not_read(tmp_path: Path):
    with open(tmp_path / INDEX, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CorruptError, match=r"it has 1,099,511,627,776 bytes, and the most that is read is 100,000,000"):
        load_file(tmp_path)


def test_an_index_in_memory_cannot_name_files(folder: Path):
    with pytest.raises(
        CorruptError, match=r"looks like JSON, such as the index of a sharded checkpoint. Pass the file"
    ):
        load_file((folder / INDEX).read_bytes())


def test_missing_shards_are_named_with_the_advice_to_download_them(folder: Path):
    (folder / SHARDS[1]).unlink()
    message = (
        rf"1 of the 2 files that .*{INDEX} names are missing: '{SHARDS[1]}'. Download or copy them into the folder"
    )
    for path in (folder, folder / INDEX, folder / "model.safetensors"):
        with pytest.raises(MissingFileError, match=message):
            load_file(path)


def test_a_shard_whose_tensors_differ_from_the_index_is_refused(folder: Path):
    write(folder, weight_map={"a": SHARDS[0], "c": SHARDS[1]})
    with pytest.raises(
        CorruptError, match=rf"{SHARDS[0]} does not hold the tensors that .*{INDEX} lists: it also has 'b'"
    ):
        load_file(folder)
    write(folder, weight_map={"a": SHARDS[0], "b": SHARDS[1], "c": SHARDS[1]})
    save_stock({"a": STATE["a"]}, folder / SHARDS[0])
    with pytest.raises(
        CorruptError, match=rf"{SHARDS[1]} does not hold .* it does not have 'b'.*Use files that were saved toge"
    ):
        load_file(folder)


def test_a_shard_that_is_another_kind_of_file_is_an_error_that_names_it(folder: Path):
    (folder / SHARDS[1]).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CorruptError, match=rf"{SHARDS[1]} is not a valid safetensors file.*git lfs pull"):
        load_file(folder)
    (folder / SHARDS[1]).unlink()
    os.mkfifo(folder / SHARDS[1])
    with pytest.raises(ReadError, match=rf"{SHARDS[1]} is not a regular file"):
        load_file(folder)


def test_a_shard_from_another_save_is_an_error_that_names_the_tensors_and_the_cause(tmp_path: Path):
    save_ours(tmp_path)
    first = (tmp_path / SHARDS[0]).read_bytes()
    save_ours(tmp_path, {name: array + 1 for name, array in STATE.items()})
    save_ours(tmp_path, {name: array + 2 for name, array in STATE.items()})
    (tmp_path / SHARDS[0]).write_bytes(first)
    with pytest.raises(
        CorruptError, match=r"(?s)are not from one save: .*'b'\n  'a'\n.*may have been copied or down"
    ) as caught:
        inspect(tmp_path)
    assert caught.value.tensors == ("b", "a")


def test_a_shard_that_another_program_rewrote_is_compared_with_the_index(tmp_path: Path):
    save_ours(tmp_path)
    save_stock({"c": STATE["c"]}, tmp_path / SHARDS[1])
    assert list(compare_states(STATE, load_file(tmp_path))) == []
    save_stock({"c": STATE["c"] + 1}, tmp_path / SHARDS[1])
    with pytest.raises(CorruptError, match=r"'c'"):
        load_file(tmp_path)


def test_ties_and_views_in_a_shard_named_by_a_foreign_index_are_not_lost_silently(folder: Path):
    save_file({"c": STATE["c"], "part": STATE["c"][1:]}, folder / SHARDS[1])
    with pytest.raises(
        FormatError, match=rf"{SHARDS[1]} holds ties, views or extra state, which .*{INDEX} does not describe"
    ):
        load_file(folder)
    save_file({"c": STATE["c"]}, folder / SHARDS[1])
    assert load_file(folder).keys() == STATE.keys()


def test_a_flipped_bit_in_a_shard_is_an_error_that_names_the_shard_and_the_tensor(tmp_path: Path):
    save_ours(tmp_path)
    content = bytearray((tmp_path / SHARDS[1]).read_bytes())
    content[-1] ^= 1
    (tmp_path / SHARDS[1]).write_bytes(content)
    for mmap in (False, True):
        with pytest.raises(CorruptError, match=rf"{SHARDS[1]} is damaged: .*\n  'c'\n"):
            load_file(tmp_path, mmap=mmap)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint["a"][1] == 1
        with pytest.raises(CorruptError, match=rf"{SHARDS[1]} is damaged: .*\n  'c'\n"):
            checkpoint["c"][:1]


@settings(max_examples=600, deadline=None, derandomize=True)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), name=st.sampled_from([INDEX, *SHARDS]))
def test_no_flipped_bit_in_an_index_or_a_shard_loads_a_different_state(where: float, bit: int, name: str):
    with tempfile.TemporaryDirectory() as folder:
        save_ours(Path(folder), STATE | {"tied": STATE["a"], "view": STATE["c"][::2]})
        path = Path(folder, name)
        content = bytearray(path.read_bytes())
        content[int(where * len(content))] ^= 1 << bit
        path.write_bytes(content)
        try:
            loaded, metadata = load_file(folder), read_metadata(folder)
        except CheckpointError:
            return
        assert list(compare_states(STATE | {"tied": STATE["a"], "view": STATE["c"][::2]}, loaded)) == []
        assert metadata == {"key": "value"}


def test_a_folder_without_exactly_one_checkpoint_is_an_error_that_lists_its_checkpoints(folder: Path):
    empty = folder / "empty"
    empty.mkdir()
    with pytest.raises(ReadError, match=r"is a folder. Give the path of a checkpoint file. It holds none"):
        load_file(empty)
    other = folder / "other.safetensors.index.json"
    other.write_bytes((folder / INDEX).read_bytes())
    with pytest.raises(ReadError, match=r"It holds 2: model.safetensors, other.safetensors"):
        load_file(folder)
    for index in (other, folder / INDEX):
        index.unlink()
    for shard in SHARDS:
        (folder / shard).unlink()
    save_file(STATE, folder / "only.h5")
    assert list(compare_states(STATE, load_file(folder))) == []


@pytest.mark.parametrize("there", [SHARDS, SHARDS[:1], SHARDS[1:]], ids=["both", "first", "second"])
def test_shards_without_an_index_are_an_error_that_says_what_is_there(folder: Path, there: list[str]):
    (folder / INDEX).unlink()
    for shard in set(SHARDS) - set(there):
        (folder / shard).unlink()
    with pytest.raises(ReadError) as caught:
        load_file(folder)
    assert str(caught.value) == (
        f"{folder} holds {len(there)} of 2 shards ({', '.join(there)}) and no index that says what they hold. Download "
        f"or copy {INDEX} and all shards into the folder, or give the path of one file."
    )
    assert load_file(folder / there[0]).keys() <= STATE.keys()


def test_a_single_shard_needs_no_index(tmp_path: Path):
    save_stock(STATE, tmp_path / "model-00001-of-00001.safetensors")
    assert load_file(tmp_path).keys() == STATE.keys()


def test_an_adapter_next_to_shards_is_not_mistaken_for_the_model(folder: Path):
    (folder / INDEX).unlink()
    save_stock({"lora_A": np.ones(1)}, folder / "adapter_model.safetensors")
    with pytest.raises(ReadError, match=r"holds 2 of 2 shards .*Next to them: adapter_model\.safetensors\."):
        load_file(folder)


def test_an_index_that_omits_a_shard_in_the_folder_is_an_error(folder: Path):
    write(folder, weight_map={"a": SHARDS[0], "b": SHARDS[0]})
    for path in (folder, folder / INDEX, folder / "model.safetensors"):
        with pytest.raises(CorruptError, match=rf"{INDEX} does not name '{SHARDS[1]}', which .* belong to the same"):
            load_file(path)
    (folder / SHARDS[1]).rename(folder / "other-00002-of-00002.safetensors")
    assert load_file(folder).keys() == {"a", "b"}


@pytest.mark.parametrize("mmap", [False, True])
def test_an_index_rewritten_by_another_tool_does_not_turn_off_the_checks_of_our_shards(tmp_path: Path, mmap: bool):
    save_ours(tmp_path)
    content = json.loads((tmp_path / INDEX).read_text())
    write(tmp_path, {"total_size": 72}, content["weight_map"])
    assert list(compare_states(STATE, load_file(tmp_path, mmap=mmap))) == []
    assert verify(tmp_path).checked
    damaged = bytearray((tmp_path / SHARDS[1]).read_bytes())
    damaged[-1] ^= 0x40
    (tmp_path / SHARDS[1]).write_bytes(damaged)
    with pytest.raises(CorruptError, match=rf"{SHARDS[1]} is damaged"):
        load_file(tmp_path, mmap=mmap)
    with open_checkpoint(tmp_path) as checkpoint, pytest.raises(CorruptError, match="'c'"):
        checkpoint["c"][0]
    assert verify(tmp_path).damaged == ("c",)


def test_one_shard_of_ours_among_foreign_ones_is_checked(tmp_path: Path):
    save_ours(tmp_path)
    save_stock({"c": STATE["c"]}, tmp_path / SHARDS[1])
    write(tmp_path, {"total_size": 72}, json.loads((tmp_path / INDEX).read_text())["weight_map"])
    damaged = bytearray((tmp_path / SHARDS[0]).read_bytes())
    damaged[-1] ^= 0x40
    (tmp_path / SHARDS[0]).write_bytes(damaged)
    with pytest.raises(CorruptError, match=rf"{SHARDS[0]} is damaged: .*\n  'a'\n"):
        load_file(tmp_path)
    found = verify(tmp_path)
    assert found.damaged == ("a",)
    assert str(found).startswith(f"{tmp_path / INDEX}: damaged: the bytes of 1 of 3 tensors are not those")


def test_a_renamed_shard_whose_index_is_edited_to_match_is_still_fully_checked(tmp_path: Path):
    save_ours(tmp_path)
    (tmp_path / SHARDS[1]).rename(tmp_path / "model-last.safetensors")
    (tmp_path / INDEX).write_text((tmp_path / INDEX).read_text().replace(SHARDS[1], "model-last.safetensors"))
    assert list(compare_states(STATE, load_file(tmp_path))) == []
    assert read_metadata(tmp_path) == {"key": "value"}
    damaged = bytearray((tmp_path / "model-last.safetensors").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "model-last.safetensors").write_bytes(damaged)
    assert verify(tmp_path).damaged == ("c",)


def a_tensor_more(folder: Path) -> None:
    save_stock({"d": np.ones(2)}, folder / "more.safetensors")
    content = json.loads((folder / INDEX).read_text())
    content["weight_map"]["d"] = "more.safetensors"
    (folder / INDEX).write_text(json.dumps(content))


def a_tensor_less(folder: Path) -> None:
    content = json.loads((folder / INDEX).read_text())
    del content["weight_map"]["c"]
    (folder / SHARDS[1]).unlink()
    (folder / INDEX).write_text(json.dumps(content))


def a_shape(folder: Path) -> None:
    save_stock({"c": STATE["c"].reshape(2, 2)}, folder / SHARDS[1])


def a_dtype(folder: Path) -> None:
    save_stock({"c": STATE["c"].view("i8")}, folder / SHARDS[1])


@pytest.mark.parametrize("change", [a_tensor_more, a_tensor_less, a_shape, a_dtype])
def test_a_manifest_that_no_longer_fits_is_an_error_that_says_so_and_how_to_load_the_shards(
    tmp_path: Path, change: Any
):
    save_ours(tmp_path)
    change(tmp_path)
    for read in (load_file, verify, inspect):
        with pytest.raises(CorruptError, match=rf"the manifest in .*{INDEX} does not fit the index and its shards \("):
            read(tmp_path)
    content = json.loads((tmp_path / INDEX).read_text())
    del content["metadata"]["statezoo"]  # as the message says
    (tmp_path / INDEX).write_text(json.dumps(content))
    assert load_file(tmp_path)["b"].tolist() == STATE["b"].tolist()
    damaged = bytearray((tmp_path / SHARDS[0]).read_bytes())
    damaged[-1] ^= 1
    (tmp_path / SHARDS[0]).write_bytes(damaged)
    with pytest.raises(CorruptError, match=rf"{SHARDS[0]} is damaged"):
        load_file(tmp_path)


def test_a_plain_file_takes_precedence_over_an_index_with_its_name(folder: Path):
    save_stock({"x": np.ones(1)}, folder / "model.safetensors")
    assert list(load_file(folder)) == list(load_file(folder / "model.safetensors")) == ["x"]
    assert len(load_file(folder / INDEX)) == 3
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CorruptError, match=r"model.safetensors is not a valid safetensors file"):
        load_file(folder / "model.safetensors")


MANY = """
import resource, sys
import numpy
from statezoo.checkpoints import load_file, open_checkpoint
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
assert [array[0] for array in load_file(sys.argv[1]).values()] == list(range(1000))
with open_checkpoint(sys.argv[1]) as checkpoint:
    assert [tensor[0] for tensor in checkpoint.values()] == list(range(1000))
"""


def test_a_thousand_shards_need_few_open_files(tmp_path: Path):
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 100
    state = {str(number): np.full(3, number) for number in range(1000)}
    save_file(state, tmp_path / "model.safetensors", max_shard_size=24, durable=False)
    assert len(list(tmp_path.iterdir())) == 1001
    subprocess.run([sys.executable, "-c", MANY, tmp_path], check=True)


@pytest.mark.parametrize("how", ["replaced", "replaced by one of the same time", "overwritten"])
def test_one_of_many_shards_changed_while_open_is_an_error(tmp_path: Path, how: str):
    state = {str(number): np.full(3, number) for number in range(70)}
    save_file(state, tmp_path / "model.safetensors", max_shard_size=24, durable=False)
    shard, other = tmp_path / "model-00006-of-00070.safetensors", tmp_path / "other.safetensors"
    save_file({"5": np.zeros(3, int)}, other, durable=False)
    with open_checkpoint(tmp_path / "model.safetensors") as checkpoint:
        status = shard.stat()
        if how == "overwritten":
            shard.write_bytes(other.read_bytes())
        else:
            other.replace(shard)
        if how == "replaced by one of the same time":
            os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))
        else:
            os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
        with pytest.raises(ReadError, match=r"was replaced after the checkpoint was opened. Open it again"):
            checkpoint["5"][...]
        assert checkpoint["6"][0] == 6


def test_a_load_of_many_shards_that_are_replaced_meanwhile_returns_the_new_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "model.safetensors"
    states = [{str(number): np.full(3, number + add) for number in range(70)} for add in (0, 1, 2)]
    save_file(states[0], path, max_shard_size=24, durable=False)
    original, later = files.load_state, states[1:]

    def replace_and_load(*arguments: Any) -> Any:
        if later:
            save_file(later.pop(0), path, max_shard_size=24, durable=False)
        return original(*arguments)

    monkeypatch.setattr(files, "load_state", replace_and_load)
    assert list(compare_states(states[2], load_file(path))) == []
    with open_checkpoint(path) as checkpoint:
        path.with_name("model-00003-of-00070.safetensors").unlink()
        with pytest.raises(ReadError, match=r"was replaced after the checkpoint was opened. Open it again"):
            checkpoint["2"][0]


def test_an_index_replaced_by_one_with_the_same_text_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_ours(tmp_path)
    first = tmp_path / SHARDS[0]
    original, moved = sharded.load_index, tmp_path / "moved"
    first.rename(moved)  # as if its writer had removed it for another state, and saves the first one again

    def load_index(path: str) -> Index:
        index = original(path)
        if moved.exists():
            moved.rename(first)
            text = (tmp_path / INDEX).read_bytes()
            (tmp_path / INDEX).unlink()
            (tmp_path / INDEX).write_bytes(text)
            first.rename(moved)
            monkeypatch.setattr(sharded, "load_index", load_again)
        return index

    def load_again(path: str) -> Index:
        moved.rename(first)
        monkeypatch.setattr(sharded, "load_index", original)
        return original(path)

    monkeypatch.setattr(sharded, "load_index", load_index)
    assert list(compare_states(STATE, load_file(tmp_path))) == []

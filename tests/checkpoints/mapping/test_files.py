"""Mappings of files in every format and in shards: what is read, what stays shared, and what is checked."""

import io
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from statezoo.checkpoints import (
    CorruptError,
    Deferred,
    MappingError,
    MismatchError,
    StateError,
    UnsupportedTypeError,
    convert,
    diff,
    inspect,
    load_file,
    load_model,
    open_checkpoint,
    read_metadata,
    save_file,
    save_model,
    verify,
)
from statezoo.checkpoints.mapping import (
    AddPrefix,
    Cast,
    Concatenate,
    Ignore,
    Rename,
    Rewrite,
    Split,
    StripPrefix,
    Transpose,
)
from statezoo.core import Embedding, Linear, Module

RULES = [
    StripPrefix("net."),
    Transpose(r"decoder\.kernel"),
    Rewrite(r"(decoder)\.kernel", r"\1.weight"),
    Split("qkv", ("q", "k")),
]


def theirs() -> dict[str, Any]:
    embedding = np.arange(12, dtype=np.float32).reshape(3, 4)
    return {
        "net.embedding.weight": embedding,
        "net.head.weight": embedding,
        "net.decoder.kernel": embedding[1:],
        "net.qkv": np.arange(6.0),
        "net._extra_state": {"step": 3},
    }


def assert_is_ours(state: dict[str, Any]) -> None:
    expected = theirs()
    assert list(state) == ["embedding.weight", "head.weight", "decoder.weight", "q", "k", "_extra_state"]
    np.testing.assert_array_equal(state["embedding.weight"], expected["net.embedding.weight"])
    np.testing.assert_array_equal(state["decoder.weight"], expected["net.decoder.kernel"].T)
    np.testing.assert_array_equal(state["k"], [3, 4, 5])
    assert state["_extra_state"] == {"step": 3}


def assert_is_shared_as_before(state: dict[str, Any]) -> None:
    assert state["embedding.weight"] is state["head.weight"]
    assert np.shares_memory(state["embedding.weight"], state["decoder.weight"])


def test_a_file_of_every_format_is_loaded_converted_and_saved_with_a_mapping(path: Path, tmp_path: Path, suffix: str):
    save_file(theirs(), path, {"epoch": "7"})
    for mmap in (False, True, "c"):
        state = load_file(path, mapping=RULES, mmap=mmap)
        assert_is_ours(state)
        assert_is_shared_as_before(state)
    convert(path, tmp_path / f"ours{suffix}", mapping=RULES)
    assert verify(tmp_path / f"ours{suffix}").intact
    assert read_metadata(tmp_path / f"ours{suffix}") == {"epoch": "7"}
    assert_is_ours(load_file(tmp_path / f"ours{suffix}"))
    assert_is_shared_as_before(load_file(tmp_path / f"ours{suffix}"))
    save_file(load_file(tmp_path / f"ours{suffix}"), tmp_path / f"back{suffix}", mapping=RULES)
    with open_checkpoint(tmp_path / f"ours{suffix}") as checkpoint:
        save_file(checkpoint, tmp_path / f"copy{suffix}", mapping=RULES)
    for back in ("back", "copy"):
        assert diff(path, tmp_path / f"{back}{suffix}").same


def test_shards_are_mapped_on_both_sides(tmp_path: Path):
    save_file(theirs(), tmp_path / "theirs.safetensors", max_shard_size=40)
    convert(tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors", mapping=RULES, max_shard_size=40)
    assert len(list(tmp_path.glob("ours-*"))) > 1
    assert_is_ours(load_file(tmp_path / "ours.safetensors"))
    assert_is_ours(load_file(tmp_path / "theirs.safetensors", mapping=RULES))


def test_bytes_and_open_files_are_mapped(tmp_path: Path):
    file = io.BytesIO()
    save_file(load_file(written(tmp_path), mapping=RULES), file, mapping=RULES)
    assert_is_ours(load_file(file.getvalue(), mapping=RULES))


def written(folder: Path) -> Path:
    save_file(theirs(), folder / "theirs.safetensors")
    return folder / "theirs.safetensors"


def damaged(folder: Path, tensor: str) -> Path:
    """Return a file in which one byte of a tensor is flipped."""
    path = folder / "damaged.h5"
    save_file({"a": np.ones(3), "b": np.full(3, 2.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.index({"a": np.ones(3), "b": np.full(3, 2.0)}[tensor].tobytes())] ^= 1
    path.write_bytes(content)
    return path


def test_what_is_ignored_is_not_read_and_what_is_read_is_checked_under_its_name_in_the_file(tmp_path: Path):
    path = damaged(tmp_path, "a")
    assert list(load_file(path, mapping=[Ignore("a", "damaged"), Rename("b", "c")])) == ["c"]
    with pytest.raises(CorruptError) as caught:
        load_file(path, mapping=Rename("a", "c"))
    assert caught.value.tensors == ("a",)
    with pytest.raises(CorruptError, match="'a'"):
        convert(path, tmp_path / "out.h5", mapping=[Transpose(".*"), AddPrefix("x.")])
    assert not (tmp_path / "out.h5").exists()
    convert(path, tmp_path / "out.h5", mapping=Ignore("a", "damaged"))
    assert inspect(tmp_path / "out.h5").names == ["b"]


def test_entries_that_cannot_be_read_may_be_ignored(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["w"], file["text"] = np.ones(3), "words"
    assert list(load_file(tmp_path / "a.h5", mapping=Ignore("text", "words"))) == ["w"]
    assert list(load_file(tmp_path / "a.h5", mapping=Rename("w", "v"), skip_unsupported=True)) == ["v"]
    convert(tmp_path / "a.h5", tmp_path / "b.h5", mapping=Ignore("text", "words"))
    assert inspect(tmp_path / "b.h5").names == ["w"]
    for act in (load_file, lambda file, mapping: convert(file, tmp_path / "c.h5", mapping=mapping)):
        with pytest.raises(UnsupportedTypeError, match="text"):
            act(tmp_path / "a.h5", mapping=Rename("w", "v"))


def test_a_conversion_holds_one_tensor_at_a_time(tmp_path: Path):
    one = 1 << 22
    names = [f"{number}.kernel" for number in range(8)]
    big = {name: Deferred((one // 8, 2), "float32", lambda: np.ones((one // 8, 2), np.float32)) for name in names}
    save_file(big, tmp_path / "a.safetensors")
    rules = [Transpose(".*"), Split(r"(.*)\.kernel", (r"\1.a", r"\1.b")), Concatenate((r"(.*)\.b", r"(.*)\.a"), r"\1")]
    tracemalloc.start()
    try:
        convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", mapping=[*rules, Cast(".*", "float64")])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * one < len(names) * one


def test_a_snapshot_is_taken_before_the_rules(tmp_path: Path):
    state = {"a": np.zeros(3), "b": np.ones(3)}
    save_file(state, tmp_path / "a.h5", mapping=[Split("c", ("a", "b"))], snapshot=True)
    np.testing.assert_array_equal(load_file(tmp_path / "a.h5")["c"], [0, 0, 0, 1, 1, 1])


def test_extra_state_keeps_a_name_that_files_allow(tmp_path: Path):
    with pytest.raises(StateError, match="'extra' is dict, not an array"):
        save_file({"_extra_state": {}}, tmp_path / "a.h5", mapping=Rename("extra", "_extra_state"))


class Tied(Module):
    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.embedding = Embedding(3, 4)
        self.head = Linear(4, 3, bias=False)
        if tied:
            self.head.weight = self.embedding.weight


TIED = Rewrite(r"theirs\.(.*)", r"\1.weight")


def test_ties_are_kept_by_a_save_and_compared_by_a_load(path: Path):
    save_model(Tied(), path, mapping=TIED)
    assert inspect(path).names == ["theirs.embedding", "theirs.head"]
    assert inspect(path).stored_bytes == 48
    model = Tied()
    load_model(model, path, mapping=TIED)
    assert model.head.weight is model.embedding.weight
    apart = Tied(tied=False)
    with pytest.raises(MismatchError, match=r"head\.weight  shares memory with embedding\.weight in the file"):
        load_model(apart, path, mapping=TIED)
    load_model(apart, path, mapping=TIED, ties="restore")
    assert apart.head.weight is apart.embedding.weight


def test_a_mapping_applies_to_names_without_the_prefix(path: Path):
    save_file(
        {"model.theirs.embedding": np.ones((3, 4), "f4"), "model.theirs.head": np.ones((3, 4), "f4"), "x": np.ones(2)},
        path,
    )
    load_model(Tied(tied=False), path, prefix="model.", mapping=TIED)
    with pytest.raises(MappingError, match="matches no name in"):
        load_model(Tied(tied=False), path, mapping=TIED)


def test_a_model_that_does_not_fit_after_the_rules_is_told_how_to_change_them(path: Path):
    save_file({"a.theirs.embedding": np.ones((3, 4), "f4"), "a.theirs.head": np.ones((3, 4), "f4")}, path)
    with pytest.raises(MismatchError, match=r"Remove it: the mapping \[\*mapping, StripPrefix\('a\.'\)\]\."):
        load_model(Tied(tied=False), path, mapping=Rewrite(r"(.*)theirs\.(.*)", r"\1\2.weight"))


def test_a_save_that_a_load_would_not_undo_is_refused_and_the_file_stays(path: Path):
    save_file({"old": np.ones(1)}, path)
    state = {"norm.weight": np.ones(2), "other.gamma": np.ones(2)}
    with pytest.raises(
        MappingError, match=r"a load with it would give another state\.\n  other\.gamma would be missing"
    ):
        save_file(state, path, mapping=Rewrite(r"(.*)\.gamma", r"\1.weight"))
    with pytest.raises(MappingError, match="cannot be reversed"):
        save_file(state, path, mapping=Ignore("x", "y"))
    assert inspect(path).names == ["old"]

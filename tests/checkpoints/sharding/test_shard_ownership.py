"""A shard set removes its own files, and no others, whatever their names."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_states import INDEX, MARKED, NEW, OLD, USUAL, holds, names, save_plain, save_shards

from statezoo.checkpoints import Deferred, WriteError, load_file, save_file
from statezoo.checkpoints.testing import compare_states


def test_shards_that_another_index_or_none_names_are_kept(path: Path):
    save_shards(OLD, path)
    other = path.with_name("best.safetensors.index.json")
    other.write_bytes(path.with_name(INDEX).read_bytes())  # keeps the shards that it names
    # Named as ours, written by us, and not finished: all of them may belong to a copy whose index comes last.
    copied, plain, unfinished = (path.with_name(f"model-0000{number}-of-00009.safetensors") for number in (1, 2, 3))
    copied.write_bytes(path.with_name(USUAL[0]).read_bytes())
    save_file(OLD, plain, {"format": "pt"})
    unfinished.write_bytes(b"not finished")
    there = [USUAL[0].replace("-", "-00000009-", 1), copied.name, plain.name, unfinished.name]
    path.with_name(there[0]).write_bytes(path.with_name(USUAL[0]).read_bytes())
    save_shards(NEW, path)
    assert names(path) == sorted([*USUAL, *MARKED, INDEX, other.name, *there])
    assert list(compare_states(OLD, load_file(other))) == []


def test_a_copy_of_another_checkpoint_to_the_same_names_is_left_alone(path: Path):
    source = path.parent / "backup"
    source.mkdir()
    save_shards(NEW, source / path.name)
    save_shards(OLD, path)
    path.with_name(INDEX).unlink()
    save_plain(OLD, path)
    for name in sorted(os.listdir(source)):  # the index comes last
        shutil.copy2(source / name, path.parent)
        if name != INDEX:
            save_shards(OLD, path)
            save_plain(OLD, path)
    path.unlink()
    assert list(compare_states(NEW, load_file(path))) == []


def test_names_in_an_index_that_is_copied_before_its_shards_are_not_used(path: Path):
    copied = path.with_name("copied.index.json")
    copied.write_text(json.dumps({"weight_map": dict(zip("abc", USUAL, strict=True))}))
    save_shards(OLD, path)
    assert names(path) == sorted([*MARKED, INDEX, copied.name])


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_another_program_puts_at_the_name_of_a_shard_during_a_save_is_kept(path: Path, kind: str):
    save_shards(OLD, path)
    taken = path.with_name("model-00002-of-00004.safetensors")

    def make() -> np.ndarray:
        if kind == "file":
            taken.write_text("mine")
        elif kind == "folder":
            taken.mkdir()
        else:
            taken.symlink_to("elsewhere")
        return np.ones(5, "f4")

    with pytest.raises(WriteError, match=r"made by another program during the save\. Save again|is a folder"):
        save_shards({"d": Deferred((5,), "f4", make), **NEW}, path)
    assert os.path.lexists(taken)
    assert names(path) == sorted([*USUAL, taken.name, INDEX])
    assert holds(path, OLD)


def test_a_shard_that_another_file_has_replaced_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch):
    save_shards(OLD, path)
    mine = path.with_name("mine")
    mine.write_text("mine")
    original = os.rename

    def rename(source: Any, target: Any) -> None:
        if source == str(path.with_name(USUAL[1])):  # the save is about to remove it
            os.replace(mine, source)
        original(source, target)

    monkeypatch.setattr(os, "rename", rename)
    save_shards(NEW, path)
    assert path.with_name(USUAL[1]).read_text() == "mine"
    assert names(path) == sorted([*MARKED, USUAL[1], INDEX])


def test_a_link_in_place_of_a_shard_is_kept_and_so_is_its_target(path: Path):
    save_shards(OLD, path)
    disk = path.parent / "disk"
    disk.mkdir()
    path.with_name(USUAL[0]).rename(disk / "first.safetensors")
    path.with_name(USUAL[0]).symlink_to(disk / "first.safetensors")
    assert holds(path, OLD)
    save_plain(NEW, path)
    assert names(path) == sorted(["disk", USUAL[0], path.name])
    assert len(list(disk.iterdir())) == 1


def test_a_plain_save_leaves_the_shards_of_another_library_alone(path: Path):
    from safetensors.numpy import save_file as save_stock

    for name, shard in zip("ab", USUAL, strict=False):
        save_stock({name: OLD[name]}, path.with_name(shard))
    path.with_name(INDEX).write_text(json.dumps({"weight_map": dict(zip("ab", USUAL, strict=False))}))
    before = {name: path.with_name(name).read_bytes() for name in names(path)}
    save_plain(NEW, path)
    assert list(compare_states(NEW, load_file(path))) == []
    assert {name: path.with_name(name).read_bytes() for name in before} == before


def test_a_plain_save_removes_our_shards_whose_index_another_program_rewrote(path: Path):
    save_shards(OLD, path)
    content = json.loads(path.with_name(INDEX).read_text())
    path.with_name(INDEX).write_text(json.dumps({"weight_map": content["weight_map"]}))
    save_plain(NEW, path)
    assert names(path) == [path.name]


def test_nothing_is_removed_while_an_index_in_the_folder_cannot_be_read_and_the_rest_is_removed_later(path: Path):
    save_shards(OLD, path)
    path.with_name("other.index.json").write_text("{")
    save_shards(NEW, path)
    there = [name for name in names(path) if not name.startswith(".statezoo")]
    assert there == sorted([*USUAL, *MARKED, INDEX, "other.index.json"])
    assert list(compare_states(NEW, load_file(path))) == []
    path.with_name("other.index.json").unlink()
    save_shards(OLD, path)
    assert len(names(path)) == 4
    assert holds(path, OLD)


def test_files_in_an_old_index_without_shard_names_are_kept(path: Path):
    part = path.with_name("part.safetensors")
    save_file(OLD, part)
    path.with_name(INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(OLD, part.name)}))
    assert list(compare_states(OLD, load_file(path))) == []
    save_shards(NEW, path)
    assert names(path) == sorted([*USUAL, INDEX, part.name])


def test_anything_at_the_path_of_an_index_that_is_not_an_index_is_kept(path: Path):
    path.with_name(INDEX).write_text("a note")
    save_file(OLD, path)
    assert path.with_name(INDEX).read_text() == "a note"


def test_a_plain_file_that_is_saved_while_shards_replace_an_earlier_one_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_plain(OLD, path)
    later = path.with_name("later")
    save_plain({"later": np.ones(3)}, path.with_name("later.safetensors"))
    path.with_name("later.safetensors").rename(later)
    original = os.replace

    def replace(source: Any, target: Any) -> None:
        original(source, target)
        if str(target).endswith(INDEX) and later.exists():
            original(later, path)

    monkeypatch.setattr(os, "replace", replace)
    save_shards(NEW, path)
    assert list(load_file(path)) == ["later"]


def test_a_temporary_file_that_no_mark_names_is_not_removed(tmp_path: Path):
    foreign = tmp_path / ".statezoo-0123456789abcdef-0.tmp"
    foreign.write_text("mine")
    for _ in range(2):
        save_file({f"w{number}": np.ones(100) for number in range(4)}, tmp_path / "m.safetensors", max_shard_size=900)
    assert foreign.read_text() == "mine"


def test_files_of_another_checkpoint_that_an_edited_index_names_are_kept(path: Path):
    from safetensors.numpy import save_file as save_stock

    save_shards(OLD, path)
    foreign = path.with_name("diffusion-00001-of-00002.safetensors")
    save_stock({"d": np.ones(3)}, foreign)
    for save in (save_shards, save_plain):
        content = json.loads(path.with_name(INDEX).read_text())
        content["weight_map"]["d"] = foreign.name
        path.with_name(INDEX).write_text(json.dumps(content))
        save(NEW, path)
        assert foreign.exists()
    assert names(path) == [foreign.name, path.name]

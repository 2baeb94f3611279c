"""The paths that shards are saved to: links, modes, and paths that cannot be used."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from shard_states import AFTER, BEFORE, INDEX, NEW, OLD, holds, names, save_plain, save_shards

from statezoo.checkpoints import ArgumentError, Deferred, WriteError, load_file, save_file
from statezoo.checkpoints.testing import compare_states


def test_folders_and_pipes_in_the_way_are_refused_before_anything_is_written(path: Path):
    path.mkdir()
    with pytest.raises(WriteError, match=r"model.safetensors is a folder, and nothing was written. Give the name of a"):
        save_shards(OLD, path)
    path.rmdir()
    os.mkfifo(path.with_name(INDEX))
    with pytest.raises(WriteError, match=r"index.json is not a regular file, and nothing was written"):
        save_shards(OLD, path)
    assert names(path) == [INDEX]
    with pytest.raises(WriteError, match=r"The folder does not exist: create it first"):
        save_shards(OLD, path.parent / "missing" / path.name)


@pytest.mark.parametrize("name", ["a\\b.safetensors", "a\nb.safetensors", "a\udcff.safetensors"], ids=ascii)
def test_paths_that_an_index_cannot_have_are_refused(tmp_path: Path, name: str):
    with pytest.raises(
        ArgumentError, match=r"cannot be saved in shards: the index with their names allows no /.*Choose another"
    ):
        save_shards(OLD, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["état zéro.safetensors", "a.b.SafeTensors", "[x].safetensors", "a:b.safetensors"])
def test_unusual_paths_are_saved_and_found(tmp_path: Path, name: str):
    for state in (OLD, NEW, OLD):
        save_shards(state, tmp_path / name)
        assert list(compare_states(state, load_file(tmp_path / name))) == []
        assert len(list(tmp_path.iterdir())) == 4


def test_a_program_that_changes_its_working_directory_during_a_save_saves_where_it_began(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(path.parent)

    def make() -> np.ndarray:
        os.chdir("/")
        return NEW["a"]

    save_file(NEW | {"a": Deferred((5,), "f4", make)}, path.name, max_shard_size=20)
    assert holds(path, NEW)


def test_relative_paths_and_links_replace_every_kind_of_state(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(path.parent)
    for save, state in ((save_shards, OLD), (save_plain, NEW), (save_shards, OLD), (save_plain, NEW)):
        save(state, Path(path.name))
        assert holds(path, state)
        assert len(names(path)) == (1 if save is save_plain else 4)
    path.unlink()
    Path("disk").mkdir()
    path.symlink_to("disk/weights.safetensors")
    for save, state in ((save_shards, OLD), (save_plain, NEW), (save_shards, OLD)):
        save(state, Path(path.name))
        assert list(compare_states(state, load_file(path.name))) == []
        assert len(os.listdir("disk")) == (1 if save is save_plain else 4)


@BEFORE
@AFTER
def test_a_symbolic_link_is_followed_by_every_kind_of_save(path: Path, before: Callable, after: Callable):
    disk = path.parent / "disk"
    disk.mkdir()
    path.symlink_to(disk / "weights.safetensors")
    for save, state in ((before, OLD), (after, NEW), (before, OLD)):
        save(state, path)
        assert list(compare_states(state, load_file(path))) == []
        assert list(compare_states(state, load_file(disk / "weights.safetensors"))) == []
        assert list(compare_states(state, load_file(path.parent))) == []
        assert len(list(disk.iterdir())) == (1 if save is save_plain else 4)
        assert names(path) == ["disk", path.name]
        assert path.is_symlink()


def test_shards_replace_those_beside_a_link_and_those_of_its_target(path: Path):
    save_shards(OLD, path)
    target = path.parent / "disk" / "weights.safetensors"
    target.parent.mkdir()
    path.symlink_to(target)
    save_shards(NEW, path)
    assert names(path) == ["disk", path.name]
    assert list(compare_states(NEW, load_file(path))) == []


def test_a_link_at_the_path_of_an_index_is_followed(path: Path):
    index = path.parent / "disk" / "index"
    index.parent.mkdir()
    index.touch()
    path.with_name(INDEX).symlink_to(index)
    for state in (OLD, NEW):
        save_shards(state, path)
        assert holds(path, state)
        assert path.with_name(INDEX).is_symlink()
        assert set(json.loads(index.read_text())["weight_map"]) == set(state)


def test_a_link_that_leads_back_to_itself_is_an_error_and_is_kept(path: Path):
    path.symlink_to(path.name)
    with pytest.raises(WriteError, match=r"symbolic link that leads back to itself, and nothing was written\. Remove"):
        save_shards(NEW, path)
    assert path.is_symlink()


def test_a_link_to_a_file_that_no_shards_can_be_named_after_is_refused_and_kept(path: Path):
    blob = path.with_name("blob")  # as in Hugging Face's cache
    save_file(OLD, path)
    path.rename(blob)
    path.symlink_to(blob)
    with pytest.raises(
        ArgumentError, match=r"blob' cannot be saved in shards: .* no suffix but \.safetensors\. Choose"
    ):
        save_shards(NEW, path)
    assert names(path) == ["blob", path.name]
    assert list(compare_states(OLD, load_file(path))) == []


@BEFORE
@AFTER
def test_the_mode_and_the_owner_of_the_files_replaced_are_kept(path: Path, before: Callable, after: Callable):
    before(OLD, path)
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    for file in path.parent.iterdir():
        file.chmod(0o640)
        if is_root:
            os.chown(file, 12, 34)
    after(NEW, path)
    for file in path.parent.iterdir():
        status = file.stat()
        assert status.st_mode & 0o777 == 0o640, file
        assert not is_root or (status.st_uid, status.st_gid) == (12, 34)


def test_the_mode_of_new_shards_follows_the_umask(path: Path):
    before = os.umask(0o027)
    try:
        save_shards(OLD, path)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o640}

"""Checkpoints that share unchanged shards on disk: each is complete, for stock readers too."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.checkpoints import (
    DamagedWarning,
    Deferred,
    History,
    WriteError,
    fingerprint,
    load_file,
    open_checkpoint,
    read_metadata,
    save_file,
    verify,
)
from statezoo.checkpoints.runs.history import linked as linked_module
from statezoo.checkpoints.runs.history.linked import save_linked
from statezoo.checkpoints.testing import compare_states

LARGE = 1 << 16  # floats: 256 KiB


def state(step: int) -> dict[str, Any]:
    """Return a state that is three quarters frozen, with a tied head that contains the step."""
    frozen = {f"backbone.{number}": np.full(LARGE, number, "f4") for number in range(3)}
    head = np.full((2, LARGE // 2), step, "f4")
    return {"embedding.bias": np.zeros(3), **frozen, "head": head, "tied": head.T, "step": np.array(step)}


def blocks(folder: Path) -> int:
    """Return the number of bytes that a folder takes on disk, counting a file with several names once."""
    status = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(512 * blocks for blocks in {one.st_ino: one.st_blocks for one in status}.values())


def seen_by_stock_reader(folder: Path) -> dict[str, np.ndarray]:
    """Return the tensors in the shards that the index names, as Hugging Face's loaders read them."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    shards = {name: safetensors.numpy.load_file(folder / name) for name in set(index.values())}
    assert sorted(name for shard in shards.values() for name in shard) == sorted(index)
    return {name: shards[shard][name] for name, shard in index.items()}


@pytest.mark.parametrize("background", [False, True])
def test_frozen_tensors_are_on_disk_twice_for_any_number_of_checkpoints(tmp_path: Path, background: bool):
    with History(tmp_path / "shared", keep_last=10, share=True, background=background, durable=False) as shared:
        for step in range(10):
            shared.save(step, state(step))
    frozen, changing = 3 * 4 * LARGE, 4 * LARGE
    assert blocks(tmp_path / "shared") < 2 * frozen + 10 * (changing + 20_000)
    for saved in shared:
        assert list(compare_states(state(saved.step), load_file(saved.path))) == []


def test_stock_readers_open_each_checkpoint_with_the_content_of_a_single_file(tmp_path: Path):
    history = History(tmp_path / "shared", keep_last=4, share=True, durable=False)
    for step in range(4):
        history.save(step, state(step), {"loss": step})
        save_file(state(step), tmp_path / "one.safetensors", durable=False)
        folder = tmp_path / "shared" / f"step-{step:08}"
        assert fingerprint(folder) == fingerprint(tmp_path / "one.safetensors")
        found = seen_by_stock_reader(folder)
        stored = safetensors.numpy.load_file(tmp_path / "one.safetensors")
        assert found.keys() == stored.keys()
        for name, array in stored.items():
            np.testing.assert_array_equal(found[name], array)
        assert read_metadata(folder) == {"history": f'{{"metrics":{{"loss":{step}.0}},"step":{step}}}'}


def test_a_checkpoint_is_complete_after_the_one_it_shares_files_with_is_removed(tmp_path: Path):
    history = History(tmp_path, keep_last=1, share=True, durable=False)
    for step in range(4):
        history.save(step, state(step))
    assert sorted(os.listdir(tmp_path)) == ["history.jsonl", "step-00000003"]
    assert list(compare_states(state(3), load_file(tmp_path / "step-00000003"))) == []
    assert {path.stat().st_nlink for path in tmp_path.rglob("*.safetensors")} == {1}


SIZES = st.sampled_from([0, 3, LARGE // 2])
STATES = st.lists(
    st.dictionaries(st.sampled_from("abcde"), st.tuples(SIZES, st.integers(0, 1), st.sampled_from(["f4", "i4"]))),
    min_size=2,
    max_size=5,
)


@settings(deadline=None)
@given(STATES)
def test_each_checkpoint_of_a_run_holds_exactly_its_state(
    tmp_path_factory: pytest.TempPathFactory, contents: list[dict[str, tuple[int, int, str]]]
):
    folder, since = tmp_path_factory.mktemp("run"), None
    for number, content in enumerate(contents):
        state = {name: np.full(size, value, dtype) for name, (size, value, dtype) in content.items()}
        (folder / str(number)).mkdir()
        path = str(folder / str(number) / "model.safetensors")
        save_linked(state, path, {"number": str(number)}, since=since, durable=False)
        loaded, since = load_file(path), path
        assert list(loaded) == list(state)
        assert list(compare_states(state, loaded)) == []
        assert read_metadata(path) == {"number": str(number)}


def linked(path: Path) -> list[int]:
    """Return how many names each shard of a checkpoint has, in order."""
    return [shard.stat().st_nlink for shard in sorted(path.parent.glob("*.safetensors"))]


def save(folder: Path, state: dict[str, Any], since: Path | None = None) -> Path:
    folder.mkdir()
    path = folder / "model.safetensors"
    save_linked(state, str(path), since=str(since) if since else None, durable=False)
    assert list(compare_states(state, load_file(path))) == []
    return path


def test_tensors_with_the_same_bytes_but_another_shape_or_dtype_are_written(tmp_path: Path):
    first = save(tmp_path / "1", {"a": np.zeros(LARGE, "f4")})
    assert linked(save(tmp_path / "2", {"a": np.zeros(LARGE, "f4")}, first)) == [2]
    assert linked(save(tmp_path / "3", {"a": np.zeros((2, LARGE // 2), "f4")}, first)) == [1]
    assert linked(save(tmp_path / "4", {"a": np.zeros(LARGE, "i4")}, first)) == [1]


def test_the_neighbours_of_an_unfrozen_tensor_are_shared_again_from_the_next_save(tmp_path: Path):
    tensors = {name: np.full(LARGE, number, "f4") for number, name in enumerate("abc")}
    path, links = None, []
    for number in range(4):
        path = save(tmp_path / str(number), tensors | {"b": np.full(LARGE, number, "f4")}, path)
        links.append(linked(path))
    assert links == [[1], [1, 1, 1], [2, 1, 2], [3, 1, 3]]


def test_small_tensors_get_no_separate_shards(tmp_path: Path):
    small = {f"bias.{number}": np.zeros(10) for number in range(5)}
    first = save(tmp_path / "1", {**small, "head": np.zeros(3)})
    assert linked(save(tmp_path / "2", {**small, "head": np.ones(3)}, first)) == [1]


def test_reordered_tensors_are_written_in_the_new_order(tmp_path: Path):
    tensors = {name: np.full(LARGE, number, "f4") for number, name in enumerate("ab")}
    first = save(tmp_path / "1", tensors)
    other = save(tmp_path / "2", dict(reversed(tensors.items())), first)
    assert list(load_file(other)) == ["b", "a"]
    assert linked(other) == [1]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="paths of descriptors are read from /proc")
def test_a_durable_save_flushes_new_folders_and_the_shards_it_links_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flushed: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (flushed.append(os.readlink(f"/proc/self/fd/{file}")), fsync(file)))
    for step, durable in ((1, False), (2, False)):
        History(tmp_path / "runs", share=True, durable=durable).save(step, state(step))
    assert flushed == []
    History(tmp_path / "runs", share=True).save(3, state(3))
    History(tmp_path / "others")
    (shared,) = (path for path in (tmp_path / "runs" / "step-00000003").iterdir() if path.stat().st_nlink > 1)
    assert {str(shared), str(tmp_path), str(tmp_path / "runs"), str(shared.parent)} <= set(flushed)


def test_without_hard_links_everything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    history = History(tmp_path, share=True, durable=False)
    for step in range(3):
        history.save(step, state(step))
    for saved in history:
        assert list(compare_states(state(saved.step), load_file(saved.path))) == []
    assert {path.stat().st_nlink for path in tmp_path.rglob("*.safetensors")} == {1}


def test_nothing_is_shared_with_a_checkpoint_whose_index_is_damaged(tmp_path: Path):
    history = History(tmp_path, share=True, durable=False)
    history.save(1, state(1))
    (tmp_path / "step-00000001" / "model.safetensors.index.json").write_text("{")
    history.save(2, state(2))
    history.save(3, state(3))
    (tmp_path / "step-00000003" / "model.safetensors.index.json").write_text("")
    with pytest.warns(DamagedWarning, match="step-00000003"):
        found = history.latest()
    assert found is not None
    assert found.step == 2


def test_a_checkpoint_with_a_missing_shard_is_damaged_and_skipped(tmp_path: Path):
    history = History(tmp_path, share=True, durable=False)
    history.save(1, state(1))
    history.save(2, state(2))
    next((tmp_path / "step-00000002").glob("*.safetensors")).unlink()
    with pytest.warns(DamagedWarning, match="are missing"):
        found = history.latest()
    assert found is not None
    assert found.step == 1


def test_saving_a_step_again_replaces_its_shards(tmp_path: Path):
    history = History(tmp_path, share=True, durable=False)
    for value in (1, 2, 3):
        history.save(7, state(value))
    loaded = history.load()
    assert loaded is not None
    assert list(compare_states(state(3), loaded[1])) == []
    assert sorted(os.listdir(tmp_path)) == ["history.jsonl", "step-00000007"]


def test_a_save_that_fails_leaves_the_earlier_checkpoints(tmp_path: Path):
    history = History(tmp_path, share=True, durable=False)
    history.save(1, state(1))
    (tmp_path / "step-00000002").write_text("no folder")
    with pytest.raises(WriteError, match="step-00000002 could not be made: file exists"):
        history.save(2, state(2))
    assert list(compare_states(state(1), load_file(tmp_path / "step-00000001"))) == []


def flip_a_bit(path: Path, keep_time: bool) -> None:
    """Change a bit of the last tensor in place, as a failing disk does, or as a program that does not tell."""
    status = path.stat()
    with open(path, "r+b") as file:
        file.seek(-5, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-5, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def frozen_shard(folder: Path) -> Path:
    """Return the shard of a checkpoint that is a hard link."""
    (shard,) = (path for path in folder.glob("*.safetensors") if path.stat().st_nlink > 1)
    return shard


def intact(history: History) -> list[int]:
    return [saved.step for saved in history if verify(saved.path).intact]


def changed(path: Path) -> None:
    flip_a_bit(path, keep_time=False)


def cut(path: Path) -> None:
    os.truncate(path, 1000)


def replaced(path: Path) -> None:
    path.unlink()
    save_file({"other": np.ones(3)}, path)


def moved_to_another_disk(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere.safetensors")
    path.symlink_to("../elsewhere.safetensors")


@pytest.mark.parametrize("damage", [changed, cut, replaced, moved_to_another_disk])
def test_a_shard_that_was_changed_is_written_again_by_the_next_save(tmp_path: Path, damage: Any):
    history = History(tmp_path, keep_last=20, share=True, durable=False)
    for step in range(3):
        history.save(step, state(step))
    damage(frozen_shard(tmp_path / "step-00000002"))
    for step in range(3, 6):
        history.save(step, state(step))
        assert list(compare_states(state(step), load_file(tmp_path / f"step-{step:08}"))) == []
        assert all(not path.is_symlink() for path in (tmp_path / f"step-{step:08}").iterdir())
    assert frozen_shard(tmp_path / "step-00000005").stat().st_nlink >= 2  # shared again


def test_a_bit_that_changed_without_a_trace_is_found_by_the_first_save_of_a_process_and_then_regularly(tmp_path: Path):
    history = History(tmp_path, keep_last=50, share=True, durable=False)
    for step in range(3):
        history.save(step, state(step))
    flip_a_bit(frozen_shard(tmp_path / "step-00000002"), keep_time=True)
    later = History(tmp_path, keep_last=50, share=True, durable=False)
    for step in range(3, 6):
        later.save(step, state(step))
    assert intact(later) == [0, 3, 4, 5]
    flip_a_bit(frozen_shard(tmp_path / "step-00000005"), keep_time=True)
    for step in range(6, 30):
        later.save(step, state(step))
    assert len(set(range(6, 30)) - set(intact(later))) < 8


def test_a_shard_is_read_only_when_a_check_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    reads: list[str] = []
    holds = linked_module._holds
    monkeypatch.setattr(linked_module, "_holds", lambda path, *_: reads.append(path) or holds(path, *_))
    history = History(tmp_path, keep_last=3, share=True, durable=False)
    for step in range(18):
        history.save(step, state(step))
    assert [Path(path).parent.name for path in reads] == ["step-00000002", "step-00000010"]


def test_a_file_with_the_most_links_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    link = os.link

    def refuse_at_three(source: Any, target: Any, **named: Any) -> None:
        if os.stat(source).st_nlink >= 3:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        link(source, target, **named)

    monkeypatch.setattr(os, "link", refuse_at_three)
    history = History(tmp_path, keep_last=10, share=True, durable=False)
    for step in range(8):
        history.save(step, state(step))
    assert intact(history) == list(range(8))
    assert max(path.stat().st_nlink for path in tmp_path.rglob("*.safetensors")) == 3


def test_a_deferred_array_is_computed_once_for_each_save(tmp_path: Path):
    history, made = History(tmp_path, share=True, durable=False), []

    def make() -> np.ndarray:
        made.append(None)
        return np.full(LARGE, len(made), "f4")

    for step in (1, 2, 3):
        path = history.save(step, {"frozen": np.ones(LARGE, "f4"), "made": Deferred((LARGE,), "f4", make)})
        assert load_file(path)["made"][0] == step == len(made)


def test_an_open_checkpoint_is_shared_without_reading_its_tensors(tmp_path: Path):
    history = History(tmp_path, share=True, durable=False)
    history.save(1, state(1))
    with open_checkpoint(history.save(2, state(1))) as checkpoint:
        history.save(3, checkpoint)
    assert {path.stat().st_nlink for path in tmp_path.rglob("*.safetensors")} == {3}


def test_an_array_that_changes_during_a_save_gives_a_checkpoint_that_verifies(tmp_path: Path):
    history, changing = History(tmp_path, share=True, durable=False), np.zeros(LARGE, "f4")

    def make() -> np.ndarray:
        changing[:] += 1  # after the first look at it, before it is written
        return np.zeros(3)

    for step in (1, 2, 3):
        history.save(step, {"made": Deferred((3,), "f8", make), "changing": changing})
    assert intact(history) == [1, 2, 3]

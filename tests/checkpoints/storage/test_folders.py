"""New folders: each is flushed into the folder that holds it, so that a power cut does not lose what is in them."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from statezoo import zoo
from statezoo.checkpoints import History, WriteError
from statezoo.checkpoints.storage.folders import make_folder, make_folders

STATE = {"w": np.ones(3)}


class Calls:
    """The folders that were made and flushed, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[Path] = []
        self.flushed: list[Path] = []
        self._mkdir, self._fsync = os.mkdir, os.fsync
        monkeypatch.setattr(os, "mkdir", self._make)
        monkeypatch.setattr(os, "fsync", self._flush)

    def _make(self, path: str, *arguments: int) -> None:
        self._mkdir(path, *arguments)
        self.made.append(Path(path))

    def _flush(self, descriptor: int) -> None:
        self._fsync(descriptor)
        self.flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("the flushed folders are known by /proc")
    return Calls(monkeypatch)


def train(folder: Path) -> None:
    zoo.train(zoo.get_recipe("linear-regression").with_settings(epochs=1), folder)


@pytest.mark.parametrize(
    "make",
    [
        make_folders,
        lambda folder: History(folder).save(1, STATE),
        lambda folder: History(folder, share=True).save(1, STATE),
        train,
    ],
    ids=["make_folders", "History", "share", "train"],
)
def test_every_new_folder_is_flushed_into_its_parent(tmp_path: Path, calls: Calls, make: Callable[[Path], object]):
    make(tmp_path / "a" / "b" / "c")
    assert calls.made[:3] == [tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"]
    assert {folder.parent for folder in calls.made} <= set(calls.flushed)


def test_folders_are_flushed_from_the_top_down_and_so_is_the_deepest_that_existed(tmp_path: Path, calls: Calls):
    (tmp_path / "left").mkdir()  # by a process that was killed before it flushed tmp_path
    make_folders(tmp_path / "left" / "b" / "c")
    assert calls.flushed == [tmp_path, tmp_path / "left", tmp_path / "left" / "b"]


def test_a_folder_that_exists_is_flushed_too(tmp_path: Path, calls: Calls):
    make_folders(tmp_path)
    make_folder(str(tmp_path))
    assert calls.flushed == [tmp_path.parent] * 2


def test_without_durable_nothing_is_flushed(tmp_path: Path, calls: Calls):
    History(tmp_path / "a" / "b", durable=False).save(1, STATE)
    History(tmp_path / "c" / "d", durable=False, share=True).save(1, STATE)
    assert calls.flushed == []


def test_a_parent_that_cannot_be_flushed_is_an_error_for_a_new_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    make_folders(tmp_path)
    with pytest.raises(WriteError, match="its folder could not be flushed"):
        make_folders(tmp_path / "new")


@pytest.mark.parametrize("path", ["a/../b", "a//b/", "./a"])
def test_paths_may_be_relative_and_written_in_any_way(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    make_folders(path)
    assert os.path.isdir(path)

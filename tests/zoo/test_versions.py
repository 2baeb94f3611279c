"""Readers see one whole version of an entry, whatever publishers do meanwhile."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from statezoo import zoo
from statezoo.zoo.entry import Entry
from statezoo.zoo.publishing import placing
from statezoo.zoo.publishing.placing import placed
from statezoo.zoo.versions import whole


@pytest.fixture
def other(tiny_recipe: zoo.Recipe, tmp_path: Path) -> Path:
    """Another version of the same entry, published elsewhere."""
    zoo.train(tiny_recipe.with_settings(seed=1), tmp_path / "run")
    return zoo.publish(tmp_path / "run", tmp_path / "other")


def place(version: Path, target: Path) -> None:
    """Replace the entry at target by a copy of a version, as publish does."""
    with placed(target, lambda target: None) as folder:
        shutil.copytree(version, folder, dirs_exist_ok=True)


@pytest.fixture(params=["exchange", "two renames"])
def replace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Path], None]:
    if request.param == "two renames":
        monkeypatch.setattr(placing, "_renameat2", lambda one, other: False)
    return place


def test_a_reader_whose_entry_is_replaced_reads_the_new_one(
    tiny_entry: Path, other: Path, replace: Callable[[Path, Path], None]
):
    read = []

    def act(entry: Entry) -> tuple[str, str]:
        if not read:
            replace(other, tiny_entry)
        read.append(entry.manifest["fingerprint"])
        return entry.manifest["fingerprint"], entry.path("model.safetensors").name

    before = fingerprint_of(tiny_entry)
    found, filename = whole(tiny_entry, act)
    assert read == [before, found]
    assert found == fingerprint_of(other) != before
    assert filename == "model.safetensors"


def fingerprint_of(entry: Path) -> str:
    return whole(entry, lambda entry: entry.manifest["fingerprint"])


def test_damage_is_reported_and_not_read_again_and_again(tiny_entry: Path):
    (tiny_entry / "model.safetensors").write_bytes(b"damaged")
    calls = []

    def act(entry: Entry) -> Path:
        calls.append(entry)
        return entry.path("model.safetensors")

    with pytest.raises(zoo.EntryError, match="it is truncated or changed"):
        whole(tiny_entry, act)
    assert len(calls) == 1


def test_a_reader_that_is_overtaken_each_time_reads_at_last_under_the_publishers_lock(tiny_entry: Path, other: Path):
    versions = [other, Path(shutil.copytree(tiny_entry, tiny_entry.parent / "one"))]
    overtaken = []

    def act(entry: Entry) -> str:
        if len(overtaken) < 20:
            place(versions[len(overtaken) % 2], tiny_entry)
            overtaken.append(entry)
        return entry.manifest["fingerprint"]

    assert whole(tiny_entry, act) == fingerprint_of(tiny_entry)
    assert len(overtaken) == 20


def test_the_entry_of_a_publisher_that_was_killed_between_two_renames_still_loads(
    tiny_entry: Path, other: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(placing, "_renameat2", lambda one, other: False)
    child = os.fork()
    if child == 0:
        rename: Any = Path.rename

        def rename_and_die(self: Path, to: Path) -> None:
            rename(self, to)
            os._exit(9)

        monkeypatch.setattr(Path, "rename", rename_and_die)
        place(other, tiny_entry)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not tiny_entry.exists()
    assert zoo.load(f"file:{tiny_entry}").state_dict()
    assert all(check.passed for check in zoo.verify(f"file:{tiny_entry}"))
    place(other, tiny_entry)
    assert fingerprint_of(tiny_entry) == fingerprint_of(other)
    assert not (tiny_entry.parent / f".{tiny_entry.name}.publishing").exists()

"""What is recorded and cut: saves of every kind, each over what an earlier save left."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from runs import Checkpoints, Placing, Publishing
from saves import FOREIGN, Editing, Rewriting, Saves, Scenario, Training

from statezoo import checkpoints


def _merge(root: Path, path: Path) -> None:
    checkpoints.merge([root / "source.h5", root / "source.h5"], path)


def with_kills(scenario: Scenario, kills: Sequence[int]) -> Scenario:
    """Return a scenario in which a process is killed before the one that does everything."""
    scenario.kills = kills
    return scenario


SHARDS = {"max_shard_size": 12_000}
_ALL: list[Scenario] = [
    *(
        scenario
        for suffix in (".safetensors", ".h5", ".npz")
        for scenario in (
            Saves(f"save {suffix}", {}, {}, suffix=suffix),
            Saves(f"save {suffix} over a file", {}, {}, over={}, suffix=suffix),
            Saves(f"save {suffix} through a link", {}, {}, over={}, suffix=suffix, link=True),
            Saves(f"save {suffix} through a dangling link", {}, suffix=suffix, link=True),
            Training(f"save_training {suffix}", {}, {}, over={}, suffix=suffix),
            Rewriting(f"convert to {suffix}", lambda root, path: checkpoints.convert(root / "source.h5", path), suffix),
            Rewriting(f"repair to {suffix}", lambda root, path: checkpoints.repair(root / "source.h5", path), suffix),
            Rewriting(f"merge to {suffix}", _merge, suffix),
            Editing(f"edit {suffix}", {}, {}, over={}, suffix=suffix),
        )
    ),
    Saves("shards", SHARDS, SHARDS),
    Saves("shards over a file", SHARDS, over={}),
    Saves("shards over shards, more and fewer", {"max_shard_size": 6_000}, {"max_shard_size": 40_000}, over=SHARDS),
    Editing("edit of shards", {}, {}, over=SHARDS),
    Saves("a file over shards", {}, over=SHARDS),
    Saves("shards and files in turn", SHARDS, {}, SHARDS, {}, over={}),
    Checkpoints("history"),
    Checkpoints("history in new folders", new=True),
    Checkpoints("history .h5", format="hdf5"),
    Checkpoints("history in the background", background=True, new=True),
    Checkpoints("history that shares", share=True),
    Checkpoints("history that shares, in new folders", share=True, new=True),
    Checkpoints("history that shares, in the background", share=True, background=True),
    Publishing("publish", over=False),
    Publishing("publish over an entry", over=True),
    *(
        with_kills(scenario, (2, 5, 9))
        for scenario in (
            Saves("save over a file, after a kill", {}, over={}),
            Saves("shards over shards, after a kill", {"max_shard_size": 6_000}, over=SHARDS),
            Checkpoints("history, after a kill"),
            Checkpoints("history that shares, after a kill", share=True),
        )
    ),
    with_kills(Placing("an entry over an entry, after a kill"), range(1, 13)),
    Saves("save without durable", {}, {}, over={}, durable=False),
    Saves("shards without durable", SHARDS, {"max_shard_size": 6_000}, over=SHARDS, durable=False),
    Checkpoints("history without durable", durable=False),
    Checkpoints("history that shares, without durable", share=True, durable=False),
]
SCENARIOS = {scenario.name: scenario for scenario in _ALL}


def prepare(scenario: Scenario, root: Path) -> None:
    """Make state 0, among files of other programs."""
    for name, content in FOREIGN.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    scenario.prepare(root)


def check_foreign(root: Path) -> None:
    """Raise AssertionError if a file of another program was changed or removed."""
    for name, content in FOREIGN.items():
        assert (root / name).read_bytes() == content, f"{name} was changed"


def kill_before_fsync(number: int) -> None:
    """Kill this process before one of the next calls of fsync."""
    flush, counter = os.fsync, count(1)

    def counted(descriptor: int) -> None:
        if next(counter) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(descriptor)

    os.fsync = counted


if __name__ == "__main__":
    if sys.argv[3] != "0":
        kill_before_fsync(int(sys.argv[3]))
    SCENARIOS[sys.argv[1]].act(Path(sys.argv[2]))

"""What is recorded and cut: saves of every kind, each over what an earlier save left.

A scenario goes through states 0, 1, 2, ...: `prepare` makes state 0, and each call in `act` the next one. After a cut,
`look` says which state is there; `go_on` makes another save, and returns what is left that belongs to nothing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from recording import note

from statezoo import checkpoints
from statezoo import core as nn
from statezoo.checkpoints import CheckpointError, History, load_file, save_file, save_training
from statezoo.checkpoints.testing import compare_states
from statezoo.core.optim import SGD

NEXT = 99  # the state that is saved after a cut
_INDEX = ".index.json"
_FOREIGN = {"notes.txt": b"mine", ".statezoo-notes": b"mine too", "data/step-00000001.safetensors": b"no checkpoint"}


def state(number: int) -> dict[str, Any]:
    """Return the state of a number: small tensors that differ, and a large one that is always the same."""
    frozen = np.arange(17_000, dtype=np.float32)
    changing = {f"layer{name}": np.arange(700.0) * number + name for name in range(3)}
    return {"frozen": frozen, **changing, "number": np.array(number)}


def number_of(loaded: Any) -> int:
    """Return the number of a loaded state. Raises AssertionError unless it is one of ours, bit by bit."""
    number = int(loaded["number"])
    assert not list(compare_states(state(number), dict(loaded))), "a mixture of states was loaded"
    return number


class Scenario:
    """One way to save. durable: as in save_file; without it, a cut may lose everything, but not give wrong values.

    first: the number of the state that `prepare` makes. needs_marks: what a killed save left is found by its mark.
    kills: for each run, the fsync before which a process is killed; another one then starts over. 0 for no kill.
    """

    first = 0
    kills: Sequence[int] = (0,)
    needs_marks = False

    def __init__(self, name: str, durable: bool = True) -> None:
        self.name, self.durable = name, durable

    def prepare(self, root: Path) -> None:
        raise NotImplementedError

    def act(self, root: Path) -> None:
        raise NotImplementedError

    def look(self, root: Path) -> int:
        raise NotImplementedError

    def go_on(self, root: Path) -> list[str]:
        raise NotImplementedError


def step(number: int, act: Callable[[], object]) -> None:
    """Make the state of a number, and note when this begins and ends."""
    note(f"begin {number}")
    act()
    note(f"end {number}")


class Saves(Scenario):
    """Saves to one path. saves: what save_file is given, for each. over: the same for the first state, or None."""

    def __init__(
        self,
        name: str,
        *saves: dict[str, Any],
        over: dict[str, Any] | None = None,
        suffix: str = ".safetensors",
        link: bool = False,
        durable: bool = True,
    ) -> None:
        super().__init__(name, durable)
        self._saves, self._over, self._suffix, self._link = saves, over, suffix, link
        self.needs_marks = any("max_shard_size" in arguments for arguments in (*saves, over or {}))

    def path(self, root: Path) -> Path:
        return root / f"{'link' if self._link else 'model'}{self._suffix}"

    def prepare(self, root: Path) -> None:
        if self._link:
            (root / "elsewhere").mkdir()
            self.path(root).symlink_to(f"elsewhere/model{self._suffix}")
        if self._over is not None:
            self.save(root, 0, **self._over)

    def save(self, root: Path, number: int, **arguments: Any) -> None:
        save_file(state(number), self.path(root), **arguments)

    def act(self, root: Path) -> None:
        for number, arguments in enumerate(self._saves, 1):
            step(number, lambda: self.save(root, number, durable=self.durable, **arguments))  # noqa: B023

    def look(self, root: Path) -> int:
        try:
            return self.number_at(root)
        except FileNotFoundError:
            if self._over is None and not (os.path.exists(self.path(root))):
                return 0
            raise

    def number_at(self, root: Path) -> int:
        return number_of(load_file(self.path(root)))

    def go_on(self, root: Path) -> list[str]:
        self.save(root, NEXT, durable=False, **self._saves[-1])
        assert self.look(root) == NEXT
        folder = self.path(root).resolve().parent
        names = {os.path.relpath(os.path.join(at, file), root) for at, _, files in os.walk(root) for file in files}
        names -= {*_FOREIGN, os.path.relpath(self.path(root), root), os.path.relpath(self.path(root).resolve(), root)}
        for index in folder.glob(f"*{_INDEX}"):
            shards = json.loads(index.read_bytes())["weight_map"].values()
            names -= {os.path.relpath(folder / name, root) for name in (index.name, *shards)}
        return sorted(names)


class Training(Saves):
    """save_training, over an earlier one."""

    def save(self, root: Path, number: int, **arguments: Any) -> None:
        model, optimizer = self._made(number)
        save_training(model, optimizer, self.path(root), progress={"number": number}, **arguments)

    def number_at(self, root: Path) -> int:
        model, optimizer = self._made(NEXT + 1)
        number = checkpoints.load_training(model, optimizer, self.path(root))["number"]
        assert all((parameter.data == number).all() for parameter in model.parameters()), "a mixture was loaded"
        return number

    @staticmethod
    def _made(number: int) -> tuple[nn.Module, SGD]:
        model = nn.Linear(30, 20)
        for parameter in model.parameters():
            parameter.data[...] = number
        return model, SGD(model.parameters(), lr=0.1, momentum=0.9)


class Rewriting(Saves):
    """A tool on files, which replaces the file at the path. tool: takes the path; makes state 1 of state 0."""

    def __init__(self, name: str, tool: Callable[[Path, Path], object], suffix: str = ".safetensors") -> None:
        super().__init__(name, {}, over={}, suffix=suffix)
        self._tool = tool

    def prepare(self, root: Path) -> None:
        super().prepare(root)
        save_file(state(1), root / "source.h5")
        save_file(state(2), root / "other.h5")

    def act(self, root: Path) -> None:
        step(1, lambda: self._tool(root, self.path(root)))

    def go_on(self, root: Path) -> list[str]:
        return [name for name in super().go_on(root) if name not in ("source.h5", "other.h5")]


class Checkpoints(Scenario):
    """A history in new folders or one with a checkpoint of step 0. losses: by step."""

    LOSSES = (0.5, 0.3, 0.7, 0.6, 0.2, 0.9)

    def __init__(self, name: str, *, new: bool = False, durable: bool = True, **arguments: Any) -> None:
        super().__init__(name, durable)
        self._new, self._arguments, self.first = new, arguments, int(not new)
        self.needs_marks = "share" in arguments

    def history(self, root: Path, **arguments: Any) -> History:
        folder = root / "runs" / "one" / "checkpoints"
        arguments = {"durable": self.durable, **self._arguments, **arguments}
        return History(folder, keep_last=2, keep_best=1, metric="loss", mode="min", **arguments)

    def _save(self, history: History, number: int) -> None:
        history.save(number, state(number), {"loss": self.LOSSES[number]})

    def prepare(self, root: Path) -> None:
        if not self._new:
            with self.history(root, durable=True) as history:
                self._save(history, 0)

    def act(self, root: Path) -> None:
        history = self.history(root)
        for number in range(self.first, len(self.LOSSES)):
            note(f"begin {number + 1}")
            self._save(history, number)
            if "background" not in self._arguments:
                note(f"end {number + 1}")
            elif number > self.first:  # a save waits for the one before it
                note(f"end {number}")
        history.close()
        note(f"end {len(self.LOSSES)}")

    def look(self, root: Path) -> int:
        """Return how many saves the history has seen."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", checkpoints.DamagedWarning)
            history = self.history(root, durable=False)
            latest = history.latest()
            if latest is None:
                return 0
            best = history.best()
        seen = range(latest.step + 1)
        expected = min(seen, key=self.LOSSES.__getitem__)
        assert best is not None, "no checkpoint is the best"
        assert best.step == expected, f"of {latest.step + 1} steps, {expected} is the best, not {best.step}"
        kept = {*seen[-2:], expected}
        for saved in history:
            try:
                assert number_of(load_file(saved.path)) == saved.step, f"{saved.path} holds another step"
            except CheckpointError:
                assert saved.step not in kept, f"the checkpoint of step {saved.step} is lost"
            kept.discard(saved.step)
        assert not kept, f"the checkpoints of {kept} are missing"
        history.log()
        return latest.step + 1

    def go_on(self, root: Path) -> list[str]:
        history = self.history(root, durable=False)
        history.save(NEXT, state(NEXT), {"loss": 0.95})
        history.close()
        latest = history.latest()
        assert latest is not None, "nothing is there after a save"
        assert number_of(load_file(latest.path)) == NEXT
        folder = Path(history.folder)
        names = {os.path.relpath(os.path.join(at, file), folder) for at, _, files in os.walk(folder) for file in files}
        names |= {child.name for child in folder.iterdir() if child.is_dir() and not any(child.iterdir())}
        names -= {"history.jsonl"}
        assert {saved.step for saved in history} <= {record.step for record in history.log()}, "the log misses a step"
        for saved in history:
            if self.durable or saved.step == NEXT:
                number_of(load_file(saved.path))
            name = os.path.relpath(saved.path, folder)
            index = folder / f"{name}{_INDEX}"
            names -= {name, f"{name}{_INDEX}"}
            if index.exists():
                shards = json.loads(index.read_bytes())["weight_map"].values()
                names -= {os.path.join(os.path.dirname(name), shard) for shard in shards}
        return sorted(names)


class Publishing(Scenario):
    """An entry is published, over an earlier one, in which a user keeps a file, or where there is none."""

    NAME = "linear-regression.cut"

    def __init__(self, name: str, over: bool) -> None:
        super().__init__(name)
        self._over = over

    def prepare(self, root: Path) -> None:
        from statezoo import zoo

        self._register()
        for number in range(3):
            zoo.train(zoo.get_recipe(self.NAME).with_settings(lr=0.1 + number / 100), root / f"run-{number}")
        if self._over:
            self._publish(root, 0)
            (self._entry(root) / "users.txt").write_bytes(b"mine")

    def act(self, root: Path) -> None:
        self._register()
        for number in (1, 2):
            step(number, lambda: self._publish(root, number))  # noqa: B023

    def look(self, root: Path) -> int:
        from statezoo import zoo

        self._register()
        found = {path.read_bytes() for path in root.rglob("users.txt")}
        assert found == ({b"mine"} if self._over else set()), "the user's file is lost"
        if not self._over and not os.path.lexists(self._entry(root)):
            return 0
        checks = zoo.verify(f"file:{self._entry(root)}")
        assert all(check.passed for check in checks), [str(check) for check in checks if not check.passed]
        model = zoo.load(f"file:{self._entry(root)}")
        runs = [zoo.open_run(root / f"run-{number}").model for number in range(3)]
        found = [
            number for number, run in enumerate(runs) if not list(compare_states(run.state_dict(), model.state_dict()))
        ]
        assert len(found) == 1, "the entry holds the weights of no run"
        return found[0]

    def go_on(self, root: Path) -> list[str]:
        """Begin to publish, which clears up."""
        from statezoo.zoo.publishing.placing import placed

        class _NotNow(Exception):
            pass

        with suppress(_NotNow), placed(self._entry(root), lambda _: None):
            raise _NotNow
        return sorted(path.name for path in (root / "entries").iterdir() if path.name != self.NAME)

    def _entry(self, root: Path) -> Path:
        return root / "entries" / self.NAME

    def _publish(self, root: Path, number: int) -> None:
        from statezoo import zoo

        zoo.publish(root / f"run-{number}", root / "entries", force=True)

    def _register(self) -> None:
        from statezoo import zoo

        if self.NAME not in zoo.recipes():
            recipe = replace(zoo.get_recipe("linear-regression"), name=self.NAME, epochs=1, target=None)
            zoo.register_recipe(recipe)


class Placing(Scenario):
    """The step of a publish that puts the new entry in place, over an earlier one with a user's file."""

    def prepare(self, root: Path) -> None:
        self._place(root, 0)
        (root / "entry" / "users.txt").write_bytes(b"mine")

    def act(self, root: Path) -> None:
        step(1, lambda: self._place(root, 1))

    def look(self, root: Path) -> int:
        assert [path.read_bytes() for path in root.rglob("users.txt")] == [b"mine"], "the user's file is lost"
        return number_of(load_file(root / "entry" / "model.safetensors"))

    def go_on(self, root: Path) -> list[str]:
        self._place(root, NEXT)
        assert self.look(root) == NEXT
        assert (root / "entry" / "users.txt").exists()
        return [path.name for path in root.glob(".*.publishing")]

    @staticmethod
    def _place(root: Path, number: int) -> None:
        from statezoo.zoo.publishing.placing import placed

        with placed(root / "entry", lambda _: None) as folder:
            save_file(state(number), folder / "model.safetensors", durable=False)
            (folder / "manifest.json").write_text('{"files": {"model.safetensors": {}}}')


def _average(root: Path, path: Path) -> None:
    checkpoints.average([root / "source.h5", root / "source.h5"], path)


def with_kills(scenario: Scenario, kills: Sequence[int]) -> Scenario:
    """Return a scenario in which a process is killed before the one that does everything."""
    scenario.kills = kills
    return scenario


SHARDS = {"max_shard_size": 12_000}
_ALL: list[Scenario] = [
    *(
        scenario
        for suffix in (".safetensors", ".h5")
        for scenario in (
            Saves(f"save {suffix}", {}, {}, suffix=suffix),
            Saves(f"save {suffix} over a file", {}, {}, over={}, suffix=suffix),
            Saves(f"save {suffix} through a link", {}, {}, over={}, suffix=suffix, link=True),
            Saves(f"save {suffix} through a dangling link", {}, suffix=suffix, link=True),
            Training(f"save_training {suffix}", {}, {}, over={}, suffix=suffix),
            Rewriting(f"convert to {suffix}", lambda root, path: checkpoints.convert(root / "source.h5", path), suffix),
            Rewriting(f"repair to {suffix}", lambda root, path: checkpoints.repair(root / "source.h5", path), suffix),
            Rewriting(f"average to {suffix}", _average, suffix),
        )
    ),
    Saves("shards", SHARDS, SHARDS),
    Saves("shards over a file", SHARDS, over={}),
    Saves("shards over shards, more and fewer", {"max_shard_size": 6_000}, {"max_shard_size": 40_000}, over=SHARDS),
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
    for name, content in _FOREIGN.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    scenario.prepare(root)


def check_foreign(root: Path) -> None:
    """Raise AssertionError if a file of another program was changed or removed."""
    for name, content in _FOREIGN.items():
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

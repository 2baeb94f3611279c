"""Scenarios that save to one path, and what every scenario is.

A scenario goes through states 0, 1, 2, ...: `prepare` makes state 0, and each call in `act` the next one. After a cut,
`look` says which state is there; `go_on` makes another save, and returns what is left that belongs to nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recording import note

from statezoo import checkpoints
from statezoo import core as nn
from statezoo.checkpoints import edit, load_file, save_file, save_training
from statezoo.checkpoints.testing import compare_states
from statezoo.core.optim import SGD

NEXT = 99  # the state that is saved after a cut
INDEX = ".index.json"
FOREIGN = {"notes.txt": b"mine", ".statezoo-notes": b"mine too", "data/step-00000001.safetensors": b"no checkpoint"}


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
        names -= {*FOREIGN, os.path.relpath(self.path(root), root), os.path.relpath(self.path(root).resolve(), root)}
        for index in folder.glob(f"*{INDEX}"):
            shards = json.loads(index.read_bytes())["weight_map"].values()
            names -= {os.path.relpath(folder / name, root) for name in (index.name, *shards)}
        return sorted(names)


class Editing(Saves):
    """Edits of the checkpoint at a path: each replaces the tensors that change from state to state."""

    def save(self, root: Path, number: int, **arguments: Any) -> None:
        if not number:
            super().save(root, number, **arguments)
            return
        changing = {name: array for name, array in state(number).items() if name != "frozen"}
        edit(self.path(root), replace=changing, durable=arguments["durable"])


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

"""Scenarios of histories and of published entries."""

from __future__ import annotations

import json
import os
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from recording import note
from saves import INDEX, NEXT, Scenario, number_of, state, step

from statezoo import checkpoints
from statezoo.checkpoints import CheckpointError, History, load_file, save_file
from statezoo.checkpoints.testing import compare_states


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
            index = folder / f"{name}{INDEX}"
            names -= {name, f"{name}{INDEX}"}
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

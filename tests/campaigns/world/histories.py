"""The histories of the model of the world, and what the steps of each may hold."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from workers import killed_or_done, worker
from world_worker import RETENTION, loss_of

from statezoo.checkpoints.runs.history.retention import Retention, Saved

HISTORIES = {"plain": False, "shared": True}  # whether they share
CALLS = st.integers(1, 12) | st.integers(1, 60)  # at which a process is killed; most saves make fewer
WORKER = st.integers(0, 1)
counts: Counter[str] = Counter()


class Histories(RuleBasedStateMachine):
    """A folder of histories. steps: those of each history, and the states that each step may hold.

    shares: whether each history shares. dirty: where a killed process may have left something for the next save to
    clear.
    """

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="world-"))
        self.steps: dict[str, dict[int, set[Any]]] = {name: {} for name in HISTORIES}
        self.shares = dict(HISTORIES)
        self.dirty: set[str] = set()
        self.number = 0

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def path(self, name: str) -> str:
        return str(self.root / name)

    def next_number(self) -> int:
        self.number += 1
        return self.number

    histories = st.sampled_from((*HISTORIES, "copy"))

    @rule(name=histories, by=WORKER, step=st.integers(0, 20), fresh=st.booleans(), background=st.booleans())
    def save_step(self, name: str, by: int, step: int, fresh: bool, background: bool) -> None:
        if name in self.steps:
            number = self.next_number()
            kind = {"share": self.shares[name], "fresh": fresh, "background": background}
            worker(by).do("save_step", folder=self.path(name), step=step, number=number, **kind)
            self._check_steps(name, {step: {number}})
            self.dirty.discard(name)
            counts["history"] += 1

    @rule(name=histories, by=WORKER, step=st.integers(0, 20), at=CALLS)
    def save_step_and_die(self, name: str, by: int, step: int, at: int) -> None:
        if name in self.steps:
            number = self.next_number()
            kind = {"share": self.shares[name], "fresh": True, "background": False}
            worker(by).do("die_at", call=at)
            worker(by).begin("save_step", folder=self.path(name), step=step, number=number, **kind)
            is_dead = killed_or_done(by)
            self._check_steps(name, {step: {number}}, is_dead)
            if is_dead:
                self.dirty.add(name)
                counts["kill in a history"] += 1

    @rule(name=histories, steps=st.tuples(st.integers(0, 20), st.integers(0, 20)))
    def save_steps_together(self, name: str, steps: tuple[int, int]) -> None:
        if name in self.steps:
            kind = {"share": self.shares[name], "fresh": True, "background": False}
            new: dict[int, set[Any]] = {}
            for by, step in enumerate(steps):
                number = self.next_number()
                new.setdefault(step, set()).add(number)
                worker(by).begin("save_step", folder=self.path(name), step=step, number=number, **kind)
            for by in (0, 1):
                worker(by).result()
            self._check_steps(name, new)
            self.dirty.discard(name)
            counts["history together"] += 1

    @rule(name=histories, where=st.integers(0, 20))
    def remove_step(self, name: str, where: int) -> None:
        if self.steps.get(name) and name not in self.dirty:
            step = sorted(self.steps[name])[where % len(self.steps[name])]
            path = Path(self.path(name)) / f"step-{step:08}"
            if self.shares[name]:
                shutil.rmtree(path)
            else:
                path.with_suffix(".safetensors").unlink()
            del self.steps[name][step]
            counts["remove a step"] += 1

    @precondition(lambda self: "copy" not in self.steps)
    @rule(name=st.sampled_from(tuple(HISTORIES)))
    def copy_history(self, name: str) -> None:
        if name not in self.dirty and self.steps[name]:
            shutil.copytree(self.path(name), self.path("copy"))
            self.steps["copy"], self.shares["copy"] = dict(self.steps[name]), self.shares[name]
            counts["copy a history"] += 1

    def _check_steps(self, name: str, new: dict[int, set[Any]], is_dead: bool = False) -> None:
        """Compare a history with what it must and may hold after a save of new steps."""
        before = self.steps[name]
        may = {step: before.get(step, set()) | numbers for step, numbers in new.items()} if is_dead else new
        may = {**before, **may}
        seen = worker(0).do("look_back", folder=self.path(name), share=self.shares[name], fresh=True, background=False)
        found = {int(step): number for step, number in seen["steps"].items()}
        for step, number in found.items():
            assert number in may.get(step, set()), f"step {step} of {name} holds {number}, not {may.get(step)}"
        if is_dead and not any(found.get(step) in numbers for step, numbers in new.items()):
            must = set(before)  # nothing is removed before the new step is there
        else:
            must = _kept(may) if is_dead else _kept(may) | set(new)
        assert must <= set(found), f"steps {must - set(found)} of {name} are lost"
        self.steps[name] = {step: {number} for step, number in found.items()}
        if found:
            assert seen["latest"] == max(found), f"the latest of {found} is not {seen['latest']}"
            best = min(found, key=lambda step: (loss_of(found[step]), step))
            assert seen["best"] == best, f"the best of {found} is {best}, not {seen['best']}"


def _kept(steps: dict[int, set[Any]]) -> set[int]:
    """Return the steps that retention keeps, whatever their numbers are."""
    saves = [Saved(step, "", {"loss": loss_of(max(numbers))}) for step, numbers in steps.items()]
    certain = all(len(numbers) == 1 for numbers in steps.values())
    return Retention(**{**RETENTION, "keep_best": int(certain)}).kept(saves)

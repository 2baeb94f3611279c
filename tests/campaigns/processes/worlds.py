"""A folder of checkpoints of every kind, the saves and loads of it, and the check that each of them is whole."""

from __future__ import annotations

import fcntl
import gc
import os
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from statezoo import zoo
from statezoo.checkpoints import (
    CheckpointError,
    History,
    fingerprint,
    load_file,
    load_model,
    load_training,
    open_checkpoint,
    save_file,
    save_model,
    save_training,
    verify,
)
from statezoo.core import Linear, Sequential
from statezoo.core.optim import SGD

LENGTH = 30_000
_LEFT = (".statezoo-", ".tmp")


def state_of(value: int) -> dict[str, np.ndarray]:
    """Return a state whose elements all have one value, in several arrays, large and small, tied and not."""
    arrays = {f"w{number}": np.full(LENGTH, float(value)) for number in range(3)}
    return {**arrays, "tied": arrays["w0"], "step": np.array(float(value)), "bias": np.full(7, float(value))}


def value_of(state: Any) -> float:
    """Return the one value of a state. Raises AssertionError if it has several."""
    found = {float(value) for array in dict(state).values() for value in np.unique(np.asarray(array))}
    assert len(found) == 1, f"a state of several moments: {sorted(found)[:5]}"
    return found.pop()


class World:
    """The folder, and what is done in it. Each action takes a number of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.safetensors, self.hdf5, self.shards = folder / "a.safetensors", folder / "b.h5", folder / "s.safetensors"
        self._model_file, self._training_file = folder / "m.safetensors", folder / "t.safetensors"
        self._model = Sequential(Linear(50, 50), Linear(50, 3))
        self._optimizer = SGD(self._model.parameters(), 0.1, momentum=0.9)
        options: dict[str, Any] = {"keep_last": 2, "keep_best": 0, "durable": False}
        self.histories = {
            "plain": History(folder / "plain", **options),
            "share": History(folder / "share", share=True, **options),
            "background": History(folder / "background", background=True, format="hdf5", **options),
        }
        self._set_model(0)
        self.saves: dict[str, Callable[[int], object]] = {
            "save_file": lambda value: save_file(state_of(value), self.safetensors, durable=False),
            "save_file h5": lambda value: save_file(state_of(value), self.hdf5, durable=False),
            "save_file shards": self._save_in_shards,
            "save_model": self._save_model,
            "save_training": self._save_training,
            **{f"History {name}": self._save_to(history) for name, history in self.histories.items()},
        }
        self.loads: dict[str, Callable[[int], object]] = {
            "load_file": lambda _: value_of(load_file(self.safetensors)),
            "load_file mmap": lambda _: value_of(load_file(self.hdf5, mmap=True)),
            "load_file shards": lambda _: value_of(load_file(self.shards)),
            "open_checkpoint": self._open,
            "verify": lambda _: verify(self.safetensors),
            "load_model": lambda _: load_model(self._model, self._model_file),
            "load_training": lambda _: load_training(self._model, self._optimizer, self._training_file),
            "latest": lambda _: self._found(self.histories["share"].latest()),
            "History.load": lambda _: self._found(self.histories["plain"].load()),
            "zoo.load": lambda _: zoo.load("tense-mlp"),
            "History.close": lambda _: self.histories["background"].close(),
        }
        self.actions = self.saves | self.loads
        # Each once, so that nothing is imported later: an import that is interrupted or forked is not ours to promise.
        for number, act in enumerate(self.actions.values()):
            act(number)

    def check(self) -> None:
        """Raise AssertionError or CheckpointError unless every checkpoint is whole and nothing else is there."""
        self.histories["background"].close()
        for path in (self.safetensors, self.hdf5, self.shards):
            value_of(load_file(path))
        for path in (self._model_file, self._training_file):
            assert fingerprint(path)
            load_file(path)
        value_of(self._model.state_dict())
        for history in self.histories.values():
            for saved in history:
                assert value_of(load_file(saved.path)) == saved.step
            assert list(history), f"{history.folder} has no checkpoint"

    def settle(self) -> list[str]:
        """Save once to each place, and return what is left in the folder that no checkpoint needs."""
        for number, save in enumerate(self.saves.values()):
            save(10**7 + number)
        self.histories["background"].close()
        gc.collect()
        return [str(path) for path in self.folder.rglob("*") if path.name.startswith(_LEFT[0])]

    def check_settled(self, before: list[str]) -> None:
        """Settle. Raise AssertionError if a file, a descriptor or a lock is left. before: the descriptors at first."""
        left = self.settle()
        assert not left, f"after the next save, {left} is left"
        found = descriptors()
        assert found == before, f"descriptors: {sorted(Counter(found) - Counter(before))} more"
        assert not self.locks(), f"{self.locks()} is locked"

    def locks(self) -> list[str]:
        """Return the folders and logs that are locked."""
        return [
            str(path)
            for path in (self.folder, *self.folder.rglob("*.jsonl"), *self.folder.rglob("step-*"))
            if _is_locked(path)
        ]

    def _save_in_shards(self, value: int) -> None:
        save_file(state_of(value), self.shards, durable=False, max_shard_size=300_000)

    def _set_model(self, value: int) -> None:
        for parameter in self._model.parameters():
            parameter.data[...] = value

    def _save_model(self, value: int) -> None:
        save_model(self._model, self._model_file, durable=False)

    def _save_training(self, value: int) -> None:
        save_training(self._model, self._optimizer, self._training_file, progress={"step": value}, durable=False)

    def _save_to(self, history: History) -> Callable[[int], object]:
        return lambda value: history.save(value, state_of(value))

    def _open(self, _: int) -> None:
        with open_checkpoint(self.safetensors) as checkpoint:
            value_of({name: tensor[...] for name, tensor in checkpoint.items()})

    def _found(self, found: Any) -> None:
        assert found is not None, "a history with checkpoints has none"


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def descriptors() -> list[str]:
    """Return what the open descriptors of this process refer to."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:  # that of the listing
            continue
    return sorted(found)


def quiet() -> None:
    """Ignore the warnings about damaged checkpoints: the checks report damage."""
    warnings.simplefilter("ignore")


__all__ = ["CheckpointError", "World", "descriptors", "quiet", "state_of", "value_of"]

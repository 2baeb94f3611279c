"""Calls that are interrupted repeatedly, each in its own folder, and the check of what is there afterwards.

A state has a version: the number that fills every array. After a call that should bring version n, either the old
version is there or version n, whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import memory
import numpy as np
from tiny import TINY

from statezoo import core as nn
from statezoo import zoo
from statezoo.checkpoints import (
    History,
    convert,
    edit,
    load_file,
    load_model,
    merge,
    open_checkpoint,
    repair,
    save_file,
    save_model,
)
from statezoo.checkpoints.runs.history import background
from statezoo.checkpoints.runs.training import save_training


def state_of(version: int) -> dict[str, np.ndarray]:
    """Return a state with a tie and arrays of several sizes."""
    wide = np.full((40, 300), version, np.float32)
    return {"small": np.full(3, version, np.float64), "wide": wide, "tied": wide, "ints": np.full((7, 2), version)}


def version_of(state: Any) -> int:
    """Return the version of a state. Raises AssertionError if its arrays have several."""
    versions = {float(value) for array in state.values() for value in np.unique(np.asarray(array, np.float64))}
    assert len(versions) == 1, f"mixed versions {sorted(versions)[:5]}"
    return int(versions.pop())


class Job:
    """A call to interrupt.

    tidy: whether another whole call must leave the names in the folder as the first one did. starts_threads: in Python
    3.11, a thread that is being started has the id of its starter, and gets the exceptions that are set for that one.
    """

    tidy = True
    starts_threads = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Do what comes before each call."""

    def call(self, version: int) -> None:
        """Bring a version: this is interrupted."""
        raise NotImplementedError

    def found(self, version: int) -> int:
        """Return the version that is there. version: the one that was to come."""
        return version


class Saving(Job):
    """A save over an older file."""

    def __init__(self, folder: Path, name: str, save: Callable[[Any, Path], object]) -> None:
        super().__init__(folder)
        self.path, self.save = folder / name, save

    def call(self, version: int) -> None:
        self.save(version, self.path)

    def found(self, version: int) -> int:
        return version_of({name: v for name, v in load_file(self.path).items() if isinstance(v, np.ndarray)})


class SavingInto(Job):
    """A save into an open file, whose content is the caller's."""

    def call(self, version: int) -> None:
        with open(self.folder / "open", "wb") as file:
            save_file(state_of(version), file, format="safetensors")


class Rewriting(Saving):
    """A file made from another one."""

    def prepare(self) -> None:
        if not hasattr(self, "sources"):
            self.sources = {version: self.folder / f"{version}.safetensors" for version in (1, 2)}
            for version, path in self.sources.items():
                save_file(state_of(version), path, durable=False)

    def call(self, version: int) -> None:
        self.save(self.sources[version % 2 + 1], self.path)

    def found(self, version: int) -> int:
        return version - (super().found(version) != version % 2 + 1)


class Reading(Job):
    """A read, which changes nothing."""

    def __init__(self, folder: Path, name: str, read: Callable[[Path], Any]) -> None:
        super().__init__(folder)
        self.path, self.read = folder / name, read

    def prepare(self) -> None:
        if not self.path.exists():
            save_file(state_of(1), self.path)

    def call(self, version: int) -> None:
        self.read(self.path)


class IntoModel(Rewriting):
    """A file of the version loaded into a model."""

    def prepare(self) -> None:
        super().prepare()
        if not hasattr(self, "model"):
            self.model = nn.Module()
            for name, array in state_of(0).items():
                self.model.register_buffer(name, array)
            for version, path in list(self.sources.items()):
                self.sources[version] = path.with_suffix(self.path.suffix)
                convert(path, self.sources[version])

    def call(self, version: int) -> None:
        load_model(self.model, self.sources[version % 2 + 1])

    def found(self, version: int) -> int:
        return version - (version_of(self.model.state_dict()) != version % 2 + 1)


class InMemory(Job):
    """One of the changes in memory.py. The old version is the one before, and the new one that after."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder)
        self.name = name
        case = memory.make(name)
        case.change()
        case = memory.make(name)
        self.old = case.describe()
        case.change()
        self.new = case.describe()

    def prepare(self) -> None:
        self.case = memory.make(self.name)

    def call(self, version: int) -> None:
        self.case.change()

    def found(self, version: int) -> int:
        found = self.case.describe()
        assert found in (self.old, self.new), "half changed in memory"
        return version if found == self.new else version - 1


class Saves(Job):
    """The saves of a History."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder)
        self.options, self.starts_threads = options, "background" in options

    def call(self, version: int) -> None:
        with History(self.folder / "run", keep_last=2, **self.options) as history:
            history.save(version, state_of(version))

    def found(self, version: int) -> int:
        background._finish()  # an interrupted call leaves its save to the thread that makes it
        loaded = History(self.folder / "run", keep_last=2).load()
        assert loaded is not None, "no checkpoint is left"
        assert loaded[0].step == version_of(loaded[1]), "a checkpoint of another step"
        return loaded[0].step

    def prepare(self) -> None:
        self.tidy = False  # another step has another name


class ReadsOfHistory(Saves):
    """Reads of a History, which change nothing."""

    def prepare(self) -> None:
        super().prepare()
        if not (self.folder / "run").exists():
            super().call(1)
            super().call(2)

    def call(self, version: int) -> None:
        history = History(self.folder / "run", keep_last=2)
        assert history.latest() is not None
        assert history.load() is not None

    def found(self, version: int) -> int:
        super().found(2)
        return version


class Training(Job):
    """A run that is stopped and resumed, to the same bytes."""

    whole: bytes | None = None
    tidy = False

    def prepare(self) -> None:
        if self.whole is None:
            self.whole = self._weights(zoo.train(TINY, self.folder / "whole"))
        shutil.rmtree(self.folder / "run", ignore_errors=True)

    def call(self, version: int) -> None:
        zoo.train(TINY, self.folder / "run", resume=True, save_every=3)

    def found(self, version: int) -> int:
        run = zoo.train(TINY, self.folder / "run", resume=True, save_every=3)
        assert self._weights(run) == self.whole, "a resumed run ends with other weights"
        return version

    @staticmethod
    def _weights(run: Any) -> bytes:
        return b"".join(array.tobytes() for array in run.model.state_dict().values())


class Publishing(Job):
    """An entry that is published over an older one."""

    def prepare(self) -> None:
        if not (self.folder / "1").exists():
            for version in (1, 2):
                recipe = replace(TINY, lr=0.01 * version)
                zoo.register_recipe(recipe)
                zoo.train(recipe, self.folder / str(version))

    def call(self, version: int) -> None:
        zoo.publish(self.folder / str(version % 2 + 1), self.folder / "zoo", force=True)

    def found(self, version: int) -> int:
        weights = zoo.load(f"file:{self.folder / 'zoo' / TINY.name}").state_dict()
        trained = [load_file(self.folder / str(n) / "checkpoint.safetensors") for n in (1, 2)]
        same = [all(np.array_equal(weights[name], state[name]) for name in weights) for state in trained]
        assert any(same), "an entry with weights of neither run"
        return version if same[version % 2] else version - 1


def _training_of(version: int) -> tuple[nn.Module, nn.optim.Optimizer]:
    model = nn.Linear(3, 3)
    for parameter in model.parameters():
        parameter.data[...] = version
    return model, nn.optim.SGD(model.parameters(), lr=0.1)


def _model_of(version: int) -> nn.Module:
    return _training_of(version)[0]


JOBS: dict[str, Callable[[Path], Job]] = {
    f"save_file, {kind}": partial(Saving, name=name, save=save)
    for kind, name, save in (
        ("safetensors", "a.safetensors", lambda version, path: save_file(state_of(version), path)),
        ("hdf5", "a.h5", lambda version, path: save_file(state_of(version), path)),
        ("shards", "a.safetensors", lambda version, path: save_file(state_of(version), path, max_shard_size="30KB")),
    )
}
JOBS |= {
    "save_file, open file": SavingInto,
    "save_model": partial(Saving, name="a.h5", save=lambda version, path: save_model(_model_of(version), path)),
    "save_training": partial(
        Saving, name="a.safetensors", save=lambda version, path: save_training(*_training_of(version), path)
    ),
    "convert": partial(Rewriting, name="out.h5", save=convert),
    "repair": partial(Rewriting, name="out.safetensors", save=repair),
    "edit": partial(
        Rewriting, name="out.safetensors", save=lambda source, path: edit(source, metadata={"edited": "yes"}, to=path)
    ),
    "merge": partial(Rewriting, name="out.safetensors", save=lambda source, path: merge([source, source], path)),
    "load_file": partial(Reading, name="a.safetensors", read=load_file),
    "load_file, hdf5": partial(Reading, name="a.h5", read=load_file),
    "load_file, mapped": partial(Reading, name="a.safetensors", read=partial(load_file, mmap=True)),
    "open_checkpoint": partial(Reading, name="a.h5", read=lambda path: open_checkpoint(path)["wide"][3:5]),
    "load_model, hdf5": partial(IntoModel, name="out.h5", save=convert),
    "History.save": Saves,
    "History.save, shared": partial(Saves, share=True),
    "History.save, background": partial(Saves, background=True),
    "History.load": ReadsOfHistory,
    "zoo.load": partial(Reading, name="unused.safetensors", read=lambda path: zoo.load("linear-regression")),
    "zoo.train": Training,
    "zoo.publish": Publishing,
    **{name: partial(InMemory, name=name) for name in (*memory.CASES, *memory.TRACELESS)},
}

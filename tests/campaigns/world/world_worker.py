"""A process of the model of the world (world.py): it does what it is told, one line of JSON at a time."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from statezoo import core as nn
from statezoo.checkpoints import CheckpointError, History, MissingFileError, load_file, save_file, save_training
from statezoo.checkpoints.storage import durable
from statezoo.checkpoints.testing import compare_states
from statezoo.core.optim import SGD
from statezoo.zoo.publishing.placing import placed
from statezoo.zoo.versions import place_of

DAMAGED = "damaged"
WEIGHTS = "model.safetensors"
RETENTION: dict[str, Any] = {"keep_last": 2, "keep_best": 1, "metric": "loss", "mode": "min"}


def loss_of(number: int) -> float:
    """Return the metric of a state."""
    return number * 7919 % 101 / 101


def state(number: int) -> dict[str, Any]:
    """Return a state: one tensor is the same in all of them, and large enough to be shared."""
    return {"same": np.arange(17_000, dtype="f4"), "w": np.full((20, 30), number), "number": np.array(number)}


def number_at(path: str) -> int:
    """Return the number of the state at a path. Raises AssertionError if it is a mixture."""
    loaded = load_file(path)
    if "number" in loaded:
        number = int(loaded["number"])
        assert not list(compare_states(state(number), loaded)), f"{path} holds a mixture"
        return number
    values = {float(value) for name, array in loaded.items() if name.startswith("model.") for value in array.flat}
    assert len(values) == 1, f"{path} holds a mixture"
    return int(values.pop())


def look(path: str) -> int | str | None:
    """Return the number of the state at a path, DAMAGED, or None if nothing is there."""
    try:
        return number_at(path)
    except MissingFileError:
        return None
    except CheckpointError:
        return DAMAGED


def save(path: str, number: int, how: str, durable: bool) -> None:
    """Save the state of a number in one of three ways."""
    if how == "training":
        model = nn.Linear(3, 2)
        for parameter in model.parameters():
            parameter.data[...] = number
        save_training(model, SGD(model.parameters(), lr=0.1), path, durable=durable)
    else:
        save_file(state(number), path, durable=durable, max_shard_size=4000 if how == "shards" else None)


_histories: dict[str, History] = {}


def history(folder: str, share: bool, fresh: bool, background: bool) -> History:
    """Return the history in a folder: another object, or that of the last call."""
    if fresh or folder not in _histories:
        _histories[folder] = History(folder, share=share, background=background, durable=False, **RETENTION)
    return _histories[folder]


def save_step(folder: str, step: int, number: int, **kind: bool) -> None:
    """Save the state of a number in a history."""
    to = history(folder, **kind)
    to.save(step, state(number), {"loss": loss_of(number)})
    to.close()


def look_back(folder: str, **kind: bool) -> dict[str, Any]:
    """Return the steps of a history with their numbers, the latest and the best."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of = history(folder, **kind)
        try:
            latest, best = of.latest(), of.best()
        except CheckpointError:
            latest = best = None
        steps = {saved.step: look(saved.path) for saved in of}
    return {"steps": steps, "latest": latest and latest.step, "best": best and best.step}


def publish(folder: str, number: int) -> None:
    """Publish a folder with the state of a number."""
    with placed(Path(folder), lambda _: None) as new:
        save_file(state(number), new / WEIGHTS, durable=False)
        (new / "manifest.json").write_text(json.dumps({"files": {WEIGHTS: {}}}))


def look_at_published(folder: str) -> int | str | None:
    """Return the number of the state in a published folder."""
    return look(str(place_of(Path(folder)) / WEIGHTS))


def die_at(call: int) -> None:
    """Kill this process at one of the next calls that change files."""
    counter = count(1)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **options: Any) -> Any:
            if next(counter) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return counting

    for name in ("open", "write", "rename", "replace", "link", "unlink", "mkdir", "rmdir", "fsync"):
        setattr(os, name, counted(getattr(os, name)))
    durable._write_at = counted(durable._write_at)


TASKS = {task.__name__: task for task in (save, look, save_step, look_back, publish, look_at_published, die_at)}


def main() -> None:
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(TASKS[name](**arguments)), flush=True)


if __name__ == "__main__":
    main()

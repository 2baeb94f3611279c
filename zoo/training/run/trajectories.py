"""A trajectory: the weights of one run before it began and after each of its epochs, to watch a model learn.

A run keeps one file an epoch, so that a run that is killed and resumed keeps the same ones. Published they are stacked
in one file: each tensor has the epochs as its first axis.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from ....checkpoints import load_file, save_model
from ....core import Module, init
from ....core.random import undisturbed_generator
from ...entry import TRAJECTORY, Entry, open_entry
from ...errors import EntryError, RunError
from ...loading import find
from ...registry import build

FOLDER = "trajectory"


class Trajectory(Sequence[Module]):
    """The models of one run: number k is in eval mode and has the weights after epoch k; 0 is the untrained one.

    A model is built when it is asked for, a slice gives a list of them. states: the weights themselves, by their names
    in the state_dict, each a read-only array (epochs + 1, *shape).
    """

    def __init__(self, architecture: str, config: Mapping[str, Any], states: Mapping[str, np.ndarray]):
        self._architecture, self._config = architecture, dict(config)
        self.states = dict(states)
        for array in self.states.values():
            array.flags.writeable = False

    def __len__(self) -> int:
        return len(next(iter(self.states.values())))

    @overload
    def __getitem__(self, epoch: int) -> Module: ...
    @overload
    def __getitem__(self, epoch: slice) -> list[Module]: ...
    def __getitem__(self, epoch: int | slice) -> Module | list[Module]:
        if isinstance(epoch, slice):
            return [self[number] for number in range(*epoch.indices(len(self)))]
        if not -len(self) <= epoch < len(self):
            raise IndexError(f"epoch {epoch} of a trajectory of {len(self) - 1} epochs")
        with undisturbed_generator(), init.skip_init():
            model = build(self._architecture, self._config)
        model.load_state_dict({name: array[epoch] for name, array in self.states.items()})
        return model.eval()


def trajectory(name: str) -> Trajectory:
    """The models of the run that made an entry, by epoch: trajectory("tense-mlp")[10].predict("hablar", "yo").

    name: an entry's name, or "file:FOLDER". Raises UnknownNameError, or EntryError for an entry that was published
    without a trajectory, as all are whose recipe does not keep one.
    """
    return load_trajectory(open_entry(find(name)))


def load_trajectory(entry: Entry) -> Trajectory:
    """The trajectory of an opened entry. Raises EntryError if it has none, or another one than it should have."""
    manifest = entry.manifest
    if TRAJECTORY not in manifest["files"]:
        raise EntryError(f"{entry.name} was published without a trajectory: its recipe does not keep one")
    states = load_file(entry.path(TRAJECTORY))
    epochs = {len(array) if np.ndim(array) else None for array in states.values()}
    if len(epochs) != 1 or None in epochs:
        raise EntryError(f"{entry.folder / TRAJECTORY} is no trajectory: its tensors do not count the same epochs")
    return Trajectory(manifest["architecture"], manifest["config"], states)


def keep_weights(run: Path, model: Module, epoch: int) -> None:
    """Keep the weights after an epoch in a run's folder; 0 for those it begins with. Raises RunError or WriteError."""
    try:
        (run / FOLDER).mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"{run / FOLDER} cannot be a folder: {error.strerror}; train into another folder") from error
    save_model(model, _path(run, epoch))


def stack_weights(run: Path, epochs: int) -> dict[str, np.ndarray]:
    """The kept weights of a run of so many epochs, each (epochs + 1, *shape). Raises RunError if one is missing."""
    try:
        states = [load_file(_path(run, epoch)) for epoch in range(epochs + 1)]
    except FileNotFoundError as error:
        raise RunError(f"{run} did not keep the weights of every epoch; train anew into another folder") from error
    return {name: np.stack([state[name] for state in states]) for name in states[0]}


def _path(run: Path, epoch: int) -> Path:
    return run / FOLDER / f"epoch-{epoch:05}.safetensors"

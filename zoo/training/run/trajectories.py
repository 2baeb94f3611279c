"""Trajectories: the weights of one run before training and after each epoch, to watch a model learn.

A run keeps one file per epoch, so a run that is killed and resumed ends with the same files. A published entry stacks
them in one file: the first axis of each tensor counts epochs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from ....checkpoints import load_file, save_model
from ....checkpoints.storage.folders import make_folder
from ....core import Module, init
from ....core.random import undisturbed_generator
from ...entry import TRAJECTORY, Entry
from ...errors import EntryError, RunError
from ...loading import find
from ...registry import build
from ...versions import whole

FOLDER = "trajectory"


class Trajectory(Sequence[Module]):
    """The models of one run. Model k is in eval mode and has the weights after epoch k; model 0 is untrained.

    A model is built when it is indexed; a slice is a list of models. states: the weights by their names in the
    state_dict, each a read-only array (epochs + 1, *shape).
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
            raise IndexError(f"There is no epoch {epoch} in a trajectory of {len(self) - 1} epochs.")
        with undisturbed_generator(), init.skip_init():
            model = build(self._architecture, self._config)
        model.load_state_dict({name: array[epoch] for name, array in self.states.items()})
        return model.eval()


def trajectory(name: str) -> Trajectory:
    """Return the models of the run that made an entry: trajectory("tense-mlp")[10].predict("hablar", "yo").

    name: an entry's name, or "file:FOLDER". Raises UnknownNameError if there is no such entry, and EntryError if it has
    no trajectory.
    """
    return whole(find(name), load_trajectory)


def load_trajectory(entry: Entry) -> Trajectory:
    """Return the trajectory of an opened entry. Raises EntryError if it is missing, empty or inconsistent."""
    manifest = entry.manifest
    if TRAJECTORY not in manifest["files"]:
        raise EntryError(f"{entry.name} was published without a trajectory: its recipe does not keep one.")
    states = load_file(entry.path(TRAJECTORY))
    epochs = {len(array) if np.ndim(array) else 0 for array in states.values()}
    if len(epochs) != 1 or 0 in epochs:
        raise EntryError(f"{entry.folder / TRAJECTORY} is not a trajectory: its tensors do not have the same epochs.")
    return Trajectory(manifest["architecture"], manifest["config"], states)


def keep_weights(run: Path, model: Module, epoch: int) -> None:
    """Save the weights after an epoch in the folder of a run; epoch 0 is before training.

    Raises RunError if the folder cannot be created, and WriteError if the file cannot be written.
    """
    try:
        make_folder(str(run / FOLDER))
    except OSError as error:
        raise RunError(f"{run / FOLDER} cannot be created: {error.strerror}. Train into another folder.") from error
    save_model(model, _path(run, epoch))


def stack_weights(run: Path, epochs: int) -> dict[str, np.ndarray]:
    """Return the kept weights of a run, each (epochs + 1, *shape). Raises RunError if an epoch is missing."""
    try:
        states = [load_file(_path(run, epoch)) for epoch in range(epochs + 1)]
    except FileNotFoundError as error:
        raise RunError(f"{run} does not hold the weights of every epoch. Train again into another folder.") from error
    return {name: np.stack([state[name] for state in states]) for name in states[0]}


def _path(run: Path, epoch: int) -> Path:
    return run / FOLDER / f"epoch-{epoch:05}.safetensors"

"""Adapter: the protocol between the library and a framework. An adapter says what the state of a model is.

    class Micrograd(Adapter):
        def state(self, model):
            return {"values": np.array([value.data for value in model.parameters()])}

        def load(self, model, values, commit):
            pairs = zip(model.parameters(), values["values"].tolist(), strict=True)
            commit.add((setattr, value, "data", number) for value, number in pairs)

    register_adapter(micrograd.nn.Module, Micrograd())

That is all: save_model, load_model, History, save_training, diff, fingerprint and assert_roundtrip then take such a
model. Everything else is common to all models: names, shapes, dtypes and ties are compared before anything changes.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ....core.commit.commit import Commit
    from ....core.commit.steps import Step
    from ....core.nn.module.loading import Targets


class Pair(NamedTuple):
    """A name, and an earlier or the kept name that it shares memory with in a file."""

    name: str
    partner: str


class Adapter(ABC):
    """What the library knows of one kind of model. A subclass defines `state` and `load`."""

    # False if a tie in a model only says that a value is stored once: then a load ties what the file ties.
    binds_ties = True
    # True if the optimizers of the framework have the adapter too, for save_training.
    has_optimizers = False

    @abstractmethod
    def state(self, model: Any) -> Mapping[str, Any]:
        """Return the state of a model: NumPy arrays by name, and extra state.

        The order of the names is kept. Arrays that share memory are saved as tied or as views, so where the memory of
        the model can be seen by NumPy, return that and no copy. A value that is not an array has a name that is
        `_extra_state` or ends in `._extra_state`, and consists of what JSON holds exactly.
        """

    @abstractmethod
    def load(self, model: Any, values: Mapping[str, Any], commit: Commit) -> Any:
        """Add the changes that put values into a model to `commit`. Nothing may change before `commit` is applied.

        values: arrays and extra state by the names of `state`, perhaps not all of them. Each array has the dtype and
        shape that it has in `state`. They belong to the model: no other model gets them.
        commit: `commit.write(array, values)` copies into an array of the model. `commit.add([(function, *arguments)])`
        adds calls of functions written in C that cannot fail, such as setattr, dict.__setitem__ and list.append. These
        all happen in one call, which nothing can interrupt. `commit.call(function, keep, revert)` calls anything else
        first; `revert` undoes it.
        Return None, or, if such models cannot be changed, a new model: load_model returns it, and nothing needs to be
        committed.
        """

    def targets(self, model: Any) -> Targets:
        """Return what a load compares a file with. Override it if a state has costs that its shapes do not have."""
        from ....core.nn.module.loading import Targets

        return Targets(type(model).__name__, self.state(model), in_place=False)

    def tie(
        self, model: Any, targets: Targets, state: Mapping[str, Any], pairs: Iterable[Pair]
    ) -> tuple[list[Step], list[Pair]]:
        """Return steps that make pairs of names share memory in the model as in `state`, and the pairs that cannot.

        The steps come after those of `load`. Override it if load_model(..., ties="restore") can work.
        """
        return [], list(pairs)

    def copy(self, model: Any) -> Any:
        """Return a copy with the same sharing, which shares no memory with the model. assert_roundtrip needs one."""
        return copy.deepcopy(model)

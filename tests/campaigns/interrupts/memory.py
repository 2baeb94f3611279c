"""What changes models, optimizers and generators in memory, and how to see whether a change is there.

A case makes something, returns what changes it, and what describes it. However the change ends, the description is that
of before or that of after.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from describing import describe
from nets import Net

from statezoo import core as nn
from statezoo.checkpoints import load_model, save_model
from statezoo.checkpoints.runs.training import load_training, save_training
from statezoo.core import Parameter, optim
from statezoo.core.nn.module.hooks import Hook


class Case(NamedTuple):
    """A change, and a function that describes what it changes."""

    change: Callable[[], Any]
    describe: Callable[[], Any]


_SAVED: dict[Any, bytes] = {}


def _saved(key: str, save: Callable[[io.BytesIO], None]) -> bytes:
    if key not in _SAVED:
        save(file := io.BytesIO())
        _SAVED[key] = file.getvalue()
    return _SAVED[key]


def load_state_dict() -> Case:
    model, state = Net(1), Net(2).state_dict()
    return Case(lambda: model.load_state_dict(state), lambda: describe(model))


class LoadsItself(nn.Linear):
    """A layer that takes part in a load, with a hook besides."""

    def __init__(self, start: float) -> None:
        super().__init__(2, 2)
        self.loads = 0
        nn.init.constant_(self.weight, start)
        self._load_state_dict_post_hooks[0] = Hook(_count_load)  # the same key in all cases

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any, **more: Any) -> None:
        state_dict[f"{prefix}bias"] = state_dict.pop(f"{prefix}b")
        super()._load_from_state_dict(state_dict, prefix, *rest, **more)
        self.loads += 1


def _count_load(module: LoadsItself, keys: Any) -> None:
    module.loads += 1
    keys.missing_keys.clear()


def load_with_hooks() -> Case:
    model = nn.Sequential(LoadsItself(1), nn.BatchNorm1d(2))
    state = {name: array + 1 for name, array in model.state_dict().items() if name != "0.weight"}
    state["0.b"] = state.pop("0.bias")
    return Case(lambda: model.load_state_dict(state), lambda: describe(model))


def assign_a_state() -> Case:
    model, state = nn.Linear(2, 2), {"weight": np.zeros((2, 2)), "bias": np.zeros(2)}
    return Case(lambda: model.load_state_dict(state, assign=True), lambda: describe(model))


def load_a_model() -> Case:
    model, content = Net(1), _saved("model", lambda file: save_model(Net(2), file, format="safetensors"))
    return Case(lambda: load_model(model, content), lambda: describe(model))


class Untied(nn.Module):
    """Parameters and buffers that a file can tie."""

    def __init__(self, seed: int, tied: bool) -> None:
        super().__init__()
        for name in ("first", "second", "third"):
            setattr(self, name, nn.Linear(2, 2))
            for parameter in getattr(self, name).parameters():
                parameter.data[...] = seed
        self.register_buffer("a", np.full(4, seed))
        self.register_buffer("b", np.full(4, seed))
        if tied:
            self.second.weight = self.first.weight
            self.third.weight = Parameter(self.first.weight.T)
            self.b = self.a


def restore_ties() -> Case:
    content = _saved("ties", lambda file: save_model(Untied(2, True), file, format="safetensors"))
    model = Untied(1, False)
    return Case(lambda: load_model(model, content, ties="restore"), lambda: describe(model))


def copy_ties() -> Case:
    content = _saved("ties", lambda file: save_model(Untied(2, True), file, format="safetensors"))
    model = Untied(1, False)
    return Case(lambda: load_model(model, content, ties="copy"), lambda: describe(model))


def _training(seed: int, kind: type[optim.Adam] = optim.Adam) -> tuple[Any, ...]:
    model = Net(seed)
    groups = [[model.embedding.weight], [model.norm.weight, model.memories[0].scale]]
    optimizer = kind([{"params": params, "lr": 0.1} for params in groups])
    schedule, order = optim.CosineAnnealingLR(optimizer, 20), np.random.default_rng(seed)
    for _ in range(seed):
        for parameter in model.parameters():
            parameter.grad = np.full(parameter.shape, seed, parameter.dtype)
        optimizer.step()
        schedule.step()
    model.zero_grad()
    nn.manual_seed(seed)
    return model, optimizer, schedule, order


def _save_training(file: io.BytesIO, seed: int, kind: type[optim.Adam]) -> None:
    model, optimizer, schedule, order = _training(seed, kind)
    parts = {"schedule": schedule, "generators": {"order": order}}
    save_training(model, optimizer, file, **parts, progress={"step": seed}, format="safetensors")


class OwnAdam(optim.Adam):
    """An optimizer that loads its state itself, in place and step by step."""

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict({**state_dict, "state": {}})
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for position, arrays in state_dict["state"].items():
            self.state[parameters[position]] = {}
            for name, array in arrays.items():
                self.state[parameters[position]][name] = array.copy()


def load_a_training(kind: type[optim.Adam] = optim.Adam) -> Case:
    content = _saved(f"training {kind}", lambda file: _save_training(file, 2, kind))
    things = _training(1, kind)
    model, optimizer, schedule, order = things

    def change() -> None:
        load_training(model, optimizer, content, schedule=schedule, generators={"order": order})

    return Case(change, lambda: describe([*things, nn.random.default_generator()]))


def load_a_training_with_own_optimizer() -> Case:
    return load_a_training(OwnAdam)


def load_an_optimizer() -> Case:
    (model, optimizer, *_), state = _training(1), _training(2)[1].state_dict()
    return Case(lambda: optimizer.load_state_dict(state), lambda: describe([model, optimizer]))


def load_a_schedule() -> Case:
    (_, optimizer, schedule, _), state = _training(1), _training(2)[2].state_dict()
    return Case(lambda: schedule.load_state_dict(state), lambda: describe([optimizer, schedule]))


def step_a_schedule() -> Case:
    _, optimizer, schedule, _ = _training(1)
    return Case(schedule.step, lambda: describe([optimizer, schedule]))


def add_a_group() -> Case:
    model, optimizer, _, _ = _training(1)
    return Case(lambda: optimizer.add_param_group({"params": [model.narrow]}), lambda: describe(optimizer))


def set_the_generator() -> Case:
    generator, state = np.random.Generator(np.random.MT19937(1)), np.random.MT19937(2).state
    return Case(lambda: nn.random.set_rng_state(state, generator), lambda: describe(generator))


def seed_the_default_generator() -> Case:
    nn.manual_seed(1)
    return Case(lambda: nn.manual_seed(2), lambda: describe(nn.random.default_generator()))


def _of_net(change: Callable[[Net], Any]) -> Callable[[], Case]:
    def make() -> Case:
        model = _training(1)[0]
        for parameter in model.parameters():
            parameter.grad = np.ones(parameter.shape, parameter.dtype)
        return Case(lambda: change(model), lambda: describe(model))

    return make


class OwnTrain(nn.Linear):
    """A module that stays in evaluation mode."""

    def train(self, mode: bool = True) -> Any:
        return super().train(False)


def train_with_own_code() -> Case:
    model = nn.Sequential(OwnTrain(1, 1), nn.Sequential(OwnTrain(1, 1), nn.Dropout())).eval()
    return Case(model.train, lambda: describe(model))


def _reassign(model: Any) -> None:
    model.norm = nn.LayerNorm(3)


def _reassign_buffer(model: Net) -> None:
    model.register_buffer("big", np.zeros(3), persistent=False)


def _unregister(model: Net) -> None:
    del model.empty


def _to_parameter(model: Any) -> None:
    model.random = Parameter([1.0])  # in place of a plain attribute


def _insert(model: Net) -> None:
    model.memories.insert(0, nn.Dropout())


def _extend(model: Net) -> None:
    model.memories.extend([nn.Dropout(), model.norm])


def _delete(model: Net) -> None:
    del model.memories[0]


def _replace_all(model: Net) -> None:
    model.memories._modules = {"x": nn.Dropout()}  # pyright: ignore[reportAttributeAccessIssue]


CASES: dict[str, Callable[[], Case]] = {
    "load_state_dict": load_state_dict,
    "load_state_dict, with hooks": load_with_hooks,
    "load_state_dict, assigned": assign_a_state,
    "load_model": load_a_model,
    "load_model, ties restored": restore_ties,
    "load_model, ties copied": copy_ties,
    "load_training": load_a_training,
    "load_training, own optimizer": load_a_training_with_own_optimizer,
    "Optimizer.load_state_dict": load_an_optimizer,
    "Optimizer.add_param_group": add_a_group,
    "LRScheduler.load_state_dict": load_a_schedule,
    "LRScheduler.step": step_a_schedule,
    "set_rng_state": set_the_generator,
    "manual_seed": seed_the_default_generator,
    "Module.to": _of_net(lambda model: model.to(np.float64)),
    "Module.eval": _of_net(lambda model: model.eval()),
    "Module.train, own code": train_with_own_code,
    "Module.requires_grad_": _of_net(lambda model: model.requires_grad_(False)),
    "Module.zero_grad": _of_net(lambda model: model.zero_grad()),
    "Module.zero_grad, to zeros": _of_net(lambda model: model.zero_grad(set_to_none=False)),
    "Module.__setattr__": _of_net(_reassign),
    "Module.__setattr__, over an attribute": _of_net(_to_parameter),
    "Module.__delattr__": _of_net(_unregister),
    "Module.register_buffer": _of_net(_reassign_buffer),
    "ModuleList.insert": _of_net(_insert),
    "ModuleList.extend": _of_net(_extend),
    "ModuleList.__delitem__": _of_net(_delete),
    "Members": _of_net(_replace_all),
}


# --- what changes nothing, however it ends


def _modes() -> Any:
    """Return what blocks of core change: whether operations are recorded, and whether parameters are initialized."""
    nn.manual_seed(5)
    filled = nn.init.ones_(Parameter(np.zeros(1, np.float32)))
    return nn.is_grad_enabled(), filled.item(), nn.random.default_generator().random()


def _inside(block: Callable[[], Any]) -> Callable[[], Case]:
    def change() -> None:
        with block():
            nn.random.default_generator().random()

    return lambda: Case(change, _modes)


def _looking(look: Callable[[Any, Any, Any], Any]) -> Callable[[], Case]:
    def make() -> Case:
        model, optimizer, batch = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout()), None, np.ones((4, 2))
        optimizer = optim.Adam(model.parameters())
        batch = batch.astype(np.float32), np.zeros(4, np.int64)
        return Case(lambda: look(model, optimizer, batch), lambda: [describe([model, optimizer]), _modes()])

    return make


def _capture(model: Any, optimizer: Any, batch: Any) -> None:
    with nn.capture(model, "*") as seen:
        assert seen == {"0": [], "1": [], "2": []}


TRACELESS: dict[str, Callable[[], Case]] = {
    "no_grad": _inside(nn.no_grad),
    "skip_init": _inside(nn.init.skip_init),
    "undisturbed_generator": _inside(nn.random.undisturbed_generator),
    "capture": _looking(_capture),
    "summary": _looking(lambda model, optimizer, batch: model.summary(batch[0])),
    "doctor": _looking(lambda model, optimizer, batch: nn.doctor(model, optimizer, batch, nn.functional.cross_entropy)),
}
# These have `with` blocks of their own, see opcodes.py.
CHECKED_ONLY = ("summary", "doctor")


def make(name: str) -> Case:
    """Return a new case of that name. All cases of one name are alike."""
    nn.manual_seed(0)
    return {**CASES, **TRACELESS}[name]()

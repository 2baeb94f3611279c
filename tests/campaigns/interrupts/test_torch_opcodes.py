"""Loads into PyTorch's models and optimizers, interrupted before bytecodes of the library and of their own methods."""

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opcodes import Opcodes

from statezoo.checkpoints import CheckpointError, load_model, load_training, save_model, save_training

# An interrupt in __del__ is printed.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]
_TRIALS = 60


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


def plain(torch: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3).bfloat16())
    model[2].bias = torch.nn.Parameter(model[2].weight.detach()[1])
    return model


def with_extra_state(torch: Any, seed: int) -> Any:
    class Net(torch.nn.Linear):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.extra: Any = {"seed": seed}

        def get_extra_state(self) -> Any:
            return self.extra

        def set_extra_state(self, state: Any) -> None:
            self.extra = {}
            self.extra["seed"] = state["seed"]

    torch.manual_seed(seed)
    return torch.nn.Sequential(Net(2, 2), Net(2, 2))


def with_hooks(torch: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 3)
    model.register_buffer("twice", model.weight.detach() * 2, persistent=False)

    def after(own: Any, keys: Any) -> None:
        own.twice.copy_(own.weight.detach() * 2)

    model.register_load_state_dict_post_hook(after)
    return model


def content(torch: Any, value: Any) -> Any:
    """Return everything in a value as plain Python values."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.tolist()
    if isinstance(value, torch.nn.Module):
        parts = [module.__dict__.get("extra") for module in value.modules()]
        return content(torch, [*value.parameters(), *value.buffers(), *parts])
    if isinstance(value, torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler):
        return content(torch, value.state_dict())
    if isinstance(value, torch.Generator):
        return content(torch, value.get_state())
    if isinstance(value, dict):
        return {key: content(torch, item) for key, item in value.items()}
    return [content(torch, item) for item in value] if isinstance(value, list | tuple) else value


def ends(start: Callable[[], Any], load: Callable[[Any], object], describe: Callable[[Any], Any]) -> list[Any]:
    """Return what interrupted loads leave behind, each once."""
    opcodes, things = Opcodes(everywhere=False), start()
    opcodes.call(lambda: load(things))
    found = [describe(things)]
    last = range(max(1, opcodes.count - 60), opcodes.count + 1)
    for at in (*last, *random.Random(0).sample(range(1, opcodes.count + 1), min(_TRIALS, opcodes.count))):
        things = start()
        with contextlib.suppress(KeyboardInterrupt, CheckpointError):  # code of torch may turn one into the other
            Opcodes(at, everywhere=False).call(lambda things=things: load(things))
        if (end := describe(things)) not in found:
            found.append(end)
    return found


@pytest.mark.parametrize("made", [plain, with_extra_state, with_hooks])
def test_an_interrupted_load_leaves_all_old_values_or_all_new_ones(tmp_path: Path, torch: Any, made: Any):
    path = tmp_path / "model.safetensors"
    save_model(made(torch, 1), path)
    found = ends(lambda: made(torch, 2), lambda model: load_model(model, path), lambda model: content(torch, model))
    assert found == [content(torch, made(torch, seed)) for seed in (1, 2)]  # the new one first


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_interrupted_load_of_a_training_leaves_all_of_it_old_or_new(tmp_path: Path, torch: Any):
    def start(seed: int) -> list[Any]:
        model = plain(torch, seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(seed):
            for parameter in model.parameters():
                parameter.grad = torch.rand(parameter.shape, generator=generator).to(parameter.dtype)
            optimizer.step()
            schedule.step()
        return [model, optimizer, schedule, generator]

    def load(things: list[Any]) -> None:
        model, optimizer, schedule, generator = things
        load_training(model, optimizer, path, schedule=schedule, generators={"order": generator})

    path = tmp_path / "run.safetensors"
    model, optimizer, schedule, generator = start(1)
    save_training(model, optimizer, path, schedule=schedule, generators={"order": generator})
    found = ends(lambda: start(2), load, lambda things: content(torch, things))
    assert found == [content(torch, start(seed)) for seed in (1, 2)]

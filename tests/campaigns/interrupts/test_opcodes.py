"""A short form of `interrupts.py --opcodes`: whatever changes memory makes the whole change, or none."""

import contextlib
import io
import random
from typing import Any

import numpy as np
import pytest
from memory import CASES, TRACELESS
from opcodes import Opcodes, Trials

from statezoo import core as nn
from statezoo.checkpoints.runs.training import load_training, save_training
from statezoo.core import optim


@pytest.mark.parametrize("name", [*CASES, *TRACELESS])
def test_a_change_in_memory_is_whole_at_whatever_bytecode_it_is_interrupted(name: str):
    trials = Trials(name)
    last = range(max(1, trials.count - 12), trials.count + 1)
    drawn = random.Random(name).sample(range(1, trials.count + 1), 15)
    failures = [failure for at in (*last, *drawn) if (failure := trials.failure(at)) is not None]
    assert failures == []
    assert trials.ends == ({"old"} if name in TRACELESS else {"old", "new"})


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_a_training_step_that_is_interrupted_leaves_a_state_that_can_be_saved_loaded_and_continued(kind: Any):
    def new() -> tuple[nn.Module, optim.Optimizer]:
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))
        return model, kind(model.parameters(), lr=0.1, **({"momentum": 0.9} if kind is optim.SGD else {}))

    def step(model: nn.Module, optimizer: optim.Optimizer) -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(nn.Tensor(np.ones((5, 3), np.float32))), nn.Tensor(np.zeros((5, 2)))).backward()
        optimizer.step()

    opcodes, (model, optimizer) = Opcodes(), new()
    opcodes.call(lambda: step(model, optimizer))
    for steps_before in (0, 1):
        for at in random.Random(1).sample(range(1, opcodes.count), 60):
            model, optimizer = new()
            for _ in range(steps_before):
                step(model, optimizer)
            with contextlib.suppress(KeyboardInterrupt):
                Opcodes(at).call(lambda model=model, optimizer=optimizer: step(model, optimizer))
            assert nn.is_grad_enabled()
            save_training(model, optimizer, file := io.BytesIO(), format="safetensors")
            again = new()
            load_training(*again, file.getvalue())
            step(*again)
            step(model, optimizer)

"""A short form of `interrupts.py opcodes`: whatever changes memory changes all of it, or nothing."""

import random

import pytest
from memory import CASES, TRACELESS
from opcodes import Trials


@pytest.mark.parametrize("name", [*CASES, *TRACELESS])
def test_a_change_in_memory_is_whole_at_whatever_bytecode_it_is_interrupted(name: str):
    trials = Trials(name)
    last = range(max(1, trials.count - 12), trials.count + 1)
    drawn = random.Random(name).sample(range(1, trials.count + 1), 15)
    failures = [failure for at in (*last, *drawn) if (failure := trials.failure(at)) is not None]
    assert failures == []
    assert trials.ends == ({"old"} if name in TRACELESS else {"old", "new"})

"""Snapshots: what objects held, put back in the same memory."""

import random
from collections import OrderedDict, defaultdict, deque
from typing import Any

import numpy as np
import pytest

from statezoo.core import Linear, Tensor
from statezoo.core.commit.snapshot import Snapshot
from statezoo.core.commit.steps import run


@pytest.mark.parametrize(
    ("container", "change"),
    [
        ([1, 2], lambda it: it.reverse()),
        ({"a": 1, "b": 2}, lambda it: it.pop("a")),
        ({1, 2}, lambda it: it.add(3)),
        (deque([1, 2], 2), lambda it: it.append(3)),
        (OrderedDict(a=1, b=2), lambda it: it.move_to_end("a")),
        (defaultdict(list, a=[1]), lambda it: it["b"].append(1)),
    ],
)
def test_containers_get_back_their_contents_in_order(container: Any, change: Any):
    before = list(container.items() if isinstance(container, dict) else container)
    snapshot = Snapshot(container)
    change(container)
    run(snapshot.steps)
    assert list(container.items() if isinstance(container, dict) else container) == before


@pytest.mark.parametrize(
    "make",
    [np.random.default_rng, random.Random, np.random.RandomState, lambda: np.random.Generator(np.random.MT19937())],
)
def test_generators_draw_the_same_again(make: Any):
    generator = make()
    snapshot = Snapshot(generator)
    first = generator.random()
    run(snapshot.steps)
    assert generator.random() == first


def test_an_object_given_gets_back_its_attributes_and_what_they_hold():
    class Holder:
        def __init__(self) -> None:
            self.numbers, self.nested = np.zeros(2), {"deep": [Tensor([1.0])]}

    holder = Holder()
    numbers, tensor = holder.numbers, holder.nested["deep"][0]
    snapshot = Snapshot(holder)
    tensor.data[...] = 5
    numbers[...] = 5
    holder.numbers, holder.nested, holder.more = np.ones(1), {}, 1  # pyright: ignore[reportAttributeAccessIssue]
    run(snapshot.steps)
    assert (holder.numbers is numbers, numbers.tolist(), tensor.item()) == (True, [0, 0], 1)
    assert sorted(vars(holder)) == ["nested", "numbers"]


def test_what_is_left_out_is_not_restored():
    kept, left_out = Linear(1, 1), Linear(1, 1)
    snapshot = Snapshot({"a": kept, "b": left_out}, leave_out=[left_out])
    kept.weight.data[...] = left_out.weight.data[...] = 5
    run(snapshot.steps)
    assert (kept.weight.item() == 5, left_out.weight.item()) == (False, 5)

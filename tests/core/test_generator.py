"""The generator with torch's methods, and the seed of the default one."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from statezoo import core


def test_a_generator_is_one_of_numpy_with_the_methods_of_torch():
    generator = core.Generator(device="cpu")
    assert isinstance(generator, np.random.Generator)
    assert generator.initial_seed() == 67280421310721
    assert generator.device == core.device("cpu")
    assert generator.manual_seed(3) is generator
    assert generator.initial_seed() == 3
    state = generator.get_state()
    drawn = core.randn(3, generator=generator)
    assert core.equal(core.randn(3, generator=generator.set_state(state)), drawn)
    with pytest.raises(core.ArgumentError, match="there is no device"):
        core.Generator("cuda")


def test_the_same_seed_gives_the_same_draws_in_both_generators():
    core.manual_seed(7)
    ours = core.rand(3)
    assert core.equal(ours, core.rand(3, generator=core.Generator().manual_seed(7)))
    assert core.initial_seed() == 7
    core.manual_seed(-1)
    assert core.equal(core.rand(3), core.rand(3, generator=core.Generator().manual_seed(-1)))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda given: pickle.loads(pickle.dumps(given))])
def test_a_copy_of_a_generator_goes_on_with_the_same_draws(copied: Any):
    generator = core.Generator().manual_seed(3)
    core.rand(5, generator=generator)
    other = copied(generator)
    assert type(other) is core.Generator
    assert other.initial_seed() == 3
    assert core.equal(core.rand(3, generator=other), core.rand(3, generator=generator))


def test_every_random_argument_of_the_library_takes_it():
    generator = core.Generator().manual_seed(1)
    core.nn.init.normal_(core.Linear(2, 2).weight, generator=generator)
    assert core.functional.dropout(core.ones(4), 0.5, generator=generator).shape == (4,)

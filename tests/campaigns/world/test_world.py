"""A short form of world.py: the model of the world."""

import pytest
from world import run


@pytest.mark.slow
def test_what_must_be_there_is_there_whatever_processes_kills_and_users_do():
    run(stories=6, start=3, steps=25)

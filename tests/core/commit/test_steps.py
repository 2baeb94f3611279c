"""Commits: all changes or none, also with several threads, forks, handlers and code of the user."""

import os
import signal
import threading
from typing import Any

import numpy as np
import pytest

from statezoo.core import Linear, Module, Parameter, Sequential, random
from statezoo.core.commit.commit import Commit, rehearse
from statezoo.core.commit.steps import run


class Interrupted(BaseException):
    """An interrupt, as KeyboardInterrupt is one."""


def test_steps_run_in_order_and_nothing_runs_after_one_that_fails():
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError):
        run([(seen.append, 1), (seen.append, 2), (divmod, 1, 0), (seen.append, 3)])
    assert seen == [1, 2]


def test_a_commit_changes_nothing_before_it_is_applied():
    commit, array, kept = Commit(), np.zeros(2), {"a": 1}
    commit.write(array, np.ones(2))
    commit.add([(kept.update, {"a": 2})])
    assert (array.tolist(), kept) == ([0, 0], {"a": 1})
    commit.apply()
    assert (array.tolist(), kept) == ([1, 1], {"a": 2})


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, MemoryError, Interrupted, GeneratorExit])
def test_what_a_function_of_the_user_did_is_undone_whatever_is_raised(raised: type[BaseException]):
    held = {"list": [1], "array": np.zeros(2), "generator": np.random.default_rng(1)}
    before = held["generator"].bit_generator.state

    def change() -> None:
        held["list"].append(2)
        held["array"][...] = 9
        held["generator"].random()
        held["new"] = 1
        raise raised

    commit, array = Commit(), np.zeros(2)
    commit.write(array, np.ones(2))
    commit.call(change, keep=[held])
    with pytest.raises(raised):
        commit.apply()
    assert list(held) == ["list", "array", "generator"]
    assert (held["list"], held["array"].tolist(), array.tolist()) == ([1], [0, 0], [0, 0])
    assert held["generator"].bit_generator.state == before


def test_a_second_interrupt_while_code_of_the_user_is_reverted_restores_all_the_same():
    held, array = [1], np.zeros(2)

    def interrupt() -> None:
        raise Interrupted

    commit = Commit()
    commit.write(array, np.ones(2))
    commit.call(held.clear, keep=[held], revert=interrupt)
    commit.call(interrupt, keep=[])
    with pytest.raises(Interrupted):
        commit.apply()
    assert (held, array.tolist()) == ([1], [0, 0])


def test_a_step_that_fails_leaves_no_lock_behind():
    commit, array = Commit(), np.zeros(2)
    commit.add([(divmod, 1, 0)])
    with pytest.raises(ZeroDivisionError):
        commit.apply()
    commit = Commit()
    commit.write(array, np.ones(2))
    thread = threading.Thread(target=commit.apply, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert array.tolist() == [1, 1]


def test_an_array_that_code_of_the_user_made_read_only_is_an_error_and_nothing_changes():
    commit, arrays = Commit(), [np.zeros(2), np.zeros(2)]
    for array in arrays:
        commit.write(array, np.ones(2))
    commit.call(lambda: arrays[1].setflags(write=False), keep=[])
    with pytest.raises(ValueError, match=r"an array became read-only during a load; nothing was changed\."):
        commit.apply()
    assert [array.tolist() for array in arrays] == [[0, 0], [0, 0]]


def test_a_rehearsal_restores_what_it_changed():
    held = {"a": [1]}
    rehearse(lambda: held["a"].append(2), keep=[held])
    assert held == {"a": [1]}


# --- threads, forks, handlers

_LARGE = 1 << 18  # NumPy releases the interpreter lock while it copies that many elements


def _large() -> Sequential:
    return Sequential(*(Linear(1, _LARGE, bias=False) for _ in range(4)))


def _filled(model: Module, value: int) -> dict[str, np.ndarray]:
    return {name: np.full(array.shape, value, array.dtype) for name, array in model.state_dict().items()}


def _values(model: Module) -> set[float]:
    return {float(array[edge, 0]) for array in model.state_dict().values() for edge in (0, -1)}


def test_two_threads_that_load_at_once_leave_the_state_of_one_of_them():
    model = _large()
    states = [_filled(model, 1), _filled(model, 2)]
    together = threading.Barrier(2)

    def load(state: dict[str, np.ndarray]) -> None:
        together.wait(10)
        model.load_state_dict(state)

    for _ in range(20):
        threads = [threading.Thread(target=load, args=(state,)) for state in states]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(_values(model)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_gets_a_whole_model_while_a_thread_loads_and_can_load_itself():
    model = _large()
    states, ended = [_filled(model, 1), _filled(model, 2)], threading.Event()
    model.load_state_dict(states[0])

    def load_on() -> None:
        while not ended.is_set():
            for state in states:
                model.load_state_dict(state)

    thread = threading.Thread(target=load_on)
    thread.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # a lock that is never released ends the child
                is_whole = len(_values(model)) == 1
                model.load_state_dict(states[0])
                os._exit(0 if is_whole and _values(model) == {1} else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        ended.set()
        thread.join()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs SIGUSR1")
def test_a_handler_may_load_while_a_load_runs():
    class Signalling(Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = Parameter([1.0])

        def get_extra_state(self) -> Any:
            return None

        def set_extra_state(self, state: Any) -> None:
            signal.raise_signal(signal.SIGUSR1)

    other = Linear(1, 1)
    before = signal.signal(signal.SIGUSR1, lambda *_: other.load_state_dict(_filled(other, 5)))
    try:
        model = Signalling()
        model.load_state_dict({"scale": np.array([2], np.float32), "_extra_state": None})
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (model.scale.item(), other.bias.item() if other.bias is not None else None) == (2, 5)


def test_the_default_generator_is_one_object_for_threads_that_ask_for_it_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(random, "_made", {})
    together, found = threading.Barrier(8), []

    def ask() -> None:
        together.wait(10)
        found.append(random.default_generator())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(generator) for generator in found}) == 1

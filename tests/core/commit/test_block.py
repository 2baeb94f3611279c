"""Blocks: contexts that an interrupt cannot leave half begun or half ended."""

from contextlib import ExitStack
from contextvars import ContextVar

import pytest

from statezoo.core import is_grad_enabled, no_grad
from statezoo.core.commit.block import Block, Setting


def test_a_block_runs_its_steps_at_both_ends_and_gives_its_result():
    seen: list[str] = []
    with Block([(seen.append, "begin")], [(seen.append, "end")], "result") as result:
        assert (seen, result) == (["begin"], "result")
    assert seen == ["begin", "end"]


def test_an_exception_comes_through_a_block_after_its_end():
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError), Block((), [(seen.append, 1)], None):
        raise ZeroDivisionError
    assert seen == [1]


def test_one_block_can_be_entered_inside_itself_and_by_an_exit_stack():
    variable = ContextVar("variable", default=0)
    setting = Setting(variable, lambda outside: outside + 1)
    with setting:
        with setting:
            assert variable.get() == 2
        assert variable.get() == 1
        with ExitStack() as stack:
            stack.enter_context(setting)
            assert variable.get() == 2
        assert variable.get() == 1
    assert variable.get() == 0


def test_a_block_can_be_entered_and_left_by_hand():
    block = no_grad()
    block.__enter__()
    assert not is_grad_enabled()
    block.__exit__(None, None, None)
    assert is_grad_enabled()


def test_the_order_of_the_lookups_does_not_matter():
    block = no_grad()
    for _ in range(2):
        leave = block.__exit__  # first, as in Python 3.14
        enter = block.__enter__
        enter()
        assert not is_grad_enabled()
        leave(None, None, None)
        assert is_grad_enabled()


def test_a_block_that_is_made_and_dropped_changes_nothing():
    block = no_grad()
    begin, end = block.__enter__, block.__exit__
    del begin, end, block
    assert is_grad_enabled()

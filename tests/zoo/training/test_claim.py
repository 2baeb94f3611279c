"""One call at a time writes into a folder, and the others are told why."""

import threading
from pathlib import Path

import pytest

from statezoo import zoo
from statezoo.zoo.training.run.claim import claim


def enter(folder: Path) -> None:
    with claim(folder, "publishing into", wait_s=0):
        pass


def test_a_claim_inside_a_claim_is_refused_and_the_outer_one_goes_on(tmp_path: Path):
    with claim(tmp_path, "publishing into"):
        for _ in range(2):
            with pytest.raises(zoo.RunError, match="This call runs inside another one that is publishing into"):
                enter(tmp_path)
        (error,) = in_thread(tmp_path)
        assert str(error).startswith(f"Another process is publishing into {tmp_path}. Wait for it, or choose another")
    enter(tmp_path)


def test_a_claim_waits_for_another_thread(tmp_path: Path):
    order = []

    def enter_later() -> None:
        entered.wait()
        with claim(tmp_path, "publishing into"):
            order.append("second")

    entered, thread = threading.Event(), threading.Thread(target=enter_later)
    with claim(tmp_path, "publishing into"):
        thread.start()
        entered.set()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def in_thread(folder: Path) -> list[BaseException]:
    """Enter in another thread. Return the error that it raised, if it did."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            enter(folder)
        except zoo.RunError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors

"""Arrays that change while they are saved: the file verifies, or the save fails and the old file stays."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from statezoo.checkpoints import load_file, save_file


@contextmanager
def changing(state: dict[str, np.ndarray]) -> Iterator[None]:
    """Add 1 to all arrays again and again, on another thread, during the block."""
    stop = threading.Event()

    def train() -> None:
        while not stop.is_set():
            for array in state.values():
                array += 1

    thread = threading.Thread(target=train)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("length", [4, 1024, 65_536, 1 << 20])
def test_arrays_that_change_during_a_save_give_a_file_that_verifies(path: Path, length: int):
    state = {str(number): np.zeros(length, np.float32) for number in range(4)}
    with changing(state):
        for _ in range(15):
            save_file(state, path, durable=False)
            load_file(path)


@pytest.mark.parametrize("length", [1024, 1 << 20])
def test_arrays_that_change_give_an_open_file_that_verifies(length: int):
    state = {str(number): np.zeros(length, np.float32) for number in range(4)}
    with changing(state):
        for _ in range(5):
            file = io.BytesIO()
            save_file(state, file)
            load_file(file.getvalue())

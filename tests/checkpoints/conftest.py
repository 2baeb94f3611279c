"""Contract tests run over every format that is written: `path` is a new path, once for each suffix."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

Repeating = Callable[[Callable[[], object]], AbstractContextManager[None]]


@pytest.fixture(params=[".safetensors", ".h5", ".npz"])
def suffix(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def path(tmp_path: Path, suffix: str) -> Path:
    return tmp_path / f"state{suffix}"


@pytest.fixture(scope="session")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture
def repeating() -> Repeating:
    """A context in which another thread calls a function again and again."""

    @contextmanager
    def repeating(function: Callable[[], object]) -> Iterator[None]:
        stop = threading.Event()

        def repeat() -> None:
            while not stop.is_set():
                function()

        thread = threading.Thread(target=repeat)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    return repeating

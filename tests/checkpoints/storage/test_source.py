"""Files that are read: interrupted, forked, truncated meanwhile, on systems without preadv."""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import CorruptError, load_file, open_checkpoint, save_file
from statezoo.checkpoints.storage.source import FileSource


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """A file of a million bytes, in which each 8 bytes are their offset."""
    path = tmp_path / "numbers"
    path.write_bytes(np.arange(0, 1_000_000, 8).tobytes())
    return path


def offset_read(source: FileSource, offset: int) -> int:
    return int(np.frombuffer(source.read(offset, 8), np.int64)[0])


@pytest.mark.parametrize("has_preadv", [True, False])
def test_threads_and_signal_handlers_read_the_same_file_at_once(
    numbers: Path, has_preadv: bool, monkeypatch: pytest.MonkeyPatch
):
    if not has_preadv:
        monkeypatch.delattr(os, "preadv", raising=False)
    source = FileSource(str(numbers))
    wrong: list[int] = []
    handled: list[int] = []

    def read_all(step: int) -> None:
        wrong.extend(offset for offset in range(0, 400_000, step) if offset_read(source, offset) != offset)

    def handler(*_: Any) -> None:
        handled.append(offset_read(source, 8 * len(handled)))

    threads = [threading.Thread(target=read_all, args=(step,)) for step in (104, 120)]
    for thread in threads:
        thread.start()
    original = signal.signal(signal.SIGUSR1, handler)
    previous = sys.gettrace()
    calls = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal calls
        if frame.f_code.co_filename.endswith("source.py"):
            frame.f_trace_opcodes = True
            calls += 1
            if calls % 7 == 0 and sys.gettrace() is not None:
                sys.settrace(None)
                os.kill(os.getpid(), signal.SIGUSR1)
                sys.settrace(trace)
        return trace

    try:
        sys.settrace(trace)
        for offset in range(0, 2_000, 8):
            if offset_read(source, offset) != offset:
                wrong.append(offset)
    finally:
        sys.settrace(previous)
        for thread in threads:
            thread.join()
        signal.signal(signal.SIGUSR1, original)
    assert wrong == []
    assert len(handled) > 100
    assert handled == [8 * number for number in range(len(handled))]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_reads_from_an_open_checkpoint_beside_its_parent(path: Path):
    save_file({str(number): np.full(20_000, number) for number in range(20)}, path)
    with open_checkpoint(path) as checkpoint:
        child = os.fork()
        wrong = [name for name in checkpoint if not (checkpoint[name][...] == int(name)).all()]
        if not child:
            os._exit(len(wrong))
        assert os.waitpid(child, 0)[1] == 0
        assert wrong == []


@pytest.mark.parametrize("length", [100, 100_000])
def test_a_file_that_is_truncated_while_it_is_open_is_an_error_that_says_so(path: Path, length: int):
    save_file({"a": np.ones(length), "b": np.ones(length)}, path)
    with open_checkpoint(path) as checkpoint:
        os.truncate(path, path.stat().st_size - 8 * length - 1000)
        with pytest.raises(CorruptError, match="was cut off while it was read"):
            checkpoint["b"][...]
    with pytest.raises(CorruptError):
        load_file(path)


def test_a_file_that_is_truncated_before_it_is_mapped_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch):
    def truncate_first(source: FileSource, copy_on_write: bool) -> memoryview:
        os.truncate(path, source.size_bytes - 5000)
        return original(source, copy_on_write)

    save_file({"a": np.ones(1000)}, path)
    original = FileSource.memory
    monkeypatch.setattr(FileSource, "memory", truncate_first)
    with pytest.raises(CorruptError, match="was cut off while it was read"):
        load_file(path, mmap=True)


def test_an_interrupted_opening_leaves_no_descriptor(numbers: Path):
    """A KeyboardInterrupt at any bytecode of the constructor, of a read, and of close."""
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    moment, interrupted = 0, True
    while interrupted:
        count, interrupted = 0, False

        def trace(frame: Any, event: str, argument: Any, moment: int = moment) -> Any:
            nonlocal count, interrupted
            if not frame.f_code.co_filename.endswith("source.py"):
                return None
            frame.f_trace_opcodes = True
            count += event == "opcode"
            if count == moment + 1 and not interrupted:
                interrupted = True
                raise KeyboardInterrupt
            return trace

        previous = sys.gettrace()
        try:
            sys.settrace(trace)
            source = FileSource(str(numbers))
            source.read(8, 8)
            source.close()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(previous)
            source = None
        moment += 1
    assert moment > 50
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) == before

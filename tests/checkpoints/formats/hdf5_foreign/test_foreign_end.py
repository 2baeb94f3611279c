"""The libhdf5 process ends, whatever happens."""

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from foreign_files import GOOD, PACKED, READY, opened, read, run_instead, write_hanging

from statezoo.checkpoints import ReadError
from statezoo.checkpoints.formats.hdf5 import process as hdf5_process
from statezoo.checkpoints.formats.hdf5.foreign import open_foreign
from statezoo.checkpoints.storage.source import FileSource, Source


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd")) if sys.platform == "linux" else set()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_no_process_or_descriptor_is_left_behind(packed: Path, plain: Path, started: list[Any]):
    gc.collect()  # of files that earlier tests left open
    source: Source = FileSource(str(packed))
    before = descriptors()
    open_foreign(source).close()
    lost = open_foreign(source)
    assert read(lost, "lzf").sum() == 100
    del lost

    def is_as_before() -> bool:
        gc.collect()
        return descriptors() == before

    wait_until(is_as_before)  # the timer of the last read may keep a reference to the process for a moment
    source.close()
    with opened(plain):
        assert all(process.returncode is not None for process in started)
    assert len(started) == 3


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no signals here")
def test_a_signal_handler_that_reads_the_file_that_is_being_read_raises_at_once(
    packed: Path, monkeypatch: pytest.MonkeyPatch
):
    outcomes: list[str] = []
    receive = hdf5_process.Hdf5Process._receive

    def receive_later(process: Any, buffer: Any) -> Any:
        monkeypatch.setattr(hdf5_process.Hdf5Process, "_receive", receive)
        signal.raise_signal(signal.SIGUSR1)
        return receive(process, buffer)

    def handler(*_: Any) -> None:
        try:
            read(found, "lzf")
            outcomes.append("read")
        except ReadError as error:
            outcomes.append(str(error))

    original = signal.signal(signal.SIGUSR1, handler)
    try:
        with opened(packed) as found:
            monkeypatch.setattr(hdf5_process.Hdf5Process, "_receive", receive_later)
            assert read(found, "lzf").sum() == 100
    finally:
        signal.signal(signal.SIGUSR1, original)
    (outcome,) = outcomes
    assert "is being read by what this signal handler interrupted. Open it again." in outcome


def test_a_closed_file_cannot_be_read(packed: Path):
    with opened(packed) as found:
        found.close()
        found.close()
        with pytest.raises(ReadError, match=r"packed.h5 is no longer open here. Open it again"):
            read(found, "lzf")


def test_an_interrupted_read_ends_the_process(packed: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any]):
    def interrupt(self: Any, buffer: Any) -> None:
        raise KeyboardInterrupt

    with opened(packed) as found:
        with monkeypatch.context() as patch:
            patch.setattr(hdf5_process.Hdf5Process, "_receive", interrupt)
            with pytest.raises(KeyboardInterrupt):
                read(found, "lzf")
        assert started[0].returncode is not None
        with pytest.raises(ReadError, match=r"Open it again"):
            read(found, "gzip")


def test_the_process_ignores_an_interrupt_from_the_terminal(packed: Path, started: list[Any]):
    with opened(packed) as found:
        started[0].send_signal(signal.SIGINT)
        assert read(found, "lzf").sum() == 100


def test_closing_a_file_while_another_thread_reads_it_is_an_error_in_that_thread(
    plain: Path, monkeypatch: pytest.MonkeyPatch
):
    run_instead(monkeypatch, READY + GOOD + "time.sleep(600)")
    with opened(plain) as found, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, found, "x")
        time.sleep(0.2)
        found.close()
        with pytest.raises(ReadError, match=r"was closed while it was read|is no longer open here"):
            reading.result(60)


def test_several_threads_can_read_at_once(packed: Path):
    with opened(packed) as found, ThreadPoolExecutor(8) as pool:
        names = list(PACKED) * 20
        for name, array in zip(names, pool.map(lambda name: read(found, name), names), strict=True):
            assert array.tolist() == PACKED[name][0].tolist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_of_the_reader_cannot_take_its_answers_or_end_its_process(packed: Path):
    with opened(packed) as found:
        child = os.fork()
        if not child:
            try:
                read(found, "lzf")
            except ReadError:
                found.close()
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert read(found, "lzf").sum() == 100


HANGING_READER = """
import subprocess, sys
from statezoo.checkpoints.formats.hdf5.foreign import open_foreign
from statezoo.checkpoints.storage.source import FileSource
start = subprocess.Popen
def noting(*arguments, **options):
    process = start(*arguments, **options)
    print(process.pid, flush=True)
    return process
subprocess.Popen = noting
found = open_foreign(FileSource(sys.argv[1]))
print("opened", flush=True)
sys.stdin.read()
"""


def is_running(process: int) -> bool:
    """Return True if a process is running. A zombie does not count."""
    try:
        os.kill(process, 0)
        return "Z" not in Path(f"/proc/{process}/stat").read_text().split(")")[1][:3]
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("is_idle", [True, False], ids=["idle", "busy"])
def test_the_process_ends_when_the_reader_ends(tmp_path: Path, packed: Path, number: signal.Signals, is_idle: bool):
    write_hanging(tmp_path / "hanging.h5")
    path = packed if is_idle else tmp_path / "hanging.h5"
    command = [sys.executable, "-c", HANGING_READER, path]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        process = int(reader.stdout.readline())
        if is_idle:
            assert reader.stdout.readline() == "opened\n"
        else:
            time.sleep(0.5)
        assert is_running(process)
        reader.send_signal(number)
        reader.wait(60)
    wait_until(lambda: not is_running(process))


WITHOUT_STREAMS = """
import os, sys
from statezoo.checkpoints.formats.hdf5.foreign import open_foreign
from statezoo.checkpoints.storage.source import FileSource
for stream in sys.argv[2]:
    os.close(int(stream))
with_values = open_foreign(FileSource(sys.argv[1]))
assert with_values.read("lzf").sum() == 100
with_values.close()
os._exit(7)
"""


@pytest.mark.parametrize("streams", ["0", "1", "2", "12", "012"])
def test_a_reader_without_standard_streams_can_read(packed: Path, streams: str):
    command = [sys.executable, "-c", WITHOUT_STREAMS, packed, streams]
    assert subprocess.run(command, timeout=60).returncode == 7

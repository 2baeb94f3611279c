"""libhdf5 in a separate process, from the reader's side: start it, ask it, give up if it dies or takes too long.

worker.py describes the requests and answers. An answer larger than allowed is not read.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from signal import Signals
from typing import IO, BinaryIO

from ...errors import CorruptError, ReadError
from ...storage.source import FileSource, RangeSource, Source
from ...storage.threads import undisturbed
from ..recognise import AGAIN, cause_of
from .superblock import written_size_of

# The time between two answers. libhdf5 reads 20 MB of names per second, and more of values.
_LEAST_SECONDS, _BYTES_IN_A_SECOND = 5, 10_000_000
# Seconds to wait for each second of work: the processor may be busy, and the disk may be remote.
_MOST_WAITING = 10
_START_SECONDS = 120
_LEAST_MEMORY_BYTES = 512 << 20
# The process reports after every 2000 links or datasets. Each takes at least a byte of the file.
_LEAST_STEP_BYTES = 2000
_HEAD_BYTES = 9
# The folder of this file becomes a package of its own there, so that no other module named `worker` can be found.
_MAIN = """
import sys, types
package = types.ModuleType("statezoo_hdf5")
package.__path__, sys.modules[package.__name__] = [sys.argv[7]], package
sys.path += sys.argv[8:]
from statezoo_hdf5.worker import main
main(*map(int, sys.argv[1:6]), sys.argv[6])
"""
_PLUGIN = "hdf5plugin"


class Hdf5Process:
    """A process in which libhdf5 has one file open.

    most_bytes: how many bytes may be read from it in all. written_bytes: given only to salvage a damaged file, the size
    that the file had when it was written. Objects that libhdf5 cannot read are then listed instead of being an error.
    """

    def __init__(self, source: Source, most_bytes: int, written_bytes: int | None = None) -> None:
        self._source, self._most_bytes = source, most_bytes
        # Re-entrant, so that a signal handler does not wait for the request that it interrupted.
        self._lock, self._owner, self._is_late = threading.RLock(), os.getpid(), False
        self._is_asking = False
        # Unpacked values take memory several times: as a chunk, in a growing buffer, and as an array.
        limits = _LEAST_MEMORY_BYTES + 4 * most_bytes, _seconds_for(source.size_bytes)
        size_bytes = source.size_bytes if written_bytes is None else written_bytes
        self._process, self._requests = _started_whole(source, (*limits, size_bytes, int(written_bytes is not None)))
        assert self._process.stdout is not None
        self._answers: IO[bytes] = self._process.stdout
        self._end = weakref.finalize(self, _end, self._process, self._requests, self._owner)
        try:
            with self._within(_START_SECONDS):
                is_ready = self._answers.read(_HEAD_BYTES) == b"R" + bytes(8)
        except BaseException:
            self._end()
            raise
        if not is_ready:
            self._end()
            raise _not_started(source, f"did not start it (status {self._process.returncode})")

    def index(self) -> bytes:
        """Return the index of the file. Raises CorruptError if libhdf5 cannot read it."""
        return bytes(self._ask(None, None))

    def values(self, number: int, buffer: memoryview) -> None:
        """Fill a buffer of bytes with the values of a dataset. Raises CorruptError, or ReadError after close()."""
        self._ask(number, buffer)

    def close(self) -> None:
        """End the process."""
        self._end()

    def _ask(self, number: int | None, buffer: memoryview | None) -> memoryview:
        """Return the answer to the request for a dataset, or for the index. Use `buffer` for it if one is given."""
        seconds = _seconds_for(self._source.size_bytes + len(buffer or b""))
        if self._owner != os.getpid():  # before the lock, which another thread may have held when this was forked
            raise ReadError(f"{self._source.name} is not open in this forked process. Open it again.")
        with self._lock:
            if not self._end.alive:
                raise ReadError(f"{self._source.name} is no longer open here. Open it again.")
            if self._is_asking:
                raise ReadError(
                    f"{self._source.name} is being read by what this signal handler interrupted. Open it again."
                )
            try:
                self._is_asking = True
                if number is not None:
                    self._requests.write(b"%d %d\n" % (number, seconds))
                letter, content = self._await(seconds, buffer)
            except (EOFError, OSError, ValueError) as error:  # ValueError if it was closed meanwhile
                raise self._death(seconds) from error
            except BaseException:
                # The next request must not get the rest of this answer.
                self._end()
                raise
            finally:
                self._is_asking = False
            if letter != b"=":
                raise self._complaint(letter, bytes(content))
            return content

    def _await(self, seconds: int, buffer: memoryview | None) -> tuple[bytes, memoryview]:
        """Return the next answer that is more than a sign of progress, in the form of _receive()."""
        for _ in range(2 + self._source.size_bytes // _LEAST_STEP_BYTES):
            with self._within(_MOST_WAITING * seconds):
                letter, content = self._receive(buffer)
            if letter != b".":
                return letter, content
        return b"", memoryview(b"")

    @contextlib.contextmanager
    def _within(self, seconds: int) -> Iterator[None]:
        """End the process if the block takes longer, so that the block stops waiting for it."""
        timer = threading.Timer(seconds, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self._is_late = True
        self._process.kill()

    def _receive(self, buffer: memoryview | None) -> tuple[bytes, memoryview]:
        """Return the letter and content of an answer, or no letter for nonsense. Raises EOFError if it is cut off."""
        head = self._answers.read(_HEAD_BYTES)
        if len(head) < _HEAD_BYTES:
            raise EOFError
        letter, size_bytes = head[:1], int.from_bytes(head[1:], "little")
        if letter != b"=" or buffer is None:
            if letter not in {b".", b"=", b"?", b"M"} or size_bytes > self._most_bytes:
                return b"", memoryview(b"")
            buffer = memoryview(bytearray(size_bytes))
        elif size_bytes != len(buffer):
            return b"", memoryview(b"")
        if self._answers.readinto(buffer) < size_bytes:  # pyright: ignore[reportAttributeAccessIssue]
            raise EOFError
        return letter, buffer

    def _death(self, seconds: int) -> CorruptError | ReadError:
        """Return the error for a process that ended before it answered."""
        if not self._end.alive:
            return ReadError(f"{self._source.name} was closed while it was read. Open it again.")
        self._end()
        status = self._process.returncode
        signal = next((signal.name for signal in Signals if signal == -status), str(-status))
        if signal == "SIGXCPU" or self._is_late:
            reason = f"reading it took longer than {seconds * (_MOST_WAITING if self._is_late else 1)} s"
        elif status < 0:
            reason = f"reading it crashed libhdf5 (signal {signal})"
        else:
            reason = f"reading it ended libhdf5 (status {status})"
        return invalid(self._source, reason)

    def _complaint(self, letter: bytes, content: bytes) -> CorruptError:
        """Return the error for an answer that reports a problem. End the process if the answer is nonsense."""
        if letter == b"M":
            return invalid(self._source, "reading it took more memory than a file of its size should")
        if letter == b"?":
            return invalid(self._source, content.decode(errors="replace")[:200])
        self._end()
        return nonsense(self._source)


def _seconds_for(size_bytes: int) -> int:
    return _LEAST_SECONDS + size_bytes // _BYTES_IN_A_SECOND


def _started_whole(source: Source, limits: tuple[int, ...]) -> tuple[subprocess.Popen[bytes], BinaryIO]:
    """Start a process as `_started` does. An interrupt leaves neither the process nor a pipe."""
    made: list[tuple[subprocess.Popen[bytes], BinaryIO]] = []
    try:
        undisturbed(lambda: made.append(_started(source, limits)))
        return made[0]
    except BaseException:
        for process, requests in made:
            _end(process, requests, os.getpid())
        raise


def _started(source: Source, limits: tuple[int, ...]) -> tuple[subprocess.Popen[bytes], BinaryIO]:
    """Start a process that has the file open. Return it and the pipe for requests. Raises ReadError if that fails."""
    if not sys.executable or getattr(sys, "frozen", False):
        raise _not_started(source, "is no Python that could run it")
    # Each additional BLAS thread would reserve memory that is never used.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    incoming, outgoing = os.pipe()
    requests = open(outgoing, "wb", buffering=0)  # noqa: SIM115
    try:
        with _descriptor_of(source) as (file, start):
            command = [sys.executable, "-I", "-c", _MAIN, *map(str, (start, *limits)), *_folders(source)]
            pipe = subprocess.PIPE
            return subprocess.Popen(command, stdin=file, stdout=pipe, stderr=incoming, env=environment), requests
    except BaseException as error:
        requests.close()
        if isinstance(error, OSError | ValueError | RuntimeError) and not isinstance(error, ReadError):
            raise _not_started(source, f"could not start it ({error})") from error
        raise
    finally:
        os.close(incoming)


def _folders(source: Source) -> list[str]:
    """Return the filter plugin in use here, the folder of the worker, and the folders of the packages it imports."""
    plugin = _PLUGIN if _PLUGIN in sys.modules else ""
    folders = [plugin, os.path.dirname(os.path.abspath(__file__))]
    for name in filter(None, ("numpy", "h5py", plugin)):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ReadError(f"{source.name} is an HDF5 file of another program. Install {name} to read it.")
        folders.append(os.path.dirname(os.path.dirname(spec.origin)))
    return folders


@contextlib.contextmanager
def _descriptor_of(source: Source) -> Iterator[tuple[int, int]]:
    """Yield the descriptor of an open file with the content of a source, and where the content starts in it."""
    whole, start = (source.whole, source.start) if isinstance(source, RangeSource) else (source, 0)
    # Without pread (Windows), the process needs its own copy of the file: it would move our position.
    if isinstance(whole, FileSource) and hasattr(os, "pread"):
        yield whole.descriptor, start
    else:
        with tempfile.TemporaryFile() as copy:
            copy.write(source.memory(copy_on_write=False))
            copy.flush()
            yield copy.fileno(), 0


def _end(process: subprocess.Popen[bytes], requests: BinaryIO, owner: int) -> None:
    """End the process and close the pipes to it. A fork of the owner only closes the pipes."""
    if owner == os.getpid():
        process.kill()
        process.wait()
    requests.close()
    if process.stdout is not None:
        process.stdout.close()


def invalid(source: Source, reason: str) -> CorruptError:
    """Return the error for a file that libhdf5 cannot read."""
    written_bytes = written_size_of(source)
    if written_bytes > source.size_bytes:
        cause = f"It was cut off: {written_bytes:,} bytes were written, and {source.size_bytes:,} are there. {AGAIN}"
    else:
        cause = cause_of(source, "hdf5")
    return CorruptError(f"{source.name} is not a valid HDF5 file: {reason}. {cause}")


def nonsense(source: Source) -> CorruptError:
    """Return the error for a file that made libhdf5 return something impossible."""
    return invalid(source, "libhdf5 returned something impossible when it read it")


def _not_started(source: Source, reason: str) -> ReadError:
    return ReadError(
        f"{source.name} cannot be read here: foreign HDF5 files are read in a separate process, and "
        f"{sys.executable!r} {reason}. Check that `{sys.executable} -I -c 'import h5py'` works."
    )

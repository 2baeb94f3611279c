"""States are written to and read from open files, mapped or not, without being in memory all at once."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from statezoo.checkpoints import (
    ArgumentError,
    CorruptError,
    Deferred,
    ReadError,
    StateError,
    WriteError,
    load_file,
    open_checkpoint,
    save_file,
)
from statezoo.checkpoints.state import digests
from statezoo.checkpoints.storage import durable, streams, threads
from statezoo.checkpoints.storage.source import FileSource
from statezoo.checkpoints.testing import compare_states

FORMATS = {".safetensors": "safetensors", ".h5": "hdf5", ".npz": "npz"}


def a_state() -> dict[str, Any]:
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    return {
        "weight": weight,
        "tied": weight,
        "view": weight.T,
        "big": np.arange(300_000, dtype=np.float64),
        "half": np.ones(3, ml_dtypes.bfloat16),
        "eighth": np.ones(3, ml_dtypes.float8_e4m3fn),
        "flag": np.array(True),
        "empty": np.zeros((0, 3)),
        "_extra_state": [1, 2],
    }


def test_an_open_file_gets_the_same_bytes_as_a_path(path: Path):
    save_file(a_state(), path, {"epoch": "7"})
    buffer = io.BytesIO()
    save_file(a_state(), buffer, {"epoch": "7"}, format=FORMATS[path.suffix])
    assert buffer.getvalue() == path.read_bytes()


def test_an_open_file_is_written_and_read_from_its_current_position(suffix: str):
    buffer = io.BytesIO(b"before")
    buffer.seek(6)
    save_file(a_state(), buffer, format=FORMATS[suffix])
    buffer.seek(6)
    assert list(compare_states(a_state(), load_file(buffer))) == []


def test_a_pipe_can_be_written_to_and_read_from(suffix: str):
    reading, writing = os.pipe()
    loaded: dict[str, Any] = {}

    def read() -> None:
        with open(reading, "rb") as file:
            loaded.update(load_file(file))

    thread = threading.Thread(target=read)
    thread.start()
    with open(writing, "wb", buffering=0) as file:
        save_file(a_state(), file, format=FORMATS[suffix])
    thread.join()
    assert list(compare_states(a_state(), loaded)) == []


def test_an_open_file_is_written_as_safetensors_by_default():
    buffer = io.BytesIO()
    save_file({"x": np.ones(3)}, buffer)
    np.testing.assert_array_equal(safetensors.numpy.load(buffer.getvalue())["x"], np.ones(3))


def test_a_file_that_cannot_be_written_is_an_error_that_says_why():
    with open("/dev/full", "wb", buffering=0) as file, pytest.raises(WriteError, match=r"No space left on device"):
        save_file({"x": np.ones(3)}, file)


@pytest.mark.parametrize("target", [None, 3, {"x": np.ones(1)}])
def test_anything_but_a_path_or_a_file_is_refused(target: Any):
    with pytest.raises(ArgumentError, match=r"a state is saved to a path .* or to a file open for writing"):
        save_file({"x": np.ones(1)}, target)
    with pytest.raises(ArgumentError, match=r"a checkpoint is read from a path .*, from bytes, or from a file"):
        load_file(target)


def test_a_format_given_with_a_path_or_unknown_is_refused(tmp_path: Path):
    with pytest.raises(ArgumentError, match=r"names the format hdf5 by its suffix, not safetensors. Leave out format"):
        save_file({"x": np.ones(1)}, tmp_path / "x.h5", format="safetensors")
    with pytest.raises(
        ValueError,
        match=r"'zip' is not a format. The known formats are safetensors",
    ):
        save_file({"x": np.ones(1)}, io.BytesIO(), format="zip")
    assert list(tmp_path.iterdir()) == []


def test_a_file_opened_in_text_mode_is_refused(tmp_path: Path):
    (tmp_path / "x.safetensors").write_text("x")
    with (tmp_path / "x.safetensors").open() as file, pytest.raises(ArgumentError, match="Open it with mode 'rb'"):
        load_file(file)


def test_deferred_arrays_are_computed_one_at_a_time_and_not_kept(path: Path):
    alive, most, made = 0, 0, []

    class Counted(np.ndarray):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def make(number: int) -> np.ndarray:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        made.append(number)
        return np.full((300, 1000), number, np.float32).view(Counted)

    state = {f"{n}": Deferred((300, 1000), np.float32, lambda n=n: make(n)) for n in range(12)}
    save_file(state, path)
    assert made == list(range(12))
    assert most == 1
    assert all((array == int(name)).all() for name, array in load_file(path).items())


def test_one_deferred_array_with_two_names_is_a_tie(path: Path):
    deferred = Deferred((3,), np.float32, lambda: np.ones(3, np.float32))
    save_file({"a": deferred, "b": deferred, "c": np.zeros(2)}, path)
    loaded = load_file(path)
    assert loaded["b"] is loaded["a"]


def test_a_deferred_array_of_another_shape_or_dtype_is_an_error_and_leaves_the_old_file(path: Path):
    save_file({"old": np.ones(3)}, path)
    for made in (np.ones(4, np.float32), np.ones(3), [1, 2, 3]):
        deferred = Deferred((3,), np.float32, lambda made=made: made)  # pyright: ignore[reportArgumentType]
        with pytest.raises(StateError, match=r"should be float32 \(3,\), but its function returned"):
            save_file({"x": deferred}, path)
    assert list(load_file(path)) == ["old"]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_deferred_array_whose_file_is_missing_is_an_error_that_names_it(path: Path):
    save_file({"old": np.ones(3)}, path)
    deferred = Deferred((3,), np.float32, lambda: np.load(path.parent / "missing.npy"))
    with pytest.raises(ReadError, match=r"a deferred array could not be computed: .*missing\.npy"):
        save_file({"x": deferred}, path)
    assert list(load_file(path)) == ["old"]


@pytest.mark.slow
def test_a_state_larger_than_memory_is_saved_and_copied(path: Path, tmp_path: Path):
    code = (
        "import resource, sys, numpy as np\n"
        "from statezoo.checkpoints import Deferred, open_checkpoint, save_file\n"
        "make = lambda n: np.full(4_000_000, n, np.float32)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "state = {str(n): Deferred((4_000_000,), np.float32, lambda n=n: make(n)) for n in range(20)}\n"
        "save_file(state, sys.argv[1], durable=False)\n"
        "with open_checkpoint(sys.argv[1]) as checkpoint:\n"
        "    save_file(checkpoint, sys.argv[2], durable=False)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    copy = tmp_path / f"copy{path.suffix}"
    done = subprocess.run([sys.executable, "-c", code, path, copy], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 120_000, "320 MB of tensors were saved and copied within 120 MB"
    assert copy.read_bytes() == path.read_bytes()


def test_a_mapped_state_equals_the_saved_one_and_is_read_only(path: Path):
    save_file(a_state(), path)
    mapped = load_file(path, mmap=True)
    assert list(compare_states(a_state(), mapped)) == []
    for array in mapped.values():
        if isinstance(array, np.ndarray) and array.size:
            assert not array.flags.writeable
            assert not array.flags.owndata
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
    assert mapped["tied"] is mapped["weight"]
    assert np.shares_memory(mapped["view"], mapped["weight"])


def test_copy_on_write_arrays_can_be_written_and_leave_the_file_unchanged(path: Path):
    save_file(a_state(), path)
    before = path.read_bytes()
    mapped = load_file(path, mmap="c")
    mapped["weight"][...] = 9
    assert (mapped["view"] == 9).all()
    assert path.read_bytes() == before
    assert list(compare_states(a_state(), load_file(path))) == []


def test_mapped_arrays_outlive_a_file_that_is_replaced_and_removed(path: Path):
    save_file(a_state(), path)
    mapped = load_file(path, mmap=True)
    save_file({"x": np.zeros(5)}, path)
    path.unlink()
    assert list(compare_states(a_state(), mapped)) == []


def test_a_state_can_be_saved_over_the_file_that_its_arrays_are_mapped_from(path: Path):
    save_file(a_state(), path)
    mapped = load_file(path, mmap=True)
    save_file(mapped | {"new": np.ones(3)}, path)
    assert list(compare_states(a_state() | {"new": np.ones(3)}, load_file(path))) == []


def test_a_damaged_file_is_not_mapped_unless_requested(path: Path):
    save_file(a_state(), path)
    content = bytearray(path.read_bytes())
    where = content.index(np.arange(12, dtype=np.float32).tobytes())
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptError) as caught:
        load_file(path, mmap=True)
    assert caught.value.tensors == ("weight",)
    assert load_file(path, mmap=True, verify=False)["weight"][0, 1] == 1


def test_an_unknown_mapping_mode_is_refused(path: Path):
    save_file(a_state(), path)
    with pytest.raises(ArgumentError, match=r'mmap is False, True, "r" or "c", not \'w\''):
        load_file(path, mmap="w")  # pyright: ignore[reportArgumentType]


def test_a_mapped_foreign_file_may_be_unaligned(tmp_path: Path):
    header = (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}}'
    )
    data = b"\7" + np.array([1.5, 2.5], "<f4").tobytes()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    mapped = load_file(tmp_path / "x.safetensors", mmap=True)
    assert mapped["b"].tolist() == [1.5, 2.5]
    assert mapped["b"].sum() == 4


def test_many_threads_save_and_load_large_states_without_mixing_them(path: Path):
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            target = path.parent / f"{number}{path.suffix}"
            state = {str(n): np.full(400_000, number * 100 + n) for n in range(6)}
            save_file(state, target, durable=False)
            assert list(compare_states(state, load_file(target))) == []
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert errors == []


def test_no_thread_continues_reading_after_a_load_is_interrupted(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Otherwise it would read from the next opened file, which gets the same descriptor."""
    interrupted: list[threading.Timer] = []
    reads: list[int] = []
    begun, here = threading.Event(), threading.get_ident()
    original = FileSource.read_into

    def read_slowly(source: FileSource, offset: int, *buffers: memoryview) -> None:
        reads.append(offset)
        if threading.get_ident() == here:
            if buffers[0].nbytes > 100_000:  # not the header
                begun.wait(60)
        else:
            begun.set()
            time.sleep(0.04)
            if not interrupted:  # the main thread has already finished its part, and waits
                interrupted.append(threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]))
                interrupted[0].start()
        original(source, offset, *buffers)

    save_file({"a": np.ones(1_000_000), "b": np.ones(1_000_000)}, path, durable=False)
    monkeypatch.setattr(threads, "_processors", lambda: 2)
    monkeypatch.setattr(FileSource, "read_into", read_slowly)
    with pytest.raises(KeyboardInterrupt):
        load_file(path)
    before = len(reads)
    time.sleep(0.2)
    assert len(reads) == before


def test_no_thread_continues_writing_after_a_save_is_interrupted(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Otherwise it would write to the next opened file, which gets the same descriptor."""

    def write_slowly(descriptor: int, view: memoryview, offset: int) -> int:
        time.sleep(0.4)
        written.append(offset)
        return os.pwrite(descriptor, view, offset)

    written: list[int] = []
    monkeypatch.setattr(threads, "_processors", lambda: 2)
    monkeypatch.setattr(durable, "_write_at", write_slowly)
    timer = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        save_file({"a": np.ones(1_000_000)}, path, durable=False)
    before = len(written)
    time.sleep(0.5)
    assert len(written) == before
    assert list(path.parent.iterdir()) == []


def test_an_error_in_the_middle_of_a_large_save_is_raised_and_leaves_the_old_file(path: Path):
    save_file({"old": np.ones(3)}, path)
    state = {str(n): np.full(1_000_000, n) for n in range(6)}

    def failing(descriptor: int, buffer: Any, offset: int) -> None:
        if offset > 20_000_000:
            raise OSError(28, "No space left on device")
        original(descriptor, buffer, offset)

    original = streams.write_all
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "write_all", failing)
        with pytest.raises(WriteError, match="no space left on device"):
            save_file(state, path)
    assert list(load_file(path)) == ["old"]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_open_checkpoint_of_bytes_needs_no_file():
    buffer = io.BytesIO()
    save_file(a_state(), buffer)
    with open_checkpoint(buffer.getvalue()) as checkpoint:
        assert checkpoint.name == f"<{len(buffer.getvalue()):,} bytes>"


@pytest.mark.parametrize("length", [4, 1000, 16_384, 100_000])
def test_deferred_arrays_may_share_one_buffer(path: Path, length: int):
    buffer = np.empty(length, np.float32)

    def make(value: int) -> np.ndarray:
        buffer[...] = value
        return buffer

    state = {str(value): Deferred((length,), np.float32, partial(make, value)) for value in range(4)}
    save_file(state, path)
    assert [array.tolist() == [value] * length for value, array in enumerate(load_file(path).values())] == [True] * 4


@pytest.mark.parametrize(("taken", "text"), [(0, "takes no more bytes"), (None, "does not take more at once")])
def test_an_open_file_that_takes_no_bytes_is_an_error(taken: int | None, text: str):
    class Full(io.BytesIO):
        def write(self, content: Any) -> Any:
            return taken

    with pytest.raises(WriteError, match=text):
        save_file(a_state(), Full())


SIZES = [0, 1, 3, 65_535, 65_536, 65_537, 131_072, 1_048_575, 1_048_576, 1_048_577, 3 << 20, (5 << 20) + 7]


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize(("most_blocks", "chunk_bytes"), [(1 << 10, 1 << 20), (2, 1 << 20), (2, 100_000), (1, 1 << 16)])
def test_what_is_written_has_the_returned_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, most_blocks: int, chunk_bytes: int
):
    """most_blocks: of a tensor. With few, the blocks are larger than the chunks that are copied at a time."""
    monkeypatch.setattr(digests, "_MOST_BLOCKS", most_blocks)
    monkeypatch.setattr(streams, "_CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(threads, "_processors", lambda: number)
    rng = np.random.default_rng(0)
    offset, placed = 5, []
    for size in SIZES:
        placed.append(streams.Placed(offset, size, str(size), rng.integers(0, 256, size, np.uint8)))
        offset += size
    with (tmp_path / "file").open("w+b") as file:
        found = streams.write_tensors(file.fileno(), placed)
        content = (tmp_path / "file").read_bytes()
    assert content == bytes(5) + b"".join(bytes(np.asarray(item.array)) for item in placed)
    assert found == {item.name: digests.blocks_of(np.asarray(item.array).data) for item in placed}


_WITHOUT_OFFSETS = """
import os, sys
for name in ("pwrite", "preadv"):
    if hasattr(os, name):
        delattr(os, name)
import numpy as np
from statezoo.checkpoints import load_file, save_file
from statezoo.checkpoints.storage import threads
threads._processors = lambda: 4
state = {str(number): np.full(1 << 18, number) for number in range(8)} | {"small": np.ones(3)}
for _ in range(10):
    save_file(state, sys.argv[1], durable=False)
    loaded = load_file(sys.argv[1])
    assert all(np.array_equal(loaded[name], array) for name, array in state.items())
"""


def test_large_states_are_saved_and_loaded_on_systems_without_pwrite_and_preadv(path: Path):
    subprocess.run([sys.executable, "-c", _WITHOUT_OFFSETS, path], check=True)
    assert len(load_file(path)) == 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("length", [4, 100_000])
def test_a_child_forked_during_a_save_to_an_open_file_leaves_it_to_its_parent(tmp_path: Path, length: int):
    def fork() -> np.ndarray:
        children.append(os.fork())
        return np.full(length, 7.0)

    children: list[int] = []
    parent = os.getpid()
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        outcome = 1
        try:
            save_file({"w": Deferred((length,), np.float64, fork)}, file)
        except WriteError as error:
            outcome = 7 if "this process was forked from the one that is saving it" in str(error) else 2
        finally:
            if os.getpid() != parent:
                os._exit(outcome)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7
    assert load_file((tmp_path / "file").read_bytes())["w"].tolist() == [7] * length
